"""Rows that wait on disk while the database is away: a folder of segments, bounded in bytes.

Decides what gives way when the bound is reached: the oldest segment, whose hole is kept on disk
until it is written down in history_gaps. A segment is written whole or not at all, under a name
that says what is in it, so that a hole can be told without reading. No fsync: as with telemetry
in the database, a power cut may cost the last seconds, never the rest. Every call may block on
the disk: the writer makes them in a thread. Must never hold a row twice nor invent one.
"""

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

Row = tuple[Any, ...]
Gap = tuple[float, float, int]  # rows dropped: since when, until when (both inclusive), how many

_NAME = re.compile(r"(\d{12})\.([a-z_0-9]{1,40})\.(-?\d{1,15})\.(-?\d{1,15})\.(\d{1,9})\.z")
_HOLES = "holes.json"
MOST_BYTES = 64 << 20  # of one segment, unpacked: more is not ours


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of rows of one stream, taken between two times (POSIX seconds, inclusive)."""

    path: Path
    stream: str
    since_s: float
    until_s: float
    rows: int
    bytes: int

    @property
    def gap(self) -> Gap:
        """The hole that is left without it."""
        return self.since_s, self.until_s, self.rows


def joined(a: Gap | None, b: Gap) -> Gap:
    """Two holes as one that spans both."""
    return b if a is None else (min(a[0], b[0]), max(a[1], b[1]), a[2] + b[2])


class Spool:
    """The segments of one folder, oldest first. Made where nothing is: nothing is written until
    the first `put`."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._segments: list[Segment] = []
        self._holes: dict[str, Gap] = {}
        self._next = 1
        self._lock = Lock()  # a write that was given up waiting for may still go on
        self.dropped = 0

    def load(self) -> None:
        """Find what a former run left. Raises OSError."""
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.iterdir()):
            if found := _NAME.fullmatch(path.name):
                number, stream, since_ms, until_ms, rows = found.groups()
                times = int(since_ms) / 1000, int(until_ms) / 1000
                size = path.stat().st_size
                self._segments.append(Segment(path, stream, *times, int(rows), size))
                self._next = max(self._next, int(number) + 1)
            elif path.suffix == ".new":
                path.unlink()
        self._holes = _read_holes(self._folder / _HOLES)

    @property
    def rows(self) -> int:
        """Rows that wait here."""
        return sum(s.rows for s in self._segments)

    def __len__(self) -> int:
        """How many segments wait here."""
        return len(self._segments)

    @property
    def oldest(self) -> Segment | None:
        """What should be written to the database next."""
        return self._segments[0] if self._segments else None

    def put(self, stream: str, rows: list[Row], time: int) -> None:
        """Keep rows (time: the index of their time); the oldest segments give way. Raises OSError."""
        times = [row[time] for row in rows]
        packed = zlib.compress(json.dumps(rows).encode(), 1)
        since_ms, until_ms = (round(t * 1000) for t in (min(times), max(times)))
        with self._lock:
            self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._make_room(len(packed))
            name = f"{self._next:012d}.{stream}.{since_ms}.{until_ms}.{len(rows)}.z"
            path = self._folder / name
            new = path.with_suffix(".new")
            new.write_bytes(packed)
            new.replace(path)
            self._next += 1
            span = since_ms / 1000, until_ms / 1000
            self._segments.append(Segment(path, stream, *span, len(rows), len(packed)))

    def _make_room(self, more_bytes: int) -> None:
        used = sum(s.bytes for s in self._segments)
        while self._segments and used + more_bytes > self._most_bytes:
            used -= self._segments[0].bytes
            self.give_up(self._segments[0])

    def read(self, segment: Segment) -> list[Row]:
        """The rows of a segment. Raises OSError, or ValueError when it is damaged."""
        try:
            unpack = zlib.decompressobj()
            text = unpack.decompress(segment.path.read_bytes(), MOST_BYTES)
            if not unpack.eof:
                raise ValueError("cut off, or too long")
            rows = json.loads(text)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if not isinstance(rows, list) or len(rows) != segment.rows:
            raise ValueError(f"does not hold {segment.rows} rows")
        return [tuple(row) for row in rows]

    def done(self, segment: Segment) -> None:
        """Its rows are in the database."""
        segment.path.unlink(missing_ok=True)
        self._segments.remove(segment)

    def give_up(self, segment: Segment) -> None:
        """Delete a segment and remember the hole."""
        self._holes[segment.stream] = joined(self._holes.get(segment.stream), segment.gap)
        self._keep_holes()
        self.dropped += segment.rows
        self.done(segment)

    @property
    def holes(self) -> dict[str, Gap]:
        """Holes that are not written down in the database yet, by stream."""
        return dict(self._holes)

    def holes_written(self) -> None:
        """The database has them now."""
        self._holes = {}
        self._keep_holes()

    def _keep_holes(self) -> None:
        new = self._folder / f"{_HOLES}.new"
        new.write_text(json.dumps(self._holes), encoding="utf-8")
        new.replace(self._folder / _HOLES)


def _read_holes(path: Path) -> dict[str, Gap]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(k): (float(a), float(b), int(n)) for k, (a, b, n) in found.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        return {}  # torn by a power cut; the segments' own names still tell what is there
