"""What a report draws, as data: axes with units, series with their numbers and the URL of more.

A frontend, the HTML page and the PDF all draw from this; `kind` is line, heat or bars.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import numpy as np

from agent.clock import utc
from agent.history.query import Action
from agent.reports.grid import F64, Grid, Span, highest
from config.site import Point, Site

MOST_MARKS = 400
MOST_KEYS = 24  # as many series as GET /timeline answers at once
MOST_SETPOINTS = 12
TERMS = (("total", "total_power_kw"), ("IT", "it_power_kw"), ("cooling", "cooling_power_kw"))
NAMES = {
    "supply_air_setpoint_c": "supply air", "zone_setpoint_c": "zone", "fan_rpm_pct": "fans",
    "chilled_water_setpoint_c": "chilled water", "pump_rpm_pct": "pumps",
    "traffic_share_pct": "share of traffic", "batch_window_ms": "batching window",
    "admission_pct": "low-priority work admitted",
}  # fmt: skip


def charts(
    site: Site, g: dict[str, Grid], power: dict[str, F64], held: Grid, acts: Sequence[Action],
    span: Span,
) -> list[dict[str, Any]]:  # fmt: skip
    """All charts that a history can feed."""
    x = {"label": "time", "unit": "UTC", "values": span.starts, "since": utc(span.since_s),
         "until": utc(span.until_s), "step_s": span.step_s}  # fmt: skip
    prompts = g["prompts_ps"].total()
    with np.errstate(invalid="ignore", divide="ignore"):
        wh = power["total"] / 3.6 / np.where(prompts > 0, prompts, np.nan)
    marks = [{"ts": utc(a.ts_s), "text": f"{a.loop} {a.move} {a.scope}"} for a in acts
             if a.kind == "action" and a.detail.get("complete")][:MOST_MARKS]  # fmt: skip
    limits = site.limits
    made = [
        _line("power", "Power", "kW", x, [
            (name, power[name.lower()], [p.key for p in g[q].points]) for name, q in TERMS
        ], marks=marks, from_zero=True),
        _line("wh_per_prompt", "Energy a prompt", "Wh", x, [("Wh/prompt", wh, [])]),
        _line("worst_inlet", "Warmest rack inlet", "degC", x, [("inlet", highest(g["inlet_c"].high), [])],
              limit=limits.inlet_max_c),
        _line("latency", "p95 latency", "ms", x, [("p95", highest(g["latency_p95_ms"].high), [])],
              limit=limits.latency_p95_max_ms),
        _line("rack_power", "Highest rack power", "kW", x,
              [("rack", highest(g["pdu_kw"].by_rack().high), [])], limit=limits.rack_max_kw),
        {"id": "rack_heat", "kind": "heat", "title": "Warmest inlet of each rack", "url": "/heatmap",
         "x": {"label": "rack", "unit": "1"}, "y": {"label": "inlet", "unit": "degC"}, "values": "racks"},
    ]  # fmt: skip
    return [*made, *_setpoints(held, x)]


def _setpoints(held: Grid, x: dict[str, Any]) -> list[dict[str, Any]]:
    """One chart for the points of a quantity in a zone, or in the hall; those that used most of what
    is allowed where there are too many."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, p in enumerate(held.points):
        groups.setdefault((p.quantity, p.zone or ""), []).append(i)
    spread = {k: _used(held, at) for k, at in groups.items()}
    made = []
    for key in sorted(groups, key=lambda k: (-spread[k], k))[:MOST_SETPOINTS]:
        points = [held.points[i] for i in groups[key]]
        bounds = [p.writable for p in points if p.writable is not None]
        made.append(_line(
            f"setpoint:{points[0].key}", _title(points), points[0].about.unit, x,
            [(_name(p, points), held.mean[i], [p.key]) for p, i in zip(points, groups[key], strict=True)],
            band=(min(b.min for b in bounds), max(b.max for b in bounds)),
        ))  # fmt: skip
    return sorted(made, key=lambda c: str(c["title"]))


def _title(points: Sequence[Point]) -> str:
    what = NAMES.get(points[0].quantity, points[0].quantity)
    return f"{points[0].zone}: {what}" if points[0].zone else what


def _name(point: Point, among: Sequence[Point]) -> str:
    """What tells a point from the others of its chart."""
    devices = {p.device for p in among}
    return (
        point.device
        if len(devices) == len(among)
        else f"row {point.row}"
        if point.row
        else point.id
    )


def _used(held: Grid, at: list[int]) -> float:
    """How much of the allowed band points went through."""
    known = held.mean[at][~np.isnan(held.mean[at])]
    w = held.points[at[0]].writable
    return float(np.ptp(known)) / max(w.max - w.min, 1e-9) if known.size and w else 0.0


def _line(
    id_: str, title: str, unit: str, x: dict[str, Any], series: Sequence[tuple[str, F64, list[str]]],
    limit: float | None = None, band: tuple[float, float] | None = None,
    marks: list[dict[str, Any]] | None = None, from_zero: bool = False,
) -> dict[str, Any]:  # fmt: skip
    return {
        "id": id_, "kind": "line", "title": title, "x": x, "y": {"label": title, "unit": unit},
        "limit": limit, "band": list(band) if band else None, "marks": marks or [],
        "from_zero": from_zero,
        "series": [
            {"name": name, "values": [None if np.isnan(v) else round(float(v), 4) for v in values],
             "url": _url(x, keys)}
            for name, values, keys in series
        ],
    }  # fmt: skip


def _url(x: dict[str, Any], keys: list[str]) -> str | None:
    """Where the API has the points behind a series; None where it is not of points, or too many."""
    if not 0 < len(keys) <= MOST_KEYS:
        return None
    about = [("since", x["since"]), ("until", x["until"]), ("step_s", x["step_s"])]
    return f"/timeline?{urlencode([('point', k) for k in keys] + about)}"
