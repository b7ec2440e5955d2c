"""Carries out what was decided: permits through the gate, endings through the gate, in order.

The only part of the agent that may cause a write. Says what must be undone when a change over
several devices stays incomplete. Decides nothing else; retries nothing: what failed is
decided again at the next tick. Devices never wait for one another when something is given
back, except that work waits for cooling.
"""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import groupby

from agent.clock import Clock
from config.quantities import WORK
from config.site import Point
from control.types import Applied, Ending, Lease, Outcome, Overridden, Permit, Target, Unknown
from drivers.gate import Gate


class Executor:
    """Hands of the agent. `held` is the book of what may stand on devices because of us."""

    def __init__(self, gate: Gate, points: Mapping[str, Point], clock: Clock) -> None:
        self._gate = gate
        self._points = points
        self._clock = clock

    @property
    def held(self) -> Mapping[str, Lease]:
        """The leases, by point, as the gate books them."""
        return self._gate.held

    def prolong(self, leases: Sequence[Lease]) -> None:
        """Let these leases, where they still stand, run until their new expiry, with baselines as old
        as they say."""
        self._gate.prolong(leases, self._clock.now_s())

    async def apply(self, permit: Permit) -> tuple[list[Outcome], list[Ending]]:
        """Carry out a permit. Returns (outcomes, what must be undone, last change first)."""
        done = await self._gate.apply(permit, self._clock.now_s)
        complete = len(done) == len(permit.proposal.changes)
        if complete and all(isinstance(o.receipt, Applied) for o in done):
            return done, []
        return done, [_undoing(o, permit) for o in reversed(done) if _may_stand(o)]

    async def end(self, endings: Sequence[Ending]) -> list[Outcome]:
        """Give leases back: devices side by side, cooling before work; undoing in its order."""
        undoing = [e for e in endings if e.target is Target.PREVIOUS]
        cooling = [e for e in endings if e not in undoing and not self._is_work(e)]
        work = [e for e in endings if e not in undoing and self._is_work(e)]
        outcomes = await self._in_turn(undoing)
        for phase in (cooling, work):
            devices: dict[str, list[Ending]] = {}
            for ending in phase:
                devices.setdefault(self._points[ending.point].device, []).append(ending)
            found = await asyncio.gather(*(self._in_turn(mine) for mine in devices.values()))
            outcomes += [o for each in found for o in each]
        return outcomes

    async def _in_turn(self, endings: Sequence[Ending]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for (target, _), group in groupby(endings, lambda e: (e.target, self._together(e.point))):
            keys = [e.point for e in group]
            outcomes += await self._gate.give_back(keys, target, self._clock.now_s)
        return outcomes

    def _together(self, key: str) -> str:
        """Shares of traffic only make sense as a whole; everything else is ended one by one."""
        point = self._points[key]
        shared = point.quantity == "traffic_share_pct"
        return f"{point.device} {point.equipment}" if shared else key

    def _is_work(self, ending: Ending) -> bool:
        return self._points[ending.point].quantity in WORK


def _may_stand(outcome: Outcome) -> bool:
    """True when the device may hold what we wrote, or our slot what an operator overrules."""
    return outcome.lease is not None and (
        isinstance(outcome.receipt, Applied | Unknown | Overridden) or not outcome.lease.certain
    )


def _undoing(outcome: Outcome, permit: Permit) -> Ending:
    """Back to what stood before this change; out of an operator's way altogether."""
    point = outcome.receipt.point
    if isinstance(outcome.receipt, Overridden):
        return Ending(point, Target.BASELINE, "an operator holds it")
    return Ending(point, Target.PREVIOUS, f"{permit.proposal.move} stayed incomplete")
