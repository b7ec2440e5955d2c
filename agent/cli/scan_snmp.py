"""`skadi scan snmp TARGET...`: nothing but TOML on stdout, everything for people on stderr.

A secret given here never reaches the output: the site file refers to the environment.
"""

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from agent.cli.exits import Exit, fail
from agent.cli.options import json_option
from agent.cli.scan import say, show
from agent.scan.snmp import Scanned, Walker, scan
from agent.scan.tables import Found
from agent.scan.toml import Entry
from agent.scan.unknown import candidates
from config.loader import site_environment
from config.schema import AuthSection
from config.secrets import SecretRef
from config.site import Device
from drivers.contract import DriverError
from drivers.snmp import session_of

COMMUNITY, AUTH, PRIV = "SKADI_SNMP_COMMUNITY", "SKADI_SNMP_AUTH", "SKADI_SNMP_PRIV"
DEFAULT_PORT = 161
# What an unknown device surely has: ticks of 10 ms since it started, with no meaning beyond that.
UPTIME = Found("uptime", "state", "1.3.6.1.2.1.1.3.0", "", label="sysUpTime: it answers")


@dataclass(frozen=True, slots=True)
class Access:
    """How to speak to the targets: the site file's `auth`, and the environment behind it."""

    auth: AuthSection
    keys: dict[str, object]
    environ: dict[str, str]


@click.command()
@json_option
@click.argument("targets", nargs=-1, required=True, metavar="HOST[:PORT]...")
@click.option("--community", envvar=COMMUNITY, help=f"v1 or v2c community (or ${COMMUNITY}).")
@click.option("--v1", is_flag=True, help="Speak v1, for devices that know nothing else.")
@click.option("--user", help=f"v3 user; passwords come from ${AUTH} and ${PRIV}.")
@click.option("--auth", "signing", default="sha256", show_default=True, help="v3 signature.")
@click.option("--priv", "hiding", default="aes128", show_default=True, help="v3 encryption.")
@click.option("--rack", help="Where the one target stands: written once, for all of its points.")
@click.option("--row", help="The row it belongs to.")
@click.option("--timeout", "timeout_s", default=2.0, show_default=True, help="Seconds a request.")
def snmp(
    targets: tuple[str, ...], community: str | None, v1: bool, user: str | None, signing: str,
    hiding: str, rack: str | None, row: str | None, timeout_s: float, as_json: bool,
) -> None:  # fmt: skip
    """Find out what SNMP devices are and print a site file for them."""
    environ = site_environment(Path("site.toml"), os.environ)  # a .env in this folder counts
    community = community or environ.get(COMMUNITY)
    if user is None and not community:
        fail(
            f"give --community NAME, or --user for v3 (or set {COMMUNITY}, here or in .env)",
            Exit.USAGE,
        )
    access = _v3(user, signing, hiding, environ) if user else _community(community or "", v1)
    places = [_place(target) for target in targets]
    stands = {k: v for k, v in (("rack", rack), ("row", row)) if v}
    if stands and len(places) > 1:
        fail("--rack and --row are for one target; set them in the file for several", Exit.USAGE)
    entries, lost = asyncio.run(_scan_all(places, access, timeout_s, stands))
    show(entries, as_json)
    if lost:
        raise click.exceptions.Exit(int(Exit.UNREACHABLE))


def _community(community: str, v1: bool) -> Access:
    version = "1" if v1 else "2c"
    auth = AuthSection(version="1" if v1 else "2c", community=SecretRef(env=COMMUNITY))
    keys: dict[str, object] = {"version": version, "community": {"env": COMMUNITY}}
    say(f"the community is not written: the file reads it from ${COMMUNITY}; set it before `once`")
    return Access(auth, keys, {COMMUNITY: community})


def _v3(user: str, signing: str, hiding: str, environ: dict[str, str]) -> Access:
    keys: dict[str, object] = {"version": "3", "user": user}
    if environ.get(AUTH):
        keys |= {"auth_protocol": signing, "auth_password": {"env": AUTH}}
        if environ.get(PRIV):
            keys |= {"priv_protocol": hiding, "priv_password": {"env": PRIV}}
        say(f"passwords are not written: the file reads them from ${AUTH} and ${PRIV}")
    else:
        say(f"${AUTH} is not set: scanning without a password")
    try:
        auth = AuthSection.model_validate(keys)
    except ValueError:
        fail(
            f"--auth {signing} or --priv {hiding}: see `skadi schema config` for the names",
            Exit.USAGE,
        )
    return Access(auth, keys, environ)


def _place(target: str) -> tuple[str, int]:
    """HOST, HOST:PORT, [V6] or [V6]:PORT."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s\[\]:/]+))(?::(\d{1,5}))?", target)
    port = int(match[3]) if match and match[3] else DEFAULT_PORT
    if match is None or not 1 <= port <= 65_535:
        fail(f"{target!r} is not like 10.20.1.1, pdu-a:161 or [fd00::1]:161", Exit.USAGE)
    return match[1] or match[2], port


async def _scan_all(
    places: list[tuple[str, int]],
    access: Access,
    timeout_s: float,
    stands: Mapping[str, str] = MappingProxyType({}),
) -> tuple[list[Entry], int]:
    """Scan one target after the other. Returns entries, and how many did not answer."""
    entries: list[Entry] = []
    ids: set[str] = set()
    lost = 0
    for host, port in places:
        device = Device("scan", "snmp", (), host=host, port=port, timeout_s=timeout_s,
                        auth=access.auth)  # fmt: skip
        session = session_of(device, access.environ)
        try:
            found = await scan(session)
            lines = []
            if found.profile is None or not found.profile.match.sys_object_id:
                lines = await candidates(Walker(session), found.object_id)
        except DriverError as error:
            where = f"{host}:{port}"
            say(str(error) if where in str(error) else f"{where}: {error}")
            lost += 1
            continue
        finally:
            session.close()
        _tell(host, port, found)
        entry = _entry(host, port, found, access, ids, lines)
        entries.append(replace(entry, **_place_of(found, stands, entry.keys)))
    return entries, lost


def _tell(host: str, port: int, found: Scanned) -> None:
    """Say on stderr what the device is and what was left out."""
    where = f"{host}:{port}"
    if found.profile is None:
        say(f"{where}: unknown device ({found.object_id}: {found.descr[:60]!r}); "
             "its numbers stand as candidates in comments: confirm what they are")  # fmt: skip
    elif not found.profile.match.sys_object_id:
        say(f"{where}: unknown device ({found.object_id}: {found.descr[:60]!r}); it speaks "
             f"{found.profile.about.title}: confirm its points")  # fmt: skip
    else:
        say(f"{where}: {found.profile.name}: {found.profile.about.title}")
        if found.related:
            say(f"{where}: the model ({found.object_id}) is none that the profile names; the "
                 "vendor's tables are there: confirm some values")  # fmt: skip
    say(f"{where}: {len(found.found.points)} points, {found.requests} requests")
    for reason, count in found.found.left_out.items():
        say(f"{where}: {count} left out: {reason}")


def _entry(
    host: str, port: int, found: Scanned, access: Access, ids: set[str], lines: list[str]
) -> Entry:
    id_ = _id(found.name or host, ids)
    keys: list[tuple[str, object]] = [("id", id_), ("protocol", "snmp"), ("host", host)]
    if port != DEFAULT_PORT:
        keys.append(("port", port))
    keys.append(("auth", access.keys))
    if found.profile is not None:
        keys += [("profile", found.profile.name), ("profile_points", False)]
    note = f"{found.descr or 'no sysDescr'} ({found.object_id or 'no sysObjectID'})"
    points = tuple(found.found.points)
    if found.profile is None:
        points = (UPTIME,)
    return Entry(tuple(keys), points, (note,), tuple(lines))


def _place_of(
    found: Scanned, stands: Mapping[str, str], keys: tuple[tuple[str, object], ...]
) -> dict[str, Any]:
    """Rack and row as keys where they were given, else as a hint: nobody guesses a place."""
    said = f"; the device says: {found.location}" if found.location else ""
    hint = f'rack = "A01"  # set rack and row once, here, for all points{said}'
    return {"keys": (*keys, *stands.items()), "hints": () if stands else (hint,)}


def _id(name: str, ids: set[str]) -> str:
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:48] or "device"
    unique, count = slug, 2
    while unique in ids:
        unique, count = f"{slug}-{count}", count + 1
    ids.add(unique)
    return unique
