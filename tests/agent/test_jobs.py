import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import apscheduler.schedulers.base
import pytest
from structlog.testing import capture_logs

from agent import jobs as jobs_module
from agent.clock import VirtualClock, WallClock
from agent.jobs import Job, Scheduler, _Every, run_virtual
from tests.peers import until

FAST = 1_000.0  # a job of 10 s runs every 10 ms


def noting(seen: list[str], name: str) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        seen.append(name)

    return run


async def failing() -> None:
    raise RuntimeError("sensor fell off")


async def test_virtual_jobs_run_when_due_in_table_order() -> None:
    seen: list[str] = []
    clock = VirtualClock(start_s=1_700_000_000.0)
    table = [Job("poll", 5, noting(seen, "poll")), Job("fast", 10, noting(seen, "fast"))]
    stats = await run_virtual(table, clock, until_s=1_700_000_020.0, step_s=1)
    assert seen == ["poll", "poll", "fast", "poll", "poll", "fast"]
    assert stats.runs == {"poll": 4, "fast": 2}
    assert clock.now_s() == 1_700_000_020.0


async def test_virtual_jobs_run_on_the_first_tick_at_or_after_due() -> None:
    at: list[float] = []
    clock = VirtualClock()

    async def run() -> None:
        at.append(clock.now_s())

    await run_virtual([Job("odd", 2.5, run)], clock, until_s=12, step_s=2)
    assert at == [4.0, 6.0, 8.0, 10.0]  # due at 2.5, 5, 7.5 and 10


async def test_virtual_job_of_tenths_loses_no_run_to_rounding() -> None:
    seen: list[str] = []
    clock = VirtualClock(start_s=1_700_000_000.0)
    await run_virtual([Job("j", 0.1, noting(seen, "j"))], clock, 1_700_000_100.0, step_s=0.1)
    assert len(seen) == 1_000


async def test_a_failing_virtual_job_is_named_counted_and_stops_nobody() -> None:
    seen: list[str] = []
    table = [Job("bad", 1, failing), Job("good", 1, noting(seen, "good"))]
    with capture_logs() as logs:
        stats = await run_virtual(table, VirtualClock(), until_s=3, step_s=1)
    assert stats.failures == {"bad": 3}
    assert seen == ["good"] * 3
    assert [line["job"] for line in logs] == ["bad"] * 3


async def test_background_tasks_progress_in_virtual_time() -> None:
    clock = VirtualClock()
    woken = asyncio.create_task(clock.sleep_s(3))
    await asyncio.sleep(0)
    await run_virtual([], clock, until_s=5, step_s=1)
    assert woken.done()


@pytest.mark.parametrize("period_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_period_is_refused(period_s: float) -> None:
    with pytest.raises(ValueError, match="job x"):
        Job("x", period_s, failing)


async def test_real_time_runner_runs_all_and_survives_failures() -> None:
    seen: list[str] = []
    table = [Job("bad", 10, failing), Job("good", 10, noting(seen, "good"))]
    runner = Scheduler(table, WallClock(speed=FAST))
    with capture_logs() as logs:
        runner.start()
        await until(lambda: len(seen) >= 3 and runner.stats.failures["bad"] >= 3)
        await runner.stop()
    after = len(seen)
    await asyncio.sleep(0.05)
    assert len(seen) == after, "a job ran after stop()"
    assert {line["job"] for line in logs if line["event"] == "job failed"} == {"bad"}


async def test_stop_drains_what_is_under_way() -> None:
    started, finish, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        started.set()
        await finish.wait()
        ended.set()

    runner = Scheduler([Job("slow", 10, slow)], WallClock(speed=FAST))
    runner.start()
    await started.wait()
    stopping = asyncio.create_task(runner.stop(drain_s=20))
    await asyncio.sleep(0.02)
    assert not stopping.done()
    finish.set()
    await stopping
    assert ended.is_set()


async def test_stop_names_and_cuts_off_what_does_not_end() -> None:
    started, cut = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cut.set()

    runner = Scheduler([Job("endless", 10, endless)], WallClock(speed=FAST))
    runner.start()
    await started.wait()
    with capture_logs() as logs:
        await runner.stop(drain_s=0.01)
    assert cut.is_set()
    assert [line["jobs"] for line in logs if "cut off" in line["event"]] == [["endless"]]
    await runner.stop()  # a second stop changes nothing


async def test_a_job_never_overlaps_itself_and_says_so_once() -> None:
    started, finish = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        started.set()
        await finish.wait()

    runner = Scheduler([Job("slow", 10, slow)], WallClock(speed=FAST))
    with capture_logs() as logs:
        runner.start()
        await until(lambda: runner.stats.skipped["slow"] >= 3)
        assert runner.stats.runs["slow"] == 1
        finish.set()
        await until(lambda: runner.stats.runs["slow"] >= 3)
        await runner.stop()
    said = [line["event"] for line in logs]
    assert len([e for e in said if "still running" in e]) == 1
    assert len([e for e in said if "kept again" in e]) == 1


def test_two_jobs_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="poll"):
        Scheduler([Job("poll", 1, failing), Job("poll", 2, failing)], WallClock())


@pytest.mark.parametrize("step", [timedelta(days=-1), timedelta(days=365 * 56)])
async def test_setting_the_clock_neither_stalls_jobs_nor_floods_them(
    step: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift = timedelta()

    class Stepped(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + shift

    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", Stepped)
    monkeypatch.setattr(jobs_module, "wall_utc", Stepped.now)
    monkeypatch.setattr(jobs_module, "STEP_CHECK_S", 0.02)
    seen: list[str] = []
    runner = Scheduler([Job("fast", 10, noting(seen, "fast"))], WallClock(speed=FAST))
    with capture_logs() as logs:
        runner.start()
        await until(lambda: len(seen) >= 2)
        shift = step
        before = len(seen)
        await until(lambda: len(seen) >= before + 5)
        await runner.stop()
    assert runner.stats.runs["fast"] < before + 500
    said = [line for line in logs if "clock was set" in line["event"]]
    assert len(said) == 1
    assert abs(said[0]["step_s"] - step.total_seconds()) < 1


def test_the_grid_is_kept_and_missed_runs_are_not_listed() -> None:
    trigger = _Every(10)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    due = now + timedelta(seconds=10)
    late = due + timedelta(seconds=3)
    assert trigger.get_next_fire_time(None, now) == due
    assert trigger.get_next_fire_time(due, late) == due + timedelta(seconds=10)
    much_later = due + timedelta(days=20_000)
    assert trigger.get_next_fire_time(due, much_later) == much_later + timedelta(seconds=10)


async def test_a_light_job_runs_again_after_a_failure_and_ends_with_the_scheduler() -> None:
    runs, ended = 0, False

    async def look() -> None:
        nonlocal runs, ended
        runs += 1
        if runs == 2:
            raise RuntimeError("no such file")
        if runs == 4:
            await asyncio.sleep(0.05)  # under way when everything stops: it may end
            ended = True

    scheduler = Scheduler([Job("look", 10.0, look, light=True)], WallClock(FAST))
    with capture_logs():
        scheduler.start()
        await until(lambda: runs == 4)
        await scheduler.stop()
    assert (runs, ended) == (4, True)
    assert scheduler.stats.failures == {"look": 1}
    await asyncio.sleep(0.03)
    assert runs == 4
    await scheduler.stop()  # twice is as good as once
