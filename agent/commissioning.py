"""Makes a model for a plant in virtual time: left alone first, then each knob walked.

The walk is what commissioning does on a site, slowly and inside the envelope: it shows how
racks answer to commands, so that the agent's own moves are not mistaken for trouble.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from agent.lessons import Observed, learn, stacked
from agent.rehearse import Rehearsal, Rehearsed, in_memory
from agent.training import TrainOptions, train_in_worker
from config.site import Point
from control.context import Commands, Context, follow
from control.features import unit_features, unit_names
from control.monitor import Trained
from control.moves import Knob, knobs, shifted, traffic_away

F64 = NDArray[np.float64]
EVERY_S = 10.0  # a training row
UNTOUCHED = 0.4  # of the hours
DRIFT_ALPHA = 0.002  # of a tick: a nominal unit's usual place is followed within the hour
STEP_EVERY_S = 180.0
DWELL_STEPS = 6  # a target is kept for this long before the next
WALK = {  # how far from the untouched value a knob is walked, in its unit, within its envelope
    "supply_air_setpoint_c": (-2.0, 7.0), "zone_setpoint_c": (-2.0, 7.0),
    "chilled_water_setpoint_c": (0.0, 10.0), "fan_rpm_pct": (-38.0, 0.0), "pump_rpm_pct": (-45.0, 0.0),
    "batch_window_ms": (-40.0, 80.0), "admission_pct": (-100.0, 0.0),
}  # fmt: skip
TOGETHER = 0.6  # of a walk is common to all rows, as the optimizer's moves are
WARMEST_C = 26.5  # the walk turns back here


async def observe_plant(
    plan: Rehearsal, progress: Callable[[float], None] | None = None
) -> Observed:
    """Run a plant untouched, then walk its knobs; collect what training needs.

    Nobody else moves them meanwhile, whatever controller the plan names.
    """
    plan = replace(plan, controller="fixed")
    with tempfile.TemporaryDirectory(prefix="skadi-train-", dir=in_memory()) as folder:
        run = Rehearsed(plan, Path(folder))
        try:
            return await _collect(run, plan.hours, progress)
        finally:
            run.close()


async def _collect(
    run: Rehearsed, hours: float, progress: Callable[[float], None] | None
) -> Observed:
    layout = run.agent.layout
    commands, walk = Commands(layout), _Walk(run)
    xs: list[F64] = []
    cs: list[Context] = []
    orders: list[F64] = []
    ticks = round(hours * 3600.0 / run.tick_s)
    stride = max(1, round(EVERY_S / run.tick_s))
    quiet = round(ticks * UNTOUCHED)
    for i in range(ticks):
        if not await run.tick():
            break
        snapshot = run.agent.snapshot()
        if i >= quiet:
            walk.step(snapshot.now_s)
        if i % stride == 0:
            xs.append(unit_features(layout, snapshot))
            now = commands.read(snapshot)
            cs.append(follow(cs[-1] if cs else None, now, stride * run.tick_s))
            orders.append(commands.orders(now, snapshot))
        if progress is not None and i % 64 == 0:
            progress(i / ticks)
    alone = np.arange(len(xs)) < max(round(quiet / stride), 1)
    return Observed(np.array(xs), stacked(cs), np.array(orders), unit_names(layout), alone)


class _Walk:
    """Moves every knob of a plant towards random targets, one step at a time."""

    def __init__(self, run: Rehearsed) -> None:
        self._run = run
        self._random = Random(11)
        names = ("supply_air", "fan", "pump", "batching")
        self._knobs = [*knobs(run.agent.layout, names), *_admission(run)]
        self._target: dict[str, float] = {}
        self._due_s = 0.0
        self._count = 0

    def step(self, now_s: float) -> None:
        """Take one step when it is due."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + STEP_EVERY_S
        self._count += 1
        for knob in self._knobs:
            self._walk_one(knob)
        if self._count % DWELL_STEPS == 0:
            self._shift_traffic()

    def _walk_one(self, knob: Knob) -> None:
        snapshot = self._run.agent.snapshot()
        start = self._run.wire.setpoints[_name(knob.points[0])]
        origin = self._target.setdefault(f"0{knob.name}", start)
        if self._count % DWELL_STEPS == 1 or knob.name not in self._target:
            low, high = WALK.get(knob.quantity, (0.0, 0.0))
            share = TOGETHER * self._common(knob.quantity) + (1 - TOGETHER) * self._random.random()
            self._target[knob.name] = origin + low + (high - low) * share
        target = origin if self._too_warm(knob) else self._target[knob.name]
        for change in shifted(knob, snapshot, target - start):
            self._run.wire.put(_name(self._run.site.points[change.point]), change.new)

    def _common(self, quantity: str) -> float:
        """How far all knobs of a quantity go this time, 0..1."""
        dwell = self._count // DWELL_STEPS
        return Random(f"{quantity}/{dwell}").random()

    def _too_warm(self, knob: Knob) -> bool:
        layout, snapshot = self._run.agent.layout, self._run.agent.snapshot()
        where = layout.row_inlets[layout.rows.index(knob.row)] if knob.row else layout.inlets
        inlets = snapshot.take(where)
        return bool(inlets.size and np.nanmax(inlets) > WARMEST_C)

    def _shift_traffic(self) -> None:
        """A tenth of a random row's work to the others, or everything back to even."""
        layout, snapshot = self._run.agent.layout, self._run.agent.snapshot()
        shares = layout.knobs("traffic_share_pct")
        if len(shares) < 2:
            return
        even = {p.key: 100.0 / len(shares) for p in shares}
        if self._count % (2 * DWELL_STEPS) == 0:
            row = self._random.choice([p.row for p in shares if p.row])
            others = tuple(p.row for p in shares if p.row and p.row != row)
            changes = traffic_away(layout, snapshot, (row,), others, 20.0)
            even |= {c.point: c.new for c in changes}
        for p in shares:
            self._run.wire.put(_name(p), even[p.key])


def _admission(run: Rehearsed) -> list[Knob]:
    points = run.agent.layout.knobs("admission_pct")
    return [Knob("admission", "admission_pct", "hall", points)] if points else []


def _name(point: Point) -> str:
    return point.id if point.device == "plant" else point.key


async def train_on_plant(
    plan: Rehearsal, progress: Callable[[float], None] | None = None
) -> Trained:
    """Observe a plant and train: context first, then IMS on what context leaves."""
    seen = await observe_plant(plan, progress)
    options = TrainOptions(span_rows=6, row_s=EVERY_S, drift_alpha=DRIFT_ALPHA)
    return await learn(seen, options, train_in_worker)
