"""Interlocks as data: a comparison that stops what it guards, latched until a person resets it.

A missing input counts as tripped for as long as it is missing. Decides only whether an
interlock has tripped; what follows is the guardrails' (no new moves) and the endings' (hold,
release, safe value). Dew points by psychrolib (ASHRAE Handbook, Fundamentals).
"""

from collections.abc import Mapping
from dataclasses import replace

import psychrolib

from config.site import Interlock, Point, Site
from control.modes import in_scope
from control.state import Trip
from control.types import Change, Snapshot

CONTACT = 0.5  # between the 0 and 1 of a contact
psychrolib.SetUnitSystem(psychrolib.SI)


def step(site: Site, snapshot: Snapshot, trips: Mapping[str, Trip]) -> dict[str, Trip]:
    """The interlocks' next states."""
    return {lock.id: _next(lock, snapshot, trips.get(lock.id, Trip())) for lock in site.interlocks}


def guards(lock: Interlock, point: Point) -> bool:
    """True when this interlock stops writes to this point."""
    return in_scope(point, lock.scope) and (not lock.only or point.quantity in lock.only)


def tripped_by_reading(trip: Trip | None) -> bool:
    """True when a reading has tripped it, not the want of one."""
    return trip is not None and trip.tripped and (trip.latched or trip.dark_s is None)


def under_maintenance(site: Site, snapshot: Snapshot, trips: Mapping[str, Trip]) -> frozenset[str]:
    """The scopes where people work, as tags say that can be read: a dark tag hides no alarm."""
    tags = {
        lock.scope
        for lock in site.interlocks
        if lock.kind == "maintenance" and tripped_by_reading(trips.get(lock.id))
    }
    for unit in site.units:
        value = snapshot.value(unit.maintenance or "")
        if value is not None and value > CONTACT:
            tags.add(f"equipment:{unit.equipment}")
    return frozenset(tags)


def leaking(site: Site, trips: Mapping[str, Trip], point: Point) -> str | None:
    """The leak interlock over a pump, while water runs where none belongs."""
    if point.quantity != "pump_rpm_pct":
        return None
    return next(
        (lock.id for lock in site.interlocks if lock.kind == "leak" and in_scope(point, lock.scope)
         and tripped_by_reading(trips.get(lock.id))),
        None,
    )  # fmt: skip


def would_trip(lock: Interlock, snapshot: Snapshot, change: Change) -> bool:
    """True when this change alone would carry the interlock's own point beyond its bound."""
    if lock.point != change.point or lock.within_s is not None:
        return False
    value = _compared(lock, snapshot, change.new)
    return value is not None and _beyond(lock, value)


def _next(lock: Interlock, snapshot: Snapshot, trip: Trip) -> Trip:
    """Latching: what a reading has tripped stays so. What can't be read is tripped while it can't:
    latching that too would ask for a person after every lost datagram, and at every start."""
    if trip.latched:
        return trip
    now_s = snapshot.now_s
    if lock.within_s is not None:
        trip = _watched(lock, snapshot, trip)
        value = None if trip.changed_s is None else now_s - trip.changed_s
    else:
        value = _compared(lock, snapshot, snapshot.value(lock.point) if lock.point else None)
    if value is None or any(snapshot.value(key) is None for key in lock.inputs):
        dark_s = trip.dark_s if trip.dark_s is not None else now_s
        return replace(trip, tripped=True, dark_s=dark_s)
    if not _beyond(lock, value):
        return Trip(seen=trip.seen, changed_s=trip.changed_s)
    since_s = trip.since_s if trip.since_s is not None else now_s
    tripped = now_s - since_s >= lock.for_s
    return replace(
        trip, since_s=since_s, tripped=tripped, latched=tripped and lock.latch, dark_s=None
    )


def _watched(lock: Interlock, snapshot: Snapshot, trip: Trip) -> Trip:
    """When the point last changed; what it did before the agent looked is unknown: just now."""
    value = snapshot.value(lock.point) if lock.point else None
    if value is None or value == trip.seen:
        return trip
    return replace(trip, seen=value, changed_s=snapshot.now_s)


def _compared(lock: Interlock, snapshot: Snapshot, value: float | None) -> float | None:
    """What is compared: the point's value, a dew point, or how far the value is above it."""
    if lock.temperature is None or lock.humidity is None:
        return value
    dew_c = dew_point_c(snapshot.value(lock.temperature), snapshot.value(lock.humidity))
    if lock.point is None or dew_c is None:
        return dew_c
    return None if value is None else value - dew_c


def dew_point_c(air_c: float | None, humidity_pct: float | None) -> float | None:
    """The dew point of air in degC; None where it is not known or physics has no answer."""
    if air_c is None or humidity_pct is None or not 0.0 < humidity_pct <= 100.0:
        return None
    if not -90.0 <= air_c <= 100.0:
        return None
    return float(psychrolib.GetTDewPointFromRelHum(air_c, humidity_pct / 100.0))


def _beyond(lock: Interlock, value: float) -> bool:
    if lock.within_s is not None:
        return value < lock.within_s
    if lock.trip_above is not None and value > lock.trip_above:
        return True
    return lock.trip_below is not None and value < lock.trip_below
