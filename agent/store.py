"""The last reading of every point, and snapshots of them all for the decision path.

Decides only what is stale: a reading older than its point's max_age_s. Never fills a gap.
Everything is kept in columns, so that a poll that went well costs a few array assignments.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from control.layout import Layout
from control.types import Quality, Reading, Snapshot, Sweep

_QUALITIES = tuple(Quality)
_CODES = {quality: code for code, quality in enumerate(_QUALITIES)}
_GOOD, _UNKNOWN = _CODES[Quality.GOOD], _CODES[Quality.UNKNOWN]

Places = NDArray[np.intp] | slice


class Store:
    """Readings of one site, written by poll tasks, read by everything else. One event loop."""

    def __init__(self, layout: Layout) -> None:
        points = list(layout.site.points.values())
        n = len(points)
        self._keys = [p.key for p in points]
        self._index = layout.index
        self._max_age_s = np.array([p.max_age_s for p in points])
        self._values = np.full(n, np.nan)  # as last read: NaN when that was not good
        self._last = np.full(n, np.nan)  # the last good value
        self._good_s = np.full(n, -np.inf)  # when it was taken
        self._taken_s = np.zeros(n)  # when the latest reading was, whatever it said
        self._codes = np.full(n, _UNKNOWN, np.uint8)  # its quality
        self._reasons = dict.fromkeys(range(n), "not read yet")  # of those not good
        self._sources = np.where(layout.pushed, "pushed", "polled").tolist()
        self._places: dict[tuple[str, ...], tuple[Places, float]] = {}
        self._snapshot: Snapshot | None = None  # the latest, until something else is read

    def update(self, readings: Iterable[Reading]) -> None:
        """Take in what a poll brought. Readings of unknown points are refused (KeyError).

        No answer is not a value: the last good reading stands until it is too old. What the
        device itself calls missing or bad replaces it at once.
        """
        self._snapshot = None
        if isinstance(readings, Sweep):
            self._sweep(readings)
            return
        for reading in readings:
            at = self._index[reading.point]
            good = reading.quality is Quality.GOOD and reading.value is not None
            self._said(at, reading.quality, reading.reason, reading.taken_s)
            if good:
                self._values[at] = self._last[at] = reading.value
                self._good_s[at] = reading.taken_s

    def _said(self, at: int, quality: Quality, reason: str, taken_s: float) -> None:
        self._codes[at], self._taken_s[at], self._reasons[at] = _CODES[quality], taken_s, reason
        if quality is not Quality.UNKNOWN:
            self._values[at] = np.nan

    def _sweep(self, sweep: Sweep) -> None:
        at, _ = self._where(sweep.points)
        if not sweep.faults:
            self._values[at] = self._last[at] = sweep.values
            self._good_s[at] = self._taken_s[at] = sweep.taken_s
            self._codes[at] = _GOOD
            return
        places = np.arange(len(self._keys))[at]
        good = np.ones(len(places), np.bool_)
        good[list(sweep.faults)] = False
        fresh = places[good]
        self._values[fresh] = self._last[fresh] = sweep.values[good]
        self._good_s[fresh] = self._taken_s[fresh] = sweep.taken_s
        self._codes[fresh] = _GOOD
        for i, (quality, reason) in sweep.faults.items():
            self._said(int(places[i]), quality, reason, sweep.taken_s)

    def _where(self, points: tuple[str, ...]) -> tuple[Places, float]:
        """Where the points of a sweep stand, and the shortest max_age_s among them."""
        found = self._places.get(points)
        if found is None:
            at = np.array([self._index[key] for key in points], np.intp)
            shortest_s = float(self._max_age_s[at].min(initial=np.inf))
            first, last = (int(at[0]), int(at[-1]) + 1) if len(at) else (0, 0)
            run = np.array_equal(at, np.arange(first, last))
            found = self._places[points] = (slice(first, last) if run else at, shortest_s)
        return found

    def snapshot(self, now_s: float) -> Snapshot:
        """All readings as they stand at `now_s`: one snapshot for all who ask at one instant."""
        if self._snapshot is not None and self._snapshot.now_s == now_s:
            return self._snapshot
        age_s = now_s - self._good_s
        values = np.where(age_s <= self._max_age_s, self._values, np.nan)
        self._snapshot = Snapshot(now_s, self._index, values, self._last.copy(), age_s)
        return self._snapshot

    def reading(self, key: str, now_s: float) -> Reading:
        """The last reading of a point, marked stale when it is."""
        return self._aged(self._index[key], now_s)

    def readings(self, now_s: float, keys: Iterable[str] | None = None) -> list[Reading]:
        """Readings of these points (default: all, in the site's order), stale ones marked."""
        wanted = self._index if keys is None else keys
        return [self._aged(self._index[k], now_s) for k in wanted]

    def standing(self, readings: Sequence[Reading], now_s: float) -> Sequence[Reading]:
        """What stands for the points of these readings, which have just been taken in.

        Where the device said something of every point, that is what stands.
        """
        if isinstance(readings, Sweep):
            _, shortest_s = self._where(readings.points)
            silent = any(q is Quality.UNKNOWN for q, _ in readings.faults.values())
            if not silent and now_s - readings.taken_s <= shortest_s:
                return readings
        return self.readings(now_s, [r.point for r in readings])

    def _aged(self, at: int, now_s: float) -> Reading:
        """What stands for a point now: its last reading, or the last good one, fresh or stale."""
        key, code = self._keys[at], int(self._codes[at])
        good_s = float(self._good_s[at])
        reason, source = self._reasons[at] if code != _GOOD else "", self._sources[at]
        if good_s == -np.inf or code not in (_GOOD, _UNKNOWN):
            return Reading(key, None, float(self._taken_s[at]), _QUALITIES[code], reason, source)
        value = float(self._last[at])
        age_s = now_s - good_s
        if age_s <= self._max_age_s[at]:
            return Reading(key, value, good_s, Quality.GOOD, "", source)
        why = f"; {reason}" if reason else ""
        return Reading(key, value, good_s, Quality.STALE, f"{age_s:.0f} s old{why}", source)
