"""Rollups of telemetry: minutes of raw rows, hours of minutes.

Decides how readings become a minute: mean, low and high of the good ones, and how many were
missing. A minute is computed when it is over, whole, from the raw rows; its hour whole from its
minutes: doing it again, or after late rows, gives what doing it once in order would have given.
"""

from typing import Any

from sqlalchemy import Select, Table, and_, case, delete, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from agent.history.schema import (
    HOUR_S,
    MINUTE_S,
    ROLLUP_DIRTY,
    ROLLUPS_1H,
    ROLLUPS_1M,
    SERIES,
    TELEMETRY_RAW,
    Utc,
)

MINUTES_AT_ONCE = 30  # in one transaction: a backfill must not lock the writer out for long
SETTLE_S = 10.0  # rows of a minute that is over may still be on their way: roll it up once
_COLUMNS = ["site", "area", "point", "ts", "n", "n_missing", "mean", "low", "high"]


async def roll_up(connection: AsyncConnection, site: str, area: str, now_s: float) -> int:
    """Compute minutes that changed and are over, the newest first, in the caller's transaction.

    Returns how many were done: MINUTES_AT_ONCE means there may be more.
    """
    mine = and_(ROLLUP_DIRTY.c.site == site, ROLLUP_DIRTY.c.area == area)
    over = ROLLUP_DIRTY.c.ts <= now_s - MINUTE_S - SETTLE_S
    newest = select(ROLLUP_DIRTY.c.ts).where(mine, over).order_by(ROLLUP_DIRTY.c.ts.desc())
    minutes = (await connection.execute(newest.limit(MINUTES_AT_ONCE))).scalars().all()
    if not minutes:
        return 0
    # First the notes, then the rows: whoever adds rows meanwhile notes them again.
    await connection.execute(delete(ROLLUP_DIRTY).where(mine, ROLLUP_DIRTY.c.ts.in_(minutes)))
    for minute_s in minutes:
        await _replace(connection, ROLLUPS_1M, of_minute(site, area, minute_s))
    for hour_s in {m // HOUR_S * HOUR_S for m in minutes}:
        await _replace(connection, ROLLUPS_1H, of_hour(site, area, hour_s))
    return len(minutes)


async def _replace(connection: AsyncConnection, table: Table, rows: Select[Any]) -> None:
    made = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = made(table).from_select(_COLUMNS, rows)
    new = {name: statement.excluded[name] for name in _COLUMNS[4:]}
    seen = table.c.n + table.c.n_missing
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=_COLUMNS[:4],
            set_=new,
            # Rows that were deleted since (retention) must not take their rollup with them.
            where=statement.excluded.n + statement.excluded.n_missing >= seen,
        )
    )


def of_minute(site: str, area: str, minute_s: float) -> Select[Any]:
    """What the raw rows of a minute come to, a row a point, as ROLLUPS_1M holds it."""
    return _of(TELEMETRY_RAW, site, area, minute_s, MINUTE_S, minute_sums())


def of_hour(site: str, area: str, hour_s: float) -> Select[Any]:
    """What the minutes of an hour come to, a row a point, as ROLLUPS_1H holds it."""
    return _of(ROLLUPS_1M, site, area, hour_s, HOUR_S, hour_sums())


def minute_sums() -> tuple[Any, ...]:
    """n, n_missing, mean, low and high of raw rows."""
    c = TELEMETRY_RAW.c
    value = case((c.quality == "good", c.value))
    n = func.count(value)
    return n, func.count() - n, func.avg(value), func.min(value), func.max(value)


def hour_sums() -> tuple[Any, ...]:
    """n, n_missing, mean, low and high of minutes."""
    c = ROLLUPS_1M.c
    n = func.sum(c.n)
    mean = func.sum(c.mean * c.n) / func.nullif(n, 0)
    return n, func.sum(c.n_missing), mean, func.min(c.low), func.max(c.high)


def _of(
    table: Table, site: str, area: str, since_s: float, span_s: float, about: tuple[Any, ...]
) -> Select[Any]:
    c = table.c
    known = select(SERIES.c.point).where(SERIES.c.site == site, SERIES.c.area == area)
    return (
        select(c.site, c.area, c.point, literal(since_s, Utc()), *about)
        .where(
            c.site == site, c.area == area, c.point.in_(known),
            c.ts >= since_s, c.ts < since_s + span_s,
        )
        .group_by(c.site, c.area, c.point)
    )  # fmt: skip
