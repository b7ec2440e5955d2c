"""Reads many OIDs in few requests, no larger than the device can bear.

Decides how many varbinds a request carries: fewer when a device answers tooBig or is silent
where a smaller request is answered, more again after a while. An OID that makes the device
fail is set aside with its own reason, and never takes its neighbours with it.
"""

from collections.abc import Sequence

from drivers.snmp_ber import Absent, Garbled, Value
from drivers.snmp_session import NO_SUCH_NAME, TOO_BIG, Session, Status, TimedOut

# 40 varbinds are about 1,000 bytes of reply: below any Ethernet MTU.
START_VARBINDS = 40
GROW_AFTER_READS = 20
MAX_GROW_AFTER_READS = 5_000


class BatchSize:
    """How many varbinds go into one request, learned from the device.

    `size` is used now, `ceiling` is the most that was not refused lately. After silence the
    size climbs back to the ceiling by doubling; the ceiling itself is tried anew ever more
    rarely, for each try may cost a timeout.
    """

    def __init__(self, start: int = START_VARBINDS) -> None:
        self.size = start
        self.ceiling = start
        self._most = start
        self._calm = 0
        self._grow_after = GROW_AFTER_READS
        self._trying = False

    def smaller(self, than: int) -> None:
        """Use at most half of `than` varbinds from now on."""
        self.size = min(self.size, max(1, than // 2))

    def refused(self) -> None:
        """A larger request failed where the present size is answered: stay below it."""
        self.ceiling = self.size
        self._calm = 0
        if self._trying:
            self._grow_after = min(self._grow_after * 4, MAX_GROW_AFTER_READS)
            self._trying = False

    def answered(self) -> None:
        """A request of this size was answered."""
        self.size = min(self.size * 2, self.ceiling)

    def read_done(self) -> None:
        """A whole read went well; after enough of them the ceiling is tried higher."""
        self._trying = False
        self._calm += 1
        if self.ceiling < self._most and self._calm >= self._grow_after:
            self.ceiling = self.size = min(self.ceiling * 2, self._most)
            self._calm, self._trying = 0, True


Outcome = Value | str
"""A value, or in words why there is none although the device answered."""


async def read_all(session: Session, oids: Sequence[bytes], size: BatchSize) -> list[Outcome]:
    """Read all encoded OIDs. Raises Transient or Permanent when the device does not answer."""
    found: list[Outcome] = []
    while len(found) < len(oids):
        batch = oids[len(found) : len(found) + size.size]
        try:
            found += await _read(session, batch, size)
            size.answered()
        except TimedOut:  # lost, or too much for it: half of it, and then the device is gone
            size.smaller(len(batch))
            found += await _read(session, batch[: size.size], size)
            if len(batch) > size.size:
                size.refused()
    size.read_done()
    return found


async def _read(session: Session, batch: Sequence[bytes], size: BatchSize) -> list[Outcome]:
    """Read a batch, split where the device fails on it: an outcome for each OID."""
    try:
        return list(await session.get(batch))
    except Garbled as error:
        if len(batch) == 1:
            return [f"reply refused: {error}"]
    except Status as error:
        if error.status == TOO_BIG:
            size.smaller(len(batch))
            size.refused()
        elif 1 <= error.index <= len(batch):
            return await _without(session, batch, error, size)
        if len(batch) == 1:
            return [_outcome(error)]
    middle = len(batch) // 2
    first = await _read(session, batch[:middle], size)
    return [*first, *await _read(session, batch[middle:], size)]


async def _without(
    session: Session, batch: Sequence[bytes], error: Status, size: BatchSize
) -> list[Outcome]:
    """Read a batch around the one OID that the device named as faulty."""
    at = error.index - 1
    rest = [*batch[:at], *batch[at + 1 :]]
    found = await _read(session, rest, size) if rest else []
    return [*found[:at], _outcome(error), *found[at:]]


def _outcome(status: Status) -> Outcome:
    if status.status == NO_SUCH_NAME:  # v1's way to say so
        return Absent.NO_SUCH_OBJECT
    return f"the device answers {status}"
