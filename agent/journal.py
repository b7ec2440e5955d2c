"""The journal: what the agent did, is doing and still holds; on disk before the wire is touched.

One SQLite file (WAL, synchronous=FULL), always on the host. Three things live in it:
`entry`, an append-only, hash-chained log of intents, outcomes and other acts; `held`, the
setpoints that may stand on a device because of us; `kept`, small values that survive a
restart (modes, budgets). `device` keeps what `skadi release` needs to reach a device when
the configuration is broken: addresses, points, references to secrets, never a secret.

What is held is written a second time, to a file of its own, before each commit: a corrupt
database is set aside and giving back goes on from the copy (`salvaged` says why). A reserve
of disk space is kept for giving back when the disk is full. A record that can't be made
durable raises JournalError, and nothing is written to a device.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from agent.devicespec import device_from_json, device_to_json
from agent.plain import layer, strict_json
from agent.sealed import GENESIS, lay_reserve, link, read_sealed, replace_durably, seal, unseal
from config.site import Device
from control.types import Lease, Outcome
from drivers.gate import JournalError

log = structlog.get_logger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    seq INTEGER PRIMARY KEY, at_s REAL NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS held (point TEXT PRIMARY KEY, device TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS device (id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, body TEXT NOT NULL);
"""
_SEALED = """
SELECT point, body FROM held UNION ALL SELECT id, body FROM device UNION ALL SELECT key, body FROM kept
UNION ALL SELECT point, '' FROM held WHERE device NOT IN (SELECT id FROM device)
"""
_DEVICE = """
INSERT INTO device VALUES (?, ?) ON CONFLICT DO UPDATE SET body = excluded.body WHERE body <> excluded.body
"""  # a page that stays as it is need not be written
RESERVE_BYTES = 1 << 20
LATCHES = frozenset({"overridden", "mismatch"})
_LATCH = "latch:"
# SQLite's primary result codes for trouble with the disk or its rights, not with the content:
# PERM, BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL, CANTOPEN (sqlite.org/rescode.html).
_NOT_THE_FILE = frozenset({3, 5, 6, 7, 8, 10, 13, 14})
Stamp = Callable[[], tuple[str, float] | None]


def copy_path(path: Path) -> Path:
    """Where the second copy of a journal lies."""
    return path.with_suffix(".copy.json")


def unseal_all(db: sqlite3.Connection) -> None:
    """Look at every seal. Raises ValueError where one is broken, or a held point has no device."""
    for place, body in db.execute(_SEALED):
        unseal(body, place)


class Journal:
    """One writer, one file. Not for use from several threads at once.

    stamp: the boot's id and the seconds since it, for budgets that no clock step moves.
    """

    def __init__(self, path: Path, stamp: Stamp = lambda: None) -> None:
        self.path = path
        self.salvaged: str | None = None
        self._stamp = stamp
        self._specs: dict[str, tuple[Device, str]] = {}
        self._reserve = path.with_suffix(".reserve")
        self._copy = copy_path(path)
        with self._trouble():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._open()
            except (sqlite3.DatabaseError, ValueError, KeyError, TypeError) as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_THE_FILE:
                    raise
                self._set_aside(error)
            self._adopt(read_sealed(self._copy))
            lay_reserve(self._reserve, RESERVE_BYTES)

    def _open(self) -> None:
        """Open, and look whether it is sound. Raises sqlite3.Error, or ValueError for content."""
        self._db = sqlite3.connect(self.path, isolation_level=None, timeout=5.0)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)
        if (found := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found)
        last = self._db.execute("SELECT seq, hash FROM entry ORDER BY seq DESC LIMIT 1").fetchone()
        self._last: tuple[int, str] = (last[0], last[1]) if last else (0, GENESIS)
        unseal_all(self._db)

    def _set_aside(self, error: Exception) -> None:
        """Keep the corrupt file for people to look at, and begin a new one."""
        self._db.close()
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.replace(part.with_name(f"{part.name}.bad"))
        self._open()
        self.salvaged = f"{self.path} was corrupt ({error}); it is kept as {self.path.name}.bad"

    def _adopt(self, copy: dict[str, Any]) -> None:
        """Take over what the copy holds and the database does not: it may have lost its end."""
        if self.salvaged is None and copy.get("seq", 0) <= self._last[0]:
            return
        for point, (device, lease) in copy.get("held", {}).items():
            doubt = Lease(**{**unseal(lease, point), "certain": False})
            self._hold(device, copy["devices"][device], [doubt])
            log.warning("held setpoint taken from the second copy", point=point)

    def _spec(self, device: Device) -> str:
        known = self._specs.get(device.id)
        if known is None or known[0] is not device:
            known = self._specs[device.id] = (device, seal(device_to_json(device), device.id))
        return known[1]

    def _hold(self, device: str, spec: str, leases: Iterable[Lease]) -> None:
        self._db.execute(_DEVICE, (device, spec))
        rows = [(x.point, device, seal(x, x.point)) for x in leases]
        self._db.executemany("INSERT OR REPLACE INTO held VALUES (?, ?, ?)", rows)

    def intend(
        self, now_s: float, cycle: str, kind: str, device: Device, leases: Sequence[Lease]
    ) -> int:
        """Make an intent durable: the entry, what may now be held, how to reach the device.

        Giving back may use the reserve of a full disk.
        """
        body = {
            "cycle": cycle, "move": kind, "device": device.id, "leases": list(leases),
            "boot": self._stamp(),
        }  # fmt: skip

        def also() -> None:
            self._hold(device.id, self._spec(device), leases)

        try:
            return self._append(now_s, "intent", body, also, copy=True)
        except JournalError:
            if not kind.startswith("give_back") or not self._reserve.exists():
                raise
            self._reserve.unlink()
            return self._append(now_s, "intent", body, also, copy=True)

    def outcome(self, now_s: float, intent: int, outcomes: Sequence[Outcome]) -> None:
        """Record what came of an intent, which leases still stand, and what is no longer ours.

        A point that was overridden, or lied at read-back, is latched until a person resumes it.
        """
        receipts = [
            {"receipt": type(o.receipt).__name__.lower(), **layer(o.receipt)} for o in outcomes
        ]

        def also() -> None:
            for point, lease in ((o.receipt.point, o.lease) for o in outcomes):
                if lease is None:
                    self._db.execute("DELETE FROM held WHERE point = ?", (point,))
                else:
                    self._update(lease)
            for lost in receipts:
                if lost["receipt"] in LATCHES:
                    self._put(_LATCH + lost["point"], lost)

        body = {"intent": intent, "receipts": receipts, "boot": self._stamp()}
        self._append(now_s, "outcome", body, also, copy=True)

    def note(self, now_s: float, kind: str, body: Mapping[str, Any]) -> int:
        """Add an act to the log: a mode change, a command, a renewal, a rollback."""
        return self._append(now_s, kind, body, None)

    def renew(self, now_s: float, leases: Sequence[Lease]) -> None:
        """Record leases with a later expiry: a journal act, nothing on the wire."""

        def also() -> None:
            for lease in leases:
                self._update(lease)

        self._append(now_s, "renew", {"expires_s": {x.point: x.expires_s for x in leases}}, also)

    def _update(self, lease: Lease) -> None:
        sql = "UPDATE held SET body = ? WHERE point = ?"
        self._db.execute(sql, (seal(lease, lease.point), lease.point))

    def held(self) -> dict[str, Lease]:
        """The setpoints that may stand on a device because of us, by point."""
        rows = self._query("SELECT point, body FROM held ORDER BY point")
        return {point: Lease(**unseal(body, point)) for point, body in rows}

    def devices(self) -> dict[str, Device]:
        """The devices that held setpoints live on, rebuilt from the journal alone."""
        rows = self._query("SELECT id, body FROM device WHERE id IN (SELECT device FROM held)")
        return {name: device_from_json(unseal(body, name)) for name, body in rows}

    def latest(self, kind: str, limit: int) -> list[dict[str, Any]]:
        """The last entries of one kind, newest first."""
        sql = "SELECT seq, at_s, body FROM entry WHERE kind = ? ORDER BY seq DESC LIMIT ?"
        found = self._query(sql, kind, limit)
        return [{"seq": seq, "at_s": at_s, **json.loads(body)} for seq, at_s, body in found]

    def latched(self) -> dict[str, dict[str, Any]]:
        """Why a point is no longer ours, by point: the receipt that said so."""
        rows = self._query("SELECT key, body FROM kept WHERE key LIKE ?", f"{_LATCH}%")
        return {key.removeprefix(_LATCH): unseal(body, key) for key, body in rows}

    def resume(self, now_s: float, point: str, who: Mapping[str, Any]) -> None:
        """A person takes a latched point up again."""
        sql = "DELETE FROM kept WHERE key = ?"
        body = {"point": point, **who}
        self._append(now_s, "resume", body, lambda: self._db.execute(sql, (_LATCH + point,)))

    def keep(self, key: str, value: Any) -> None:
        """Store a small value that survives a restart."""
        self._transact(lambda: self._put(key, value))

    def _put(self, key: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (key, seal(value, key)))

    def kept(self, key: str) -> Any:
        """Return a value stored with `keep`, or None."""
        rows = self._query("SELECT body FROM kept WHERE key = ?", key)
        return unseal(rows[0][0], key) if rows else None

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _append(
        self, now_s: float, kind: str, body: Mapping[str, Any],
        also: Callable[[], object] | None, copy: bool = False,
    ) -> int:  # fmt: skip
        """Append one entry and what goes with it, as one durable transaction."""
        text, seq = strict_json(body), self._last[0] + 1
        new_hash = link(self._last[1], seq, now_s, kind, text)

        def write() -> None:
            row = (seq, now_s, kind, text, new_hash)
            self._db.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", row)
            if also is not None:
                also()
            if copy:
                self._write_copy(seq)

        self._transact(write)
        self._last = (seq, new_hash)
        return seq

    def _write_copy(self, seq: int) -> None:
        """What is held after this transaction, beside the last entry that is surely committed."""
        held = self._db.execute("SELECT point, device, body FROM held").fetchall()
        sql = "SELECT id, body FROM device WHERE id IN (SELECT device FROM held)"
        content = {
            "seq": seq, "before": self._last,
            "held": {point: (device, body) for point, device, body in held},
            "devices": dict(self._db.execute(sql)),
        }  # fmt: skip
        replace_durably(self._copy, seal(content))

    def _transact(self, write: Callable[[], object]) -> None:
        with self._trouble():
            try:
                self._db.execute("BEGIN IMMEDIATE")
                write()
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def _query(self, sql: str, *values: Any) -> list[Any]:
        with self._trouble():
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        """What goes wrong with the disk is a JournalError that names the file."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            why = f"{self.path}: {error}: check the disk and the file's owner"
            raise JournalError(why) from error
