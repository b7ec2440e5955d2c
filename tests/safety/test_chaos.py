"""P1, P2, P4, P8-P10, P19, P20: some scenarios of the campaign, and the judge itself.

`make safety` runs ten thousand, `make soak` as many as there is time for.
"""

from collections.abc import Iterator

import pytest

from tests.safety.campaign import silence
from tests.safety.chaos import run_one
from tests.safety.checkers import wire
from tests.safety.checkers.field import Wrote
from tests.safety.world import INTERVAL_S, limits_of


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with silence():
        yield


@pytest.mark.parametrize("first", [0, 8, 16, 24])
def test_nothing_is_broken_whatever_the_rogue_wants(first: int) -> None:
    """Eight scenarios of 120 ticks from each first seed."""
    found = [run_one(seed, 120) for seed in range(first, first + 8)]
    assert [b for f in found for b in f.broken] == []
    assert sum(f.changes for f in found) > 20, "the rogue must get something through"


def test_same_seed_same_wire() -> None:
    """P20: a scenario is decided by its seed alone."""
    first, again, other = run_one(77, 150), run_one(77, 150), run_one(78, 150)
    assert first.trace == again.trace
    assert len(first.trace) > 100
    assert first.trace != other.trace


def _w(
    t_s: float, key: str, value: float | None, before: float, request: int, by: str = "us"
) -> Wrote:
    device = key.partition("/")[0]
    after = before if value is None else value
    return Wrote(t_s, device, key, value, before, after, by, request)


SUPPLY, FAN, SHARE = "crac-a1/supply", "crac-a1/fan", "router/share.A"

BAD = {
    "outside the envelope": [_w(0, SUPPLY, 27.5, 26.9, 1)],
    "step too wide": [_w(0, SUPPLY, 20.5, 19.0, 1)],
    "too soon": [_w(0, SUPPLY, 19.5, 19.0, 1), _w(60, SUPPLY, 20.1, 19.5, 2)],
    "too soon, another point of the equipment": [
        _w(0, SUPPLY, 19.5, 19.0, 1),
        _w(60, FAN, 78.0, 80.0, 2),
    ],
    "twice in one instant": [_w(0, SUPPLY, 19.5, 19.0, 1), _w(0, SUPPLY, 20.1, 19.5, 2)],
    "no such point": [_w(0, "crac-a1/secret", 1.0, 0.0, 1)],
    "relinquished a register": [_w(0, SUPPLY, None, 19.0, 1)],
    "protective twice": [_w(0, SUPPLY, 17.3, 19.0, 1), _w(50, SUPPLY, 16.2, 17.3, 2)],
    "no safe direction": [_w(0, SHARE, 80.0, 50.0, 1)],
}
GOOD = {
    "one step": [_w(0, SUPPLY, 19.9, 19.0, 1)],
    "two steps": [_w(0, SUPPLY, 19.9, 19.0, 1), _w(120, SUPPLY, 20.8, 19.9, 2)],
    "given back at once": [_w(0, SUPPLY, 19.9, 19.0, 1), _w(5, SUPPLY, 19.0, 19.9, 2)],
    "two points at once": [_w(0, SUPPLY, 19.9, 19.0, 1), _w(0, FAN, 76.0, 80.0, 1)],
    "one protective move": [_w(0, SUPPLY, 19.9, 19.0, 1), _w(5, SUPPLY, 16.5, 19.9, 2)],
    "an operator's own": [_w(0, SUPPLY, 25.0, 19.0, 1, "operator")],
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_the_judge_sees(name: str) -> None:
    """A judge that sees nothing proves nothing."""
    assert wire.judge(limits_of(), BAD[name], INTERVAL_S).broken


@pytest.mark.parametrize("name", GOOD)
def test_the_judge_lets_pass(name: str) -> None:
    """What the promises allow."""
    assert wire.judge(limits_of(), GOOD[name], INTERVAL_S).broken == ()


def test_the_judge_sees_what_is_left_behind() -> None:
    """P4: neither baseline, nor safe, nor an operator's."""
    limits = limits_of()
    holds = {k: float("nan") if x.slots else x.baseline for k, x in limits.items()}
    assert wire.left_behind(limits, [], holds) == []
    assert wire.left_behind(limits, [], {**holds, SUPPLY: 18.0}) == []
    assert wire.left_behind(limits, [], {**holds, SUPPLY: 20.0}) != []
    assert wire.left_behind(limits, [], {**holds, "bms/water": 9.0}) != []
    theirs = [_w(0, SUPPLY, 20.0, 19.0, 1, "operator")]
    assert wire.left_behind(limits, theirs, {**holds, SUPPLY: 20.0}) == []
