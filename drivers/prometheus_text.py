"""Reads Prometheus text: only the metrics somebody wants, and each line strictly.

Decides which samples a scrape holds. A line of a wanted metric that can't be read, or a
series that stands twice, spoils that metric and says so: summing what is left would be a
number nobody measured. Lines of other metrics are never looked at.

Format: Prometheus text exposition 0.0.4 (prometheus.io, "Exposition formats").
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]

_VALUE = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,4})?|[-+]?Inf|NaN"
_SAMPLE = re.compile(
    r"([A-Za-z_:][A-Za-z0-9_:]*+)[ \t]*+(\{.*\})?[ \t]*+"
    rf"(?<=[ \t}}])({_VALUE})(?:[ \t]++-?\d+)?(?:[ \t]++#.*)?[ \t]*+\r?",
    re.ASCII,
)
_LABEL = re.compile(
    r'[ \t]*([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\[\\"n])*)"[ \t]*(,|$)', re.ASCII
)
_ESCAPE = re.compile(r"\\(.)")
_PLAIN = {"n": "\n", "\\": "\\", '"': '"'}
MAX_LINE = 8_192
MAX_SERIES = 50_000
_CACHE_MAX = 20_000


@dataclass(slots=True)
class Samples:
    """What a scrape says of one metric: its series, or why it can't be used."""

    series: dict[Labels, float] = field(default_factory=dict)
    fault: str = ""


class TextReader:
    """Reads expositions of one target. Keeps parsed label sets, which repeat every scrape."""

    def __init__(self, wanted: Iterable[str]) -> None:
        self._wanted = frozenset(wanted)
        self._prefixes = tuple(sorted(self._wanted))
        self._labels: dict[str, Labels] = {}

    def read(self, text: str) -> dict[str, Samples]:
        """The wanted metrics that stand in `text`, by name. Never raises."""
        found: dict[str, Samples] = {}
        if not self._prefixes:
            return found
        lines = text.split("\n")
        unfinished = lines.pop()
        count = 0
        for line in lines:
            if line.startswith(self._prefixes):
                count += 1
                if count > MAX_SERIES:
                    _spoil(found, line, self._wanted, f"more than {MAX_SERIES} samples")
                    break
                self._take(line, found)
        if unfinished.startswith(self._prefixes):
            _spoil(found, unfinished, self._wanted, "its last line is cut short")
        return found

    def _take(self, line: str, found: dict[str, Samples]) -> None:
        """Add one line's sample, or the fault it makes."""
        match = _SAMPLE.fullmatch(line) if len(line) <= MAX_LINE else None
        if match is None:
            _spoil(found, line, self._wanted, f"a line that can't be read: {line[:60]!r}")
            return
        name, braces, number = match.groups()
        if name not in self._wanted:
            return  # a longer name with a wanted one in front
        samples = found.setdefault(name, Samples())
        labels = self._labels_in(braces) if braces else ()
        if labels is None:
            samples.fault = f"labels that can't be read: {line[:60]!r}"
        elif labels in samples.series:
            samples.fault = f"a series that stands twice: {line[:60]!r}"
        else:
            samples.series[labels] = float(number)

    def _labels_in(self, braces: str) -> Labels | None:
        known = self._labels.get(braces)
        if known is None:
            known = _parse_labels(braces[1:-1])
            if known is not None:
                if len(self._labels) >= _CACHE_MAX:
                    self._labels.clear()
                self._labels[braces] = known
        return known


def _parse_labels(text: str) -> Labels | None:
    """Sorted label pairs, or None when the text is no list of labels."""
    pairs: dict[str, str] = {}
    at, end = 0, len(text.rstrip(" \t"))
    while at < end:
        match = _LABEL.match(text, at, end)
        if match is None or match[1] in pairs:
            return None
        pairs[match[1]] = _ESCAPE.sub(lambda m: _PLAIN[m[1]], match[2])
        at = match.end()
    return tuple(sorted(pairs.items()))


def _spoil(found: dict[str, Samples], line: str, wanted: frozenset[str], fault: str) -> None:
    """Mark the metric that a broken line belongs to; all it may be when that is unclear."""
    name = re.match(r"([A-Za-z0-9_:]*)([ \t{]?)", line)
    clear = name is not None and bool(name[2])
    for metric in wanted:
        if line.startswith(metric) and (not clear or (name and name[1] == metric)):
            found.setdefault(metric, Samples()).fault = fault
