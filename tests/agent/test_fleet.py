"""`skadi fleet`: two halls on one mosquitto and one PostgreSQL, and what is left when one is away."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.clock import VirtualClock, WallClock
from agent.fleet import _take, fleet
from agent.history.service import History
from agent.mqtt.mirror import Mirror
from config.secrets import SecretRef
from config.site import Site
from tests.agent import make
from tests.agent.mosquitto import Mosquitto
from tests.agent.postgres import database
from tests.peers import until

DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "mqtt"


async def speak(site: Site, password: str) -> Mirror:
    """One hall's agent, as far as the fleet sees it."""
    now_s = WallClock().now_s()
    history = History(site, VirtualClock(now_s), {"PG": password})
    assert await history.start()
    for i in range(10):
        reading = make.reading("rack-a01/inlet_c", 22.0, now_s - 7_200 + i)
        history.add_readings(site.device["rack-a01"], [reading])
    move = {"id": "p1", "move": "fan", "loop": "slow", "scope": "hall", "complete": True, "kind": "normal",
            "changes": {"crac-a1/fan": [100.0, 90.0]}, "predicted_kw": -4.0, "predicted_sigma_kw": 1.0}  # fmt: skip
    history.add_action({"type": "action", "ts_s": now_s - 7_200} | move)
    await history.flush()
    await history.rollup(now_s)
    await history.close()
    mirror = Mirror(site, VirtualClock(now_s), {}, version="1.2.3")
    mirror.start()
    mirror.publish_mode({"mode": "closed_loop", "armed": ["row:A"], "killed": False})
    mirror.publish_kpi({"wh_per_prompt": 0.5})
    mirror.publish_alarm(
        "inlet", {"severity": 3, "text": "hot", "state": "unacknowledged", "since": "x"}
    )
    await until(lambda: mirror.connected)
    await asyncio.sleep(0.5)
    return mirror


def bridge(port: int) -> list[str]:
    """The documented bridge, without TLS and names, to a broker here."""
    lines = (DOCS / "bridge.conf").read_text().splitlines()
    kept = [x for x in lines if not x.startswith(("bridge_cafile", "remote_"))]
    return [f"address 127.0.0.1:{port}" if x.startswith("address") else x for x in kept]


@pytest.mark.peer
async def test_two_halls_are_seen_from_one_place(tmp_path: Path) -> None:
    """One on the broker that is asked, the other on its own, bridged there."""
    server = database()
    async with Mosquitto(tmp_path) as broker, Mosquitto(tmp_path, *bridge(broker.port)) as remote:
        brokers = {"hall-a": broker.url, "hall-b": remote.url}

        def site(area: str) -> Site:
            return make.site(tmp_path / area, area=area, url=server.url, password=SecretRef(env="PG"),
                             mqtt={"url": brokers[area]})  # fmt: skip

        mirrors = [await speak(site(a), server.password) for a in ("hall-a", "hall-b")]
        await mirrors[1].stop()
        now_s, environ = WallClock().now_s(), {"PG": server.password}
        found = await fleet(site("hall-a"), environ, now_s - 86_400, now_s, 2.0)
        assert (found["broker"], found["database"]) == ("", "")
        one, two = found["halls"]
        assert [(h["site"], h["area"], h["state"]) for h in (one, two)] == [
            ("ber1", "hall-a", "online"), ("ber1", "hall-b", "offline"),
        ]  # fmt: skip
        assert (one["version"], one["mode"], one["kpi"]["wh_per_prompt"]) == (
            "1.2.3",
            "closed_loop",
            0.5,
        )
        assert [(a["id"], a["severity"]) for a in one["alarms"]] == [("inlet", 3)]
        assert one["saving"]["kwh"] == pytest.approx(8.0, rel=0.01)
        assert one["last_reading"] is not None
        done = await asyncio.to_thread(_run, tmp_path, server, broker.url)
        for view, words in {"status": "online closed_loop", "savings": "0.50 8.0", "versions": "1.2.3",
                            "alarms": "inlet 3"}.items():  # fmt: skip
            text = done[view].stdout
            assert all(w in text for w in ("hall-a", *words.split())), text
        assert len(json.loads(done["--json"].stdout)["halls"]) == 2
        await mirrors[0].stop()
    without = await fleet(site("hall-a"), environ, now_s - 86_400, now_s, 0.5)
    assert "Connection refused" in without["broker"]
    assert [h["area"] for h in without["halls"]] == ["hall-a", "hall-b"], "history still knows them"
    await asyncio.to_thread(server.remove)
    nothing = await fleet(site("hall-a"), environ, now_s - 86_400, now_s, 0.5)
    assert (nothing["halls"], bool(nothing["database"])) == ([], True)


def _run(folder: Path, server: Any, broker: str) -> dict[str, subprocess.CompletedProcess[str]]:
    file = folder / "site.toml"
    file.write_text(f'config_version = 1\n[site]\nid = "ber1"\n[agent]\ndata_dir = "{folder}"\n[mqtt]\nurl = "{broker}"\n'
                    f'[history]\nurl = "{server.url}"\npassword = {{ env = "PG" }}\n')  # fmt: skip
    env = os.environ | {"PG": server.password}
    return {v: subprocess.run([sys.executable, "-m", "agent", "fleet", "-c", str(file), v], check=False, env=env,
                              capture_output=True, text=True, timeout=60)
            for v in ("status", "savings", "versions", "alarms", "--json")}  # fmt: skip


def test_what_strangers_say_on_the_broker_is_nothing() -> None:
    halls: dict[Any, Any] = {}
    for topic, payload in (
        ("a/b", b"{}"),
        ("a/b/mode", b"{"),
        ("a/b/mode", b"[1]"),
        ("a/b/mode", b"[" * 10_000),
    ):
        _take(halls, topic, payload)
    assert halls == {}
    _take(halls, "a/b/mode", b'{"mode": {"x": 1}}')
    assert halls["a", "b"]["mode"] == {"x": 1}
