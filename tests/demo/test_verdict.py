"""When a demo has passed, and what its verdict says."""

from typing import Any

import pytest
from rich.console import Console

from agent.demo.program import BUDGET_S, SPEEDS, _speed
from agent.demo.verdict import NO_ACTS, Acts, Limits, failures, saving_pct, side, summary, table

LIMITS = Limits(28.0, 250.0, 12.0)
TRUTH: dict[str, Any] = {
    "wh_per_prompt": 0.60, "wh_per_1k_tokens": 2.8, "prompts": 1000, "tokens": 211_000, "rejected": 0,
    "jobs_deferred": 0, "deferred_kwh": 0.0, "it_kwh": 420.0, "cooling_kwh": 150.0, "total_kwh": 600.0, "pue": 1.43,
    "worst_inlet_c": 25.0, "inlet_compliance_pct": 100.0, "worst_latency_p95_ms": 170.0,
    "worst_rack_kw": 9.0, "minutes_over_limit": 0.0, "cooling": {"crac_kwh": 1.0},
}  # fmt: skip
ACTS = Acts({"bacnet-ip": 3, "modbus-tcp": 14}, readbacks_confirmed=17, rollbacks=1)
FIELDS = {
    "wh_per_prompt", "wh_per_1k_tokens", "prompts", "tokens", "rejected", "jobs_deferred", "it_kwh",
    "cooling_kwh", "total_kwh", "pue", "worst_inlet_c", "inlet_compliance_pct", "worst_latency_p95_ms",
    "worst_rack_kw", "writes", "writes_by_protocol", "readbacks_confirmed", "rollbacks", "protective_moves",
}  # fmt: skip


def skadi(**changed: Any) -> dict[str, Any]:
    return side(TRUTH | {"wh_per_prompt": 0.57} | changed, ACTS)


def test_both_sides_have_the_fields_of_the_contract() -> None:
    assert side(TRUTH, NO_ACTS).keys() >= FIELDS
    assert (skadi()["writes"], skadi()["writes_by_protocol"]["bacnet-ip"]) == (17, 3)
    assert failures(side(TRUTH, NO_ACTS), skadi(), LIMITS) == []


@pytest.mark.parametrize(
    ("changed", "about"),
    [
        ({"inlet_compliance_pct": 98.99}, "98.99 %"),
        ({"inlet_compliance_pct": None}, "None %"),
        ({"worst_latency_p95_ms": 250.0}, "250 ms"),
        ({"worst_rack_kw": 12.0}, "12.00 kW"),
        ({"minutes_over_limit": 0.1}, "0.1 minutes"),
    ],
)
def test_a_broken_limit_fails_the_demo(changed: dict[str, Any], about: str) -> None:
    (text,) = failures(side(TRUTH, NO_ACTS), skadi(**changed), LIMITS)
    assert about in text


def test_a_limit_the_baseline_breaks_longer_is_no_failure() -> None:
    hot = side(TRUTH | {"minutes_over_limit": 5.0}, NO_ACTS)
    assert failures(hot, skadi(minutes_over_limit=5.0), LIMITS) == []


def test_an_agent_that_writes_nothing_fails() -> None:
    assert failures(side(TRUTH, NO_ACTS), side(TRUTH, NO_ACTS), LIMITS) == [
        "nothing was written to any device"
    ]


def result(after: float | None, failed: tuple[str, ...] = ()) -> dict[str, Any]:
    sides = {"baseline": side(TRUTH, NO_ACTS), "skadi": skadi(wh_per_prompt=after)}
    return {
        "scenario": "heat-spike", "seed": 1, "hours": 2.0, "failures": list(failed), **sides,
        "saving_pct": saving_pct(sides["baseline"], sides["skadi"]),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("after", "failed", "words"),
    [
        (0.57, (), "passed: 5.00 % less"),
        (0.63, ("x",), "NOT passed: 5.00 % more"),
        (None, (), "Wh/prompt unknown"),
    ],
)
def test_the_summary_says_what_came_out(
    after: float | None, failed: tuple[str, ...], words: str
) -> None:
    assert summary(result(after, failed)).startswith(words) or words in summary(result(after))
    assert "14 by modbus-tcp" in summary(result(after))


def test_the_table_shows_both_sides() -> None:
    paper = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    paper.print(table(result(0.57)))
    text = paper.export_text()
    paper.file.close()
    assert "0.6000" in text
    assert "0.5700" in text
    assert "-5.00 %" in text


@pytest.mark.parametrize("spent_s", [0.0, 25.0, 45.0, 60.0])
def test_two_hours_end_in_under_four_minutes(spent_s: float) -> None:
    speed = _speed(2.0, spent_s)
    assert SPEEDS[0] <= speed <= SPEEDS[1]
    assert spent_s + 2 * 3600.0 / speed < BUDGET_S
