"""When a heartbeat is due, what stops it, and that nothing else may use its way."""

from dataclasses import replace
from itertools import pairwise

import pytest

from config.site import Site, Writable
from control import interlocks
from control.case import Case
from control.guardrails import judge
from control.heartbeat import _next, beats
from control.layout import Layout
from control.modes import Event, Modes, step
from control.state import Spent
from control.types import HEARTBEAT, Change, Denial, Permit, Proposal
from tests.control.hall import NOW_S, case

BEAT = "crac-a1/alive"


def watched_site(site: Site) -> Site:
    """The hall, with a heartbeat on one unit."""
    [unit] = [d for d in site.devices if d.id == "crac-a1"]
    alive = replace(
        unit.points[0], key=BEAT, id="alive", quantity="state", unit="", equipment="crac-a1.heartbeat",
        writable=Writable(min=0.0, max=3.0, max_step=3.0, max_writes_per_day=720, safe_value=0.0),
    )  # fmt: skip
    beating = replace(unit, points=(*unit.points, alive), heartbeat="alive")
    return replace(site, devices=tuple(beating if d is unit else d for d in site.devices))


def beating(value: float | None = 1.0, **state: object) -> Case:
    """The hall with its heartbeat at a value."""
    bare = case(**state)
    site = watched_site(bare.layout.site)
    layout = Layout(site)
    n = len(site.points)
    snapshot = replace(
        bare.snapshot, index=layout.index,
        **{name: _widened(getattr(bare.snapshot, name), bare.snapshot.index, layout.index, n)
           for name in ("values", "last", "age_s")},
    )  # fmt: skip
    at = layout.index[BEAT]
    if value is not None:
        snapshot.values[at] = snapshot.last[at] = value
        snapshot.age_s[at] = 0.0
    return replace(bare, snapshot=snapshot, layout=layout)


def _widened(old, index, new_index, n):  # type: ignore[no-untyped-def]
    import numpy as np

    out = np.full(n, np.nan)
    for key, at in index.items():
        out[new_index[key]] = old[at]
    return out


def only(found: list[Proposal]) -> Proposal:
    [proposal] = found
    return proposal


@pytest.mark.parametrize(("value", "then"), [(0.0, 1.0), (1.0, 0.0), (2.0, 0.0), (3.0, 0.0)])
def test_it_counts_and_begins_again(value: float, then: float) -> None:
    here = beating(value)
    proposal = only(beats(here, "f1"))
    assert (proposal.changes, proposal.loop) == ((Change(BEAT, value, then),), HEARTBEAT)
    assert isinstance(judge(here, proposal, "f1"), Permit)


@pytest.mark.parametrize(("key", "over"), [("pdu-a/inlet_c.A01", 28.1), ("pdu-a/pdu_kw.A01", 12.1)])
def test_a_crossed_limit_counts_in_the_upper_half(key: str, over: float) -> None:
    told = []
    for value in (1.0, 2.0, 3.0):
        here = beating(value)
        at = here.layout.index[key]
        here.snapshot.values[at] = here.snapshot.last[at] = over
        [change] = only(beats(here, "f1")).changes
        told.append(change.new)
    assert told == [2.0, 3.0, 2.0]


@pytest.mark.parametrize(
    ("room", "counted"),
    [((0, 1), [0, 1, 0]), ((0, 2), [0, 1, 2, 0]), ((5, 9), [5, 6, 7, 5]), ((0.5, 2.5), [1, 2, 1])],
)
def test_each_range_is_counted_through(room: tuple[float, float], counted: list[float]) -> None:
    band = Writable(min=room[0], max=room[1], max_step=9.0)
    for old, new in pairwise(counted):
        assert _next(old, band, crossed=False) == new


def test_it_is_due_once_an_interval_and_needs_its_present_value() -> None:
    soon = beating(spent={"crac-a1.heartbeat": Spent(NOW_S - 119.0, NOW_S - 119.0, 1)})
    due = beating(spent={"crac-a1.heartbeat": Spent(NOW_S - 120.0, NOW_S - 120.0, 1)})
    assert beats(soon, "f1") == []
    assert len(beats(due, "f1")) == 1
    assert beats(beating(None), "f1") == []


def test_it_stops_when_nothing_may_be_written() -> None:
    here = beating()
    for event, scope in ((Event.KILL, ""), (Event.LOWER, ""), (Event.DISARM, "equipment:crac-a1")):
        modes = step(here.state.modes, event, scope, "cli", "engineer")
        assert isinstance(modes, Modes)
        assert beats(replace(here, state=replace(here.state, modes=modes)), "f1") == []


def test_trouble_and_unsettled_changes_do_not_stop_it_but_a_dark_interlock_does() -> None:
    here = beating()
    hot = here.snapshot
    for key in ("pdu-a/inlet_c.A01", "pdu-b/inlet_c.B01"):
        hot.values[here.layout.index[key]] = hot.last[here.layout.index[key]] = 27.9
    proposal = only(beats(here, "f1"))
    assert isinstance(judge(here, proposal, "f1"), Permit)
    knob = Proposal("x", "slow", "supply_air", (Change("crac-a1/supply_c", 20.0, 21.0),), "")
    assert isinstance(judge(here, knob, "f1"), Denial), "for a knob it would be a risk"
    from config.site import Interlock

    lock = Interlock("fire", "pdu-a/pdu_kw.A01", "hall", "hold", trip_above=1.0)
    site = replace(here.layout.site, interlocks=(lock,))
    trips = interlocks.step(site, here.snapshot, {})
    tripped = replace(here, layout=Layout(site), state=replace(here.state, trips=trips))
    assert isinstance(judge(tripped, proposal, "f1"), Denial)
