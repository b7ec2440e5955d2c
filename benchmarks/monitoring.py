"""IMS and MMS on SKAB, beside seven others; how dirt in training hurts.

    .venv/bin/python benchmarks/monitoring.py [--data ../shared/skab] [--json FILE] [--select]

Protocol: train on the first 400 rows of each file, thresholds from those rows only, judge the
rest; one configuration for all files; one confusion matrix summed over all files. A delay is
counted from the first labelled row to the first alarm in the labelled stretch; a fault without an
alarm is missed and its delay endless. A false event is an alarm that starts in a nominal row, per hour
of nominal rows. `--select` chooses the configuration on some files and judges it on the others.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from monitoring_peers import PEERS, Peer
from numpy.typing import NDArray

from agent.table import Layout, Table
from agent.training import TrainOptions, train
from control import ims, mms
from control.ims_model import ImsModel

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
TRAIN_ROWS = 400
GOAL = "F1 >= 0.82, FAR <= 12 %, MAR <= 25 %, missed <= 1, delay <= 40 s, false events <= 5/h"


@dataclass(frozen=True, slots=True)
class Case:
    """One file: values (n, f) and whether each row is labelled anomalous (n,)."""

    name: str
    columns: tuple[str, ...]
    x: Floats
    fault: Bools


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one file adds to the sums. `delay_s` is inf for a missed fault."""

    tp: int
    fp: int
    fn: int
    tn: int
    delay_s: float
    false_events: int


@dataclass(frozen=True, slots=True)
class Figures:
    """The six figures a monitor is judged by, together."""

    f1: float
    far_pct: float
    mar_pct: float
    missed: int
    delay_s: float
    false_per_h: float

    def good(self) -> bool:
        """Whether all six reach the goal."""
        return bool(
            self.f1 >= 0.82 and self.far_pct <= 12 and self.mar_pct <= 25 and self.missed <= 1
            and self.delay_s <= 40 and self.false_per_h <= 5
        )  # fmt: skip


def load(folder: Path) -> list[Case]:
    """Every CSV under `folder`."""
    cases = []
    for path in sorted(folder.glob("*/*.csv")):
        with Table(path, Layout(time_column="datetime", ignore=("changepoint",))) as table:
            rows = np.array([row.values for row in table])
            at = table.columns.index("anomaly")
            names = tuple(n for n in table.columns if n != "anomaly")
        values = np.delete(rows, at, axis=1)
        cases.append(Case(f"{path.parent.name}/{path.stem}", names, values, rows[:, at] > 0.5))
    return cases


def outcome(alarm: Bools, fault: Bools) -> Outcome:
    """Alarms (m,) against labels (m,), one row a second."""
    hits = np.flatnonzero(alarm & fault)
    first = np.flatnonzero(fault)
    starts = alarm & ~np.concatenate([[False], alarm[:-1]])
    return Outcome(
        int((alarm & fault).sum()), int((alarm & ~fault).sum()),
        int((~alarm & fault).sum()), int((~alarm & ~fault).sum()),
        float(hits[0] - first[0]) if len(hits) else float("inf"), int((starts & ~fault).sum()),
    )  # fmt: skip


def figures(outcomes: Sequence[Outcome]) -> Figures:
    """The six figures of one confusion matrix, summed over files."""
    tp, fp, fn, tn = (sum(getattr(o, k) for o in outcomes) for k in ("tp", "fp", "fn", "tn"))
    delays = [o.delay_s for o in outcomes]
    return Figures(
        round(2 * tp / max(2 * tp + fp + fn, 1), 3), round(100 * fp / max(fp + tn, 1), 1),
        round(100 * fn / max(fn + tp, 1), 1), int(np.isinf(delays).sum()), float(np.median(delays)),
        round(sum(o.false_events for o in outcomes) * 3600 / max(fp + tn, 1), 1),
    )  # fmt: skip


def live(model: ImsModel, x: Floats, params: mms.MmsParams) -> Bools:
    """Alarms (m,) of rows `x` (m, f), one after the other as in the agent."""
    ims_state, mms_state = ims.start(model, 1), mms.start(1, 0.0)
    alarms = np.zeros(len(x), dtype=np.bool_)
    for t in range(len(x)):
        ims_state, s = ims.observe(model, ims_state, x[t : t + 1])
        mms_state = mms.step(
            params, mms_state, s.deviation, s.unknown, model.tau_fast, model.tau_persist, float(t)
        )
        alarms[t] = mms_state.persistent[0]
    return alarms


def skadi(
    case: Case, options: TrainOptions, params: mms.MmsParams, train_x: Floats | None = None
) -> Outcome:
    """Skadi on one file."""
    nominal = case.x[:TRAIN_ROWS] if train_x is None else train_x
    model = train(nominal, case.columns, options)
    return outcome(live(model, case.x[TRAIN_ROWS:], params), case.fault[TRAIN_ROWS:])


def peer(case: Case, method: Peer, smooth: bool) -> Outcome:
    """Another method on one file: over its p98 in each row, or through Skadi's MMS."""
    own, other = method(case.x[:TRAIN_ROWS], case.x[TRAIN_ROWS:])
    fast, persist = np.percentile(own, [95, 98])
    if not smooth:
        return outcome(other > persist, case.fault[TRAIN_ROWS:])
    state, alarms = mms.start(1, 0.0), np.zeros(len(other), dtype=np.bool_)
    for t, d in enumerate(other):
        known = np.array([False])
        state = mms.step(mms.MmsParams(), state, np.array([d]), known, fast, persist, float(t))
        alarms[t] = state.persistent[0]
    return outcome(alarms, case.fault[TRAIN_ROWS:])


def dirty(case: Case, share: float, kind: str, seed: int) -> Floats:
    """The training rows with a share of them replaced by rows of the file's own fault."""
    rng = np.random.default_rng([seed, *case.name.encode()])
    rows, count = case.x[:TRAIN_ROWS].copy(), round(TRAIN_ROWS * share)
    bad = TRAIN_ROWS + np.flatnonzero(case.fault[TRAIN_ROWS:])
    if kind == "scattered":
        rows[rng.choice(TRAIN_ROWS, count, replace=False)] = case.x[rng.choice(bad, count)]
    else:
        to, at = rng.integers(TRAIN_ROWS - count), rng.integers(len(bad) - count)
        rows[to : to + count] = case.x[bad[at : at + count]]
    return rows


def compare(cases: list[Case]) -> dict[str, Figures]:
    """Skadi and the others, best first."""
    plain = mms.MmsParams()
    table = {"Skadi": figures([skadi(c, TrainOptions(), plain) for c in cases])}
    for name, method in PEERS.items():
        table[name] = figures([peer(c, method, False) for c in cases])
        table[f"{name} + MMS"] = figures([peer(c, method, True) for c in cases])
    always = [outcome(np.ones(len(c.x) - TRAIN_ROWS, bool), c.fault[TRAIN_ROWS:]) for c in cases]
    table["always on"] = figures(always)
    return table


def contaminated(cases: list[Case], seeds: int) -> dict[str, list[Figures]]:
    """Skadi trained on dirty rows: a list over seeds for each kind and share."""
    return {
        f"{share:.0%} {kind}": [
            figures([
                skadi(c, TrainOptions(), mms.MmsParams(), dirty(c, share, kind, seed))
                for c in cases
            ])
            for seed in range(seeds)
        ]
        for share, kind in itertools.product((0.02, 0.05), ("scattered", "in one block"))
    }  # fmt: skip


GRID = list(itertools.product((8, 12, 16, 24, 32), (1.2, 1.35, 1.5, 1.7, 2.0)))


def select(cases: list[Case], splits: int) -> dict[str, object]:
    """Choose span and margin on 12 files, judge on the other 5, over random splits.

    The choice is the highest F1 among those whose other figures reach the goal on the 12 (F1 alone
    where none does), so what is reported of the 5 was chosen without them.
    """
    made = {}
    for span, factor in GRID:
        options = TrainOptions(span_rows=span, margin=factor)
        made[span, factor] = [skadi(c, options, mms.MmsParams()) for c in cases]
        print(f"  span {span}, margin {factor}: {figures(made[span, factor])}", file=sys.stderr)
    rng = np.random.default_rng(0)
    held: list[Outcome] = []
    chosen: list[tuple[int, float]] = []
    for _ in range(splits):
        order = rng.permutation(len(cases))
        inner, outer = order[: len(cases) * 12 // 17], order[len(cases) * 12 // 17 :]
        inside = {k: figures([v[i] for i in inner]) for k, v in made.items()}
        best = max(inside, key=lambda k: (inside[k].good(), inside[k].f1))
        chosen.append(best)
        held.extend(made[best][i] for i in outer)
    counts = {f"span {s}, margin {m}": chosen.count((s, m)) for s, m in sorted(set(chosen))}
    return {"held_out": asdict(figures(held)), "chosen": counts}


def show(name: str, f: Figures) -> str:
    """One line of the table."""
    return (
        f"{name:24s} {f.f1:6.3f} {f.far_pct:7.1f} {f.mar_pct:7.1f} {f.missed:7d} "
        f"{f.delay_s:8.0f} {f.false_per_h:8.1f}"
    )


def main() -> int:
    """Run it; exit 1 when the goal is not reached on clean training rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("--data", type=Path, default=here.parent / "shared" / "skab")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--seeds", type=int, default=3, help="of the dirt in training")
    parser.add_argument("--select", action="store_true", help="cross-validate the configuration")
    asked = parser.parse_args()
    cases = load(asked.data)
    if not cases:
        parser.error(f"no CSV under {asked.data}: point --data at SKAB's data folder")
    print(f"{len(cases)} files, {sum(len(c.x) - TRAIN_ROWS for c in cases)} rows judged")
    print(
        f"{'':24s} {'F1':>6s} {'FAR %':>7s} {'MAR %':>7s} {'missed':>7s} {'delay s':>8s} {'false/h':>8s}"
    )
    table = compare(cases)
    for name, f in table.items():
        print(show(name, f), flush=True)
    dirt = contaminated(cases, asked.seeds)
    for name, runs in dirt.items():
        worst = min(runs, key=lambda f: f.f1)
        print(show(f"{name} (worst)", worst), flush=True)
    result: dict[str, object] = {
        "figures": {k: asdict(v) for k, v in table.items()},
        "contaminated": {k: [asdict(f) for f in v] for k, v in dirt.items()},
    }  # fmt: skip
    if asked.select:
        result["select"] = select(cases, 200)
        print(json.dumps(result["select"]))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1))
    good = table["Skadi"].good()
    print(f"{'goal reached' if good else 'goal NOT reached'}: {GOAL}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
