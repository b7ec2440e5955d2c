"""What a stretch of time was like: energy, work, limits, what was done and what came of it.

Reads history and the journal only and says what it rests on: each term is metered, summed or
missing, with the share of the time it is known for. A stretch without a reading is a hole, never
interpolated; with cooling missing there is no Wh/prompt. Decides nothing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.clock import utc
from agent.history.service import History
from agent.reports.acts import actions, alarms, audit, saving, timeline
from agent.reports.charts import charts
from agent.reports.grid import F64, Grid, Span, grid, mean_of, ratio, sum_of
from agent.reports.rehearsal import bars, compare
from config.site import Site

SCHEMA = 2
MOST_RECORDS = 50_000
LOOK_BACK_S = 7 * 86_400.0  # moves made this long before the span may still be held in it
QUANTITIES = (
    "total_power_kw", "it_power_kw", "pdu_kw", "cooling_power_kw", "prompts_ps", "tokens_ps",
    "inlet_c", "latency_p95_ms", "outdoor_c",
)  # fmt: skip
NEAR = {"inlet_c": 1.0, "latency_p95_ms": 10.0, "pdu_kw": 0.6}  # this close to a limit is "near"
MOST_NEAR = 8


async def report(
    history: History, site: Site, since_s: float, until_s: float, now_s: float,
    rehearsals: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:  # fmt: skip
    """The report as plain JSON values. Raises HistoryDown, ValueError for a span that is none.

    rehearsals: results of `skadi rehearse --json` for the bars of oracle, Skadi and baseline.
    """
    span = Span.of(since_s, until_s)

    async def read(quantity: str) -> Grid:
        points = [p for p in site.of_quantity(quantity) if p.writable is None and not p.part]
        return await grid(history, points, span)

    g = {q: await read(q) for q in QUANTITIES}
    power = _power(g)
    since_s = span.since_s - LOOK_BACK_S
    before = await history.actions(since_s, MOST_RECORDS, None, (), span.until_s)
    acts = [a for a in before if a.ts_s >= span.since_s]
    moved = [k for a in acts if a.kind == "action" for k in a.detail.get("changes", {})]
    held = await grid(history, [p for p in site.writable_points.values() if p.key in moved], span)
    energy, kpi = _energy(power, g, span)
    compared = compare(rehearsals)
    limits = _limits(site, g)
    journal = Path(site.agent.data_dir) / "journal.db"
    return {
        "schema": SCHEMA, "site": site.id, "area": site.area, "simulated": site.simulated,
        "since": utc(span.since_s), "until": utc(span.until_s), "generated": utc(now_s),
        "step_s": span.step_s, "energy": energy, "kpi": kpi,
        "saving": saving(site, before, span, held, energy["terms"]["total"]["kwh"]),
        "compliance": [_compliance(*limit, span) for limit in limits], "near": _near(limits, span),
        "actions": actions(acts), "timeline": timeline(acts), "alarms": alarms(acts),
        "audit": await asyncio.to_thread(audit, journal, span), "racks": _racks(site, g),
        "gaps": [{"stream": x.stream, "since": utc(x.since_s), "until": utc(x.until_s),
                  "dropped": x.dropped} for x in await history.gaps(span.since_s)],
        "rehearsal": compared,
        "charts": [*charts(site, g, power, held, acts, span), *bars(compared)],
    }  # fmt: skip


def _power(g: dict[str, Grid]) -> dict[str, F64]:
    """kW a step of each term, (steps,). The total is metered, else IT + cooling."""
    it = g["it_power_kw"].total() if g["it_power_kw"].points else g["pdu_kw"].total()
    cooling = g["cooling_power_kw"].total()
    total = g["total_power_kw"].total() if g["total_power_kw"].points else it + cooling
    return {"total": total, "it": it, "cooling": cooling}


def _energy(
    power: dict[str, F64], g: dict[str, Grid], span: Span
) -> tuple[dict[str, Any], dict[str, Any]]:
    hours = span.step_s / 3_600.0
    metered = bool(g["total_power_kw"].points)
    how = {"total": "metered" if metered else "summed", "it": "metered", "cooling": "metered"}
    terms = {}
    for name, kw in power.items():
        known = ~np.isnan(kw)
        terms[name] = {
            "kwh": float(kw[known].sum() * hours) if known.any() else None, "unit": "kWh",
            "source": how[name] if known.any() else "missing",
            "known_pct": round(100.0 * float(known.mean()), 2),
        }  # fmt: skip
    prompts, tokens = (g[q].total() * span.step_s for q in ("prompts_ps", "tokens_ps"))
    kwh = power["total"] * hours
    cooled = terms["cooling"]["source"] != "missing" or metered
    with_prompts = ~np.isnan(kwh) & ~np.isnan(prompts) & cooled
    with_tokens = ~np.isnan(kwh) & ~np.isnan(tokens) & cooled
    both = ~np.isnan(power["total"] + power["it"])
    kpi = {
        "wh_per_prompt": ratio(kwh * 1e3, prompts, with_prompts) | {"unit": "Wh"},
        "wh_per_1k_tokens": ratio(kwh * 1e6, tokens, with_tokens) | {"unit": "Wh"},
        "pue": ratio(power["total"], power["it"], both) | {"unit": "1"},
        "prompts": {"value": sum_of(prompts), "unit": "1"},
        "tokens": {"value": sum_of(tokens), "unit": "1"},
        "outdoor_c": {"value": mean_of(g["outdoor_c"].mean), "unit": "degC"},
    }  # fmt: skip
    interval = "95 %, by leaving out each of the span's blocks in turn"
    return {"terms": terms, "interval": interval}, kpi


Limit = tuple[str, str, float, str, Grid]


def _limits(site: Site, g: dict[str, Grid]) -> list[Limit]:
    """Each limit: quantity, name, value, unit, and what is held against it."""
    limits = site.limits
    return [
        ("inlet_c", "rack inlet", limits.inlet_max_c, "degC", g["inlet_c"]),
        ("latency_p95_ms", "p95 latency", limits.latency_p95_max_ms, "ms", g["latency_p95_ms"]),
        ("pdu_kw", "rack power", limits.rack_max_kw, "kW", g["pdu_kw"].by_rack()),
    ]


def _compliance(
    quantity: str, name: str, limit: float, unit: str, of: Grid, span: Span
) -> dict[str, Any]:
    """How long a limit was kept, the worst there was, and how often it was near."""
    entry: dict[str, Any] = {
        "limit": name, "max": limit, "unit": unit, "near_within": NEAR[quantity], "worst": None,
        "at": None, "when": None, "kept_pct": None, "minutes_over": None, "minutes_near": None,
    }  # fmt: skip
    known = ~np.isnan(of.mean)
    if not known.any():
        return entry
    worst = np.unravel_index(int(np.nanargmax(of.high)), of.high.shape)
    over = (of.mean > limit).any(axis=0)
    near = (of.high > limit - NEAR[quantity]).any(axis=0) & ~over
    point = of.points[worst[0]]
    return entry | {
        "worst": round(float(of.high[worst]), 3), "at": point.rack or point.key,
        "when": span.starts[worst[1]],
        "kept_pct": round(100.0 * float((of.mean[known] <= limit).mean()), 3),
        "minutes_over": round(float(over.sum()) * span.step_s / 60.0, 1),
        "minutes_near": round(float(near.sum()) * span.step_s / 60.0, 1),
    }  # fmt: skip


def _near(limits: Sequence[Limit], span: Span) -> list[dict[str, Any]]:
    """Where a limit was nearly reached or crossed, the closest first."""
    found: list[dict[str, Any]] = []
    for quantity, name, limit, unit, of in limits:
        for point, high in zip(of.points, of.high, strict=True):
            near = high > limit - NEAR[quantity]
            if near.any():
                at = int(np.nanargmax(high))
                found.append({
                    "limit": name, "at": point.rack or point.key, "unit": unit, "when": span.starts[at],
                    "closest": round(float(high[at]), 3), "margin": round(limit - float(high[at]), 3),
                    "minutes": round(float(near.sum()) * span.step_s / 60.0, 1),
                    "of_near": (limit - float(high[at])) / NEAR[quantity],
                })  # fmt: skip
    found.sort(key=lambda entry: float(entry["of_near"]))
    return [{k: v for k, v in e.items() if k != "of_near"} for e in found[:MOST_NEAR]]


def _racks(site: Site, g: dict[str, Grid]) -> list[dict[str, Any]]:
    power = g["pdu_kw"].by_rack()
    kw = {p.rack: mean_of(power.mean[i]) for i, p in enumerate(power.points)}
    inlets: dict[str, list[int]] = {}
    for i, p in enumerate(g["inlet_c"].points):
        if p.rack:
            inlets.setdefault(p.rack, []).append(i)
    found = []
    for rack in site.racks:
        at = inlets.get(rack, [])
        high = g["inlet_c"].high[at]
        worst = float(np.nanmax(high)) if high.size and not np.isnan(high).all() else None
        found.append({"rack": rack, "row": site.row_of_rack.get(rack), "inlet_mean_c": mean_of(g["inlet_c"].mean[at]),
                      "inlet_max_c": worst, "pdu_mean_kw": kw.get(rack)})  # fmt: skip
    return found
