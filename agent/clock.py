"""The one place in control/ and agent/ that knows what time it is (ruff's TID251 bans the rest).

Decides nothing. Two kinds of time are kept apart: `now_s`, which people read and which may jump
when somebody sets the clock, and `boot_s`, which only ever moves forward while the machine is up
and is what intervals and budgets are counted in. It must never be used to measure how long a
device takes: drivers have asyncio.timeout for that.
"""

import asyncio
import ctypes
import heapq
import math
import os
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Protocol

# Polls and jobs begin together, at these spaces of boot time: waking up costs an idle host more
# than reading a device.
SLOT_S = 0.25
BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")  # random(4): one UUID a boot


class Clock(Protocol):
    """The agent's own time. All in seconds of agent time, which may run faster than the wall's."""

    @property
    def boot_id(self) -> str:
        """Which boot `boot_s` counts from; values of different boots can't be compared."""
        ...

    def now_s(self) -> float:
        """POSIX seconds on the agent's clock. May step when the system's clock is set."""
        ...

    def boot_s(self) -> float:
        """Seconds since boot, suspended time included. Never steps, never runs back."""
        ...

    async def sleep_s(self, seconds: float) -> None:
        """Wait so many seconds of agent time; not at all when zero or less."""
        ...


class WallClock:
    """The machine's clock; with `speed` > 1 the agent's time runs that much faster than it.

    At speed 1 without `start_s`, now_s is UTC and follows every step of the system's clock.
    Otherwise it starts at `start_s` (default: UTC now) and runs on the boot clock. boot_s is
    CLOCK_BOOTTIME × speed, so that it stays comparable when the agent restarts at that speed.
    """

    def __init__(self, speed: float = 1.0, start_s: float | None = None) -> None:
        if not 0 < speed < float("inf"):
            raise ValueError(f"speed {speed!r}: must be above 0 and finite")
        self.speed = speed
        self.boot_id = read_boot_id()
        self._follows_utc = speed == 1.0 and start_s is None
        self._start_s = time.time() if start_s is None else start_s
        self._start_boot_s = self.boot_s()

    def now_s(self) -> float:
        """POSIX seconds on the agent's clock."""
        if self._follows_utc:
            return time.time()
        return self._start_s + self.boot_s() - self._start_boot_s

    def boot_s(self) -> float:
        """Seconds of agent time since boot (CLOCK_BOOTTIME, see clock_gettime(2))."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) * self.speed

    async def sleep_s(self, seconds: float) -> None:
        """Wait `seconds` of agent time."""
        await asyncio.sleep(max(0.0, seconds) / self.speed)


class VirtualClock:
    """A clock that stands still until it is told to advance: for rehearsals and tests."""

    speed = 1.0

    def __init__(self, start_s: float = 0.0, boot_id: str = "virtual") -> None:
        self.boot_id = boot_id
        self._now_s = start_s
        self._boot_s = 0.0
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_s(self) -> float:
        """POSIX seconds on the virtual clock."""
        return self._now_s

    def boot_s(self) -> float:
        """Virtual seconds since this clock was made."""
        return self._boot_s

    def advance(self, seconds: float) -> None:
        """Move time on and wake who was waiting for it, the earliest first."""
        if not seconds >= 0:
            raise ValueError(f"time can't advance by {seconds!r} s")
        self._now_s += seconds
        self._boot_s += seconds
        while self._sleepers and self._sleepers[0][0] <= self._boot_s:
            _, _, waiter = heapq.heappop(self._sleepers)
            if not waiter.done():
                waiter.set_result(None)

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock `seconds` ahead (or back): now_s jumps, boot_s does not."""
        self._now_s += seconds

    async def sleep_s(self, seconds: float) -> None:
        """Wait until the clock has been advanced by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiter = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._boot_s + seconds, next(self._order), waiter))
        await waiter


def read_boot_id(path: Path = BOOT_ID_FILE, environ: Mapping[str, str] | None = None) -> str:
    """The kernel's id of this boot, 32 hex digits. Where it can't be read, one that equals no other.

    systemd gives it as SKADI_BOOT_ID (%b), as the unit hides /proc/sys. An id that is never seen
    again makes every budget's history unknown, which means waiting: the safe side.
    """
    boot_id = (os.environ if environ is None else environ).get("SKADI_BOOT_ID", "")
    if not boot_id:
        try:
            boot_id = path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            boot_id = ""
    return boot_id.strip().replace("-", "").lower() or f"unknown-{time.time_ns()}"


def at_slot(boot_s: float) -> float:
    """The next slot at or after a boot time."""
    return math.ceil(boot_s / SLOT_S - 1e-6) * SLOT_S


def wall_utc() -> datetime:
    """The system's clock as it stands, for what follows it anyway (APScheduler, certificates)."""
    return datetime.now(UTC)


def synchronised() -> bool | None:
    """Whether the kernel calls its clock disciplined (adjtimex(2)); None where it can't be asked."""
    try:
        # modes = 0 only asks; struct timex is at most 208 bytes; TIME_ERROR (5): not synchronised.
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != 5)


def stopwatch_s() -> float:
    """Real seconds from an arbitrary start: to measure how long work took, never to decide."""
    return time.perf_counter()


def utc(now_s: float) -> str:
    """POSIX seconds as ISO 8601 in UTC to the millisecond: 2026-01-31T12:00:00.000Z."""
    text = datetime.fromtimestamp(now_s, tz=UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


_BEFORE = re.compile(r"(\d{1,6})([mhdw])", re.ASCII)
_UNITS_S = {"m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}


def moment(text: str, now_s: float) -> float | None:
    """POSIX seconds of "90m", "24h", "7d" (before now) or of ISO 8601; None for anything else."""
    if match := _BEFORE.fullmatch(text):
        return now_s - int(match[1]) * _UNITS_S[match[2]]
    return parse_utc(text)


def parse_utc(text: str) -> float | None:
    """POSIX seconds from ISO 8601 text with its offset or Z; None for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment.timestamp()
