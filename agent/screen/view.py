"""What a screen knows of one agent: built from MQTT messages alone, by one rule a topic.

Decides what is worth a line for people (an action, a row's change of state, a loss). Pure: no
network, no clock, no terminal. What comes from the broker is hostile: a message that is not what
the contract says is counted and dropped, and a text is cut and cleaned before it is shown.
"""

import json
import math
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

MAX_PAYLOAD = 262_144
MAX_RACKS, MAX_DEVICES, LINES, TEXT = 4_096, 4_096, 200, 240
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
_PROBE = "inlet_c"
_ALIVE = ("good", "stale")

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened: when (ISO UTC), what it is about, and what it says."""

    ts: str
    kind: str  # action | refused | ending | mms | event
    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RowSeen:
    """What the monitor says of a row. None: unknown."""

    deviation: float | None = None
    ema: float | None = None
    tau_fast: float | None = None
    tau_persist: float | None = None
    state: str = "unknown"
    since: str = ""


@dataclass(slots=True)
class View:
    """The state of one site as its mirror tells it. `take` one message at a time."""

    ts: str = ""
    online: bool | None = None
    mode: str = "?"
    armed: tuple[str, ...] = ()
    killed: bool = False
    kpi: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    rows: dict[str, RowSeen] = field(default_factory=dict)
    hall: dict[str, RowSeen] = field(default_factory=dict)  # one or none, under ""
    inlets: dict[str, float | None] = field(default_factory=dict)  # rack -> degC
    rack_row: dict[str, str] = field(default_factory=dict)
    devices: dict[str, bool] = field(default_factory=dict)  # id -> some point has a value
    alarms: tuple[str, ...] = ()  # those that call, the worst first
    confirmed: int = 0  # points whose read-back agreed, giving back included
    messages: int = 0
    refused: int = 0  # messages that keep no contract
    lines: deque[Line] = field(default_factory=lambda: deque(maxlen=LINES))

    def take(self, topic: str, payload: bytes) -> Line | None:
        """Take the message of a topic below skadi/SITE/AREA/. A line when people should know."""
        self.messages += 1
        body = _object(payload)
        rule = _RULES.get(topic.split("/", 1)[0])
        if body is None or rule is None:
            self.refused += body is None
            return None
        line = rule(self, topic.split("/"), body)
        if line is not None:
            self._keep(line)
        return line

    def _keep(self, line: Line) -> None:
        """Remember a line; what is given back together for one reason is one line."""
        last = self.lines[-1] if self.lines else None
        together = last is not None and (last.kind, last.ts[:19], last.detail) == (
            "ending", line.ts[:19], line.detail,
        )  # fmt: skip
        if last is None or line.kind != "ending" or not together:
            self.lines.append(line)
            return
        head, _, more = last.text.partition(" and ")
        count = int(more.split(" ", 1)[0]) + 1 if more else 1
        self.lines[-1] = replace(last, text=f"{head} and {count} more")

    def _status(self, _topic: list[str], body: Fields) -> Line | None:
        if _topic[1:] != ["status"]:
            return None
        was, self.online = self.online, body.get("state") == "online"
        if was == self.online:
            return None
        text = "the agent is online" if self.online else "the agent is offline"
        return Line(printable(body.get("ts")), "event", text, printable(body.get("reason")))

    def _device(self, topic: list[str], body: Fields) -> Line | None:
        points = body.get("points")
        if len(topic) != 3 or not isinstance(points, dict):
            self.refused += 1
            return None
        device, was = printable(topic[1]), self.devices.get(printable(topic[1]))
        if was is None and len(self.devices) >= MAX_DEVICES:
            return None
        known = [p for p in points.values() if isinstance(p, dict)]
        alive = any(p.get("quality") in _ALIVE for p in known)
        self.devices[device] = alive
        for point in known:
            self.see_point(point)
        if was is None or was == alive:
            return None
        text = f"{device} answers again" if alive else f"{device} does not answer"
        return Line(self.ts, "event", text)

    def see_point(self, point: Fields) -> None:
        """Take a point in: only a rack's inlet is shown."""
        rack, row = point.get("rack"), point.get("row")
        if point.get("quantity") != _PROBE or not isinstance(rack, str):
            return
        if rack not in self.inlets and len(self.inlets) >= MAX_RACKS:
            return
        self.inlets[rack] = _number(point.get("value"))
        self.rack_row[rack] = row if isinstance(row, str) else ""

    def _row(self, topic: list[str], body: Fields) -> Line | None:
        if len(topic) != 3 or len(self.rows) >= MAX_RACKS:
            self.refused += 1
            return None
        row = printable(topic[1])
        return self._unit(f"row {row}", row, self.rows, body)

    def _hall(self, topic: list[str], body: Fields) -> Line | None:
        if len(topic) != 2:
            self.refused += 1
            return None
        return self._unit("hall", "", self.hall, body)

    def _unit(
        self, name: str, key: str, seen_before: dict[str, RowSeen], body: Fields
    ) -> Line | None:
        was = seen_before.get(key)
        d, ema, fast, persist = (
            _number(body.get(k)) for k in ("deviation", "ema", "tau_fast", "tau_persist")
        )
        state = printable(body.get("state")) or "unknown"
        seen = RowSeen(d, ema, fast, persist, state, printable(body.get("since")))
        seen_before[key] = seen
        self._see(body)
        if was is None or was.state == seen.state or "unknown" in (was.state, seen.state):
            return None
        dx = f"D(x) {seen.ema:.1f}" if seen.ema is not None else "D(x) unknown"
        tau = f", tau_fast {seen.tau_fast:.1f}" if seen.tau_fast is not None else ""
        top = body.get("top")
        why = ", ".join(printable(t) for t in top[:3]) if isinstance(top, list) else ""
        return Line(self.ts, "mms", f"{name}: {was.state} → {seen.state}, {dx}{tau}", why)

    def _kpi(self, _topic: list[str], body: Fields) -> Line | None:
        self.kpi = {k: n for k, v in body.items() if (n := _number(v)) is not None}
        counts = body.get("counts")
        if isinstance(counts, dict):
            self.counts = {str(k): v for k, v in counts.items() if type(v) is int}
        self._see(body)
        return None

    def _mode(self, _topic: list[str], body: Fields) -> Line | None:
        armed = body.get("armed")
        self.mode = printable(body.get("mode")) or "?"
        self.armed = tuple(printable(a) for a in armed) if isinstance(armed, list) else ()
        self.killed = body.get("killed") is True
        return None

    def _action(self, _topic: list[str], body: Fields) -> Line | None:
        ts = printable(body.get("ts")) or self.ts
        match body.get("type"):
            case "action":
                return self._written(ts, body)
            case "ending":
                receipt = printable(body.get("receipt"))
                self.confirmed += receipt == "applied"
                text = (
                    f"{printable(body.get('point'))} given back to {printable(body.get('target'))}"
                )
                return Line(ts, "ending", text, printable(body.get("reason")) + _unless(receipt))
            case "judged" if body.get("undo") is True:
                about = f"{printable(body.get('move'))} {printable(body.get('scope'))}"
                return Line(ts, "ending", f"{about}: worse than predicted, undone")
            case _:
                return None

    def _written(self, ts: str, body: Fields) -> Line:
        receipts = body.get("receipts")
        said = list(receipts.values()) if isinstance(receipts, dict) else []
        self.confirmed += said.count("applied")
        kind = "action" if body.get("complete") is True else "refused"
        others = sorted({printable(r) for r in said if r != "applied"})
        seal = "read back" if kind == "action" else "not complete: " + ", ".join(others)
        head = f"{printable(body.get('loop'))} {printable(body.get('move'))} {printable(body.get('scope'))}"
        reason = printable(body.get("reason"))
        # The slow loop's reasons begin with the change itself, which stands here already.
        why = reason[max(reason.find("expected "), 0) :]
        return Line(ts, kind, f"{head}: {_changes(body.get('changes'))}, {seal}", why)

    def _event(self, topic: list[str], body: Fields) -> Line | None:
        # The rows' own topics tell of MMS; the rest is what the agent notes of itself.
        if len(topic) != 2 or topic[1] not in ("mode", "mode_refused", "recover", "stopped"):
            return None
        said = [
            f"{k} {printable(body[k])}" for k in ("event", "mode", "scope", "reason") if k in body
        ]
        return Line(
            printable(body.get("ts")), "event", ": ".join(filter(None, (topic[1], ", ".join(said))))
        )

    def _see(self, body: Fields) -> None:
        ts = printable(body.get("ts"))
        self.ts = max(self.ts, ts)


_RULES: dict[str, Callable[[View, list[str], Fields], Line | None]] = {
    "_agent": View._status,
    "device": View._device,
    "row": View._row,
    "hall": View._hall,
    "kpi": View._kpi,
    "mode": View._mode,
    "action": View._action,
    "event": View._event,
}


def _object(payload: bytes) -> dict[str, Any] | None:
    if len(payload) > MAX_PAYLOAD:
        return None
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def printable(value: object) -> str:
    """A text from outside, cut, and without what moves a terminal's cursor."""
    return _CONTROL.sub(" ", str(value))[:TEXT] if value is not None else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _unless(receipt: str) -> str:
    return "" if receipt == "applied" else f" ({receipt})"


def _changes(changes: object) -> str:
    """ "crac-a1, crac-a2 fan_rpm_setpoint_pct 100 → 97": the same change named once, at most three."""
    if not isinstance(changes, dict):
        return "?"
    same: dict[tuple[str, str], list[str]] = {}
    for point, pair in changes.items():
        device, _, name = printable(point).partition("/")
        old, new = (_number(v) for v in pair) if _is_pair(pair) else (None, None)
        same.setdefault((name, f"{_short(old)} → {_short(new)}"), []).append(device)
    parts = [f"{', '.join(ds[:4])} {name} {what}" for (name, what), ds in same.items()]
    more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
    return ", ".join(parts[:3]) + more


def _short(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2
