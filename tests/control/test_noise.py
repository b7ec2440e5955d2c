"""What averages differ by at rest is counted as it comes, and is not forgotten by who moves."""

from dataclasses import replace

import numpy as np
import pytest

from control.noise import LIMITS, PAIR_S, PAIRS_LEAST, Noise, heard
from control.response import Kernel, Seen
from tests.control.test_chart import seen_on

MEAN_KW = 50.0


def listened(seen: Seen, noise: Noise | None = None) -> Noise:
    """After each block of what was seen, in turn."""
    noise = noise or Noise()
    for n in range(1, len(seen) + 1):
        noise = heard(noise, first(seen, n))
    return noise


def first(seen: Seen, n: int) -> Seen:
    return Seen(*(getattr(seen, name)[:n] for name in Seen.__dataclass_fields__))


def resting(sigma: float, n: int = 200, seed: int = 1) -> Seen:
    """Averages at one level that differ by a share of their mean."""
    kw = MEAN_KW * (1.0 + sigma * np.random.default_rng(seed).standard_normal(n))
    return seen_on(kw, np.full(n, 18.0))


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.2])
def test_what_averages_at_rest_differ_by_is_heard(sigma: float) -> None:
    assert listened(resting(sigma)).share(MEAN_KW) == pytest.approx(sigma, rel=0.2)


def test_who_moves_for_days_does_not_forget_it() -> None:
    """A coil that switches is as noisy while setpoints follow the weather, though nothing rests."""
    noise = listened(resting(0.2))
    moving = seen_on(np.full(400, MEAN_KW), 18.0 + 0.25 * np.arange(400))
    assert listened(moving, noise).share(MEAN_KW) == noise.share(MEAN_KW)


def test_what_setpoints_do_is_no_noise() -> None:
    """Levels that swing, levels still on their way, and gaps between averages tell nothing."""
    kw = np.tile([40.0, 60.0], 50)
    still = seen_on(kw, np.full(100, 18.0))
    for seen in (
        seen_on(kw, np.tile([18.0, 20.0], 50)),
        replace(still, rough=np.ones(100)),
        replace(still, hasty=np.ones(100)),
        replace(still, behind=np.ones((100, 1, 3))),
        replace(still, at_s=2.0 * PAIR_S * np.arange(100)),
    ):
        assert listened(seen) == Noise()
    assert listened(still).pairs > PAIRS_LEAST


def test_a_hall_that_calms_down_is_believed_within_days() -> None:
    loud = listened(resting(0.2))
    calm = listened(resting(0.01, n=500, seed=2), loud)
    assert calm.share(MEAN_KW) < 0.03


def test_a_few_pairs_say_nothing_and_no_noise_is_beyond_its_limits() -> None:
    assert listened(resting(0.2, n=PAIRS_LEAST)).share(MEAN_KW) == Kernel.noise
    assert listened(resting(0.0)).share(MEAN_KW) == LIMITS[0]
    assert listened(resting(5.0)).share(MEAN_KW) == LIMITS[1]
