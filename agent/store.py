"""The last reading of every point, and snapshots of them all for the decision path.

Decides only what is stale: a reading older than its point's max_age_s. Never fills a gap.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from control.layout import Layout
from control.types import Quality, Reading, Snapshot


class Store:
    """Readings of one site, written by poll tasks, read by everything else. One event loop."""

    def __init__(self, layout: Layout) -> None:
        points = list(layout.site.points.values())
        n = len(points)
        self._index = layout.index
        self._max_age_s = np.array([p.max_age_s for p in points])
        self._values = np.full(n, np.nan)  # as last read: NaN when that was not good
        self._last = np.full(n, np.nan)  # the last good value
        self._good_s = np.full(n, -np.inf)  # when it was taken
        self._readings: list[Reading] = [
            Reading(p.key, None, 0.0, Quality.UNKNOWN, "not read yet") for p in points
        ]
        self._good: list[Reading | None] = [None] * n

    def update(self, readings: Iterable[Reading]) -> None:
        """Take in what a poll brought. Readings of unknown points are refused (KeyError).

        No answer is not a value: the last good reading stands until it is too old. What the
        device itself calls missing or bad replaces it at once.
        """
        for reading in readings:
            at = self._index[reading.point]
            self._readings[at] = reading
            if reading.quality is Quality.GOOD and reading.value is not None:
                self._values[at] = self._last[at] = reading.value
                self._good_s[at] = reading.taken_s
                self._good[at] = reading
            elif reading.quality is not Quality.UNKNOWN:
                self._values[at] = np.nan

    def snapshot(self, now_s: float) -> Snapshot:
        """All readings as they stand at `now_s`."""
        age_s = now_s - self._good_s
        values = np.where(age_s <= self._max_age_s, self._values, np.nan)
        return Snapshot(now_s, self._index, values, self._last.copy(), age_s)

    def reading(self, key: str, now_s: float) -> Reading:
        """The last reading of a point, marked stale when it is."""
        return self._aged(self._index[key], now_s)

    def readings(self, now_s: float, keys: Iterable[str] | None = None) -> list[Reading]:
        """Readings of these points (default: all, in the site's order), stale ones marked."""
        wanted = self._index if keys is None else keys
        return [self._aged(self._index[k], now_s) for k in wanted]

    def _aged(self, at: int, now_s: float) -> Reading:
        """What stands for a point now: its last reading, or the last good one, fresh or stale."""
        latest, good = self._readings[at], self._good[at]
        if good is None or latest.quality not in (Quality.GOOD, Quality.UNKNOWN):
            return latest
        age_s = now_s - good.taken_s
        if age_s <= self._max_age_s[at]:
            return good
        why = f"; {latest.reason}" if latest.reason else ""
        return replace(good, quality=Quality.STALE, reason=f"{age_s:.0f} s old{why}")
