"""The workload router over HTTP: traffic shares by row, batching window, admission.

GET {url}/workload                    -> {"traffic_share_pct": {"A": 16.67, ...},
                                          "batch_window_ms": 40.0, "admission_pct": 100.0}
PUT {url}/workload/traffic_share_pct  <- {"A": 20.0, ...}: all rows, as one change
PUT {url}/workload/batch_window_ms    <- {"value": 60.0}
PUT {url}/workload/admission_pct      <- {"value": 50.0}

Whatever comes is hostile until checked: it must be exactly numbers under known names.

Must never retry a write, and never write on behalf of anyone but drivers.gate.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from config.addresses import WorkloadAddress
from config.site import Device, Point
from control.types import Present, Quality, Reading
from drivers.contract import NotSent, Refused, Transient
from drivers.http_json import HttpJson, strict
from drivers.judge import Judge, judge_of

SHARES = "traffic_share_pct"

State = dict[tuple[str, str | None], float | str]
"""(knob, row) -> its number, or why it has none."""


class WorkloadDriver:
    """The driver of one workload router. See drivers.contract.Driver."""

    def __init__(self, device: Device, environ: Mapping[str, str]) -> None:
        self.device = device
        self._http = HttpJson(device, environ)
        self._judges = [judge_of(p) for p in device.points]
        self._by_key = {p.key: p for p in device.points}

    async def connect(self) -> None:
        """Prepare the session. Nothing is sent. Raises Permanent where the token is missing."""
        self._http.open()

    async def read(self, now_s: float) -> list[Reading]:
        """Read all knobs with one GET. Raises Transient when the router does not answer."""
        state = await self._get()
        return [
            _reading(judge, state, _address(point), now_s)
            for judge, point in zip(self._judges, self.device.points, strict=True)
        ]

    async def present(self, points: Sequence[Point]) -> dict[str, Present]:
        """What the router says of these knobs now."""
        state = await self._get()
        found: dict[str, Present] = {}
        for point in points:
            reading = _reading(judge_of(point), state, _address(point), 0.0)
            if reading.quality in (Quality.MISSING, Quality.UNKNOWN):
                raise Refused(f"device {self.device.id} {point.key}: {reading.reason}")
            found[point.key] = Present(reading.value)
        return found

    async def write_raw(self, values: Mapping[str, float | None]) -> None:
        """Write knobs; the shares of all rows are one request.

        Raises Transient as soon as a part of several has been written and another has not.
        """
        bodies = self._bodies(values)
        if self.device.dry_run:
            told = "; ".join(f"PUT /workload/{knob} {body}" for knob, body in bodies.items())
            raise Refused(f"device {self.device.id}: dry_run: would do: {told}")
        done: list[str] = []
        for knob, body in bodies.items():
            try:
                await self._http.send("PUT", f"/workload/{knob}", body)
            except (NotSent, Refused) as error:
                if not done:
                    raise
                raise Transient(f"written in part: {', '.join(done)}; then {error}") from error
            done.append(knob)

    def _bodies(self, values: Mapping[str, float | None]) -> dict[str, dict[str, float]]:
        """What to PUT under each knob. Raises Refused before anything is sent."""
        bodies: dict[str, dict[str, float]] = {}
        for key, value in values.items():
            point = self._by_key[key]
            address = _address(point)
            if point.writable is None:
                raise Refused(f"{key}: not writable")
            if value is None or not math.isfinite(value):
                raise Refused(f"{key}: a knob takes a number, it can't be relinquished")
            raw = (value - point.offset) / point.scale
            bodies.setdefault(address.knob, {})[address.row or "value"] = raw
        return bodies

    async def close(self) -> None:
        """Close the session."""
        await self._http.close()

    async def _get(self) -> State:
        try:
            return state_of(await self._http.get("/workload"))
        except ValueError as error:
            self._http.fail(Transient, f"GET /workload: {error}", error)


def parse_state(body: bytes) -> State:
    """Check and flatten the router's state as it comes. Raises ValueError naming what is wrong."""
    return state_of(strict(body))


def state_of(found: Any) -> State:
    """Flatten the router's state. Raises ValueError naming what is wrong.

    A knob of the wrong type has a reason in place of its number; unknown names are ignored,
    so that a newer router stays readable.
    """
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    state: State = {}
    for knob in ("batch_window_ms", "admission_pct"):
        if knob in found:
            state[knob, None] = _number(found[knob])
    shares = found.get(SHARES, {})
    if not isinstance(shares, dict):
        raise ValueError(f"{SHARES} is not an object of row: share")
    for row, share in shares.items():
        state[SHARES, row] = _number(share)
    return state


def _number(value: object) -> float | str:
    if isinstance(value, float) and math.isfinite(value):
        return value
    return f"not a number: {str(value)[:40]!r}"


def _address(point: Point) -> WorkloadAddress:
    assert isinstance(point.address, WorkloadAddress)
    return point.address


def _reading(judge: Judge, state: State, address: WorkloadAddress, now_s: float) -> Reading:
    raw = state.get((address.knob, address.row))
    match raw:
        case None:
            which = address.knob if address.row is None else f"{address.knob} of {address.row}"
            return judge.missing(f"the router has no {which}", now_s)
        case str():
            return judge.bad(raw, now_s)
    return judge.read(raw, now_s)
