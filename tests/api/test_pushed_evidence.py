"""Pushed readings are never the only evidence for a move towards risk."""

from dataclasses import replace
from pathlib import Path

import pytest

from config.site import Device
from control.guardrails import judge
from control.types import Change, Denial, Proposal, Quality, Reading
from tests.api.make import hall_site, house


@pytest.mark.parametrize("polled_lost", [False, True])
async def test_pushed_inlets_alone_bear_no_risk(tmp_path: Path, polled_lost: bool) -> None:
    site = hall_site(tmp_path)
    crac = replace(
        site, devices=tuple(_row_a_pushed(d) if polled_lost else d for d in site.devices)
    )
    async with house(tmp_path, crac) as hall:
        await hall.minutes_alone(6)
        now_s = hall.clock.now_s()
        inlets = [p.key for p in crac.points.values() if p.quantity == "inlet_c" and p.row == "A"]
        hall.agent.store.update(
            Reading(key, 22.0, now_s, Quality.GOOD, source="pushed") for key in inlets
        )
        point = next(
            p for p in crac.writable_points.values()
            if p.quantity == "supply_air_setpoint_c" and p.row == "A"
        )  # fmt: skip
        old = hall.agent.snapshot().value(point.key)
        assert old is not None
        for step, risky in ((+0.5, True), (-0.5, False)):
            change = Change(point.key, old, old + step)
            proposal = Proposal("t:1", "operator", "operator", (change,), "test", scope="row:A")
            case = hall.agent.setting.case(hall.agent.snapshot(), hall.agent.control)
            verdict = judge(case, proposal, "t1")
            blocked = isinstance(verdict, Denial) and "pushed" in verdict.numbers
            assert blocked == (polled_lost and risky), verdict


def _row_a_pushed(device: Device) -> Device:
    """The device as one that pushes, where it holds row A's inlets and nothing writable."""
    mine = [p for p in device.points if p.quantity == "inlet_c" and p.row == "A"]
    assert not (mine and any(p.writable for p in device.points))
    return replace(device, protocol="push") if mine else device
