"""Reference controllers: what others do with the same plant, from its readings alone.

Each is a function of readings and time that answers with set points. They act on the physics
directly: no guardrails, no write limits, no journal. They only set a plant's knobs, within
its min and max; none of them runs on a site.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.plants.site import PlantPoint

Readings = Mapping[str, float]
Policy = Callable[[float, Readings], Mapping[str, float]]

# Knobs of cooling and batching a constant or an oracle may set. Not shares and admission: a
# reference must serve the same work as the fixed baseline, and defer none of it.
SEARCHED = (
    "fan_rpm_pct", "pump_rpm_pct", "chilled_water_setpoint_c", "zone_setpoint_c",
    "supply_air_setpoint_c", "batch_window_ms",
)  # fmt: skip
AIR = ("supply_air_setpoint_c", "zone_setpoint_c")


@dataclass(frozen=True, slots=True)
class Group:
    """Knobs that take one value together: one quantity of one row, or of the whole plant."""

    quantity: str
    row: str | None
    ids: tuple[str, ...]
    min: float
    max: float
    baseline: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What a reference knows of a plant: its points, the inlet limit in degC."""

    points: tuple[PlantPoint, ...]
    inlet_max_c: float

    def groups(self, quantities: Iterable[str], by_row: bool) -> list[Group]:
        """The knobs of these quantities, tied over the plant or by row, in that order."""
        found: list[Group] = []
        for quantity in quantities:
            members: dict[str | None, list[PlantPoint]] = {}
            for p in self.points:
                if p.writable and p.quantity == quantity and p.baseline is not None:
                    members.setdefault(p.row if by_row else None, []).append(p)
            found += [_group(quantity, row, ps) for row, ps in members.items()]
        return found

    def ids(self, quantity: str, row: str | None) -> list[str]:
        """Readings of a quantity in a row; of the whole plant where the row has none or is None."""
        all_of = [p for p in self.points if p.quantity == quantity and not p.writable]
        return [p.id for p in all_of if p.row == row and row is not None] or [p.id for p in all_of]

    def probes(self, row: str | None) -> list[str]:
        """What must stay below the limit: inlets, or zones where no inlet is measured."""
        return self.ids("inlet_c", row) or self.ids("zone_c", row)


def fixed(_now_s: float, _readings: Readings) -> Mapping[str, float]:
    """Nobody acts: the plant's own baseline."""
    return {}


def constant(values: Mapping[str, float]) -> Policy:
    """These set points from the first step to the last. values: by point id."""
    return lambda now_s, _readings: values if now_s <= 0.0 else {}


def hourly(schedule: Sequence[Mapping[str, float]]) -> Policy:
    """One set of set points an hour; the last one stands on. schedule: by point id, an hour each."""

    def act(now_s: float, _readings: Readings) -> Mapping[str, float]:
        return schedule[min(int(now_s // 3600.0), len(schedule) - 1)]

    return act


@dataclass(frozen=True, slots=True)
class Reset:
    """One trim-and-respond loop: every so often trim, respond to requests beyond those ignored."""

    every_s: float
    delay_s: float
    trim: float
    respond: float
    respond_most: float
    ignored: int = 0


# ASHRAE Guideline 36-2021, 5.1.14 (trim and respond) with the supply-air numbers of 5.16.2 and the
# chilled-water ones of 5.20.4 (2, 3 and 7 % of the range). No request is ignored: a rack is not
# a VAV box among a hundred, and one that is too warm counts.
_AIR_RESET = Reset(every_s=120.0, delay_s=600.0, trim=0.1, respond=0.2, respond_most=0.6)
_WATER_RESET = Reset(every_s=300.0, delay_s=900.0, trim=0.02, respond=0.03, respond_most=0.07)
_VALVE_FULL_PCT = 95.0  # Guideline 36: a request from 95 % on
_REQUEST_BELOW_LIMIT_K = 2.0  # judgement: requests begin 2 K below the limit, one more each kelvin


def trim_respond(scene: Scene) -> Policy:
    """Guideline 36-style resets of supply air (by row) and chilled water: only ever up by itself."""
    loops = [(g, _AIR_RESET, 1.0) for g in scene.groups(AIR, by_row=True)]
    loops += [
        (g, _WATER_RESET, g.max - g.min)
        for g in scene.groups(("chilled_water_setpoint_c",), by_row=False)
    ]
    held = {g.ids: g.baseline for g, _, _ in loops}
    done: dict[tuple[str, ...], float] = {}

    def act(now_s: float, readings: Readings) -> Mapping[str, float]:
        changes: dict[str, float] = {}
        for group, reset, span in loops:
            last_s = done.setdefault(group.ids, reset.delay_s - reset.every_s)
            turns = int((now_s - last_s) // reset.every_s)
            if turns < 1:
                continue
            done[group.ids] = last_s + turns * reset.every_s
            over = max(0, _requests(scene, group, readings) - reset.ignored)
            each = -min(reset.respond * over, reset.respond_most) if over else reset.trim
            value = held[group.ids] + turns * each * span
            held[group.ids] = min(group.max, max(group.min, value))
            changes |= dict.fromkeys(group.ids, held[group.ids])
        return changes

    return act


def _requests(scene: Scene, group: Group, readings: Readings) -> int:
    if group.quantity in AIR:
        start_c = scene.inlet_max_c - _REQUEST_BELOW_LIMIT_K
        warm = (v - start_c for v in _good(readings, scene.probes(group.row)))
        return sum(min(3, 1 + int(k)) for k in warm if k > 0.0)
    valves = _good(readings, scene.ids("valve_pct", None))
    return sum(v >= _VALVE_FULL_PCT for v in valves)


# PI in velocity form: gain and reset time are judgement for a hall whose inlets follow supply air
# one to one within minutes; no derivative, as probes are noisy. The target leaves room for one step.
_PID_GAIN = 0.4
_PID_RESET_S = 1200.0
_PID_BELOW_LIMIT_K = 1.5


def pid(scene: Scene) -> Policy:
    """Each row's supply air by the error of its worst inlet; blind, it stays where it is."""
    groups = scene.groups(AIR, by_row=True)
    held = {g.ids: g.baseline for g in groups}
    before: dict[tuple[str, ...], tuple[float, float]] = {}

    def act(now_s: float, readings: Readings) -> Mapping[str, float]:
        changes: dict[str, float] = {}
        for group in groups:
            known = _good(readings, scene.probes(group.row))
            if not known:
                continue
            error = scene.inlet_max_c - _PID_BELOW_LIMIT_K - max(known)
            last_s, last_error = before.get(group.ids, (now_s, error))
            before[group.ids] = (now_s, error)
            move = _PID_GAIN * (error - last_error + error * (now_s - last_s) / _PID_RESET_S)
            held[group.ids] = min(group.max, max(group.min, held[group.ids] + move))
            changes |= dict.fromkeys(group.ids, held[group.ids])
        return changes

    return act


def _good(readings: Readings, ids: Iterable[str]) -> list[float]:
    return [v for i in ids if (v := readings.get(i)) is not None and math.isfinite(v)]


def _group(quantity: str, row: str | None, points: Sequence[PlantPoint]) -> Group:
    lows = [float(p.min) for p in points if p.min is not None]
    highs = [float(p.max) for p in points if p.max is not None]
    baselines = [float(p.baseline) for p in points if p.baseline is not None]
    return Group(
        quantity, row, tuple(p.id for p in points), max(lows), min(highs),
        sum(baselines) / len(baselines),
    )  # fmt: skip
