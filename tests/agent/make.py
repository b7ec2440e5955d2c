"""Sites for the agent's tests, small and without a file."""

from typing import Any

from config.addresses import NamedAddress
from config.schema import (
    AgentSection,
    HistorySection,
    ImsSection,
    LimitsSection,
    LoopsSection,
    MmsSection,
    MqttSection,
    OptimizerSection,
)
from config.site import Device, Point, Site
from control.types import Quality, Reading


def point(device: str, id_: str, quantity: str = "inlet_c", **more: Any) -> Point:
    """A pushed point."""
    return Point(
        key=f"{device}/{id_}", device=device, id=id_, quantity=quantity, unit="",
        address=NamedAddress(id_), equipment=device, **more,
    )  # fmt: skip


def site(data_dir: object = "/nonexistent", **more: Any) -> Site:
    """Two devices: "rack-a01" with an inlet and a PDU, "crac-a1" with a supply temperature.

    history_url, history_password, keep_days and mqtt go to their sections.
    """
    rack = [point("rack-a01", "inlet_c", rack="A01", row="A"),
            point("rack-a01", "pdu_kw", "pdu_kw", rack="A01", row="A")]  # fmt: skip
    crac = [point("crac-a1", "supply_air_c", "supply_air_c", row="A")]
    history = {
        k: more.pop(k) for k in ("url", "password", "keep_days", "max_gb", "spool_mb") if k in more
    }
    mqtt = more.pop("mqtt", None)
    return Site(
        id=more.pop("id", "ber1"), area=more.pop("area", "hall-a"), timezone="UTC",
        agent=AgentSection(data_dir=str(data_dir)), loops=LoopsSection(), limits=LimitsSection(),
        ims=ImsSection(), mms=MmsSection(), optimizer=OptimizerSection(),
        history=HistorySection(**history), mqtt=MqttSection(**mqtt) if mqtt else None, api=None,
        devices=(Device(id="rack-a01", protocol="push", points=tuple(rack)),
                 Device(id="crac-a1", protocol="push", points=tuple(crac))),
        **more,
    )  # fmt: skip


def reading(
    key: str, value: float | None, taken_s: float, quality: Quality = Quality.GOOD
) -> Reading:
    """A polled reading."""
    return Reading(key, value, taken_s, quality)
