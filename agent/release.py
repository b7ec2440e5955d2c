"""Gives back every setpoint that may stand on a device because of us. Needs only the journal
and the drivers: no configuration, no broker, no history. Safe to run twice.

systemd runs it whenever the agent stops, for any reason, and the agent itself when it starts.
Cooling first, then work. Bounded in time; what can't be given back stays in the journal and is
said. What an interlock holds still is left as it is: nothing moves until a person has looked.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent.clock import Clock, WallClock
from agent.executor import Executor
from agent.journal import Journal, copy_path
from config.site import Point
from control.modes import in_scope
from control.types import Ending, Overridden, Receipt, Target
from drivers.contract import Driver, DriverError
from drivers.gate import Gate
from drivers.registry import make_driver

log = structlog.get_logger(__name__)

DEADLINE_S = 25.0  # wall time, the last try included
PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Released:
    """What was given back, what an operator holds, and what still stands, with why."""

    given_back: tuple[str, ...]
    yielded: tuple[str, ...]
    left: Mapping[str, str]


async def release(
    journal_path: Path, environ: Mapping[str, str], clock: Clock | None = None,
    fenced: Callable[[], bool] = bool,
) -> Released:  # fmt: skip
    """Give everything back, unless `fenced` (see Gate). Raises JournalError when neither the
    journal nor its copy is there."""
    if not any(path.exists() for path in (journal_path, copy_path(journal_path))):
        return Released((), (), {})
    clock = clock or WallClock()
    journal = Journal(journal_path, lambda: (clock.boot_id, clock.boot_s()))
    drivers: dict[str, Driver] = {}
    try:
        left: dict[str, str] = {}
        for name, device in journal.devices().items():
            try:
                drivers[name] = make_driver(device, environ)
            except DriverError as error:
                left |= {p.key: str(error) for p in device.points}
        return await _rounds(journal, drivers, clock, left, fenced)
    finally:
        await asyncio.gather(*(d.close() for d in drivers.values()), return_exceptions=True)
        journal.close()


async def _rounds(
    journal: Journal, drivers: Mapping[str, Driver], clock: Clock, unreachable: Mapping[str, str],
    fenced: Callable[[], bool],
) -> Released:  # fmt: skip
    """Try until everything is back, or the time is up."""
    points = {p.key: p for d in drivers.values() for p in d.device.points}
    executor = Executor(Gate(points, drivers, journal, lambda _point: False, fenced), points, clock)
    left = {k: unreachable.get(k, "its device is not in the journal") for k in journal.held()}
    left |= dict.fromkeys(ours := list(executor.held), "its device did not answer in time")
    still = {k: f"interlock {i} holds it" for k, i in _held_still(journal, points).items()}
    done: dict[str, Receipt] = {}
    try:
        async with asyncio.timeout(DEADLINE_S):
            while wanted := [k for k in executor.held if k not in still]:
                for outcome in await executor.end(
                    [Ending(k, Target.BASELINE, "released") for k in wanted]
                ):
                    receipt = outcome.receipt
                    done[receipt.point] = receipt
                    left[receipt.point] = repr(receipt)
                if any(k in executor.held for k in wanted):
                    await asyncio.sleep(PAUSE_S)
    except TimeoutError:
        log.error("setpoints are left on devices", after_s=DEADLINE_S)
    gone = [k for k in ours if k not in executor.held]
    theirs = {k for k in gone if isinstance(done.get(k), Overridden)}
    return Released(
        tuple(k for k in gone if k not in theirs),
        tuple(k for k in gone if k in theirs),
        {k: still.get(k, why) for k, why in left.items() if k not in gone},
    )


def _held_still(journal: Journal, points: Mapping[str, Point]) -> dict[str, str]:
    """The points that a tripped interlock holds, with its id."""
    holds = (journal.kept("latches") or {}).get("holds", ())
    return {
        k: name
        for name, scope, only in holds
        for k, p in points.items()
        if in_scope(p, scope) and (not only or p.quantity in only)
    }
