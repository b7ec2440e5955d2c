"""Writes the dashboards beside it: one table of panels, for Prometheus and for PostgreSQL history.

    python docs/grafana/make.py            writes docs/grafana/prometheus and docs/grafana/postgresql

A test makes them again and compares, and holds each query against what exists.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KINDS = {"prometheus": "prometheus", "postgresql": "grafana-postgresql-datasource"}
WIDTH, HEIGHT = 12, 8
Json = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """One picture. queries: (text, legend); legend is for Prometheus, SQL names its own."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"  # timeseries | stat | table | bargauge
    wide: int = WIDTH


ME = 'site="$site", area="$area"'
# skadi_info alone carries site and area: other metrics are joined to it by their target.
OF = ' and on (job, instance) skadi_info{site="$site", area="$area"}'


def prom(
    title: str, unit: str, *queries: tuple[str, str], kind: str = "timeseries", wide: int = WIDTH
) -> Panel:
    """A panel whose queries are kept to the chosen hall."""
    return Panel(title, unit, tuple((f"({q}){OF}", legend) for q, legend in queries), kind, wide)


ROW_MOST = "max by (job, instance, row)"
PROMETHEUS: dict[str, list[Panel]] = {
    "hall": [
        prom("Energy a prompt", "watth", ("skadi_wh_per_prompt", "now"), kind="stat", wide=6),
        prom("PUE", "none", ("skadi_pue", "now"), kind="stat", wide=6),
        prom("Warmest inlet", "celsius", ("skadi_worst_inlet_celsius", "now"), kind="stat", wide=6),
        prom("Closed loop", "none", ("skadi_closed_loop", "1: may write"), kind="stat", wide=6),
        prom("Power", "kwatt", ("skadi_total_power_kw", "total"), ("skadi_it_power_kw", "IT"), ("skadi_cooling_power_kw", "cooling")),
        prom("Work", "none", ("skadi_prompts_per_second", "prompts/s"), ("skadi_tokens_per_second", "tokens/s")),
        prom("Warmest inlet against its limit", "celsius", ("skadi_worst_inlet_celsius", "inlet"), ('skadi_limit{limit="inlet_max_c"}', "limit")),
        prom("Slowest p95 against its limit", "s", ("skadi_worst_latency_p95_seconds", "p95"), ('skadi_limit{limit="latency_p95_max_ms"} / 1000', "limit")),
        prom("Setpoints that Skadi holds", "none", ("skadi_held_setpoint", "{{point}} {{unit}}")),
        prom("Alarms that stand", "none", ('skadi_alarms{calls="true"}', "{{severity}}")),
    ],
    "row": [
        prom("D(x) of each row", "none", ('skadi_row_deviation_ema{row=~"$row"}', "{{row}}")),
        prom("State of each row", "none", ('skadi_row_state{row=~"$row"} == 1', "{{row}} {{state}}")),
        prom("Warmest inlet of each row", "celsius", (f'{ROW_MOST} (skadi_rack_inlet_celsius{{row=~"$row"}})', "{{row}}")),
        prom("Power of each row", "kwatt", ('sum by (job, instance, row) (skadi_rack_power_kw{row=~"$row"})', "{{row}}")),
    ],
    "rack": [
        prom("Inlet of each rack, now", "celsius", ('skadi_rack_inlet_celsius{row=~"$row"}', "{{rack}}"), kind="bargauge", wide=24),
        prom("Inlet of each rack", "celsius", ('skadi_rack_inlet_celsius{row=~"$row"}', "{{rack}}")),
        prom("Power of each rack", "kwatt", ('skadi_rack_power_kw{row=~"$row"}', "{{rack}}")),
    ],
    "agent": [
        prom("Devices that answer", "none", ("sum by (job, instance) (skadi_device_up)", "up"), ("count by (job, instance) (skadi_device_up)", "of"), kind="stat", wide=6),
        prom("MQTT", "none", ("skadi_mqtt_up", "1: connected"), kind="stat", wide=6),
        prom("History", "none", ("skadi_history_up", "1: answers"), kind="stat", wide=6),
        prom("Killed", "none", ("skadi_killed", "1: the kill switch is on"), kind="stat", wide=6),
        prom("Points by quality", "none", ("skadi_points", "{{quality}}")),
        prom("Devices that do not answer", "none", ("skadi_device_up == 0", "{{device}} ({{protocol}})"), kind="table"),
        prom("Failed polls", "none", ("rate(skadi_device_errors_total[5m]) > 0", "{{device}}")),
        prom("Rows that wait for the database", "none", ("skadi_history_queued_rows", "waiting"), ("increase(skadi_history_dropped_rows_total[1h])", "given up in the last hour")),
        prom("Memory", "bytes", ("process_resident_memory_bytes", "resident")),
        prom("CPU", "percentunit", ("rate(process_cpu_seconds_total[5m])", "of one core")),
    ],
    "savings": [
        prom("Energy a prompt, by the hour", "watth",
             ("1000 * increase(skadi_energy_kwh_total[1h]) / increase(skadi_prompts_total[1h])", "this week"),
             ("1000 * increase(skadi_energy_kwh_total[1h] offset 7d) / increase(skadi_prompts_total[1h] offset 7d)", "a week before")),
        prom("Energy by the hour", "kwatth", ("increase(skadi_energy_kwh_total[1h])", "total")),
        prom("Cooling for each kW of IT", "none", ("skadi_cooling_power_kw / skadi_it_power_kw", "cooling / IT")),
        prom("PUE", "none", ("skadi_pue", "PUE"), ("avg_over_time(skadi_pue[7d])", "mean of 7 days")),
        prom("What was done, by the hour", "none", ("increase(skadi_writes_total[1h])", "written"), ("increase(skadi_confirmed_total[1h])", "read back"),
             ("increase(skadi_rollbacks_total[1h])", "undone"), ("increase(skadi_protective_total[1h])", "protective"), ("increase(skadi_denied_total[1h])", "denied")),
    ],
}  # fmt: skip

MINE = "r.site = '$site' AND r.area = '$area' AND $__timeFilter(r.ts)"
POINTS = "rollups_1m r JOIN series s ON s.site = r.site AND s.area = r.area AND s.point = r.point"
ROWS = """ AND s."row" IN ($row)"""


def rolled(what: str, quantities: str, name: str = "s.quantity", more: str = "") -> tuple[str, str]:
    """Rollups of some quantities over time, as time, metric, value."""
    listed = ", ".join(f"'{q}'" for q in quantities.split())
    return (f"SELECT r.ts AS time, {name} AS metric, {what} AS value FROM {POINTS}"
            f" WHERE {MINE} AND s.quantity IN ({listed}){more} GROUP BY 1, 2 ORDER BY 1", "")  # fmt: skip


def acts(columns: str, kind: str, tail: str) -> tuple[str, str]:
    """Records of decisions of one kind."""
    return (
        f"SELECT {columns} FROM optimizer_actions r WHERE {MINE} AND r.kind = '{kind}' {tail}",
        "",
    )


WH = (
    f"SELECT r.ts AS time, sum(r.mean) FILTER (WHERE s.quantity = 'total_power_kw') / 3.6"
    f" / nullif(sum(r.mean) FILTER (WHERE s.quantity = 'prompts_ps'), 0) AS \"Wh/prompt\" FROM {POINTS}"
    f" WHERE {MINE} AND s.quantity IN ('total_power_kw', 'prompts_ps') GROUP BY 1 ORDER BY 1", "",
)  # fmt: skip
DETAIL = "(r.detail::json ->> '{}')"
KW = DETAIL.format("predicted_kw") + "::float"
REALISED = DETAIL.format("realised_kw") + "::float"
POSTGRESQL: dict[str, list[Panel]] = {
    "hall": [
        Panel("Energy a prompt", "watth", (WH,)),
        Panel("Power", "kwatt", (rolled("sum(r.mean)", "total_power_kw it_power_kw cooling_power_kw"),)),
        Panel("Warmest inlet", "celsius", (rolled("max(r.high)", "inlet_c"),)),
        Panel("Slowest p95", "ms", (rolled("max(r.high)", "latency_p95_ms"),)),
        Panel("Setpoints", "none", (rolled("avg(r.mean)", "supply_air_setpoint_c chilled_water_setpoint_c fan_rpm_pct pump_rpm_pct", "s.device || ' ' || s.quantity"),)),
        Panel("What was done", "none", (acts('r.ts AS time, r.loop, r.move, r.scope, ' + DETAIL.format("reason") + ' AS reason', "action", "ORDER BY r.ts DESC LIMIT 200"),), "table"),
    ],
    "row": [
        Panel("D(x) of each row", "none", ((f"SELECT r.ts AS time, r.unit AS metric, r.ema AS value FROM ims_scores r WHERE {MINE} AND r.unit IN (SELECT 'row:' || x FROM unnest(ARRAY[$row]) x) ORDER BY 1", ""),)),
        Panel("Changes of state", "none", ((f"SELECT r.since AS since, r.unit, r.state, max(r.ema) AS most FROM ims_scores r WHERE {MINE} AND r.unit LIKE 'row:%' AND r.state <> 'nominal' GROUP BY 1, 2, 3 ORDER BY 1 DESC LIMIT 200", ""),), "table"),
        Panel("Warmest inlet of each row", "celsius", (rolled("max(r.high)", "inlet_c", 's."row"', ROWS),)),
        Panel("Power of each row", "kwatt", (rolled("sum(r.mean)", "pdu_kw", 's."row"', ROWS),)),
    ],
    "rack": [
        Panel("Inlet of each rack", "celsius", (rolled("avg(r.mean)", "inlet_c", "s.rack", ROWS),)),
        Panel("Power of each rack", "kwatt", (rolled("sum(r.mean)", "pdu_kw", "s.rack", ROWS),)),
        Panel("Warmest in this time", "celsius", ((f"SELECT s.rack, max(r.high) AS \"degC\" FROM {POINTS} WHERE {MINE} AND s.quantity = 'inlet_c'{ROWS} GROUP BY 1 ORDER BY 2 DESC NULLS LAST", ""),), "table", 24),
    ],
    "agent": [
        Panel("Readings that were not good", "percentunit", ((f"SELECT r.ts AS time, s.device AS metric, sum(r.n_missing)::float / nullif(sum(r.n + r.n_missing), 0) AS value FROM {POINTS} WHERE {MINE} GROUP BY 1, 2 HAVING sum(r.n_missing) > 0 ORDER BY 1", ""),)),
        Panel("Alarms", "none", (acts("r.ts AS time, " + ", ".join(f'{DETAIL.format(k)} AS "{k}"' for k in ("severity", "state", "text", "advice")), "alarm", "ORDER BY r.ts DESC LIMIT 200"),), "table"),
        Panel("Rows that were lost", "none", (("SELECT r.since, r.until, r.stream, r.dropped FROM history_gaps r WHERE r.site = '$site' AND r.area = '$area' AND $__timeFilter(r.until) ORDER BY 1 DESC", ""),), "table"),
        Panel("Models", "none", (("SELECT r.created, r.version, r.id, r.active, r.note FROM ims_model r WHERE r.site = '$site' AND r.area = '$area' ORDER BY 1 DESC", ""),), "table"),
    ],
    "savings": [
        Panel("Energy a prompt", "watth", (WH,)),
        Panel("Expected of what was done, by move", "kwatt", (acts(f"r.move, count(*) AS made, sum({KW}) AS \"expected kW\"", "action", "AND r.loop = 'slow' GROUP BY 1 ORDER BY 3"),), "table"),
        Panel("Expected against realised, by move", "kwatt", (acts(f"r.move, count(*) AS judged, sum({KW}) AS \"expected kW\", sum({REALISED}) AS \"realised kW\", count({DETAIL.format('undo')}) AS undone", "judged", "GROUP BY 1 ORDER BY 4"),), "table"),
        Panel("Denied, by rule", "none", (acts(f"{DETAIL.format('rule')} AS rule, count(*) AS denied", "decision", "GROUP BY 1 ORDER BY 2 DESC"),), "table"),
    ],
}  # fmt: skip

SQL_VARIABLES = {
    "site": "SELECT DISTINCT site FROM series ORDER BY 1",
    "area": "SELECT DISTINCT area FROM series WHERE site = '$site' ORDER BY 1",
    "row": """SELECT DISTINCT "row" FROM series WHERE site = '$site' AND area = '$area' AND "row" IS NOT NULL ORDER BY 1""",
}
PROM_VARIABLES = {
    "site": "label_values(skadi_info, site)",
    "area": 'label_values(skadi_info{site="$site"}, area)',
    "row": "label_values(skadi_rack_inlet_celsius, row)",
}


def dashboard(source: str, name: str, panels: list[Panel]) -> Json:
    """A dashboard as Grafana imports it. The data source is asked for at import."""
    by_row = name in ("row", "rack")
    variables = PROM_VARIABLES if source == "prometheus" else SQL_VARIABLES
    chosen = {k: v for k, v in variables.items() if by_row or k != "row"}
    return {
        "__inputs": [{"name": "DS", "label": source, "type": "datasource", "pluginId": KINDS[source]}],
        "uid": f"skadi-{source[:4]}-{name}", "title": f"Skadi: {name} ({source})", "tags": ["skadi", source],
        "schemaVersion": 39, "version": 1, "editable": True, "timezone": "", "refresh": "30s",
        "time": {"from": "now-7d" if name == "savings" else "now-6h", "to": "now"},
        "templating": {"list": [_variable(source, k, v) for k, v in chosen.items()]},
        "panels": list(_placed(source, panels)),
    }  # fmt: skip


def _variable(source: str, name: str, query: str) -> Json:
    many = name == "row"
    shown: Any = query if source == "postgresql" else {"query": query, "refId": name}
    return {"name": name, "type": "query", "datasource": _source(source), "query": shown, "refresh": 2,
            "definition": query, "multi": many, "includeAll": many, "sort": 1,
            **({"current": {"text": ["All"], "value": ["$__all"]}} if many else {})}  # fmt: skip


def _source(source: str) -> Json:
    return {"type": KINDS[source], "uid": "${DS}"}


def _placed(source: str, panels: list[Panel]) -> Any:
    x = y = before = 0
    for i, panel in enumerate(panels, 1):
        height = 4 if panel.kind == "stat" else HEIGHT
        if x + panel.wide > 24:
            x, y = 0, y + before
        yield {
            "id": i, "title": panel.title, "type": panel.kind, "datasource": _source(source),
            "gridPos": {"x": x, "y": y, "w": panel.wide, "h": height},
            "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []}, "options": {},
            "targets": [_target(source, panel, k, *query) for k, query in enumerate(panel.queries)],
        }  # fmt: skip
        x += panel.wide
        before = height


def _target(source: str, panel: Panel, k: int, query: str, legend: str) -> Json:
    common: Json = {"refId": chr(ord("A") + k), "datasource": _source(source)}
    if source == "prometheus":
        instant = panel.kind in ("stat", "table", "bargauge")
        return common | {
            "expr": query,
            "legendFormat": legend,
            "instant": instant,
            "range": not instant,
        }
    shape = "table" if panel.kind == "table" else "time_series"
    return common | {"rawSql": query, "rawQuery": True, "editorMode": "code", "format": shape}


def made() -> dict[Path, str]:
    """Every file with its text."""
    return {
        HERE / source / f"skadi-{name}.json": json.dumps(dashboard(source, name, panels), indent=1)
        + "\n"
        for source, table in (("prometheus", PROMETHEUS), ("postgresql", POSTGRESQL))
        for name, panels in table.items()
    }


if __name__ == "__main__":
    for path, text in made().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
