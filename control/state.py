"""What the agent remembers between two decisions: passed in, returned, never global."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from control.chart import Chart
from control.estimate import Gaussian
from control.foresight import Foresight
from control.modes import Modes
from control.monitor import MonitorState
from control.sensors import Looked
from control.signals import Window
from control.slow_model import Belief, Shift
from control.types import Effect, Ending, Finding, Lease, Proposal

DAY_S = 86_400.0
PROTECTIVE = "protective:"  # before an equipment: the budget of its exempt moves


@dataclass(frozen=True, slots=True)
class Spent:
    """The rate budget of one equipment or point: when it last changed, and how often in the
    24 hours that began at since_s."""

    last_s: float
    since_s: float = 0.0
    count: int = 0

    def today(self, now_s: float) -> int:
        """How many changes count against the daily limit."""
        return self.count if now_s - self.since_s < DAY_S else 0

    def again(self, now_s: float, counts: bool = True) -> "Spent":
        """The budget after one more change; giving back starts an interval but does not count.

        An interval never begins earlier than it did: who books late may know an older time.
        """
        last_s = max(now_s, self.last_s)
        if now_s - self.since_s < DAY_S:
            return Spent(last_s, self.since_s, self.count + counts)
        return Spent(last_s, now_s, int(counts))


NEVER = Spent(-float("inf"), -float("inf"))


@dataclass(frozen=True, slots=True)
class Owed:
    """A giving back that was decided and is not done: tried again at due_s, less and less often."""

    ending: Ending
    due_s: float
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Verification:
    """A change whose effect is judged when it has settled: what stood before, what was promised.

    made_s: when; row: the one row it acts in, or None; shift: what it changed in the hall's averages;
    others_k: by row, what moves made since should have done to its inlets; levels: before and
    after, of a move that the chart steers.
    """

    proposal: Proposal
    due_s: float
    row: str | None
    inlet_before_c: float
    shift: Shift
    effect: Effect
    others_k: Mapping[str, float] = field(default_factory=dict)
    levels: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    made_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Moved:
    """The last move of a knob: up (+1) or down (-1), and when."""

    direction: float
    at_s: float


@dataclass(frozen=True, slots=True)
class Trip:
    """An interlock's state: beyond its bound since when, tripped now, latched by a reading until
    a person resets it, and since when its input can't be read. seen, changed_s: the input's last
    value and when it came, for those that trip on change."""

    since_s: float | None = None
    tripped: bool = False
    latched: bool = False
    dark_s: float | None = None
    seen: float | None = None
    changed_s: float | None = None


@dataclass(frozen=True)
class ControlState:
    """Everything a decision depends on besides the snapshot and the site.

    spent: by equipment id and by point key. incidents: equipment -> the incident that used
    its one protective move. held_back: "move|scope" -> until when. yielded: points an operator
    holds, with why. quarantined: points whose read-back lied. owed: what must still be given
    back, by point. commissioned: points whose actuator a person has tried. inlet_trend:
    (n_racks, 2) each inlet's fast and slow mean, at trend_s. aftercare: row -> until when its work is left alone.
    incident_s: row -> since when the fast loop cools it; calm_s: since when work may come back
    (None: not yet). window: sums since the slow loop's last look, averages: (hall, places) at it.
    moved: knob -> its last move. bandit: kind of move -> what it saved beside its prediction. chart: what steers a hall of few kinds of setpoint.
    foresight: past load and weather, and how well they were foreseen.
    """

    modes: Modes
    leases: Mapping[str, Lease] = field(default_factory=dict)
    spent: Mapping[str, Spent] = field(default_factory=dict)
    incidents: Mapping[str, str] = field(default_factory=dict)
    held_back: Mapping[str, float] = field(default_factory=dict)
    yielded: Mapping[str, str] = field(default_factory=dict)
    quarantined: Mapping[str, str] = field(default_factory=dict)
    owed: Mapping[str, Owed] = field(default_factory=dict)
    commissioned: frozenset[str] = frozenset()
    verifications: tuple[Verification, ...] = ()
    stands: tuple[
        Verification, ...
    ] = ()  # judged and let stand, as long as their leases are theirs
    trips: Mapping[str, Trip] = field(default_factory=dict)
    findings: Mapping[str, Finding] = field(default_factory=dict)
    fast_holds: Mapping[str, float] = field(default_factory=dict)
    inlet_trend: NDArray[np.float64] | None = None
    trend_s: float = 0.0
    aftercare: Mapping[str, float] = field(default_factory=dict)
    incident_s: Mapping[str, float] = field(default_factory=dict)
    calm_s: float | None = None
    looked: Looked | None = None
    monitor: MonitorState | None = None
    window: Window | None = None
    averages: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    belief: Belief | None = None
    chart: Chart | None = None
    foresight: Foresight | None = None
    moved: Mapping[str, Moved] = field(default_factory=dict)
    bandit: Mapping[str, Gaussian] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()  # points that are being written right now
    seed: int = 0


if TYPE_CHECKING:
    from dataclasses import replace as replace
else:

    def replace(state: ControlState, **changes: object) -> ControlState:
        """dataclasses.replace at a tenth of its cost, for the value that all of a tick makes anew."""
        new = object.__new__(ControlState)
        new.__dict__.update(state.__dict__, **changes)
        return new
