"""A small hall for the decision path's tests: two rows of two racks, their knobs, no wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.plants.site import plant_site
from agent.store import Store
from control.guardrails import Case
from control.layout import Layout
from control.modes import Modes
from control.predict import View
from control.signals import HALL, Signals
from control.slow_model import prior
from control.state import ControlState
from control.types import Finding, Mode, Quality, Reading

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class P:
    """A plant's point, as rehearse's contract has it."""

    id: str
    quantity: str
    unit: str
    row: str | None = None
    rack: str | None = None
    writable: bool = False
    min: float | None = None
    max: float | None = None
    max_step: float | None = None
    baseline: float | None = None


POINTS = [
    *(P(f"pdu-{r}/inlet_c.{r.upper()}0{i}", "inlet_c", "degC", r.upper(), f"{r.upper()}0{i}")
      for r in "abc" for i in (1, 2)),
    *(P(f"pdu-{r}/pdu_kw.{r.upper()}0{i}", "pdu_kw", "kW", r.upper(), f"{r.upper()}0{i}")
      for r in "abc" for i in (1, 2)),
    *(P(f"crac-{r}1/supply_c", "supply_air_setpoint_c", "degC", r.upper(), None, True, 16, 27, 1, 18)
      for r in "abc"),
    *(P(f"crac-{r}1/fan_pct", "fan_rpm_pct", "%", r.upper(), None, True, 40, 100, 5, 100)
      for r in "abc"),
    *(P(f"router/share.{r.upper()}", "traffic_share_pct", "%", r.upper(), None, True, 5, 60, 10, 100 / 3)
      for r in "abc"),
    P("router/admission", "admission_pct", "%", None, None, True, 0, 100, 50, 100),
]  # fmt: skip
USUAL = {"inlet_c": 20.0, "pdu_kw": 6.0, "supply_air_setpoint_c": 20.0, "fan_rpm_pct": 80.0,
         "traffic_share_pct": 100 / 3, "admission_pct": 100.0}  # fmt: skip
NOW_S = 1_000_000.0


def case(
    values: Mapping[str, float | None] | None = None,
    findings: Mapping[str, Finding] | None = None,
    now_s: float = NOW_S,
    more: Sequence[P] = (),
    **state: object,
) -> Case:
    """The hall, with `more` points, and usual readings at NOW_S, some replaced (None: never read)."""
    site = plant_site([*POINTS, *more], 5.0)
    layout = Layout(site)
    store = Store(layout)
    special = dict(values or {})
    store.update(
        Reading(key, value, NOW_S, Quality.GOOD)
        for key, point in site.points.items()
        if (value := special.get(key, USUAL.get(point.quantity))) is not None
    )
    modes = Modes(Mode.CLOSED_LOOP, frozenset({"hall"}), Mode.CLOSED_LOOP, frozenset({"hall"}))
    memory = ControlState(modes=modes, findings=dict(findings or {}), **state)  # type: ignore[arg-type]
    return Case(store.snapshot(now_s), memory, layout, 8.0)


def finding(row: str, state: str, deviation: float, heat: float) -> Finding:
    """What the monitor says of a row."""
    return Finding(f"row:{row}", deviation, deviation, state, NOW_S, ("inlet_c",), heat)


def view(places: F64, at: Case | None = None, **hall: float) -> View:
    """The slow loop's look at a case (the usual hall), of which these averages are known: places
    (3, len(PLACE)); the hall's are 100 but for those named."""
    at, averages = at or case(), np.array([hall.get(name, 100.0) for name in HALL])
    belief = prior(averages, places, 0.0)
    assert belief is not None
    return View(at, Signals(at.layout), averages, places, belief)
