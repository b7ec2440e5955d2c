"""Turns what the agent tells into MQTT messages and history rows: two listeners, no logic."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from agent.clock import utc
from agent.core import Agent
from agent.history import History
from agent.mirror import Mirror
from agent.views import modes_json

Listener = Callable[[str, dict[str, Any]], None]


def publish_to(mirror: Mirror, agent: Agent) -> Listener:
    """A listener that mirrors to MQTT."""

    def listen(kind: str, detail: dict[str, Any]) -> None:
        match kind:
            case "readings":
                mirror.publish_device(detail["device"], detail["view"])
            case "findings":
                _publish_rows(mirror, agent, detail)
            case "kpi":
                counts = {k: getattr(detail["counts"], k) for k in detail["counts"].__slots__}
                mirror.publish_kpi(_plain(detail) | {"counts": counts})
                mirror.publish_mode(modes_json(agent.control.modes))
            case "action" | "ending" | "judged":
                mirror.publish_action({"type": kind, **_plain(detail)})
            case "decision":
                mirror.publish_decision(_plain(detail))
            case "alarm":
                ended = detail["state"] == "normal"
                mirror.publish_alarm(detail["id"], None if ended else detail)
            case _:
                mirror.publish_event(str(detail.get("kind", kind)), _plain(detail))

    return listen


def _publish_rows(mirror: Mirror, agent: Agent, detail: dict[str, Any]) -> None:
    monitor = agent.setting.monitor
    taus = (monitor.model.tau_fast, monitor.model.tau_persist) if monitor else (None, None)
    for unit, finding in detail["findings"].items():
        if unit.startswith("row:"):
            mirror.publish_row(unit.removeprefix("row:"), {
                "deviation": finding.deviation, "ema": finding.ema, "state": finding.state,
                "since": utc(finding.since_s), "top": list(finding.top), "heat": finding.heat,
                "tau_fast": taus[0], "tau_persist": taus[1],
            })  # fmt: skip


def record_to(history: History) -> Listener:
    """A listener that records in history."""

    def listen(kind: str, detail: dict[str, Any]) -> None:
        match kind:
            case "readings":
                history.add_readings(detail["device"], detail["readings"])
            case "findings":
                history.add_scores(detail["now_s"], list(detail["findings"].values()))
            case "action" | "ending" | "judged" | "decision" | "alarm":
                history.add_action({"type": kind, **_plain(detail)})
            case _:
                pass

    return listen


def _plain(detail: dict[str, Any]) -> dict[str, Any]:
    """Plain values only; times become UTC text."""
    plain: dict[str, Any] = {}
    for key, value in detail.items():
        if key == "ts_s":
            plain["ts"] = utc(float(value))
        elif hasattr(value, "__dataclass_fields__"):
            if key == "detail":
                plain[key] = asdict(value)
        else:
            plain[key] = value
    return plain
