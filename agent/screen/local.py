"""Fills a View from what a running agent answers: its overview, heat map and latest events.

The same screen as from MQTT, without a broker. What comes in is checked as what a broker brings.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from agent.screen.draw import Frame
from agent.screen.view import View

_ACTS = ("action", "ending", "judged")


def fill(
    view: View,
    overview: Mapping[str, Any],
    heat: Mapping[str, Any],
    events: Iterable[Mapping[str, Any]],
) -> None:
    """Bring a view up to date. `events` are those it has not seen yet, the oldest first."""
    ts = overview.get("ts")
    kpi = {k: f.get("value") for k, f in _object(overview, "kpi").items() if isinstance(f, dict)}
    _take(view, "kpi", {**kpi, "ts": ts, "counts": overview.get("counts")})
    _take(view, "mode", _object(overview, "modes"))
    for cell in _objects(heat, "racks"):
        point = {"quantity": "inlet_c", "value": cell.get("inlet_c"), "quality": "good"}
        place = {"rack": cell.get("rack"), "row": cell.get("row")}
        view.see_point({**point, **place})
    for event in events:
        body = _object(event, "body")
        kind = str(event.get("type"))
        topic = "action" if kind in _ACTS else f"event/{body.get('kind', kind)}"
        _take(view, topic, {"ts": event.get("ts"), **body, "type": kind})
    _take(view, "_agent/status", {"state": "online", "ts": ts})
    for row in _objects(overview, "rows"):
        _take(view, f"row/{row.get('row')}/state", dict(row))
    if hall := _object(overview, "hall"):
        _take(view, "hall/state", hall)
    devices = _objects(overview, "devices")
    view.devices = {str(d.get("device")): _answers(d) for d in devices}
    view.alarms = tuple(
        f"{a.get('severity')}: {a.get('text')}"
        for a in _objects(overview, "alarms")
        if a.get("calls")
    )


def frame(overview: Mapping[str, Any], footer: str) -> Frame:
    """Titles and limits of a site."""
    limits = _object(overview, "limits")
    inlet, latency, rack = (
        float(_object(limits, name).get("value") or 0.0)
        for name in ("inlet_max_c", "latency_p95_max_ms", "rack_max_kw")
    )
    title = f"{overview.get('site')}/{overview.get('area')}"
    return Frame(title, None, inlet, latency, rack, footer)


def _answers(device: Mapping[str, Any]) -> bool:
    """A device that is polled and answers, or pushes by itself."""
    return device.get("protocol") == "push" or (
        device.get("failing") == 0 and bool(device.get("polls"))
    )


def _take(view: View, topic: str, body: Mapping[str, Any]) -> None:
    view.take(topic, json.dumps(body).encode())


def _object(of: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = of.get(key)
    return found if isinstance(found, dict) else {}


def _objects(of: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = of.get(key)
    return [x for x in found if isinstance(x, dict)] if isinstance(found, list) else []
