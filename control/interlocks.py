"""Interlocks as data: a comparison that stops what it guards, latched until a person resets it.

A missing input counts as tripped for as long as it is missing. Decides only whether an
interlock has tripped; what follows is the guardrails' (no new moves) and the endings' (hold,
release, safe value).
"""

from collections.abc import Mapping

from config.site import Interlock, Site
from control.state import Trip
from control.types import Snapshot


def step(site: Site, snapshot: Snapshot, trips: Mapping[str, Trip]) -> dict[str, Trip]:
    """The interlocks' next states."""
    return {lock.id: _next(lock, snapshot, trips.get(lock.id, Trip())) for lock in site.interlocks}


def _next(lock: Interlock, snapshot: Snapshot, trip: Trip) -> Trip:
    """Latching: what a reading has tripped stays so. What can't be read is tripped while it can't:
    latching that too would ask for a person after every lost datagram, and at every start."""
    if trip.latched:
        return trip
    value = snapshot.value(lock.point)
    if value is None:
        dark_s = trip.dark_s if trip.dark_s is not None else snapshot.now_s
        return Trip(trip.since_s, tripped=True, dark_s=dark_s)
    if not _beyond(lock, value):
        return Trip()
    since_s = trip.since_s if trip.since_s is not None else snapshot.now_s
    tripped = snapshot.now_s - since_s >= lock.for_s
    return Trip(since_s, tripped, latched=tripped)


def _beyond(lock: Interlock, value: float) -> bool:
    if lock.trip_above is not None:
        return value > lock.trip_above
    return lock.trip_below is not None and value < lock.trip_below
