"""Which step a trial makes, and what it says of sensors that move, stay, or move the wrong way."""

from dataclasses import replace

import numpy as np
import pytest

from config.site import Point
from control import trial
from control.trial import Watched
from tests.control.hall import case

SITE = case().layout.site
SUPPLY = SITE.points["crac-a1/supply_c"]
FAN = SITE.points["crac-a1/fan_pct"]
TIMES_S = np.arange(-60.0, 305.0, 5.0)


def watched(seed: int = 0, **moves: tuple[float, float, float]) -> Watched:
    """Sensors that go from a value by a change after a delay; a little noise on each."""
    rng = np.random.default_rng(seed)
    columns = [
        start + np.where(delay_s <= TIMES_S, change, 0.0) + rng.normal(0, 0.01, TIMES_S.size)
        for start, change, delay_s in moves.values()
    ]
    return Watched(tuple(moves), TIMES_S, np.array(columns).T)


@pytest.mark.parametrize(
    ("point", "present", "size", "expected"),
    [
        (SUPPLY, 18.0, None, 17.0),  # towards the safe side
        (SUPPLY, 16.2, None, 17.2),  # no room there: the other way
        (SUPPLY, 18.0, 0.5, 18.5),
        (SUPPLY, 18.0, -0.5, 17.5),
        (FAN, 80.0, None, 85.0),
        (FAN, 100.0, None, 95.0),
        (SUPPLY, 18.0, 1.5, "at most 1"),
        (SUPPLY, 180.0, None, "look at register, scale and unit"),
        (SUPPLY, 15.9, None, "outside 16..27"),
        (SUPPLY, None, None, "no good reading"),
        (SITE.points["pdu-a/inlet_c.A01"], 20.0, None, "not writable"),
    ],
)
def test_the_step_stays_in_the_envelope_and_goes_to_the_safe_side(
    point: Point, present: float | None, size: float | None, expected: float | str
) -> None:
    found = trial.step(point, present, size)
    if isinstance(expected, str):
        assert isinstance(found, str)
        assert expected in found
    else:
        assert found == pytest.approx(expected)


def test_an_envelope_without_room_for_a_step_is_said() -> None:
    assert SUPPLY.writable is not None
    narrow = replace(SUPPLY, writable=replace(SUPPLY.writable, min=17.8, max=18.2))
    assert "no room" in str(trial.step(narrow, 18.0))


def test_sensors_of_the_row_are_looked_at_and_those_of_others_are_not() -> None:
    near = {p.key for p in trial.near(SITE, SUPPLY)}
    assert "pdu-a/inlet_c.A01" in near
    assert not [k for k in near if k.startswith("pdu-b") or SITE.points[k].writable]


def test_a_response_has_its_sign_and_delay() -> None:
    key = "pdu-a/inlet_c.A01"
    seen = watched(**{key: (20.0, -0.8, 45.0), "pdu-a/pdu_kw.A01": (6.0, 0.0, 0.0)})
    found = trial.shown(SITE, SUPPLY, -1.0, seen)
    [response] = found.responses
    assert (response.sensor, response.right) == (key, True)
    assert response.before == pytest.approx(20.0, abs=0.02)
    assert response.after == pytest.approx(19.2, abs=0.02)
    assert response.delay_s == 45.0
    assert (found.wrong, found.unclear) == ((), ())


def test_a_sensor_of_the_unit_itself_that_goes_the_wrong_way_is_never_passed() -> None:
    own = {**SITE.points, "x": replace(SITE.points["pdu-a/inlet_c.A01"], equipment="crac-a1")}
    site = replace(SITE, devices=(replace(SITE.devices[0], points=tuple(own.values())),))
    seen = watched(**{"pdu-a/inlet_c.A01": (20.0, 0.8, 30.0)})
    right = trial.shown(site, SUPPLY, +1.0, seen)
    assert right.wrong == ()
    wrong = trial.shown(site, SUPPLY, -1.0, seen)
    assert not [r for r in wrong.responses if r.right]
    assert wrong.unclear  # nothing that should respond did


def test_silence_is_unclear_and_so_is_a_sensor_that_is_not_there() -> None:
    still = trial.shown(SITE, SUPPLY, -1.0, watched(**{"pdu-a/inlet_c.A01": (20.0, 0.0, 0.0)}))
    assert still.responses == ()
    assert "none of 1 sensors" in still.unclear[0]
    none = trial.shown(SITE, FAN, 5.0, watched(**{"pdu-a/pdu_kw.A01": (6.0, 0.0, 0.0)}))
    assert "no sensor near it" in none.unclear[0]


def test_a_sensor_that_was_hardly_read_responds_to_nothing() -> None:
    seen = watched(**{"pdu-a/inlet_c.A01": (20.0, -1.0, 0.0)})
    seen.values[TIMES_S < -10.0] = np.nan
    assert trial.shown(SITE, SUPPLY, -1.0, seen).responses == ()
