"""What the doctor sees of the devices, and of every point that may be written.

Looks through the running agent's eyes, or reads the devices once where none runs; asks no device
to change.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.audit import read_kept, write_counts
from agent.capability import Tally, gaps, tally
from agent.clock import WallClock
from agent.doctor.examine import Note
from agent.memory import COMMISSIONED, not_commissioned, still_commissioned
from config.show import given_back
from config.site import Site
from drivers.gate import JournalError

DAY_S = 86_400.0
NO_PERMISSION = "Operation not permitted"


@dataclass(frozen=True, slots=True)
class Field:
    """What was seen of the devices: by device what it offers and why it is silent ("": it is not),
    who looked, and which BACnet points turned out to have no priority array."""

    offers: Mapping[str, Tally]
    silent: Mapping[str, str]
    source: str
    slotless: frozenset[str] = frozenset()


def field(site: Site, seen: Field) -> Iterator[Note]:
    """What can be seen of the devices: silence, gaps."""
    for device, why in seen.silent.items():
        address = site.device[device].address if device in site.device else ""
        way_out = "look at its power, cable and address; skadi read --direct asks it again"
        if NO_PERMISSION in why:
            way_out = f"systemd's IP rules block it: skadi init {site.source} --drop-in PATH opens what the site needs"
        yield Note(
            "silent",
            "device",
            f"{device} at {address}: {why.removeprefix(f'{address}: ')}",
            way_out,
        )
    for device, offers in seen.offers.items():
        if device not in seen.silent and (lacking := gaps(offers)):
            text = "; ".join(f"{quantity}: {what}" for quantity, what in lacking.items())
            yield Note(
                "note", "device", f"{device} lacks {text}", "skadi read names the points and why"
            )
    answering = len(seen.offers) - len(seen.silent)
    yield Note("ok", "device", f"{answering} of {len(seen.offers)} answer, from {seen.source}")


@dataclass(frozen=True, slots=True)
class Knob:
    """A point that may be written: what giving it back means, and how often it was written."""

    given_back: str
    today: int
    ever: int
    most: int


def knobs(site: Site, now_s: float) -> dict[str, Knob]:
    """Every writable point. Counts are 0 where the journal can't be read: it has notes of its own."""
    path = Path(site.agent.data_dir) / "journal.db"
    try:
        counts = write_counts(path, now_s - DAY_S) if path.exists() else {}
    except (JournalError, OSError):
        counts = {}
    return {
        key: Knob(
            given_back(p, site.device[p.device]),
            *counts.get(key, (0, 0)),
            p.limits.max_writes_per_day,
        )
        for key, p in site.writable_points.items()
    }


def writing(site: Site, seen: Field, table: Mapping[str, Knob]) -> Iterator[Note]:
    """What concerns the points that may be written."""
    meanings: dict[str, list[str]] = {}
    for key, knob in table.items():
        meanings.setdefault(knob.given_back, []).append(key)
    for meaning, keys in meanings.items():
        yield Note("note", "giving back", f"{', '.join(keys)}: {meaning}")
    for key, knob in table.items():
        if knob.ever:
            full = knob.today >= knob.most
            yield Note("bad" if full else "ok", "writes", f"{key}: {knob.today} of {knob.most} today, {knob.ever} in all",
                       "today's writes are used up: max_writes_per_day spares the controller" if full else "")  # fmt: skip
    for key in sorted(seen.slotless):
        yield Note("bad", "giving back", f"{key} has no priority array on its device: Null can't give it back",
                   "set relinquish = false and a safe_value")  # fmt: skip
    path = Path(site.agent.data_dir) / "journal.db"
    try:
        tried = still_commissioned(site, read_kept(path, COMMISSIONED) or {})
    except (JournalError, OSError):
        tried = frozenset()
    if untried := not_commissioned(site, tried):
        yield Note("bad", "commissioning", f"not tried, hence left alone by closed_loop: {', '.join(untried)}",
                   "skadi commission POINT, one by one")  # fmt: skip
    yield from _dark(site)


def _dark(site: Site) -> Iterator[Note]:
    """P5: what keeps our value for as long as the host has no power."""
    alone = [k for k, p in site.writable_points.items() if site.device[p.device].heartbeat is None]
    if alone:
        yield Note("note", "dark host", f"nothing but Skadi gives these back while the host is dark: {', '.join(alone)}",
                   "where a device can watch a heartbeat, set device.heartbeat; else keep their envelopes"
                   " where the hall is safe")  # fmt: skip
    for device in (d for d in site.devices if d.heartbeat is not None):
        yield Note(
            "ok",
            "dark host",
            f"{device.id} falls back by itself when its heartbeat {device.heartbeat} stops",
        )


async def look(site: Site, running: list[dict[str, Any]] | None) -> Field:
    """See the devices through the running agent's eyes, or read them once."""
    if running is not None:
        return Field(
            {d["device"]: d["quantities"] for d in running},
            {d["device"]: d["reason"] for d in running if d["failing"]},
            "the running agent",
        )
    from agent.once import read_all

    readings, failures = await read_all(site)
    by_point = {r.point: r for r in readings}
    offers = {d.id: tally(d, by_point) for d in site.devices}
    return Field(offers, failures, "the devices", await _slotless(site, failures))


async def _slotless(site: Site, silent: Mapping[str, str]) -> frozenset[str]:
    """The points that should have a priority array and, as their devices say, have none."""
    from agent.run import environment
    from drivers.contract import DriverError
    from drivers.registry import make_driver

    found: set[str] = set()
    for device in site.devices:
        points = [p for p in device.points if p.writable is not None and p.writable.relinquish]
        if not points or device.id in silent:
            continue
        driver = None
        try:
            driver = make_driver(device, environment(site))
            present = await driver.present(points)
            found |= {k for k, p in present.items() if p.slots is False}
        except DriverError:
            continue  # answered once and not now: the next look says so
        finally:
            if driver is not None:
                await driver.close()
    return frozenset(found)


def now_s() -> float:
    """The wall clock."""
    return WallClock().now_s()
