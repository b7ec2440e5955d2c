"""Charts as shapes on a sheet, for SVG and PDF alike: lines over time, limits, bands, marks, bars.

Decides what a chart looks like: holes stay holes, a limit is a dashed line, a band a pale area.
Coordinates run right and down from the upper left corner.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.clock import parse_utc

LEFT, RIGHT, TOP, BOTTOM = 52.0, 10.0, 12.0, 22.0
COLOURS = ("#0b6e99", "#b4540a", "#5b7f2b", "#7a4b9a", "#a11d33", "#555555")
INK, SOFT, GRID, LIMIT, BAND = "#1d2733", "#5c6b7a", "#e6ebef", "#a11d33", "#e4f0f5"
LABEL_EVERY = 78.0  # of the width there is one time label at most
ROUND = (
    1,
    5,
    10,
    15,
    30,
    60,
    120,
    180,
    240,
    360,
    720,
    1440,
    2880,
    10_080,
    43_200,
)  # minutes between
NEAR_SHARE = 2.5  # a limit further off than so many times the range of the values is left out
STATED = 0.1  # what a bar needs of the height to have its number in it


@dataclass(frozen=True, slots=True)
class Shape:
    """A polyline (`fill` None), a rectangle of two corners (`fill`), or a text at one point."""

    points: tuple[tuple[float, float], ...]
    stroke: str | None = None
    width: float = 1.0
    dash: bool = False
    fill: str | None = None
    text: str = ""
    anchor: str = "start"  # start | middle | end
    tip: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """The sheet and the range of its y axis."""

    width: float
    height: float
    low: float
    high: float

    def x(self, i: int, n: int) -> float:
        """Where step i of n is."""
        return LEFT + (self.width - LEFT - RIGHT) * i / max(n - 1, 1)

    def y(self, value: float) -> float:
        """Where a value is."""
        return TOP + (self.height - TOP - BOTTOM) * (self.high - value) / (self.high - self.low)


def draw(chart: dict[str, Any], width: float, height: float) -> list[Shape]:
    """The shapes of a chart; empty where nothing is known."""
    known = [v for s in chart["series"] for v in s["values"] if v is not None]
    if not known:
        return []
    if chart["kind"] == "bars":
        return list(_bars(chart, width, height))
    frame = Frame(width, height, *_range(known, chart))
    shapes = [*_band(chart, frame), *_scale(frame), *_times(chart, frame), *_limit(chart, frame)]
    above = len(chart["series"]) if chart["band"] else 1
    for series, colour in zip(chart["series"], COLOURS, strict=False):
        above = max(above - 1, 0)  # setpoints are often equal: those below are wider
        shapes += _lines(series["values"], colour, frame, 1.6 + 1.8 * above)
    return [*shapes, *_marks(chart, frame)]


def legend(chart: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, colour) of what is not said by the title."""
    several = len(chart["series"]) > 1
    names = [(s["name"], c) for s, c in zip(chart["series"], COLOURS, strict=False) if several]
    if chart.get("marks"):
        names.append(("an action", "#9aa5af"))
    return names


def heat_colour(share: float | None) -> str:
    """From cool blue (0) by pale to warm red (1); grey where nothing is known."""
    if share is None:
        return "#d9d9d9"
    stops = ((49, 104, 142), (214, 230, 236), (250, 227, 196), (192, 57, 43))
    at = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    i = min(int(at), len(stops) - 2)
    rgb = [round(a + (b - a) * (at - i)) for a, b in zip(stops[i], stops[i + 1], strict=True)]
    return f"#{rgb[0]:02x}{rgb[1]:02x}{rgb[2]:02x}"


def _range(known: Sequence[float], chart: dict[str, Any]) -> tuple[float, float]:
    """What the y axis spans: the values, the band, and a limit that is not far away."""
    low, high = min(known), max(known)
    if chart["from_zero"]:
        low = min(low, 0.0)
    if chart["band"]:
        low, high = min(low, chart["band"][0]), max(high, chart["band"][1])
    if _shows_limit(chart, low, high):
        high = max(high, chart["limit"])
    pad = 0.06 * (high - low) or max(0.5, 0.02 * abs(high))
    return low if chart["from_zero"] and low == 0.0 else low - pad, high + pad


def _shows_limit(chart: dict[str, Any], low: float, high: float) -> bool:
    limit = chart["limit"]
    return limit is not None and limit - high <= NEAR_SHARE * max(high - low, 0.1 * abs(limit))


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = SOFT) -> Shape:
    return Shape(((x, y),), fill=colour, text=text, anchor=anchor)


def _scale(frame: Frame) -> Iterator[Shape]:
    for value in _ticks(frame.low, frame.high):
        y = frame.y(value)
        yield Shape(((LEFT, y), (frame.width - RIGHT, y)), GRID)
        yield _text(LEFT - 6, y + 3.2, f"{value:g}", "end")


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers between."""
    raw = (high - low) / 4
    size = 10 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw)
    first = math.ceil(low / step)
    return [round(k * step, 10) for k in range(first, math.floor(high / step) + 1)]


def _times(chart: dict[str, Any], frame: Frame) -> Iterator[Shape]:
    """Labels at round times: hours, and the date at midnight. First and last where none is round."""
    times: list[str] = chart["x"]["values"]
    minutes = [int((parse_utc(t) or 0.0) // 60) for t in times]
    most = max(2, int(frame.width // LABEL_EVERY))
    every = next((m for m in ROUND if minutes[-1] - minutes[0] <= m * most), ROUND[-1])
    places = [i for i, m in enumerate(minutes) if (m // every != minutes[i - 1] // every if i else m % every == 0)]  # fmt: skip
    for i in places or (0, len(times) - 1):
        x = frame.x(i, len(times))
        anchor = "start" if x < LEFT + 14 else "end" if x > frame.width - RIGHT - 14 else "middle"
        label = times[i][5:10] if minutes[i] % 1440 < min(every, 60) and i else times[i][11:16]
        yield _text(x, frame.height - 7, label if every < 1440 else times[i][5:10], anchor)


def _band(chart: dict[str, Any], frame: Frame) -> Iterator[Shape]:
    if chart["band"]:
        low, high = chart["band"]
        corners = ((LEFT, frame.y(high)), (frame.width - RIGHT, frame.y(low)))
        yield Shape(corners, fill=BAND)


def _limit(chart: dict[str, Any], frame: Frame) -> Iterator[Shape]:
    limit, right = chart["limit"], frame.width - RIGHT
    if limit is None:
        return
    if limit > frame.high:
        yield _text(right, TOP - 2, f"limit {limit:g}, far above", "end", LIMIT)
        return
    y = frame.y(limit)
    yield Shape(((LEFT, y), (right, y)), LIMIT, dash=True)
    yield _text(right, y - 4, f"limit {limit:g}", "end", LIMIT)


def _lines(
    values: Sequence[float | None], colour: str, frame: Frame, width: float
) -> Iterator[Shape]:
    """A line that is lifted over every hole; a lone value is a dot."""
    run: list[tuple[float, float]] = []
    for i, value in enumerate([*values, None]):
        if value is not None:
            run.append((frame.x(i, len(values)), frame.y(value)))
        elif run:
            x, y = run[-1]
            yield Shape(tuple(run) if len(run) > 1 else ((x, y), (x + 0.1, y)), colour, width)
            run = []


def _marks(chart: dict[str, Any], frame: Frame) -> Iterator[Shape]:
    """A small tick for each action, with what it was as its tip."""
    times: list[str] = chart["x"]["values"]
    for mark in chart["marks"]:
        i = sum(t <= mark["ts"] for t in times) - 1
        if i >= 0:
            x, y = frame.x(i, len(times)), frame.height - BOTTOM
            yield Shape(((x, y), (x, y - 6)), "#9aa5af", tip=f"{mark['ts'][11:16]} {mark['text']}")


def _bars(chart: dict[str, Any], width: float, height: float) -> Iterator[Shape]:
    """One column a name, its parts stacked from zero, its sum above."""
    names: list[str] = chart["x"]["values"]
    sums = [sum(s["values"][i] for s in chart["series"]) for i in range(len(names))]
    frame = Frame(width, height, 0.0, 1.12 * max(sums))
    yield from _scale(frame)
    slot = (width - LEFT - RIGHT) / len(names)
    half = min(slot * 0.3, 46.0)
    for i, name in enumerate(names):
        middle, floor = LEFT + slot * (i + 0.5), 0.0
        for series, colour in zip(chart["series"], COLOURS, strict=False):
            value = series["values"][i]
            top = floor + value
            if value > 0:
                corners = ((middle - half, frame.y(top)), (middle + half, frame.y(floor)))
                yield Shape(corners, fill=colour, tip=f"{name}, {series['name']}: {value:.4f}")
                if value > STATED * frame.high:
                    yield _text(
                        middle,
                        (corners[0][1] + corners[1][1]) / 2 + 3,
                        f"{value:.3f}",
                        "middle",
                        "#ffffff",
                    )
                floor = top
        total = _text(middle, frame.y(sums[i]) - 5, f"{sums[i]:.4f}", "middle", INK)
        yield total
        yield replace(total, points=((middle, height - 7),), text=name)
