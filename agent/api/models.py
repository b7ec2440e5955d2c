"""The shapes of what the HTTP API answers: a contract, versioned, units beside every number.

SCHEMA goes up when something is renamed or removed, not when something is added.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 1

Number = Annotated[float, Field(allow_inf_nan=False)]


class Shape(BaseModel):
    """Answers are immutable and hold nothing that is not named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Problem(Shape):
    """One thing that is wrong with a request: where it stands and what it is."""

    where: str
    what: str


class ErrorBody(Shape):
    """Why there is no answer, and what to do."""

    code: str
    message: str
    problems: list[Problem] = []


class Error(Shape):
    """Every answer that is not 2xx."""

    error: ErrorBody


class Figure(Shape):
    """A number with its unit. null: not known."""

    value: Number | None
    unit: str


class Modes(Shape):
    """What the agent may do now. `ceiling` is the site file's mode."""

    mode: Literal["advisory", "closed_loop"]
    ceiling: Literal["advisory", "closed_loop"]
    killed: bool
    armed: list[str]
    may_act: bool


class UnitState(Shape):
    """What the monitor says of the hall. `deviation` is D(x), `ema` its average."""

    state: str
    since: str
    deviation: Number | None
    ema: Number | None
    tau_fast: Number | None
    tau_persist: Number | None
    top: list[str]


class RowState(UnitState):
    """What the monitor says of a row."""

    row: str


class Held(Shape):
    """A setpoint that Skadi holds, and until when unless renewed."""

    point: str
    value: Number
    baseline: Number | None
    baseline_old: bool
    unit: str
    expires: str
    certain: bool


class DeviceState(Shape):
    """How polling a device goes, and what it offers. `failing` counts errors in a row; `retries`
    polls after one that failed; `latency_ms` a moving mean; `wait_s` above `period_s`: backing
    off. `quantities`: by quantity, how many points are found, stale, missing."""

    device: str
    protocol: str
    points: int
    polls: int
    errors: int
    failing: int
    retries: int
    latency_ms: float | None
    latency_most_ms: float | None
    period_s: float
    wait_s: float
    last_good: str | None
    reason: str
    quantities: dict[str, dict[str, int]]


class Counts(Shape):
    """What the agent did since it started."""

    writes: int
    confirmed: int
    rollbacks: int
    protective: int
    denied: int


class AlarmState(Shape):
    """One alarm, by its cause."""

    id: str
    state: str
    severity: Literal["low", "medium", "high", "critical"]
    since: str
    text: str
    advice: str
    calls: bool
    shelved_until: str | None


class HistoryState(Shape):
    """How history is doing; `lost` is why the database can't be reached, empty when it can."""

    lost: str
    queued: int
    written: int
    dropped: int


class Overview(Shape):
    """Everything a first screen shows."""

    schema_version: int
    ts: str
    site: str
    area: str
    version: str
    boot: str
    modes: Modes
    limits: dict[str, Figure]
    kpi: dict[str, Figure]
    terms: dict[str, str]
    rows: list[RowState]
    hall: UnitState | None
    held: list[Held]
    devices: list[DeviceState]
    alarms: list[AlarmState]
    tripped: list[str]
    yielded: dict[str, str]
    quarantined: dict[str, str]
    counts: Counts
    history: HistoryState | None
    mqtt_connected: bool | None


class RackCell(Shape):
    """One rack of the heat map."""

    rack: str
    row: str | None
    inlet_c: Number | None
    inlet_age_s: Number | None
    outlet_c: Number | None
    pdu_kw: Number | None
    deviation: Number | None
    ema: Number | None
    state: str


class Heatmap(Shape):
    """All racks, in the order of their names. Units by field."""

    ts: str
    units: dict[str, str]
    limits: dict[str, Figure]
    racks: list[RackCell]


class PointValue(Shape):
    """One point with its last reading. `value` is null unless quality is good or stale."""

    key: str
    device: str
    quantity: str
    unit: str
    row: str | None
    rack: str | None
    writable: bool
    value: Number | None
    quality: Literal["good", "stale", "bad", "missing", "unknown"]
    ts: str | None
    source: Literal["polled", "pushed"]
    reason: str


class Points(Shape):
    """A page of points; `next` is what to give as `after` for more, null at the end."""

    points: list[PointValue]
    next: str | None


class SampleRow(Shape):
    """A stretch of a series: its start, mean, lowest, highest, and how many readings were good."""

    ts: str
    value: Number | None
    low: Number | None
    high: Number | None
    n: int
    n_missing: int


class Series(Shape):
    """One point over time."""

    point: str
    quantity: str
    unit: str
    row: str | None
    rack: str | None
    samples: list[SampleRow]


class ActionEntry(Shape):
    """One record of a decision: an action, its end, its judgement, or a refusal."""

    id: str
    ts: str
    type: str
    cycle: str
    loop: str | None
    move: str | None
    scope: str | None
    detail: dict[str, Any]


class Timeline(Shape):
    """Series with what Skadi did meanwhile."""

    since: str
    until: str
    step_s: Number
    series: list[Series]
    annotations: list[ActionEntry]


class ActionPage(Shape):
    """Newest first; `next` is what to give as `before` for older ones, null at the end."""

    actions: list[ActionEntry]
    next: str | None


class Health(Shape):
    """The process lives and its loop turns. `degraded`: what it does without, and why."""

    status: Literal["ok"]
    version: str
    boot: str
    degraded: list[str]


class Ready(Shape):
    """Whether it does its work, and if not, why. `degraded`: what it does without, and why."""

    ready: bool
    reasons: list[str]
    degraded: list[str]


class Done(Shape):
    """What came of an operation. `detail` has the operation's own keys."""

    ok: bool
    operation: str
    detail: dict[str, Any]


class Taken(Shape):
    """What became of pushed readings."""

    taken: int
    refused: list[Problem]


class RungShape(Shape):
    """One step of a ladder; `decisive` marks the one that decided."""

    step: str
    text: str
    decisive: bool
    numbers: dict[str, Any]


class LadderShape(Shape):
    """Why an act was made, or was not."""

    id: str
    ts: str
    summary: str
    rungs: list[RungShape]
