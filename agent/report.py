"""What a stretch of time was like: energy, work, limits, what was done and what came of it.

Reads history only and says what it rests on: each term is metered, summed or missing, with the
share of the time it is known for. A stretch without a reading is a hole, never interpolated; with
cooling missing there is no Wh/prompt. Decides nothing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.clock import utc
from agent.history import History
from agent.history_query import Action
from agent.plain import finite
from config.site import Point, Site

F64 = NDArray[np.float64]
SCHEMA = 1
STEPS_S = (60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0)
MOST_STEPS = 720
MOST_RECORDS = 50_000
BLOCKS = 24  # the interval of Wh/prompt comes from leaving each out in turn
FEWEST_BLOCKS = 8
NEAR = {"inlet_c": 1.0, "latency_p95_ms": 10.0, "pdu_kw": 0.6}  # this close to a limit is "near"


@dataclass(frozen=True, slots=True)
class Grid:
    """Points over steps: mean, low and high, (points, steps); NaN where nothing good was read."""

    points: tuple[Point, ...]
    mean: F64
    low: F64
    high: F64

    def total(self) -> F64:
        """The sum over points, (steps,); NaN where any is not known, or there is none."""
        if not self.points:
            return np.full(self.mean.shape[1], np.nan)
        summed: F64 = self.mean.sum(axis=0)
        return summed


@dataclass(frozen=True, slots=True)
class Span:
    """The time that is reported, cut into steps."""

    since_s: float
    until_s: float
    step_s: float

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return int(np.ceil((self.until_s - self.since_s) / self.step_s))

    @property
    def starts(self) -> list[str]:
        """When each begins."""
        return [utc(self.since_s + i * self.step_s) for i in range(self.steps)]

    @staticmethod
    def of(since_s: float, until_s: float) -> "Span":
        """Steps long enough that there are at most MOST_STEPS. Raises ValueError."""
        if not 0 < until_s - since_s <= 366 * 86_400.0:
            raise ValueError("a report covers up to a year, and its end comes after its start")
        wanted_s = (until_s - since_s) / MOST_STEPS
        step_s = next((s for s in STEPS_S if s >= wanted_s), STEPS_S[-1])
        return Span(since_s // step_s * step_s, until_s, step_s)


async def grid(history: History, points: Sequence[Point], span: Span) -> Grid:
    """Read points onto the steps. Raises HistoryDown."""
    shape = (len(points), span.steps)
    mean, low, high = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    for i, point in enumerate(points):
        for s in await history.series(point.key, span.since_s, span.until_s, span.step_s):
            at = round((s.ts_s - span.since_s) / span.step_s)
            if s.value is not None and 0 <= at < span.steps:
                mean[i, at], low[i, at], high[i, at] = s.value, s.low, s.high
    return Grid(tuple(points), mean, low, high)


async def report(
    history: History, site: Site, since_s: float, until_s: float, now_s: float
) -> dict[str, Any]:
    """The report as plain JSON values. Raises HistoryDown, ValueError for a span that is none."""
    span = Span.of(since_s, until_s)

    async def read(quantity: str) -> Grid:
        points = [p for p in site.of_quantity(quantity) if p.writable is None and not p.part]
        return await grid(history, points, span)

    g = {q: await read(q) for q in (
        "total_power_kw", "it_power_kw", "pdu_kw", "cooling_power_kw", "prompts_ps", "tokens_ps",
        "inlet_c", "latency_p95_ms", "outdoor_c", "supply_air_c",
    )}  # fmt: skip
    power = _power(g)
    acts = await history.actions(span.since_s, MOST_RECORDS, None, (), span.until_s)
    setpoints = await grid(history, _moved(site, acts), span)
    energy, kpi = _energy(power, g, span)
    return {
        "schema": SCHEMA, "site": site.id, "area": site.area, "simulated": site.simulated,
        "since": utc(span.since_s), "until": utc(span.until_s), "generated": utc(now_s),
        "step_s": span.step_s, "energy": energy, "kpi": kpi,
        "compliance": _compliance(site, g, span), "actions": _actions(acts), "racks": _racks(site, g),
        "gaps": [{"stream": x.stream, "since": utc(x.since_s), "until": utc(x.until_s),
                  "dropped": x.dropped} for x in await history.gaps(span.since_s)],
        "charts": _charts(site, g, power, setpoints, acts, span),
    }  # fmt: skip


def _power(g: dict[str, Grid]) -> dict[str, F64]:
    """kW a step of each term, (steps,). The total is metered, else IT + cooling."""
    it = g["it_power_kw"].total() if g["it_power_kw"].points else g["pdu_kw"].total()
    cooling = g["cooling_power_kw"].total()
    metered = g["total_power_kw"].total()
    total = metered if g["total_power_kw"].points else it + cooling
    return {"total": total, "it": it, "cooling": cooling}


def _energy(
    power: dict[str, F64], g: dict[str, Grid], span: Span
) -> tuple[dict[str, Any], dict[str, Any]]:
    hours = span.step_s / 3_600.0
    how = {
        "total": "metered" if g["total_power_kw"].points else "summed",
        "it": "metered",
        "cooling": "metered",
    }
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
    cooled = terms["cooling"]["source"] != "missing" or how["total"] == "metered"
    both = ~np.isnan(kwh) & ~np.isnan(prompts) & cooled
    kpi = {
        "wh_per_prompt": _ratio(kwh * 1e3, prompts, both) | {"unit": "Wh"},
        "wh_per_1k_tokens": _ratio(kwh * 1e6, tokens, ~np.isnan(kwh) & ~np.isnan(tokens) & cooled) | {"unit": "Wh"},
        "pue": _ratio(power["total"], power["it"], ~np.isnan(power["total"] + power["it"])) | {"unit": "1"},
        "prompts": {"value": _sum(prompts), "unit": "1"}, "tokens": {"value": _sum(tokens), "unit": "1"},
        "outdoor_c": {"value": _mean(g["outdoor_c"].mean), "unit": "degC"},
    }  # fmt: skip
    return {
        "terms": terms,
        "interval": "95 %, by leaving out each of the span's blocks in turn",
    }, kpi


def _ratio(above: F64, below: F64, known: NDArray[np.bool_]) -> dict[str, Any]:
    """sum(above) / sum(below) where both are known, with a jackknife's 95 % interval."""
    above, below = above[known], below[known]
    if not len(below) or not below.sum() > 0:
        return {"value": None, "low": None, "high": None}
    value = float(above.sum() / below.sum())
    blocks = np.array_split(np.arange(len(above)), BLOCKS)
    left = [
        (above.sum() - above[b].sum()) / rest
        for b in blocks
        if len(b) and (rest := below.sum() - below[b].sum()) > 0
    ]
    if len(left) < FEWEST_BLOCKS:
        return {"value": value, "low": None, "high": None}
    spread = np.asarray(left) - np.mean(left)
    half = 1.96 * float(np.sqrt((len(left) - 1) / len(left) * (spread**2).sum()))
    return {"value": value, "low": value - half, "high": value + half}


def _sum(values: F64) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.sum()) if known.size else None


def _mean(values: F64) -> float | None:
    return float(np.nanmean(values)) if values.size and not np.isnan(values).all() else None


def _compliance(site: Site, g: dict[str, Grid], span: Span) -> list[dict[str, Any]]:
    """For each limit: how long it was kept, the worst there was, and how often it was near."""
    limits = site.limits
    table = (
        ("inlet_c", "rack inlet", limits.inlet_max_c, "degC"),
        ("latency_p95_ms", "p95 latency", limits.latency_p95_max_ms, "ms"),
        ("pdu_kw", "rack power", limits.rack_max_kw, "kW"),
    )
    found = []
    for quantity, name, limit, unit in table:
        of = _by_rack(g[quantity]) if quantity == "pdu_kw" else g[quantity]
        known = ~np.isnan(of.mean)
        entry: dict[str, Any] = {"limit": name, "max": limit, "unit": unit, "worst": None, "at": None,
                                 "when": None, "kept_pct": None, "minutes_over": None, "minutes_near": None}  # fmt: skip
        if known.any():
            worst = np.unravel_index(int(np.nanargmax(of.high)), of.high.shape)
            over = (of.mean > limit).any(axis=0)
            near = (of.high > limit - NEAR[quantity]).any(axis=0) & ~over
            entry |= {
                "worst": round(float(of.high[worst]), 3), "at": of.points[worst[0]].rack or of.points[worst[0]].key,
                "when": span.starts[worst[1]],
                "kept_pct": round(100.0 * float((of.mean[known] <= limit).mean()), 3),
                "minutes_over": round(float(over.sum()) * span.step_s / 60.0, 1),
                "minutes_near": round(float(near.sum()) * span.step_s / 60.0, 1),
            }  # fmt: skip
        found.append(entry)
    return found


def _by_rack(g: Grid) -> Grid:
    """Power of each rack: the sum of its feeds."""
    racks = sorted({p.rack for p in g.points if p.rack})
    where = [[i for i, p in enumerate(g.points) if p.rack == r] for r in racks]
    points = tuple(g.points[w[0]] for w in where)
    empty = np.empty((0, g.mean.shape[1]))

    def summed(values: F64) -> F64:
        return np.array([values[w].sum(axis=0) for w in where]) if where else empty

    return Grid(points, summed(g.mean), summed(g.low), summed(g.high))


def _racks(site: Site, g: dict[str, Grid]) -> list[dict[str, Any]]:
    power = _by_rack(g["pdu_kw"])
    kw = {p.rack: _mean(power.mean[i]) for i, p in enumerate(power.points)}
    inlets: dict[str, list[int]] = {}
    for i, p in enumerate(g["inlet_c"].points):
        if p.rack:
            inlets.setdefault(p.rack, []).append(i)
    found = []
    for rack in site.racks:
        at = inlets.get(rack, [])
        high = g["inlet_c"].high[at]
        worst = float(np.nanmax(high)) if high.size and not np.isnan(high).all() else None
        found.append({"rack": rack, "row": site.row_of_rack.get(rack), "inlet_mean_c": _mean(g["inlet_c"].mean[at]),
                      "inlet_max_c": worst, "pdu_mean_kw": kw.get(rack)})  # fmt: skip
    return found


def _actions(acts: Sequence[Action]) -> dict[str, Any]:
    """By move: how often made, undone and refused; what it promised and what was measured."""
    moves: dict[tuple[str, str], dict[str, Any]] = {}
    judged = {str(a.detail.get("id")): a.detail for a in acts if a.kind == "judged"}
    refused: Counter[str] = Counter()
    for act in acts:
        if act.kind not in ("action", "decision"):
            continue
        entry = moves.setdefault((act.loop or "", act.move or ""), {
            "loop": act.loop, "move": act.move, "made": 0, "incomplete": 0, "refused": 0, "judged": 0,
            "undone": 0, "predicted_kw": 0.0, "inlet_expected_k": [], "inlet_measured_k": [],
        })  # fmt: skip
        if act.kind == "decision":
            entry["refused"] += 1
            refused[str(act.detail.get("rule"))] += 1
            continue
        entry["made" if act.detail.get("complete") else "incomplete"] += 1
        entry["predicted_kw"] += float(act.detail.get("predicted_kw") or 0.0)
        if (verdict := judged.get(str(act.detail.get("id")))) is not None:
            _book(entry, verdict)
    for entry in moves.values():
        for key in ("inlet_expected_k", "inlet_measured_k"):
            entry[key] = float(np.mean(entry[key])) if entry[key] else None
    endings = Counter(str(a.detail.get("reason")) for a in acts if a.kind == "ending")
    return {
        "moves": sorted(moves.values(), key=lambda e: (-e["made"], str(e["move"]))),
        "refused_by": dict(refused.most_common()), "given_back": dict(endings.most_common(12)),
    }  # fmt: skip


def _book(entry: dict[str, Any], verdict: Any) -> None:
    entry["judged"] += 1
    entry["undone"] += bool(verdict.get("undo"))
    before, after = verdict.get("inlet_before_c"), verdict.get("inlet_c")
    expected = verdict.get("predicted_inlet_k")
    if (
        isinstance(before, int | float)
        and isinstance(after, int | float)
        and finite(after - before) is not None
    ):
        entry["inlet_measured_k"].append(after - before)
        entry["inlet_expected_k"].append(float(expected or 0.0))


def _moved(site: Site, acts: Sequence[Action]) -> list[Point]:
    """The points that were written most, at most twelve."""
    count: Counter[str] = Counter(
        k for a in acts if a.kind == "action" for k in a.detail.get("changes", {})
    )
    return [site.points[k] for k, _ in count.most_common(12) if k in site.points]


def _charts(
    site: Site,
    g: dict[str, Grid],
    power: dict[str, F64],
    held: Grid,
    acts: Sequence[Action],
    span: Span,
) -> list[dict[str, Any]]:
    """What to draw: axes with units, series with their numbers and the URL that has more."""
    x = {"label": "time", "unit": "UTC", "values": span.starts}
    prompts = g["prompts_ps"].total()
    with np.errstate(invalid="ignore", divide="ignore"):
        wh = power["total"] / 3.6 / np.where(prompts > 0, prompts, np.nan)
    marks = [{"ts": utc(a.ts_s), "text": f"{a.loop} {a.move} {a.scope}"} for a in acts
             if a.kind == "action" and a.detail.get("complete")][:400]  # fmt: skip
    with np.errstate(all="ignore"):
        worst = _most(g["inlet_c"].high)
        p95 = _most(g["latency_p95_ms"].high)
    charts = [
        _chart("power", "Power", "kW", x, [(n, power[n], g_points(g, n)) for n in ("total", "it", "cooling")], marks=marks),
        _chart("wh_per_prompt", "Energy a prompt", "Wh", x, [("Wh/prompt", wh, [])]),
        _chart("worst_inlet", "Warmest rack inlet", "degC", x, [("inlet", worst, [])], limit=site.limits.inlet_max_c),
        _chart("latency", "p95 latency", "ms", x, [("p95", p95, [])], limit=site.limits.latency_p95_max_ms),
    ]  # fmt: skip
    for i, p in enumerate(held.points):
        w = p.writable
        assert w is not None
        charts.append(_chart(f"setpoint:{p.key}", p.key, p.about.unit, x, [("setpoint", held.mean[i], [p.key])],
                             band=(w.min, w.max)))  # fmt: skip
    return charts


def g_points(g: dict[str, Grid], term: str) -> list[str]:
    """The points behind a term of power."""
    quantity = {"total": "total_power_kw", "it": "it_power_kw", "cooling": "cooling_power_kw"}[term]
    return [p.key for p in g[quantity].points]


def _most(values: F64) -> F64:
    """The highest of each step; NaN where nothing is known."""
    known = ~np.isnan(values)
    top: F64 = np.where(known, values, -np.inf).max(axis=0, initial=-np.inf)
    return np.where(np.isneginf(top), np.nan, top)


def _chart(
    id_: str, title: str, unit: str, x: dict[str, Any], series: Sequence[tuple[str, F64, list[str]]],
    limit: float | None = None, band: tuple[float, float] | None = None,
    marks: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "id": id_, "title": title, "x": x, "y": {"label": title, "unit": unit}, "limit": limit,
        "band": list(band) if band else None, "marks": marks or [],
        "series": [
            {"name": name, "values": [None if np.isnan(v) else round(float(v), 4) for v in values],
             "url": f"/timeline?{'&'.join(f'point={k}' for k in keys)}" if keys else None}
            for name, values, keys in series
        ],
    }  # fmt: skip
