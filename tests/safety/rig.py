"""A gate on the small hall's devices, with everything in reach: what unit tests of ring two use."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from control.types import (
    Change,
    Kind,
    Lease,
    Outcome,
    Permit,
    Present,
    Proposal,
    Receipt,
    Target,
)
from drivers.gate import Gate
from tests.safety.world import START_S, World, make_site

SUPPLY, FAN, PUMP = "crac-a1/supply", "crac-a1/fan", "pump/speed"
WATER, SHARE_A, SHARE_B = "bms/water", "router/share.A", "router/share.B"
PERMIT_S = 10.0


class Rig:
    """Devices, journal and gate; `armed` is what the gate is told, by point."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder, make_site())
        self.world.start()
        assert self.world.journal is not None
        self.journal = self.world.journal
        self.armed = set(self.world.site.writable_points)
        self.points = dict(self.world.site.points)
        self.gate = self.new_gate()
        self._number = 0

    def new_gate(self) -> Gate:
        """A gate of a later run on the same journal."""
        drivers = self.world.drivers
        return Gate(self.points, drivers, self.journal, lambda point: point.key in self.armed)

    def now(self) -> float:
        return self.world.clock.now_s()

    def permit(
        self, wanted: Mapping[str, float], kind: Kind = Kind.NORMAL, **more: object
    ) -> Permit:
        """A permit that ring one could have made now, unless `more` says otherwise."""
        self._number += 1
        changes = tuple(Change(k, None, v) for k, v in wanted.items())
        name = str(more.pop("id", f"p{self._number}"))
        proposal = Proposal(name, "slow", "test", changes, "a test", kind,
                            expires_s=START_S + 900.0)  # fmt: skip
        proposal = replace(proposal, changes=more.pop("changes", changes))  # type: ignore[arg-type]
        return replace(Permit(proposal, "c1", self.now(), self.now() + PERMIT_S), **more)  # type: ignore[arg-type]

    async def apply(self, wanted: Mapping[str, float], kind: Kind = Kind.NORMAL, **more: object) -> list[Outcome]:  # fmt: skip
        """Carry out a permit."""
        return await self.gate.apply(self.permit(wanted, kind, **more), self.now)

    async def one(
        self, key: str, value: float, kind: Kind = Kind.NORMAL, **more: object
    ) -> Receipt:
        """Carry out a permit for one point; its receipt."""
        (outcome,) = await self.apply({key: value}, kind, **more)
        return outcome.receipt

    async def back(self, *keys: str, target: Target = Target.BASELINE) -> list[Outcome]:
        """Give back."""
        return await self.gate.give_back(keys, target, self.now)

    def cell(self, key: str) -> float:
        """What rules at the device."""
        return self.world.fields[key.partition("/")[0]].cells[key].present()

    def wire(self) -> list[tuple[str, float | None]]:
        """Every write of ours that reached a device."""
        return [(w.key, w.value) for w in self.world.log if w.by == "us"]

    def held(self) -> dict[str, Lease]:
        """What the gate books, once it is sure that the journal says the same."""
        on_disk = self.journal.held()
        assert self.gate.held == on_disk
        return on_disk


class Scripted:
    """A driver whose device says what a test tells it to, look by look."""

    def __init__(self, rig: Rig, device: str, *looks: Present) -> None:
        self.device = rig.world.site.device[device]
        self._looks = list(looks)
        self.wrote: list[Mapping[str, float | None]] = []
        rig.world.drivers[device] = self  # type: ignore[assignment]
        rig.gate = rig.new_gate()

    async def present(self, points: list[object]) -> dict[str, Present]:
        look = self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]
        return {p.key: look for p in points}  # type: ignore[attr-defined]

    async def write_raw(self, values: Mapping[str, float | None]) -> None:
        self.wrote.append(values)
