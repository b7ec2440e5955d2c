"""What stands for a point: fresh, stale, missing, bad; and the snapshot made of it."""

import numpy as np
import pytest

from agent.store import Store
from control.layout import Layout
from control.types import Quality, Reading
from tests.agent.make import reading, site

KEY = "rack-a01/inlet_c"


def store() -> Store:
    return Store(Layout(site()))


def test_a_point_is_unknown_until_it_is_read() -> None:
    made = store()
    assert made.reading(KEY, 10.0).quality is Quality.UNKNOWN
    snapshot = made.snapshot(10.0)
    assert snapshot.value(KEY) is None
    assert np.isinf(snapshot.age_s).all()


def test_a_good_reading_stands_until_it_is_too_old() -> None:
    made = store()
    made.update([reading(KEY, 21.5, 100.0)])
    assert made.snapshot(115.0).value(KEY) == 21.5
    assert made.reading(KEY, 115.0).quality is Quality.GOOD
    late = made.snapshot(115.1)
    assert late.value(KEY) is None
    assert late.last[late.index[KEY]] == 21.5
    assert late.age_s[late.index[KEY]] == pytest.approx(15.1)
    aged = made.reading(KEY, 130.0)
    assert (aged.quality, aged.value, aged.taken_s) == (Quality.STALE, 21.5, 100.0)


def test_no_answer_keeps_the_last_good_reading_while_it_is_fresh() -> None:
    made = store()
    made.update([reading(KEY, 21.5, 100.0)])
    made.update([Reading(KEY, None, 105.0, Quality.UNKNOWN, "no answer: timeout")])
    assert made.snapshot(106.0).value(KEY) == 21.5
    assert made.reading(KEY, 106.0).value == 21.5
    aged = made.reading(KEY, 120.0)
    assert aged.quality is Quality.STALE
    assert "no answer: timeout" in aged.reason


@pytest.mark.parametrize("quality", [Quality.BAD, Quality.MISSING])
def test_what_a_device_itself_disowns_is_gone_at_once(quality: Quality) -> None:
    made = store()
    made.update([reading(KEY, 21.5, 100.0)])
    made.update([Reading(KEY, None, 101.0, quality, "65535 is a sentinel")])
    assert made.snapshot(101.0).value(KEY) is None
    assert made.reading(KEY, 101.0).quality is quality


def test_a_snapshot_does_not_change_when_readings_arrive() -> None:
    made = store()
    made.update([reading(KEY, 21.5, 100.0)])
    snapshot = made.snapshot(101.0)
    made.update([reading(KEY, 30.0, 102.0)])
    assert snapshot.value(KEY) == 21.5
    assert snapshot.last[snapshot.index[KEY]] == 21.5


def test_a_point_of_no_site_is_refused() -> None:
    with pytest.raises(KeyError):
        store().update([reading("nobody/knows", 1.0, 1.0)])
