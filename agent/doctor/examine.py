"""Looks at everything that keeps a site from working or from being safe, and names the way out.

Decides what is worth a word and how bad it is. Reads files, the journal (read only), the running
agent or, where none runs, the devices; writes nothing anywhere and asks no device to change.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import reach
from agent.audit import read_kept, verify
from agent.clock import synchronised
from agent.journal import copy_path
from agent.locks import lock_holder
from agent.memory import KILL_FILE
from agent.sealed import read_sealed
from config.secrets import SecretError, SecretRef, resolve
from config.site import Site
from drivers.gate import JournalError

DAY_S = 86_400.0
ROOM_BYTES = 50_000_000  # of free disk: below, the journal is near its end
NO_PERMISSION = "Operation not permitted"
CREDENTIALS = Path("/etc/skadi/credentials")


@dataclass(frozen=True, slots=True)
class Note:
    """One thing seen. level: ok, note (good to know), bad, or silent (a device does not answer)."""

    level: str
    about: str
    text: str
    way_out: str = ""


def host(site: Site, environ: Mapping[str, str], units: Iterable[Path]) -> Iterator[Note]:
    """What can be seen without the devices."""
    text = reach.unit_text(units)
    yield from _folder(site)
    yield from _agent(site)
    yield from _journal(site)
    yield from _clock()
    yield from _secrets(site, environ, text)
    yield from _network(site, text)


def services(overview: Mapping[str, Any]) -> Iterator[Note]:
    """What the running agent does without, of its overview."""
    history = overview.get("history") or {}
    if lost := history.get("lost"):
        yield Note("bad", "history", str(lost), "look at the database and the agent's log; control goes"
                   " on, and rows wait on disk unless it says that it takes a restart")  # fmt: skip
    if overview.get("mqtt_connected") is False:
        yield Note("bad", "mqtt", "the broker is away", "look at the broker and mqtt.url")


def _folder(site: Site) -> Iterator[Note]:
    folder = Path(site.agent.data_dir)
    if not folder.is_dir():
        yield Note("note", "data_dir", f"{folder} is not there yet", "skadi run makes it")
        return
    files = [folder, *(p for p in folder.iterdir() if p.is_file())]
    if wrong := [str(p) for p in files if not os.access(p, os.R_OK | os.W_OK)]:
        yield Note("bad", "data_dir", f"this user may not read and write {', '.join(wrong[:4])}",
                   "ask as the agent's user (sudo -u skadi skadi doctor), or chown -R skadi: it")  # fmt: skip
    owners = {p.stat().st_uid for p in files}
    if len(owners) > 1:
        yield Note("bad", "data_dir", f"{folder} has files of several users {sorted(owners)}",
                   "one user runs the agent: chown -R skadi:skadi it")  # fmt: skip
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    level = "ok" if free > ROOM_BYTES else "bad"
    yield Note(level, "data_dir", f"{folder}: {free / 1e6:.0f} MB free",
               "" if level == "ok" else "make room: no record on disk, no write to a device")  # fmt: skip


def _agent(site: Site) -> Iterator[Note]:
    folder = Path(site.agent.data_dir)
    try:
        holder = lock_holder(folder)
    except OSError as error:
        yield Note("bad", "lock", f"{folder}: {error.strerror}", "ask as the agent's user")
        return
    if holder is None:
        yield Note(
            "note", "lock", "no agent runs on this data_dir", "skadi run, or systemctl start skadi"
        )
    else:
        yield Note("ok", "lock", f"process {holder} is the one agent of this data_dir")
    if (folder / KILL_FILE).exists():
        yield Note("bad", "kill", "the kill switch is on: nothing is written",
                   "find out who pulled it, then  skadi kill --clear")  # fmt: skip
    try:
        modes = read_kept(folder / "journal.db", "modes")
    except (JournalError, OSError):
        return  # the journal has a note of its own
    if modes:
        yield Note("ok", "mode", f"last {modes['mode']}, armed: {', '.join(modes['armed']) or 'nothing'};"
                   f" the file allows {site.agent.mode}, {', '.join(site.agent.armed) or 'nothing'}")  # fmt: skip


def _journal(site: Site) -> Iterator[Note]:
    path = Path(site.agent.data_dir) / "journal.db"
    if not path.exists():
        if copy_path(path).exists():
            yield Note("bad", "journal", f"{path} is gone, its second copy is there",
                       "skadi release gives back from the copy")  # fmt: skip
        return
    try:
        problem = verify(path)
        copy_ok = not copy_path(path).exists() or bool(read_sealed(copy_path(path)))
    except OSError as error:
        yield Note("bad", "journal", f"{path}: {error.strerror}", "ask as the agent's user")
        return
    if not copy_ok:  # verify ends with it
        yield Note("bad", "journal", f"{copy_path(path)}: the second copy is not whole",
                   "look at the disk; it is written anew with the next write")  # fmt: skip
    elif problem:
        yield Note("bad", "journal", f"{path}: {problem}",
                   "the agent sets it aside at its start and gives back from the copy; find out why")  # fmt: skip
    else:
        yield Note("ok", "journal", f"{path}: the hash chain is whole")
    for old in sorted(path.parent.glob("*.bad")):
        yield Note(
            "bad",
            "journal",
            f"{old} was set aside as corrupt",
            "look at the disk, keep it, then move it away",
        )


def _clock() -> Iterator[Note]:
    match synchronised():
        case True:
            yield Note("ok", "clock", "synchronised")
        case False:
            yield Note("note", "clock", "the kernel's clock is not synchronised: times in logs and MQTT are off",
                       "start chrony or systemd-timesyncd; control itself runs on the boot clock")  # fmt: skip
        case None:
            yield Note("note", "clock", "whether it is synchronised can't be asked here")


def secrets_of(site: Site) -> Iterator[tuple[str, SecretRef]]:
    """Every secret the site refers to, with who needs it."""
    for d in site.devices:
        refs = (d.auth.community, d.auth.auth_password, d.auth.priv_password) if d.auth else ()
        yield from ((d.id, ref) for ref in (*refs, d.token) if ref is not None)
    if site.mqtt and site.mqtt.password:
        yield "mqtt", site.mqtt.password
    if site.history.password:
        yield "history", site.history.password
    for token in site.api.tokens if site.api else ():
        yield f"api token {token.name}", token.token


def _secrets(site: Site, environ: Mapping[str, str], unit: str | None) -> Iterator[Note]:
    missing: dict[str, list[str]] = {}
    found = 0
    for who, ref in secrets_of(site):
        why = (
            _credential(ref.credential, unit)
            if ref.credential and "CREDENTIALS_DIRECTORY" not in environ
            else ""
        )
        if why is None:
            found += 1
            continue
        if not why:
            try:
                resolve(ref, environ)
            except SecretError as error:
                why = str(error)
        if why:
            missing.setdefault(why, []).append(who)
        else:
            found += 1
    for why, whose in missing.items():
        text, _, way_out = why.partition(": ")
        yield Note("bad", "credentials", f"{text} (needed by {', '.join(whose[:6])})", way_out)
    if found:
        yield Note("ok", "credentials", f"{found} secrets can be read")


def _credential(name: str, unit: str | None) -> str | None:
    """Why systemd would not hand a credential over; None: it would; said from outside the unit."""
    if unit is None:
        return ""  # no unit: what a plain run would meet
    loads = [
        *reach.settings(unit, "LoadCredential"),
        *reach.settings(unit, "LoadCredentialEncrypted"),
    ]
    paths = {k: v for k, _, v in (load.partition(":") for load in loads)}
    if name not in paths:
        return f"credential {name} is not loaded: add LoadCredential={name}:{CREDENTIALS}/{name} to a drop-in"
    try:
        there = Path(paths[name]).exists()
    except OSError:
        return None  # for root alone to see, as it should be
    return None if there else f"credential {name}: make {paths[name]}, for root alone to read"


def _network(site: Site, unit: str | None) -> Iterator[Note]:
    networks = reach.allowed(unit) if unit is not None else None
    shut: list[str] = []
    for end in reach.endpoints(site):
        try:
            addresses = reach.resolved(end.host)
        except OSError as error:
            yield Note("bad", "network", f"{end.who}: {end.host} has no address: {error}",
                       "look at the name, or write the address")  # fmt: skip
            continue
        if networks is not None and (hit := reach.blocked(addresses, networks)):
            shut.append(f"{end.who} ({', '.join(hit)})")
    if shut:
        yield Note("bad", "network", f"systemd's IP rules keep the agent from {', '.join(shut)}",
                   f"skadi init {site.source} --drop-in /etc/systemd/system/skadi.service.d --force, then"
                   " systemctl daemon-reload && systemctl restart skadi")  # fmt: skip
    elif unit is None:
        yield Note("note", "network", "no skadi.service is installed here: no IP rules to look at")
    else:
        yield Note(
            "ok", "network", "systemd's IP rules let the agent reach everybody in the site file"
        )
    for path in reach.serial_lines(site):
        if not os.access(path, os.R_OK | os.W_OK):
            yield Note("bad", "network", f"{path} can't be opened by this user",
                       "is it plugged in? the agent's user needs its group (dialout)")  # fmt: skip
