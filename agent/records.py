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
from config.site import Site

if TYPE_CHECKING:
    from agent.history.service import History
    from agent.models import Models

log = structlog.get_logger(__name__)

KEEP_S = 60.0  # how often the tally of a shadow is kept and a newer model looked for


def _import() -> tuple[Any, Any]:
    return import_module("agent.history.service"), import_module("agent.models")


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
            made = Later(lambda: _import()[0].History(site, clock, environ))
            self.history = cast("History", made)
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

    async def _open(self, history: "History") -> None:
        try:
            _, models = await asyncio.to_thread(_import)
            await history.start()
            made: Models = models.Models(self._agent, history, self._environ)
            await made.start()
            self._models = self._agent.services.models = made
            self._agent.listeners.append(made.listen)
            self._recording.begin(history)
            lean.settle()
        except Exception:
            log.exception("no history until restart")

    async def _rollup(self) -> None:
        if self._ready():
            assert self.history is not None
            await self.history.rollup(self._clock.now_s())

    async def _keep(self) -> None:
        if self._models is not None:
            await self._models.keep()

    def _ready(self) -> bool:
        return self._opening is not None and self._opening.done()

    async def close(self) -> None:
        """Write what can be written and let go."""
        if self._opening is None or self.history is None:
            return
        await self._opening
        if self._models is not None:
            await self._models.stop()
        await self.history.close()
