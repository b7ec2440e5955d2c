"""Reads every device in a task of its own, each with its deadline, back-off and stagger.

A dead or slow device never delays another. Loss is logged once and recovery once. Decides
nothing about values: drivers make readings, the store ages them.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

import structlog

from agent.clock import SLOT_S, Clock, at_slot, stopwatch_s
from config.site import Device
from control.types import Quality, Reading
from drivers.contract import Driver, DriverError

log = structlog.get_logger(__name__)

BACK_OFF_FACTOR = 2.0
BACK_OFF_MOST = 12.0  # times the device's own period

OnReadings = Callable[[Device, Sequence[Reading]], None]


@dataclass(slots=True)
class DeviceStats:
    """What polling one device has been like."""

    polls: int = 0
    errors: int = 0
    failing: int = 0  # errors in a row; 0: it answers
    last_error: str = ""
    last_good_s: float | None = None
    retries: int = 0  # polls of a device that had not answered the one before
    latency_ms: float = 0.0  # a moving mean of answered polls, in real time
    latency_most_ms: float = 0.0
    wait_s: float = 0.0  # until the next poll; longer than the period: backing off

    def answered(self, now_s: float, took_s: float) -> None:
        """Book a poll that was answered."""
        took_ms = 1000.0 * took_s
        first = self.last_good_s is None
        self.latency_ms = took_ms if first else 0.9 * self.latency_ms + 0.1 * took_ms
        self.latency_most_ms = max(self.latency_most_ms, took_ms)
        self.failing, self.last_error, self.last_good_s = 0, "", now_s


@dataclass(slots=True)
class Poller:
    """Polls the devices of a site. `on_readings` gets one list a device a cycle."""

    drivers: Sequence[Driver]
    clock: Clock
    on_readings: OnReadings
    seed: int = 0
    stats: dict[str, DeviceStats] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _stopping: bool = False

    def start(self) -> None:
        """Start one task a device, spread over the first period."""
        self.add(self.drivers)

    def add(self, drivers: Sequence[Driver]) -> None:
        """Poll these as well from now on."""
        now_s = self.clock.boot_s()
        for i, driver in enumerate(drivers):
            device = driver.device
            first_s = at_slot(now_s + device.poll_interval_s * i / len(drivers))
            self._tasks[device.id] = asyncio.create_task(
                self._poll(driver, first_s), name=f"poll {device.id}"
            )

    async def drop(self, devices: Iterable[str]) -> None:
        """Poll these no longer; returns when their tasks have let go of them."""
        gone = [task for d in devices if (task := self._tasks.pop(d, None)) is not None]
        while left := [task for task in gone if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=1.0)
        for device in devices:
            self.stats.pop(device, None)

    async def stop(self) -> None:
        """Stop polling and wait until every task has let go of its device."""
        # Python 3.11's wait_for swallows a cancellation that meets its result: such a task
        # ends at its next look at the flag.
        self._stopping = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    async def poll_once(self, driver: Driver) -> bool:
        """Read a device once and pass its readings on. False: it did not answer."""
        device = driver.device
        stats = self.stats.setdefault(device.id, DeviceStats())
        stats.polls += 1
        stats.retries += stats.failing > 0
        now_s, began_s = self.clock.now_s(), stopwatch_s()
        try:
            readings = await driver.read(now_s)
        except DriverError as error:
            self._lost(device, stats, str(error))
        except Exception as error:  # a driver's bug must not end polling of its device
            log.exception("driver failed", device=device.id)
            self._lost(device, stats, f"{type(error).__name__}: {error}")
        else:
            if stats.failing:
                log.info("device answers again", device=device.id, after_errors=stats.failing)
            stats.answered(now_s, stopwatch_s() - began_s)
            self.on_readings(device, readings)
            return True
        reason = f"no answer: {stats.last_error}"
        unknown = [Reading(p.key, None, now_s, Quality.UNKNOWN, reason) for p in device.points]
        self.on_readings(device, unknown)
        return False

    def _lost(self, device: Device, stats: DeviceStats, error: str) -> None:
        stats.errors += 1
        stats.failing += 1
        stats.last_error = error
        if stats.failing == 1:
            log.warning("device does not answer", device=device.id, at=device.address, error=error)

    async def _poll(self, driver: Driver, due_s: float) -> None:
        """Poll on a fixed grid; back off with jitter while the device does not answer."""
        jitter = Random(f"{self.seed}/{driver.device.id}")
        period_s = driver.device.poll_interval_s
        while True:
            await self.clock.sleep_s(due_s - self.clock.boot_s())
            answered = await self.poll_once(driver)
            if self._stopping:
                return
            failing = self.stats[driver.device.id].failing
            wait_s = period_s
            if not answered:
                factor = min(BACK_OFF_FACTOR ** (failing - 1), BACK_OFF_MOST)
                wait_s = period_s * factor * jitter.uniform(0.8, 1.2)
            self.stats[driver.device.id].wait_s = wait_s
            due_s, now_s = due_s + wait_s, self.clock.boot_s()
            if now_s > due_s or not answered:
                due_s = max(due_s, now_s) if period_s < SLOT_S else at_slot(max(due_s, now_s))
