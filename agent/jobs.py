"""One table of periodic jobs, and the two runners that work through it.

Decides when a job runs, never what it does. A job that fails is logged under its name and
counted; it must never stop another job nor its own next run. First runs come one period after
the start, at the slots where polls begin. `Scheduler` runs in real time (or faster) on APScheduler; `run_virtual` in virtual time.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from apscheduler.events import EVENT_JOB_MAX_INSTANCES
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from agent.clock import VirtualClock, WallClock, at_slot, wall_utc

log = structlog.get_logger(__name__)

STEP_CHECK_S = 1.0  # how often the wall clock is compared with the boot clock
STEP_S = 0.5  # a difference above this is a step, not drift: NTP slews at most 0.5 ms a second
_EPSILON_S = 1e-6


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do every `period_s` seconds of agent time.

    light: a look that costs less than APScheduler's accounts of it, and so runs without them.
    """

    name: str
    period_s: float
    run: Callable[[], Awaitable[None]]
    light: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.period_s < float("inf"):
            raise ValueError(f"job {self.name}: period_s {self.period_s!r} must be above 0")


@dataclass(slots=True)
class JobStats:
    """How often each job ran, failed, or was skipped because its last run had not ended."""

    runs: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)


async def run_once(job: Job, stats: JobStats) -> None:
    """Run a job now. Whatever it raises is logged and counted, and goes no further."""
    stats.runs[job.name] += 1
    try:
        await job.run()
    except Exception:
        stats.failures[job.name] += 1
        log.exception("job failed", job=job.name, failures=stats.failures[job.name])


class _Every(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Every so many wall seconds, on a fixed grid, without ever listing what was missed.

    APScheduler's own interval trigger walks through each missed run: after a clock that started
    in 1970 is set, hundreds of millions of them.
    """

    def __init__(self, period_s: float) -> None:
        self.period = timedelta(seconds=period_s)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        if previous is None or previous + self.period <= now - self.period:
            return now + self.period
        return previous + self.period


class Scheduler:
    """The table in real time, periods divided by the clock's speed. Start and stop it once.

    One run of a job at a time: a run that is due while the last still goes on is skipped and
    counted. APScheduler follows the wall clock, so a step of it would stall every job (backwards)
    or fire them all: the boot clock is watched and the table is moved along.
    """

    def __init__(self, jobs: Sequence[Job], clock: WallClock, stats: JobStats | None = None):
        names = Counter(job.name for job in jobs)
        if twice := [name for name, n in names.items() if n > 1]:
            raise ValueError(f"two jobs of one name: {', '.join(twice)}")
        self.stats = stats or JobStats()
        self._jobs = tuple(jobs)
        self._clock = clock
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._behind: set[str] = set()
        self._steps: asyncio.Task[None] | None = None
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(self._skipped, EVENT_JOB_MAX_INSTANCES)

    def start(self) -> None:
        """Begin. Needs a running event loop."""
        self._steps = asyncio.create_task(self._watch_steps(), name="jobs: clock steps")
        for job in self._jobs:
            if job.light:
                task = asyncio.create_task(self._look(job), name=f"job {job.name}")
                self._looks[job.name] = task
                continue
            trigger = _Every(job.period_s / self._clock.speed)
            wait_s = self._until_slot_s(job.period_s) / self._clock.speed
            first = wall_utc() + timedelta(seconds=wait_s)
            self._scheduler.add_job(
                self._run, trigger, args=[job], id=job.name, next_run_time=first
            )
        self._scheduler.start()

    def reschedule(self, jobs: Sequence[Job]) -> None:
        """Go on with other periods, where they differ."""
        for job in jobs:
            if job.light:
                continue  # no key of the site file sets its period
            trigger = _Every(job.period_s / self._clock.speed)
            if self._scheduler.get_job(job.name).trigger.period != trigger.period:
                self._scheduler.reschedule_job(job.name, trigger=trigger)

    async def stop(self, drain_s: float = 5.0) -> None:
        """Start no further run, let those under way end within `drain_s` wall seconds."""
        if self._steps is None:
            return
        self._scheduler.pause()
        self._steps.cancel()
        await asyncio.gather(self._steps, return_exceptions=True)
        self._steps = None
        for name, task in self._looks.items():
            if name not in self._running:
                task.cancel()
        await asyncio.sleep(0)  # let runs that were submitted just now begin
        if self._running:
            _, late = await asyncio.wait(self._running.values(), timeout=drain_s)
            if late:
                names = sorted(n for n, task in self._running.items() if task in late)
                log.warning("jobs cut off at stop", jobs=names, drain_s=drain_s)
        self._scheduler.shutdown(wait=False)
        for task in self._looks.values():
            task.cancel()
        await asyncio.gather(*self._looks.values(), return_exceptions=True)
        # shutdown() cancels through the loop: stay until those runs are gone.
        while self._running:
            await asyncio.wait(self._running.values())

    async def _look(self, job: Job) -> None:
        """Run a job again and again; never twice at once, and never to catch up."""
        while self._steps is not None:
            await self._clock.sleep_s(self._until_slot_s(job.period_s))
            await self._run(job)

    async def _run(self, job: Job) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running[job.name] = task
        try:
            await run_once(job, self.stats)
        finally:
            del self._running[job.name]
        if job.name in self._behind:
            self._behind.discard(job.name)
            log.info("job ended, its period is kept again", job=job.name)

    def _skipped(self, event: Any) -> None:
        name: str = event.job_id
        self.stats.skipped[name] += 1
        if name not in self._behind:
            self._behind.add(name)
            log.warning("job still running when due again; runs are skipped", job=name)

    def _until_slot_s(self, period_s: float) -> float:
        """Agent time from now to the first slot after a period."""
        now_s = self._clock.boot_s()
        return at_slot(now_s + period_s) - now_s

    async def _watch_steps(self) -> None:
        offset_s = self._wall_offset_s()
        while True:
            await self._clock.sleep_s(self._until_slot_s(STEP_CHECK_S * self._clock.speed))
            step_s = self._wall_offset_s() - offset_s
            if abs(step_s) > STEP_S:
                offset_s += step_s
                log.warning("the system's clock was set", step_s=round(step_s, 3))
                self._move_along(timedelta(seconds=step_s))

    def _move_along(self, step: timedelta) -> None:
        for job in self._scheduler.get_jobs():
            latest = wall_utc() + job.trigger.period
            job.modify(next_run_time=min(job.next_run_time + step, latest))

    def _wall_offset_s(self) -> float:
        return wall_utc().timestamp() - self._clock.boot_s() / self._clock.speed


async def run_virtual(
    jobs: Sequence[Job], clock: VirtualClock, until_s: float, step_s: float
) -> JobStats:
    """Work through the table in virtual time until `until_s`, advancing by `step_s` a tick.

    A job runs on the first tick at or after its due time, jobs due together in table order; a
    job whose period is shorter than the tick runs once a tick. Other tasks get a turn each tick.
    """
    if not step_s > 0:
        raise ValueError(f"step_s {step_s!r} must be above 0")
    stats = JobStats()
    start_s = clock.now_s()
    done = dict.fromkeys(range(len(jobs)), 0)
    while clock.now_s() < until_s - _EPSILON_S:
        clock.advance(step_s)
        await asyncio.sleep(0)
        for i, job in enumerate(jobs):
            due = int((clock.now_s() - start_s + _EPSILON_S) / job.period_s)
            if due > done[i]:
                done[i] = due
                await run_once(job, stats)
    return stats
