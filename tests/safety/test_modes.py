"""P10, P19: every state of mode, arming and kill switch × every event × who asks, one by one.

What must come of each is told here a second time, as a table of rights and effects; and what
must never come of any, as a handful of laws.
"""

from dataclasses import replace
from itertools import product

import pytest

from control.modes import (
    Event,
    Modes,
    Refusal,
    in_scope,
    initial,
    may_write,
    narrowed,
    step,
)
from control.types import Mode
from tests.safety.rig import PUMP, SUPPLY
from tests.safety.world import make_site

SITE = make_site()
ADVISORY, CLOSED = Mode.ADVISORY, Mode.CLOSED_LOOP
SCOPES = ("", "hall", "row:A", "row:B")
SETS = tuple(frozenset(s) for s in ((), ("hall",), ("row:A",), ("row:A", "row:B")))
SITES = {(m, s): make_site(m.value, tuple(sorted(s))) for m, s in product(Mode, SETS)}
STATES = [
    Modes(ceiling, allowed, mode, armed, killed, barred)
    for ceiling, allowed, mode, armed, killed, barred in product(
        Mode, SETS, Mode, SETS, (False, True), (frozenset(), frozenset({"row:A"}))
    )
]
CALLERS = list(
    product(("cli", "file", "signal", "mqtt", "http"), ("viewer", "operator", "engineer"))
)
HOST = ("cli", "file", "signal")


def is_person(channel: str, role: str) -> bool:
    return channel in HOST and role == "engineer"


def expected(was: Modes, event: Event, scope: str, channel: str, role: str) -> Modes | None:
    """What must come of it; None: refused."""
    match event:
        case Event.KILL:
            return replace(was, killed=True)
        case Event.LOWER:
            return replace(was, mode=ADVISORY)
        case Event.DISARM if scope in ("", "hall"):
            return replace(was, armed=frozenset(), barred=frozenset())
        case Event.DISARM:
            return replace(was, armed=was.armed - {scope}, barred=was.barred | {scope})
    if not is_person(channel, role):
        return None
    if event is Event.CLEAR:
        return replace(was, killed=False, mode=ADVISORY) if was.killed else was
    if was.killed or was.ceiling is ADVISORY:
        return None
    if event is Event.RAISE:
        return replace(was, mode=CLOSED)
    if not ("hall" in was.allowed or scope in was.allowed):
        return None
    barred = frozenset() if scope == "hall" else was.barred - {scope}
    return replace(was, armed=was.armed | {scope}, barred=barred)


def raised(was: Modes, now: Modes) -> None:
    """Nothing but a person on the host ever raises anything."""
    assert now.killed or not was.killed
    assert now.mode is ADVISORY or was.mode is CLOSED
    assert now.armed <= was.armed
    assert now.barred >= was.barred or not now.armed
    assert was.may_act or not now.may_act


@pytest.mark.parametrize("event", Event)
def test_every_state_and_every_event(event: Event) -> None:
    cases = 0
    for was, scope, (channel, role) in product(STATES, SCOPES, CALLERS):
        now = step(was, event, scope, channel, role)
        want = expected(was, event, scope, channel, role)
        assert (None if isinstance(now, Refusal) else now) == want, (was, scope, channel, role)
        if isinstance(now, Refusal):
            assert event not in (Event.KILL, Event.LOWER, Event.DISARM), "these are never refused"
        elif not is_person(channel, role):
            raised(was, now)
        cases += 1
    assert cases == len(STATES) * len(SCOPES) * len(CALLERS) == 15_360


def test_the_file_is_the_ceiling_and_never_changes() -> None:
    for was, event, scope in product(STATES, Event, SCOPES):
        now = step(was, event, scope, "cli", "engineer")
        if isinstance(now, Modes):
            assert (now.ceiling, now.allowed) == (was.ceiling, was.allowed)
            assert now.mode is was.mode or now.mode is ADVISORY or was.ceiling is CLOSED


OPEN = Modes(CLOSED, frozenset({"hall"}), CLOSED, frozenset({"hall"}))


@pytest.mark.parametrize(("was", "event", "scope", "channel", "role", "words"), [
    (OPEN, Event.RAISE, "", "mqtt", "engineer", "raise needs an engineer on the host, not engineer over mqtt"),
    (OPEN, Event.CLEAR, "", "cli", "operator", "clear needs an engineer on the host, not operator over cli"),
    (replace(OPEN, killed=True), Event.RAISE, "", "cli", "engineer", "skadi kill --clear"),
    (replace(OPEN, ceiling=ADVISORY), Event.ARM, "hall", "cli", "engineer", "the site file says advisory"),
    (replace(OPEN, allowed=frozenset()), Event.ARM, "row:A", "cli", "engineer", "does not arm 'row:A'"),
])  # fmt: skip
def test_a_refusal_says_what_to_do(
    was: Modes, event: Event, scope: str, channel: str, role: str, words: str
) -> None:
    refusal = step(was, event, scope, channel, role)
    assert isinstance(refusal, Refusal)
    assert words in refusal.reason


# -- at start


def test_the_first_start_is_the_files_word() -> None:
    assert initial(make_site("closed_loop", ("row:A",)), None) == Modes(
        CLOSED, frozenset({"row:A"}), CLOSED, frozenset({"row:A"})
    )
    assert initial(make_site("advisory", ()), None) == Modes(
        ADVISORY, frozenset(), ADVISORY, frozenset()
    )


@pytest.mark.parametrize("stored", STATES)
def test_a_start_never_raises_what_was_stored(stored: Modes) -> None:
    """Unless the file has changed: then the person who edited it on the host has decided."""
    for (ceiling, armed), site in SITES.items():
        now = initial(site, stored)
        assert (now.ceiling, now.allowed) == (ceiling, armed)
        assert not (now.mode is CLOSED and ceiling is ADVISORY)
        assert now.killed == stored.killed, "only a person clears the kill switch"
        if stored.killed or (stored.ceiling, stored.allowed) == (ceiling, armed):
            assert not (now.mode is CLOSED and stored.mode is ADVISORY)
            assert now.armed <= stored.armed
            assert "hall" in armed or now.armed <= armed
            assert now.barred == stored.barred
            if "hall" in armed:
                assert now.armed == stored.armed
            else:
                assert now.armed == stored.armed & armed
            assert now.mode is (ceiling if stored.mode is CLOSED else ADVISORY)
        else:
            assert now == Modes(ceiling, armed, ceiling, armed)


@pytest.mark.parametrize("was", STATES)
def test_an_edited_file_never_raises_what_runs(was: Modes) -> None:
    points = list(SITE.writable_points.values())
    for (ceiling, armed), site in SITES.items():
        now = narrowed(was, site)
        assert (now.ceiling, now.allowed) == (ceiling, armed)
        assert (now.killed, now.barred) == (was.killed, was.barred)
        assert now.mode is (was.mode if ceiling is CLOSED else ADVISORY)
        assert all(may_write(was, p) for p in points if may_write(now, p))
        if "hall" in armed:
            assert now.armed == was.armed
        else:
            assert now.armed == (armed if "hall" in was.armed else was.armed & armed)


# -- what they mean for a point


def test_scopes() -> None:
    supply, pump = SITE.points[SUPPLY], SITE.points[PUMP]
    assert all(in_scope(supply, s) for s in ("hall", "row:A", "zone:row-A", "equipment:crac-a1"))
    assert not any(in_scope(supply, s) for s in ("row:B", "zone:A", "equipment:A", "rack:A", "", "A",
                                                 "key:crac-a1/supply", "quantity:supply_air_setpoint_c"))  # fmt: skip
    assert in_scope(pump, "hall")
    assert not in_scope(pump, "row:A")
    assert not in_scope(pump, "row:")


@pytest.mark.parametrize(("modes", "supply", "pump"), [
    (OPEN, True, True),
    (replace(OPEN, killed=True), False, False),
    (replace(OPEN, mode=ADVISORY), False, False),
    (replace(OPEN, armed=frozenset()), False, False),
    (replace(OPEN, armed=frozenset({"row:A"})), True, False),
    (replace(OPEN, armed=frozenset({"equipment:pump"})), False, True),
    (replace(OPEN, barred=frozenset({"row:A"})), False, True),
])  # fmt: skip
def test_what_may_be_written(modes: Modes, supply: bool, pump: bool) -> None:
    assert may_write(modes, SITE.points[SUPPLY]) is supply
    assert may_write(modes, SITE.points[PUMP]) is pump
    assert modes.may_act is (not modes.killed and modes.mode is CLOSED)
