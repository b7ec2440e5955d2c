"""What happens, in order and numbered: the ring that WebSocket clients read, resume and fall out of.

Decides how much is kept. A client has no queue of its own: it reads from the ring at its own
pace, and one that is too slow finds its place gone and is told so. Must never wait for a reader,
nor raise into the agent.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

from agent.clock import Clock, utc
from agent.plain import plain, strict_json
from control.layout import HALL

ROOM_EVENTS = 4_096
ROOM_BYTES = 8_000_000
MOST_BYTES = 65_536  # of one event; what is longer is cut to its keys

TYPES = ("kpi", "monitor", "action", "ending", "judged", "decision", "trouble", "alarm", "event")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, as it goes out."""

    seq: int
    type: str
    text: str


class Hub:
    """The ring. `listen` is a listener of the agent; readers call `after` and `wait`."""

    def __init__(self, clock: Clock, nonce: str) -> None:
        self.nonce = nonce
        self.seq = 0
        self.version = 0  # counts everything that can change an answer, readings included
        self.observed_s: float | None = None  # when the monitor last completed a cycle
        self._clock = clock
        self._ring: deque[Event] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()

    def listen(self, kind: str, detail: dict[str, Any]) -> None:
        """A listener of the agent."""
        self.version += 1
        match kind:
            case "readings":
                return
            case "findings":
                self.put("monitor", _monitored(detail["findings"]))
            case "kpi":
                self.observed_s = self._clock.now_s()
                body = {k: v for k, v in detail.items() if k not in ("counts", "ts_s")}
                self.put("kpi", body)
            case _:
                self.put(kind if kind in TYPES else "event", _timed(detail))

    def put(self, type_: str, body: dict[str, Any]) -> None:
        """Add an event and wake the readers."""
        self.seq += 1
        self.version += 1
        head = {"seq": self.seq, "ts": utc(self._clock.now_s()), "type": type_}
        text = strict_json({**head, "body": body})
        if len(text) > MOST_BYTES:
            text = strict_json({**head, "body": {"cut": sorted(map(str, body))[:50]}})
        self._ring.append(Event(self.seq, type_, text))
        self._bytes += len(text)
        while len(self._ring) > ROOM_EVENTS or self._bytes > ROOM_BYTES:
            self._bytes -= len(self._ring.popleft().text)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @property
    def oldest(self) -> int:
        """The first number that is still kept; the next one when none is."""
        return self._ring[0].seq if self._ring else self.seq + 1

    def after(self, seq: int, most: int = 256) -> list[Event]:
        """The events after `seq`, oldest first, as far as they are kept."""
        skip = max(0, seq + 1 - self.oldest)
        if skip >= len(self._ring):
            return []
        return [self._ring[i] for i in range(skip, min(skip + most, len(self._ring)))]

    async def wait(self, seq: int) -> None:
        """Until there is an event after `seq`."""
        while self.seq <= seq:
            await self._changed.wait()


def _monitored(findings: dict[str, Any]) -> dict[str, Any]:
    """What the monitor says of rows and the hall; racks are in /heatmap."""
    said = {
        unit: {"state": f.state, "deviation": f.deviation, "ema": f.ema, "since": utc(f.since_s),
               "top": list(f.top)}
        for unit, f in findings.items() if not unit.startswith("rack:")
    }  # fmt: skip
    hall = said.pop(HALL, None)
    return {"rows": {unit.removeprefix("row:"): row for unit, row in said.items()}, "hall": hall}


def _timed(detail: dict[str, Any]) -> dict[str, Any]:
    """Plain values; the moment as UTC text."""
    body: dict[str, Any] = plain(detail)
    if isinstance(at_s := detail.get("ts_s"), int | float):
        del body["ts_s"]
        body["ts"] = utc(at_s)
    return body
