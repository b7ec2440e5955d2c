"""Rows on their way into the database: bounded buffers, and the one task that empties them.

Decides what happens when the database is slow or gone: rows wait in memory up to a bound, then
the oldest are dropped, counted, and the hole is written down in history_gaps once the database
is back. Adding must never block, never raise, and never make anybody wait for a database. A
`Buffer` is taken from by peek and done, so that one that spools to disk can stand in its place.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import structlog
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agent.history_db import DATABASE_ERRORS, STATEMENT_S, for_writing, one_line
from agent.history_schema import HISTORY_GAPS, MINUTE_S, ROLLUP_DIRTY, TELEMETRY_RAW, Utc
from agent.logs import Outage

log = structlog.get_logger(__name__)

Row = tuple[Any, ...]
Gap = tuple[float, float, int]  # rows dropped: since when, until when (both inclusive), how many

FLUSH_S = 5.0  # wall seconds between two writes: rows of one point lie together, fewer pages change
BATCH_ROWS = 5_000  # of one stream in one transaction
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# Errors of the rows, not of the database.
_REFUSALS = (DataError, IntegrityError, ValueError, TypeError, ArithmeticError)


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


class Buffer:
    """Rows that wait, oldest first. Full: the oldest give way and the hole is remembered."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.dropped = 0
        self._rows: deque[Row] = deque()
        self._time = stream.time_index
        self._gap: Gap | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, row: Row) -> None:
        """Add a row; never blocks, never raises."""
        if len(self._rows) >= self.stream.room:
            self.drop(1)
        self._rows.append(row)

    def peek(self, most: int) -> list[Row]:
        """The oldest rows, which stay until they are `done`."""
        return list(islice(self._rows, most))

    def done(self, rows: Sequence[Row]) -> None:
        """These rows, as peeked, are stored. Some may have been dropped meanwhile."""
        for row in rows:
            if self._rows and self._rows[0] is row:
                self._rows.popleft()

    def drop(self, count: int) -> None:
        """Give up the oldest rows and remember since when and until when."""
        for _ in range(min(count, len(self._rows))):
            at_s = self._rows.popleft()[self._time]
            since_s, until_s, n = self._gap or (at_s, at_s, 0)
            self._gap = (min(since_s, at_s), max(until_s, at_s), n + 1)
            self.dropped += 1

    def take_gap(self) -> Gap | None:
        """The hole that is not yet written down; from now on a new one is remembered."""
        gap, self._gap = self._gap, None
        return gap

    def keep_gap(self, gap: Gap) -> None:
        """This hole could not be written down after all."""
        since_s, until_s, n = self._gap or gap
        both = n if self._gap is None else n + gap[2]
        self._gap = (min(since_s, gap[0]), max(until_s, gap[1]), both)


class Writer:
    """The task that empties the buffers. `ready` opens the database and may raise anything."""

    def __init__(
        self,
        streams: Sequence[Stream],
        identity: tuple[str, str],
        ready: Callable[[], Awaitable[AsyncEngine]],
        lock: asyncio.Lock,
    ) -> None:
        self.buffers = {s.table.name: Buffer(s) for s in streams}
        self.written = 0
        self.outage = Outage("history database")
        self._site, self._area = identity
        self._ready = ready
        self._lock = lock
        self._wake = asyncio.Event()  # enough rows wait
        self._hurry = asyncio.Event()  # somebody waits for them to be written
        self._flushed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sql: dict[str, str] = {}
        self._inserting = ""
        self._most = BATCH_ROWS

    def start(self) -> None:
        """Begin to write in the background."""
        self._task = asyncio.create_task(self._run(), name="history: writer")

    def put(self, table: Table, row: Row) -> None:
        """Queue a row for a table: site and area first, then the columns in order."""
        buffer = self.buffers[table.name]
        buffer.put(row)
        if len(buffer) >= BATCH_ROWS:
            self._wake.set()

    @property
    def queued(self) -> int:
        """Rows that wait."""
        return sum(map(len, self.buffers.values()))

    async def flush(self, timeout_s: float) -> bool:
        """Write what waits now, within `timeout_s`. False when the database would not take it."""
        if self._task is None:
            return not self.queued
        try:
            async with asyncio.timeout(timeout_s):
                while self.queued:
                    self._flushed.clear()
                    self._hurry.set()
                    await self._flushed.wait()
                    if self.outage.lost:
                        return False
        except TimeoutError:
            return False
        return True

    async def stop(self, timeout_s: float) -> int:
        """Write what can still be written, end the task; the number of rows given up."""
        if self._task is not None:
            await self.flush(timeout_s)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        return self.queued

    async def _run(self) -> None:
        while True:
            await self._pause()
            try:
                more = True
                while more:
                    async with asyncio.timeout(STATEMENT_S):
                        more = await self._write_batch()
                    self._most = min(self._most * 2, BATCH_ROWS)
                self.outage.worked()
            except (*DATABASE_ERRORS, *_REFUSALS) as error:
                if _refuses(error) and self._inserting in self.buffers:
                    self._find_culprit(error)
                else:
                    self.outage.failed(one_line(error), queued=self.queued)
            self._flushed.set()

    async def _pause(self) -> None:
        """Until the next write is due, or sooner when rows pile up or somebody waits."""
        failures = self.outage.failures
        if failures:
            pause_s = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] * random.uniform(0.5, 1.5)
            reasons = [self._hurry]
        else:
            pause_s = FLUSH_S
            reasons = [self._hurry, self._wake]
        waits = [asyncio.create_task(event.wait()) for event in reasons]
        try:
            await asyncio.wait(waits, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._hurry.clear()
        self._wake.clear()

    def _find_culprit(self, error: BaseException) -> None:
        """A row that the database refuses must not hold up all others: look for it in ever
        smaller batches, and give it up when it stands alone."""
        if self._most > 1:
            self._most //= 2
        else:
            self.buffers[self._inserting].drop(1)
            log.error("history row refused", table=self._inserting, reason=one_line(error))
        self._hurry.set()

    async def _write_batch(self) -> bool:
        """One transaction with the oldest rows of every stream; True when there is more."""
        engine = await self._ready()
        batch = {name: rows for name, b in self.buffers.items() if (rows := b.peek(self._most))}
        gaps = {name: gap for name, b in self.buffers.items() if (gap := b.take_gap())}
        if not gaps and not batch:
            return False
        try:
            async with self._lock, for_writing(engine).begin() as connection:
                for name, rows in batch.items():
                    await self._insert(connection, self.buffers[name].stream.table, rows)
                self._inserting = ""
                await self._mark_dirty(connection, batch.get(TELEMETRY_RAW.name, []))
                await self._note_gaps(connection, gaps)
        except BaseException:
            for name, gap in gaps.items():
                self.buffers[name].keep_gap(gap)
            raise
        for name, rows in batch.items():
            self.buffers[name].done(rows)
            self.written += len(rows)
        return any(len(rows) == self._most for rows in batch.values())

    async def _insert(self, connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
        """Insert rows; those that are already there are left alone."""
        self._inserting = table.name
        if table.name not in self._sql:
            statement = _insert_for(connection)(table).on_conflict_do_nothing()
            self._sql[table.name] = str(statement.compile(dialect=connection.dialect))
        times = [i for i, c in enumerate(table.columns) if isinstance(c.type, Utc)]
        convert = Utc().process_bind_param
        stored: list[Row] = []
        for row in rows:
            values = list(row)
            for i in times:
                values[i] = convert(values[i], connection.dialect)
            stored.append(tuple(values))
        await connection.exec_driver_sql(self._sql[table.name], stored)

    async def _mark_dirty(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """Note the minutes these rows fall in. An update of a note that is there locks it, so that
        a rollup at the same moment can't take it away unseen."""
        if not rows:
            return
        at = self.buffers[TELEMETRY_RAW.name].stream.time_index
        minutes = {row[at] // MINUTE_S * MINUTE_S for row in rows}
        insert = _insert_for(connection)(ROLLUP_DIRTY)
        await connection.execute(
            insert.on_conflict_do_update(
                index_elements=["site", "area", "ts"], set_={"ts": insert.excluded.ts}
            ),
            [{"site": self._site, "area": self._area, "ts": m} for m in sorted(minutes)],
        )

    async def _note_gaps(self, connection: AsyncConnection, gaps: dict[str, Gap]) -> None:
        if not gaps:
            return
        insert = _insert_for(connection)(HISTORY_GAPS)
        more = {
            "until": insert.excluded.until,
            "dropped": HISTORY_GAPS.c.dropped + insert.excluded.dropped,
        }
        keys = ("site", "area", "stream", "since", "until", "dropped")
        await connection.execute(
            insert.on_conflict_do_update(index_elements=list(keys[:4]), set_=more),
            [
                dict(zip(keys, (self._site, self._area, s, *g), strict=True))
                for s, g in gaps.items()
            ],
        )


def _insert_for(connection: AsyncConnection) -> Any:
    """The dialect's own insert(), which knows ON CONFLICT."""
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert


def _refuses(error: BaseException) -> bool:
    """True when the rows are at fault: by type, or by SQLSTATE class 22 (data), 23 (integrity)."""
    state = str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")
    return isinstance(error, _REFUSALS) or state[:2] in {"22", "23"}
