"""The rogue of the campaign: the real agent told by somebody else what to want, and a shadow of its modes."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

from agent.adopt import compiled
from agent.core import Agent
from control import endings, interlocks, leases
from control.decide import Decision
from control.guardrails import judge
from control.modes import Event
from control.state import replace as but
from control.types import Proposal
from drivers.gate import JournalError
from tests.safety.world import make_site

SITE = make_site()
MADE = compiled(SITE, None)
KNOBS = tuple(SITE.writable_points)
EVERY = frozenset(KNOBS)
SCOPES = {k: frozenset(("hall", f"row:{SITE.points[k].row}")) for k in KNOBS}


class Rogue(Agent):
    """The real agent, told by somebody else what to want."""

    wanted: Callable[[Agent, str], list[Proposal]]

    async def observe(self) -> None:
        """Interlocks alone; there is no monitor here."""
        trips = interlocks.step(self.site, self.snapshot(), self.control.trips)
        self.control = but(self.control, trips=trips)
        self.memory.keep_latches(self.control, self.site)

    async def fast(self) -> None:
        """Endings as they are, proposals as they come."""
        snapshot, cycle = self.snapshot(), self._next_cycle("x")
        noticed = endings.noticed(self._case(snapshot))
        self.memory.keep_yielded(self.control, noticed)
        self.control = noticed
        case = self._case(snapshot)
        verdicts = tuple(judge(case, p, cycle) for p in self.wanted(self, cycle))
        decision = Decision(self.control, verdicts, tuple(endings.endings(case)))
        await self._end(list(decision.endings))
        await self._carry_out(decision, snapshot)

    async def slow(self) -> None:
        """Renewals alone."""
        if renewed := leases.renewable(self._case(self.snapshot())):
            with suppress(JournalError):
                self.executor.prolong(renewed)


@cache
def _shut(armed: frozenset[str], barred: frozenset[str]) -> frozenset[str]:
    return frozenset(k for k, s in SCOPES.items() if not s & armed or s & barred)


@dataclass
class Shadow:
    """What the modes must be, told apart from the agent."""

    killed: bool = False
    closed: bool = True
    armed: set[str] = field(default_factory=lambda: {"hall"})
    barred: set[str] = field(default_factory=set)

    def shut(self) -> frozenset[str]:
        """The knobs that may not be written for a loop."""
        if self.killed or not self.closed:
            return EVERY
        return _shut(frozenset(self.armed), frozenset(self.barred))

    def hear(self, event: Event, scope: str, person: bool) -> None:
        """An event. person: an engineer on the host."""
        match event:
            case Event.KILL:
                self.killed = True
            case Event.LOWER:
                self.closed = False
            case Event.DISARM if scope == "hall":
                self.armed, self.barred = set(), set()
            case Event.DISARM:
                self.armed.discard(scope)
                self.barred.add(scope)
            case Event.CLEAR if person and self.killed:
                self.killed, self.closed = False, False
            case Event.RAISE if person and not self.killed:
                self.closed = True
            case Event.ARM if person and not self.killed:
                self.armed.add(scope)
                self.barred = set() if scope == "hall" else self.barred - {scope}
