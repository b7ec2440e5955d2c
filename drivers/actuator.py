"""Workload actuators behind the one driver contract: what all their adapters share.

An adapter says how a target is read and set (drivers.envoy, slurm, kubernetes, nvml); a point names
its target with `name`. Until the site file says dry_run = false nothing is ever sent: a write is
refused with what would have been done. Must never retry a write, and never write on behalf of
anyone but drivers.gate.
"""

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from config.addresses import NamedAddress
from config.site import Device, Point
from control.types import Present, Quality, Reading
from drivers.contract import NotSent, Refused, Transient
from drivers.judge import judge_of

State = Mapping[str, float | str]
"""Target -> its number in the point's wire unit, or why it has none."""


class Actuator(ABC):
    """The driver of one such system. Subclasses are the adapters."""

    about: ClassVar[str]  # what a target's name looks like

    def __init__(self, device: Device, environ: Mapping[str, str]) -> None:
        self.device, self._environ = device, environ
        self._judges = [judge_of(p) for p in device.points]
        self._by_key = {p.key: p for p in device.points}
        self._busy = asyncio.Lock()

    # -- what an adapter says

    @abstractmethod
    async def fetch(self, targets: Sequence[str]) -> State:
        """What each target is set to now. Raises DriverError when the system does not answer."""

    @abstractmethod
    def plan(self, values: Mapping[str, float]) -> Sequence[tuple[str, tuple[str, ...]]]:
        """The steps that set targets to raw values: (what is done, whose targets), in their order.

        Raises Refused for a value that a target can't take. Nothing is sent.
        """

    @abstractmethod
    async def perform(self, step: str, values: Mapping[str, float]) -> None:
        """Do one step of the plan. Raises NotSent, Refused or Transient."""

    async def connect(self) -> None:  # noqa: B027  one without a session has nothing to do
        """Prepare; nothing is sent."""

    async def close(self) -> None:  # noqa: B027
        """Let go."""

    # -- the contract

    async def read(self, now_s: float) -> list[Reading]:
        """Read all targets. Raises Transient or Permanent when the system does not answer."""
        async with self._busy:
            state = await self.fetch([target_of(p) for p in self.device.points])
        readings: list[Reading] = []
        for judge, point in zip(self._judges, self.device.points, strict=True):
            raw = state.get(target_of(point), "not told")
            if isinstance(raw, str):
                readings.append(judge.missing(raw, now_s))
            else:
                readings.append(judge.read(raw, now_s))
        return readings

    async def present(self, points: Sequence[Point]) -> dict[str, Present]:
        """What these targets are set to now."""
        async with self._busy:
            state = await self.fetch([target_of(p) for p in points])
        found: dict[str, Present] = {}
        for point in points:
            raw = state.get(target_of(point), "not told")
            if isinstance(raw, str):
                raise Refused(f"device {self.device.id} {point.key}: {raw}")
            said = judge_of(point).read(raw, 0.0)
            found[point.key] = Present(said.value if said.quality is Quality.GOOD else None)
        return found

    async def write_raw(self, values: Mapping[str, float | None]) -> None:
        """Set targets. Raises Refused while dry_run; Transient as soon as a part is done and
        another is not."""
        wanted: dict[str, float] = {}
        for key, value in values.items():
            point = self._by_key[key]
            if point.writable is None:
                raise Refused(f"{key}: not writable")
            if value is None or not math.isfinite(value):
                raise Refused(f"{key}: it takes a number, it can't be relinquished")
            wanted[target_of(point)] = (value - point.offset) / point.scale
        steps = self.plan(wanted)
        if self.device.dry_run:
            told = "; ".join(step for step, _ in steps)
            raise Refused(f"device {self.device.id}: dry_run: would do: {told}")
        done: list[str] = []
        async with self._busy:
            for step, targets in steps:
                try:
                    await self.perform(step, {t: wanted[t] for t in targets})
                except (NotSent, Refused) as error:
                    if not done:
                        raise
                    raise Transient(f"done in part: {'; '.join(done)}; then {error}") from error
                done.append(step)


def target_of(point: Point) -> str:
    """The name of what a point sets."""
    assert isinstance(point.address, NamedAddress)
    return point.address.name


def on_or_off(target: str, raw: float) -> bool:
    """A switch takes 0 (held) and 100 (admitted). Raises Refused for anything between."""
    if raw not in (0.0, 100.0):
        raise Refused(f"{target}: takes 0 (held) or 100 (admitted), not {raw:g}")
    return raw == 100.0
