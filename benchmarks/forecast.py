"""How far the forecasters are off on real load and weather, and on the bundled hall's prompts.

    .venv/bin/python benchmarks/forecast.py [--hall-days 21] [--learn-days 7] [--json FILE]

Mean absolute errors on the last third of each series: every forecast sees the 14 days before it and
nothing later. The load of ../shared/traces and the weather of ../shared/plants are hourly and taken so
(a line between two hours would tell the first what the second will be): they say nothing of 10 min. The
hall's prompts are simulated, in the agent's steps. Trees are learned once a week (the agent: once a day). The LLM traces last an hour, too short for any of this.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.boosting import boost
from control.forecast import DAY_S, History
from control.foresight import KEPT, NAMES, STEP_S, told
from simulators.hall import Hall

F64 = NDArray[np.float64]

SHARED = Path(__file__).resolve().parents[2] / "shared"
AHEAD_S = {"10 min": 600.0, "1 h": 3600.0, "6 h": 21_600.0}
HOUR_S, HALL_STEP_S = 3600.0, 60.0


def load(path: Path) -> F64:
    """Hourly CPU load of a cluster, in %."""
    with path.open(newline="", encoding="utf-8") as lines:
        return 100.0 * np.array([float(row["cpu_load"]) for row in csv.DictReader(lines)])


def outdoor(path: Path) -> F64:
    """Hourly dry-bulb temperature of an EPW file, degC (its seventh column, after eight lines)."""
    with path.open(newline="", encoding="utf-8", errors="replace") as lines:
        return np.array([float(row[6]) for row in list(csv.reader(lines))[8:]])


def prompts(scenario: str, days: float) -> F64:
    """Prompts a second in the bundled hall, means over STEP_S."""
    hall = Hall(seed=1, scenario=scenario, step_s=HALL_STEP_S)
    rates = [p.id for p in hall.points() if p.quantity == "prompts_ps"]
    steps = round(days * DAY_S / STEP_S)
    seen = np.empty((steps, round(STEP_S / HALL_STEP_S)))
    for at in np.ndindex(seen.shape):
        reading = hall.step(HALL_STEP_S, {})
        seen[at] = sum(reading[name] for name in rates)
    return seen.mean(axis=1)


def errors(values: F64, step_s: float, learn_s: float) -> dict[str, dict[str, float]]:
    """Mean absolute error by forecaster and time ahead, over the last third."""
    ahead = {name: round(s / step_s) for name, s in AHEAD_S.items() if s >= step_s}
    most, kept = max(ahead.values()), round(KEPT * STEP_S / step_s)
    found: dict[str, list[F64]] = {name: [] for name in NAMES}
    first, trees = len(values) * 2 // 3, None
    for i in range(first, len(values) - most):
        past = History(values[max(i + 1 - kept, 0) : i + 1], step_s, i * step_s)
        if (i - first) % round(learn_s / step_s) == 0:
            trees = boost(past, most)
        for name, expected in zip(NAMES, told(past, trees, most), strict=True):
            found[name].append(np.abs(expected - values[i + 1 : i + 1 + most]))
    return {
        name: {k: float(np.mean([e[h - 1] for e in rows])) for k, h in ahead.items()}
        for name, rows in found.items()
    }


def main() -> int:
    """Run it; exit 1 where no forecaster is as good an hour ahead as that nothing changes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hall-days", type=float, default=21.0, help="0: without the hall")
    parser.add_argument("--learn-days", type=float, default=7.0, help="between two learnings of trees")  # fmt: skip
    parser.add_argument("--json", type=Path, help="also write the figures here")
    asked = parser.parse_args()
    real = {p.stem: load(p) for p in sorted((SHARED / "traces").glob("*CPU*.csv"))}
    real |= {p.stem: outdoor(p) for p in sorted((SHARED / "plants").glob("*.epw"))}
    if not real:
        print(f"no traces or weather in {SHARED}", file=sys.stderr)
    series = {name: (values, HOUR_S) for name, values in real.items()}
    if asked.hall_days > 0:
        series |= {f"hall, {s}": (prompts(s, asked.hall_days), STEP_S) for s in ("default", "bursty")}  # fmt: skip
    made = {}
    for name, (values, step_s) in series.items():
        made[name] = errors(values, step_s, asked.learn_days * DAY_S)
        for forecaster, off in made[name].items():
            row = "".join(f"{k:>8s} {v:7.3f}" for k, v in off.items())
            print(f"{name:36s} {forecaster:12s}{row}", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(made, indent=1), encoding="utf-8")
    hour_ahead = [[off["1 h"] for off in of.values()] for of in made.values()]
    return 0 if made and all(min(off) <= off[0] for off in hour_ahead) else 1


if __name__ == "__main__":
    sys.exit(main())
