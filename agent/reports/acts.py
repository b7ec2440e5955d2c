"""What was done in a stretch of time, what it was worth, who called and who acted.

A saving is a difference to what did not happen, so it can only be modelled: for each move that
was held, what the hall's learned model says of it now (else what was predicted), times how long it was
held. Never adds to it what only puts work off.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent.audit import read_entries, verify
from agent.clock import parse_utc, utc
from agent.history.query import Action
from agent.plain import finite
from agent.reports.grid import Grid, Span
from config.quantities import WORK
from config.site import Site
from drivers.gate import JournalError

MOST_SHOWN = 400
PEOPLE = frozenset({"mode", "mode_refused", "command", "resume", "reload"})
GONE = ("normal", "returned")  # states in which the cause is away
SEVERITIES = ("critical", "high", "medium", "low")
PAGE = 1_000


def actions(acts: Sequence[Action]) -> dict[str, Any]:
    """By move: how often made, undone and refused; what it promised and what was measured."""
    moves: dict[tuple[str, str], dict[str, Any]] = {}
    judged = judgements(acts)
    refused: Counter[str] = Counter()
    for act in acts:
        if act.kind not in ("action", "decision"):
            continue
        entry = moves.setdefault((act.loop or "", act.move or ""), {
            "loop": act.loop, "move": act.move, "made": 0, "incomplete": 0, "refused": 0, "judged": 0,
            "undone": 0, "predicted_kw": 0.0, "judged_predicted_kw": 0.0, "realised_kw": None,
            "inlet_expected_k": [], "inlet_measured_k": [],
        })  # fmt: skip
        if act.kind == "decision":
            entry["refused"] += 1
            refused[str(act.detail.get("rule"))] += 1
            continue
        entry["made" if act.detail.get("complete") else "incomplete"] += 1
        entry["predicted_kw"] += _number(act.detail.get("predicted_kw")) or 0.0
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


def judgements(acts: Sequence[Action]) -> dict[str, Any]:
    """The latest judgement of each act, by its id. `acts` are newest first."""
    return {str(a.detail.get("id")): a.detail for a in reversed(acts) if a.kind == "judged"}


def _book(entry: dict[str, Any], verdict: Any) -> None:
    entry["judged"] += 1
    entry["undone"] += bool(verdict.get("undo"))
    entry["judged_predicted_kw"] += _number(verdict.get("predicted_kw")) or 0.0
    if (realised := _number(verdict.get("realised_kw"))) is not None:
        entry["realised_kw"] = (entry["realised_kw"] or 0.0) + realised
    before, after = _number(verdict.get("inlet_before_c")), _number(verdict.get("inlet_c"))
    if before is not None and after is not None:
        entry["inlet_measured_k"].append(after - before)
        entry["inlet_expected_k"].append(_number(verdict.get("predicted_inlet_k")) or 0.0)


def _number(value: Any) -> float | None:
    return finite(float(value)) if isinstance(value, int | float) else None


@dataclass(slots=True)
class Held:
    """One move and the time it was held, within the span."""

    act: Action
    until_s: float


def held_moves(acts: Sequence[Action], span: Span) -> list[Held]:
    """Each complete move with the time it ended. Undoing takes the latest move of a point back;
    any other ending takes all of them."""
    stacks: dict[str, list[Held]] = {}
    found = []
    for act in reversed(acts):
        if act.kind == "action" and act.detail.get("complete"):
            held = Held(act, span.until_s)
            found.append(held)
            for key in act.detail.get("changes", {}):
                stacks.setdefault(key, []).append(held)
        elif act.kind == "ending" and act.detail.get("receipt") in ("applied", "overridden"):
            stack = stacks.get(str(act.detail.get("point")), [])
            gone = stack[-1:] if act.detail.get("target") == "previous" else stack[:]
            del stack[len(stack) - len(gone) :]
            for held in gone:
                held.until_s = min(held.until_s, act.ts_s)
    return [h for h in found if h.until_s > span.since_s]


def saving(
    site: Site, acts: Sequence[Action], span: Span, held: Grid, total_kwh: float | None
) -> dict[str, Any]:
    """kWh saved against leaving every setpoint where it was, by the model, split and by move.

    Doubt adds up within a knob (one coefficient) and in squares between knobs.
    """
    judged = judgements(acts)
    kwh = {"cooling": 0.0, "it": 0.0}
    doubt: dict[tuple[str | None, str | None], float] = {}
    moves: dict[str, float] = {}
    for h in held_moves(acts, span):
        verdict = judged.get(str(h.act.detail.get("id")), {})
        realised_kw = _number(verdict.get("realised_kw"))
        kw = _number(h.act.detail.get("predicted_kw")) if realised_kw is None else realised_kw
        if kw is None:
            continue
        hours = (h.until_s - max(h.act.ts_s, span.since_s)) / 3_600.0
        kwh[_part(site, h.act)] -= kw * hours
        moves[str(h.act.move)] = moves.get(str(h.act.move), 0.0) - kw * hours
        sigma_kw = _number(h.act.detail.get("predicted_sigma_kw")) or 0.0
        knob = (h.act.move, h.act.scope)
        doubt[knob] = doubt.get(knob, 0.0) + sigma_kw * hours
    total = sum(kwh.values())
    half = 1.96 * float(np.sqrt(sum(d**2 for d in doubt.values())))
    share = 100.0 * total / (total_kwh + total) if total_kwh and total_kwh + total > 0 else None
    return {
        "source": "modelled", "unit": "kWh", "kwh": total, "low": total - half, "high": total + half,
        "pct": share, "split": kwh | {"deferred": 0.0}, "by_move": moves,
        "deferred_minutes": _put_off(held, span), "would": _would(acts, span),
        "against": "leaving every setpoint where it was",
    }  # fmt: skip


def _part(site: Site, act: Action) -> str:
    points = (site.points.get(k) for k in act.detail.get("changes", {}))
    return "it" if any(p is not None and p.quantity in WORK for p in points) else "cooling"


def _put_off(held: Grid, span: Span) -> float:
    """Minutes in which some work was kept waiting (admission under 100 %)."""
    at = [i for i, p in enumerate(held.points) if p.quantity == "admission_pct"]
    waiting = (held.mean[at] < 99.5).any(axis=0)
    return round(float(waiting.sum()) * span.step_s / 60.0, 1)


def _would(acts: Sequence[Action], span: Span) -> dict[str, Any]:
    """What advisory mode kept from being done: proposals that only the mode denied."""
    kw: dict[tuple[str | None, str | None], list[float]] = {}
    for act in acts:
        if act.kind == "decision" and act.detail.get("would") and act.ts_s >= span.since_s:
            kw.setdefault((act.move, act.scope), []).append(
                _number(act.detail.get("predicted_kw")) or 0.0
            )
    first = sum(float(np.mean(values)) for values in kw.values())
    return {
        "proposals": sum(map(len, kw.values())),
        "knobs": len(kw),
        "first_step_kw": first,
        "unit": "kW",
    }


def timeline(acts: Sequence[Action]) -> list[dict[str, Any]]:
    """Every act, oldest first: what, where, why, what was expected and what came of it."""
    judged = judgements(acts)
    found = []
    for act in reversed(acts):
        if act.kind != "action":
            continue
        detail, verdict = act.detail, judged.get(str(act.detail.get("id")), {})
        undone = f"undone: {verdict['undo']}" if verdict.get("undo") else "kept" if verdict else ""
        found.append({
            "ts": utc(act.ts_s), "id": detail.get("id"), "loop": act.loop, "move": act.move,
            "scope": act.scope, "reason": detail.get("reason"), "changes": detail.get("changes", {}),
            "predicted_kw": _number(detail.get("predicted_kw")),
            "realised_kw": _number(verdict.get("realised_kw")),
            "candidates": detail.get("candidates", []),
            "outcome": undone if detail.get("complete") else "not complete, given back",
        })  # fmt: skip
    return found[-MOST_SHOWN:]


def alarms(acts: Sequence[Action]) -> dict[str, Any]:
    """Alarms that were raised: how many, how many of them called, the most in ten minutes."""
    listed: list[dict[str, Any]] = []
    standing: dict[str, dict[str, Any]] = {}
    for act in reversed(acts):
        if act.kind != "alarm":
            continue
        detail, name = act.detail, str(act.detail.get("id"))
        if detail.get("state") in GONE:
            if (entry := standing.pop(name, None)) is not None:
                entry["until"] = utc(act.ts_s)
            continue
        entry = standing.get(name)
        if entry is None:
            entry = standing[name] = {
                k: detail.get(k) for k in ("id", "since", "severity", "text", "advice")
            }
            entry |= {"called": False, "until": None}
            listed.append(entry)
        entry["called"] |= bool(detail.get("calls"))
    times = sorted(t for e in listed if e["called"] and (t := parse_utc(str(e["since"]))))
    most = max((sum(t <= x < t + 600.0 for x in times) for t in times), default=0)
    by = {s: sum(e["severity"] == s for e in listed) for s in SEVERITIES}
    return {"raised": len(listed), "called": len(times), "most_in_10_min": most, "by_severity": by,
            "list": listed[:MOST_SHOWN]}  # fmt: skip


def audit(journal: Path, span: Span) -> dict[str, Any]:
    """What the journal holds of the span, what people did, and whether its chain is whole."""
    if not journal.exists():
        return {"chain": None, "why": f"no journal at {journal.name}: this is another host's history",
                "entries": 0, "by_kind": {}, "people": []}  # fmt: skip
    kinds: Counter[str] = Counter()
    people = []
    try:
        for entry in _entries(journal):
            if span.since_s <= entry["at_s"] < span.until_s:
                kinds[entry["kind"]] += 1
                if entry["kind"] in PEOPLE:
                    people.append(entry | {"ts": utc(entry["at_s"])})
        broken = verify(journal)
    except JournalError as error:
        broken = str(error)
    return {"chain": "broken" if broken else "whole", "why": broken or "", "entries": kinds.total(),
            "by_kind": dict(kinds.most_common()), "people": people[:MOST_SHOWN]}  # fmt: skip


def _entries(journal: Path) -> Iterator[dict[str, Any]]:
    seq = 0
    while page := read_entries(journal, seq, PAGE):
        yield from page
        seq = page[-1]["seq"]
