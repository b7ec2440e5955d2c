"""Why did it act, or not: a ladder from what was measured to the step that decided.

Reads history only; decides nothing, and invents nothing: a rung whose record is missing says so.
The decisive step is marked: the rule that denied, the write that failed, the judgement that
undid, or else what the proposal rested on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.clock import utc
from agent.history.query import Action
from agent.history.service import History
from config.site import Point, Site

LOOK_BACK_S = 120.0  # readings and scores this long before an act count as its inputs
LOOK_AHEAD_S = 6 * 3_600.0  # what came of it is looked for this long
MOST_RECORDS = 5_000
MOST_INLETS = 96
MOST_CANDIDATES = 6  # in the sentence; the numbers hold all that were recorded


@dataclass(frozen=True, slots=True)
class Rung:
    """One step: its name, a sentence, the numbers behind it."""

    step: str
    text: str
    decisive: bool = False
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ladder:
    """One act explained. `id` is the proposal's."""

    id: str
    ts: str
    summary: str
    rungs: tuple[Rung, ...]


class NothingToExplain(Exception):
    """No such act. The message says what there is."""


async def explain(
    history: History, site: Site, wanted: str | None = None, until_s: float | None = None
) -> Ladder:
    """The ladder of the act with this id (or cycle), or of the latest one, before until_s if given.

    Raises NothingToExplain, HistoryDown.
    """
    kinds = ("action", "decision")
    most = MOST_RECORDS if wanted else 200
    found = await history.actions(0.0, most, None, kinds, until_s)
    record = _pick(found, wanted)
    if record is None:
        ids = ", ".join(dict.fromkeys(str(a.detail.get("id", "")) for a in found[:5]))
        missing = (
            f"no act {wanted!r}" if wanted else "no act until then" if until_s else "no act yet"
        )
        rest = f"; the latest are: {ids}" if ids else ": history holds none, and nothing refused"
        raise NothingToExplain(missing + rest)
    after = await history.actions(
        record.ts_s, MOST_RECORDS, None, ("judged", "ending"), record.ts_s + LOOK_AHEAD_S
    )
    return await _ladder(history, site, record, sorted(after, key=lambda a: a.ts_s))


def _pick(found: Sequence[Action], wanted: str | None) -> Action | None:
    """The latest that is meant; without a name an action before a mere refusal."""
    if wanted is not None:
        names = [a for a in found if wanted in (a.detail.get("id"), a.uid)]
        return next(iter(names or [a for a in found if a.cycle == wanted]), None)
    return next((a for a in found if a.kind == "action"), next(iter(found), None))


async def _ladder(history: History, site: Site, act: Action, after: Sequence[Action]) -> Ladder:
    detail, id_ = act.detail, str(act.detail.get("id", act.uid))
    points = [site.points[k] for k in detail.get("changes", {}) if k in site.points]
    rows = sorted({p.row for p in points if p.row})
    judged = next((a for a in after if a.kind == "judged" and a.detail.get("id") == id_), None)
    keys = {p.key for p in points}
    ended = next((a for a in after if a.kind == "ending" and a.detail.get("point") in keys), None)
    climbed: list[Rung | None] = [
        await _inputs(history, site, rows, act.ts_s),
        *[await _monitor(history, row, act.ts_s) for row in rows],
        _candidates(detail),
        _proposal(detail, site),
        _prediction(detail),
        _verdict(act),
    ]
    if act.kind == "action":
        climbed += [_write(detail), _outcome(judged), _end(ended)]
    rungs = [r for r in climbed if r is not None]
    at = _decisive(act, judged, [r.step for r in rungs])
    marked = tuple(Rung(r.step, r.text, i == at, r.numbers) for i, r in enumerate(rungs))
    return Ladder(id_, utc(act.ts_s), _summary(act, judged), marked)


def _decisive(act: Action, judged: Action | None, steps: list[str]) -> int:
    """Which rung decided."""
    if act.kind == "decision":
        return steps.index("verdict")
    if not act.detail.get("complete"):
        return steps.index("write")
    if judged is not None and judged.detail.get("undo"):
        return steps.index("outcome")
    rests_on = "monitor" if act.loop == "fast" and "monitor" in steps else "prediction"
    return steps.index(rests_on if act.loop != "operator" else "proposal")


def _summary(act: Action, judged: Action | None) -> str:
    what = f"{act.loop} {act.move} in {act.scope}"
    if act.kind == "decision":
        return f"{what}: not done, {act.detail.get('rule')} objected"
    if not act.detail.get("complete"):
        return f"{what}: tried, not complete, given back"
    undo = judged.detail.get("undo") if judged else None
    return f"{what}: done" + (f", later undone: {undo}" if undo else "")


async def _inputs(history: History, site: Site, rows: list[str], at_s: float) -> Rung:
    """The warmest inlet and slowest p95 around, as last read before the act."""
    around = [p for p in site.points.values() if not rows or p.row in rows]
    limits = site.limits
    texts, numbers = [], {}
    for quantity, limit, unit in (
        ("inlet_c", limits.inlet_max_c, "degC"), ("latency_p95_ms", limits.latency_p95_max_ms, "ms"),
    ):  # fmt: skip
        points = [p for p in around if p.quantity == quantity and not p.part][:MOST_INLETS]
        worst = await _worst(history, points, at_s)
        if worst is not None:
            value, key, age_s = worst
            texts.append(
                f"worst {quantity} {value:.1f} {unit} at {key} ({age_s:.0f} s old), limit {limit:g}"
            )
            numbers[quantity] = {
                "value": value,
                "point": key,
                "age_s": age_s,
                "limit": limit,
                "unit": unit,
            }
    where = f"row {', '.join(rows)}" if rows else "hall"
    text = "; ".join(texts) or "no reading of it is kept in history"
    return Rung("inputs", f"{where}: {text}", numbers=numbers)


async def _worst(
    history: History, points: Sequence[Point], at_s: float
) -> tuple[float, str, float] | None:
    worst: tuple[float, str, float] | None = None
    for point in points:
        samples = await history.series(point.key, at_s - LOOK_BACK_S, at_s + 0.001)
        good = [s for s in samples if s.value is not None]
        if good and good[-1].value is not None and (worst is None or good[-1].value > worst[0]):
            worst = good[-1].value, point.key, at_s - good[-1].ts_s
    return worst


async def _monitor(history: History, row: str, at_s: float) -> Rung | None:
    scores = await history.scores(f"row:{row}", at_s - LOOK_BACK_S, at_s + 0.001)
    if not scores:
        return None
    s = scores[-1]
    ema = "unknown" if s.ema is None else f"{s.ema:.2f}"
    since = f" since {utc(s.since_s)}" if s.since_s else ""
    from_ = f", most from {', '.join(s.top)}" if s.top else ""
    numbers = {
        "row": row,
        "state": s.state,
        "ema": s.ema,
        "deviation": s.deviation,
        "top": list(s.top),
    }
    return Rung("monitor", f"row {row}: {s.state}{since}, D(x) {ema}{from_}", numbers=numbers)


def _candidates(detail: Any) -> Rung | None:
    """What was weighed beside it, best first, and the rule that removed each of the others."""
    found = detail.get("candidates")
    if not found:
        return None
    lines = [_candidate(c) for c in found[:MOST_CANDIDATES]]
    return Rung("candidates", "; ".join(lines), numbers={"candidates": found})


def _candidate(c: Any) -> str:
    return (
        f"{c['move']} {c['scope']} {_number(c['old'])} -> {_number(c['new'])}"
        f" {c['predicted_kw']:+.2f} ± {c['predicted_sigma_kw']:.2f} kW"
        f" ({c['against'] or 'nothing against it'})"
    )


def _proposal(detail: Any, site: Site) -> Rung:
    changes = detail.get("changes", {})
    shown = ", ".join(_change(site.points.get(k), k, v) for k, v in list(changes.items())[:6])
    more = f" and {len(changes) - 6} more" if len(changes) > 6 else ""
    return Rung(
        "proposal", f"{detail.get('reason', '')} [{shown}{more}]", numbers={"changes": changes}
    )


def _change(point: Point | None, key: str, values: Any) -> str:
    old, new = (*values, None, None)[:2] if isinstance(values, list) else (None, None)
    unit = f" {point.about.unit}" if point else ""
    return f"{key} {_number(old)} -> {_number(new)}{unit}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "?"


def _prediction(detail: Any) -> Rung:
    kw, sigma_kw = detail.get("predicted_kw"), detail.get("predicted_sigma_kw")
    if not kw:
        return Rung("prediction", "no saving is expected of it: it protects, or is a person's wish")
    text = f"expected {kw:+.2f} ± {sigma_kw or 0.0:.2f} kW (1 sigma) against doing nothing"
    return Rung("prediction", text, numbers={"predicted_kw": kw, "predicted_sigma_kw": sigma_kw})


def _verdict(act: Action) -> Rung:
    if act.kind == "action":
        return Rung("verdict", "permitted: no guardrail objected")
    rule, numbers = act.detail.get("rule"), act.detail.get("numbers")
    would = act.detail.get("would")
    but = " Otherwise it would have been made." if would else ""
    return Rung(
        "verdict", f"denied by {rule}: {numbers}.{but}", numbers={"rule": rule, "would": would}
    )


def _write(detail: Any) -> Rung:
    receipts: dict[str, str] = detail.get("receipts", {})
    bad = {k: v for k, v in receipts.items() if v != "applied"}
    if not bad and detail.get("complete"):
        return Rung(
            "write", f"{len(receipts)} written and read back", numbers={"receipts": receipts}
        )
    why = "; ".join(map(str, detail.get("why", []))) or "not every point was reached"
    return Rung(
        "write",
        f"not complete: {why}; what was written is given back",
        numbers={"receipts": receipts},
    )


def _outcome(judged: Action | None) -> Rung:
    if judged is None:
        return Rung("outcome", "not judged yet, or nothing to judge")
    d = judged.detail
    text = (
        f"inlet {_number(d.get('inlet_before_c'))} -> {_number(d.get('inlet_c'))} degC"
        f" ({_number(d.get('predicted_inlet_k'))} K expected),"
        f" power {_number(d.get('realised_kw'))} kW ({_number(d.get('predicted_kw'))} expected)"
    )
    undo = d.get("undo")
    return Rung("outcome", f"{text}; {f'undone: {undo}' if undo else 'kept'}", numbers=dict(d))


def _end(ended: Action | None) -> Rung:
    if ended is None:
        return Rung("end", "still held, as far as history knows")
    d = ended.detail
    text = f"given back to {d.get('target')} at {utc(ended.ts_s)}: {d.get('reason')} ({d.get('receipt')})"
    return Rung("end", text)
