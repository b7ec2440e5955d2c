"""A dead or slow device never delays another; loss and recovery are each said once."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from agent.clock import SLOT_S, VirtualClock
from agent.polling import BACK_OFF_MOST, Poller
from config.site import Device, Point
from control.types import Present, Quality, Reading
from drivers.contract import Transient
from tests.agent.make import point


class Fake:
    """A driver whose device answers, fails, hangs or has a bug, as told."""

    def __init__(self, name: str, clock: VirtualClock, period_s: float = 5.0) -> None:
        self.device = Device(id=name, protocol="modbus-tcp", points=(point(name, "inlet_c"),),
                             poll_interval_s=period_s)  # fmt: skip
        self.clock = clock
        self.mood = "answers"
        self.read_at: list[float] = []

    async def connect(self) -> None: ...

    async def read(self, now_s: float) -> list[Reading]:
        self.read_at.append(now_s)
        match self.mood:
            case "fails":
                raise Transient(f"{self.device.id}: timeout")
            case "hangs":
                await self.clock.sleep_s(30.0)
            case "bug":
                raise RuntimeError("a bug of the driver")
            case _:
                pass
        return [Reading(f"{self.device.id}/inlet_c", 20.0, now_s, Quality.GOOD)]

    async def present(self, points: Sequence[Point]) -> dict[str, Present]:
        return {}

    async def write_raw(self, values: Mapping[str, float | None]) -> None: ...

    async def close(self) -> None: ...


async def pass_time(clock: VirtualClock, seconds: float) -> None:
    for _ in range(round(seconds / 0.5)):
        clock.advance(0.5)
        for _ in range(4):
            await asyncio.sleep(0)


async def test_others_keep_their_period_while_one_fails_hangs_or_breaks() -> None:
    clock = VirtualClock(1000.0)
    fakes = [Fake(name, clock) for name in ("good", "dead", "slow", "broken")]
    fakes[1].mood, fakes[2].mood, fakes[3].mood = "fails", "hangs", "bug"
    got: dict[str, list[Quality]] = {f.device.id: [] for f in fakes}
    poller = Poller(fakes, clock, lambda d, rs: got[d.id].extend(r.quality for r in rs))
    poller.start()
    for _ in range(4):  # the first polls begin before time passes
        await asyncio.sleep(0)
    await pass_time(clock, 120.0)
    await poller.stop()
    gaps = [b - a for a, b in zip(fakes[0].read_at, fakes[0].read_at[1:], strict=False)]
    assert len(gaps) >= 22
    assert all(gap == 5.0 for gap in gaps)
    assert set(got["good"]) == {Quality.GOOD}
    assert set(got["dead"]) == {Quality.UNKNOWN}
    assert set(got["broken"]) == {Quality.UNKNOWN}
    assert 3 <= len(fakes[2].read_at) <= 5  # one read at a time, each 30 s long


async def test_back_off_is_bounded_and_ends_with_the_first_answer() -> None:
    clock = VirtualClock(1000.0)
    fake = Fake("dead", clock)
    fake.mood = "fails"
    poller = Poller([fake], clock, lambda _d, _r: None)
    with structlog.testing.capture_logs() as logs:
        poller.start()
        await pass_time(clock, 600.0)
        gaps = [b - a for a, b in zip(fake.read_at, fake.read_at[1:], strict=False)]
        assert gaps[0] < 7.0 < gaps[2]
        assert max(gaps) <= 5.0 * BACK_OFF_MOST * 1.2 + 0.5
        fake.mood = "answers"
        await pass_time(clock, 120.0)
        await poller.stop()
    assert poller.stats["dead"].failing == 0
    events = [entry["event"] for entry in logs]
    assert events.count("device does not answer") == 1
    assert events.count("device answers again") == 1
    steady = [b - a for a, b in zip(fake.read_at, fake.read_at[1:], strict=False)][-5:]
    assert all(gap == 5.0 for gap in steady)


async def test_devices_are_polled_together_at_slots_and_come_back_to_them() -> None:
    clock = VirtualClock(1000.0)
    fakes = [Fake(str(i), clock, period_s=1.0) for i in range(50)]
    poller = Poller(fakes, clock, lambda _d, _r: None)
    poller.start()

    async def pass_finely(seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            clock.advance(0.02)
            for _ in range(4):
                await asyncio.sleep(0)

    await pass_finely(3.0)
    fakes[7].mood = "fails"
    await pass_finely(10.0)
    fakes[7].mood = "answers"
    await pass_finely(20.0)
    await poller.stop()
    last_second = [f.read_at[-1] for f in fakes]
    assert len({round(at * 50) for at in last_second}) == round(1.0 / SLOT_S)  # not 50 wakings
    assert all(abs(b - a - 1.0) < 0.021 for f in fakes[:7]
               for a, b in zip(f.read_at, f.read_at[1:], strict=False))  # fmt: skip
