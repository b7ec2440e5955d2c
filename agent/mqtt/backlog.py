"""What waits on disk while the broker is away, and goes out afterwards marked `backfill: true`.

Decides when rows are written (in batches, by its own thread) and when they are forgotten: once the
broker has acknowledged a whole segment, so that a segment may come twice but none gets lost within
the bound. Between the loop and the disk stands a queue: nothing here blocks the event loop.
"""

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import structlog

from agent.history.spool import Segment, Spool

log = structlog.get_logger(__name__)

STREAM = "mqtt"
FLUSH_S = 5.0
FLUSH_MOST_S = 60.0  # the more waits, the longer: a long outage must not be a million files
EASY = 100  # segments
BATCH = 500
WAITING = 10_000  # rows between the loop and the disk: a disk that stalls costs the oldest
SAMPLE_S = 60.0  # a state is kept so often while nobody hears it
ACK_S = 10.0


class Sent(Protocol):
    """A message on its way (paho's MQTTMessageInfo)."""

    def wait_for_publish(self, timeout: float | None = None) -> None:
        """Until the broker has acknowledged it. Raises RuntimeError, ValueError."""

    def is_published(self) -> bool:
        """True when it has."""


# Publishes one message. None: not now (away, or the broker is slower than we are).
Publish = Callable[[str, str], Sent | None]


class Backlog:
    """A spool and the thread that fills and empties it. `start`, `keep`, `wake`, `stop`."""

    def __init__(self, folder: Path, most_bytes: int, publish: Publish) -> None:
        self._spool = Spool(folder, most_bytes)
        self._publish = publish
        self._rows: deque[tuple[float, str, str]] = deque(maxlen=WAITING)
        self._sampled: dict[str, float] = {}
        self._wake = threading.Event()
        self._ending = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="mqtt: backlog", daemon=True)

    @property
    def rows(self) -> int:
        """Messages that wait."""
        return self._spool.rows + len(self._rows)

    @property
    def dropped(self) -> int:
        """Messages that gave way to the bound."""
        return self._spool.dropped

    def start(self) -> None:
        """Find what a former run left, and begin."""
        try:
            self._spool.load()
        except OSError as error:
            log.error("MQTT backlog can't be read", reason=str(error))
        self._thread.start()

    def keep(self, now_s: float, topic: str, payload: str) -> None:
        """Keep a message (a JSON object) for later."""
        self._rows.append((now_s, topic, f'{{"backfill":true,{payload[1:]}'))
        if len(self._rows) >= BATCH:
            self._wake.set()

    def sample(self, now_s: float, topic: str, payload: str) -> None:
        """Keep a state for later, one a minute of each topic."""
        if not 0 <= now_s - self._sampled.get(topic, -SAMPLE_S) < SAMPLE_S:
            self._sampled[topic] = now_s
            self.keep(now_s, topic, payload)

    def wake(self) -> None:
        """The broker is there: let it out."""
        self._wake.set()

    def stop(self, timeout_s: float) -> None:
        """Write down what waits, and end. Blocks: call it in a thread."""
        self._ending = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ending:
            self._wake.wait(min(FLUSH_S * (1 + len(self._spool) / EASY), FLUSH_MOST_S))
            self._wake.clear()
            self._flush()
            while not self._ending and (segment := self._spool.oldest) is not None:
                if not self._send(segment):
                    break
        self._flush()

    def _flush(self) -> None:
        rows: list[Any] = []
        while self._rows:
            rows.append(self._rows.popleft())
        if not rows:
            return
        try:
            self._spool.put(STREAM, rows, 0)
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.error("MQTT backlog can't be written", reason=str(error), messages=len(rows))
            self._failing = True

    def _send(self, segment: Segment) -> bool:
        """Send a segment and forget it once it has arrived. False: it waits on."""
        try:
            rows = self._spool.read(segment)
        except (OSError, ValueError) as error:
            log.error("MQTT backlog damaged", file=str(segment.path), reason=str(error))
            self._spool.give_up(segment)
            return True
        under_way = []
        for _, topic, payload in rows:
            sent = self._publish(str(topic), str(payload))
            if sent is None:
                return False
            under_way.append(sent)
        try:
            for sent in under_way:
                sent.wait_for_publish(ACK_S)
        except (RuntimeError, ValueError):  # the connection went
            return False
        if not all(sent.is_published() for sent in under_way):
            return False
        self._spool.done(segment)
        return True
