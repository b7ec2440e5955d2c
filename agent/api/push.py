"""Readings that others push over HTTP, for devices declared with protocol = "push".

Decides which pushed readings are taken: by the device's own token, of points it declares, newer
than the last one and not from the future, judged as any driver's are. They go stale as others do
and are marked `pushed`; guardrails never take them as the only evidence for a move towards risk.
"""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from agent.api.app import WRITE_ERRORS, Context, StrictRoute
from agent.api.auth import unauthorized
from agent.api.models import Problem, Taken
from agent.clock import Clock, parse_utc
from config.addresses import NamedAddress
from config.site import Device, Point, Site
from control.types import Quality, Reading
from drivers.judge import Judge, judge_of

AHEAD_S = 5.0  # clocks of two hosts may differ by so much
MOST_READINGS = 5_000


class PushedReading(BaseModel):
    """One value of a point, by its id or its key (DEVICE/ID)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    point: Annotated[str, Field(min_length=1, max_length=130)]
    value: Annotated[float, Field(allow_inf_nan=False)] | None
    ts: Annotated[str, Field(max_length=40)] | None = None


class Batch(BaseModel):
    """Readings of one device."""

    model_config = ConfigDict(extra="forbid", strict=True)

    device: Annotated[str, Field(min_length=1, max_length=64)]
    readings: Annotated[list[PushedReading], Field(min_length=1, max_length=MOST_READINGS)]


class PushDoor:
    """Judges pushed readings and passes the good ones on."""

    def __init__(self, site: Site, clock: Clock, take: Any) -> None:
        self._clock = clock
        self._take = take
        self._judges: dict[str, dict[str, tuple[Point, Judge]]] = {
            d.id: {_name(p): (p, judge_of(p)) for p in d.points}
            for d in site.devices
            if d.protocol == "push"
        }
        self._devices: dict[str, Device] = {d.id: d for d in site.devices}
        self._last_s: dict[str, float] = {}

    def for_site(self, site: Site) -> "PushDoor":
        """A door for another version of the site that goes on where this one stands."""
        door = PushDoor(site, self._clock, self._take)
        door._last_s = {k: s for k, s in self._last_s.items() if k in site.points}
        return door

    def knows(self, device: str) -> bool:
        """True for a declared push device."""
        return device in self._judges

    def push(self, batch: Batch) -> Taken:
        """Take a batch in. What is refused is said, the rest is taken."""
        judges = self._judges[batch.device]
        now_s = self._clock.now_s()
        taken: list[Reading] = []
        refused: list[Problem] = []
        for i, pushed in enumerate(batch.readings):
            found = judges.get(pushed.point.removeprefix(f"{batch.device}/"))
            answer = (
                "the site file declares no such point of this device"
                if found is None
                else self._one(pushed, *found, now_s)
            )
            if isinstance(answer, str):
                refused.append(Problem(where=f"readings.{i}.{pushed.point}"[:200], what=answer))
            else:
                taken.append(answer)
        if taken:
            self._take(self._devices[batch.device], taken)
        return Taken(taken=len(taken), refused=refused)

    def _one(
        self, pushed: PushedReading, point: Point, judge: Judge, now_s: float
    ) -> Reading | str:
        taken_s = now_s if pushed.ts is None else parse_utc(pushed.ts)
        if taken_s is None:
            return f"ts {pushed.ts!r} is not ISO 8601 with an offset or Z"
        if taken_s > now_s + AHEAD_S:
            return f"{taken_s - now_s:.0f} s in the future; set the clock"
        if now_s - taken_s > point.max_age_s:
            return f"{now_s - taken_s:.0f} s old; at most {point.max_age_s:g} s"
        if taken_s <= self._last_s.get(point.key, 0.0) and pushed.ts is not None:
            return "not newer than the last one"
        self._last_s[point.key] = taken_s
        if pushed.value is None:
            read = Reading(point.key, None, taken_s, Quality.MISSING, "pushed as null")
        else:
            read = judge.read(pushed.value, taken_s)
        return Reading(read.point, read.value, read.taken_s, read.quality, read.reason, "pushed")


def _name(point: Point) -> str:
    return point.address.name if isinstance(point.address, NamedAddress) else point.id


router = APIRouter(tags=["telemetry"], route_class=StrictRoute)
device_token = HTTPBearer(
    scheme_name="device token", description="`token` of the push device", auto_error=False
)


@router.post("/telemetry", responses=WRITE_ERRORS, operation_id="telemetry")
async def telemetry(
    request: Request,
    batch: Batch,
    _shown: Annotated[HTTPAuthorizationCredentials | None, Security(device_token)],
) -> Taken:
    """Push readings of a device declared with `protocol = "push"`, with that device's token."""
    context: Context = request.app.state.context
    if not context.tokens.device(batch.device, request.headers.get("authorization")):
        raise unauthorized(
            "this takes the device's own token: token = { env = ... } of a push device in the site file"
        )
    if not context.push.knows(batch.device):
        raise HTTPException(409, f"{batch.device} is not a push device")
    return context.push.push(batch)
