"""Runs the agent on a site until it is told to stop: tasks, jobs, signals, and a clean end.

Owns the order of things. Start: lock, journal, devices, giving back what a former run left,
then the loops. Stop: loops first, then giving back, then the rest. One writer a site.
"""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from agent import lean
from agent.boosting import renew
from agent.clock import WallClock
from agent.core import Agent
from agent.health import PERIOD_S, Health
from agent.jobs import Job, Scheduler
from agent.journal import Journal
from agent.local import KILL_FILE, LocalDoor
from agent.locks import Locked, Writers, lock_folder
from agent.memory import not_commissioned
from agent.mqtt.mirror import Mirror
from agent.notify import Notifier
from agent.operations.table import Caller, call
from agent.polling import Poller
from agent.publish import publish_to
from agent.records import Records
from agent.release import release
from agent.reload import Reloader
from agent.surfaces import SurfaceError, Surfaces
from config.loader import site_environment
from config.site import Point, Site
from control.forecast import DAY_S
from control.modes import Event
from control.monitor import Trained
from drivers.contract import Driver
from drivers.gate import Gate, JournalError
from drivers.registry import make_driver

if TYPE_CHECKING:
    from agent.pair import Pair

log = structlog.get_logger("skadi")

KILL_LOOK_S = 0.5  # how often the kill file is looked for


class StartError(Exception):
    """The agent can't start. The message says why and what to do."""


def load_model(site: Site) -> Trained | None:
    """The trained model the site file names. Raises StartError when it can't be used."""
    if site.ims.model is None:
        return None
    base = site.source.parent if site.source else Path()
    path = base / site.ims.model
    try:
        return Trained.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError) as error:
        raise StartError(f"ims.model {path}: {error}; train one with skadi train") from error


class Running:
    """One site being run."""

    def __init__(
        self, site: Site, clock: WallClock, model: Trained | None, pair: "Pair | None" = None
    ) -> None:
        self.site, self.clock, self._pair = site, clock, pair
        self.folder = Path(site.agent.data_dir)
        self.environ = environ = environment(site)
        self.drivers: dict[str, Driver] = {
            d.id: make_driver(d, environ) for d in site.devices if d.protocol != "push"
        }
        self.journal = Journal(self.folder / "journal.db", lambda: (clock.boot_id, clock.boot_s()))
        self.agent = Agent(site, clock, self.journal, self._gate, model)
        self.records = Records(self.agent, site, clock, environ)
        self.mirror = (
            Mirror(site, clock, environ, folder=self.folder / "mqtt") if site.mqtt else None
        )
        self.poller = Poller(list(self.drivers.values()), clock, self.agent.take)
        self.door = LocalDoor(self.agent, self.folder)
        self.surfaces = Surfaces(
            self.agent, self.records.history, self.mirror, self.poller.stats, environ
        )
        self.health = Health(self.agent, self.mirror.publish_health if self.mirror else None)
        self.notifier = Notifier()
        self.agent.services.reload = Reloader(self)
        self._scheduler: Scheduler | None = None
        self.stopping = asyncio.Event()

    def _gate(self, armed: Callable[[Point], bool]) -> Gate:
        pair = self._pair
        if pair is None:
            return Gate(self.site.points, self.drivers, self.journal, armed)
        return Gate(self.site.points, self.drivers, self.journal,
                    lambda point: pair.valid and armed(point), pair.fenced)  # fmt: skip

    def jobs(self) -> list[Job]:
        """The table of periodic jobs."""
        loops = self.site.loops
        return [
            Job("kill_file", KILL_LOOK_S, self._look_for_kill_file, light=True),
            Job("ims_mms", loops.ims_mms_s, self.agent.observe),
            Job("fast", loops.fast_s, self._fast),
            Job("slow", loops.slow_s, self.agent.slow),
            *self.records.jobs(),
            Job("forecasts", DAY_S, partial(renew, self.agent)),
            Job("health", PERIOD_S, self.health.run),
        ]

    def reschedule(self) -> None:
        """Go on with the periods of the site as it is now."""
        if self._scheduler is not None:
            self._scheduler.reschedule(self.jobs())

    async def _fast(self) -> None:
        """A fast cycle. The watchdog is fed at its end: a loop that stalls is killed."""
        await self.agent.fast()
        self.notifier.watchdog()

    async def _look_for_kill_file(self) -> None:
        """Within a second, whatever else goes on."""
        if (self.folder / KILL_FILE).exists() and not self.agent.control.modes.killed:
            await self.agent.change_mode(Event.KILL, "", "file", "engineer")

    async def run(self) -> None:
        """Run until a signal."""
        self._catch_signals()
        scheduler = self._scheduler = Scheduler(self.jobs(), self.clock)
        try:
            await self._start()
            scheduler.start()
            self.notifier.ready()
            lean.settle()
            log.info("running", site=self.site.id, mode=self.agent.control.modes.mode.value,
                     armed=sorted(self.agent.control.modes.armed), devices=len(self.drivers),
                     points=len(self.site.points), model=bool(self.agent.setting.monitor))  # fmt: skip
            if untried := not_commissioned(self.site, self.agent.control.commissioned):
                log.warning("not commissioned: the loops leave these points alone", points=untried,
                            how="skadi commission POINT")  # fmt: skip
            await self.stopping.wait()
        finally:
            self.notifier.stopping()
            await scheduler.stop()
            await self._stop()

    async def _start(self) -> None:
        if self.mirror is not None:
            self.mirror.start()
            self.agent.listeners.append(publish_to(self.mirror, self.agent))
        if self._pair is not None:
            self.agent.listeners.append(self._pair.nudge)
        await self.door.open()
        await self._look_for_kill_file()
        await self.agent.recover()
        await self.surfaces.start()
        self.poller.start()
        self.records.open()

    async def _stop(self) -> None:
        """Loops have ended. Give back, then let go of everything else."""
        await self.surfaces.stop()
        await self.agent.stop()
        self.agent.note(
            "stopped",
            {"counts": {k: getattr(self.agent.counts, k) for k in self.agent.counts.__slots__}},
        )
        await self.poller.stop()
        await self.door.close()
        await asyncio.gather(*(d.close() for d in self.drivers.values()), return_exceptions=True)
        if self.mirror is not None:
            await self.mirror.stop()
        await self.records.close()
        self.journal.close()

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT) if self._pair is None else ():
            loop.add_signal_handler(number, self.stopping.set)
        loop.add_signal_handler(signal.SIGUSR1, self._killed_by_signal)
        loop.add_signal_handler(signal.SIGHUP, self._reload_by_signal)

    def _killed_by_signal(self) -> None:
        """SIGUSR1 is the kill switch for when nothing else is at hand."""
        self._kill = asyncio.create_task(
            self.agent.change_mode(Event.KILL, "", "signal", "operator")
        )

    def _reload_by_signal(self) -> None:
        """SIGHUP: the same as `skadi reload`; what came of it is in the log and the audit."""
        who = Caller("signal", "signal", "engineer")
        self._reload = asyncio.create_task(call(self.agent, "reload", {}, who))


async def run_site(site: Site, clock: WallClock) -> None:
    """Run a site until SIGTERM or SIGINT. Raises StartError before it starts.

    First of all, what a former run left is given back by the journal alone: the site file may
    have changed since.
    """
    writers = Writers()
    try:
        with lock_folder(Path(site.agent.data_dir)):
            if site.pair is None:
                await _run(site, clock, writers)
            else:
                from agent.pair import Pair, run_in_pair

                pair = Pair(site, clock, environment(site))
                await run_in_pair(
                    pair, Notifier(), lambda p, lapsed: _run(site, clock, writers, p, lapsed)
                )
    except (Locked, JournalError, SurfaceError) as error:
        raise StartError(str(error)) from error
    finally:
        writers.free()


async def _run(
    site: Site,
    clock: WallClock,
    writers: Writers,
    pair: "Pair | None" = None,
    lapsed: asyncio.Event | None = None,
) -> None:
    """Give back what a former run left, then run: until a signal, or `lapsed`."""
    if site.agent.mode == "closed_loop":
        writers.claim(site.devices)
    journal, env = Path(site.agent.data_dir) / "journal.db", environment(site)
    left = await (
        release(journal, env, clock, pair.fenced) if pair else release(journal, env, clock)
    )
    if left.left:
        log.error("left by a former run, and not given back yet", points=dict(left.left))
    running = Running(site, clock, load_model(site), pair)
    if lapsed is not None:
        running.stopping = lapsed
    await running.run()
    writers.free()


def environment(site: Site) -> dict[str, str]:
    """The environment secrets are read from: the process's, over .env beside the site file."""
    return site_environment(site.source, os.environ) if site.source else dict(os.environ)
