"""Rows on their way into the database: the one task that empties the buffers.

Decides what happens when the database is slow or gone: rows move to the spool on disk, and from
there into the database once it is back, beside what is new. Where the spool can't take them they
wait in memory up to a bound, then the oldest are dropped, counted, and the hole is written down in
history_gaps. Adding must never block, never raise, and never make anybody wait for a database.
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import chain
from operator import itemgetter
from typing import Any

import structlog
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agent.history.buffer import Block, Buffer, Item, Stream, Taken
from agent.history.db import DATABASE_ERRORS, STATEMENT_S, for_writing, one_line
from agent.history.schema import (
    HISTORY_GAPS,
    MINUTE_S,
    ROLLUP_DIRTY,
    TELEMETRY_RAW,
    Utc,
    stored_time,
)
from agent.history.spool import Gap, Row, Segment, Spool
from agent.logs import Outage

log = structlog.get_logger(__name__)

FLUSH_S = 5.0  # wall seconds between two writes: rows of one point lie together, fewer pages change
BATCH_ROWS = (
    25_000  # of one stream in one transaction: a page of a point is then changed once in 5 s
)
TOGETHER = 100  # rows in one statement of SQLite's, during which the interpreter is the loop's
CHUNK_ROWS = 2_000  # of them as rows at once: as many as are worth their memory
SPOOL_ROWS = 5_000  # in one segment of the spool
# A thread that prepares or writes rows lets go of the interpreter after so long when the loop wants
# it. By default it is 5 ms, and the loop asks several times a cycle.
GIVE_WAY_S = 0.000_5
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# Errors of the rows, not of the database.
_REFUSALS = (DataError, IntegrityError, ValueError, TypeError, ArithmeticError)


class Writer:
    """The task that empties the buffers. `ready` opens the database and may raise anything."""

    def __init__(
        self,
        streams: Sequence[Stream],
        identity: tuple[str, str],
        spool: Spool,
        ready: Callable[[], Awaitable[AsyncEngine]],
        lock: asyncio.Lock,
    ) -> None:
        self.buffers = {s.table.name: Buffer(s) for s in streams}
        self.written = 0
        self.outage = Outage("history database")
        self._identity = identity
        self._spool = spool
        self._spooling = Outage("history spool")
        self._segment: tuple[Segment, Buffer] | None = None  # what is on its way back
        self._ready = ready
        self._lock = lock
        self._wake = asyncio.Event()  # enough rows wait
        self._hurry = asyncio.Event()  # somebody waits for them to be written
        self._flushed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sql: dict[str, str] = {}
        self._inserting: Buffer | None = None
        self._most = BATCH_ROWS

    async def start(self) -> None:
        """Begin to write in the background; threads of this process give way to its loop sooner."""
        sys.setswitchinterval(min(sys.getswitchinterval(), GIVE_WAY_S))
        await self._on_disk(self._spool.load)
        self._task = asyncio.create_task(self._run(), name="history: writer")

    def put(self, table: Table, item: Item) -> None:
        """Queue a row for a table (site and area first, then the columns in order) or a poll."""
        buffer = self.buffers[table.name]
        buffer.put(item)
        if len(buffer) >= BATCH_ROWS:
            self._wake.set()

    @property
    def queued(self) -> int:
        """Rows that wait, in memory and on disk."""
        return sum(map(len, self.buffers.values())) + self._spool.rows

    @property
    def dropped(self) -> int:
        """Rows given up since the start."""
        return sum(b.dropped for b in self.buffers.values()) + self._spool.dropped

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
        """Write what can still be written, to disk what can't, end the task; the rows given up."""
        if self._task is not None:
            await self.flush(timeout_s)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await self._to_disk()
        return sum(map(len, self.buffers.values()))

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
                if _refuses(error) and self._inserting is not None:
                    self._find_culprit(error, self._inserting)
                else:
                    self.outage.failed(one_line(error), queued=self.queued)
                    await self._to_disk()
            self._flushed.set()

    async def _pause(self) -> None:
        """Until the next write is due, or sooner when rows pile up or somebody waits. While the
        database is away rows that pile up go to disk."""
        failures, clock = self.outage.failures, asyncio.get_running_loop()
        pause_s = FLUSH_S
        if failures:
            pause_s = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] * random.uniform(0.5, 1.5)
        until_s = clock.time() + pause_s
        while (left_s := until_s - clock.time()) > 0 and not self._hurry.is_set():
            if self._wake.is_set():
                self._wake.clear()
                if not failures:
                    break
                await self._to_disk()
            waits = [asyncio.create_task(event.wait()) for event in (self._hurry, self._wake)]
            try:
                await asyncio.wait(waits, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        self._hurry.clear()
        self._wake.clear()

    async def _to_disk(self) -> None:
        """Move what waits in memory to the spool. A disk that won't have it leaves it there."""
        for name, buffer in self.buffers.items():
            while buffer:
                taken = buffer.peek(SPOOL_ROWS)
                at = buffer.stream.time_index
                if not await self._on_disk(self._spool.put, name, taken.rows(), at):
                    return
                buffer.done(taken)

    async def _on_disk(self, act: Callable[..., object], *about: Any) -> bool:
        try:
            await asyncio.to_thread(act, *about)
        except (OSError, ValueError, TypeError) as error:
            self._spooling.failed(one_line(error))
            return False
        self._spooling.worked()
        return True

    def _find_culprit(self, error: BaseException, buffer: Buffer) -> None:
        """A row that the database refuses must not hold up all others: look for it in ever
        smaller batches, and give it up when it stands alone."""
        if self._most > 1:
            self._most //= 2
        else:
            buffer.drop(1)
            table = buffer.stream.table.name
            log.error("history row refused", table=table, reason=one_line(error))
        self._hurry.set()

    async def _write_batch(self) -> bool:
        """The oldest rows of every stream, then some of the spool's; True when there is more."""
        engine = await self._ready()
        more = await self._write(engine, list(self.buffers.values()))
        if self._segment is None and not await self._next_segment():
            return more
        assert self._segment is not None
        segment, buffer = self._segment
        await self._write(engine, [buffer])
        if not buffer:
            self._segment = None
            await asyncio.to_thread(self._spool.done, segment)
        return True

    async def _next_segment(self) -> bool:
        """Take the spool's oldest segment up; False when there is none."""
        segment = self._spool.oldest
        if segment is None:
            return False
        try:
            stream = self.buffers[segment.stream].stream
            rows = await asyncio.to_thread(self._spool.read, segment)
            width = len(stream.table.columns)
            if any(len(row) != width for row in rows):
                raise ValueError(f"rows are not {width} values long")
        except (OSError, ValueError, KeyError) as error:
            log.error("history spool damaged", file=str(segment.path), reason=one_line(error))
            await asyncio.to_thread(self._spool.give_up, segment)
            return await self._next_segment()
        buffer = Buffer(replace(stream, room=len(rows)))
        for row in rows:
            buffer.put(row)
        self._segment = segment, buffer
        return True

    async def _write(self, engine: AsyncEngine, buffers: Sequence[Buffer]) -> bool:
        """One transaction with the oldest rows of these buffers; True when one may hold more."""
        batch = [(b, b.peek(self._most)) for b in buffers if b]
        gaps = [(b, gap) for b in buffers if (gap := b.take_gap())]
        holes = self._spool.holes
        if not gaps and not batch and not holes:
            return False
        noted = [(b.stream.table.name, gap) for b, gap in gaps] + list(holes.items())
        try:
            async with self._lock, for_writing(engine).begin() as connection:
                for buffer, taken in batch:
                    self._inserting = buffer
                    await self._insert(connection, buffer.stream.table, taken)
                self._inserting = None
                for buffer, taken in batch:
                    if buffer.stream.table is TELEMETRY_RAW:
                        await self._mark_dirty(connection, taken)
                await self._note_gaps(connection, noted)
        except BaseException:
            for buffer, gap in gaps:
                buffer.keep_gap(gap)
            raise
        for buffer, taken in batch:
            buffer.done(taken)
            self.written += taken.count
        if holes:
            await asyncio.to_thread(self._spool.holes_written)
        return any(taken.count == self._most for _, taken in batch)

    async def _insert(self, connection: AsyncConnection, table: Table, taken: Taken) -> None:
        """Insert rows; those that are already there are left alone."""
        if table.name not in self._sql:
            statement = _insert_for(connection)(table).on_conflict_do_nothing()
            self._sql[table.name] = str(statement.compile(dialect=connection.dialect))
        sql, kind = self._sql[table.name], connection.dialect.name
        one = f"({', '.join('?' * len(table.columns))})"
        for chunk in await asyncio.to_thread(list, taken.chunks(CHUNK_ROWS)):
            together, rest = await asyncio.to_thread(_ready, table, chunk, kind)
            if together:
                many = sql.replace(one, ", ".join([one] * TOGETHER))
                await connection.exec_driver_sql(many, together)
            if rest:
                await connection.exec_driver_sql(sql, rest)

    async def _mark_dirty(self, connection: AsyncConnection, taken: Taken) -> None:
        """Note the minutes these rows fall in. An update of a note that is there locks it, so that
        a rollup at the same moment can't take it away unseen."""
        keys = ("site", "area", "ts")
        minutes = await asyncio.to_thread(_minutes, taken.items)
        insert = _insert_for(connection)(ROLLUP_DIRTY)
        await connection.execute(
            insert.on_conflict_do_update(
                index_elements=list(keys), set_={"ts": insert.excluded.ts}
            ),
            [dict(zip(keys, minute, strict=True)) for minute in minutes],
        )

    async def _note_gaps(
        self, connection: AsyncConnection, gaps: Sequence[tuple[str, Gap]]
    ) -> None:
        insert = _insert_for(connection)(HISTORY_GAPS)
        more = {
            "until": insert.excluded.until,
            "dropped": HISTORY_GAPS.c.dropped + insert.excluded.dropped,
        }
        keys = ("site", "area", "stream", "since", "until", "dropped")
        upsert = insert.on_conflict_do_update(index_elements=list(keys[:4]), set_=more)
        for stream, gap in gaps:
            row = dict(zip(keys, (*self._identity, stream, *gap), strict=True))
            await connection.execute(upsert, row)


def _ready(table: Table, items: Sequence[Item], kind: str) -> tuple[list[Row], list[Row]]:
    """Rows as the database takes them: the parameters of statements of TOGETHER rows (SQLite), and
    the rows that are left."""
    rows = _stored(table, items, kind)
    end = len(rows) - len(rows) % TOGETHER if kind == "sqlite" else 0
    parts = (rows[at : at + TOGETHER] for at in range(0, end, TOGETHER))
    return [tuple(chain.from_iterable(part)) for part in parts], rows[end:]


def _stored(table: Table, items: Sequence[Item], kind: str) -> list[Row]:
    """Rows as the database takes them, point by point (the third column): each page is changed once.

    Of one point they stay in the order they came in. Some rows at a time: nothing else runs in
    this process while one call sorts.
    """
    times = [at for at, column in enumerate(table.columns) if isinstance(column.type, Utc)]
    stored: list[Row] = []
    for item in items:
        if isinstance(item, Block):
            stored += item.rows(stored_time(item.sweep.taken_s, kind))
            continue
        row = list(item)
        for at in times:
            row[at] = None if row[at] is None else stored_time(row[at], kind)
        stored.append(tuple(row))
    stored.sort(key=itemgetter(2))
    return stored


def _minutes(items: Sequence[Item]) -> list[Row]:
    """The minutes that rows of telemetry fall in, each with its site and area, in order."""
    return sorted({
        (*i.me, i.sweep.taken_s // MINUTE_S * MINUTE_S) if isinstance(i, Block)
        else (i[0], i[1], i[3] // MINUTE_S * MINUTE_S) for i in items
    })  # fmt: skip


def _insert_for(connection: AsyncConnection) -> Any:
    """The dialect's own insert(), which knows ON CONFLICT."""
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert


def _refuses(error: BaseException) -> bool:
    """True when the rows are at fault: by type, or by SQLSTATE class 22 (data), 23 (integrity)."""
    state = str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")
    return isinstance(error, _REFUSALS) or state[:2] in {"22", "23"}
