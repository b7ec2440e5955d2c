"""P13 in the small: sentinels never become a reading, and a reply must be the one that was asked for.

The whole matrix, over sockets, is tests/drivers/test_malformed.py.
"""

import math

import numpy as np
import pytest

from control.types import Quality
from drivers.judge import Bench, judge_of
from drivers.modbus_frames import Answer, Framing, Wrong, check_reply, make_frame
from tests.safety.world import make_site

INLET = make_site().points["rack-a1/inlet1"]
SENTINELS = (65_535.0, -32_768.0, -1.0)
UNBELIEVABLE = (*SENTINELS, math.nan, math.inf, -math.inf, 1e300, 9_999.0)


@pytest.mark.parametrize("raw", UNBELIEVABLE)
def test_what_is_no_temperature_is_no_reading(raw: float) -> None:
    judge = judge_of(INLET, SENTINELS)
    one = judge.read(raw, 5.0)
    assert one.value is None
    assert one.quality in (Quality.MISSING, Quality.BAD)
    column = Bench([judge, judge]).read(np.array([raw, 22.0]), {}, 5.0)
    assert np.isnan(column.values[0])
    assert column.values[1] == 22.0


def test_a_good_one_is_one() -> None:
    assert judge_of(INLET, SENTINELS).read(22.5, 5.0).value == 22.5


READ = make_frame(Framing.TCP, 7, 1, bytes((3, 0, 10, 0, 2)))  # two holding registers from 10


def reply(pdu: bytes, tid: int = 7, unit: int = 1) -> bytes:
    return make_frame(Framing.TCP, tid, unit, pdu)


def test_the_answer_is_taken() -> None:
    assert check_reply(Framing.TCP, READ, reply(bytes((3, 4, 0, 1, 0, 2)))) == Answer()


@pytest.mark.parametrize("frame", [
    reply(bytes((3, 2, 0, 1))),  # too few registers
    reply(bytes((3, 6, 0, 1, 0, 2, 0, 3))),  # too many
    reply(bytes((3, 3, 0, 1, 0, 2))),  # a byte count that lies
    reply(bytes((4, 4, 0, 1, 0, 2))),  # another function
    reply(bytes((3, 4, 0, 1, 0, 2)), tid=8),  # another request's
    reply(bytes((3, 4, 0, 1, 0, 2)), unit=2),  # another unit's
    reply(bytes((3, 4, 0, 1, 0, 2))) + b"\x00",  # and something after it
])  # fmt: skip
def test_what_does_not_answer_is_not(frame: bytes) -> None:
    assert isinstance(check_reply(Framing.TCP, READ, frame), Wrong)
