"""What stands in the messages of the mirror. Pure; the shapes are a contract with others.

Decides the JSON of a device's state. Must never let a value out that its quality does not carry.
"""

import re
from collections.abc import Sequence
from typing import Any

from agent.clock import utc
from agent.plain import finite, strict_json
from config.site import Device, Point, Site
from control.types import Quality, Reading, Sweep

SCHEMA = 1  # of the payloads: goes up when something is renamed or removed, not when added

TOPICS: dict[str, str] = {
    "_agent/status": "retained: state online|offline, reason lost|stopped, nonce of the run",
    "_agent/info": "retained: this message",
    "device/{device}/state": "retained: ts, seq, device, points {id: value, unit, quality,"
    " quantity, ts, rack?, row?, reason?}",
    "device/{device}/point/{point}": "retained, where mqtt.per_point: a point, when it changes",
    "device/{device}/health": "retained: quantities found, stale, missing; latency, errors, retries, back-off",
    "row/{row}/state": "retained: deviation D(x), tau_fast, tau_persist, MMS state, since",
    "hall/state": "retained: the same for the hall as a whole",
    "kpi": "retained: the hall's figures",
    "mode": "retained: running mode, armed scopes, kill switch",
    "alarm/{id}": "retained while active, then removed",
    "event/{kind}": "QoS 1: something that happened",
    "action": "QoS 1: a write with its receipts, a giving back, or what came of one",
    "decision": "QoS 1: a proposal with its verdict",
    "command/{principal}": "in, QoS 1, where mqtt.commands: id, nonce, operation, arguments, expires",
    "command/{principal}/result": "QoS 1: what came of it: id, ok, refused, detail",
}
_NOT_A_WORD = re.compile(r"[^A-Za-z0-9_.:-]")
_CARRIES_VALUE = (Quality.GOOD, Quality.STALE)


def device_payload(site: Site, device: Device, readings: Sequence[Reading]) -> dict[str, Any]:
    """One message of a device: its points by id. `ts` is that of the newest reading."""
    points = {
        point.id: point_payload(point, reading)
        for reading in readings
        if (point := site.points.get(reading.point)) is not None
    }
    taken = [r.taken_s for r in readings if finite(r.taken_s) is not None]
    head: dict[str, Any] = {"ts": utc(max(taken))} if taken else {}
    return head | {"device": device.id, "points": points}


class Template:
    """The message of one device with everything in it but what changes from poll to poll.

    Made of the very `device_payload` it stands for; good for sweeps with the same faults.
    """

    def __init__(self, site: Site, device: Device, sweep: Sweep) -> None:
        self._points, self._faults = sweep.points, dict(sweep.faults)
        known = [key in site.points for key in sweep.points]
        self._places = [i for i, k in enumerate(known) if k and i not in self._faults]
        marked = device_payload(site, device, sweep)
        for i in self._places:
            marked["points"][site.points[sweep.points[i]].id]["value"] = _VALUE
        for point in marked["points"].values():
            point["ts"] = _TIME
            if "reason" in point:
                point["reason"] = point["reason"].translate(_NO_MARKS)
        text = strict_json({"ts": _TIME, "seq": _COUNT, **marked, **{"ts": _TIME}})
        text = text.replace("%", "%%").replace(_quoted(_VALUE), "%s").replace(_quoted(_COUNT), "%s")
        self._pieces = text.split(_quoted(_TIME)[1:-1])
        self._whole = len(self._places) == len(sweep.points)

    def fits(self, sweep: Sweep) -> bool:
        """Whether it was made for such a sweep."""
        return self._points is sweep.points and self._faults == sweep.faults

    def fill(self, sweep: Sweep, seq: int) -> str:
        """The message."""
        values = sweep.values if self._whole else sweep.values[self._places]
        texts = map(_TEXTS.__getitem__, values.tolist())
        return utc(sweep.taken_s).join(self._pieces) % (seq, *texts)


class _Texts(dict[float, str]):
    """The JSON of numbers seen before. Sensors count in steps: the same few come again."""

    def __missing__(self, value: float) -> str:
        if len(self) >= _MOST_TEXTS:
            self.clear()
        text = self[value] = repr(value)
        return text


_MOST_TEXTS = 16_384
_TEXTS = _Texts()
# Marks from Unicode's private use area, which no identifier of a site file may hold.
_VALUE, _TIME, _COUNT = "\ue000", "\ue001", "\ue002"
_NO_MARKS = dict.fromkeys(map(ord, (_VALUE, _TIME, _COUNT)))


def _quoted(mark: str) -> str:
    return strict_json(mark)


def point_payload(point: Point, reading: Reading) -> dict[str, Any]:
    """One point in a message."""
    value = finite(reading.value) if reading.quality in _CARRIES_VALUE else None
    quality = reading.quality
    if value is None and quality in _CARRIES_VALUE:
        quality = Quality.BAD  # nothing that can be said in JSON
    about: dict[str, Any] = {
        "value": value,
        "unit": point.about.unit,
        "quality": quality.value,
        "quantity": point.quantity,
        "ts": utc(reading.taken_s) if finite(reading.taken_s) is not None else None,
    }
    extras = {"rack": point.rack, "row": point.row, "reason": reading.reason}
    if reading.source != "polled":
        extras["source"] = reading.source
    return about | {key: text for key, text in extras.items() if text}


def topic_word(text: str) -> str:
    """One level of a topic from any text: no slash, wildcard, space or control character."""
    return _NOT_A_WORD.sub("_", text)[:64] or "_"
