"""The six figures on public data, all together, clean and with dirt in training.

Runs where ../shared/skab is (the data are GPL and stay out of this repository);
`benchmarks/monitoring.py` prints the same beside other methods.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from agent.training import TrainOptions
from control.mms import MmsParams

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "skab"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs SKAB's data in ../shared/skab")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("monitoring", ROOT / "benchmarks/monitoring.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["monitoring"] = module
    spec.loader.exec_module(module)
    return module


def test_the_goal_is_reached_on_clean_training_rows(bench: ModuleType) -> None:
    cases = bench.load(DATA)
    assert len(cases) == 17
    reached = bench.figures([bench.skadi(c, TrainOptions(), MmsParams()) for c in cases])
    print(reached)
    assert reached.good(), reached


def test_five_per_cent_of_dirt_costs_little(bench: ModuleType) -> None:
    cases = bench.load(DATA)
    runs = [
        bench.skadi(c, TrainOptions(), MmsParams(), bench.dirty(c, 0.05, "scattered", 7))
        for c in cases
    ]
    reached = bench.figures(runs)
    print(reached)
    assert reached.f1 >= 0.888 - 0.12, reached


def test_the_figures_are_counted_as_written(bench: ModuleType) -> None:
    import numpy as np

    fault = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 0], dtype=bool)
    alarm = np.array([0, 1, 0, 0, 0, 1, 1, 1, 0, 0], dtype=bool)
    one = bench.outcome(alarm, fault)
    assert (one.tp, one.fp, one.fn, one.tn) == (2, 2, 2, 4)
    assert (one.delay_s, one.false_events) == (2.0, 1)
    none = bench.outcome(np.zeros(10, dtype=bool), fault)
    both = bench.figures([one, none])
    assert both.missed == 1
    assert both.f1 == round(4 / (4 + 2 + 6), 3)
    assert both.false_per_h == round(3600 / 12, 1)
