"""One-minute rollups of telemetry, and what is thrown away when it is old.

Decides how raw readings become a minute: mean, low and high of the good ones, and how many were
missing. A minute is always computed whole from the raw rows, so that doing it again, or after
late rows, gives what doing it once in order would have given. Must never delete raw rows that
are younger than keep_days.
"""

from sqlalchemy import Select, Table, and_, case, delete, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from agent.history_schema import (
    HISTORY_GAPS,
    IMS_SCORES,
    MINUTE_S,
    OPTIMIZER_ACTIONS,
    ROLLUP_DIRTY,
    ROLLUPS_1M,
    SERIES,
    TELEMETRY_RAW,
    Utc,
)

MINUTES_AT_ONCE = 30  # in one transaction: a backfill must not lock the writer out for long
DAY_S = 86_400
# table -> column of age, and the table that lists its leading key, where that key is not time
_AGED: tuple[tuple[Table, str, str | None], ...] = (
    (TELEMETRY_RAW, "ts", "point"),
    (ROLLUPS_1M, "ts", "point"),
    (IMS_SCORES, "ts", None),
    (OPTIMIZER_ACTIONS, "ts", None),
    (ROLLUP_DIRTY, "ts", None),
    (HISTORY_GAPS, "until", None),
)


async def roll_up(connection: AsyncConnection, site: str, area: str) -> int:
    """Compute minutes that changed, the newest first, in the caller's transaction.

    Returns how many were done: MINUTES_AT_ONCE means there may be more.
    """
    mine = and_(ROLLUP_DIRTY.c.site == site, ROLLUP_DIRTY.c.area == area)
    newest = select(ROLLUP_DIRTY.c.ts).where(mine).order_by(ROLLUP_DIRTY.c.ts.desc())
    minutes = (await connection.execute(newest.limit(MINUTES_AT_ONCE))).scalars().all()
    if not minutes:
        return 0
    # First the notes, then the rows: whoever adds rows meanwhile notes them again.
    await connection.execute(delete(ROLLUP_DIRTY).where(mine, ROLLUP_DIRTY.c.ts.in_(minutes)))
    for minute_s in minutes:
        await _roll_up_minute(connection, site, area, minute_s)
    return len(minutes)


async def _roll_up_minute(
    connection: AsyncConnection, site: str, area: str, minute_s: float
) -> None:
    made = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    columns = ["site", "area", "point", "ts", "n", "n_missing", "mean", "low", "high"]
    statement = made(ROLLUPS_1M).from_select(columns, _of_minute(site, area, minute_s))
    new = {name: statement.excluded[name] for name in columns[4:]}
    await connection.execute(statement.on_conflict_do_update(index_elements=columns[:4], set_=new))


def _of_minute(site: str, area: str, minute_s: float) -> Select[tuple[object, ...]]:
    raw = TELEMETRY_RAW.c
    value = case((raw.quality == "good", raw.value))
    known = select(SERIES.c.point).where(SERIES.c.site == site, SERIES.c.area == area)
    return (
        select(
            raw.site, raw.area, raw.point, literal(minute_s, Utc()),
            func.count(value), func.count() - func.count(value),
            func.avg(value), func.min(value), func.max(value),
        )
        .where(
            raw.site == site, raw.area == area, raw.point.in_(known),
            raw.ts >= minute_s, raw.ts < minute_s + MINUTE_S,
        )
        .group_by(raw.site, raw.area, raw.point)
    )  # fmt: skip


async def purge(
    connection: AsyncConnection, site: str, area: str, now_s: float, keep_days: int
) -> int:
    """Delete what is older than keep_days, in the caller's transaction; rows deleted."""
    before_s = now_s - keep_days * DAY_S
    deleted = 0
    for table, column, key in _AGED:
        old = [table.c.site == site, table.c.area == area, table.c[column] < before_s]
        if key is not None:  # a range in each point's own stretch, instead of the whole table
            known = select(SERIES.c.point).where(SERIES.c.site == site, SERIES.c.area == area)
            old.append(table.c[key].in_(known))
        deleted += (await connection.execute(delete(table).where(*old))).rowcount
    return deleted
