"""Where people work nothing new becomes persistent, and what was persistent may end."""

from dataclasses import replace

import numpy as np
import pytest

from config.site import Device, Interlock, Site, Unit
from control import decide
from control.decide import Setting
from control.ims_model import ImsModel, signed
from control.layout import Layout
from control.modes import initial
from control.monitor import Trained, fit, worked_on
from control.state import ControlState
from control.types import Snapshot
from tests.agent import make

MODEL = Trained(signed(ImsModel(
    features=("inlet_c",), offset=np.array([22.0]), transform=np.eye(1), centres=np.zeros((1, 1)),
    half_widths=np.ones((1, 1)), support=np.ones(1), tau_fast=1.0, tau_persist=2.0, smooth_alpha=0.5,
    low=np.array([20.0]), high=np.array([24.0]),
)))  # fmt: skip
TAG = make.point("crac-a1", "works", "contact", row="A")


def hall() -> Site:
    base = make.site()
    rack, crac = base.devices
    return replace(base, units=(Unit("crac-a1", maintenance=TAG.key),),
                   devices=(rack, Device(id="crac-a1", protocol="push", points=(*crac.points, TAG))))  # fmt: skip


def states(site: Site, inlet_c: float, tags: list[float]) -> list[str]:
    """The state of the rack over as many ticks of 5 s as there are readings of the tag."""
    layout = Layout(site)
    setting, state = Setting.of(layout, fit(layout, MODEL)), ControlState(initial(site, None))
    seen = []
    for i, tag in enumerate(tags):
        values = np.full(len(layout.index), 5.0)
        values[layout.index["rack-a01/inlet_c"]] = inlet_c
        values[layout.index[TAG.key]] = tag
        shot = Snapshot(1e9 + 5.0 * i, layout.index, values, values, np.zeros(len(values)))
        state = decide.observe(setting, shot, state)
        seen.append(state.findings["rack:A01"].state)
    return seen


def test_a_tag_holds_off_what_would_be_persistent_and_its_end_lets_it_be() -> None:
    assert states(hall(), 30.0, [0.0] * 60)[-1] == "persistent"
    held = states(hall(), 30.0, [1.0] * 60 + [0.0] * 60)
    assert "persistent" not in held[:60]
    assert held[-1] == "persistent", "still there when they are gone: it is a fault"
    dark = states(hall(), 30.0, [float("nan")] * 60)
    assert dark[-1] == "persistent", "a tag that can't be read hides nothing"


@pytest.mark.parametrize(("tags", "racks"), [
    ({"hall"}, True), ({"row:A"}, True), ({"rack:A01"}, True), ({"equipment:crac-a1"}, True),
    ({"row:B"}, False), ({"equipment:crac-b1"}, False), (set(), False),
])  # fmt: skip
def test_a_scope_reaches_its_racks(tags: set[str], racks: bool) -> None:
    assert worked_on(Layout(hall()), ("rack:A01",), tags).tolist() == [racks]


def test_an_interlock_of_kind_maintenance_is_a_tag_too() -> None:
    lock = Interlock(
        "works", TAG.key, "row:A", "hold", trip_above=0.5, kind="maintenance", latch=False
    )
    site = replace(hall(), units=(), interlocks=(lock,))
    assert "persistent" not in states(site, 30.0, [1.0] * 60)
