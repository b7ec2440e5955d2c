"""What is thrown away: rows that are too old, and the oldest readings when space runs out.

Decides by age (keep_days, everything) and by size (max_gb a hall, raw readings only: rollups are
small and say most). Works in stretches of time, each a transaction of its own, so that the writer is
never locked out for long. Must never delete raw rows of the last hour, whatever the size.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from sqlalchemy import Table, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from agent.history.schema import (
    HISTORY_GAPS,
    HOUR_S,
    IMS_SCORES,
    OPTIMIZER_ACTIONS,
    ROLLUP_DIRTY,
    ROLLUPS_1H,
    ROLLUPS_1M,
    SERIES,
    TELEMETRY_RAW,
)
from agent.history.store import edge

Transaction = Callable[[], AbstractAsyncContextManager[AsyncConnection]]

DAY_S = 86_400
ROWS_AT_ONCE = 50_000  # about as many are deleted in one transaction
_FIRST_STRETCH_S = 600.0
# table -> column of age, and whether its rows are ordered by point before time
_AGED: tuple[tuple[Table, str, bool], ...] = (
    (TELEMETRY_RAW, "ts", True),
    (ROLLUPS_1M, "ts", True),
    (ROLLUPS_1H, "ts", True),
    (IMS_SCORES, "ts", False),
    (OPTIMIZER_ACTIONS, "ts", False),
    (ROLLUP_DIRTY, "ts", False),
    (HISTORY_GAPS, "until", False),
)
# Bytes a row takes in PostgreSQL with its index (benchmarks/history.py). Its files keep their
# size when rows go, so that what lives is counted instead.
_PG_ROW_BYTES = {"telemetry_raw": 190, "rollups_1m": 215, "rollups_1h": 215, "ims_scores": 260}


async def purge(
    transaction: Transaction, site: str, area: str, now_s: float, keep_days: int, max_bytes: float
) -> int:
    """Delete what is older than keep_days, then the oldest readings above max_bytes; rows deleted."""
    deleted, before_s = 0, now_s - keep_days * DAY_S
    for table, column, by_point in _AGED:
        if by_point:
            deleted += await _oldest_first(transaction, table, site, area, before_s, _always)
            continue
        old = [table.c.site == site, table.c.area == area, table.c[column] < before_s]
        async with transaction() as connection:
            deleted += (await connection.execute(delete(table).where(*old))).rowcount

    async def too_big(connection: AsyncConnection) -> bool:
        used = await used_bytes(connection)
        return used * await _share(connection, site, area) > max_bytes

    newest_s = now_s - HOUR_S
    return deleted + await _oldest_first(transaction, TELEMETRY_RAW, site, area, newest_s, too_big)


async def _always(_connection: AsyncConnection) -> bool:
    return True


async def _oldest_first(
    transaction: Transaction,
    table: Table,
    site: str,
    area: str,
    before_s: float,
    go_on: Callable[[AsyncConnection], Awaitable[bool]],
) -> int:
    """Delete rows before a time, stretch by stretch, for as long as `go_on` says so."""
    c = table.c
    known = select(SERIES.c.point).where(SERIES.c.site == site, SERIES.c.area == area)
    mine = [c.site == site, c.area == area]
    oldest = edge(table, (site, area), func.min)
    done, stretch_s = 0, _FIRST_STRETCH_S
    while True:
        async with transaction() as connection:
            from_s = await connection.scalar(oldest)
            if from_s is None or from_s >= before_s or not await go_on(connection):
                return done
            until_s = min(from_s + stretch_s, before_s)
            old = delete(table).where(*mine, c.point.in_(known), c.ts < until_s)
            count = (await connection.execute(old)).rowcount
        done += count
        stretch_s *= 2 if count < ROWS_AT_ONCE else 0.5


async def _share(connection: AsyncConnection, site: str, area: str) -> float:
    """How much of a shared database is this hall's, by its points: others' rows are not ours to pay for."""
    points = select(func.count()).select_from(SERIES)
    own = await connection.scalar(points.where(SERIES.c.site == site, SERIES.c.area == area))
    return float((own or 0) / max(1, await connection.scalar(points) or 0))


async def used_bytes(connection: AsyncConnection) -> float:
    """What the database's rows take: all sites' in a shared one."""
    if connection.dialect.name == "sqlite":
        pages, free, size = [
            (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one()
            for name in ("page_count", "freelist_count", "page_size")
        ]
        return float((pages - free) * size)
    rows = await connection.execute(text("SELECT relname, n_live_tup FROM pg_stat_user_tables"))
    return float(sum(n * _PG_ROW_BYTES.get(name, 300) for name, n in rows))
