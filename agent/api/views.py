"""What the agent knows, as the shapes that surfaces show: overview, heat map, points.

Pure looks at a running agent; decides nothing, waits for nothing, touches no device.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.api import models as m
from agent.capability import tally
from agent.clock import Clock, utc
from agent.field import baseline_is_old
from agent.plain import finite, plain
from config.site import Point, Site
from control.features import rack_features
from control.layout import FEATURES, HALL
from control.modes import Modes
from control.types import Finding, Quality, Reading

if TYPE_CHECKING:
    from agent.core import Agent
    from agent.events import Hub
    from agent.history.query import Action
    from agent.history.service import History
    from agent.mqtt.mirror import Mirror
    from agent.polling import DeviceStats

# The unit that a name ends with, the longest ending first; what has none is a plain number.
_UNITS = (
    ("wh_per_prompt", "Wh"), ("wh_per_prompt_mean", "Wh"), ("wh_per_1k_tokens", "Wh"),
    ("_kwh", "kWh"), ("_kw", "kW"), ("_ps", "1/s"), ("_ms", "ms"), ("_pct", "%"), ("_c", "degC"),
    ("_s", "s"),
)  # fmt: skip
_CARRIES_VALUE = (Quality.GOOD, Quality.STALE)
RACK_UNITS = {"inlet_c": "degC", "inlet_age_s": "s", "outlet_c": "degC", "pdu_kw": "kW",
              "deviation": "1", "ema": "1"}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Seen:
    """The parts of a running agent that are looked at."""

    agent: "Agent"
    clock: Clock
    hub: "Hub"
    version: str
    history: "History | None" = None
    mirror: "Mirror | None" = None
    polls: "dict[str, DeviceStats]" = field(default_factory=dict)

    @property
    def site(self) -> Site:
        """The site as it is now: a reload makes a new one."""
        return self.agent.site


def modes_json(modes: Modes) -> dict[str, Any]:
    """The running modes for people and topics."""
    return {
        "mode": modes.mode.value, "ceiling": modes.ceiling.value, "killed": modes.killed,
        "armed": sorted(modes.armed), "may_act": modes.may_act,
    }  # fmt: skip


def unit_of(name: str) -> str:
    """The unit in a name, by house style; "1" for a plain number."""
    return next((unit for end, unit in _UNITS if name.endswith(end)), "1")


def limits(context: Seen) -> dict[str, m.Figure]:
    """The site's limits."""
    found = context.site.limits
    names = ("inlet_max_c", "latency_p95_max_ms", "rack_max_kw")
    return {n: m.Figure(value=getattr(found, n), unit=unit_of(n)) for n in names}


def kpi(context: Seen) -> dict[str, m.Figure]:
    """The hall's figures now and since the start."""
    figures = context.agent.meter.kpi(context.agent.snapshot())
    return {
        name: m.Figure(value=finite(float(value)) if value is not None else None, unit=unit_of(name))
        for name, value in figures.items()
        if name != "ts_s" and (value is None or isinstance(value, int | float))
    }  # fmt: skip


def overview(context: Seen) -> m.Overview:
    """Everything a first screen shows."""
    agent, state = context.agent, context.agent.control
    terms = agent.meter.kpi(agent.snapshot()).get("terms", {})
    return m.Overview(
        schema_version=m.SCHEMA,
        ts=utc(context.clock.now_s()),
        site=context.site.id,
        area=context.site.area,
        version=context.version,
        boot=context.hub.nonce,
        modes=m.Modes(**modes_json(state.modes)),
        limits=limits(context),
        kpi=kpi(context),
        terms={str(k): str(v) for k, v in terms.items()},
        rows=rows(context),
        hall=hall(context),
        held=[
            m.Held(point=k, value=x.value, baseline=x.baseline, baseline_old=baseline_is_old(agent, x),
                   unit=_unit(context, k), expires=utc(x.expires_s), certain=x.certain)
            for k, x in sorted(state.leases.items())
        ],
        devices=devices(context),
        alarms=alarms(context),
        tripped=sorted(i for i, t in state.trips.items() if t.tripped),
        yielded=dict(state.yielded),
        quarantined=dict(state.quarantined),
        counts=m.Counts(**{k: getattr(agent.counts, k) for k in m.Counts.model_fields}),
        history=history(context),
        mqtt_connected=context.mirror.connected if context.mirror else None,
    )  # fmt: skip


def _unit(context: Seen, key: str) -> str:
    point = context.site.points.get(key)
    return point.about.unit if point else ""


def history(context: Seen) -> m.HistoryState | None:
    """How history is doing."""
    if context.history is None:
        return None
    s = context.history.status
    return m.HistoryState(lost=s.lost, queued=s.queued, written=s.written, dropped=s.dropped)


def rows(context: Seen) -> list[m.RowState]:
    """What the monitor says of each row."""
    return [
        m.RowState(row=unit.removeprefix("row:"), **_monitored(context, f))
        for unit, f in sorted(context.agent.control.findings.items())
        if unit.startswith("row:")
    ]


def hall(context: Seen) -> m.UnitState | None:
    """What the monitor says of the hall; None while nothing judges it."""
    finding = context.agent.control.findings.get(HALL)
    return None if finding is None else m.UnitState(**_monitored(context, finding))


def _monitored(context: Seen, f: Finding) -> dict[str, Any]:
    monitor = context.agent.setting.monitor
    return {
        "state": f.state, "since": utc(f.since_s), "deviation": finite(f.deviation),
        "ema": finite(f.ema), "top": list(f.top),
        "tau_fast": finite(monitor.model.tau_fast) if monitor else None,
        "tau_persist": finite(monitor.model.tau_persist) if monitor else None,
    }  # fmt: skip


def alarms(context: Seen) -> list[m.AlarmState]:
    """The alarms that stand, the worst first."""
    desk = context.agent.services.alarms
    return [m.AlarmState(**a) for a in desk.shown()] if desk else []


def devices(context: Seen) -> list[m.DeviceState]:
    """How polling each device goes, and what it offers."""
    from agent.polling import DeviceStats

    agent = context.agent
    readings = {r.point: r for r in agent.store.readings(agent.clock.now_s())}
    found = []
    for device in context.site.devices:
        stats = context.polls.get(device.id) or DeviceStats()
        good_s = stats.last_good_s
        found.append(m.DeviceState(
            device=device.id, protocol=device.protocol, points=len(device.points),
            polls=stats.polls, errors=stats.errors, failing=stats.failing, retries=stats.retries,
            latency_ms=None if good_s is None else round(stats.latency_ms, 2),
            latency_most_ms=None if good_s is None else round(stats.latency_most_ms, 2),
            period_s=device.poll_interval_s, wait_s=round(stats.wait_s, 2),
            last_good=utc(good_s) if good_s is not None else None, reason=stats.last_error,
            quantities=tally(device, readings),
        ))  # fmt: skip
    return found


def heatmap(context: Seen) -> m.Heatmap:
    """Every rack: its inlet, power, and what the monitor says of it."""
    agent, layout = context.agent, context.agent.layout
    snapshot = agent.snapshot()
    features = rack_features(layout, snapshot)
    column = {name: i for i, name in enumerate(FEATURES)}
    kw = layout.rack_kw.sum(snapshot.values)
    cells = []
    for i, rack in enumerate(layout.racks):
        finding = agent.control.findings.get(f"rack:{rack}")
        ages = snapshot.age_s[layout.inlets[layout.rack_of_inlet == i]]
        cells.append(m.RackCell(
            rack=rack, row=context.site.row_of_rack.get(rack),
            inlet_c=_round(features[i, column["inlet_c"]], 2),
            inlet_age_s=_round(float(ages.max()), 1) if len(ages) else None,
            outlet_c=_round(features[i, column["outlet_c"]], 2), pdu_kw=_round(kw[i], 3),
            deviation=finite(finding.deviation) if finding else None,
            ema=finite(finding.ema) if finding else None,
            state=finding.state if finding else "unknown",
        ))  # fmt: skip
    return m.Heatmap(ts=utc(snapshot.now_s), units=RACK_UNITS, limits=limits(context), racks=cells)


def _round(value: float, digits: int) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None


def point_value(point: Point, reading: Reading) -> m.PointValue:
    """One point with its last reading."""
    value = finite(reading.value) if reading.quality in _CARRIES_VALUE else None
    quality = reading.quality
    if value is None and quality in _CARRIES_VALUE:
        quality = Quality.BAD
    return m.PointValue(
        key=point.key, device=point.device, quantity=point.quantity, unit=point.about.unit,
        row=point.row, rack=point.rack, writable=point.writable is not None, value=value,
        quality=quality.value, ts=utc(reading.taken_s) if reading.taken_s > 0 else None,
        source="pushed" if reading.source == "pushed" else "polled", reason=reading.reason,
    )  # fmt: skip


def action_entry(a: "Action") -> m.ActionEntry:
    """One record of history as the API shows it."""
    return m.ActionEntry(
        id=a.uid, ts=utc(a.ts_s), type=a.kind, cycle=a.cycle, loop=a.loop, move=a.move,
        scope=a.scope, detail=plain(dict(a.detail)),
    )  # fmt: skip
