"""What fits differ by is doubt; which of them is believed changes with what is seen, not before."""

from dataclasses import replace

import numpy as np
import pytest

from control.fits import FITS_MOST, Fits, chosen, fitted
from control.response import Kernel, Seen
from tests.control.test_chart import seen_on

AIR = np.array([True])
AROUND = np.array([20.0, 14.0, 1.0, np.nan, np.nan])
NOW = np.array([18.0])
STEPS_C = np.repeat([18.0, 20.0, 18.0, 20.0, 18.0, 20.0], 8)


def effect_kw(fits: Fits, level_c: float = 20.0) -> tuple[float, float]:
    mean, sigma = fits.effects(np.array([[level_c]]), NOW, AROUND)
    return float(mean[0]), float(sigma[0])


def stepped(stored_kw: float, saved_kw: float) -> Seen:
    """Levels to and fro by 2 K, 2 h each: what walls take in (as much, falling) and what is saved for good."""
    went = np.r_[0.0, np.diff(STEPS_C)]
    behind = np.zeros(len(STEPS_C))
    for i, step in enumerate(went):
        behind[i] = 0.6 * (behind[i - 1] if i else 0.0) + step
    seen = seen_on(50.0 - saved_kw * (STEPS_C - 18.0) / 2.0 - stored_kw * behind / 2.0, STEPS_C)
    return replace(seen, behind=np.stack([went, behind, behind], axis=1)[:, None])


def test_shares_add_up_and_the_likeliest_comes_first() -> None:
    fits = chosen(AIR, stepped(5.0, 1.0), (Kernel(),))
    assert 1 < len(fits.each) <= FITS_MOST
    assert fits.share.sum() == pytest.approx(1.0)
    assert list(fits.share) == sorted(fits.share, reverse=True)
    assert fits.best.likely == max(f.likely for f in fits.each)


def test_where_fits_differ_doubt_is_at_least_by_what_they_do() -> None:
    """One that thinks that power follows what is set at once, and one that it lags far behind."""
    seen = stepped(0.0, 4.0)
    seen = replace(seen, levels=18.0 + (seen.asked - 18.0) / 4.0)
    apart = [fitted(AIR, seen, (Kernel(lags=lags),)) for lags in (False, True)]
    alone = [effect_kw(f) for f in apart]
    each = tuple(f.best for f in apart)
    mean, sigma = effect_kw(Fits(each, np.array([0.5, 0.5])))
    assert abs(alone[0][0] - alone[1][0]) > 1.0
    assert mean == pytest.approx((alone[0][0] + alone[1][0]) / 2.0)
    assert sigma >= abs(alone[0][0] - alone[1][0]) / 2.0
    assert sigma > min(alone[0][1], alone[1][1])
    hours = np.ones(len(seen))
    both = Fits(each, np.array([0.5, 0.5])).doubt(NOW, hours)
    assert both > min(f.doubt(NOW, hours) for f in apart)


def test_whether_walls_store_anything_is_learned() -> None:
    """A hall without heavy walls shows so within half a day."""
    light, heavy = (chosen(AIR, stepped(stored_kw, 0.7), (Kernel(),)) for stored_kw in (0.0, 16.0))
    assert light.best.kernel.stored < heavy.best.kernel.stored
    assert effect_kw(light)[0] == pytest.approx(-0.7, abs=0.2)
    assert heavy.best.kernel.stored == 1.0


def test_on_its_first_half_day_one_fit_is_believed_and_walls_are_the_usual_ones() -> None:
    seen = stepped(0.0, 0.7)
    young = replace(seen, weight=0.99 * seen.weight)
    (only,) = chosen(AIR, young, (Kernel(),)).each
    assert (only.kernel.stored, only.kernel.heavy) == (1.0, 1.0)


@pytest.mark.parametrize(("noise", "drift"), [(0.01, 0.03), (0.05, 0.15)])
def test_what_drifts_unseen_drifts_at_rest_too(noise: float, drift: float) -> None:
    """Power that wanders by itself is believed to drift no more than averages at rest allow."""
    wander = np.zeros(192)
    steps = np.random.default_rng(1).standard_normal(192)
    for i in range(1, 192):
        wander[i] = 0.92 * wander[i - 1] + 0.1 * steps[i]
    seen = seen_on(50.0 * (1.0 + wander), np.full(192, 18.0))
    for start in (Kernel(), Kernel(drift=0.15)):
        assert chosen(AIR, seen, (start,), noise).best.kernel.drift == drift


def test_a_ledge_is_told_from_what_is_smooth() -> None:
    """A compressor starts a fifth of a kelvin below the level found."""
    levels = np.tile(np.linspace(16.0, 20.0, 17), 4)
    seen = seen_on(np.where(levels < 17.8, 85.0, 50.0), levels)
    assert chosen(AIR, seen, (Kernel(shape="smooth"),)).best.kernel.shape == "ledges"


def test_what_lies_beyond_a_ledge_is_no_saving_on_this_side_of_it() -> None:
    """Four days: mostly at the level found, now and then across the ledge below it, and as seldom a little
    above it, where it is dearer. Smooth curves that come down the ledge go on downwards."""
    levels = np.tile(np.r_[np.full(20, 18.0), 17.75, np.full(20, 18.0), 18.25], 9)
    kw = np.where(levels < 17.8, 85.0, 50.0 + 3.0 * (levels - 18.0))
    kw += 0.1 * np.random.default_rng(1).standard_normal(len(kw))
    mean_kw, sigma_kw = effect_kw(chosen(AIR, seen_on(kw, levels), (Kernel(),)), 18.25)
    assert mean_kw == pytest.approx(0.75, abs=0.25)
    assert sigma_kw < 1.0


def test_kernels_are_kept_from_block_to_block() -> None:
    fits = chosen(AIR, stepped(5.0, 1.0), (Kernel(),))
    again = fitted(AIR, stepped(5.0, 1.0), tuple(f.kernel for f in fits.each))
    assert {f.kernel for f in again.each} == {f.kernel for f in fits.each}
    assert again.share == pytest.approx(fits.share)
