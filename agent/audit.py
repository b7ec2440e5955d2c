"""Reads the journal's log for people and for proof. Never writes, and never repairs anything.

Decides whether the log is what was written: every entry fits the hash of the one before it,
numbers have no gap, the second copy knows no later entry, and the file is sound. Which is not
proof against somebody who rewrites all of it and the copy: send the last hash elsewhere (MQTT,
a log server) for that.
"""

import json
import sqlite3
from pathlib import Path
from typing import Any

from agent.journal import copy_path, unseal_all
from agent.sealed import GENESIS, link, read_sealed, unseal
from drivers.gate import JournalError


def read_entries(path: Path, since_seq: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
    """The log from `since_seq` (exclusive), oldest first. Raises JournalError."""
    return _entries(path, "seq > ? ORDER BY seq LIMIT ?", since_seq, limit)


def read_latest(path: Path, since_s: float, limit: int) -> list[dict[str, Any]]:
    """The last `limit` entries since a time, oldest first. Raises JournalError."""
    return _entries(path, "at_s >= ? ORDER BY seq DESC LIMIT ?", since_s, limit)[::-1]


def _entries(path: Path, which: str, *values: float) -> list[dict[str, Any]]:
    sql = f"SELECT seq, at_s, kind, body FROM entry WHERE {which}"
    try:
        with _connect(path) as db:
            rows = db.execute(sql, values).fetchall()
        return [{"seq": s, "at_s": t, "kind": k, **json.loads(b)} for s, t, k, b in rows]
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise JournalError(f"{path}: {error}: try  skadi audit verify") from error


def write_counts(path: Path, since_s: float) -> dict[str, tuple[int, int]]:
    """By point, how often it was written since a time, and ever; giving back not counted.

    Raises JournalError.
    """
    sql = "SELECT at_s, body FROM entry WHERE kind = 'intent'"
    found: dict[str, tuple[int, int]] = {}
    try:
        with _connect(path) as db:
            for at_s, text in db.execute(sql):
                body = json.loads(text)
                if body["move"].startswith("give_back"):
                    continue
                for lease in body["leases"]:
                    late, ever = found.get(lease["point"], (0, 0))
                    found[lease["point"]] = (late + (at_s >= since_s), ever + 1)
    except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
        raise JournalError(f"{path}: {error}: try  skadi audit verify") from error
    return found


def read_kept(path: Path, key: str) -> Any:
    """A small value the journal keeps (modes, trials), or None. Raises JournalError."""
    if not path.exists():
        return None
    try:
        with _connect(path) as db:
            row = db.execute("SELECT body FROM kept WHERE key = ?", (key,)).fetchone()
        return unseal(row[0], key) if row else None
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise JournalError(f"{path}: {error}: try  skadi audit verify") from error


def verify(path: Path) -> str | None:
    """Follow the hash chain to its end, and look at every seal. Returns what does not fit, or None."""
    try:
        with _connect(path) as db:
            if (found := db.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
                return f"the file is damaged: {found}"
            unseal_all(db)
            copy = read_sealed(copy_path(path))
            if not copy and copy_path(path).exists():
                return f"{copy_path(path).name}, the second copy, is damaged"
            return _chain(db, copy)
    except (sqlite3.Error, ValueError, TypeError) as error:
        return f"the file can't be read: {error}"


def _chain(db: sqlite3.Connection, copy: dict[str, Any]) -> str | None:
    previous, seq = GENESIS, 0
    anchor = tuple(copy.get("before", (0, GENESIS)))
    for found, at_s, kind, body, stored in db.execute("SELECT * FROM entry ORDER BY seq"):
        seq += 1
        if found != seq or stored != link(previous, seq, at_s, kind, body):
            return f"entry {seq} does not fit the chain: the log was changed after it was written"
        previous = stored
        if anchor[0] == seq and anchor[1] != stored:
            return f"entry {seq} is not the one that the second copy knows"
    if seq < anchor[0]:
        return f"the log ends at entry {seq}, the second copy knows entry {anchor[0]}"
    return None


class _connect:
    """A read-only connection that is closed again; the writer may be at work beside it."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)

    def __enter__(self) -> sqlite3.Connection:
        return self._db

    def __exit__(self, *_: object) -> None:
        self._db.close()
