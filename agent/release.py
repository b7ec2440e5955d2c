"""Gives back every setpoint that may stand on a device because of us. Needs only the journal
and the drivers: no configuration, no broker, no history. Safe to run twice.

systemd runs it whenever the agent stops, for any reason. Bounded in time; what can't be given
back stays in the journal and is said.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import structlog

from agent.clock import Clock, WallClock
from agent.journal import Journal
from config.site import Device, Point
from control.types import Applied, Lease, Outcome, Overridden, Target
from drivers.contract import Driver
from drivers.gate import Gate, JournalError
from drivers.registry import make_driver

log = structlog.get_logger(__name__)

ROUNDS = 5
PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Released:
    """What was given back, what an operator holds, and what still stands."""

    given_back: tuple[str, ...]
    yielded: tuple[str, ...]
    left: Mapping[str, str]


async def release(
    journal_path: Path, environ: Mapping[str, str], clock: Clock | None = None
) -> Released:
    """Give everything back. Raises JournalError when the journal can't be read."""
    clock = clock or WallClock()
    if not journal_path.exists():
        return Released((), (), {})
    journal = Journal(journal_path)
    drivers: dict[str, Driver] = {}
    try:
        devices = journal.devices()
        drivers = {name: make_driver(device, environ) for name, device in devices.items()}
        gate = Gate(_points(devices), drivers, journal, lambda _point: False)
        return await _rounds(journal, gate, devices, clock)
    finally:
        await asyncio.gather(*(d.close() for d in drivers.values()), return_exceptions=True)
        journal.close()


def _points(devices: Mapping[str, Device]) -> dict[str, Point]:
    return {p.key: p for d in devices.values() for p in d.points}


async def _rounds(
    journal: Journal, gate: Gate, devices: Mapping[str, Device], clock: Clock
) -> Released:
    given_back: list[str] = []
    yielded: list[str] = []
    left: dict[str, str] = {}
    points = _points(devices)
    for attempt in range(ROUNDS):
        held = journal.held()
        if not held:
            break
        if attempt:
            await clock.sleep_s(PAUSE_S)
        left = {}
        outcomes = await asyncio.gather(
            *(_one(gate, group, clock.now_s()) for group in _changes(held, points))
        )
        for outcome in (o for group in outcomes for o in group):
            match outcome.receipt:
                case Applied(point, _):
                    given_back.append(point)
                case Overridden(point, _, _):
                    yielded.append(point)
                case other:
                    left[other.point] = repr(other)
    else:
        log.error("setpoints are left on devices", left=left)
    return Released(tuple(given_back), tuple(yielded), left)


def _changes(held: Mapping[str, Lease], points: Mapping[str, Point]) -> list[list[Lease]]:
    """Leases that are one change together: the traffic shares of a router; else one by one."""

    def group(lease: Lease) -> str:
        point = points[lease.point]
        return point.equipment if point.quantity == "traffic_share_pct" else point.key

    ordered = sorted(held.values(), key=group)
    return [list(leases) for _, leases in groupby(ordered, group)]


async def _one(gate: Gate, leases: list[Lease], now_s: float) -> list[Outcome]:
    try:
        return await gate.give_back(leases, Target.BASELINE, now_s)
    except JournalError as error:
        # Giving back must not depend on a disk: but what can't be recorded can't be proven,
        # so it is tried again in the next round and said if it stays so.
        log.critical("journal can't be written", error=str(error))
        return []
