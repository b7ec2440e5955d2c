"""The same suite on SQLite and on PostgreSQL; what is stored is read by sqlite3 and psql."""

import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import make_url
from structlog.testing import capture_logs

from agent.clock import VirtualClock
from agent.history import retention as history_retention
from agent.history import timescale as history_timescale
from agent.history import writer as history_writer
from agent.history.service import MAX_DETAIL, History, HistoryDown
from config.secrets import SecretRef
from config.site import Site
from control.types import Finding, Quality
from tests.agent import make
from tests.agent.postgres import Lent, Postgres, database, psql

T0 = 1_700_000_040.0  # the start of a minute
INLET, PDU, SUPPLY = "rack-a01/inlet_c", "rack-a01/pdu_kw", "crac-a1/supply_air_c"


@dataclass
class Place:
    """Where a test's history lives, and a client that is not ours to look into it."""

    data_dir: Path
    postgres: Postgres | Lent | None

    def site(self, **more: Any) -> Site:
        if self.postgres is not None:
            more |= {"url": self.postgres.url, "password": SecretRef(env="PG")}
        return make.site(self.data_dir, **more)

    def history(self, clock: VirtualClock | None = None, **more: Any) -> History:
        environ = {"PG": self.postgres.password} if self.postgres else {}
        return History(self.site(**more), clock or VirtualClock(T0), environ)

    def ask(self, sql: str) -> list[list[str]]:
        """Rows as text, by a client that is not the agent's."""
        if self.postgres is not None:
            url = make_url(self.postgres.url).set(password=self.postgres.password)
            return psql(url, sql)
        with closing(sqlite3.connect(self.data_dir / "history.db", isolation_level=None)) as db:
            if ";" in sql:
                db.executescript(sql)
                return []
            return [["" if v is None else str(v) for v in row] for row in db.execute(sql)]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres | Lent]:
    made = database()
    yield made
    made.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return Place(tmp_path / "data", None)
    server: Postgres | Lent = request.getfixturevalue("postgres")
    made = Place(tmp_path / "data", server)
    made.ask("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return made


@pytest.fixture
async def history(place: Place) -> AsyncIterator[History]:
    made = place.history(keep_days=10)
    assert await made.start()
    yield made
    await made.close()


def add(history: History, key: str, *values: tuple[float, float | None]) -> None:
    """Readings of one point: (seconds after T0, value)."""
    device = make.site().points[key].device
    good, bad = Quality.GOOD, Quality.MISSING
    history.add_readings(
        make.site().device[device],
        [make.reading(key, v, T0 + at_s, bad if v is None else good) for at_s, v in values],
    )


async def test_readings_arrive_as_an_independent_client_sees_them(
    history: History, place: Place
) -> None:
    add(history, INLET, (1.25, 22.5), (6, None))
    add(history, SUPPLY, (1, 18.0))
    assert await history.flush()
    rows = place.ask(
        "SELECT site, area, point, value, quality FROM telemetry_raw ORDER BY point, ts"
    )
    assert [[*row[:3], row[3] and float(row[3]), row[4]] for row in rows] == [
        ["ber1", "hall-a", SUPPLY, 18.0, "good"],
        ["ber1", "hall-a", INLET, 22.5, "good"],
        ["ber1", "hall-a", INLET, "", "missing"],
    ]
    assert place.ask("SELECT unit, rack FROM series WHERE point LIKE '%pdu%'") == [["kW", "A01"]]


async def test_raw_series_come_back_with_their_times(history: History) -> None:
    add(history, INLET, (1.25, 22.5), (6, None), (11, 23.5))
    await history.flush()
    seen = await history.series(INLET, T0, T0 + 11)
    assert [(s.ts_s - T0, s.value, s.n, s.n_missing) for s in seen] == [
        (1.25, 22.5, 1, 0), (6, None, 0, 1),
    ]  # fmt: skip
    (bucket,) = await history.series(INLET, T0, T0 + 60, step_s=30)
    assert (bucket.value, bucket.low, bucket.high, bucket.n, bucket.n_missing) == (
        23.0, 22.5, 23.5, 2, 1,
    )  # fmt: skip
    assert (bucket.ts_s % 30, await history.series(PDU, T0, T0 + 60)) == (0, [])


async def test_the_same_reading_twice_is_stored_once(history: History, place: Place) -> None:
    for _ in range(3):
        add(history, INLET, (1, 22.5))
        await history.flush()
    assert place.ask("SELECT count(*) FROM telemetry_raw") == [["1"]]


async def test_rollups_are_incremental_late_and_repeatable(history: History, place: Place) -> None:
    add(history, INLET, (0, 20.0), (59.999, 24.0), (60, 30.0), (61, None))
    await history.flush()
    assert await history.rollup(T0 + 70) == 1, "the second minute is not over"
    assert await history.rollup(T0 + 130) == 1
    assert await history.rollup(T0 + 130) == 0, "nothing changed, nothing to do"
    add(history, INLET, (30, 28.0))  # late
    await history.flush()
    assert await history.rollup(T0 + 500) == 1
    first, second = await history.series(INLET, T0, T0 + 3_600, step_s=60)
    assert (first.value, first.low, first.high, first.n, first.n_missing) == (24, 20, 28, 3, 0)
    assert (second.value, second.n, second.n_missing) == (30, 1, 1)
    (both,) = await history.series(INLET, T0 - 40, T0 + 3_560, step_s=3_600)
    assert (both.value, both.n) == (25.5, 4), "a mean of readings, not of means"
    assert place.ask("SELECT count(*) FROM rollup_dirty") == [["0"]]


async def test_what_was_not_rolled_up_survives_a_restart(place: Place) -> None:
    before = place.history()
    await before.start()
    add(before, INLET, (1, 20.0))
    await before.flush()
    await before.close()
    after = place.history()
    await after.start()
    assert await after.rollup(T0 + 70) == 1
    assert [s.value for s in await after.series(INLET, T0, T0 + 60, 60)] == [20.0]
    await after.close()


@settings(max_examples=15, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    st.lists(
        st.tuples(st.integers(0, 239), st.none() | st.floats(-50, 90)),
        min_size=1, max_size=40, unique_by=lambda row: row[0],
    ),
    st.data(),
)  # fmt: skip
async def test_any_order_and_batching_gives_the_rollups_of_once_in_order(
    history: History, place: Place, rows: list[tuple[int, float | None]], data: st.DataObject
) -> None:
    place.ask("DELETE FROM telemetry_raw; DELETE FROM rollups_1m; DELETE FROM rollups_1h")
    order = data.draw(st.permutations(rows))
    while order:
        count = data.draw(st.integers(1, len(order)))
        add(history, INLET, *((float(at), v) for at, v in order[:count]))
        order = order[count:]
        await history.flush()
        await history.rollup(T0 + 400)
    seen = {s.ts_s: s for s in await history.series(INLET, T0, T0 + 240, 60)}
    for minute in {at // 60 for at, _ in rows}:
        values = [v for at, v in rows if at // 60 == minute]
        good = [v for v in values if v is not None]
        made = seen.pop(T0 + minute * 60)
        assert (made.n, made.n_missing) == (len(good), len(values) - len(good))
        assert made.value == pytest.approx(math.fsum(good) / len(good) if good else None)
        assert (made.low, made.high) == (min(good, default=None), max(good, default=None))
    assert not seen


async def test_old_rows_go_and_young_ones_stay(history: History, place: Place) -> None:
    day = 86_400.0
    add(history, INLET, (-11 * day, 1.0), (-9 * day, 2.0), (0, 3.0))
    history.add_scores(T0 - 11 * day, [Finding("row:A", 1.0, 1.0, "nominal", T0)])
    history.add_action({"type": "action", "ts_s": T0 - 11 * day})
    history.add_action({"type": "action", "ts_s": T0})
    await history.flush()
    await history.rollup(T0 + 99)
    assert [s.value for s in await history.series(INLET, 0, T0 + 1)] == [2.0, 3.0]
    assert place.ask("SELECT count(*) FROM rollups_1m") == [["2"]]
    assert place.ask("SELECT count(*) FROM ims_scores") == [["0"]]
    assert len(await history.actions(0)) == 1


async def test_scores_and_actions_come_back(history: History) -> None:
    finding = Finding("row:C", 1.5, 1.2, "transient", T0 - 30, ("inlet_c", "pdu_kw"), heat=0.7)
    silent = Finding("row:D", math.nan, math.inf, "unknown", T0)
    history.add_scores(T0, [finding, silent])
    history.add_action({"type": "action", "ts_s": T0, "cycle": "s1", "loop": "slow",
                        "move": "fan", "scope": "row:C", "changes": {"x": [1, math.nan]}})  # fmt: skip
    history.add_action({"type": "ending", "ts": "2023-11-14T22:15:00.000Z", "point": "a/b"})
    history.add_action({"no": "time"})
    await history.flush()
    (score,) = await history.scores("row:C", T0, T0 + 1)
    assert (score.deviation, score.ema, score.heat, score.state) == (1.5, 1.2, 0.7, "transient")
    assert (score.since_s, score.top) == (T0 - 30, ("inlet_c", "pdu_kw"))
    (nothing,) = await history.scores("row:D", T0, T0 + 1)
    assert (nothing.deviation, nothing.ema) == (None, None)
    newest, *others = await history.actions(T0 - 100)
    assert (newest.kind, newest.ts_s) == ("ending", 1_700_000_100.0)
    slow = next(a for a in others if a.kind == "action")
    assert (slow.cycle, slow.loop, slow.move, slow.scope) == ("s1", "slow", "fan", "row:C")
    assert slow.detail["changes"] == {"x": [1, None]}
    assert [a.ts_s for a in others] == [T0, T0], "without a time of its own it is now"
    assert len(await history.actions(T0 - 100, limit=1)) == 1


async def test_models_are_versioned_and_one_is_active(history: History) -> None:
    assert await history.active_model() is None
    assert [await history.save_model({"id": f"m{i}", "k": [i, 0.1]}, "why") for i in (1, 2)] == [
        1,
        2,
    ]
    assert await history.active_model() is None, "keeping is not activating"
    assert await history.activate_model(1)
    assert await history.activate_model(2)
    assert not await history.activate_model(99)
    active = await history.active_model()
    assert active is not None
    assert (active.version, active.id, active.document) == (2, "m2", {"id": "m2", "k": [2, 0.1]})
    assert [(m.version, m.active, m.document) for m in await history.list_models()] == [
        (2, True, None), (1, False, None),
    ]  # fmt: skip
    first = await history.model(1)
    assert first is not None
    assert first.document == {"id": "m1", "k": [1, 0.1]}
    assert await history.activate_model(None)
    assert await history.active_model() is None
    with pytest.raises(ValueError, match="JSON"):
        await history.save_model({"x": math.nan})


async def test_settings_keep_json(history: History) -> None:
    assert await history.get_setting("tuned", 5) == 5
    for value in ({"a": [1, None, "ü"]}, False):
        await history.set_setting("tuned", value)
        assert await history.get_setting("tuned") == value


async def test_sites_share_a_database_without_seeing_each_other(place: Place) -> None:
    ours, theirs = place.history(), place.history(id="fra2")
    await asyncio.gather(ours.start(), theirs.start())
    add(ours, INLET, (1, 20.0))
    await ours.flush()
    await ours.set_setting("x", 1)
    await ours.save_model({"id": "m"})
    assert await theirs.series(INLET, 0, T0 + 60) == []
    assert await theirs.get_setting("x") is None
    assert await theirs.list_models() == []
    assert await theirs.rollup(T0 + 99) == 0
    await ours.close()
    await theirs.close()


async def test_hostile_rows_neither_raise_nor_hold_up_others(
    history: History, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_writer, "BACKOFF_S", (0.01,))
    device = make.site().device["rack-a01"]
    history.add_readings(device, [
        make.reading(INLET, math.nan, T0), make.reading(INLET, math.inf, T0 + 1),
        make.reading(INLET, 1.0, math.nan), make.reading(INLET, 1.0, -5.0),
        make.reading("no/such", 1.0, T0), make.reading(PDU, 1.0, 1e300),
        make.reading(PDU, 7.0, T0),
    ])  # fmt: skip
    history.add_scores(T0, [Finding("row:" + "A" * 500, 1.0, 1.0, "s" * 99, T0, ("\0", "\ud800"))])
    history.add_scores(math.nan, [Finding("row:A", 1.0, 1.0, "nominal", T0)])
    history.add_action({"type": "t" * 99, "cycle": "c" * 999, "move": "x\0y", "ts_s": T0})
    history.add_action({"type": "big", "ts_s": T0, "why": "x" * MAX_DETAIL})
    history.add_action({"type": "odd", "ts_s": T0, "o": object(), "e": Quality.BAD, "s": {3, 1}})
    with capture_logs() as logs:
        assert await history.flush()
    assert [s.value for s in await history.series(INLET, 0, T0 + 9)] == [None, None]
    assert [s.value for s in await history.series(PDU, 0, T0 + 9)] == [7.0]
    kinds = {a.kind: a.detail for a in await history.actions(0)}
    assert kinds["big"]["characters"] > MAX_DETAIL
    assert (kinds["odd"]["e"], kinds["odd"]["s"]) == ("bad", [1, 3])
    refused = [line["table"] for line in logs if line["event"] == "history row refused"]
    # PostgreSQL takes no NUL in a text; all rows that were written beside it are there.
    assert refused == (["optimizer_actions"] if place.postgres else [])
    assert history.status.dropped == len(refused)
    assert not history.status.lost
    gaps = await history.gaps(0)
    assert sum(g.dropped for g in gaps) == len(refused)


async def test_a_wrong_question_is_the_callers_fault(history: History) -> None:
    for step in (0, -1, math.nan):
        with pytest.raises(ValueError, match="step_s"):
            await history.series(INLET, 0, 1, step)


async def test_a_rollback_leaves_nothing_half_done(
    history: History, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(history, INLET, (1, 20.0))

    async def fails(*_: object) -> None:
        raise OSError("pulled")

    monkeypatch.setattr(history_writer, "BACKOFF_S", (0.01,))
    with monkeypatch.context() as broken:
        broken.setattr(history_writer.Writer, "_mark_dirty", fails)
        assert not await history.flush()
    assert place.ask("SELECT count(*) FROM telemetry_raw") in ([["0"]], [["1"]])
    assert await history.flush()
    assert await history.rollup(T0 + 99) == 1


async def test_questions_to_a_database_that_is_away_say_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    history = History(make.site(tmp_path / "file" / "deeper"), VirtualClock(T0))
    assert not await history.start()
    add(history, INLET, (1, 20.0))
    with pytest.raises(HistoryDown, match=r"history\.db"):
        await history.get_setting("x")
    assert await history.rollup(T0) == 0
    assert not await history.flush(1.0)
    assert "NotADirectoryError" in history.status.lost
    with capture_logs() as logs:
        await history.close()
    assert [line["rows"] for line in logs if "given up" in line["event"]] == [1]


async def test_hours_answer_for_weeks_and_late_rows_reach_them(history: History) -> None:
    hour_s = 3_600
    start_s = T0 // hour_s * hour_s
    at_s = start_s - T0
    add(history, INLET, *((at_s + i * 600.0, float(i)) for i in range(12)), (at_s + 11_000, None))
    await history.flush()
    await history.rollup(start_s + 5 * hour_s)
    week = (start_s - 5 * 86_400, start_s + 86_400)
    seen = await history.series(INLET, *week, step_s=hour_s)
    assert [(s.ts_s - start_s, s.value, s.low, s.high, s.n) for s in seen] == [
        (0, 2.5, 0, 5, 6), (hour_s, 8.5, 6, 11, 6), (3 * hour_s, None, None, None, 0),
    ]  # fmt: skip
    add(history, INLET, (at_s + 30, 9.0))  # late
    await history.flush()
    await history.rollup(start_s + 5 * hour_s)
    first, *_ = await history.series(INLET, *week, step_s=hour_s)
    assert (first.value, first.high, first.n) == (pytest.approx(24 / 7), 9, 7)
    lines = await history.timeline("inlet_c", *week, step_s=hour_s)
    assert list(lines) == [INLET]
    assert lines[INLET][1] == (start_s + hour_s, 8.5)
    (day,) = (await history.timeline("inlet_c", *week, step_s=2 * hour_s))[INLET][:1]
    assert day[1] == pytest.approx((24 + 51) / 13)
    with pytest.raises(ValueError, match="step_s"):
        await history.timeline("inlet_c", *week, step_s=1)


async def test_a_full_database_gives_up_its_oldest_readings_and_keeps_what_they_came_to(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_retention, "ROWS_AT_ONCE", 500)
    history = place.history(max_gb=1e-9)
    assert await history.start()
    add(history, INLET, *((float(i), 20.0) for i in range(0, 8_000, 4)))
    await history.flush()
    place.ask("VACUUM" if place.postgres is None else "ANALYZE telemetry_raw")
    await history.rollup(T0 + 8_100)
    (row,) = place.ask("SELECT count(*) FROM telemetry_raw")
    assert int(row[0]) == 875, "the last hour stays, whatever the size"
    before = place.ask("SELECT sum(n), count(*) FROM rollups_1m")
    assert before == [["2000", "134"]]
    add(history, INLET, (1.0, 99.0))  # a late row of a minute whose readings are gone
    await history.flush()
    await history.rollup(T0 + 8_100)
    assert place.ask("SELECT sum(n), count(*) FROM rollups_1m") == before
    assert place.ask("SELECT sum(n), max(high) FROM rollups_1h")[0][0] == "2000"
    await history.close()


async def test_in_a_shared_database_a_hall_pays_for_its_own_readings(place: Place) -> None:
    history, other = place.history(), place.history(area="hall-b")
    for one in (history, other):
        assert await one.start()
        add(one, INLET, *((float(i), 20.0) for i in range(0, 8_000, 4)))
        await one.flush()
    place.ask("VACUUM" if place.postgres is None else "ANALYZE telemetry_raw")
    async with history._read() as connection:
        used = await history_retention.used_bytes(connection)

    async def purged(most: float) -> int:
        now_s = T0 + 8_100
        return await history_retention.purge(history._write, "ber1", "hall-a", now_s, 90, most)

    assert await purged(0.6 * used) == 0
    assert await purged(0.4 * used) > 0
    assert place.ask("SELECT count(*) FROM telemetry_raw WHERE area = 'hall-b'") == [["2000"]]
    await asyncio.gather(history.close(), other.close())


async def test_timescale_is_used_where_it_is_there(history: History, place: Place) -> None:
    if place.postgres is None:
        place.ask("SELECT 1")
        return
    engine = await history._open()
    if place.ask("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'") == [["0"]]:
        assert not await history_timescale.switch_on(engine), "and it says so"
        pytest.skip("timescale: no TimescaleDB on this server; what only it can run is untested")
    assert await history_timescale.switch_on(engine)
    assert place.ask("SELECT count(*) FROM timescaledb_information.hypertables")[0][0] >= "3"
