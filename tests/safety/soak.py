"""The safety soak: the stages of the safety run again and again, from seeds that were never tried.

    python -m tests.safety.soak [--minutes 60] [--only STAGE ...] [--jobs 1]

Resumable: what was done stands in docs/safety-soak.json, and each round begins where the last one
ended; docs/safety-soak.md is written from it. Run it as often as there is time; ends with 1 when
anything was broken and does so still.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.safety import campaign
from tests.safety.run import STAGES, TICKS, Stage, bound, run_stage

DOCS = Path(__file__).parents[2] / "docs"
STATE, PAGE = DOCS / "safety-soak.json", DOCS / "safety-soak.md"
FIRST_SEED = 1_000_000  # the safety run's own are below
GOALS = {"scenarios": 200_000, "kills": 5_000, "whole": 200, "cuts": 5_000}
CODE = ("agent", "config", "control", "drivers", "simulators", "tests")
TICK_S, YEAR_S = 10.0, 365.25 * 86_400.0
MOST_KEPT = 20  # broken lines that are kept for people


def begun() -> dict[str, Any]:
    """What was done so far, by stage."""
    return json.loads(STATE.read_text(encoding="utf-8")) if STATE.exists() else {}


def commit() -> str:
    """What is being tried: the commit, with a + where its code was changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=DOCS, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", *(f":/{part}" for part in CODE))
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def one_round(stage: Stage, state: dict[str, Any], jobs: int, code: str) -> None:
    """One more round of a stage on this code, added to the state."""
    done = state.setdefault(
        stage.name,
        {"next_seed": FIRST_SEED, "cases": 0, "broken": 0, "told": [], "figures": {}, "code": {}},
    )
    tally, _ = run_stage(stage, done["next_seed"], stage.soak, jobs)
    done["next_seed"] += stage.soak
    done["clean"] = done.get("clean", done["cases"]) + tally.cases
    done["cases"] += tally.cases
    done["code"][code] = done["code"].get(code, 0) + tally.cases
    done["broken"] += len(tally.broken)
    done["told"] = [*done["told"], *tally.broken][:MOST_KEPT]
    for name, by in tally.figures.items():
        before = done["figures"].get(name, 0)
        single = name in stage.same
        done["figures"][name] = max(before, by) if single else before + by


def again(state: dict[str, Any], code: str) -> None:
    """Scenarios that broke a promise once, on this code: what does so no more is mended."""
    done = state.get("scenarios", {"told": []})
    for seed in {int(t.split(",")[0].split(":")[0].removeprefix("seed ")) for t in done["told"]}:
        if not campaign.run_one(seed, TICKS, campaign.memory()).broken:
            was = [t for t in done["told"] if t.startswith(f"seed {seed}")]
            done["told"] = [t for t in done["told"] if t not in was]
            done["broken"] -= len(was)
            done["clean"] = 0  # the bound begins anew
            done["mended"] = [*done.get("mended", []), *(f"{t} (not so on {code})" for t in was)]


def page(state: dict[str, Any]) -> str:
    """The report for people."""
    lines = [
        "# Safety soak so far",
        "",
        "Written by `make soak` (tests/safety/soak.py); any number of runs add up. With no failure in N"
        " independent trials the 95 % bound on their rate is 3/N; N counts from the last that was mended.",
        "",
        "| stage | promises | tried | goal | broken | 95 % bound | figures |",
        "|---|---|---|---|---|---|---|",
    ]
    for stage in STAGES:
        done = state.get(stage.name)
        if done is None:
            continue
        figures = ", ".join(f"{v:g} {k}" for k, v in done["figures"].items())
        goal = f"{GOALS[stage.name]:,}" if stage.name in GOALS else ""
        limit = "-" if done["broken"] else bound(done.get("clean", done["cases"]))
        lines.append(f"| {stage.unit} | {stage.promises} | {done['cases']:,} | {goal} |"
                     f" {done['broken']} | {limit} | {figures} |")  # fmt: skip
    ticks = state.get("scenarios", {}).get("figures", {}).get("ticks", 0)
    lines += ["", f"Simulated time of the scenarios: {ticks * TICK_S / YEAR_S:.2f} years."]
    for code in sorted({c for done in state.values() for c in done["code"]}):
        tried = [f"{d['code'][code]:,} {n}" for n, d in state.items() if code in d["code"]]
        lines.append(f"On `{code}`: {', '.join(tried)}.")
    for title, key in (("Broken", "told"), ("Broken once, and mended", "mended")):
        told = [t for done in state.values() for t in done.get(key, ())]
        lines += ["", f"{title}:", "", *(f"- {t}" for t in told)] if told else []
    return "\n".join(lines) + "\n"


def save(state: dict[str, Any]) -> None:
    """Keep what was done."""
    STATE.write_text(json.dumps(state, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(state), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    names = [s.name for s in STAGES if s.soak]
    p = argparse.ArgumentParser(prog="soak", description=__doc__)
    p.add_argument("--minutes", type=float, default=60.0)
    p.add_argument("--only", nargs="*", default=[], choices=names)
    p.add_argument("--jobs", type=int, default=1)
    a = p.parse_args(argv)
    campaign.quiet()
    code = commit()
    state, end_s = begun(), time.monotonic() + 60.0 * a.minutes
    again(state, code)
    while True:
        for stage in STAGES:
            if not stage.soak or (a.only and stage.name not in a.only):
                continue
            one_round(stage, state, a.jobs, code)
            save(state)
            done = state[stage.name]
            print(f"{stage.name}: {done['cases']} so far, {done['broken']} broken", flush=True)
            if time.monotonic() >= end_s:
                return 1 if any(d["broken"] for d in state.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
