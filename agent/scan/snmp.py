"""Looks at one SNMP device, gently and read only, and says what it is and what it offers.

One request at a time, GETBULK of moderate size, only the subtrees that profiles name.
Decides which profile fits (the longest sysObjectID, then what else its [match] asks for);
expanding tables is agent.scan.tables'. It never writes and never guesses.
"""

import re
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from agent.scan.tables import Expansion, Rows, column_of, columns_of, expand, for_device
from config.addressing import parse_oid
from config.library import Profile, profiles_of
from config.profile_schema import TableSection
from drivers.contract import Transient
from drivers.snmp import text_of
from drivers.snmp_ber import Absent, Garbled, Oid, Value, encode_oid
from drivers.snmp_session import Session, Status, TimedOut

SYS_DESCR, SYS_OBJECT_ID = (1, 3, 6, 1, 2, 1, 1, 1, 0), (1, 3, 6, 1, 2, 1, 1, 2, 0)
SYS_NAME, SYS_LOCATION = (1, 3, 6, 1, 2, 1, 1, 5, 0), (1, 3, 6, 1, 2, 1, 1, 6, 0)
ENTERPRISES = (1, 3, 6, 1, 4, 1)
SOFTWARE = ("8072", "2021")  # net-snmp and its forerunner: the agent's name, not the device's
MAX_VENDORS = 16
REPETITIONS = 20
MAX_ROWS = 5_000


@dataclass(slots=True)
class Scanned:
    """What a device says of itself, and what the scan made of it."""

    descr: str
    object_id: str
    name: str
    location: str = ""  # where somebody once wrote that it stands
    profile: Profile | None = None
    found: Expansion = field(default_factory=Expansion)
    requests: int = 0
    related: bool = False  # the vendor is known, the model is not: its tables were found


class Asks(Protocol):
    """What a scan needs of a session."""

    async def get(self, oids: list[bytes]) -> list[Value]:
        """Read encoded OIDs."""
        ...

    async def next(self, oid: Oid, repetitions: int) -> list[tuple[Oid, Value]]:
        """What follows an OID."""
        ...


class Walker:
    """Walks columns of one device, each at most once."""

    def __init__(self, session: Asks) -> None:
        self.session = session
        self.columns: dict[str, Rows] = {}
        self._repetitions = REPETITIONS

    async def column(self, column: str, limit: int = MAX_ROWS) -> Rows:
        """All instances below `column`, by index. Raises DriverError when the device is gone."""
        if column not in self.columns:
            self.columns[column] = await self._walk(parse_oid(column), limit)
        return self.columns[column]

    async def _walk(self, base: Oid, limit: int) -> Rows:
        rows: dict[Oid, Value] = {}
        at = base
        while len(rows) < limit:
            batch = await self.after(at)
            for oid, value in batch:
                if value is Absent.END_OF_MIB or oid[: len(base)] != base:
                    return rows
                if oid <= at:  # an agent that goes in circles
                    return rows
                at = oid
                rows[oid[len(base) :]] = value
            if not batch:
                return rows
        return rows

    async def after(self, at: Oid) -> list[tuple[Oid, Value]]:
        """What follows, in ever smaller requests where the device can't bear them."""
        lost = 0
        while True:
            try:
                return await self.session.next(at, self._repetitions)
            except (TimedOut, Garbled, Status) as error:
                lost += 1
                if isinstance(error, Status) and self._repetitions == 1:
                    return []
                if lost > 3 or (lost > 1 and self._repetitions == 1):
                    if isinstance(error, TimedOut):
                        raise
                    raise Transient(f"{error}; the walk at {'.'.join(map(str, at))}") from None
                self._repetitions = max(1, self._repetitions // 4)

    async def has(self, column: str) -> bool:
        """Whether anything stands below `column`: one request."""
        if column in self.columns:
            return bool(self.columns[column])
        base = parse_oid(column)
        rows = await self.after(base)
        return (
            bool(rows) and rows[0][0][: len(base)] == base and rows[0][1] is not Absent.END_OF_MIB
        )


async def identify(session: Asks) -> Scanned:
    """Ask a device who it is. Raises DriverError when it does not answer."""
    oids = [encode_oid(o) for o in (SYS_DESCR, SYS_OBJECT_ID, SYS_NAME, SYS_LOCATION)]
    descr, object_id, name, location = map(text_of, await _gently(session, oids))
    return Scanned(descr, object_id, name, location)


async def _gently(session: Asks, oids: list[bytes]) -> list[Value]:
    """Read a few OIDs together, or one by one where an old agent can't."""
    try:
        return await session.get(oids)
    except (Status, Garbled):
        pass  # v1 agents refuse the whole request for one absent object
    except TimedOut:
        await session.get(oids[1:2])  # silent to the sole sysObjectID too: it is not there
    found: list[Value] = []
    for oid in oids:
        try:
            found += await session.get([oid])
        except (Status, Garbled):
            found.append(Absent.NO_SUCH_OBJECT)
    return found


async def choose(walker: Walker, device: Scanned) -> list[Profile]:
    """The profiles whose [match] fits, the most specific first."""
    fitting: list[tuple[tuple[int, bool, int], Profile]] = []  # best: longest, then most tables
    for profile in profiles_of("snmp"):
        match = profile.match
        if not (match.sys_object_id or match.has or match.sys_descr):
            continue
        length = max((_prefix(o, device.object_id) for o in match.sys_object_id), default=0)
        if match.sys_object_id and not length:
            continue
        if match.sys_descr and not re.search(match.sys_descr, device.descr, re.IGNORECASE):
            continue
        fitting.append(((length, match.sys_descr is not None, len(profile.tables)), profile))
    fitting.sort(key=lambda item: item[0], reverse=True)
    return [
        p
        for _, p in fitting
        if not p.match.has
        or any([await walker.has(c.replace("{device}", device.object_id)) for c in p.match.has])
    ]


def _prefix(wanted: str, is_: str) -> int:
    """How many characters of sysObjectID a profile's prefix covers; 0 when it does not fit."""
    return len(wanted) if is_ == wanted or is_.startswith(wanted + ".") else 0


async def collect(walker: Walker, tables: tuple[TableSection, ...]) -> Expansion:
    """Walk what tables need and expand them."""
    for table in tables:
        if table.unless is not None:
            await walker.column(table.unless)
        if await walker.column(table.oid):
            for column in columns_of(table):
                await walker.column(column_of(column))
    return expand(tables, walker.columns)


async def relatives(walker: Walker, device: Scanned) -> list[Profile]:
    """Profiles of the same vendor's other models whose tables the device has.

    Vendors number models faster than anybody can list them, and keep their MIBs. A table below
    the vendor's arc means the same on each of them, so nothing is guessed. An agent that gives
    its software's number, or none, is its vendors' whose tables it has.
    """
    vendor = _vendor(device.object_id)
    vendors = {vendor} if vendor not in (None, *SOFTWARE) else await _vendors(walker)
    found: list[Profile] = []
    for profile in profiles_of("snmp"):
        match = profile.match
        if vendors.isdisjoint(map(_vendor, match.sys_object_id)):
            continue
        if not match.has or any([await walker.has(c) for c in match.has if c[0] != "{"]):
            found.append(profile)
    return found


async def _vendors(walker: Walker) -> set[str | None]:
    """The enterprises that something stands below: one request each, and no more than a few."""
    found: set[str | None] = set()
    at: Oid = ENTERPRISES
    while len(found) < MAX_VENDORS and (rows := await walker.after(at)):
        oid, value = rows[0]
        if value is Absent.END_OF_MIB or oid <= at or oid[:6] != ENTERPRISES or len(oid) < 8:
            break
        found.add(str(oid[6]))
        at = (*ENTERPRISES, oid[6] + 1)
    return found - set(SOFTWARE)


def _vendor(object_id: str) -> str | None:
    """The enterprise's number, 1.3.6.1.4.1.N (RFC 2578, private enterprise numbers)."""
    arcs = object_id.split(".")
    return arcs[6] if arcs[:6] == ["1", "3", "6", "1", "4", "1"] and len(arcs) > 6 else None


async def scan(session: Session) -> Scanned:
    """Identify a device and expand the first fitting profile that finds points.

    Where none that names the model does, the tables of all its relatives are read, with those of
    the standard MIBs; the profile that finds most gives its name.
    """
    device = await identify(session)
    walker = Walker(session)
    chosen = await choose(walker, device)
    standard = [p for p in chosen if not p.match.sys_object_id]
    for profile in (p for p in chosen if p.match.sys_object_id):
        await _try(walker, device, profile)
        if device.found.points:
            break
    if not device.found.points:
        for profile in (related := [p for p in await relatives(walker, device) if p not in chosen]):
            device.related |= await _try(walker, device, profile)
        if device.related and device.profile is not None:
            all_tables = (device.profile.tables, *(p.tables for p in (*related, *standard)))
            tables = for_device(chain(*all_tables), device.object_id)
            device.found = await collect(walker, tables)
    for profile in standard:
        if not device.found.points:
            await _try(walker, device, profile)
    device.requests = session.requests
    return device


async def _try(walker: Walker, device: Scanned, profile: Profile) -> bool:
    """Expand a profile; it is the device's if it finds more than the one before."""
    found = await collect(walker, for_device(profile.tables, device.object_id))
    fits = len(found.points) > len(device.found.points)
    if fits or (device.profile is None and _named(profile, device)):
        device.profile, device.found = profile, found
    return fits


def _named(profile: Profile, device: Scanned) -> bool:
    return any(_prefix(o, device.object_id) for o in profile.match.sys_object_id)
