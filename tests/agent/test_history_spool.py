"""The spool: bounded, whole, without doubles, and honest about its holes."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agent.clock import VirtualClock
from agent.history import writer as history_writer
from agent.history.service import History
from agent.history.spool import Spool
from tests.agent import make
from tests.agent.test_history_loss import DEVICE, INLET, T0, add, numbers
from tests.peers import until

TIME = 3


def rows(first: int, count: int) -> list[tuple[object, ...]]:
    return [("s", "a", "p", T0 + i, 20.0 + i / 7, "good") for i in range(first, first + count)]


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_writer, "BACKOFF_S", (0.02,))
    monkeypatch.setattr(history_writer, "FLUSH_S", 0.02)


def reopened(folder: Path, most_bytes: int = 1 << 20) -> Spool:
    spool = Spool(folder, most_bytes)
    spool.load()
    return spool


def test_what_was_put_comes_back_after_a_restart_oldest_first(tmp_path: Path) -> None:
    spool = reopened(tmp_path / "spool")
    assert not (tmp_path / "spool").exists(), "nothing is written before there is a need"
    for i in range(3):
        spool.put("telemetry_raw", rows(i * 10, 10), TIME)
    again = reopened(tmp_path / "spool")
    assert again.rows == 30
    for i in range(3):
        segment = again.oldest
        assert segment is not None
        assert again.read(segment) == rows(i * 10, 10)
        assert segment.gap == (T0 + i * 10, T0 + i * 10 + 9, 10)
        again.done(segment)
    assert reopened(tmp_path / "spool").oldest is None


def test_a_full_spool_gives_up_its_oldest_and_remembers_the_hole(tmp_path: Path) -> None:
    spool = reopened(tmp_path, 3_000)
    for i in range(40):
        spool.put("telemetry_raw", rows(i * 100, 100), TIME)
    assert sum(p.stat().st_size for p in tmp_path.glob("*.z")) <= 3_000
    kept = spool.rows
    assert spool.dropped == 4_000 - kept > 0
    again = reopened(tmp_path, 3_000)
    assert again.holes == {"telemetry_raw": (T0, T0 + 3_999 - kept, 4_000 - kept)}
    again.holes_written()
    assert reopened(tmp_path).holes == {}


@given(st.binary(max_size=300), st.integers(0, 2**31))
def test_a_damaged_segment_is_refused_never_believed(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, 1 << 20)
    spool.put("telemetry_raw", rows(0, 50), TIME)
    segment = spool.oldest
    assert segment is not None
    whole = segment.path.read_bytes()
    cut = at % len(whole)
    for damaged in (whole[:cut], junk, whole[:cut] + junk + whole[cut + len(junk) :]):
        segment.path.write_bytes(damaged)
        if damaged[: len(whole)] != whole:
            with pytest.raises(ValueError, match=r"."):
                spool.read(segment)


async def test_an_outage_longer_than_memory_and_a_stop_lose_nothing(tmp_path: Path) -> None:
    """The database is a folder that is not there; the process stops and starts in between."""
    url = f"sqlite:///{tmp_path}/far/history.db"
    (tmp_path / "far").write_text("in the way")
    total = 0
    for _ in range(2):
        history = History(make.site(tmp_path / "data", url=url), VirtualClock(T0))
        assert not await history.start()
        for _ in range(12):
            add(history, total, 1_000)
            total += 1_000
            await asyncio.sleep(0.01)
        await until(lambda: len(list((tmp_path / "data/history-spool").glob("*.z"))) > 1)
        await history.close()
    (tmp_path / "far").unlink()
    history = History(make.site(tmp_path / "data", url=url), VirtualClock(T0))
    assert await history.start()
    add(history, total, 10)
    await until(lambda: not history.status.queued)
    assert await numbers(history) == [float(i) for i in range(total + 10)]
    assert (await history.gaps(0), history.status.dropped) == ([], 0)
    await history.rollup(T0 + total + 1_000)
    assert sum(s.n for s in await history.series(INLET, T0, T0 + 1e6, 60)) == total + 10
    await history.close()


async def test_a_hole_of_the_spool_is_written_down_and_damage_is_a_hole(tmp_path: Path) -> None:
    folder = tmp_path / "history-spool"
    spool = Spool(folder, 1 << 20)
    for i in range(4):
        taken = [("ber1", "hall-a", INLET, T0 + i * 10 + k, 1.0, "good") for k in range(10)]
        spool.put("telemetry_raw", taken, TIME)
    first, second, *_ = sorted(folder.glob("*.z"))
    first.write_bytes(b"torn")
    second.rename(folder / second.name.replace("telemetry_raw", "no_such_stream"))
    history = History(make.site(tmp_path), VirtualClock(T0))
    with capture_logs() as logs:
        assert await history.start()
        await until(lambda: not history.status.queued)
        history.add_readings(DEVICE, [make.reading(INLET, 5.0, T0 + 50)])
        await history.flush()
    assert len(await numbers(history)) == 21
    holes = {g.stream: (g.since_s - T0, g.until_s - T0, g.dropped) for g in await history.gaps(0)}
    assert holes == {"telemetry_raw": (0, 9, 10), "no_such_stream": (10, 19, 10)}
    assert [x["event"] for x in logs].count("history spool damaged") == 2
    assert history.status.dropped == 20
    await history.close()
