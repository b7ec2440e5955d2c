"""What is wrong with a hall right now, as causes: one for each thing a person would fix.

A row that is hot, deviates and has a rack over its power is one cause with its worst severity,
not three; and where a cooling unit of the row stands still, that unit is the cause of it. Devices that fall silent together are the network. Bounds that are left again have
hysteresis: `active` are the causes that stand, which need to get better by a margin to end. Pure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from config.site import Point
from control.alarms import Cause, Severity
from control.features import worst_inlets
from control.interlocks import tripped_by_reading
from control.layout import HALL, Layout
from control.state import ControlState
from control.types import Finding, Snapshot
from control.units import known_bad

# Of rows that only run unlike themselves: one that comes and goes calls once.
UNLIKE_OFF_S = 3_600.0
NEAR_K = 0.5  # below the inlet limit: a warning
HYSTERESIS_K = 0.5
HYSTERESIS = 0.03  # of a limit
UNREAD_S = 60.0  # before an interlock's input that can't be read calls; it stops writes at once
SILENT_POLLS = 3  # failed in a row
TOGETHER = 0.3  # of all devices silent at once: it is the network
BLIND_SHARE = 0.25
TURNS_PCT, STILL_PCT = 20.0, 5.0  # a fan told to turn, and one that does not


@dataclass(frozen=True, slots=True)
class Facts:
    """What the agent knows beside readings. silent: device -> failed polls in a row, and row."""

    silent: Mapping[str, int]
    devices: int
    history_lost: str = ""
    mqtt_lost: bool = False


def causes(
    layout: Layout, snapshot: Snapshot, state: ControlState, facts: Facts, active: frozenset[str]
) -> tuple[Cause, ...]:
    """Everything that is wrong now."""
    return (
        *_switches(state),
        *_places(layout, snapshot, state, active),
        *_latency(layout, snapshot, active),
        *_devices(facts),
        *_points(state),
        *_probes(state),
        *_stores(facts),
    )


def _switches(state: ControlState) -> Iterator[Cause]:
    if state.modes.killed:
        yield Cause("kill", Severity.HIGH, "the kill switch is on: Skadi writes nothing",
                    "find out who pulled it; on the host: skadi kill --clear", on_delay_s=0.0)  # fmt: skip
    for name, trip in state.trips.items():
        if tripped_by_reading(trip):
            yield Cause(f"interlock:{name}", Severity.HIGH, f"interlock {name} has tripped",
                        f"look at the plant, then on the host: skadi arm --reset {name}", on_delay_s=0.0)  # fmt: skip
        elif trip.tripped:  # at a start nothing is read yet, and a datagram may be lost
            yield Cause(f"interlock:{name}", Severity.HIGH,
                        f"interlock {name} stops writes: its input is not read",
                        "look at the device it watches; it lets go when it is read again",
                        on_delay_s=UNREAD_S)  # fmt: skip


def _stopped(layout: Layout, snapshot: Snapshot) -> Iterator[tuple[str, tuple[str | None, str]]]:
    """Cooling units that do not cool: equipment -> (row, what says so). By their state points, or
    by a fan that stands still although it is told to turn."""
    for equipments in layout.site.air_units.values():
        for name, points in equipments.items():
            unit = layout.site.unit.get(name)
            why = known_bad(unit, snapshot) if unit is not None else _still(name, points, snapshot)
            if why is not None:
                yield name, (points[0].row, why)


def _still(name: str, points: tuple[Point, ...], snapshot: Snapshot) -> str | None:
    fans = [p for p in points if p.quantity == "fan_rpm_pct"]
    told = [v for p in fans if p.writable and (v := snapshot.value(p.key)) is not None]
    does = [v for p in fans if not p.writable and (v := snapshot.value(p.key)) is not None]
    if told and does and min(told) >= TURNS_PCT and max(does) < STILL_PCT:
        return f"{name} stands still: fan at {max(does):.0f} %, told {min(told):.0f} %"
    return None


def _places(
    layout: Layout, snapshot: Snapshot, state: ControlState, active: frozenset[str]
) -> Iterator[Cause]:
    """Rows in trouble; the hall where it runs unlike itself and no row of it says why."""
    rows = tuple(_rows(layout, snapshot, state, active, dict(_stopped(layout, snapshot))))
    yield from rows
    if not rows and (unlike := _unlike(state.findings.get(HALL))):
        yield Cause(HALL, Severity.MEDIUM, f"the hall {unlike}",
                    "look at what all rows share: water, plant, weather, load")  # fmt: skip


def _unlike(finding: Finding | None) -> str:
    """What a unit that is persistently off, and not merely over-cooled, is called; "" for any other."""
    if finding is None or finding.state != "persistent" or finding.heat <= 0:
        return ""
    from_ = f", most from {', '.join(finding.top[:2])}" if finding.top else ""
    return f"runs unlike it was trained on{from_}"


def _rows(
    layout: Layout,
    snapshot: Snapshot,
    state: ControlState,
    active: frozenset[str],
    stopped: Mapping[str, tuple[str | None, str]],
) -> Iterator[Cause]:
    """Rows in trouble, and units that do not cool: a row's trouble is its stopped unit's."""
    hot = dict(_troubles(layout, snapshot, state, active, stopped))
    for name, (row, why) in stopped.items():
        found = hot.pop(row, []) if row is not None else []
        severity = max([Severity.HIGH, *(s for s, _ in found)])
        yield Cause(f"unit:{name}", severity, "; ".join([why, *(t for _, t in found)]),
                    "look at the unit; the others of its zone carry its load", on_delay_s=60.0)  # fmt: skip
    for row, found in hot.items():
        text = f"row {row}: {'; '.join(t for _, t in found)}"
        worst = max(s for s, _ in found)
        yield Cause(f"row:{row}", worst, text,
                    f"look at row {row}'s units and racks; skadi explain says what was done",
                    off_delay_s=UNLIKE_OFF_S if worst is Severity.MEDIUM else 60.0)  # fmt: skip


def _troubles(
    layout: Layout,
    snapshot: Snapshot,
    state: ControlState,
    active: frozenset[str],
    stopped: Mapping[str, tuple[str | None, str]],
) -> Iterator[tuple[str, list[tuple[Severity, str]]]]:
    """What is wrong with each row, where something is."""
    cause_of = {row: f"unit:{name}" for name, (row, _) in stopped.items()}
    limits = layout.site.limits
    worst_c = worst_inlets(layout, snapshot)
    rack_kw = layout.rack_kw.sum(snapshot.values)
    for i, row in enumerate(layout.rows):
        name = f"row:{row}"
        ease = 1.0 if {name, cause_of.get(row)} & active else 0.0
        racks = layout.row_of_rack == i
        inlet_c = _most(worst_c[racks])
        power_kw = _most(rack_kw[racks])
        inlets = snapshot.take(layout.row_inlets[i])
        finding = state.findings.get(name)
        found: list[tuple[Severity, str]] = []
        if inlet_c > limits.inlet_max_c - ease * HYSTERESIS_K:
            found.append(
                (Severity.CRITICAL, f"inlet {inlet_c:.1f} degC, limit {limits.inlet_max_c:g}")
            )
        elif inlet_c > limits.inlet_max_c - NEAR_K - ease * HYSTERESIS_K:
            found.append((Severity.HIGH, f"inlet {inlet_c:.1f} degC nears {limits.inlet_max_c:g}"))
        if power_kw > limits.rack_max_kw * (1 - ease * HYSTERESIS):
            found.append(
                (Severity.HIGH, f"a rack at {power_kw:.1f} kW, limit {limits.rack_max_kw:g}")
            )
        if len(inlets) and np.isnan(inlets).mean() > BLIND_SHARE:
            found.append(
                (Severity.HIGH, f"{int(np.isnan(inlets).sum())} of {len(inlets)} inlets not read")
            )
        if unlike := _unlike(finding):
            found.append((Severity.MEDIUM, unlike))
        if found:
            yield row, found


def _latency(layout: Layout, snapshot: Snapshot, active: frozenset[str]) -> Iterator[Cause]:
    limit_ms = layout.site.limits.latency_p95_max_ms
    p95_ms = _most(snapshot.take(layout.latency))
    if p95_ms > limit_ms * (1 - HYSTERESIS * ("latency" in active)):
        yield Cause("latency", Severity.MEDIUM, f"p95 {p95_ms:.0f} ms, limit {limit_ms:g}",
                    "look at load and batching; Skadi gives back what it moved", on_delay_s=60.0)  # fmt: skip


def _devices(facts: Facts) -> Iterator[Cause]:
    silent = sorted(d for d, failed in facts.silent.items() if failed >= SILENT_POLLS)
    if len(silent) > max(2, TOGETHER * facts.devices):
        yield Cause("network", Severity.HIGH, f"{len(silent)} of {facts.devices} devices do not answer",
                    "look at the network between this host and the hall")  # fmt: skip
        return
    for device in silent:
        yield Cause(f"device:{device}", Severity.MEDIUM, f"{device} does not answer",
                    "look at its power, cable and address; skadi once reads it")  # fmt: skip


def _points(state: ControlState) -> Iterator[Cause]:
    for point, why in state.quarantined.items():
        yield Cause(f"point:{point}", Severity.MEDIUM, f"{point} is not written any more: {why}",
                    f"look at the device, then on the host: skadi arm --resume {point}")  # fmt: skip
    for point, why in state.yielded.items():
        if point not in state.quarantined:
            yield Cause(f"point:{point}", Severity.LOW, f"{point} is left to somebody else: {why}",
                        f"when they are done, on the host: skadi arm --resume {point}")  # fmt: skip


def _probes(state: ControlState) -> Iterator[Cause]:
    for point, (verdict, why) in (state.looked.suspect if state.looked else {}).items():
        yield Cause(f"probe:{point}", Severity.LOW, f"{point} is {verdict}: {why}",
                    "compare it with its neighbours; a place that really warms drifts too",
                    on_delay_s=300.0)  # fmt: skip


def _stores(facts: Facts) -> Iterator[Cause]:
    if facts.history_lost:
        yield Cause("history", Severity.LOW, f"history can't be written: {facts.history_lost[:200]}",
                    "look at the database; rows wait, control goes on", on_delay_s=120.0)  # fmt: skip
    if facts.mqtt_lost:
        yield Cause("mqtt", Severity.LOW, "the MQTT broker is away",
                    "look at the broker; control goes on", on_delay_s=120.0)  # fmt: skip


def _most(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    """The highest that is known; -inf when nothing is."""
    known = values[~np.isnan(values)]
    return float(known.max()) if known.size else -np.inf
