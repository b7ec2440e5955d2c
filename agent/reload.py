"""Takes over an edited site file while the agent runs: validate, compare, swap only what changed.

All or nothing: a file with a problem, a change that would widen the envelope, or a setpoint that
can't be given back first, and everything stays as it was. Must never stop control meanwhile.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from agent.adopt import Compiled, adopt, compiled
from agent.surfaces import SurfaceError
from config.compare import Comparison, compare
from config.errors import ConfigError
from config.loader import load_site
from config.secrets import SecretError
from config.site import Site
from control.types import Ending, Target
from drivers.contract import Driver, DriverError
from drivers.gate import Gate
from drivers.registry import make_driver

if TYPE_CHECKING:
    from agent.run import Running

log = structlog.get_logger("skadi")

Answer = tuple[bool, dict[str, Any], bool]  # done, detail, refused

QUIET_TRIES, QUIET_S = 400, 0.05  # how long a decision under way is waited for


class Reloader:
    """One site's reload. Calling it twice at once does it one after the other."""

    def __init__(self, running: "Running") -> None:
        self._running = running
        self._turn = asyncio.Lock()

    async def __call__(self) -> Answer:
        """Read the site file again and take it over."""
        async with self._turn:
            return await self._reload()

    async def _reload(self) -> Answer:
        from agent.run import StartError, load_model  # it makes us

        running, old = self._running, self._running.site
        assert old.source is not None
        try:
            new = await asyncio.to_thread(load_site, Path(old.source))
        except ConfigError as error:
            told = [str(p) for p in error.problems]
            return _unchanged(f"{len(told)} problems in the site file", told)
        found = compare(old, new)
        if found.refused:
            ok, detail, _ = _unchanged(
                "some of it can't change while it runs", [str(c) for c in found.refused]
            )
            return ok, detail, True
        if not found.changes:
            return True, {"changed": []}, False
        drivers: dict[str, Driver] = {}
        try:
            trained = running.agent.trained
            if new.ims.model != old.ims.model:
                trained = await asyncio.to_thread(load_model, new)
            ready = compiled(new, trained)
            running.surfaces.prepare(new)
            for device in new.devices:
                if device.id in found.devices and device.protocol != "push":
                    drivers[device.id] = make_driver(device, running.environ)
        except (StartError, SurfaceError, SecretError, DriverError, OSError, ValueError) as error:
            return _unchanged(str(error), [])
        if why := await self._give_back(new):
            return _unchanged(why, [])
        if why := await self._swap(ready, drivers, found):
            return _unchanged(why, [])
        told = [str(c) for c in found.changes]
        log.info("site file taken over", changed=told)
        return True, {"changed": told}, False

    async def _give_back(self, new: Site) -> str:
        """What is held outside the new envelope goes back by the old one. Why it can't, or ""."""
        agent = self._running.agent
        lost = [k for k, x in agent.control.leases.items() if not _fits(new, k, x.value)]
        if lost:
            reason = "the site file no longer allows it"
            await agent.end([Ending(k, Target.BASELINE, reason) for k in lost])
        left = [k for k in lost if k in agent.control.leases or k in agent.control.owed]
        return f"{', '.join(left)}: held, and can't be given back now" if left else ""

    async def _swap(self, ready: Compiled, drivers: dict[str, Driver], found: Comparison) -> str:
        running, agent = self._running, self._running.agent
        before = {d: running.drivers[d] for d in found.devices if d in running.drivers}
        await running.poller.drop(before)
        for _ in range(QUIET_TRIES):
            if not agent.under_way:
                break
            await running.clock.sleep_s(QUIET_S * running.clock.speed)
        else:
            running.poller.add(list(before.values()))
            return "the agent is in the middle of a change: try again"
        # From here on nothing waits until all is assigned, so nothing sees half of it.
        self._assign(ready, drivers, found)
        await asyncio.gather(*(d.close() for d in before.values()), return_exceptions=True)
        running.poller.add(list(drivers.values()))
        running.reschedule()
        return ""

    def _assign(self, ready: Compiled, drivers: dict[str, Driver], found: Comparison) -> None:
        running = self._running
        for name in found.devices:
            running.drivers.pop(name, None)
        running.drivers |= drivers
        running.site = ready.site
        gate = Gate(ready.site.points, running.drivers, running.journal, running.agent.may_write)
        adopt(running.agent, ready, gate)
        running.surfaces.adopt()
        if running.records.history is not None:
            running.records.history.adopt(ready.site)
        if running.mirror is not None:
            running.mirror.adopt(ready.site)


def _fits(site: Site, key: str, value: float) -> bool:
    point = site.points.get(key)
    w = point.writable if point is not None else None
    return w is not None and w.min <= value <= w.max


def _unchanged(why: str, problems: list[str]) -> Answer:
    reason = f"nothing was changed: {why}" + (f": {'; '.join(problems[:5])}" if problems else "")
    return False, {"reason": reason[:1_000], "problems": problems[:100]}, False
