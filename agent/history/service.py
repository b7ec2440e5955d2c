"""History: what was measured, scored and done, kept in SQLite or PostgreSQL.

Decides nothing about the hall. Losing the database never stops control: `add_*` only queue and
never raise, `rollup` and `start` report instead of raising. What is asked of it (queries, models,
settings) raises HistoryDown when it can't be answered, for the caller to say so.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agent.clock import Clock, parse_utc
from agent.history import query, store
from agent.history import rollup as rollups
from agent.history.buffer import Block, Stream
from agent.history.db import (
    DATABASE_ERRORS,
    STATEMENT_S,
    for_writing,
    history_url,
    make_engine,
    migrate,
    one_line,
)
from agent.history.retention import purge
from agent.history.schema import IMS_SCORES, OPTIMIZER_ACTIONS, TELEMETRY_RAW
from agent.history.spool import Spool
from agent.history.timescale import switch_on
from agent.history.writer import Writer
from agent.logs import Outage
from agent.plain import finite, strict_json
from agent.services import HistoryDown as HistoryDown
from agent.services import HistoryStatus
from config.site import Device, Site
from control.types import Finding, Reading, Sweep

log = structlog.get_logger(__name__)

# How many rows may wait in memory, 20 MB at most; the spool on disk takes over from there.
# Actions are few and matter most.
STREAMS = (
    Stream(TELEMETRY_RAW, room=100_000),
    Stream(IMS_SCORES, room=20_000),
    Stream(OPTIMIZER_ACTIONS, room=10_000),
)
PURGE_S = 3_600.0
CLOSE_S = 5.0
MAX_DETAIL = 65_536  # characters of a record's detail; more is cut to its keys
_END_S = 253_402_300_800.0  # the year 10000: what databases can't say is no time
_NAMED = {"loop": 16, "move": 64, "scope": 96}  # what of a detail has a column, and how wide


class History:
    """One site's history. Make it, `start()`, use it from one event loop, `close()`."""

    def __init__(self, site: Site, clock: Clock, environ: Mapping[str, str] | None = None) -> None:
        self._site = site
        self._clock = clock
        self._environ = environ  # where secrets are looked up; None: the process's own
        self._me = (site.id, site.area)
        self._kept_s: dict[str, float] = {}  # device -> the last poll of it that was kept
        self._engine: AsyncEngine | None = None
        self._opening = asyncio.Lock()
        self._writing = asyncio.Lock()  # one writer at a time: SQLite knows no more
        self._rolling = Outage("history rollup")
        self._purged_s: float | None = None
        spool = Spool(Path(site.agent.data_dir) / "history-spool", site.history.spool_mb << 20)
        self._writer = Writer(STREAMS, self._me, spool, self._open, self._writing)

    def adopt(self, site: Site) -> None:
        """Go on with another version of the site; its new points are described before they count."""
        self._site = site
        self._describing = asyncio.create_task(self._describe(), name="history: describe")

    async def _describe(self) -> None:
        try:
            async with self._write() as connection:
                await store.describe_series(connection, self._site)
        except HistoryDown as error:  # what opens it again describes it
            log.info("points not described yet", reason=str(error))

    async def start(self) -> bool:
        """Open the database and begin to write. False when it is away: it is tried again for as
        long as the agent runs."""
        try:
            await self._open()
        except DATABASE_ERRORS as error:
            self._writer.outage.failed(one_line(error), place=self._place)
        await self._writer.start()
        return not self._writer.outage.lost

    def add_readings(self, device: Device, readings: Sequence[Reading]) -> None:
        """Queue what a device said, as far as the site knows the points. Never blocks or raises."""
        if isinstance(readings, Sweep):
            self._add_sweep(device, readings)
            return
        for r in readings:
            if r.point in self._site.points:
                self._put(TELEMETRY_RAW, r.point, r.taken_s, finite(r.value), str(r.quality))

    def _add_sweep(self, device: Device, sweep: Sweep) -> None:
        """A whole poll, unless it comes too soon after the last one that was kept."""
        at_s, kept_s = sweep.taken_s, self._kept_s.get(device.id, 0.0)
        if kept_s <= at_s < kept_s + self._site.history.min_interval_s or not 0 < at_s < _END_S:
            return
        self._kept_s[device.id] = at_s
        self._writer.put(TELEMETRY_RAW, Block(self._me, sweep, 0, len(sweep)))

    def add_scores(self, now_s: float, findings: Sequence[Finding]) -> None:
        """Queue what the monitor found. Never blocks, never raises."""
        for f in findings:
            numbers = finite(f.deviation), finite(f.ema), finite(f.heat)
            since_s = f.since_s if 0 < f.since_s < _END_S else None
            about = f.state[:16], since_s, strict_json(f.top)
            self._put(IMS_SCORES, f.unit[:64], now_s, *numbers, *about)

    def add_action(self, detail: Mapping[str, object]) -> None:
        """Queue what was decided or done: any detail, of which "type", "ts" or "ts_s", "cycle",
        "loop", "move" and "scope" have columns of their own. Never blocks, never raises."""
        at_s = detail.get("ts_s")
        if not isinstance(at_s, int | float):
            at_s = parse_utc(str(detail.get("ts", "")))
        if at_s is None:
            at_s = self._clock.now_s()
        named = (_text(detail.get(key), most) for key, most in _NAMED.items())
        self._put(
            OPTIMIZER_ACTIONS, uuid.uuid4().hex, at_s, str(detail.get("cycle", ""))[:64],
            str(detail.get("type", ""))[:32], *named, detail_json(detail),
        )  # fmt: skip

    def _put(self, table: Table, key: str, time_s: float, *values: Any) -> None:
        if 0 < time_s < _END_S:
            self._writer.put(table, (*self._me, key, time_s, *values))

    async def rollup(self, now_s: float) -> int:
        """Bring the rollups up to date and, once an hour, delete what is too old or too much.

        Returns the minutes computed. Never raises: a database that is away is logged once and
        the minutes wait in it.
        """
        done = 0
        try:
            while True:
                async with self._write() as connection:
                    count = await rollups.roll_up(connection, *self._me, now_s)
                done += count
                if count < rollups.MINUTES_AT_ONCE:
                    break
            await self._purge_when_due(now_s)
            self._rolling.worked()
        except HistoryDown as error:
            self._rolling.failed(str(error))
        return done

    async def _purge_when_due(self, now_s: float) -> None:
        if self._purged_s is not None and now_s - self._purged_s < PURGE_S:
            return
        self._purged_s = now_s
        keep = self._site.history
        rows = await purge(self._write, *self._me, now_s, keep.keep_days, keep.max_gb * 1e9)
        if rows > 0:
            log.info("old history deleted", rows=rows, keep_days=keep.keep_days, max_gb=keep.max_gb)

    async def flush(self, timeout_s: float = 30.0) -> bool:
        """Write what is queued now; False when the database would not take it all."""
        return await self._writer.flush(timeout_s)

    async def close(self) -> None:
        """Write what can be written within some seconds, and let go of the database."""
        lost = await self._writer.stop(CLOSE_S)
        if lost:
            log.warning(
                "history rows given up at stop", rows=lost, reason=self._writer.outage.reason
            )
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    @property
    def status(self) -> HistoryStatus:
        """How history is doing."""
        w = self._writer
        return HistoryStatus(self._place, w.outage.reason, w.queued, w.written, w.dropped)

    @property
    def _place(self) -> str:
        return history_url(self._site).render_as_string(hide_password=True)

    # What is asked of it.

    async def series(
        self, point: str, since_s: float, until_s: float, step_s: float | None = None
    ) -> list[query.Sample]:
        """A point ("device/point") between two times; see history_query.series."""
        async with self._read() as connection:
            return await query.series(connection, self._me, point, since_s, until_s, step_s)

    async def timeline(
        self, quantity: str, since_s: float, until_s: float, step_s: float
    ) -> dict[str, list[tuple[float, float | None]]]:
        """Every point of a quantity between two times; see history_query.timeline."""
        async with self._read() as connection:
            return await query.timeline(connection, self._me, quantity, since_s, until_s, step_s)

    async def span(self) -> tuple[float, float] | None:
        """From when until when there are rollups; None where there are none."""
        async with self._read() as connection:
            return await query.span(connection, self._me)

    async def scores(self, unit: str, since_s: float, until_s: float) -> list[query.Score]:
        """What the monitor said of a unit between two times, oldest first."""
        async with self._read() as connection:
            return await query.scores(connection, self._me, unit, since_s, until_s)

    async def means(
        self, point: str, since_s: float, until_s: float, step_s: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Step starts and means of a point's good raw readings; see history_query.means."""
        async with self._read() as connection:
            found = await query.means(connection, self._me, point, since_s, until_s, step_s)
        pairs = np.array(found, dtype=np.float64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    async def persistent(
        self, unit: str, since_s: float, until_s: float, step_s: float
    ) -> list[float]:
        """The starts of steps in which a unit was persistent."""
        async with self._read() as connection:
            return await query.persistent(connection, self._me, unit, since_s, until_s, step_s)

    async def actions(
        self,
        since_s: float,
        limit: int = 100,
        before: tuple[float, str] | None = None,
        kinds: Sequence[str] = (),
        until_s: float | None = None,
    ) -> list[query.Action]:
        """Records of decisions since a time, newest first; see history_query.actions."""
        async with self._read() as connection:
            return await query.actions(connection, self._me, since_s, limit, before, kinds, until_s)

    async def gaps(self, since_s: float) -> list[query.Gap]:
        """Where rows were given up, oldest first."""
        async with self._read() as connection:
            return await query.gaps(connection, self._me, since_s)

    async def save_model(self, document: Mapping[str, Any], note: str = "") -> int:
        """Keep an IMS model (plain JSON values; its "id" is kept beside it); its version here.

        It is not active until `activate_model`. Raises ValueError for what is not strict JSON.
        """
        text = json.dumps(document, allow_nan=False)
        now_s, model_id = self._clock.now_s(), str(document.get("id", ""))
        async with self._write() as connection:
            return await store.save_model(connection, self._me, now_s, text, model_id, note)

    async def activate_model(self, version: int | None) -> bool:
        """Make this version the active one (None: none is). False when there is no such version."""
        async with self._write() as connection:
            return await store.activate_model(connection, self._me, version)

    async def active_model(self) -> store.StoredModel | None:
        """The active model with its document, if there is one."""
        async with self._read() as connection:
            return await store.load_model(connection, self._me, None)

    async def model(self, version: int) -> store.StoredModel | None:
        """A version of the model with its document, if there is such a version."""
        async with self._read() as connection:
            return await store.load_model(connection, self._me, version)

    async def list_models(self) -> list[store.StoredModel]:
        """Every kept model without its document, newest first."""
        async with self._read() as connection:
            return await store.list_models(connection, self._me)

    async def get_setting(self, key: str, default: Any = None) -> Any:
        """A kept JSON value."""
        async with self._read() as connection:
            return await store.get_setting(connection, self._me, key, default)

    async def set_setting(self, key: str, value: Any) -> None:
        """Keep a JSON value under a key. Raises ValueError for what is not strict JSON."""
        async with self._write() as connection:
            await store.set_setting(connection, self._me, self._clock.now_s(), key, value)

    # Opening.

    async def _open(self) -> AsyncEngine:
        """The engine, with its schema up to date. Raises DATABASE_ERRORS."""
        async with self._opening:
            if self._engine is None:
                engine = make_engine(self._site, self._environ)
                try:
                    await migrate(engine)
                    await switch_on(engine)
                    async with self._writing, for_writing(engine).begin() as connection:
                        await store.describe_series(connection, self._site)
                except BaseException:
                    await engine.dispose()
                    raise
                self._engine = engine
        return self._engine

    @asynccontextmanager
    async def _read(self) -> AsyncIterator[AsyncConnection]:
        async with self._answering() as engine, engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[AsyncConnection]:
        async with (
            self._answering() as engine,
            self._writing,
            for_writing(engine).begin() as connection,
        ):
            yield connection

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[AsyncEngine]:
        """Turn what goes wrong with the database into HistoryDown."""
        try:
            async with asyncio.timeout(STATEMENT_S):
                yield await self._open()
        except DATABASE_ERRORS as error:
            raise HistoryDown(f"{self._place}: {one_line(error)}") from error


def detail_json(detail: Mapping[str, object]) -> str:
    """A record's detail as strict JSON, bounded in size."""
    text = strict_json(detail)
    if len(text) <= MAX_DETAIL:
        return text
    return strict_json({"cut": sorted(map(str, detail))[:50], "characters": len(text)})


def _text(value: object, most: int) -> str | None:
    return None if value is None else str(value)[:most]
