"""The values that flow through the agent, from a reading to a receipt.

All are immutable. Times are seconds: `now_s`/`taken_s` on the agent's own clock (POSIX
seconds, virtual in rehearsals). Values are in the unit of the point's quantity.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import overload

import numpy as np
from numpy.typing import NDArray


class Quality(StrEnum):
    """How far a reading can be trusted. Only `good` may be evidence for a move towards risk."""

    GOOD = "good"
    STALE = "stale"  # older than the point's max_age_s
    BAD = "bad"  # the device answered, but not with a believable value
    MISSING = "missing"  # the device says it has none (a sentinel, no such instance)
    UNKNOWN = "unknown"  # never read, or the device does not answer


@dataclass(frozen=True, slots=True)
class Reading:
    """What a point said. `value` is None unless quality is good or stale."""

    point: str
    value: float | None
    taken_s: float
    quality: Quality
    reason: str = ""
    source: str = "polled"  # polled | pushed


class Sweep(Sequence[Reading]):
    """The readings of one poll in columns: a sequence that makes a Reading only when asked for one.

    points: their keys. values (n,): good values, NaN elsewhere. faults: position -> why there is
    no good value; every other position is good. Nothing in it may be changed.
    """

    __slots__ = ("faults", "points", "taken_s", "values")

    def __init__(
        self,
        points: tuple[str, ...],
        values: NDArray[np.float64],
        taken_s: float,
        faults: Mapping[int, tuple[Quality, str]],
    ) -> None:
        self.points, self.values, self.taken_s, self.faults = points, values, taken_s, faults

    def __len__(self) -> int:
        return len(self.points)

    @overload
    def __getitem__(self, at: int) -> Reading: ...
    @overload
    def __getitem__(self, at: slice) -> list[Reading]: ...
    def __getitem__(self, at: int | slice) -> Reading | list[Reading]:
        if isinstance(at, slice):
            return list(self)[at]
        at = range(len(self.points))[at]
        if fault := self.faults.get(at):
            return Reading(self.points[at], None, self.taken_s, *fault)
        return Reading(self.points[at], float(self.values[at]), self.taken_s, Quality.GOOD)

    def __iter__(self) -> Iterator[Reading]:
        return map(self.__getitem__, range(len(self.points)))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All readings at one instant, as arrays over the site's points: what pure functions take.

    index: point key -> position. values (n,): good values, NaN elsewhere. last (n,): the last
    good value, whatever its age (NaN: never). age_s (n,): since that value was taken (inf).
    """

    now_s: float
    index: Mapping[str, int]
    values: NDArray[np.float64]
    last: NDArray[np.float64]
    age_s: NDArray[np.float64]

    def value(self, point: str) -> float | None:
        """The value of a good reading, else None."""
        at = self.index.get(point)
        value = math.nan if at is None else self.values.item(at)
        return None if math.isnan(value) else value

    def take(self, positions: NDArray[np.intp]) -> NDArray[np.float64]:
        """The good values at `positions`; NaN where a reading is not good."""
        return self.values[positions]


class Mode(StrEnum):
    """What the agent may do: think, or act."""

    ADVISORY = "advisory"
    CLOSED_LOOP = "closed_loop"


HEARTBEAT = "heartbeat"  # a loop that only says that we are alive


class Kind(StrEnum):
    """Why a change is proposed. PROTECTIVE is exempt from interval and step, never envelope."""

    NORMAL = "normal"
    PROTECTIVE = "protective"  # one move in the safe direction, once per equipment and incident


@dataclass(frozen=True, slots=True)
class Change:
    """One point and the value it should take, with the value it holds now."""

    point: str
    old: float | None
    new: float


@dataclass(frozen=True, slots=True)
class Effect:
    """What a move is expected to do. Differences against doing nothing; 1-sigma beside them."""

    total_power_kw: float = 0.0
    total_power_sigma_kw: float = 0.0
    inlet_c: float = 0.0
    inlet_sigma_k: float = 0.0
    latency_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Proposal:
    """One atomic change that a loop wants: all of `changes` or none of them."""

    id: str
    loop: str  # fast | slow | operator | commission | heartbeat
    move: str  # the name in the table of moves
    changes: tuple[Change, ...]
    reason: str
    kind: Kind = Kind.NORMAL
    scope: str = "hall"
    effect: Effect = Effect()
    expires_s: float = 0.0  # of the lease


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a proposal may not be carried out: the rule's name and its numbers."""

    proposal: Proposal
    rule: str
    numbers: str


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to write, for a short while. Only control.guardrails makes one."""

    proposal: Proposal
    cycle: str
    issued_s: float
    expires_s: float


Verdict = Permit | Denial


@dataclass(frozen=True, slots=True)
class Lease:
    """A setpoint we hold, or may hold: what it replaced, what we wrote, until when it stands.

    baseline: what stood before our first write; previous: before our latest one. None in
    either means: nothing in our slot, so giving back to it is a relinquish. stood: the
    present value before us, whatever made it; baseline_s: when that was read (None: unknown,
    which counts as too long ago). `certain` is False between intent and read-back: possibly
    applied, and then the device holds `value` or what it held `instead`.
    """

    point: str
    baseline: float | None
    previous: float | None
    value: float
    taken_s: float
    expires_s: float
    proposal: str
    certain: bool = False
    stood: float | None = None
    baseline_s: float | None = None
    instead: float | None = None


class Target(StrEnum):
    """To what a lease is given back."""

    PREVIOUS = "previous"  # undo the latest write only
    BASELINE = "baseline"  # what stood before us; relinquish where the device can
    SAFE = "safe"  # the point's safe_value: blind, over a limit, or told to


@dataclass(frozen=True, slots=True)
class Ending:
    """A lease that must end, to what, and why."""

    point: str
    target: Target
    reason: str


@dataclass(frozen=True, slots=True)
class Applied:
    """Written and read back: the device holds our value in our slot."""

    point: str
    value: float


@dataclass(frozen=True, slots=True)
class Overridden:
    """Another hand has the point: a higher priority, or a value that is not ours. Yield."""

    point: str
    priority: int | None
    value: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The device took the write and holds something else."""

    point: str
    wanted: float
    found: float | None


@dataclass(frozen=True, slots=True)
class Failed:
    """Certainly not written: refused before or by the device."""

    point: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Sent, no answer: counts as possibly applied until read back."""

    point: str
    reason: str


Receipt = Applied | Overridden | Mismatch | Failed | Unknown


@dataclass(frozen=True, slots=True)
class Outcome:
    """A receipt, and the lease that still stands after it (None: nothing of ours does)."""

    receipt: Receipt
    lease: Lease | None


@dataclass(frozen=True, slots=True)
class Present:
    """What a writable point holds on its device, for read-back.

    value: present value in the quantity's unit; priority: the active slot of a priority
    array (None: the device has none, or relinquish default rules); ours: our slot's content;
    slots: whether it has a priority array (None: not told).
    """

    value: float | None
    priority: int | None = None
    ours: float | None = None
    slots: bool | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the monitor says of one unit (a rack, a row, the hall)."""

    unit: str
    deviation: float
    ema: float
    state: str  # nominal | transient | persistent | unknown
    since_s: float
    top: tuple[str, ...] = ()
    heat: float = 0.0  # > 0: away from nominal towards danger; < 0: towards over-cooled


@dataclass(frozen=True, slots=True)
class Record:
    """One line tying snapshot, findings, proposal, verdict and receipt under one cycle."""

    cycle: str
    now_s: float
    kind: str
    detail: Mapping[str, object] = field(default_factory=dict)
