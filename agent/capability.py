"""What devices really offer: by quantity, how many points are found, stale or missing. Pure."""

from collections.abc import Iterable, Mapping

from config.site import Device
from control.types import Quality, Reading

Tally = dict[str, dict[str, int]]


def tally(device: Device, readings: Mapping[str, Reading]) -> Tally:
    """By quantity, how many points are found (good), stale, or missing (whatever the reason)."""
    found: Tally = {}
    for point in device.points:
        row = found.setdefault(point.quantity, {"found": 0, "stale": 0, "missing": 0})
        reading = readings.get(point.key)
        match reading.quality if reading is not None else None:
            case Quality.GOOD:
                row["found"] += 1
            case Quality.STALE:
                row["stale"] += 1
            case _:
                row["missing"] += 1
    return found


def gaps(rows: Tally) -> dict[str, str]:
    """The quantities that are not all there: "2 of 12 missing", "1 of 3 stale"."""
    out = {}
    for quantity, row in rows.items():
        whole = sum(row.values())
        lack = [f"{row[w]} of {whole} {w}" for w in ("missing", "stale") if row[w]]
        if lack:
            out[quantity] = ", ".join(lack)
    return out


def totals(matrix: Iterable[Tally]) -> dict[str, int]:
    """How many points are found, stale and missing in all."""
    rows = [row for device in matrix for row in device.values()]
    return {w: sum(r[w] for r in rows) for w in ("found", "stale", "missing")}
