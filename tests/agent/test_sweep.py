"""A poll carried in columns means exactly what the same poll means as a list of readings."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import VirtualClock
from agent.history.buffer import Block, Buffer, Stream
from agent.history.schema import TELEMETRY_RAW
from agent.later import Later
from agent.mqtt.payload import Template, device_payload
from agent.publish import Recording
from agent.steady import Steady
from agent.store import Store
from control.layout import Layout
from control.types import Quality, Reading, Sweep
from tests.agent import make

T0 = 1_700_000_000.0
PUSHED = make.site()  # whose devices nobody polls
SITE = replace(PUSHED, devices=tuple(replace(d, protocol="modbus-tcp") for d in PUSHED.devices))
RACK = SITE.device["rack-a01"]
KEYS = tuple(p.key for p in RACK.points)
FAULTS = st.tuples(
    st.sampled_from([q for q in Quality if q not in (Quality.GOOD, Quality.STALE)]),
    st.text(max_size=12) | st.just('100 %s "\ue000\ue001\ue002'),
)


@st.composite
def sweeps(draw: st.DrawFn) -> Sweep:
    values = np.array(draw(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2)))
    faults = draw(st.dictionaries(st.integers(0, 1), FAULTS))
    values[list(faults)] = np.nan
    return Sweep(KEYS, values, T0 + draw(st.integers(0, 40)), faults)


def test_it_is_a_sequence_of_readings() -> None:
    sweep = Sweep(KEYS, np.array([21.5, math.nan]), T0, {1: (Quality.MISSING, "sentinel -1")})
    good = Reading(KEYS[0], 21.5, T0, Quality.GOOD)
    missing = Reading(KEYS[1], None, T0, Quality.MISSING, "sentinel -1")
    assert list(sweep) == [good, missing]
    assert (sweep[-1], sweep[:1], len(sweep)) == (missing, [good], 2)
    with pytest.raises(IndexError):
        sweep[2]


@given(st.lists(sweeps(), min_size=1, max_size=6), st.floats(0, 60))
def test_the_store_takes_both_forms_alike(polls: list[Sweep], later_s: float) -> None:
    columns, rows = Store(Layout(SITE)), Store(Layout(SITE))
    now_s = T0
    for sweep in polls:
        columns.update(sweep)
        rows.update(list(sweep))
        now_s = max(now_s, sweep.taken_s) + later_s
        assert columns.readings(now_s) == rows.readings(now_s)
        assert list(columns.standing(sweep, now_s)) == rows.standing(list(sweep), now_s)
    a, b = columns.snapshot(now_s), rows.snapshot(now_s)
    for one, other in ((a.values, b.values), (a.last, b.last), (a.age_s, b.age_s)):
        np.testing.assert_array_equal(one, other)


@given(sweeps(), st.integers(1, 9))
def test_a_filled_template_is_the_message_of_its_readings(sweep: Sweep, seq: int) -> None:
    template = Template(SITE, RACK, sweep)
    assert template.fits(sweep)
    filled = json.loads(template.fill(sweep, seq))
    said = {"seq": seq, **device_payload(SITE, RACK, list(sweep))}
    for point in said["points"].values():
        if "reason" in point:  # its own marks can't stand in a text
            point["reason"] = point["reason"].translate(dict.fromkeys(range(0xE000, 0xE003)))
    assert filled == said


def test_a_template_is_for_one_set_of_faults() -> None:
    good = Sweep(KEYS, np.array([1.0, 2.0]), T0, {})
    lost = Sweep(KEYS, np.array([1.0, math.nan]), T0, {1: (Quality.MISSING, "sentinel -1")})
    assert not Template(SITE, RACK, good).fits(lost)
    assert Template(SITE, RACK, lost).fits(lost)


def test_a_clock_that_was_set_restamps_a_sweep_as_it_does_readings() -> None:
    clock = VirtualClock(T0)
    steady = Steady(clock)
    clock.step_wall(3_600.0)
    sweep = Sweep(KEYS, np.array([1.0, 2.0]), clock.now_s(), {})
    assert list(steady.steadied(sweep)) == list(steady.steadied(list(sweep)))
    assert {r.taken_s for r in steady.steadied(sweep)} == {T0}
    assert {r.taken_s for r in steady.stamped(steady.steadied(sweep))} == {T0 + 3_600.0}


class Kept:
    """What a history is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def add_readings(self, device: Any, readings: Any) -> None:
        self.told.append(readings)

    def add_action(self, detail: Any) -> None:
        self.told.append(detail["type"])


def test_what_is_told_before_history_is_open_waits_for_it_in_order() -> None:
    recording, kept = Recording(), Kept()
    recording.listen("readings", {"device": RACK, "readings": 1})
    recording.listen("action", {"ts_s": T0})
    assert kept.told == []
    recording.begin(kept)  # type: ignore[arg-type]
    recording.listen("readings", {"device": RACK, "readings": 2})
    assert kept.told == [1, "action", 2]


def test_what_comes_later_is_made_once_and_only_when_it_is_used() -> None:
    made: list[Kept] = []

    def make_it() -> Kept:
        made.append(Kept())
        return made[-1]

    later: Any = Later(make_it)
    assert made == []
    assert later.told is later.told
    assert len(made) == 1


async def test_history_keeps_at_most_one_poll_a_second_of_a_device(tmp_path: Path) -> None:
    from agent.history.service import History

    site = make.site(tmp_path)
    history = History(site, VirtualClock(T0), {})
    assert await history.start()
    for at_s in (0.0, 0.2, 0.7, 1.0, 1.1, 2.0):
        faults = {1: (Quality.MISSING, "sentinel -1")}
        history.add_readings(RACK, Sweep(KEYS, np.array([at_s, math.nan]), T0 + at_s, faults))
    history.add_readings(RACK, [make.reading(KEYS[0], 9.0, T0 + 2.1)])  # pushed: every one
    assert await history.flush()
    series = [await history.series(key, T0 - 1, T0 + 9) for key in KEYS]
    await history.close()
    kept = [(round(s.ts_s - T0, 3), s.value) for s in series[0]]
    assert kept == [(0.0, 0.0), (1.0, 1.0), (2.0, 2.0), (2.1, 9.0)]
    assert [s.value for s in series[1]] == [None, None, None]


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (
            "agent.run, drivers.modbus",
            "sqlalchemy alembic fastapi rich matplotlib sklearn pysnmp BAC0 aiohttp cryptography",
        ),
        ("agent.run, agent.api.read, agent.api.write", "sqlalchemy alembic agent.reports.gather"),
        ("agent.history.service, agent.models", "sqlalchemy.orm alembic"),
    ],
)
def test_what_is_not_needed_yet_is_not_imported(modules: str, heavy: str) -> None:
    code = (
        f"import sys; from agent import lean; lean.begin(); import {modules};"
        f" print(*(m for m in {heavy.split()} if sys.modules.get(m)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_a_poll_that_waits_for_the_database_is_taken_and_dropped_in_parts() -> None:
    keys = tuple(f"rack/p{i}" for i in range(5))
    faults = {3: (Quality.MISSING, "no answer")}
    sweep = Sweep(keys, np.array([0.0, 1.0, 2.0, math.nan, 4.0]), T0, faults)
    buffer = Buffer(Stream(TELEMETRY_RAW, room=6))
    buffer.put(Block(("s", "a"), sweep, 0, 5))
    taken = buffer.peek(4)
    assert [r[2:] for r in taken.rows()][2:] == [
        ("rack/p2", T0, 2.0, "good"), ("rack/p3", T0, None, "missing"),
    ]  # fmt: skip
    buffer.put(("s", "a", "b", T0 + 1, 0.0, "good"))
    buffer.put(("s", "a", "c", T0 + 1, 0.0, "good"))  # the poll's first row gives way meanwhile
    assert (len(buffer), buffer.dropped, buffer.take_gap()) == (6, 1, (T0, T0, 1))
    buffer.done(taken)
    assert [r[2] for r in buffer.peek(9).rows()] == ["rack/p4", "b", "c"]
    assert [len(c) for c in buffer.peek(9).chunks(1)] == [1, 1, 1]
