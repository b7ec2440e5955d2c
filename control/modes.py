"""What the agent may do: the state machine of mode, arming and the kill switch.

    file's ceiling   advisory ────────────────► closed_loop       (only an edit on the host)
    running mode     advisory ◄── lower ─────── closed_loop
                        └───── raise (host, engineer, ceiling allows) ──►
    kill switch      clear ──── kill (anyone, any channel) ──► killed
                     killed ─── clear (host, engineer) ──────► clear, mode advisory

The running mode and arming persist and can only be lower than the file's. Nothing here
may raise either without a person on the host; lowering and killing are never refused.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from config.site import Point, Site
from control.types import Mode

HOST_CHANNELS = frozenset({"cli", "file", "signal"})
RAISING_ROLES = frozenset({"engineer"})
SCOPES = frozenset({"row", "zone", "equipment"})  # beside "hall"


class Event(StrEnum):
    """What can happen to the mode."""

    LOWER = "lower"
    RAISE = "raise"
    ARM = "arm"
    DISARM = "disarm"
    KILL = "kill"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class Modes:
    """The running mode, the armed scopes and the kill switch, under the file's ceiling.

    barred: scopes disarmed inside an armed one (a row of an armed hall).
    """

    ceiling: Mode
    allowed: frozenset[str]  # the scopes that the file arms at most
    mode: Mode
    armed: frozenset[str]
    killed: bool = False
    barred: frozenset[str] = frozenset()

    @property
    def may_act(self) -> bool:
        """True when anything at all may be written for a loop."""
        return self.mode is Mode.CLOSED_LOOP and not self.killed


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an event changes nothing."""

    reason: str


def initial(site: Site, stored: Modes | None) -> Modes:
    """The modes at start: the file's, lowered to what was running when last stored."""
    ceiling = Mode(site.agent.mode)
    allowed = frozenset(site.agent.armed)
    if stored is None:
        return Modes(ceiling, allowed, ceiling, allowed)
    mode = ceiling if stored.mode is Mode.CLOSED_LOOP else Mode.ADVISORY
    # A scope the file newly arms stays unarmed until a person arms it, unless the file
    # has changed: then the person who edited it on the host has decided.
    edited = (stored.ceiling, stored.allowed) != (ceiling, allowed)
    if edited and not stored.killed:
        return Modes(ceiling, allowed, ceiling, allowed)
    armed = stored.armed if "hall" in allowed else stored.armed & allowed
    return Modes(ceiling, allowed, mode, armed, stored.killed, stored.barred)


def narrowed(modes: Modes, site: Site) -> Modes:
    """The running modes under another version of the site file: never more than before."""
    ceiling, allowed = Mode(site.agent.mode), frozenset(site.agent.armed)
    mode = modes.mode if ceiling is Mode.CLOSED_LOOP else Mode.ADVISORY
    if "hall" in allowed:
        armed = modes.armed
    else:  # who armed the hall had armed each of its parts
        armed = allowed if "hall" in modes.armed else modes.armed & allowed
    return replace(modes, ceiling=ceiling, allowed=allowed, mode=mode, armed=armed)


def step(modes: Modes, event: Event, scope: str, channel: str, role: str) -> Modes | Refusal:
    """Apply one event. `scope` is used by arm and disarm, "" elsewhere."""
    if event is Event.KILL:
        return replace(modes, killed=True)
    if event is Event.LOWER:
        return replace(modes, mode=Mode.ADVISORY)
    if event is Event.DISARM:
        if scope in ("", "hall"):
            return replace(modes, armed=frozenset(), barred=frozenset())
        return replace(modes, armed=modes.armed - {scope}, barred=modes.barred | {scope})
    if channel not in HOST_CHANNELS or role not in RAISING_ROLES:
        return Refusal(f"{event} needs an engineer on the host, not {role} over {channel}")
    if event is Event.CLEAR:
        return replace(modes, killed=False, mode=Mode.ADVISORY) if modes.killed else modes
    if modes.killed:
        return Refusal("the kill switch is on: clear it first (skadi kill --clear)")
    if modes.ceiling is not Mode.CLOSED_LOOP:
        return Refusal("the site file says advisory: edit agent.mode on the host and restart")
    if event is Event.RAISE:
        return replace(modes, mode=Mode.CLOSED_LOOP)
    if not modes.allowed & {scope, "hall"}:
        return Refusal(f"the site file does not arm {scope!r}: edit agent.armed and restart")
    barred = frozenset() if scope == "hall" else modes.barred - {scope}
    return replace(modes, armed=modes.armed | {scope}, barred=barred)


def in_scope(point: Point, scope: str) -> bool:
    """True when a scope (hall, row:A, zone:Z, equipment:E) takes in this point."""
    if scope == "hall":
        return True
    kind, _, name = scope.partition(":")
    return kind in SCOPES and getattr(point, kind) == name


def may_write(modes: Modes, point: Point) -> bool:
    """True when this point may be written now: closed loop, not killed, armed and not barred."""
    if not modes.may_act or any(in_scope(point, scope) for scope in modes.barred):
        return False
    return any(in_scope(point, scope) for scope in modes.armed)
