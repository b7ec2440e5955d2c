"""The plant contract, held against what somebody brought: every breach is named with its way out.

Checks shape, points and readings; steps plants for whoever drives them. Never mends a plant: what is not
kept ends the rehearsal with a line, never with a trace.
"""

import importlib
import inspect
import math
import sys
import traceback
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

from agent.plants.site import PlantError, PlantPoint
from config.quantities import QUANTITIES

ATTRIBUTES = ("id", "quantity", "unit", "row", "rack", "writable", "min", "max", "max_step", "baseline")  # fmt: skip
METHODS = ("points", "step", "close")


class Plant(Protocol):
    """What can be rehearsed on. Anyone can bring one; see docs/how-to/bring-a-plant.md."""

    step_s: float

    def points(self) -> Sequence[PlantPoint]:
        """Every reading and knob of the plant."""
        ...

    def step(self, dt_s: float, setpoints: Mapping[str, float]) -> Mapping[str, float]:
        """Advance by dt_s (whole multiples of step_s) with these setpoints held from now on.

        Returns readings at the end of dt_s, powers as their mean over it. StopIteration ends
        the rehearsal normally.
        """
        ...

    def close(self) -> None:
        """Let go of what the plant holds."""
        ...


def made(name: str, target: str, arguments: Mapping[str, str]) -> Plant:
    """The plant that `target` (MODULE:CLASS) makes with these arguments, checked. Raises PlantError
    that begins with --plant `name`."""
    module_name, _, class_name = target.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    kind: Any = None
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
        plant: Plant = kind(**arguments)
    except Exception as error:
        raise PlantError(f"--plant {name!r}: {_told(error)}{_hint(error, module_name, kind)}") from error  # fmt: skip
    try:
        check(plant)
    except PlantError as error:
        closed(plant)
        raise PlantError(f"--plant {name!r}: {error}") from error
    return plant


def _hint(error: Exception, module_name: str, kind: Any) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == module_name.partition(".")[0]:
        return "; it is looked for on PYTHONPATH and in the current folder"
    if isinstance(error, TypeError) and inspect.isclass(kind):
        takes = [n for n in inspect.signature(kind).parameters if n not in ("args", "kwargs")]
        return f"; give --plant-arg NAME=VALUE with one of: {', '.join(takes) or 'none'}"
    return ""


def _told(error: BaseException) -> str:
    """An error of somebody's own code: what, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = frames[-1] if frames else None
    ours = where is None or Path(where.filename).is_relative_to(Path(__file__).parent)
    known = ours or where is None or where.filename.startswith("<")
    place = "" if known or where is None else f" ({Path(where.filename).name}:{where.lineno})"
    return f"{type(error).__name__}: {error}{place}"


def closed(plant: object) -> None:
    """Close a plant that may not know how to."""
    close = getattr(plant, "close", None)
    if callable(close):
        close()


def check(plant: Plant) -> None:
    """Raise PlantError unless it has the members of the contract, and its points are sound."""
    lacks = [m for m in METHODS if not callable(getattr(plant, m, None))]
    if not hasattr(plant, "step_s"):
        lacks.insert(0, "step_s")
    if lacks:
        raise PlantError(f"it has no {', '.join(lacks)}; a plant has step_s, points(), step(dt_s, setpoints) and close()")  # fmt: skip
    if not _number(plant.step_s) or not plant.step_s > 0:
        raise PlantError(f"step_s is {plant.step_s!r}; it must be a number of seconds above 0")
    try:
        points = list(plant.points())
    except Exception as error:
        raise PlantError(f"points(): {_told(error)}") from error
    if not points:
        raise PlantError("points() is empty; it lists every reading and every knob")
    seen: set[str] = set()
    for p in points:
        _check_point(p)
        key = p.id if "/" in p.id else f"plant/{p.id}"
        if key in seen:
            raise PlantError(f"point {p.id!r}: listed twice; ids must differ")
        seen.add(key)


def _check_point(p: PlantPoint) -> None:
    lacks = [a for a in ATTRIBUTES if not hasattr(p, a)]
    name = getattr(p, "id", None)
    if lacks:
        raise PlantError(
            f"point {name!r} has no {', '.join(lacks)}; set what doesn't apply to None"
        )
    if not isinstance(name, str) or not name.strip("/"):
        raise PlantError(f"point {name!r}: id must be text, like 'crac-1/supply'")
    about = QUANTITIES.get(p.quantity)
    if about is None:
        close = get_close_matches(str(p.quantity), QUANTITIES, 1)
        known = f"did you mean {close[0]!r}?" if close else f"one of {', '.join(QUANTITIES)}"
        raise PlantError(f"point {name!r}: unknown quantity {p.quantity!r}; {known}")
    if p.unit != about.unit:
        raise PlantError(f"point {name!r}: {p.quantity} is in {about.unit!r}, not {p.unit!r}")
    if p.writable:
        _check_knob(p)


def _check_knob(p: PlantPoint) -> None:
    for what in ("min", "max"):
        if not _number(getattr(p, what)):
            raise PlantError(f"point {p.id!r}: a writable point needs min and max, finite numbers; {what} is {getattr(p, what)!r}")  # fmt: skip
    assert p.min is not None
    assert p.max is not None
    if p.min > p.max:
        raise PlantError(f"point {p.id!r}: min {p.min:g} is above max {p.max:g}")
    if p.max_step is not None and not (_number(p.max_step) and p.max_step > 0):
        raise PlantError(f"point {p.id!r}: max_step is {p.max_step!r}; a number above 0, or None for a tenth of the range")  # fmt: skip
    if p.baseline is not None and not (_number(p.baseline) and p.min <= p.baseline <= p.max):
        raise PlantError(f"point {p.id!r}: baseline is {p.baseline!r}; a number within {p.min:g}..{p.max:g}, what stands when nobody acts")  # fmt: skip


def _number(value: object) -> bool:
    try:
        return not isinstance(value, str | bytes | bool) and math.isfinite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def stepped(plant: Plant, dt_s: float, setpoints: Mapping[str, float]) -> dict[str, float]:
    """Advance a plant: its readings, those that are None left out. Raises StopIteration at its end,
    PlantError for what it raises and for readings that are no numbers."""
    try:
        readings = plant.step(dt_s, setpoints)
    except (StopIteration, PlantError):
        raise
    except Exception as error:
        raise PlantError(f"step({dt_s:g}, {dict(setpoints)}): {_told(error)}") from error
    if not isinstance(readings, Mapping):
        raise PlantError(f"step() returned {type(readings).__name__}, not a mapping of readings")
    if all(type(v) is float for v in readings.values()):
        return dict(readings)
    try:
        return {k: float(v) for k, v in readings.items() if v is not None}
    except (TypeError, ValueError) as error:
        bad = next(k for k, v in readings.items() if not (v is None or _floats(v)))
        raise PlantError(f"step(): reading {bad!r} is {readings[bad]!r}, not a number; NaN or None where there is none") from error  # fmt: skip


def _floats(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True
