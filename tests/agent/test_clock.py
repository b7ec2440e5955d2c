import asyncio
import math
import subprocess
import sys
from pathlib import Path

import pytest

from agent import clock as clock_module
from agent.clock import VirtualClock, WallClock, read_boot_id, utc

ROOT = Path(__file__).parents[2]


class Machine:
    """The two clocks of a machine, both in the test's hands."""

    CLOCK_BOOTTIME = 7

    def __init__(self) -> None:
        self.wall_s = 1_700_000_000.0
        self.up_s = 1_000.0

    def time(self) -> float:
        return self.wall_s

    def clock_gettime(self, which: int) -> float:
        assert which == self.CLOCK_BOOTTIME
        return self.up_s


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(clock_module, "time", made)
    return made


def test_a_step_of_the_wall_clock_moves_now_but_not_the_boot_clock(machine: Machine) -> None:
    clock = WallClock()
    now_s, boot_s = clock.now_s(), clock.boot_s()
    machine.wall_s -= 3_600
    assert clock.now_s() == now_s - 3_600
    assert clock.boot_s() == boot_s


def test_a_fast_clock_starts_where_told_and_ignores_steps(machine: Machine) -> None:
    clock = WallClock(speed=30, start_s=500.0)
    assert clock.now_s() == 500.0
    machine.up_s += 2
    machine.wall_s += 86_400
    assert clock.now_s() == 560.0
    assert clock.boot_s() == 1_002 * 30


def test_boot_time_is_comparable_across_restarts_at_one_speed(machine: Machine) -> None:
    before = WallClock(speed=30)
    left_s = before.boot_s()
    machine.up_s += 4
    assert WallClock(speed=30).boot_s() - left_s == 120


@pytest.mark.parametrize("speed", [0.0, -1.0, math.inf, math.nan])
def test_a_senseless_speed_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        WallClock(speed)


async def test_sleeping_is_divided_by_the_speed() -> None:
    async with asyncio.timeout(20):  # 1,000 s of agent time
        await WallClock(speed=100_000).sleep_s(1_000)


async def test_virtual_sleepers_wake_in_the_order_of_their_due_times() -> None:
    clock = VirtualClock(start_s=100.0)
    woken: list[str] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep_s(seconds)
        woken.append(name)

    tasks = [asyncio.create_task(sleeper(*who)) for who in (("b", 20), ("a", 10), ("c", 20))]
    await asyncio.sleep(0)
    clock.advance(9.5)
    await asyncio.sleep(0)
    assert woken == []
    clock.advance(100)
    await asyncio.gather(*tasks)
    assert woken == ["a", "b", "c"]
    assert clock.now_s() == 209.5


async def test_a_cancelled_virtual_sleeper_does_not_break_the_clock() -> None:
    clock = VirtualClock()
    task = asyncio.create_task(clock.sleep_s(5))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    clock.advance(10)
    assert task.cancelled()


def test_virtual_wall_steps_leave_boot_time_alone() -> None:
    clock = VirtualClock(start_s=50.0)
    clock.advance(5)
    clock.step_wall(-1_000)
    assert (clock.now_s(), clock.boot_s()) == (-945.0, 5.0)
    with pytest.raises(ValueError, match="advance"):
        clock.advance(-1)
    with pytest.raises(ValueError, match="advance"):
        clock.advance(math.nan)


def test_boot_id_is_the_kernels_with_and_without_systemd() -> None:
    kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert WallClock().boot_id == kernel.replace("-", "")
    hidden = Path("/nonexistent")
    assert read_boot_id(hidden, {"SKADI_BOOT_ID": kernel.replace("-", "")}) == WallClock().boot_id


def test_an_unreadable_boot_id_equals_no_other(tmp_path: Path) -> None:
    empty = tmp_path / "boot_id"
    empty.write_text("\n")
    ids = {read_boot_id(empty, {}), read_boot_id(tmp_path / "none", {}), WallClock().boot_id}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("now_s", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000.25, "2023-11-14T22:13:20.250Z"),
        (951_782_400.0, "2000-02-29T00:00:00.000Z"),
    ],
)
def test_utc_text(now_s: float, text: str) -> None:
    assert utc(now_s) == text


@pytest.mark.parametrize(
    ("place", "found"),
    [("agent/x.py", True), ("control/x.py", True), ("agent/clock.py", False),
     ("simulators/x.py", False), ("tests/x.py", False)],
)  # fmt: skip
def test_lint_keeps_other_clocks_out(place: str, found: bool) -> None:
    code = (
        "import time\nfrom datetime import UTC, datetime\n\n"
        "print(time.time(), time.monotonic(), datetime.now(UTC))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--no-cache",
         "--stdin-filename", place, "-"],
        input=code, capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert ran.stdout.count("TID251") == (3 if found else 0), ran.stdout + ran.stderr
