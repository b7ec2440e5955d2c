"""Rehearsals beside each other: baseline, references, Skadi, oracle, on the same hall and arrivals.

Takes results of `skadi rehearse --json` or of `skadi demo --json`. Says what each spent on a
prompt and on what; a saving only between runs of the same plant, scenario, seed and hours.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Json = Mapping[str, Any]
PARTS = ("cooling", "IT", "losses", "deferred work")
BASELINE = ("fixed", "baseline")
# What a run is called, in the order of the bars.
NAMES = {
    "fixed": "as it stands", "baseline": "without Skadi", "pid": "PID", "trim-respond": "trim & respond",
    "best-constant": "best constant", "skadi": "Skadi", "oracle": "oracle",
}  # fmt: skip
FOLDER = "rehearsals"  # in data_dir: what stands there is in every report
SAME = ("plant", "scenario", "seed", "hours")


def read_results(path: Path) -> list[dict[str, Any]]:
    """Results from a file: one JSON value, or one a line. Raises ValueError, OSError."""
    text = path.read_text(encoding="utf-8")
    wrong = "not a result of  skadi rehearse --json  or  skadi demo --json"
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise ValueError(wrong) from None
    results = found if isinstance(found, list) else [found]
    for r in results:
        if not isinstance(r, dict) or not (
            {"controller", "wh_per_prompt"} <= r.keys() or "baseline" in r
        ):
            raise ValueError(wrong)
    try:
        compare(results)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(wrong) from None
    return results


def kept(data_dir: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The results in data_dir/rehearsals/*.json, and what is wrong with other files there."""
    found: list[dict[str, Any]] = []
    wrong = []
    for path in sorted((data_dir / FOLDER).glob("*.json")):
        try:
            found += read_results(path)
        except (OSError, ValueError) as error:
            wrong.append(f"{path}: {error}; the report goes without it")
    return found, wrong


def compare(results: Sequence[Json]) -> dict[str, Any] | None:
    """Runs with their Wh/prompt in parts, and what Skadi saved against the baseline; None: no runs."""
    runs = [_run(name, about, r) for name, about, r in _flat(results)]
    if not runs:
        return None
    order = list(NAMES)
    runs.sort(
        key=lambda r: order.index(r["controller"]) if r["controller"] in NAMES else len(order)
    )
    base = next((r for r in runs if r["controller"] in BASELINE), None)
    for run in runs:
        run["saving_pct"], run["saving_split"] = _saving(base, run)
    return {"runs": runs, "against": base["name"] if base else None, "parts": list(PARTS)}


def _flat(results: Sequence[Json]) -> list[tuple[str, Json, Json]]:
    """(controller, what it ran on, account) of each run; a demo has two."""
    flat: list[tuple[str, Json, Json]] = []
    for r in results:
        about = {"plant": "hall"} | {k: r[k] for k in SAME if k in r}
        if "controller" in r:
            flat.append((str(r["controller"]), about, r.get("truth") or r))
        else:
            flat += [(name, about, r[name]) for name in ("baseline", "skadi")]
    return flat


def _run(controller: str, about: Json, account: Json) -> dict[str, Any]:
    prompts = account.get("prompts") or 0.0
    cooling, it = (float(account.get(k) or 0.0) for k in ("cooling_kwh", "it_kwh"))
    deferred, total = float(account.get("deferred_kwh") or 0.0), float(account["total_kwh"])
    kwh = (cooling, it, total - cooling - it - deferred, deferred)
    steps = account.get("violation_steps")
    return {
        "controller": controller, "name": NAMES.get(controller, controller), **{k: about.get(k) for k in SAME},
        "wh_per_prompt": account.get("wh_per_prompt"), "total_kwh": total, "prompts": prompts,
        "parts_wh": {p: 1e3 * v / prompts for p, v in zip(PARTS, kwh, strict=True)} if prompts else {},
        "worst_inlet_c": account.get("worst_inlet_c"), "worst_rack_kw": account.get("worst_rack_kw"),
        "worst_latency_p95_ms": account.get("worst_latency_p95_ms"),
        "over_limit": sum(steps.values()) if steps else account.get("minutes_over_limit"),
    }  # fmt: skip


def _saving(base: Json | None, run: Json) -> tuple[float | None, dict[str, float]]:
    """Percent of Wh/prompt, and points of it by part; nothing between unlike runs."""
    if base is None or base is run or any(base[k] != run[k] for k in SAME):
        return None, {}
    before, after = base["wh_per_prompt"], run["wh_per_prompt"]
    if not before or after is None:
        return None, {}
    split = {p: 100.0 * (base["parts_wh"][p] - run["parts_wh"][p]) / before for p in PARTS}
    return 100.0 * (1.0 - after / before), split


def bars(compared: Json | None) -> list[dict[str, Any]]:
    """The chart of it, where there is something to compare."""
    if compared is None:
        return []
    runs = [r for r in compared["runs"] if r["parts_wh"]]
    return [{
        "id": "rehearsal", "kind": "bars", "title": "Energy a prompt, by who steers", "url": None,
        "x": {"label": "controller", "unit": "1", "values": [r["name"] for r in runs]},
        "y": {"label": "Energy a prompt", "unit": "Wh"},
        "series": [{"name": p, "values": [round(r["parts_wh"][p], 5) for r in runs]} for p in PARTS],
    }] if runs else []  # fmt: skip


def write_report(results: Sequence[Json], path: Path) -> None:
    """Rehearsals as a file of their own: .html, .pdf or .json. Raises ValueError, OSError."""
    compared = compare(results)
    if compared is None:
        raise ValueError("no results to report")
    charts = bars(compared)
    if path.suffix == ".json":
        path.write_text(json.dumps({"rehearsal": compared, "charts": charts}), encoding="utf-8")
        return
    from agent.reports.page import (
        rehearsal_page,  # late: a rehearsal without --report needs no page
    )

    blocks = rehearsal_page(compared, charts)
    if path.suffix == ".html":
        from agent.reports.html import render_blocks

        path.write_text(render_blocks(blocks), encoding="utf-8")
    elif path.suffix == ".pdf":
        from agent.reports.pdf import pdf_of

        path.write_bytes(pdf_of(blocks))
    else:
        raise ValueError(f"{path}: end it in .html, .pdf or .json")
