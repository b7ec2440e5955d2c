"""The journal: what the agent did, is doing and still holds; on disk before the wire is touched.

One SQLite file (WAL, synchronous=FULL), always on the host. Three things live in it:
`entry`, an append-only, hash-chained log of intents, outcomes and other acts; `held`, the
setpoints that may stand on a device because of us; `kept`, small values that survive a
restart (modes, budgets). `device` keeps what `skadi release` needs to reach a device when
the configuration is broken: addresses, points, references to secrets, never a secret.

A record that can't be made durable raises JournalError, and nothing is written to a device.
"""

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.devicespec import device_from_json, device_to_json
from config.site import Device
from control.types import Lease, Outcome, Receipt
from drivers.gate import JournalError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    seq INTEGER PRIMARY KEY, at_s REAL NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS held (point TEXT PRIMARY KEY, device TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS device (id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, body TEXT NOT NULL);
"""
GENESIS = "0" * 64


class Journal:
    """One writer, one file. Not for use from several threads at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
            last = self._db.execute("SELECT hash FROM entry ORDER BY seq DESC LIMIT 1").fetchone()
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{path}: {error}: check the disk and the file's owner") from error
        self._last_hash: str = last[0] if last else GENESIS

    def intend(
        self, now_s: float, cycle: str, kind: str, device: Device, leases: Sequence[Lease]
    ) -> int:
        """Make an intent durable: the entry, what may now be held, how to reach the device."""
        body = {
            "cycle": cycle,
            "move": kind,
            "device": device.id,
            "leases": [asdict(x) for x in leases],
        }
        spec = json.dumps(device_to_json(device), sort_keys=True)

        def also(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO device VALUES (?, ?)", (device.id, spec))
            _hold(db, device.id, leases)

        return self._append(now_s, "intent", body, also)

    def outcome(self, now_s: float, intent: int, outcomes: Sequence[Outcome]) -> None:
        """Record what came of an intent, and which leases still stand."""
        body = {"intent": intent, "receipts": [_receipt(o.receipt) for o in outcomes]}

        def also(db: sqlite3.Connection) -> None:
            for outcome in outcomes:
                point, lease = outcome.receipt.point, outcome.lease
                if lease is None:
                    db.execute("DELETE FROM held WHERE point = ?", (point,))
                else:
                    sql = "UPDATE held SET body = ? WHERE point = ?"
                    db.execute(sql, (_dump(asdict(lease)), point))

        self._append(now_s, "outcome", body, also)

    def note(self, now_s: float, kind: str, body: Mapping[str, Any]) -> int:
        """Add an act to the log: a mode change, a command, a renewal, a rollback."""
        return self._append(now_s, kind, body, None)

    def renew(self, now_s: float, leases: Iterable[Lease]) -> None:
        """Move the expiry of leases we keep, and nothing else of them: what they hold may have
        changed since they were chosen. A journal act, nothing on the wire."""
        expiry = {lease.point: lease.expires_s for lease in leases}

        def also(db: sqlite3.Connection) -> None:
            sql = "UPDATE held SET body = json_set(body, '$.expires_s', ?) WHERE point = ?"
            db.executemany(sql, [(until_s, point) for point, until_s in expiry.items()])

        self._append(now_s, "renew", {"expires_s": expiry}, also)

    def held(self) -> dict[str, Lease]:
        """The setpoints that may stand on a device because of us, by point."""
        rows = self._query("SELECT body FROM held ORDER BY point")
        return {lease.point: lease for (body,) in rows for lease in [Lease(**json.loads(body))]}

    def devices(self) -> dict[str, Device]:
        """The devices that held setpoints live on, rebuilt from the journal alone."""
        rows = self._query("SELECT id, body FROM device WHERE id IN (SELECT device FROM held)")
        return {name: device_from_json(json.loads(body)) for name, body in rows}

    def keep(self, key: str, value: Any) -> None:
        """Store a small value that survives a restart."""
        self._transact(
            lambda db: db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (key, _dump(value)))
        )

    def kept(self, key: str) -> Any:
        """Return a value stored with `keep`, or None."""
        rows = self._query("SELECT body FROM kept WHERE key = ?", key)
        return json.loads(rows[0][0]) if rows else None

    def entries(self, since_seq: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """The log from `since_seq` (exclusive), oldest first."""
        rows = self._query(
            "SELECT seq, at_s, kind, body FROM entry WHERE seq > ? ORDER BY seq LIMIT ?",
            since_seq,
            limit,
        )
        return [{"seq": s, "at_s": t, "kind": k, **json.loads(b)} for s, t, k, b in rows]

    def verify(self) -> int | None:
        """Follow the hash chain. Returns the first entry that does not fit, or None."""
        previous, expected = GENESIS, 1
        for seq, at_s, kind, body, found in self._db.execute("SELECT * FROM entry ORDER BY seq"):
            if seq != expected or found != _link(previous, seq, at_s, kind, body):
                return int(expected)
            previous, expected = found, seq + 1
        return None

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _append(self, now_s: float, kind: str, body: Mapping[str, Any], also: Any) -> int:
        """Append one entry and what goes with it, as one durable transaction."""
        text, new_hash, seq = _dump(body), "", 0

        def write(db: sqlite3.Connection) -> None:
            nonlocal new_hash, seq
            seq = db.execute("SELECT coalesce(max(seq), 0) + 1 FROM entry").fetchone()[0]
            new_hash = _link(self._last_hash, seq, now_s, kind, text)
            db.execute(
                "INSERT INTO entry VALUES (?, ?, ?, ?, ?)", (seq, now_s, kind, text, new_hash)
            )
            if also is not None:
                also(db)

        self._transact(write)
        self._last_hash = new_hash
        return seq

    def _transact(self, write: Any) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            write(self._db)
            self._db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise JournalError(f"{self.path}: {error}: check the disk") from error

    def _query(self, sql: str, *values: Any) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"{self.path}: {error}: check the disk") from error


def _hold(db: sqlite3.Connection, device: str, leases: Sequence[Lease]) -> None:
    for lease in leases:
        db.execute(
            "INSERT OR REPLACE INTO held VALUES (?, ?, ?)",
            (lease.point, device, _dump(asdict(lease))),
        )


def _receipt(receipt: Receipt) -> dict[str, Any]:
    return {"receipt": type(receipt).__name__.lower(), **asdict(receipt)}


def _link(previous: str, seq: int, at_s: float, kind: str, body: str) -> str:
    return hashlib.sha256(f"{previous}|{seq}|{at_s!r}|{kind}|{body}".encode()).hexdigest()


def _dump(value: Any) -> str:
    return json.dumps(_finite(value), sort_keys=True, allow_nan=False)


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not a number is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
