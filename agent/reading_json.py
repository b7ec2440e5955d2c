"""A reading as JSON: the same shape in `once`, MQTT and HTTP."""

from typing import Any

from agent.clock import utc
from config.site import Point
from control.types import Reading


def reading_json(point: Point, reading: Reading) -> dict[str, Any]:
    """One point with its value, unit, quality and UTC time."""
    return {
        "device": point.device,
        "point": point.id,
        "quantity": point.quantity,
        "value": reading.value,
        "unit": point.unit,
        "quality": reading.quality.value,
        "ts": utc(reading.taken_s),
        "reason": reading.reason,
    }
