"""The time that decisions are made in: no step of the wall clock reaches them.

It begins as the wall clock reads when the agent starts and then runs with the boot clock.
Ages, leases, permits and intervals are counted in it; whatever people or other systems read is
stamped by the wall clock, `offset_s` apart once somebody has set it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.clock import Clock
from control.types import Reading, Sweep

DRIFT_S = 0.5  # a smaller offset is the slewing of NTP
LONGEST_POLL_S = 60.0  # what a poll may take from its stamp to its arrival


class Steady:
    """A clock over another one (agent.clock.Clock)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_s = clock.now_s() - clock.boot_s()
        self._before_s = 0.0  # the offset before the last step

    @property
    def boot_id(self) -> str:
        """Which boot `boot_s` counts from."""
        return self._clock.boot_id

    def boot_s(self) -> float:
        """Seconds since boot."""
        return self._clock.boot_s()

    def now_s(self) -> float:
        """POSIX seconds as they would be had nobody set the clock since the start."""
        return self._clock.boot_s() + self._ahead_s

    async def sleep_s(self, seconds: float) -> None:
        """Wait so many seconds."""
        await self._clock.sleep_s(seconds)

    def offset_s(self) -> float:
        """How far the wall clock has been set since the start; 0.0 when it was not."""
        offset_s = self._clock.now_s() - self.now_s()
        return offset_s if abs(offset_s) > DRIFT_S else 0.0

    def stepped_s(self) -> float:
        """By how much the wall clock was set since this was last asked; 0.0: not at all."""
        offset_s = self.offset_s()
        step_s = offset_s - self._before_s
        if abs(step_s) <= DRIFT_S:
            return 0.0
        self._before_s = offset_s
        return step_s

    def steadied(self, readings: Sequence[Reading]) -> Sequence[Reading]:
        """Readings stamped by the wall clock, stamped in this time.

        A poll may have been under way when the clock was set: of both offsets the one counts that
        puts the reading into the last minute.
        """
        offset_s, now_s = self.offset_s(), self.now_s()
        if offset_s == self._before_s == 0.0:
            return readings
        return _restamped(readings, lambda at_s: self._steadied_s(at_s, offset_s, now_s))

    def stamped(self, readings: Sequence[Reading]) -> Sequence[Reading]:
        """Readings of this time, stamped by the wall clock."""
        if not (offset_s := self.offset_s()):
            return readings
        return _restamped(readings, lambda at_s: at_s + offset_s)

    def _steadied_s(self, taken_s: float, offset_s: float, now_s: float) -> float:
        for offset in (offset_s, self._before_s, 0.0):
            if -DRIFT_S <= now_s - (taken_s - offset) <= LONGEST_POLL_S:
                return min(taken_s - offset, now_s)
        return min(taken_s - offset_s, now_s)


def _restamped(readings: Sequence[Reading], stamp: Callable[[float], float]) -> Sequence[Reading]:
    if isinstance(readings, Sweep):
        return Sweep(readings.points, readings.values, stamp(readings.taken_s), readings.faults)
    return [replace(r, taken_s=stamp(r.taken_s)) for r in readings]
