"""A site made from a plant's own list of points: for rehearsing on any plant without a file.

Decides defaults only: envelopes come from the plant, limits and cadence from the schema's
defaults, stretched where the plant's native step is longer.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from config.addresses import NamedAddress
from config.quantities import QUANTITIES, SAFE_DIRECTION
from config.schema import (
    AgentSection,
    HistorySection,
    ImsSection,
    LimitsSection,
    LoopsSection,
    MmsSection,
    OptimizerSection,
)
from config.site import Device, Point, Site, Writable

# Quantity -> (min_interval_s, settle_s): how long a change takes to show. Judgement, after the
# field notes on chilled water (tens of minutes) and air (minutes).
_PACE: dict[str, tuple[float, float]] = {
    "chilled_water_setpoint_c": (600.0, 600.0),
    "traffic_share_pct": (120.0, 120.0),
    "batch_window_ms": (120.0, 120.0),
    "admission_pct": (120.0, 60.0),
}
_AIR_PACE = (180.0, 180.0)
# What a reading may age by before it is stale. At steps of minutes the slews of seconds would make
# a fire of each reading that is lost once.
AGED_K = 1.5


class PlantPoint(Protocol):
    """What a plant says of one of its points; None where an attribute does not apply."""

    id: str
    quantity: str
    unit: str
    row: str | None
    rack: str | None
    writable: bool
    min: float | None
    max: float | None
    max_step: float | None
    baseline: float | None


class PlantError(Exception):
    """A plant that does not keep its contract. The message names the point and what to do."""


def plant_site(points: Iterable[PlantPoint], step_s: float, like: Site | None = None) -> Site:
    """Make a closed-loop, fully armed, simulated site of a plant's points, checked before.

    like: a real site whose limits, cadence and choices hold here too, and whose write limits hold
    for points of the same key; times are stretched to the plant's step.
    """
    if like is not None and {d.protocol for d in like.devices} <= {"plant", "push"}:
        return like  # made here before; what is pushed was added since
    by_device: dict[str, list[Point]] = {}
    slowest_s = max(15.0, 3.0 * step_s)
    listed = list(points)
    # Where no rack is measured, zones and single probes stand in for racks.
    probe = "inlet_c" if any(p.quantity == "inlet_c" for p in listed) else "zone_c"
    for p in listed:
        by_device.setdefault(_device(p.id), []).append(_point(p, slowest_s, probe))
    devices = tuple(
        Device(id=d, protocol="plant", points=tuple(ps), poll_interval_s=step_s)
        for d, ps in by_device.items()
    )
    limits = like.limits if like else LimitsSection(max_changes_at_once=12)
    stretched = {"lease_s": max(limits.lease_s, 4.0 * step_s),
                 "release_after_s": max(limits.release_after_s, 3.0 * step_s)}  # fmt: skip
    made = Site(
        id=like.id if like else "rehearsal", area="hall", timezone="UTC", simulated=True, devices=devices,
        agent=AgentSection(mode="closed_loop", armed=("hall",), stale_after_s=slowest_s, poll_interval_s=step_s),
        loops=LoopsSection(), ims=ImsSection(), mms=MmsSection(), optimizer=OptimizerSection(),
        limits=limits.model_copy(update=stretched), history=HistorySection(), mqtt=None, api=None,
    )  # fmt: skip
    return _as(made, like) if like else made


def _as(made: Site, like: Site) -> Site:
    """A made site with the cadence, choices and write limits of a real one."""
    known = {key: p.writable for key, p in like.points.items() if p.writable is not None}
    devices = tuple(
        replace(d, points=tuple(
            replace(p, writable=known[p.key]) if p.writable and p.key in known else p for p in d.points
        ))
        for d in made.devices
    )  # fmt: skip
    return replace(made, devices=devices, loops=like.loops, ims=like.ims, mms=like.mms,
                   optimizer=like.optimizer)  # fmt: skip


def _device(point_id: str) -> str:
    device, slash, _ = point_id.partition("/")
    return device if slash else "plant"


def _point(p: PlantPoint, max_age_s: float, probe: str) -> Point:
    about = QUANTITIES[p.quantity]
    device = _device(p.id)
    short = p.id.partition("/")[2] or p.id
    is_probe = p.quantity == probe and not p.writable
    rack = p.rack or (p.id if is_probe else None)
    equipment = f"{device}.{p.quantity}" if p.quantity in _PACE and device != "plant" else device
    if device == "plant" and p.writable:
        equipment = p.id
    return Point(
        key=f"{device}/{short}", device=device, id=short,
        quantity="inlet_c" if is_probe else p.quantity,
        unit=about.unit, address=NamedAddress(p.id), equipment=equipment, row=p.row, rack=rack,
        zone=f"row-{p.row}" if p.row and p.writable else None,
        max_age_s=max_age_s, max_slew_per_s=min(about.max_slew_per_s, AGED_K / max_age_s),
        writable=_writable(p) if p.writable else None,
    )  # fmt: skip


def _writable(p: PlantPoint) -> Writable:
    assert p.min is not None
    assert p.max is not None
    low, high = float(p.min), float(p.max)
    interval_s, settle_s = _PACE.get(p.quantity, _AIR_PACE)
    direction = SAFE_DIRECTION.get(p.quantity, 0)
    extreme = {1: high, -1: low}.get(direction)
    cooling = p.quantity in ("fan_rpm_pct", "pump_rpm_pct")
    safe = extreme if cooling else p.baseline if direction else None
    return Writable(
        min=low, max=high, max_step=p.max_step or max((high - low) / 10.0, 1e-6),
        min_interval_s=interval_s, settle_s=settle_s, max_writes_per_day=400, safe_value=safe,
    )  # fmt: skip
