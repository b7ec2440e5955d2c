"""What waits in memory for the database: rows, and whole polls that become rows when they are written.

Decides what gives way when there is no room: the oldest, whose hole is remembered. Adding must
never block and never raise. A poll stays in its columns: a hundred rows would take ten times as much.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table

from agent.history.spool import Gap, Row, joined
from control.types import Sweep


@dataclass(frozen=True, slots=True)
class Stream:
    """A table that rows are streamed into, in the order of its columns; `time` is the column
    that says when, and `room` how many rows may wait."""

    table: Table
    room: int
    time: str = "ts"

    @property
    def time_index(self) -> int:
        """Where the time stands in a row."""
        return list(self.table.columns.keys()).index(self.time)


@dataclass(frozen=True, slots=True)
class Block:
    """A poll, or a part of one: the rows of telemetry_raw for its points from `low` to before `high`."""

    me: tuple[str, str]  # site, area
    sweep: Sweep
    low: int
    high: int

    def __len__(self) -> int:
        return self.high - self.low

    def part(self, low: int, high: int) -> "Block":
        """Some of its rows."""
        return Block(self.me, self.sweep, self.low + low, self.low + high)

    def rows(self, ts: Any) -> list[Row]:
        """Its rows, with this for their time."""
        site, area = self.me
        sweep, low, high = self.sweep, self.low, self.high
        rows: list[Row] = [
            (site, area, key, ts, value, "good")
            for key, value in zip(
                sweep.points[low:high], sweep.values[low:high].tolist(), strict=True
            )
        ]
        for at, (quality, _) in sweep.faults.items():
            if low <= at < high:
                rows[at - low] = (site, area, sweep.points[at], ts, None, str(quality))
        return rows


Item = Row | Block


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken to be written: `count` rows, the first of them the `first` the buffer ever had."""

    items: Sequence[Item]
    first: int
    count: int

    def rows(self) -> list[Row]:
        """All of it as rows, times in POSIX seconds."""
        return [row for item in self.items for row in _rows(item)]

    def chunks(self, most: int) -> Iterator[list[Item]]:
        """Some `most` rows at a time, rows of one device together."""
        chunk: list[Item] = []
        size = 0
        for item in sorted(self.items, key=_key):
            chunk.append(item)
            size += _size(item)
            if size >= most:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk


class Buffer:
    """Rows that wait, oldest first. Full: the oldest give way and the hole is remembered."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.dropped = 0
        self._items: deque[Item] = deque()
        self._rows = 0
        self._gone = 0  # rows that have left, one way or the other
        self._time = stream.time_index
        self._gap: Gap | None = None

    def __len__(self) -> int:
        return self._rows

    def put(self, item: Item) -> None:
        """Add a row or a block; never blocks, never raises."""
        size = _size(item)
        if (over := self._rows + size - self.stream.room) > 0:
            self.drop(over)
        self._items.append(item)
        self._rows += size

    def peek(self, most: int) -> Taken:
        """The oldest rows, which stay until they are `done`."""
        items: list[Item] = []
        left = most
        for item in self._items:
            if not left:
                break
            if isinstance(item, Block) and len(item) > left:
                item = item.part(0, left)
            items.append(item)
            left -= _size(item)
        return Taken(items, self._gone, most - left)

    def done(self, taken: Taken) -> None:
        """These rows are stored. Some may have been dropped meanwhile."""
        for _ in self._leave(taken.first + taken.count - self._gone):
            pass

    def drop(self, count: int) -> None:
        """Give up the oldest rows and remember since when and until when."""
        for at_s, size in self._leave(count):
            self._gap = joined(self._gap, (at_s, at_s, size))
            self.dropped += size

    def _leave(self, count: int) -> Iterator[tuple[float, int]]:
        """Take the oldest rows away: of when, and how many."""
        while count > 0 and self._items:
            item = self._items.popleft()
            size = _size(item)
            if isinstance(item, Block) and size > count:
                self._items.appendleft(item.part(count, size))
                size = count
            count -= size
            self._rows -= size
            self._gone += size
            yield item.sweep.taken_s if isinstance(item, Block) else item[self._time], size

    def take_gap(self) -> Gap | None:
        """The hole that is not yet written down; from now on a new one is remembered."""
        gap, self._gap = self._gap, None
        return gap

    def keep_gap(self, gap: Gap) -> None:
        """This hole could not be written down after all."""
        self._gap = joined(self._gap, gap)


def _size(item: Item) -> int:
    return len(item) if isinstance(item, Block) else 1


def _rows(item: Item) -> list[Row]:
    return item.rows(item.sweep.taken_s) if isinstance(item, Block) else [item]


def _key(item: Item) -> str:
    return item.sweep.points[item.low] if isinstance(item, Block) else item[2]
