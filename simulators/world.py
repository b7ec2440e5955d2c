"""What the simulated devices share: the hall, its last readings, and a journal of writes.

Every write that reaches a device passes through `World.write`, which journals it as the
wire saw it, whether the device took it or not. Nothing here knows a protocol's bytes.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from simulators.hall import Hall
from simulators.hall.layout import Array
from simulators.hall.setpoints import Refused

JOURNAL_LENGTH = 100_000


@dataclass(frozen=True, slots=True)
class WireWrite:
    """One write request as a device saw it. new None: given back (BACnet Null)."""

    seq: int
    time_s: float
    utc: str
    device: str
    protocol: str
    address: str
    point: str
    old: float | None
    new: float | None
    outcome: str  # "applied" or "refused: why"
    priority: int | None = None
    change: int = 0  # writes of one request share it


class World:
    """One hall behind all devices; single-threaded, owned by one event loop."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        hall.work.latency.details = True
        self.tick = 0
        self.readings: dict[str, float] = {}
        self.journal: deque[WireWrite] = deque(maxlen=JOURNAL_LENGTH)
        self.seq = 0
        self.change = 0
        self.on_tick: list[Callable[[], None]] = []
        self.local: set[str] = set()  # devices whose switch stands on local
        # How far real time is into the present step, 0..1; whoever paces the world sets it.
        self.phase: Callable[[], float] = lambda: 1.0
        self._before = self._counters()
        self._after = self._before
        self.step()

    def _counters(self) -> list[Array]:
        return [c.copy() for c in self.hall.counters()]

    def counters(self) -> list[Array]:
        """Return Hall.counters() as a meter that is read between steps would show them.

        They run up to the step's end while it lasts, so that a rate is even however the
        reader's clock falls against the steps.
        """
        part = min(1.0, max(0.0, self.phase()))
        return [a + (b - a) * part for a, b in zip(self._before, self._after, strict=True)]

    def step(self) -> None:
        """Advance the hall by its native step and refresh what devices show.

        StopIteration at the end of the hall's hours.
        """
        self.readings = self.hall.step(self.hall.step_s, {})
        self._before, self._after = self._after, self._counters()
        self.tick += 1
        for refresh in self.on_tick:
            refresh()

    def value(self, point: str) -> float | None:
        """Return a reading or a setpoint as it stands now; None if there is none."""
        held = self.hall.setpoints.values.get(point)
        return self.readings.get(point) if held is None else held

    def write(
        self,
        device: str,
        protocol: str,
        changes: Mapping[str, tuple[str, float]],
        *,
        priority: int | None = None,
        shown: float | None = None,
        relinquish: bool = False,
    ) -> str | None:
        """Take {point: (address, value)} as one change. Returns why it was refused, or None.

        For BACnet, the value is the present value that results; `shown` and `relinquish` say
        what the request itself carried.
        """
        refused = f"{device} is switched to local" if device in self.local else None
        before = dict(self.hall.setpoints.values)
        if refused is None:
            try:
                self.hall.setpoints.set({p: value for p, (_, value) in changes.items()})
            except Refused as why:
                refused = str(why)
        self.change += 1
        for point, (address, value) in changes.items():
            new = None if relinquish else (value if shown is None else shown)
            self._note(device, protocol, address, point, before.get(point), new, refused, priority)
        return refused

    def refuse(self, device: str, protocol: str, address: str, why: str) -> None:
        """Journal a write request that names no setpoint at all."""
        self.change += 1
        self._note(device, protocol, address, "", None, None, why, None)

    def _note(
        self,
        device: str,
        protocol: str,
        address: str,
        point: str,
        old: float | None,
        new: float | None,
        refused: str | None,
        priority: int | None,
    ) -> None:
        self.seq += 1
        outcome = "applied" if refused is None else f"refused: {refused}"
        self.journal.append(
            WireWrite(
                self.seq, self.hall.now_s, self.hall.utc.isoformat(), device, protocol, address,
                point, old, new, outcome, priority, self.change,
            )
        )  # fmt: skip

    def journal_since(self, seq: int) -> list[dict[str, object]]:
        """Return journal entries after `seq` as plain data."""
        return [asdict(w) for w in self.journal if w.seq > seq]
