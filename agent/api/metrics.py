"""The agent's own figures in Prometheus text, made at the moment they are asked for.

Decides their names: a contract that dashboards and alert rules stand on (docs/grafana). What is
not known is left out, never 0. Labels come from the site file only, so their number is bounded.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from agent.api import views
from control.types import Quality

if TYPE_CHECKING:
    from agent.api.app import Context

CONTENT_TYPE = CONTENT_TYPE_LATEST
STATES = ("nominal", "transient", "persistent", "unknown")

# KPI -> metric, what it is. The units are in the names.
HALL = {
    "it_kw": ("skadi_it_power_kw", "IT power of the hall"),
    "cooling_kw": ("skadi_cooling_power_kw", "cooling power of the hall"),
    "total_kw": ("skadi_total_power_kw", "total power of the hall"),
    "pue": ("skadi_pue", "total over IT power"),
    "prompts_ps": ("skadi_prompts_per_second", "completed prompts"),
    "tokens_ps": ("skadi_tokens_per_second", "generated tokens"),
    "wh_per_prompt": ("skadi_wh_per_prompt", "energy spent on one completed prompt, now"),
    "worst_inlet_c": ("skadi_worst_inlet_celsius", "the warmest rack inlet"),
    "worst_latency_p95_ms": ("skadi_worst_latency_p95_seconds", "the slowest p95"),
    "worst_rack_kw": ("skadi_worst_rack_kw", "the rack that draws most"),
}
COUNTS = {
    "writes": "points written", "confirmed": "writes confirmed by read-back",
    "rollbacks": "changes undone", "protective": "protective moves", "denied": "proposals denied",
}  # fmt: skip


def exposition(context: "Context") -> bytes:
    """Everything as Prometheus text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(context))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return generate_latest(registry)


class Collector:
    """One look at a running agent."""

    def __init__(self, context: "Context") -> None:
        self._context = context

    def describe(self) -> list[Metric]:
        """Nothing ahead of time."""
        return []

    def collect(self) -> Iterable[Metric]:
        """All families."""
        yield from self._hall()
        yield from self._modes()
        yield from self._rows()
        yield from self._racks()
        yield from self._points()
        yield from self._devices()
        yield from self._alarms()
        yield from self._agent()

    def _hall(self) -> Iterable[Metric]:
        figures = views.kpi(self._context)
        for name, (metric, about) in HALL.items():
            figure = figures.get(name)
            if figure is not None and figure.value is not None:
                scale = 1e-3 if figure.unit == "ms" else 1.0  # times are seconds in Prometheus
                yield GaugeMetricFamily(metric, about, value=figure.value * scale)
        for name, metric in (("total_kwh", "skadi_energy_kwh"), ("prompts", "skadi_prompts")):
            figure = figures.get(name)
            if figure is not None and figure.value is not None:
                yield CounterMetricFamily(metric, "metered since the start", value=figure.value)
        limits = GaugeMetricFamily(
            "skadi_limit", "what must not be crossed", labels=["limit", "unit"]
        )
        for name, figure in views.limits(self._context).items():
            if figure.value is not None:
                limits.add_metric([name, figure.unit], figure.value)
        yield limits

    def _modes(self) -> Iterable[Metric]:
        modes = self._context.agent.control.modes
        yield GaugeMetricFamily(
            "skadi_closed_loop", "1: may write; 0: advisory or killed", value=float(modes.may_act)
        )
        yield GaugeMetricFamily(
            "skadi_killed", "1: the kill switch is on", value=float(modes.killed)
        )
        yield GaugeMetricFamily("skadi_armed_scopes", "scopes armed", value=float(len(modes.armed)))

    def _rows(self) -> Iterable[Metric]:
        deviation = GaugeMetricFamily("skadi_row_deviation", "D(x) of a row", labels=["row"])
        ema = GaugeMetricFamily("skadi_row_deviation_ema", "its moving mean", labels=["row"])
        state = GaugeMetricFamily(
            "skadi_row_state", "1 for the state it is in", labels=["row", "state"]
        )
        for row in views.rows(self._context):
            if row.deviation is not None:
                deviation.add_metric([row.row], row.deviation)
            if row.ema is not None:
                ema.add_metric([row.row], row.ema)
            for name in STATES:
                state.add_metric([row.row, name], float(row.state == name))
        yield from (deviation, ema, state)

    def _racks(self) -> Iterable[Metric]:
        inlet = GaugeMetricFamily("skadi_rack_inlet_celsius", "inlet air", labels=["rack", "row"])
        power = GaugeMetricFamily("skadi_rack_power_kw", "power at the PDU", labels=["rack", "row"])
        for cell in views.heatmap(self._context).racks:
            labels = [cell.rack, cell.row or ""]
            if cell.inlet_c is not None:
                inlet.add_metric(labels, cell.inlet_c)
            if cell.pdu_kw is not None:
                power.add_metric(labels, cell.pdu_kw)
        yield from (inlet, power)

    def _points(self) -> Iterable[Metric]:
        held = GaugeMetricFamily(
            "skadi_held_setpoint", "what Skadi holds", labels=["point", "unit"]
        )
        for lease in views.overview(self._context).held:
            held.add_metric([lease.point, lease.unit], lease.value)
        yield held
        agent = self._context.agent
        readings = agent.store.readings(self._context.clock.now_s())
        quality = GaugeMetricFamily("skadi_points", "points by quality", labels=["quality"])
        for q in Quality:
            quality.add_metric([q.value], float(sum(r.quality is q for r in readings)))
        yield quality

    def _devices(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("skadi_device_up", "1: it answers", labels=["device", "protocol"])
        counters = {
            name: CounterMetricFamily(f"skadi_device_{name}", about, labels=["device"])
            for name, about in (
                ("polls", "polls"), ("errors", "failed polls"), ("retries", "polls after a failed one"),
            )
        }  # fmt: skip
        latency = GaugeMetricFamily(
            "skadi_device_latency_seconds", "a moving mean of answered polls", labels=["device"]
        )
        wait = GaugeMetricFamily(
            "skadi_device_poll_wait_seconds", "until the next poll: back-off", labels=["device"]
        )
        offered = GaugeMetricFamily(
            "skadi_device_points", "points by state", labels=["device", "quantity", "state"]
        )
        for d in views.devices(self._context):
            for quantity, row in d.quantities.items():
                for state, count in row.items():
                    offered.add_metric([d.device, quantity, state], float(count))
            if not d.polls:
                continue
            up.add_metric([d.device, d.protocol], float(d.failing == 0))
            wait.add_metric([d.device], d.wait_s)
            if d.latency_ms is not None:
                latency.add_metric([d.device], d.latency_ms / 1000.0)
            for name, counter in counters.items():
                counter.add_metric([d.device], float(getattr(d, name)))
        yield from (up, *counters.values(), latency, wait, offered)

    def _alarms(self) -> Iterable[Metric]:
        standing = GaugeMetricFamily(
            "skadi_alarms", "alarms that stand", labels=["severity", "calls"]
        )
        shown = views.alarms(self._context)
        for severity in ("low", "medium", "high", "critical"):
            for calls in (True, False):
                count = sum(a.severity == severity and a.calls == calls for a in shown)
                standing.add_metric([severity, str(calls).lower()], float(count))
        yield standing

    def _agent(self) -> Iterable[Metric]:
        counts = self._context.agent.counts
        for name, about in COUNTS.items():
            yield CounterMetricFamily(f"skadi_{name}", about, value=float(getattr(counts, name)))
        yield CounterMetricFamily("skadi_events", "events told", value=float(self._context.hub.seq))
        history = views.history(self._context)
        if history is not None:
            yield GaugeMetricFamily(
                "skadi_history_up", "1: the database answers", value=float(not history.lost)
            )
            yield GaugeMetricFamily(
                "skadi_history_queued_rows", "rows that wait", value=float(history.queued)
            )
            yield CounterMetricFamily(
                "skadi_history_dropped_rows", "rows given up", value=float(history.dropped)
            )
        if self._context.mirror is not None:
            up = float(self._context.mirror.connected)
            yield GaugeMetricFamily("skadi_mqtt_up", "1: the broker is connected", value=up)
        info = GaugeMetricFamily(
            "skadi_info", "which agent this is", labels=["site", "area", "version"]
        )
        info.add_metric(
            [self._context.site.id, self._context.site.area, self._context.version], 1.0
        )
        yield info
