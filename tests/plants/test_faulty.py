"""A plant seen through bad sensors: what is said differs as it should, what is so is kept."""

import math
from statistics import pstdev

import pytest

from tests.plants.faulty import DRIFT_K, STUCK_FROM_S, Faulty

ODD = {"plant": "tests.plants.odd:Odd", "zones": "3", "racks": "4", "swing": "0.35", "noise": "0"}


def said(faults: str, hours: int = 20) -> tuple[Faulty, list[dict[str, float]]]:
    plant = Faulty(faults=faults, **ODD)
    return plant, [plant.step(300.0, {}) for _ in range(hours * 12)]


def test_a_stuck_probe_says_what_it_said_last_and_the_others_go_on() -> None:
    plant, readings = said("stuck")
    after = [r for i, r in enumerate(readings) if (i + 1) * 300.0 > STUCK_FROM_S]
    assert len({r[plant.stuck] for r in after}) == 1
    assert len({r[plant.drifting] for r in after}) > 100


def test_a_drifting_probe_ends_three_kelvin_too_high_and_the_truth_is_not() -> None:
    plant, readings = said("drift")
    neighbour = plant.drifting.replace("r2", "r1")
    gap = [r[plant.drifting] - r[neighbour] for r in readings]
    assert gap[-1] - gap[0] == pytest.approx(DRIFT_K)
    worst_c = plant.truth()["worst_inlet_c"]
    assert max(r[plant.drifting] for r in readings) > worst_c
    assert max(r[neighbour] for r in readings) <= worst_c + 1e-9


def test_a_tenth_of_the_readings_is_lost_and_no_energy_is() -> None:
    plant, readings = said("lost")
    values = [v for r in readings for v in r.values()]
    assert sum(map(math.isnan, values)) / len(values) == pytest.approx(0.1, abs=0.02)
    clean, _ = said("stuck")
    assert plant.truth()["total_kwh"] == pytest.approx(clean.truth()["total_kwh"])


def test_noise_is_of_a_fifth_of_a_kelvin() -> None:
    plant, readings = said("noise")
    _, quiet = said("stuck")
    off = [a[plant.drifting] - b[plant.drifting] for a, b in zip(readings, quiet, strict=True)]
    assert pstdev(off) == pytest.approx(0.2, rel=0.2)


def test_an_unknown_fault_is_named() -> None:
    with pytest.raises(ValueError, match="rust unknown"):
        Faulty(faults="noise+rust", **ODD)
