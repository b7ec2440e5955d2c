"""Charts as SVG inside a page: lines over time, limits, allowed bands, marks. No library, no script.

Decides what a chart looks like: holes stay holes, a limit is a dashed line, a band a pale area.
Text is escaped; nothing is fetched from anywhere.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

HEIGHT = 210
WIDE, NARROW = 860, 440  # a chart over the page, and one of two beside each other
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 12, 26
COLOURS = ("#0b6e99", "#b4540a", "#5b7f2b", "#7a4b9a", "#a11d33", "#555555")
LABEL_EVERY = 145  # of the width there is one time label


def line_chart(chart: dict[str, Any], width: int = WIDE) -> str:
    """One chart of a report as an <svg> element; a sentence where nothing is known."""
    known = [v for s in chart["series"] for v in s["values"] if v is not None]
    if not known:
        return '<p class="none">no reading of it in this time</p>'
    low, high = _range(known, chart)
    parts = [
        *_axes(chart, low, high, width), *_band(chart, low, high, width),
        *_limit(chart, low, high, width),
    ]  # fmt: skip
    for series, colour in zip(chart["series"], COLOURS, strict=False):
        parts.append(_line(series["values"], colour, low, high, width))
    parts += _marks(chart, width)
    title = escape(f"{chart['title']} in {chart['y']['unit']}")
    return (
        f'<svg viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{title}">{"".join(parts)}</svg>'
        + _legend(chart)
    )


def _range(known: Sequence[float], chart: dict[str, Any]) -> tuple[float, float]:
    """What the y axis spans: the values, the band, and a limit that is near them."""
    low, high = min(known), max(known)
    if chart["band"]:
        low, high = min(low, chart["band"][0]), max(high, chart["band"][1])
    if chart["limit"] is not None:
        high = max(high, chart["limit"])
    pad = 0.06 * (high - low) or max(0.5, 0.02 * abs(high))
    return low - pad, high + pad


def _x(i: int, n: int, width: int) -> float:
    return LEFT + (width - LEFT - RIGHT) * i / max(n - 1, 1)


def _y(value: float, low: float, high: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)


def _line(values: Sequence[float | None], colour: str, low: float, high: float, width: int) -> str:
    """A path that is lifted over every hole; a lone value is a dot."""
    steps, pen = [], False
    for i, value in enumerate(values):
        if value is None:
            pen = False
            continue
        steps.append(
            f"{'L' if pen else 'M'}{_x(i, len(values), width):.1f} {_y(value, low, high):.1f}"
        )
        if not pen and (i + 1 >= len(values) or values[i + 1] is None):
            steps.append("h0.1")
        pen = True
    return (
        f'<path d="{"".join(steps)}" fill="none" stroke="{colour}" stroke-width="1.8"'
        ' stroke-linecap="round" stroke-linejoin="round"/>'
    )


def _axes(chart: dict[str, Any], low: float, high: float, width: int) -> list[str]:
    parts = []
    for value in _ticks(low, high):
        y = _y(value, low, high)
        parts.append(
            f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{value:g}</text>')
    times: list[str] = chart["x"]["values"]
    labels = min(max(2, width // LABEL_EVERY), len(times))
    for k in range(labels):
        i = round(k * (len(times) - 1) / max(labels - 1, 1))
        anchor = "start" if k == 0 else "end" if i == len(times) - 1 else "middle"
        parts.append(
            f'<text x="{_x(i, len(times), width):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">'
            f"{times[i][5:16].replace('T', ' ')}</text>"
        )
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers between."""
    raw = (high - low) / 4
    size = 10 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw)
    first = math.ceil(low / step)
    return [round(k * step, 10) for k in range(first, math.floor(high / step) + 1)]


def _band(chart: dict[str, Any], low: float, high: float, width: int) -> list[str]:
    if not chart["band"]:
        return []
    top, bottom = _y(chart["band"][1], low, high), _y(chart["band"][0], low, high)
    return [
        f'<rect x="{LEFT}" y="{top:.1f}" width="{width - LEFT - RIGHT}" height="{bottom - top:.1f}" class="band"/>'
    ]


def _limit(chart: dict[str, Any], low: float, high: float, width: int) -> list[str]:
    if chart["limit"] is None:
        return []
    y = _y(chart["limit"], low, high)
    return [
        f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="limit"/>',
        f'<text x="{width - RIGHT}" y="{y - 4:.1f}" text-anchor="end" class="limit-text">limit {chart["limit"]:g}</text>',
    ]


def _marks(chart: dict[str, Any], width: int) -> list[str]:
    """A small tick for each action, with what it was as its tooltip."""
    times: list[str] = chart["x"]["values"]
    parts = []
    for mark in chart["marks"]:
        i = sum(t <= mark["ts"] for t in times) - 1
        if i >= 0:
            x, y = _x(i, len(times), width), HEIGHT - BOTTOM
            tip = escape(f"{mark['ts'][11:16]} {mark['text']}")
            parts.append(f'<path d="M{x:.1f} {y}v-7" class="mark"><title>{tip}</title></path>')
    return parts


def _legend(chart: dict[str, Any]) -> str:
    if len(chart["series"]) < 2 and not chart["marks"] and not chart["band"]:
        return ""
    names = [
        f'<span><i style="background:{c}"></i>{escape(s["name"])}</span>'
        for s, c in zip(chart["series"], COLOURS, strict=False)
    ]
    if chart["marks"]:
        names.append('<span><i class="mark-key"></i>an action</span>')
    if chart["band"]:
        names.append('<span><i class="band-key"></i>allowed</span>')
    return f'<div class="legend">{"".join(names)}</div>'


def heat_colour(share: float | None) -> str:
    """From cool blue (0) by pale to warm red (1); grey where nothing is known."""
    if share is None:
        return "#d9d9d9"
    stops = ((49, 104, 142), (214, 230, 236), (250, 227, 196), (192, 57, 43))
    at = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    i = min(int(at), len(stops) - 2)
    rgb = [round(a + (b - a) * (at - i)) for a, b in zip(stops[i], stops[i + 1], strict=True)]
    return f"#{rgb[0]:02x}{rgb[1]:02x}{rgb[2]:02x}"
