"""What differs between two versions of a site, and what of it may change while the agent runs.

Pure. The envelope can only become narrower: what would let the agent do more (a wider bound, a
new writable point, a looser interlock, a higher mode) or move what it writes to takes a restart.
Everything else may be swapped. All or nothing is the caller's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from pydantic import BaseModel

from config.site import Device, Point, Site

DOWN, UP, ANY, RESTART = "down", "up", "any", "restart"

# key -> which way it may change. What is not listed in a table takes a restart.
LIMITS = {
    "inlet_max_c": DOWN, "latency_p95_max_ms": DOWN, "rack_max_kw": DOWN, "write_interval_s": UP,
    "release_after_s": DOWN, "lease_s": DOWN, "permit_s": DOWN, "max_changes_at_once": DOWN,
    "baseline_max_age_s": DOWN, "unit_loss_inlet_max_c": DOWN, "zone_spread_max_k": DOWN,
    "ramp_back_s": UP,
}  # fmt: skip
WRITABLE = {
    "min": UP, "max": DOWN, "max_step": DOWN, "deadband": ANY, "min_interval_s": UP, "settle_s": ANY,
    "max_writes_per_day": DOWN, "baseline_max_age_s": DOWN,
}  # fmt: skip
INTERLOCK = {"trip_above": DOWN, "trip_below": UP, "for_s": DOWN}
AGENT = {"poll_interval_s": ANY, "stale_after_s": ANY, "include": ANY}  # ages: see AGES
AGES = {"max_age_s": DOWN, "max_slew_per_s": UP}  # how long a reading is believed
API = {"tokens": ANY, "hosts": ANY}
HISTORY = {"keep_days": ANY, "min_interval_s": ANY}
# Of a device that is written to: how it is asked, not where it is.
MANNERS = {
    "poll_interval_s": ANY, "timeout_s": ANY, "max_registers": ANY, "max_gap": ANY, "no_read": ANY,
    "pause_ms": ANY, "cov_lifetime_s": ANY, "points": ANY,
}  # fmt: skip
FREE = ("loops", "ims", "mms", "optimizer")  # sections that may change as they like


@dataclass(frozen=True, slots=True)
class Change:
    """One key that differs. `refused`: why it can't change while the agent runs, or empty."""

    key: str
    old: Any
    new: Any
    refused: str = ""

    def __str__(self) -> str:
        why = f": {self.refused}" if self.refused else ""
        return f"{self.key}: {_shown(self.old)} -> {_shown(self.new)}{why}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All changes between two sites, and which devices are to be spoken to anew."""

    changes: tuple[Change, ...]
    devices: frozenset[str]

    @property
    def refused(self) -> tuple[Change, ...]:
        """Those that take a restart."""
        return tuple(c for c in self.changes if c.refused)


def compare(old: Site, new: Site) -> Comparison:
    """What a reload would change."""
    before, after = old.device, new.device
    changed = {d for d in {*before, *after} if before.get(d) != after.get(d)}
    found = [*_sections(old, new), *_interlocks(old, new)]
    for name in sorted(changed):
        found += _device(name, before.get(name), after.get(name))
    return Comparison(tuple(found), frozenset(changed))


def _sections(old: Site, new: Site) -> Iterator[Change]:
    for name in ("id", "area", "simulated"):
        yield from _one(f"site.{name}", getattr(old, name), getattr(new, name), RESTART)
    yield from _one("site.timezone", old.timezone, new.timezone, ANY)
    yield from _mode(old, new)
    rules: dict[str, Mapping[str, str]] = {"limits": LIMITS, "history": HISTORY, "agent": AGENT}
    for name, rule in rules.items():
        yield from _keys(name, getattr(old, name), getattr(new, name), rule, ("mode", "armed"))
    for name in FREE:
        yield from _keys(name, getattr(old, name), getattr(new, name), None)
    for name, rule in {"api": API, "mqtt": {}}.items():
        a, b = getattr(old, name), getattr(new, name)
        if a is None or b is None:
            yield from _one(name, _is(a), _is(b), RESTART)
        else:
            yield from _keys(name, a, b, rule)
    yield from _one("unit", old.units, new.units, RESTART)


def _mode(old: Site, new: Site) -> Iterator[Change]:
    a, b = old.agent, new.agent
    if a.mode != b.mode:
        raising = "raising the mode takes a restart" if b.mode == "closed_loop" else ""
        yield Change("agent.mode", a.mode, b.mode, raising)
    if set(a.armed) != set(b.armed):
        wider = "hall" not in a.armed and not set(b.armed) <= set(a.armed)
        yield Change(
            "agent.armed", a.armed, b.armed, "arming more takes a restart" if wider else ""
        )


def _interlocks(old: Site, new: Site) -> Iterator[Change]:
    before = {i.id: i for i in old.interlocks}
    after = {i.id: i for i in new.interlocks}
    for name in sorted({*before, *after}):
        a, b = before.get(name), after.get(name)
        if a is None or b is None:
            gone = "removing an interlock takes a restart" if b is None else ""
            yield Change(f"interlock {name}", _is(a), _is(b), gone)
        else:
            yield from _keys(f"interlock {name}", a, b, INTERLOCK)


def _device(name: str, a: Device | None, b: Device | None) -> Iterator[Change]:
    place = f"device {name}"
    if a is None or b is None:
        yield Change(place, _is(a), _is(b))
    else:
        written = any(p.writable for p in (*a.points, *b.points))
        yield from _keys(place, a, b, MANNERS if written else None, ("points",))
    before = {p.key: p for p in (a.points if a else ())}
    after = {p.key: p for p in (b.points if b else ())}
    for key in sorted({*before, *after}):
        yield from _point(f"point {key}", before.get(key), after.get(key))


def _point(place: str, a: Point | None, b: Point | None) -> Iterator[Change]:
    if a is None or b is None:
        new = b is not None and b.writable is not None
        why = "a new writable point takes a restart" if new else ""
        yield Change(place, _is(a), _is(b), why)
        return
    rule = dict.fromkeys((f.name for f in fields(Point)), ANY) if a.writable is None else {}
    yield from _keys(place, a, b, {**rule, **AGES}, ("writable",))
    if a.writable is None and b.writable is not None:
        yield Change(f"{place}.writable", False, True, "a new writable point takes a restart")
    elif a.writable is not None and b.writable is None:
        yield Change(f"{place}.writable", True, False)
    elif a.writable is not None:
        yield from _keys(place, a.writable, b.writable, WRITABLE)


def _keys(
    place: str, old: Any, new: Any, rules: Mapping[str, str] | None, skip: tuple[str, ...] = ()
) -> Iterator[Change]:
    """The fields of two objects of one kind that differ. No rules: all may change."""
    if is_dataclass(old):
        names = [f.name for f in fields(old)]
    else:
        assert isinstance(old, BaseModel)
        names = list(type(old).model_fields)
    for name in names:
        if name not in skip:
            rule = ANY if rules is None else rules.get(name, RESTART)
            yield from _one(f"{place}.{name}", getattr(old, name), getattr(new, name), rule)


def _one(key: str, old: Any, new: Any, rule: str) -> Iterator[Change]:
    if old != new:
        yield Change(key, old, new, _refusal(old, new, rule))


def _refusal(old: Any, new: Any, rule: str) -> str:
    if rule == ANY:
        return ""
    if rule == RESTART:
        return "takes a restart"
    # A bound that was not there before is narrower; one that is gone is wider.
    if old is None:
        return ""
    wider = new is None or (new > old if rule == DOWN else new < old)
    return "wider than it runs with: takes a restart" if wider else ""


def _is(there: object) -> str:
    return "none" if there is None else "there"


def _shown(value: Any) -> str:
    """A value for people: short, and never a secret's content (references show no more)."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
