"""Calm alarms after ISA-18.2: one alarm a cause, delayed, with hysteresis, shelved or suppressed.

    normal ── active for on_delay ──► unacknowledged ── ack ──► acknowledged
      ▲                                  │ gone                    │ gone
      │◄────────── ack ── returned ◄─────┘                         │
      │◄───────────────────────────────────────────────────────────┘
    a severity that rises makes an acknowledged alarm unacknowledged again, once an hour: one that goes
    to and fro between two calls once
    shelved (a person, until a time) and suppressed (maintenance; never a critical one) are shown,
    and call nobody

Decides what calls a person and when it stops calling. Pure; must never hide a cause for ever:
every shelf has an end, and suppression ends with its maintenance tag.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum

MOST_SHELF_S = 8 * 3_600.0  # a shift
SEEN_S = 3_600.0  # for so long whoever has seen an alarm at its worst has seen it so


class Severity(IntEnum):
    """How soon a person is needed."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


class State(StrEnum):
    """Where an alarm stands."""

    NORMAL = "normal"
    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGED = "acknowledged"
    RETURNED = "returned"  # gone before anyone acknowledged it


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that is wrong now. It calls after on_delay_s, and is gone after off_delay_s."""

    id: str
    severity: Severity
    text: str
    advice: str
    on_delay_s: float = 30.0
    off_delay_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Alarm:
    """One cause's alarm. changed_s: since when the cause has been there, or been gone; since_s: since
    when the alarm stands, whoever has acknowledged it meanwhile; worst: the most severe it has been in
    the last SEEN_S, last at worst_s."""

    cause: Cause
    state: State
    active: bool
    changed_s: float
    since_s: float
    shelved_until_s: float | None = None
    suppressed: bool = False
    worst: Severity = Severity.LOW
    worst_s: float = 0.0

    @property
    def id(self) -> str:
        """The cause's."""
        return self.cause.id

    @property
    def calls(self) -> bool:
        """True when a person should look at it."""
        return (
            self.state is State.UNACKNOWLEDGED
            and self.shelved_until_s is None
            and not self.suppressed
        )

    @property
    def shown(self) -> bool:
        """True when it stands in the list at all."""
        return self.state is not State.NORMAL or self.shelved_until_s is not None


Alarms = Mapping[str, Alarm]


def step(
    alarms: Alarms, causes: Iterable[Cause], now_s: float, maintenance: Container[str] = ()
) -> dict[str, Alarm]:
    """The alarms at `now_s`, given what is wrong now. Ids that are normal are forgotten.

    maintenance: the scopes where people work (hall, row:A, equipment:crac-a1).
    """
    wrong = {c.id: c for c in causes}
    after = {}
    for name in {*alarms, *wrong}:
        alarm = _tick(alarms.get(name), wrong.get(name), now_s)
        quiet = alarm.cause.severity < Severity.CRITICAL and _tagged(name, maintenance)
        alarm = replace(alarm, suppressed=quiet)
        if alarm.shelved_until_s is not None and now_s >= alarm.shelved_until_s:
            alarm = replace(alarm, shelved_until_s=None)
        if alarm.active or alarm.shown:
            after[name] = alarm
    return after


def _tagged(name: str, maintenance: Container[str]) -> bool:
    """True when an alarm is about something that people work on: ids are scopes, or near them."""
    kind, _, rest = name.partition(":")
    equipment = rest.partition("/")[0] if kind in ("device", "point") else rest
    return "hall" in maintenance or name in maintenance or f"equipment:{equipment}" in maintenance


def _tick(before: Alarm | None, cause: Cause | None, now_s: float) -> Alarm:
    """One alarm, one instant."""
    if before is None:
        assert cause is not None
        fresh = _at_worst(Alarm(cause, State.NORMAL, True, now_s, now_s), now_s)
        return _raised(fresh, now_s) if cause.on_delay_s <= 0 else fresh
    if cause is None:
        gone = before if not before.active else replace(before, active=False, changed_s=now_s)
        return _cleared(gone, now_s)
    back = before if before.active else replace(before, active=True, changed_s=now_s)
    alarm = _at_worst(replace(back, cause=cause), now_s)
    worse = alarm.worst > before.worst
    if alarm.state is State.ACKNOWLEDGED and not worse:
        return alarm
    if alarm.state is State.ACKNOWLEDGED or now_s - alarm.changed_s >= cause.on_delay_s:
        return _raised(alarm, now_s)
    return alarm


def _at_worst(alarm: Alarm, now_s: float) -> Alarm:
    severity = alarm.cause.severity
    if severity < alarm.worst and now_s - alarm.worst_s < SEEN_S:
        return alarm
    return replace(alarm, worst=severity, worst_s=now_s)


def _raised(alarm: Alarm, now_s: float) -> Alarm:
    if alarm.state is State.UNACKNOWLEDGED:
        return alarm
    since_s = alarm.since_s if alarm.state is State.ACKNOWLEDGED else now_s
    return replace(alarm, state=State.UNACKNOWLEDGED, since_s=since_s)


def _cleared(alarm: Alarm, now_s: float) -> Alarm:
    """Gone long enough: acknowledged ones end, the others wait for somebody to have seen them."""
    if alarm.state is State.NORMAL or now_s - alarm.changed_s < alarm.cause.off_delay_s:
        return alarm
    if alarm.state is State.ACKNOWLEDGED:
        return replace(alarm, state=State.NORMAL)
    if alarm.state is State.UNACKNOWLEDGED:
        return replace(alarm, state=State.RETURNED)
    return alarm


def acknowledge(alarms: Alarms, name: str) -> dict[str, Alarm] | str:
    """Somebody has seen it. Returns the alarms, or why not."""
    alarm = alarms.get(name)
    if alarm is None or alarm.state not in (State.UNACKNOWLEDGED, State.RETURNED):
        return f"no alarm {name[:64]!r} waits to be acknowledged"
    ended = alarm.state is State.RETURNED
    state = State.NORMAL if ended else State.ACKNOWLEDGED
    return {**alarms, name: replace(alarm, state=state)}


def shelve(alarms: Alarms, name: str, now_s: float, for_s: float) -> dict[str, Alarm] | str:
    """Do not call for a while, a shift at most. Returns the alarms, or why not."""
    alarm = alarms.get(name)
    if alarm is None or not alarm.shown:
        return f"no alarm {name[:64]!r} to shelve"
    if not 0 < for_s <= MOST_SHELF_S:
        return f"an alarm is shelved for at most {MOST_SHELF_S:g} s"
    return {**alarms, name: replace(alarm, shelved_until_s=now_s + for_s)}


def unshelve(alarms: Alarms, name: str) -> dict[str, Alarm] | str:
    """Call again. Returns the alarms, or why not."""
    alarm = alarms.get(name)
    if alarm is None or alarm.shelved_until_s is None:
        return f"alarm {name[:64]!r} is not shelved"
    return {**alarms, name: replace(alarm, shelved_until_s=None)}
