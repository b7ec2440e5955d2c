"""From cumulative samples to what happened lately: rates, and quantiles over a window.

Decides what a counter or a histogram says between scrapes. The first scrape of a series
says nothing; a counter that fell was restarted and counts from zero; a quantile of too few
requests is unknown, not 0. Pure: time comes in as `now_s`.

The quantile interpolates inside its bucket as Prometheus' histogram_quantile does; above
the highest finite edge it is just above that edge, never on it: a limit on the edge must be
seen as crossed.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from drivers.prometheus_text import Labels

Buckets = dict[float, float]


@dataclass(frozen=True, slots=True)
class NoValue:
    """There is no value yet (`unknown`), or what came can't be right (not `unknown`)."""

    reason: str
    unknown: bool = True


class Rate:
    """The growth per second of counters, summed over their series and a sliding window.

    A window smooths what a single pair of scrapes can't: exporters that count in steps, and
    scrapes that come a little early or late. Until it is full, what there is of it is used.
    """

    def __init__(self, window_s: float, longest_gap_s: float) -> None:
        self._window_s = window_s
        self._longest_gap_s = longest_gap_s
        self._before: Mapping[Labels, float] = {}
        self._at_s: float | None = None
        self._grown: deque[tuple[float, float]] = deque()  # (seconds, growth) between scrapes
        self._opening = True  # no more than the first interval is over

    def take(self, series: Mapping[Labels, float], now_s: float) -> float | NoValue:
        """Growth per second over the window that ends now."""
        if not all(math.isfinite(v) and v >= 0 for v in series.values()):
            return NoValue("a counter that is negative or no number", unknown=False)
        before, at_s = self._before, self._at_s
        self._before, self._at_s = series, now_s
        if at_s is None:
            return NoValue("a rate needs two scrapes")
        passed_s = now_s - at_s
        if not 0 < passed_s <= self._longest_gap_s:
            self._grown.clear()
            return NoValue(f"a rate needs two scrapes; {passed_s:g} s lie between these")
        if not any(labels in before for labels in series):
            self._grown.clear()
            return NoValue("a rate needs two scrapes of one series")
        growth = sum(_growth(before[k], v) for k, v in series.items() if k in before)
        if self._opening and self._grown:
            # The first scrape also opened the connection: it was answered later than its stamp
            # says by far more than any other. What followed it is no part of the window.
            self._grown.clear()
            self._opening = False
        self._grown.append((passed_s, growth))
        covered_s = sum(s for s, _ in self._grown)
        while covered_s - self._grown[0][0] >= self._window_s:
            covered_s -= self._grown.popleft()[0]
        return sum(g for _, g in self._grown) / covered_s


def _growth(before: float, now: float) -> float:
    return now - before if now >= before else now


class Quantile:
    """A quantile of what a histogram counted in the last `window_s`."""

    def __init__(self, quantile: float, window_s: float, min_count: int) -> None:
        self._quantile, self._window_s, self._min_count = quantile, window_s, min_count
        self._before: dict[Labels, Buckets] = {}
        self._grown: deque[tuple[float, Buckets]] = deque()
        self._seen = False
        self.edges: tuple[float, ...] = ()

    def take(self, series: Mapping[Labels, float], now_s: float) -> float | NoValue:
        """The quantile over the window that ends now, in the histogram's unit."""
        histograms = _histograms(series)
        if isinstance(histograms, str):
            return NoValue(histograms, unknown=False)
        first = next(iter(histograms.values()), {})
        self.edges = tuple(e for e in sorted(first) if math.isfinite(e))
        if self._grown and now_s < self._grown[-1][0]:
            self._grown.clear()  # the clock was set back
        grown: Buckets = {}
        for labels, buckets in histograms.items():
            before = self._before.get(labels)
            if before is not None and before.keys() == buckets.keys():
                for edge, count in _grown(before, buckets).items():
                    grown[edge] = grown.get(edge, 0.0) + count
        self._before = histograms
        if not self._seen:
            self._seen = True
            return NoValue("a quantile needs two scrapes")
        self._grown.append((now_s, grown))
        while self._grown[0][0] <= now_s - self._window_s:
            self._grown.popleft()
        return self._of_window()

    def _of_window(self) -> float | NoValue:
        total: Buckets = {}
        for _, grown in self._grown:
            for edge, count in grown.items():
                total[edge] = total.get(edge, 0.0) + count
        requests = total.get(math.inf, 0.0)
        if requests < self._min_count:
            return NoValue(
                f"{requests:g} requests in {self._window_s:g} s; {self._min_count} are needed"
            )
        return quantile_of(total, self._quantile)


def _grown(before: Buckets, now: Buckets) -> Buckets:
    """What each bucket counted between two scrapes; a restarted histogram counts from zero."""
    if any(now[edge] < before[edge] for edge in now):
        return now
    return {edge: now[edge] - before[edge] for edge in now}


def _histograms(series: Mapping[Labels, float]) -> dict[Labels, Buckets] | str:
    """Bucket series gathered by their other labels, or in words why they are no histograms."""
    found: dict[Labels, Buckets] = {}
    for labels, count in series.items():
        edge = next((v for k, v in labels if k == "le"), None)
        try:
            upper = math.nan if edge is None else float(edge)
        except ValueError:
            upper = math.nan
        if math.isnan(upper) or not math.isfinite(count) or count < 0:
            return "a bucket without a readable edge or count"
        rest = tuple(pair for pair in labels if pair[0] != "le")
        buckets = found.setdefault(rest, {})
        if upper in buckets:
            return "a bucket that stands twice"
        buckets[upper] = count
    for buckets in found.values():
        counts = [buckets[edge] for edge in sorted(buckets)]
        if math.inf not in buckets or any(a > b for a, b in pairwise(counts)):
            return "buckets that fall, or lack le=+Inf"
    return found


def quantile_of(cumulative: Buckets, quantile: float) -> float:
    """The quantile of cumulative buckets, which must hold at least one observation."""
    edges = sorted(cumulative)
    rank = quantile * cumulative[math.inf]
    lower, below = 0.0, 0.0
    for edge in edges:
        count = cumulative[edge]
        if count >= rank and count > below:
            if math.isinf(edge):
                return math.nextafter(lower, math.inf)
            start = min(lower, edge) if edge > 0 else edge
            return start + (edge - start) * (rank - below) / (count - below)
        lower, below = edge, count
    return math.nextafter(lower, math.inf)


def edge_problem(limit: float, edges: tuple[float, ...]) -> str | None:
    """Why a limit can't be judged with these rising bucket edges (same unit), or None."""
    if any(math.isclose(limit, edge, rel_tol=1e-6) for edge in edges):
        return None
    around = [*[e for e in edges if e < limit][-1:], *[e for e in edges if e > limit][:1]]
    known = " or ".join(f"{e:g}" for e in around) or "none: no histogram was seen"
    return f"{limit:g} is on no bucket edge, so it can't be told when it is crossed; use {known}"
