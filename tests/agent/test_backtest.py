"""What first steps are worth, by hand."""

import json
from pathlib import Path

import pytest

from agent.backtest import Wish, difference, earlier, saving


def test_a_wish_counts_until_it_is_wished_again_or_half_an_hour() -> None:
    wishes = [Wish(0, "fan", "row:A", -2.0, 0.5), Wish(900, "fan", "row:A", -4.0, 0.5),
              Wish(1_000, "pump", "hall", -1.0, 0.2), Wish(3_500, "fan", "row:B", 3.0, 0.0)]  # fmt: skip
    found = saving(wishes, 3_600)
    assert found["kwh"] == pytest.approx(2 * 0.25 + 4 * 0.5 + 1 * 0.5 - 3 * 100 / 3_600)
    half = 1.96 * ((0.5 * 0.75) ** 2 + (0.2 * 0.5) ** 2) ** 0.5
    assert (found["high"] - found["kwh"], found["kwh"] - found["low"]) == pytest.approx(
        (half, half)
    )
    assert saving([], 10)["kwh"] == 0


def test_the_difference_carries_both_doubts() -> None:
    ours, theirs = {"kwh": 5.0, "high": 8.0}, {"kwh": 3.0, "high": 7.0}
    assert difference(ours, theirs) == {"unit": "kWh", "kwh": 2.0, "low": -3.0, "high": 7.0}


def test_an_earlier_replay_is_told_from_a_model(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"saving": {"kwh": 1, "low": 0, "high": 2}}))
    assert earlier(file) == {"kwh": 1.0, "low": 0.0, "high": 2.0}
    file.write_text(json.dumps({"format": "model"}))
    assert earlier(file) is None
    file.write_text(json.dumps({"saving": {"kwh": "much"}}))
    with pytest.raises(ValueError, match="saving"):
        earlier(file)
