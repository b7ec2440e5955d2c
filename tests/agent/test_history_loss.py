"""A database that goes away, is slow, locked, full, foreign or killed: nothing of it reaches control."""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.clock import VirtualClock, WallClock
from agent.history import service as history_module
from agent.history import writer as history_writer
from agent.history.buffer import Buffer, Stream
from agent.history.schema import TELEMETRY_RAW
from agent.history.service import History
from agent.jobs import Job, Scheduler
from config.secrets import SecretRef
from tests.agent import make
from tests.agent.postgres import PASSWORD, Postgres
from tests.peers import until

T0 = 1_700_000_040.0
INLET = "rack-a01/inlet_c"
DEVICE = make.site().device["rack-a01"]


def add(history: History, first: int, count: int) -> None:
    """Readings first .. first+count-1, one a second, each with its number as value."""
    rows = [make.reading(INLET, float(i), T0 + i) for i in range(first, first + count)]
    history.add_readings(DEVICE, rows)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_writer, "BACKOFF_S", (0.02,))
    monkeypatch.setattr(history_writer, "FLUSH_S", 0.02)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    cluster = Postgres()
    yield cluster
    cluster.remove()


def on(cluster: Postgres) -> History:
    folder = cluster.folder / "data"  # the spool's
    site = make.site(folder, url=cluster.url, password=SecretRef(env="PG"))
    return History(site, VirtualClock(T0), {"PG": PASSWORD})


async def numbers(history: History) -> list[float | None]:
    return [s.value for s in await history.series(INLET, 0, T0 + 1e6)]


@pytest.mark.parametrize("how", ["fast", "immediate"])
async def test_postgres_restarted_under_load_loses_and_doubles_nothing(
    postgres: Postgres, how: str
) -> None:
    history = on(postgres)
    assert await history.start()
    with capture_logs() as logs:
        add(history, 0, 500)
        stopping = asyncio.create_task(asyncio.to_thread(postgres.stop, how))
        for i in range(500, 3_000, 100):
            add(history, i, 100)
            await asyncio.sleep(0.01)
        await stopping
        await until(lambda: history.status.lost)
        assert await history.rollup(T0 + 9_999) == 0
        await asyncio.to_thread(postgres.start)
        await until(lambda: not history.status.queued)
    assert await numbers(history) == [float(i) for i in range(3_000)]
    assert (await history.gaps(0), history.status.dropped) == ([], 0)
    said = [line["event"] for line in logs]
    assert said.count("history database lost") == said.count("history database back") == 1
    assert await history.rollup(T0 + 9_999) > 0
    assert said.count("history rollup lost") == 1
    await history.close()


async def test_control_goes_on_while_postgres_is_away_under_load(postgres: Postgres) -> None:
    """SKADI_OUTAGE_S: how long; .ci/run takes a minute, benchmarks/history.py ten."""
    outage_s = float(os.environ.get("SKADI_OUTAGE_S", "3"))
    history, added = on(postgres), 20_000
    assert await history.start()

    async def control() -> None:
        nonlocal added
        add(history, added, 25)
        added += 25

    table = Scheduler([Job("control", 0.05, control)], WallClock())
    table.start()
    runs = table.stats.runs
    await asyncio.sleep(outage_s)
    before = runs["control"]
    await asyncio.to_thread(postgres.stop, "immediate")
    away = runs["control"]
    await asyncio.sleep(outage_s)
    during = runs["control"] - away
    assert history.status.lost
    assert history.status.queued >= during * 25 > 0
    await asyncio.to_thread(postgres.start)
    await until(lambda: not history.status.lost, outage_s + 60)
    await table.stop()
    assert await history.flush(outage_s + 60)
    assert (table.stats.skipped["control"], table.stats.failures["control"]) == (0, 0)
    assert during > before / 2, f"{during} cycles while it was away, {before} before"
    assert (await numbers(history))[-(added - 20_000) :] == [float(i) for i in range(20_000, added)]
    assert (await history.gaps(0), history.status.dropped) == ([], 0)
    print(
        f"{outage_s:g} s away: {during} control cycles, {before} before; {added - 20_000} rows, none lost"
    )
    await history.close()


async def test_postgres_away_at_start_is_used_when_it_comes(postgres: Postgres) -> None:
    await asyncio.to_thread(postgres.stop)
    history = on(postgres)
    assert not await history.start()
    add(history, 10_000, 5)
    await asyncio.to_thread(postgres.start)
    await until(lambda: not history.status.queued)
    assert {10_000.0, 10_001.0, 10_002.0, 10_003.0, 10_004.0} <= set(await numbers(history))
    await history.close()


async def test_a_wrong_password_is_said_without_being_shown(postgres: Postgres) -> None:
    history = History(
        make.site(url=postgres.url, password=SecretRef(env="PG")), VirtualClock(T0), {"PG": "wr0ng"}
    )
    with capture_logs() as logs:
        assert not await history.start()
        await history.close()
    assert "password authentication failed" in logs[0]["reason"]
    assert "wr0ng" not in str(logs) + history.status.place + history.status.lost


async def test_a_secret_that_is_not_there_is_retried_not_raised(tmp_path: Path) -> None:
    site = make.site(tmp_path, url="postgresql://u@127.0.0.1:1/x", password=SecretRef(env="NO"))
    history = History(site, VirtualClock(T0), {})
    assert not await history.start()
    assert "NO is not set" in history.status.lost
    await history.close()


async def test_a_full_queue_drops_the_oldest_and_writes_the_hole_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "STREAMS", (Stream(TELEMETRY_RAW, room=100),))
    blocked = tmp_path / "data"
    blocked.write_text("a file in the way")
    history = History(make.site(blocked), VirtualClock(T0))
    assert not await history.start()
    add(history, 0, 250)
    assert (history.status.queued, history.status.dropped) == (100, 150)
    blocked.unlink()
    await until(lambda: not history.status.queued)
    assert await numbers(history) == [float(i) for i in range(150, 250)]
    (gap,) = await history.gaps(0)
    assert (gap.stream, gap.since_s, gap.until_s, gap.dropped) == (
        "telemetry_raw", T0, T0 + 149, 150,
    )  # fmt: skip
    await history.close()


def test_a_buffer_that_overflows_during_a_write_keeps_its_books() -> None:
    buffer = Buffer(Stream(TELEMETRY_RAW, room=3))
    rows = [("s", "a", "p", float(i), 0.0, "good") for i in range(6)]
    for row in rows[:3]:
        buffer.put(row)
    taken = buffer.peek(2)
    buffer.put(rows[3])  # row 0 gives way while it is being written
    buffer.done(taken)
    assert buffer.peek(9).rows() == rows[2:4]
    assert buffer.take_gap() == (0.0, 0.0, 1)
    buffer.put(rows[4])
    buffer.put(rows[5])
    buffer.keep_gap((0.0, 0.0, 1))  # it could not be written: joined with what came since
    assert (buffer.take_gap(), buffer.take_gap(), buffer.dropped) == ((0.0, 2.0, 2), None, 2)


async def test_a_locked_sqlite_holds_up_nobody(tmp_path: Path) -> None:
    history = History(make.site(tmp_path), VirtualClock(T0))
    await history.start()
    other = sqlite3.connect(tmp_path / "history.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for i in range(20):
        add(history, i, 1)
        await asyncio.sleep(0.005)
    assert history.status.queued == 20  # and we got here while the lock is held
    other.execute("ROLLBACK")
    other.close()
    assert await history.flush()
    assert await numbers(history) == [float(i) for i in range(20)]
    await history.close()


async def test_a_hanging_database_is_cut_off_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(make.site(tmp_path), VirtualClock(T0))
    await history.start()
    insert, hangs = history_writer.Writer._insert, 2

    async def sometimes(*args: object) -> None:
        nonlocal hangs
        hangs -= 1
        if hangs >= 0:
            await asyncio.sleep(3_600)
        await insert(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(history_writer.Writer, "_insert", sometimes)
    monkeypatch.setattr(history_writer, "STATEMENT_S", 0.05)
    with capture_logs() as logs:
        add(history, 0, 3)
        await until(lambda: not history.status.queued)
    assert await numbers(history) == [0.0, 1.0, 2.0]
    assert [line["event"] for line in logs] == ["history database lost", "history database back"]
    await history.close()


async def test_closing_without_a_database_is_quick_and_says_what_is_lost(tmp_path: Path) -> None:
    blocked = tmp_path / "data"
    blocked.write_text("in the way")
    history = History(make.site(blocked), VirtualClock(T0))
    await history.start()
    add(history, 0, 7)
    with capture_logs() as logs:
        await history.close()
    assert [line["rows"] for line in logs if "given up" in line["event"]] == [7]
    await history.close()


async def test_a_database_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    history = History(make.site(tmp_path), VirtualClock(T0))
    await history.start()
    await history.close()
    with sqlite3.connect(tmp_path / "history.db") as other:
        other.execute("UPDATE alembic_version SET version_num = '9999'")
    other.close()
    newer = History(make.site(tmp_path), VirtualClock(T0))
    assert not await newer.start()
    assert "9999" in newer.status.lost
    await newer.close()
