"""A fleet of agents' histories and mirrors on one database and one broker, at reduced duty."""

import argparse
import asyncio
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from agent.clock import WallClock
from agent.mqtt.mirror import Mirror
from benchmarks.history_parts import Json, connect, hall, open_history
from config.schema import MqttSection
from config.secrets import SecretRef
from control.types import Quality, Reading
from tests.agent.mosquitto import Mosquitto
from tests.agent.postgres import USER, Postgres


async def fleet(folder: Path, a: argparse.Namespace) -> Json:
    """Many agents' histories and mirrors, reduced duty, against one database and one broker."""
    server = Postgres("-c", "max_connections=1000")
    async with Mosquitto(folder, "max_queued_messages 0") as broker:
        shares = [a.agents // 2, a.agents - a.agents // 2]
        about = (
            "--seconds",
            str(a.seconds),
            "--server",
            str(server.port),
            "--broker",
            str(broker.port),
        )
        workers = [
            await asyncio.create_subprocess_exec(
                sys.executable, str(Path(__file__).with_name("history.py")), "worker", "--agents", str(n),
                "--first", str(i * shares[0]), *about, stdout=asyncio.subprocess.PIPE,
            ) for i, n in enumerate(shares)
        ]  # fmt: skip
        link = await connect(server.port)
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'skadi%'"
        connections = 0
        while any(w.returncode is None for w in workers):
            connections = max(connections, await link.fetchval(count))
            await asyncio.sleep(2)
        said = [json.loads(await w.stdout.read()) for w in workers if w.stdout]
        kept = await link.fetchval("SELECT count(*) FROM telemetry_raw")
        halls = await link.fetchval("SELECT count(DISTINCT area) FROM telemetry_raw")
        size = await link.fetchval("SELECT pg_total_relation_size('telemetry_raw')")
        await link.close()
    server.remove()
    rows = sum(s["rows"] for s in said)
    return {"agents": a.agents, "seconds": a.seconds, "rows": rows, "in_the_database": kept, "halls": halls,
            "connections": connections, "bytes_a_row": round(size / max(kept, 1)), "mirrors_connected": sum(s["connected"] for s in said),
            "messages_dropped": sum(s["dropped"] for s in said),
            "worker_cpu_us_a_row": round(1e6 * sum(s["cpu_s"] for s in said) / max(rows, 1), 1)}  # fmt: skip


async def worker(folder: Path, a: argparse.Namespace) -> Json:
    """Some agents of a fleet: 40 points every 10 s each."""
    url, rows = f"postgresql://{USER}@127.0.0.1:{a.server}/postgres", 0
    agents = []
    for i in range(a.first, a.first + a.agents):
        site = hall(folder / str(i), 40, area=f"hall-{i}", url=url, password=SecretRef(env="PG"))
        site = replace(site, mqtt=MqttSection(url=f"mqtt://127.0.0.1:{a.broker}"))
        history, mirror = open_history(site), Mirror(site, WallClock(), {})
        await history.start()
        mirror.start()
        agents.append((site, history, mirror))
    cpu, end = time.process_time(), time.monotonic() + a.seconds
    while time.monotonic() < end:
        for site, history, mirror in agents:
            for device in site.devices:
                readings = [Reading(p.key, 21.0, time.time(), Quality.GOOD) for p in device.points]
                history.add_readings(device, readings)
                mirror.publish_device(device, readings)
                rows += len(readings)
            await asyncio.sleep(10.0 / len(agents))
    connected = sum(m.connected for _, _, m in agents)
    for _, history, mirror in agents:
        await history.flush(60)
        await history.close()
        await mirror.stop(1.0)
    return {"rows": rows, "connected": connected, "dropped": sum(m.dropped for *_, m in agents),
            "cpu_s": time.process_time() - cpu}  # fmt: skip
