"""[[interlock]] and [[unit]]: what stops writing, as data, and the kinds that come with Skadi.

A kind fills in what an engineer would write; every key may be given to overrule it. Figures:
ASHRAE TC9.9 Thermal Guidelines (recommended envelope: dew point 5.5 to 15 degC, at most 60 %
relative humidity); 2 K above the dew point and 15 minutes around a chiller's staging are field
practice; 0.5 is between the 0 and 1 of a contact.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from config.base import ID, Scope, Section
from config.quantities import QUANTITIES

Finite = Annotated[float, Field(allow_inf_nan=False)]
Action = Literal["hold", "release", "safe_value"]
WATER = ("chilled_water_setpoint_c", "pump_rpm_pct")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of interlock compares and does unless told otherwise.

    needs: the keys that must be given. only: the quantities it guards (none: all). within_s: it
    trips when the point has changed within that time. latch: stays until a person resets it.
    """

    about: str
    needs: tuple[str, ...] = ("point",)
    trip_above: float | None = None
    trip_below: float | None = None
    for_s: float = 0.0
    action: Action = "hold"
    only: tuple[str, ...] = ()
    within_s: float | None = None
    latch: bool = True


_AIR = ("temperature", "humidity")
_CONTACT = 0.5

KINDS: dict[str, Kind] = {
    "value": Kind("a point beyond a bound"),
    "condensation": Kind(
        "chilled or coolant water nearer than 2 K to the dew point of the room",
        ("point", *_AIR), trip_below=2.0, action="release", only=WATER,
    ),
    "dew_point": Kind("supply air outside its dew point range", _AIR, 15.0, 5.5, 300.0, "release"),
    "humidity": Kind("air too humid", trip_above=60.0, for_s=300.0, action="release"),
    "airflow_floor": Kind("a fan or an airflow below its floor", ("point", "trip_below"), for_s=30.0,
                          action="safe_value"),
    "containment": Kind("too little pressure across the containment", ("point", "trip_below"),
                        for_s=60.0, action="safe_value"),
    "evaporator_flow": Kind("water through an evaporator below its minimum", ("point", "trip_below"),
                            for_s=10.0, action="release", only=WATER),
    "staging": Kind("a chiller starting, stopping or staging", within_s=900.0, only=WATER, latch=False),
    "leak": Kind("water where none belongs", trip_above=_CONTACT),
    "fire": Kind("the fire alarm", trip_above=_CONTACT),
    "epo": Kind("emergency power off", trip_above=_CONTACT),
    "ups_on_battery": Kind("the UPS runs on its battery", trip_above=_CONTACT),
    "generator": Kind("the hall runs on its generator", trip_above=_CONTACT),
    "maintenance": Kind("somebody works here", trip_above=_CONTACT, latch=False),
}  # fmt: skip


class InterlockSection(Section):
    """[[interlock]]: a condition that stops writing. A missing input counts as tripped.

    With temperature and humidity the dew point of that air is compared; with a point as well,
    how far that point is above it.
    """

    id: ID
    kind: str = "value"
    point: str | None = None
    temperature: str | None = None
    humidity: str | None = None
    trip_above: Finite | None = None
    trip_below: Finite | None = None
    for_s: Annotated[float, Field(ge=0, le=86_400)] | None = None
    within_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    scope: Scope = "hall"
    action: Action | None = None
    only: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    latch: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, data: object) -> object:
        """What the kind says, where the file says nothing."""
        if not isinstance(data, dict):
            return data
        kind = KINDS.get(str(data.get("kind", "value")))
        if kind is None:
            raise ValueError(f"kind: {data['kind']!r} is none of {', '.join(KINDS)}")
        missing = [key for key in kind.needs if data.get(key) is None]
        if missing:
            raise ValueError(f"kind {data.get('kind', 'value')!r} needs {', '.join(missing)}")
        given = {"trip_above", "trip_below"} & data.keys()
        bounds = {} if given else {"trip_above": kind.trip_above, "trip_below": kind.trip_below}
        rest = {k: getattr(kind, k) for k in ("for_s", "within_s", "action", "only", "latch")}
        return {**bounds, **rest, **data}

    @model_validator(mode="after")
    def _compares(self) -> Self:
        if self.within_s is None and self.trip_above is None and self.trip_below is None:
            raise ValueError("give trip_above or trip_below, or within_s")
        low, high = self.trip_below, self.trip_above
        if low is not None and high is not None and low > high:
            raise ValueError("trip_below is above trip_above: nothing would be allowed")
        if (self.temperature is None) != (self.humidity is None):
            raise ValueError("a dew point needs temperature and humidity")
        if self.point is None and self.temperature is None:
            raise ValueError("give the point that is compared")
        unknown = [q for q in self.only or () if q not in QUANTITIES]
        if unknown:
            raise ValueError(f"only: unknown quantity {unknown[0]!r}")
        return self


class UnitSection(Section):
    """[[unit]]: one cooling unit, and the state points that say whether it may be counted on.

    running: 1 while it runs. local, alarm, maintenance: 1 while it is so. capacity_kw: its share
    when units of a zone differ.
    """

    equipment: ID
    running: str | None = None
    local: str | None = None
    alarm: str | None = None
    maintenance: str | None = None
    capacity_kw: Annotated[float, Field(gt=0, le=1e5)] = 1.0
