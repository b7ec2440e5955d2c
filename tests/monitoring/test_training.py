"""Training: dirt, drift, regimes, units, and the worker."""

import asyncio
import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from agent.training import WINDOW, TrainingError, TrainOptions, train, train_in_worker
from control import ims, ims_calibrate, ims_frame

NAMES = ("inlet_c", "pdu_kw", "fan_rpm_pct")


def nominal(rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal([22.0, 8.0, 60.0], [0.2, 0.3, 1.0], (rows, 3))


def shifted(rows: int, seed: int, by: tuple[float, float, float]) -> np.ndarray:
    """The same hall elsewhere."""
    return nominal(rows, seed) + np.array(by)


def deviations(model: ims.ImsModel, x: np.ndarray) -> np.ndarray:
    state, out = ims.start(model, 1), []
    for row in x:
        state, scores = ims.observe(model, state, row[None])
        out.append(scores.deviation[0])
    return np.array(out)


def test_a_feature_that_wanders_is_trusted_less_the_less_of_it_was_seen() -> None:
    """Two features of the same spread, one pure noise, one a slow wave; then more of the wave."""
    rng = np.random.default_rng(1)
    for waves, widened in ((1, 5.0), (40, 1.5)):
        rows = 400 * waves
        wave = np.sqrt(2) * np.sin(2 * np.pi * np.arange(rows) / 400)
        x = np.column_stack([rng.normal(0, 1, rows), wave + rng.normal(0, 0.05, rows)])
        frame = ims_frame.frame(x, ims_frame.jump_noise(np.diff(x, axis=0)))
        assert frame.scale[0] == pytest.approx(1.0, abs=0.1)
        assert (frame.scale[1] > 5.0) == (widened == 5.0), frame.scale
        if widened != 5.0:
            assert frame.scale[1] < 0.6 * np.sqrt(40) * 5.0


def test_noise_is_estimated_through_dirt_and_steps() -> None:
    x = np.random.default_rng(2).normal(0, 2.0, (4000, 1))
    x[::50] += 1000.0
    assert ims_frame.jump_noise(np.diff(x, axis=0))[0] == pytest.approx(2.0, rel=0.1)
    assert ims_frame.band_spread(x)[0] == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("share", [0.02, 0.05])
@pytest.mark.parametrize("kind", ["scattered", "block"])
def test_dirt_in_training_does_not_make_a_fault_look_usual(share: float, kind: str) -> None:
    x, fault = nominal(600, 3), shifted(200, 4, (0.0, 0.0, -15.0))
    count = round(len(x) * share)
    rng = np.random.default_rng(5)
    at = (
        rng.choice(600, count, replace=False)
        if kind == "scattered"
        else np.arange(300, 300 + count)
    )
    x[at] = fault[:count]
    model = train(x, NAMES)
    assert int(model.trained_on["gross"]) == count
    assert deviations(model, fault)[30:].min() > 2 * model.tau_persist
    assert np.mean(deviations(model, nominal(600, 6)) > model.tau_persist) < 0.02


def test_two_regimes_are_two_regions_and_between_them_is_not_nominal() -> None:
    a, b = nominal(1000, 7), shifted(1000, 8, (2.0, 6.0, 25.0))
    x = np.concatenate([a[:500], b[:500], a[500:], b[500:]])
    model = train(x, NAMES)
    assert len(model.support) >= 2
    for known in (nominal(300, 9), shifted(300, 10, (2.0, 6.0, 25.0))):
        assert np.mean(deviations(model, known)[30:] > model.tau_persist) < 0.02
    odd = shifted(300, 11, (2.0, 0.0, 25.0))  # the fan of one, the load of the other
    assert deviations(model, odd)[30:].min() > model.tau_persist


def test_context_explains_a_move_of_our_own() -> None:
    rng = np.random.default_rng(12)
    setpoint = np.repeat(rng.uniform(17, 22, 40), 50)
    inlet = setpoint + 4.0 + rng.normal(0, 0.2, len(setpoint))
    x, names = np.column_stack([inlet, setpoint]), ("inlet_c", "supply_air_setpoint_c")
    model = train(x, names, TrainOptions(context=("supply_air_setpoint_c",)))
    moved = np.column_stack([26.4 + rng.normal(0, 0.2, 200), np.full(200, 22.4)])
    assert np.mean(deviations(model, moved) > model.tau_persist) < 0.05
    fouled = np.column_stack([26.4 + rng.normal(0, 0.2, 200), np.full(200, 20.0)])
    assert deviations(model, fouled)[30:].min() > model.tau_persist


def test_units_keep_their_own_place() -> None:
    rng = np.random.default_rng(13)
    own = np.array([[0.0, 0, 0], [3.0, -2.0, 5.0], [-2.0, 4.0, -9.0]])
    x = rng.normal([22.0, 8.0, 60.0], [0.2, 0.3, 1.0], (800, 3, 3)) + own
    model = train(x, NAMES, units=["A01", "A02", "A03"])
    assert np.allclose(model.unit_offsets - model.unit_offsets[0], own, atol=0.2)
    scores = ims.score(model, np.array([22.0, 8.0, 60.0]) + own)
    assert (scores.deviation < model.tau_fast).all()
    swapped = ims.score(model, np.array([22.0, 8.0, 60.0]) + own[::-1])
    assert swapped.deviation[0] > model.tau_persist
    assert swapped.deviation[2] > model.tau_persist


def test_features_that_are_hardly_known_are_left_out_by_name() -> None:
    x = np.column_stack([nominal(300, 14), np.full(300, np.nan)])
    x[::7, 1] = np.nan
    model = train(x, (*NAMES, "pump_rpm_pct"))
    assert model.features == NAMES
    assert model.trained_on["dropped"] == "pump_rpm_pct"


def test_one_count_of_a_coarse_sensor_is_no_fault_two_that_stay_are() -> None:
    """A display in whole units that hardly ever changes: its rare counts are no surprise."""
    rng = np.random.default_rng(20)
    fine = rng.normal([22.0, 8.0, 60.0], [0.2, 0.3, 1.0], (2400, 3))
    coarse = np.round(fine)
    model = train(coarse[:400], NAMES)
    assert np.mean(deviations(model, coarse[400:]) > model.tau_persist) < 0.02
    off = coarse[400:600] + np.array([2.0, 0.0, 0.0])
    assert deviations(model, off)[30:].min() > model.tau_persist


def test_more_features_than_a_model_holds_are_refused() -> None:
    with pytest.raises(TrainingError, match="at most 256"):
        train(np.zeros((100, 257)), [f"f{i}" for i in range(257)])


def test_the_same_rows_make_the_same_model() -> None:
    assert train(nominal(300, 15), NAMES).id == train(nominal(300, 15), NAMES).id


def test_a_constant_feature_does_not_divide_by_zero() -> None:
    x = nominal(300, 16)
    x[:, 2] = 60.0
    model = train(x, NAMES)
    x[:, 2] = 63.0
    assert deviations(model, x)[30:].min() > model.tau_persist


def test_a_long_history_is_taken_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.training.MOST_CELLS", 4 * WINDOW)
    model = train(nominal(40 * WINDOW, 17), NAMES)
    assert 0.9 * 4 * WINDOW < int(model.trained_on["rows"]) <= 4 * WINDOW
    assert np.mean(deviations(model, nominal(600, 18)) > model.tau_persist) < 0.01


@pytest.mark.parametrize(
    ("x", "names", "message"),
    [
        (np.zeros((10, 3)), NAMES, "at least 60"),
        (np.zeros((100, 2)), NAMES, "shape"),
        (np.full((100, 3), np.nan), NAMES, "no feature"),
        (np.zeros((100, 2, 3, 1)), NAMES, "shape"),
    ],
)
def test_rows_that_make_no_model_say_why(
    x: np.ndarray, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        train(x, names)


def test_rows_that_never_meet_say_why() -> None:
    x = nominal(300, 19)
    x[::2, 0] = np.nan
    x[1::2, 1] = np.nan
    with pytest.raises(TrainingError, match="every feature"):
        train(x, NAMES)


def test_blocks_are_judged_by_models_that_did_not_see_them() -> None:
    seen: list[tuple[float, float]] = []

    def judge(others: np.ndarray, block: np.ndarray) -> np.ndarray:
        assert not set(others[:, 0]) & set(block[:, 0])
        seen.append((block[0, 0], block[-1, 0]))
        return block[:, 0]

    taus = ims_calibrate.calibrate(judge, np.arange(100.0)[:, None], blocks=5)
    assert seen == [(0.0, 19.0), (20.0, 39.0), (40.0, 59.0), (60.0, 79.0), (80.0, 99.0)]
    assert taus.tau_fast == pytest.approx(np.percentile(np.arange(100.0), 95))
    assert taus.tau_persist == pytest.approx(np.percentile(np.arange(100.0), 98))


def test_the_margin_keeps_a_long_clean_history_quiet() -> None:
    rng = np.random.default_rng(20)
    scores = np.abs(rng.normal(0.0, 1.0, 200_000))
    taus = ims_calibrate.from_scores(scores, 95, 98)
    factor = ims_calibrate.margin(taus, 1.5, 1_000_000)
    assert 1.5 < factor < ims_calibrate.MOST_MARGIN
    fresh = np.abs(rng.normal(0.0, 1.0, 1_000_000))
    assert (fresh > factor * taus.tau_persist).sum() <= 1
    assert (fresh > factor * taus.tau_fast).sum() <= 10
    few = ims_calibrate.from_scores(scores[:300], 95, 98)
    assert ims_calibrate.margin(few, 1.5, 300) == 1.5


async def test_the_worker_answers_the_same_and_its_errors_come_back() -> None:
    x = nominal(200, 21)
    assert (await train_in_worker(x, NAMES)).id == train(x, NAMES).id
    with pytest.raises(TrainingError, match="at least 60"):
        await train_in_worker(x[:10], NAMES)


async def test_a_cancelled_training_leaves_no_process_and_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    task = asyncio.create_task(train_in_worker(nominal(100_000, 22), NAMES))
    for _ in range(2000):
        if psutil.Process().children():
            break
        await asyncio.sleep(0.01)
    (worker,) = psutil.Process().children()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not worker.is_running()
    assert not os.listdir(tmp_path)
