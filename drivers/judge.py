"""Turns one raw number from a device into a Reading, or says why it is none.

Decides whether a raw value may be believed: a number, no sentinel, inside the plausible
band of its quantity. It must never clip, guess or repair: what can't be believed becomes a
reading without a value and with its reason.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from config.site import Point
from control.types import Quality, Reading

_MAX = sys.float_info.max


@dataclass(frozen=True, slots=True)
class Judge:
    """What is needed to judge the raw numbers of one point, precomputed once.

    `low`/`high` are finite always, so that infinities and NaN fail the same comparison.
    """

    key: str
    scale: float
    offset: float
    sentinels: frozenset[float]
    low: float
    high: float

    def read(self, raw: float, now_s: float) -> Reading:
        """Return the reading behind `raw`, which is in the device's own unit."""
        if raw in self.sentinels:
            return Reading(self.key, None, now_s, Quality.MISSING, f"sentinel {raw:g}")
        value = raw * self.scale + self.offset
        if self.low <= value <= self.high:
            return Reading(self.key, value, now_s, Quality.GOOD)
        return self._unbelievable(value, now_s)

    def _unbelievable(self, value: float, now_s: float) -> Reading:
        if value != value or abs(value) > _MAX:
            return Reading(self.key, None, now_s, Quality.MISSING, f"not a number: {value}")
        reason = f"implausible: {value:g} is outside {self.low:g}..{self.high:g}"
        return Reading(self.key, None, now_s, Quality.BAD, reason)

    def missing(self, reason: str, now_s: float) -> Reading:
        """The device says it has no such value."""
        return Reading(self.key, None, now_s, Quality.MISSING, reason)

    def bad(self, reason: str, now_s: float) -> Reading:
        """The device answered with something that can't be used."""
        return Reading(self.key, None, now_s, Quality.BAD, reason)

    def unknown(self, reason: str, now_s: float) -> Reading:
        """Nothing came for this point, though the device answers."""
        return Reading(self.key, None, now_s, Quality.UNKNOWN, reason)


def judge_of(point: Point, sentinels: Iterable[float] = ()) -> Judge:
    """Precompute the judge of `point`. `sentinels`: those its wire type always has."""
    about = point.about
    return Judge(
        key=point.key,
        scale=point.scale,
        offset=point.offset,
        sentinels=frozenset((*point.sentinels, *sentinels)),
        low=max(about.low, -_MAX),
        high=min(about.high, _MAX),
    )
