"""What the agent remembers between two decisions: passed in, returned, never global."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from control.modes import Modes
from control.monitor import MonitorState
from control.types import Effect, Finding, Lease, Proposal


@dataclass(frozen=True, slots=True)
class Spent:
    """The rate budget of one equipment or point: when it last changed, and how often today."""

    last_s: float
    day: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True)
class Verification:
    """A change whose effect is judged when it has settled: what stood before, what was promised.

    others_k: by row, what moves made since should have done to its inlets.
    """

    proposal: Proposal
    due_s: float
    inlet_before_c: float
    power_before_kw: float
    it_before_kw: float
    latency_before_ms: float
    effect: Effect
    others_k: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trip:
    """An interlock's state: beyond its bound since when, tripped now, and latched by a reading
    until a person resets it."""

    since_s: float | None = None
    tripped: bool = False
    latched: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """How far reality follows the physics of each learned move. mean (m,), cov (m, m)."""

    mean: NDArray[np.float64]
    cov: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Learning:
    """Where the slow model stood at its last look: cooling and IT power, and what moves since
    were predicted to do to cooling power, by move."""

    at_s: float
    cooling_kw: float
    it_kw: float
    predicted_kw: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ControlState:
    """Everything a decision depends on besides the snapshot and the site.

    spent: by equipment id and by point key. incidents: equipment -> the incident that used
    its one protective move. held_back: "move|scope" -> until when. yielded: points an operator
    holds, with why. quarantined: points whose read-back lied. inlet_trend: (n_racks, 2) last
    inlet and its smoothed slope in K/s, at trend_s.
    """

    modes: Modes
    leases: Mapping[str, Lease] = field(default_factory=dict)
    spent: Mapping[str, Spent] = field(default_factory=dict)
    incidents: Mapping[str, str] = field(default_factory=dict)
    held_back: Mapping[str, float] = field(default_factory=dict)
    yielded: Mapping[str, str] = field(default_factory=dict)
    quarantined: Mapping[str, str] = field(default_factory=dict)
    verifications: tuple[Verification, ...] = ()
    trips: Mapping[str, Trip] = field(default_factory=dict)
    findings: Mapping[str, Finding] = field(default_factory=dict)
    fast_holds: Mapping[str, float] = field(default_factory=dict)
    inlet_trend: NDArray[np.float64] | None = None
    trend_s: float = 0.0
    monitor: MonitorState | None = None
    belief: Belief | None = None
    learning: Learning | None = None
    seed: int = 0
