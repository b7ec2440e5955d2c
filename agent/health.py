"""Tells how devices do: each one's capability and polling on MQTT, and once, at start, in the log.

Decides when the first look is complete, and what of it is worth a line. Touches no device.
"""

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from agent.api.views import Seen, devices
from agent.capability import gaps, totals
from agent.core import Agent

log = structlog.get_logger("skadi")

PERIOD_S = 30.0
PATIENCE = 4  # periods after which devices that were never reached are left out of the wait


class Health:
    """A job."""

    def __init__(self, agent: Agent, publish: Callable[[str, Mapping[str, Any]], None] | None):
        self._agent = agent
        self._publish = publish
        self._waited = 0
        self._said = False

    async def run(self) -> None:
        """Every PERIOD_S."""
        seen = self._agent.services.seen
        if seen is None:
            return
        states = devices(seen)
        for state in states if self._publish is not None else ():
            assert self._publish is not None
            self._publish(state.device, state.model_dump(mode="json"))
        self._waited += 1
        asked = all(s.polls or s.protocol == "push" for s in states)
        if not self._said and (asked or self._waited >= PATIENCE):
            self._said = True
            self._say(seen)

    def _say(self, seen: Seen) -> None:
        """Once a run: the whole matrix as an event, gaps as lines."""
        states = devices(seen)
        matrix = {s.device: s.quantities for s in states}
        for s in states:
            if lacking := gaps(s.quantities):
                log.warning("device lacks", device=s.device, gaps=lacking, why=s.reason or None)
        log.info("capability", **totals(matrix.values()), devices=len(matrix))
        body = {"kind": "capability", **totals(matrix.values()), "matrix": matrix}
        self._agent.tell("event", body)
