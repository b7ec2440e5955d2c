"""Turns what the agent tells into MQTT messages and history rows: two listeners, no logic."""

from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agent.api.views import modes_json
from agent.clock import utc
from agent.core import Agent
from agent.mqtt.mirror import Mirror

if TYPE_CHECKING:
    from agent.history.service import History

Listener = Callable[[str, dict[str, Any]], None]
WAITING = 10_000  # of what is told while history opens, which takes some seconds


def publish_to(mirror: Mirror, agent: Agent) -> Listener:
    """A listener that mirrors to MQTT."""

    def listen(kind: str, detail: dict[str, Any]) -> None:
        match kind:
            case "readings":
                mirror.publish_device(detail["device"], detail["view"])
            case "findings":
                _publish_units(mirror, agent, detail)
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


def _publish_units(mirror: Mirror, agent: Agent, detail: dict[str, Any]) -> None:
    monitor = agent.setting.monitor
    taus = (monitor.model.tau_fast, monitor.model.tau_persist) if monitor else (None, None)
    for unit, finding in detail["findings"].items():
        if not unit.startswith("rack:"):
            mirror.publish_unit(unit, {
                "deviation": finding.deviation, "ema": finding.ema, "state": finding.state,
                "since": utc(finding.since_s), "top": list(finding.top), "heat": finding.heat,
                "tau_fast": taus[0], "tau_persist": taus[1],
            })  # fmt: skip


class Recording:
    """A listener that records in history; what comes before history is open waits for it."""

    def __init__(self) -> None:
        self._history: History | None = None
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque(maxlen=WAITING)

    def begin(self, history: "History") -> None:
        """From now on into this history, and what waits first."""
        self._history = history
        while self._waiting:
            self.listen(*self._waiting.popleft())

    def listen(self, kind: str, detail: dict[str, Any]) -> None:
        """Take what the agent tells."""
        history = self._history
        match kind:
            case _ if history is None:
                self._waiting.append((kind, detail))
            case "readings":
                history.add_readings(detail["device"], detail["readings"])
            case "findings":
                history.add_scores(detail["now_s"], list(detail["findings"].values()))
            case "action" | "ending" | "judged" | "decision" | "alarm":
                history.add_action({"type": kind, **_plain(detail)})
            case _:
                pass


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
