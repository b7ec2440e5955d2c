"""Turns one raw number from a device into a Reading, or says why it is none.

Decides whether a raw value may be believed: a number, no sentinel, inside the plausible
band of its quantity. It must never clip, guess or repair: what can't be believed becomes a
reading without a value and with its reason.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from config.site import Point
from control.types import Quality, Reading, Sweep

Fault = tuple[Quality, str]
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


class Bench:
    """Judges that sit together over all points of a device: the same verdicts, in columns."""

    def __init__(self, judges: Sequence[Judge]) -> None:
        self.judges = judges
        self.points = tuple(j.key for j in judges)
        self._scale = np.array([j.scale for j in judges])
        self._offset = np.array([j.offset for j in judges])
        self._low = np.array([j.low for j in judges])
        self._high = np.array([j.high for j in judges])
        most = max((len(j.sentinels) for j in judges), default=0)
        rows = [[*j.sentinels, *[np.nan] * (most - len(j.sentinels))] for j in judges]
        self._sentinels = np.array(rows, np.float64).reshape(len(judges), most).T.copy()

    def read(self, raws: NDArray[np.float64], absent: Mapping[int, Fault], now_s: float) -> Sweep:
        """Judge raw numbers (n,) in the device's own units; NaN where `absent` says why."""
        disowned = np.zeros(len(raws), np.bool_)
        with np.errstate(all="ignore"):
            values = raws * self._scale + self._offset
            good = (values >= self._low) & (values <= self._high)
            for column in self._sentinels:
                disowned |= raws == column
        good &= ~disowned
        if not absent and good.all():
            return Sweep(self.points, values, now_s, {})
        faults = dict(absent)
        for at in np.flatnonzero(~good).tolist():
            if at not in faults:
                faults[at] = self._fault(at, float(raws[at]), bool(disowned[at]), now_s)
        values[list(faults)] = np.nan
        return Sweep(self.points, values, now_s, faults)

    def _fault(self, at: int, raw: float, disowned: bool, now_s: float) -> Fault:
        if disowned:
            return Quality.MISSING, f"sentinel {raw:g}"
        said = self.judges[at].read(raw, now_s)
        return said.quality, said.reason
