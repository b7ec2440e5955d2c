"""Interlocks as data: a comparison that stops what it guards, latched until a person resets it.

A missing input counts as tripped. Decides only whether an interlock has tripped; what follows
is the guardrails' (no new moves) and the leases' (hold, release, safe value).
"""

from collections.abc import Mapping
from dataclasses import replace

from config.site import Interlock, Site
from control.state import Trip
from control.types import Snapshot


def step(site: Site, snapshot: Snapshot, trips: Mapping[str, Trip]) -> dict[str, Trip]:
    """The interlocks' next states. Latching: a tripped one stays tripped."""
    return {lock.id: _next(lock, snapshot, trips.get(lock.id, Trip())) for lock in site.interlocks}


def _next(lock: Interlock, snapshot: Snapshot, trip: Trip) -> Trip:
    if trip.tripped:
        return trip
    if not _beyond(lock, snapshot):
        return Trip()
    since_s = trip.since_s if trip.since_s is not None else snapshot.now_s
    return replace(trip, since_s=since_s, tripped=snapshot.now_s - since_s >= lock.for_s)


def _beyond(lock: Interlock, snapshot: Snapshot) -> bool:
    """True when the input is beyond its bound, or can't be read."""
    value = snapshot.value(lock.point)
    if value is None:
        return True
    if lock.trip_above is not None:
        return value > lock.trip_above
    return lock.trip_below is not None and value < lock.trip_below
