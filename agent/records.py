"""History and the models kept in it: what a running site has of them, and when they come.

Decides that no reading waits for them: they are imported and opened behind the first polls, as
their libraries take longer to import than all the rest. What is told meanwhile is kept for them.
"""

import asyncio
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import structlog

from agent import lean
from agent.clock import WallClock
from agent.core import Agent
from agent.jobs import Job
from agent.later import Later
from agent.publish import Recording
from agent.services import HistoryDown, HistoryStatus
from config.site import Site

if TYPE_CHECKING:
    from agent.history.service import History
    from agent.models import Models

log = structlog.get_logger(__name__)

RESTART = "no history until restart"
KEEP_S = 60.0  # how often the tally of a shadow is kept and a newer model looked for


def _import() -> tuple[Any, Any]:
    return import_module("agent.history.service"), import_module("agent.models")


class Opening(Later):
    """History before and while it opens, and when it could not: its status is known at any time,
    and whatever is asked of one that failed raises HistoryDown."""

    failed = ""

    @property
    def status(self) -> HistoryStatus:
        """How history is doing."""
        if self.failed or "_made" not in vars(self):
            return HistoryStatus("", self.failed, 0, 0, 0)
        status: HistoryStatus = self._made.status
        return status

    def __getattr__(self, name: str) -> Any:
        """What history has."""
        if self.failed:
            raise HistoryDown(self.failed)
        return super().__getattr__(name)


class Records:
    """`open()` when devices are polled, `await close()` at the end. history: None where the site
    has it switched off; then there are no models but the one the site file names."""

    def __init__(
        self, agent: Agent, site: Site, clock: WallClock, environ: Mapping[str, str]
    ) -> None:
        self._agent, self._clock, self._environ = agent, clock, environ
        self._recording = Recording()
        self._models: Models | None = None
        self._opening: asyncio.Task[None] | None = None
        self.history: History | None = None
        if site.history.enabled:
            self._history = Opening(lambda: _import()[0].History(site, clock, environ))
            self.history = cast("History", self._history)
            agent.listeners.append(self._recording.listen)

    def jobs(self) -> list[Job]:
        """Their periodic jobs."""
        if self.history is None:
            return []
        period_s = self._agent.site.loops.rollup_s
        return [Job("rollup", period_s, self._rollup), Job("models", KEEP_S, self._keep)]

    def open(self) -> None:
        """Begin to open, in the background."""
        if self.history is not None:
            opening = self._open(self.history)
            self._opening = asyncio.create_task(opening, name="history: open")
            self._opening.add_done_callback(self._opened)

    async def _open(self, history: "History") -> None:
        """A database that is away raises nothing here: it is tried again for as long as it takes."""
        _, models = await asyncio.to_thread(_import)
        await history.start()
        made: Models = models.Models(self._agent, history, self._environ)
        await made.start()
        self._models = self._agent.services.models = made
        self._agent.listeners.append(made.listen)
        self._recording.begin(history)
        lean.settle()

    def _opened(self, task: asyncio.Task[None]) -> None:
        """What it could not be opened for is Skadi's own error or its libraries': the hall is
        controlled all the same, and status, alarms, readyz and metrics say that history is not kept."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._history.failed = f"{RESTART}: {type(error).__name__}: {error}"[:300]
        self._agent.listeners.remove(self._recording.listen)
        log.critical(RESTART, reason=str(error), exc_info=error)

    async def _rollup(self) -> None:
        if self._ready():
            assert self.history is not None
            await self.history.rollup(self._clock.now_s())

    async def _keep(self) -> None:
        if self._models is not None:
            await self._models.keep()

    def _ready(self) -> bool:
        return self._opening is not None and self._opening.done() and not self._history.failed

    async def close(self) -> None:
        """Write what can be written and let go."""
        if self._opening is None or self.history is None:
            return
        await asyncio.wait({self._opening})
        if self._models is not None:
            await self._models.stop()
        if not self._history.failed:
            await self.history.close()
