"""Values of ours as strict JSON: for MQTT, history and the API alike.

Decides what JSON can't say: a number that is not finite becomes null, whatever is not plain data
becomes its text, and what is nested too deep is cut. Must never produce NaN or Infinity, nor fail.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from typing import Any

_DEPTH = 16


def finite(value: float | None) -> float | None:
    """The number, or None where it is none or not finite."""
    return value if value is not None and math.isfinite(value) else None


def plain(value: object, depth: int = _DEPTH) -> Any:
    """`value` in what JSON knows. Dataclasses become objects, sets sorted lists."""
    match value:
        case Enum():
            return plain(value.value, depth)
        case None | bool() | str():
            return value
        case int():
            return value
        case float():
            return finite(float(value))
        case _ if depth <= 0:
            return "..."
        case Mapping():
            return {str(k): plain(v, depth - 1) for k, v in value.items()}
        case list() | tuple():
            return [plain(v, depth - 1) for v in value]
        case set() | frozenset():
            return sorted((plain(v, depth - 1) for v in value), key=str)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {name: plain(v, depth - 1) for name, v in layer(value).items()}
        case _:
            return str(value)


def strict_json(value: object) -> str:
    """`value` as one line of strict JSON."""
    try:  # most values need no copy first
        return _ENCODER.encode(value)
    except (ValueError, TypeError, RecursionError):  # not finite, no name for a key, endless
        return _ENCODER.encode(plain(value))


def _known(value: object) -> Any:
    """What the encoder does not know, one layer of it."""
    if is_dataclass(value) and not isinstance(value, type):
        return layer(value)
    return plain(value)


def layer(value: Any) -> dict[str, Any]:
    """The fields of a dataclass as they are."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


_ENCODER = json.JSONEncoder(default=_known, allow_nan=False, separators=(",", ":"))
