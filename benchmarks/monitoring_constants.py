"""Does the monitor hang on its constants? Each of them changed, on SKAB; chosen without the file judged.

    .venv/bin/python benchmarks/monitoring_constants.py [--data ../shared/skab] [--draws 24] [--json FILE]

Each constant alone at LEVELS of what is in use. Then, for each: a level is chosen on all files but
one (or all groups but one) and the one left out is judged by it. Then all constants at once, each
drawn between 0.7 and 1.4 of what is in use. The choice is the highest F1 among the levels whose
other figures reach the goal (F1 alone where none does), and what is in use where none is better.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from monitoring import TRAIN_ROWS, Case, Figures, Outcome, figures, load, outcome, show

from agent import training
from agent.training import TrainOptions, train
from control import ims, ims_frame, mms
from control.ims_model import ImsModel
from control.mms import MmsParams

LEVELS = (0.5, 0.8, 1.0, 1.25, 1.5)
# Where a constant stands. Percentiles are changed by what lies above them.
OPTIONS = ("span_rows", "margin", "clusters", "blocks", "fast_percentile", "persist_percentile")
MODULES: dict[str, ModuleType] = {
    "TRUSTED_SAMPLES": ims_frame, "GROSS": ims_frame, "TRIM": ims_frame, "REGIME": ims_frame,
    "UNIFORM": ims_frame, "WIDTH": training, "WORTH": training, "_STEP_CAP": mms,
}  # fmt: skip
PARAMS = ("alpha", "persist_ticks", "alpha_clear", "clear_ticks", "clear", "evidence", "relief", "relief_ticks")  # fmt: skip
NAMES = (*OPTIONS, *MODULES, *PARAMS)
ALIKE = frozenset({*PARAMS, "_STEP_CAP"})  # no new training for these


def scaled(value: Any, by: float, name: str) -> Any:
    """A constant times `by`, kept of its kind and in its range."""
    if name.endswith("percentile"):
        return 100.0 - (100.0 - value) * by
    if isinstance(value, int):
        return max(1, round(value * by))
    if name == "WORTH":  # of the best: never under 1
        return 1.0 + (value - 1.0) * by
    return min(value * by, 1.0) if name in ("alpha", "alpha_clear", "clear") else value * by


def models_of(cases: Sequence[Case], options: TrainOptions) -> list[ImsModel]:
    return [train(c.x[:TRAIN_ROWS], c.columns, options) for c in cases]


def scores_of(model: ImsModel, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """D (m,) and unknown (m,) of the rows to judge, one after the other."""
    state, d = ims.start(model, 1), []
    for row in case.x[TRAIN_ROWS:]:
        state, s = ims.observe(model, state, row[None, :])
        d.append((s.deviation[0], s.unknown[0]))
    return np.array([x for x, _ in d]), np.array([u for _, u in d], dtype=np.bool_)


def judged(model: ImsModel, case: Case, d: tuple[np.ndarray, np.ndarray], params: MmsParams) -> Outcome:  # fmt: skip
    state, alarms = mms.start(1, 0.0), np.zeros(len(d[0]), dtype=np.bool_)
    for t in range(len(alarms)):
        one = slice(t, t + 1)
        state = mms.step(params, state, d[0][one], d[1][one], model.tau_fast, model.tau_persist, float(t))  # fmt: skip
        alarms[t] = state.persistent[0]
    return outcome(alarms, case.fault[TRAIN_ROWS:])


class Bench:
    """Outcomes of all files with some constants changed; what needs no training is not trained."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = cases
        self._plain = self._trained(TrainOptions())

    def _trained(self, options: TrainOptions) -> list[tuple[ImsModel, tuple[np.ndarray, np.ndarray]]]:  # fmt: skip
        models = models_of(self.cases, options)
        return [(m, scores_of(m, c)) for m, c in zip(models, self.cases, strict=True)]

    def run(self, changes: Mapping[str, float]) -> list[Outcome]:
        options, params, kept = TrainOptions(), MmsParams(), {}
        for name, by in changes.items():
            if name in MODULES:
                kept[name] = getattr(MODULES[name], name)
                setattr(MODULES[name], name, scaled(kept[name], by, name))
            elif name in PARAMS:
                params = replace(params, **{name: scaled(getattr(params, name), by, name)})
            else:
                options = replace(options, **{name: scaled(getattr(options, name), by, name)})
        try:
            made = self._plain if set(changes) <= ALIKE else self._trained(options)
            return [judged(m, c, d, params) for c, (m, d) in zip(self.cases, made, strict=True)]
        finally:
            for name, value in kept.items():
                setattr(MODULES[name], name, value)


def chosen(by_level: Mapping[float, list[Outcome]], among: Sequence[int]) -> float:
    """The level that does best on some files; the one in use where none does better."""
    found = {k: figures([v[i] for i in among]) for k, v in by_level.items()}
    return max(found, key=lambda k: (found[k].good(), found[k].f1, k == 1.0))


def left_out(by_level: Mapping[float, list[Outcome]], folds: Sequence[Sequence[int]]) -> tuple[Figures, int]:  # fmt: skip
    """The figures of folds judged by what was chosen on the others, and how often what is in use was."""
    everything, held, same = range(len(by_level[1.0])), [], 0
    for fold in folds:
        level = chosen(by_level, [i for i in everything if i not in fold])
        same += level == 1.0
        held += [by_level[level][i] for i in fold]
    return figures(held), same


def main() -> int:
    """Run it; exit 1 when F1 of what was left out, or of every other draw, is under 0.78."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("--data", type=Path, default=here.parent / "shared" / "skab")
    parser.add_argument("--draws", type=int, default=24)
    parser.add_argument("--only", choices=NAMES, action="append", help="a constant; default: all")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    asked = parser.parse_args()
    cases = load(asked.data)
    groups: dict[str, list[int]] = {}
    for i, case in enumerate(cases):
        groups.setdefault(case.name.partition("/")[0], []).append(i)
    bench = Bench(cases)
    in_use = bench.run({})
    print(show("in use", figures(in_use)), flush=True)
    for group, members in groups.items():
        print(show(f"  {group} ({len(members)})", figures([in_use[i] for i in members])))
    result: dict[str, Any] = {"in_use": asdict(figures(in_use)), "alone": {}, "left_out": {}}
    worst = 1.0
    for name in asked.only or NAMES:
        by_level = {k: in_use if k == 1.0 else bench.run({name: k}) for k in LEVELS}
        for level, outcomes in by_level.items():
            print(show(f"{name} x{level}", figures(outcomes)), flush=True)
        files, same = left_out(by_level, [[i] for i in range(len(cases))])
        grouped, same_groups = left_out(by_level, list(groups.values()))
        print(show(f"  files left out, {same}/{len(cases)} as is", files))
        print(show(f"  groups left out, {same_groups}/{len(groups)}", grouped), flush=True)
        worst = min(worst, files.f1, grouped.f1)
        result["alone"][name] = {k: asdict(figures(v)) for k, v in by_level.items()}
        result["left_out"][name] = {"files": asdict(files), "groups": asdict(grouped),
                                    "as_is": [same, same_groups]}  # fmt: skip
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(asked.draws):
        levels = dict(zip(NAMES, np.exp(rng.uniform(np.log(0.7), np.log(1.4), len(NAMES))), strict=True))  # fmt: skip
        draws.append(figures(bench.run(levels)))
        print(show("all at once", draws[-1]), flush=True)
    result["all_at_once"] = [asdict(d) for d in draws]
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1))
    return 0 if worst >= 0.78 and np.median([d.f1 for d in draws]) >= 0.78 else 1


if __name__ == "__main__":
    sys.exit(main())
