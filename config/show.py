"""The effective configuration as plain values: defaults filled in, secrets as references only."""

from dataclasses import asdict
from typing import Any

from config.site import Device, Site


def show_site(site: Site) -> dict[str, Any]:
    """Return the whole site as JSON values."""
    sections = ("agent", "loops", "limits", "ims", "mms", "optimizer", "history", "mqtt", "api")
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
