"""Prompts, queues, batching, deferred jobs, and what latency comes of it."""

from pathlib import Path

import numpy as np
import pytest

from simulators.hall import Hall
from simulators.hall.arrivals import read_trace
from simulators.hall.constants import CONSTANTS as K
from simulators.hall.latency import TTFT_EDGES_S, Latency, wait_cdf
from tests.simulators.make import everywhere, run

TRACE = Path(__file__).parents[3] / "shared" / "traces" / "azure2023_conv.csv"


def test_wait_is_a_uniform_plus_an_exponential() -> None:
    rng = np.random.default_rng(7)
    sample = rng.uniform(0, 40, 200_000) + rng.exponential(12.0, 200_000)
    edges = np.asarray([5.0, 20.0, 41.0, 60.0, 100.0])
    want = [(sample <= e).mean() for e in edges]
    assert wait_cdf(edges, 40.0, np.asarray(12.0)) == pytest.approx(want, abs=0.004)
    assert wait_cdf(np.asarray([-1.0, 0.0]), 40.0, np.asarray(12.0)) == pytest.approx([0, 0])


def test_p95_is_that_of_the_mixture_over_a_minute() -> None:
    rng = np.random.default_rng(8)
    n = 400_000
    kind = rng.random(n)
    prefill = np.where(
        kind < K.long_prompt_fraction,
        K.long_prefill_ms,
        np.where(
            kind < K.long_prompt_fraction + K.medium_prompt_fraction,
            K.medium_prefill_ms,
            K.short_prefill_ms,
        ),
    )
    sample = prefill + rng.uniform(0, 60, n) + rng.exponential(9.0, n)
    latency = Latency(K)
    for _ in range(30):
        latency.step(5.0, np.full(6, 250.0), 60.0, np.full(6, 9.0), np.zeros(6))
    assert latency.p95_ms == pytest.approx(np.quantile(sample, 0.95), rel=0.01)
    for _ in range(12):  # a minute of other weather, and the old one is forgotten
        latency.step(5.0, np.full(6, 250.0), 60.0, np.full(6, 9.0), np.full(6, 300.0))
    assert latency.p95_ms == pytest.approx(np.quantile(sample, 0.95) + 300, rel=0.05)


def test_too_few_requests_have_no_p95() -> None:
    latency = Latency(K)
    latency.step(5.0, np.full(6, 3.0), 40.0, np.full(6, 5.0), np.zeros(6))
    assert np.isnan(latency.p95_ms).all()


def test_a_longer_window_costs_latency_and_saves_energy() -> None:
    results = [run(everywhere(window_ms=w)) for w in (0, 40, 80, 120)]
    p95 = [r["worst_latency_p95_ms"] for r in results]
    it = [r["it_kwh"] for r in results]
    assert p95 == sorted(p95)
    assert it == sorted(it, reverse=True)


def test_prompts_are_conserved() -> None:
    hall = Hall()
    before = float(hall.prompts_total.sum())
    arrived = 0.0
    draw = hall.arrivals.draw

    def counted(*about: float) -> float:  # fmt: skip
        nonlocal arrived
        got = draw(*about)
        arrived += got
        return got

    hall.arrivals.draw = counted  # type: ignore[method-assign]
    queued = float(hall.work.queue.sum())
    hall.step(3600.0, {})
    served = float(hall.prompts_total.sum()) - before
    assert served + float(hall.work.queue.sum()) - queued == pytest.approx(arrived)


def test_an_overloaded_row_queues_and_rejects_others_do_not() -> None:
    shares = {f"router/traffic_share_pct.{r}": 10.0 for r in "ABDEF"}
    account = run({**shares, "router/traffic_share_pct.C": 50.0}, hours=0.5)
    assert account["rejected"] > 1000
    assert account["worst_latency_p95_ms"] > 2000
    assert account["violation_steps"]["latency"] > 0


def test_shares_that_do_not_sum_are_weights() -> None:
    hall = Hall()
    hall.step(5.0, {f"router/traffic_share_pct.{r}": 0.0 for r in "ABCDEF"})
    assert hall.setpoints.share == pytest.approx(1 / 6)
    hall.step(5.0, {"router/traffic_share_pct.A": 10.0, "router/traffic_share_pct.B": 30.0})
    assert hall.setpoints.share[:3] == pytest.approx([0.25, 0.75, 0.0])


def test_held_jobs_are_charged_and_finished_when_admitted_again() -> None:
    held = run({"router/admission_pct": 0.0}, hours=2)
    free = run(hours=2)
    assert held["jobs_deferred"] > 50
    assert held["deferred_kwh"] > 0
    # Not doing the jobs is no saving: they are charged at what they would have taken.
    assert held["total_kwh"] == pytest.approx(free["total_kwh"], rel=0.006)
    hall = Hall(step_s=30)
    hall.step(1800.0, {"router/admission_pct": 0.0})
    owed = hall.work.job_backlog
    hall.step(3600.0, {"router/admission_pct": 100.0})
    assert hall.work.job_backlog < 0.1 * owed


def test_hot_gpus_slow_down() -> None:
    hall = Hall()
    assert hall.racks.throttle(np.full(72, 25.0)) == pytest.approx(1.0)
    assert (hall.racks.throttle(np.full(72, 40.0)) < 0.8).all()


def test_bursty_arrivals_follow_the_trace() -> None:
    hall = Hall(scenario="bursty")
    rates = np.asarray([hall.arrivals.mean_ps(m * 60.0 + 30.0) for m in range(58)])
    assert rates.mean() == pytest.approx(K.prompts_mean_ps, rel=1e-6)
    assert rates.max() / rates.mean() > 1.5


def test_a_trace_is_read_or_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    lines = [f"2024-01-01 00:{m:02d}:{s:02d}.0000000,10,20" for m in range(4) for s in range(m + 1)]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(lines) + "\n")
    assert read_trace(path).tolist() == [1, 2, 3]
    assert Hall(trace=str(path), hours=0.1).step(5.0, {})["vllm-a/prompts_ps"] > 0
    path.write_text("TIMESTAMP\nyesterday\n")
    with pytest.raises(ValueError, match=r"trace\.csv:2"):
        read_trace(path)
    path.write_text("time\n1\n")
    with pytest.raises(ValueError, match="TIMESTAMP"):
        read_trace(path)


@pytest.mark.skipif(not TRACE.exists(), reason="needs ../shared/traces")
def test_the_built_in_shape_is_the_recorded_one() -> None:
    hall, built_in = Hall(trace=str(TRACE)), Hall(trace="azure")
    minutes = [m * 60.0 for m in range(58)]
    assert [hall.arrivals.mean_ps(t) for t in minutes] == pytest.approx(
        [built_in.arrivals.mean_ps(t) for t in minutes]
    )


def test_edges_of_the_agents_limit_exist() -> None:
    assert 0.25 in TTFT_EDGES_S
