"""What a stream of numbers teaches: followed in time, faded back to physics, never against it."""

import numpy as np
import pytest

from control.estimate import Gaussian, learn
from control.signals import HALL, PLACE
from control.slow_model import COOLING, prior, updated

F64 = np.ndarray
FADES = Gaussian.prior(np.array([0.0, -2.0]), np.array([10.0, 1.0]), np.array([0.1, 0.25]))


def told(belief: Gaussian, slope: float, count: int = 60) -> Gaussian:
    """After so many looks at a world of this slope."""
    for i in range(count):
        x = np.array([1.0, float(i % 5)])
        belief = learn(belief, x, slope * x[1], 0.05)
    return belief


def test_what_is_not_seen_again_fades_to_what_physics_says_and_so_does_its_certainty() -> None:
    belief = told(FADES, 1.0)
    assert belief.mean[1] == pytest.approx(1.0, abs=0.1)
    means, doubts = [], []
    for _ in range(6):
        for _ in range(25):
            belief = learn(belief, np.array([1.0, 0.0]), 0.0, 0.05)
        means.append(belief.mean[1])
        doubts.append(belief.cov[1, 1] ** 0.5)
    assert means == sorted(means, reverse=True)
    assert doubts == sorted(doubts)
    assert means[-1] == pytest.approx(-2.0, abs=0.1)
    assert doubts[-1] == pytest.approx(1.0, abs=0.05)
    assert belief.mean[0] == pytest.approx(0.0, abs=0.5), "the base is where it was seen"


def test_as_much_of_physics_as_holds_now() -> None:
    belief = FADES.scaled(np.array([1.0, 0.1]))
    for _ in range(200):
        belief = learn(belief, np.array([1.0, 0.0]), 0.0, 0.05)
    assert belief.mean[1] == pytest.approx(-0.2, abs=0.02)
    assert belief.cov[1, 1] ** 0.5 == pytest.approx(0.1, abs=0.01)


def test_no_coefficient_is_learned_that_physics_forbids() -> None:
    free, bound = (
        FADES,
        Gaussian.prior(FADES.usual, FADES.sigma, FADES.wander, np.array([0.0, -1.0])),
    )
    assert told(free, 1.0).mean[1] > 0.9
    assert told(bound, 1.0).mean[1] == 0.0
    assert told(bound, -3.0).mean[1] == pytest.approx(-3.0, abs=0.1)


def hall(it_kw: float, cooling_kw: float, water_c: float = 10.0) -> tuple[F64, F64]:
    """Averages of a hall of one place in which only these change."""
    at = dict.fromkeys(HALL, 0.0) | {
        "total_kw": it_kw + cooling_kw, "it_kw": it_kw, "cooling_kw": cooling_kw, "outdoor_c": 15.0,
        "fan_cube": 0.2, "pump_cube": 0.2, "air_c": 20.0, "water_c": water_c, "prompts_ps": 50.0,
    }  # fmt: skip
    return np.array([at[k] for k in HALL]), np.full((1, len(PLACE)), 20.0)


def test_bursts_of_work_reach_the_chillers_late_and_are_not_booked_with_the_water() -> None:
    """Cooling follows IT power by ten minutes; while it bursts, warmer water saves 2 kW a kelvin."""
    rng = np.random.default_rng(7)
    belief = prior(*hall(480.0, 120.0), 0.0)
    assert belief is not None
    arrived, water_c = 480.0, 10.0
    for i in range(1, 400):
        it_kw = 480.0 + 80.0 * float(rng.integers(-1, 2))
        arrived += (1.0 - np.exp(-120.0 / 600.0)) * (it_kw - arrived)
        water_c = 10.0 + i // 40 % 2
        cooling_kw = 120.0 + 0.25 * (arrived - 480.0) - 2.0 * (water_c - 10.0)
        belief = updated(belief, *hall(it_kw, cooling_kw, water_c), 120.0 * i)
    slopes = dict(zip(COOLING, belief.cooling.mean, strict=True))
    assert slopes["it_kw"] == pytest.approx(0.25, abs=0.02)
    assert slopes["water_c"] == pytest.approx(-2.0, abs=0.4)


def test_warmer_water_is_worth_nothing_where_the_weather_cools() -> None:
    """Compressors off: what is left of the power could not carry the heat."""
    belief = prior(*hall(480.0, 120.0), 0.0)
    assert belief is not None
    first = belief.cooling.mean[COOLING.index("water_c")]
    for i in range(1, 120):
        belief = updated(belief, *hall(480.0, 28.0), 120.0 * i)
    assert -0.5 < belief.cooling.mean[COOLING.index("water_c")] / abs(first) <= 0.0


def test_loads_that_jump_teach_nothing_about_levels_that_stand() -> None:
    """A load that climbs by day and falls by night, for ten days at 14 degC: what a kelvin takes stays
    what the step before said, on whichever side of zero levels stand."""
    for level in (-4.0, 4.0):
        sizes = np.array([30.0, 0.3]), np.array([2.0, 0.003])
        belief = Gaussian.prior(np.array([110.0, 0.3]), *sizes, np.array([0.0, 1.0]))
        last = np.array([1.0, 0.0])
        for x in (last, np.array([1.0, level])):
            for _ in range(20):
                belief = learn(belief, x, 110.0 + 0.2 * x[1], 0.05, jumps_at=last)
                last = x
        slope = float(belief.mean[1])
        assert slope == pytest.approx(0.2, abs=0.1)
        for look in range(7200):
            jump = 3.0 if look % 60 < 30 else -3.0
            base_kw = 110.0 + 10.0 * np.sin(look / 115.0) + jump
            belief = learn(belief, last, base_kw + 0.2 * last[1], 0.05, jumps_at=last)
        assert belief.mean[1] == pytest.approx(slope, abs=0.05)
