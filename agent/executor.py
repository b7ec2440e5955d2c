"""Carries out what was decided: permits through the gate, endings through the gate, in order.

The only part of the agent that may cause a write. Completes a change over several devices
or restores all of it. Decides nothing; retries nothing in place: what failed is decided
again at the next tick.
"""

import asyncio
from collections.abc import Callable, Mapping
from itertools import groupby

import structlog

from agent.clock import Clock
from config.site import Point
from control.types import Applied, Ending, Lease, Outcome, Permit, Target, Unknown
from drivers.gate import Gate, JournalError

log = structlog.get_logger(__name__)

Leases = Callable[[], Mapping[str, Lease]]


class Executor:
    """One change at a time on the wire, whoever asked for it."""

    def __init__(self, gate: Gate, points: Mapping[str, Point], clock: Clock, leases: Leases):
        self._gate = gate
        self._points = points
        self._clock = clock
        self._leases = leases
        self._wire = asyncio.Lock()

    async def apply(self, permit: Permit) -> tuple[list[Outcome], list[Outcome]]:
        """Carry out a permit. Returns (outcomes, what undoing an incomplete change gave)."""
        async with self._wire:
            done = await self._apply(permit)
            if len(done) == len(permit.proposal.changes) and all(
                isinstance(o.receipt, Applied) for o in done
            ):
                return done, []
            reached = [o.lease for o in reversed(done) if _may_stand(o) and o.lease is not None]
            undone: list[Outcome] = []
            for _, group in groupby(reached, lambda x: self._together(x.point)):
                undone += await self._give_back(list(group), Target.PREVIOUS)
            return done, undone

    async def end(self, endings: list[Ending]) -> list[Outcome]:
        """Give leases back, those of one shared change together. Cooling came first in the list."""
        leases = self._leases()
        outcomes: list[Outcome] = []
        async with self._wire:
            for (target, _), group in groupby(
                endings, lambda e: (e.target, self._together(e.point))
            ):
                held = [leases[e.point] for e in group if e.point in leases]
                if held:
                    outcomes += await self._give_back(held, target)
        return outcomes

    def _together(self, key: str) -> str:
        """Shares of traffic only make sense as a whole; everything else is ended one by one."""
        point = self._points[key]
        return point.equipment if point.quantity == "traffic_share_pct" else key

    async def _apply(self, permit: Permit) -> list[Outcome]:
        try:
            return await self._gate.apply(permit, self._leases(), self._clock.now_s())
        except JournalError as error:
            # The wire was touched and the outcome can't be recorded: the intent stands on
            # disk, so every point counts as possibly applied.
            log.critical("journal lost after a write", error=str(error))
            return [
                Outcome(Unknown(c.point, str(error)), self._leases().get(c.point))
                for c in permit.proposal.changes
            ]

    async def _give_back(self, leases: list[Lease], target: Target) -> list[Outcome]:
        try:
            return await self._gate.give_back(leases, target, self._clock.now_s())
        except JournalError as error:
            log.critical("journal lost while giving back", error=str(error))
            return [Outcome(Unknown(x.point, str(error)), x) for x in leases]


def _may_stand(outcome: Outcome) -> bool:
    """True when the device may hold what we wrote just now."""
    return isinstance(outcome.receipt, Applied | Unknown) or (
        outcome.lease is not None and not outcome.lease.certain
    )
