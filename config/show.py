"""The effective configuration for people: as plain values, secrets as references only; and what
giving a writable point back means."""

from dataclasses import asdict
from typing import Any

from config.quantities import SAFE_DIRECTION
from config.site import Device, Point, Site


def show_site(site: Site) -> dict[str, Any]:
    """Return the whole site as JSON values."""
    sections = (
        "agent",
        "loops",
        "limits",
        "ims",
        "mms",
        "optimizer",
        "history",
        "mqtt",
        "api",
        "pair",
    )
    return {
        "site": {"id": site.id, "area": site.area, "timezone": site.timezone, "simulated": site.simulated},
        **{s: v.model_dump(mode="json") for s in sections if (v := getattr(site, s)) is not None},
        "device": [_device(d) for d in site.devices],
        "interlock": [asdict(i) for i in site.interlocks],
        "unit": [asdict(u) for u in site.units],
    }  # fmt: skip


def _device(device: Device) -> dict[str, Any]:
    plain = {
        k: getattr(device, k)
        for k in ("id", "protocol", "host", "port", "url", "unit_id", "write_priority", "timeout_s",
                  "poll_interval_s", "profile", "row", "rack", "zone")
    }  # fmt: skip
    secrets = {
        "auth": device.auth.model_dump(mode="json", exclude_none=True) if device.auth else None,
        "token": device.token.describe() if device.token else None,
    }
    kept = {k: v for k, v in {**plain, **secrets}.items() if v not in (None, "")}
    return kept | {"point": [asdict(p) for p in device.points]}


def given_back(point: Point, device: Device) -> str:
    """What giving this writable point back does, in words."""
    w, unit = point.writable, point.about.unit
    assert w is not None
    if w.relinquish:
        return f"Null at priority {device.write_priority}: whoever is below in its priority array rules again"
    no_slots = "no priority array: "
    if w.safe_value is None:
        return f"{no_slots}what stood before is written again"
    safe = f"{w.safe_value:g} {unit}".strip()
    safer = (
        f"the safer of what stood before and {safe}"
        if SAFE_DIRECTION.get(point.quantity)
        else "what stood before"
    )
    return f"{no_slots}{safer} is written; {safe} when blind, over a limit, or after {w.baseline_max_age_s / 3600:g} h"
