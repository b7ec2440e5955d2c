"""JSON from outside: sized first, then strictly parsed. For HTTP bodies and MQTT commands alike.

Decides what counts as JSON: no NaN or Infinity, no number beyond a double, no key twice, no
nesting that exhausts the stack. `json.loads` accepts the first three and raises RecursionError
on the last (found by running it, Python 3.11). Must never parse what it has not measured.
"""

import json
import math
from typing import Any


class BadJson(ValueError):
    """Not JSON that is accepted; the message says why."""


def loads(raw: bytes, most_bytes: int) -> Any:
    """The value behind `raw`. Raises BadJson."""
    if len(raw) > most_bytes:
        raise BadJson(f"{len(raw)} bytes; at most {most_bytes} are taken")
    try:
        return json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except RecursionError:
        raise BadJson("nested too deep") from None
    except UnicodeDecodeError:
        raise BadJson("not UTF-8") from None
    except BadJson:
        raise
    except ValueError as error:
        raise BadJson(f"not JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [k for k, _ in pairs]
        raise BadJson(f"key {next(k for k in names if names.count(k) > 1)[:64]!r} stands twice")
    return found


def _constant(name: str) -> float:
    raise BadJson(f"{name} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadJson(f"{text[:32]} is beyond a double")
    return value


def _int(text: str) -> int:
    if len(text) > 20:
        raise BadJson(f"{text[:32]} is beyond an integer")
    return int(text)
