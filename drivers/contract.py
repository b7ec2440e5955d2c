"""What every driver offers: connect, read a planned batch, raw write, present, close.

A driver speaks one protocol to one device. It is created from a resolved `Device`, reads
all its points in one call by a plan compiled at creation, and never invents a value: what
did not come, or does not answer the request, is a Reading with its quality and reason.
Deadlines are wall time (asyncio.timeout); `now_s` is only the stamp on readings.

Raw writes are called by drivers.gate and by nothing else; a test over the syntax tree
proves it.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from config.site import Device, Point
from control.types import Lease, Outcome, Present, Reading


class DriverError(Exception):
    """Something a driver can't do. The message names device, address and what to do."""


class Transient(DriverError):
    """Worth another try: a timeout, a lost connection, a busy device."""


class Permanent(DriverError):
    """Not worth another try before a person acts: wrong credentials, no such object."""


class NotSent(Transient):
    """A write that certainly never left: nothing changed on the device."""


class Refused(Permanent):
    """The device answered a write with a refusal: nothing changed on it."""


class Driver(Protocol):
    """The contract. One instance a device; calls on one instance are serialised by itself."""

    device: Device

    async def connect(self) -> None:
        """Open what there is to open. Raises DriverError."""
        ...

    async def read(self, now_s: float) -> Sequence[Reading]:
        """Read every point of the device: one Reading for each, in the order of the points.

        Raises Transient when the device as a whole does not answer; otherwise what went
        wrong with single points is in their readings.
        """
        ...

    async def present(self, points: Sequence[Point]) -> dict[str, Present]:
        """Read writable points as they stand now, for read-back: value, priority, our slot.

        Fresh from the wire, by point key. Raises DriverError.
        """
        ...

    async def write_raw(self, values: Mapping[str, float | None]) -> None:
        """Write these points (by key, in the quantity's unit) as one change. None relinquishes.

        For the gate only. Raises NotSent or Refused when surely nothing changed, Transient
        when the outcome is unknown (sent, no answer). Never retries.
        """
        ...

    async def close(self) -> None:
        """Let go of sockets. Never raises for a device that is gone."""
        ...


class Journal(Protocol):
    """What the gate needs of the journal: intents made durable before the wire is touched."""

    def held(self) -> dict[str, Lease]:
        """The setpoints that may stand on a device because of us, by point."""
        ...

    def intend(
        self, now_s: float, cycle: str, kind: str, device: Device, leases: Sequence[Lease]
    ) -> int:
        """Make the intent durable and return its number. Raises gate.JournalError."""
        ...

    def outcome(self, now_s: float, intent: int, outcomes: Sequence[Outcome]) -> None:
        """Record what came of an intent (0: none), and which leases still stand."""
        ...

    def renew(self, now_s: float, leases: Sequence[Lease]) -> None:
        """Record leases with a later expiry. Raises gate.JournalError."""
        ...
