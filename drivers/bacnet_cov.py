"""COV subscriptions of one BACnet device: values that come by themselves, believed for a while.

A subscription has a finite lifetime and is renewed at half of it; a device that restarts
forgets its subscribers without a word, so what it last said is verified by polling now and
then, and a value that changed without a notification makes the subscription void.

A value is as old as the last word about it, a notification or a poll: silence ages it, it
never counts as "unchanged". An object the device won't subscribe to is polled.

Must never take a notification that is not the subscriber's own: sender, process, object and
property are compared. Facts: ASHRAE 135, 13.1 (COV), 13.14 (SubscribeCOV).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from drivers.bacnet_codec import (
    PRESENT_VALUE,
    STATUS_FLAGS,
    SUBSCRIBE_COV,
    Ref,
    encode_subscribe,
)
from drivers.bacnet_net import Ack, Outcome
from drivers.bacnet_tags import Item, Malformed, TagReader

Ask = Callable[[int, bytes], Awaitable[Outcome]]
Result = tuple[Item, ...]

TOLD = frozenset({PRESENT_VALUE, STATUS_FLAGS})  # 13.1: what a notification carries
RENEWALS_A_READ = 8  # so that renewing many never delays a read by much
_processes = count(1)


@dataclass(slots=True)
class _Watched:
    """One object: until when the device promised to tell, and what it last said."""

    object: Ref  # its present value
    until_s: float = 0.0  # on the loop's clock
    declined: bool = False
    # by property; with the agent's time of it, never later than it was
    said: dict[int, tuple[Result, float]] = field(default_factory=dict)


@dataclass
class Subscriptions:
    """What one device tells by itself. Times of `now_s` are the agent's, others the loop's.

    `refs`: what is read of the device. Objects whose present value is among them are
    subscribed to; a notification tells present value and status flags.
    """

    refs: Sequence[Ref]
    lifetime_s: int
    verify_s: float
    process: int = field(default_factory=lambda: next(_processes))

    def __post_init__(self) -> None:
        self._watched = {
            (r.type, r.instance): _Watched(r) for r in self.refs if r.property == PRESENT_VALUE
        }
        self._last_read_s: float | None = None
        self._verify_at_s = 0.0

    async def renew(self, ask: Ask) -> None:
        """Subscribe, or renew what has half its lifetime left; a few at a time."""
        loop = asyncio.get_running_loop()
        due = [
            w
            for w in self._watched.values()
            if not w.declined and w.until_s - loop.time() < self.lifetime_s / 2
        ]
        for watched in due[:RENEWALS_A_READ]:
            asked_s = loop.time()
            body = encode_subscribe(self.process, watched.object, self.lifetime_s)
            match await ask(SUBSCRIBE_COV, body):
                case Ack(body=b""):
                    watched.until_s = asked_s + self.lifetime_s
                case _:
                    watched.declined = True
                    watched.said.clear()

    def to_poll(self, now_s: float) -> tuple[Ref, ...]:
        """What must be asked for now: all when a check is due, else what nobody tells us."""
        loop_s = asyncio.get_running_loop().time()
        if self._last_read_s is None or now_s >= self._verify_at_s:
            self._verify_at_s = now_s + self.verify_s
            return tuple(self.refs)
        return tuple(r for r in self.refs if not self._told(r, loop_s))

    def _told(self, ref: Ref, loop_s: float) -> bool:
        watched = self._watched.get((ref.type, ref.instance))
        return watched is not None and ref.property in watched.said and loop_s < watched.until_s

    def polled(self, ref: Ref, result: object, now_s: float) -> None:
        """A poll's word. One that differs from what was told voids the subscription."""
        watched = self._watched.get((ref.type, ref.instance))
        if watched is None or watched.declined or ref.property not in TOLD:
            return
        before = watched.said.pop(ref.property, None)
        if isinstance(result, tuple):
            if before is not None and before[0] != result:
                watched.until_s = 0.0
            watched.said[ref.property] = (result, now_s)

    def known(self, ref: Ref) -> tuple[Result, float] | None:
        """The last word about `ref` and the agent's time of it."""
        watched = self._watched.get((ref.type, ref.instance))
        return None if watched is None else watched.said.get(ref.property)

    def read_done(self, now_s: float) -> None:
        """A read is over: what comes until the next is stamped with this read's time."""
        self._last_read_s = now_s

    def notified(self, type_: int, instance: int, values: Sequence[tuple[int, bytes]]) -> None:
        """A notification came: (property, value between its tags 2) pairs of one object.

        It is stamped with the last read's time: later than that it was, by how much only the
        wall clock knows, and the agent's may run faster.
        """
        watched = self._watched.get((type_, instance))
        if watched is None or watched.declined or self._last_read_s is None:
            return
        for property_, encoded in values:
            if property_ in TOLD:
                try:
                    items = TagReader(encoded).items(2)
                except Malformed:
                    continue  # the next poll will tell
                watched.said[property_] = (items, self._last_read_s)

    def forget(self) -> None:
        """The device was away: whatever it promised, it may have forgotten."""
        for watched in self._watched.values():
            watched.until_s, watched.declined = 0.0, False
            watched.said.clear()
        self._verify_at_s = 0.0
