"""Looks whether a history is sound, and gives space back. Both while the agent goes on writing.

Decides what sound means: the file itself, the schema's revision, rollups that say what the rows
below them say. What was given up (gaps) and what waits (spool, minutes to roll up) is shown, and
is no fault. Must never repair: a rollup that is wrong is a bug to be found.
"""

import math
from typing import Any

from sqlalchemy import Select, Table, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agent.clock import utc
from agent.history.db import outside_transactions
from agent.history.query import bucket, gaps
from agent.history.retention import used_bytes
from agent.history.rollup import SETTLE_S, hour_sums, minute_sums
from agent.history.schema import (
    HOUR_S,
    METADATA,
    MINUTE_S,
    ROLLUP_DIRTY,
    ROLLUPS_1H,
    ROLLUPS_1M,
    TELEMETRY_RAW,
)
from agent.history.store import Identity, mine

DAY_S = 86_400
MOST_SHOWN = 20
# rollup -> what it is made of, its step, how
_MADE_OF: tuple[tuple[Table, Table, int, Any], ...] = (
    (ROLLUPS_1M, TELEMETRY_RAW, MINUTE_S, minute_sums),
    (ROLLUPS_1H, ROLLUPS_1M, HOUR_S, hour_sums),
)


async def check(engine: AsyncEngine, me: Identity, since_s: float, now_s: float) -> dict[str, Any]:
    """What is wrong ("problems"), and how much there is. Raises DATABASE_ERRORS.

    since_s: rollups are compared with their rows from there on.
    """
    problems: list[str] = []
    async with _snapshot(engine).connect() as connection:
        if engine.dialect.name == "sqlite":
            found = (await connection.exec_driver_sql("PRAGMA integrity_check(20)")).scalars()
            problems += [f"the file: {line}" for line in found if line != "ok"]
        dirty = select(ROLLUP_DIRTY.c.ts).where(*mine(ROLLUP_DIRTY, me))
        waiting = set((await connection.execute(dirty)).scalars())
        compared = 0
        for rollup, rows, step_s, sums in _MADE_OF:
            open_s = {t // step_s * step_s for t in waiting}
            for start_s in await _hours(connection, rows, me, since_s, now_s):
                wrong, n = await _differences(connection, me, rollup, rows, step_s, sums, start_s)
                problems += [w for at_s, w in wrong if at_s not in open_s]
                compared += n
        holes = await gaps(connection, me, 0)
        return {
            "problems": problems[:MOST_SHOWN], "wrong": len(problems), "compared": compared,
            "rows": {t.name: await _count(connection, t, me) for t in METADATA.sorted_tables},
            "minutes_behind": sum(t < now_s - MINUTE_S - SETTLE_S for t in waiting),
            "gaps": len(holes), "dropped": sum(g.dropped for g in holes),
            "holes": [{"stream": g.stream, "since": utc(g.since_s), "until": utc(g.until_s), "dropped": g.dropped}
                      for g in holes[-MOST_SHOWN:]],
            "bytes": await used_bytes(connection),
        }  # fmt: skip


def _snapshot(engine: AsyncEngine) -> AsyncEngine:
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


async def _count(connection: AsyncConnection, table: Table, me: Identity) -> int:
    wanted = select(func.count()).select_from(table).where(*mine(table, me))
    return int(await connection.scalar(wanted) or 0)


async def _hours(
    connection: AsyncConnection, table: Table, me: Identity, since_s: float, now_s: float
) -> list[float]:
    """The hours that have rows, oldest first: they are looked at one at a time, so that memory stays
    small whatever the span."""
    at = bucket(table.c.ts, HOUR_S, connection.dialect.name).label("at")
    hours = select(at).where(
        *mine(table, me), table.c.ts >= since_s // HOUR_S * HOUR_S, table.c.ts <= now_s
    )
    return [float(h) for h in (await connection.execute(hours.distinct().order_by(at))).scalars()]


async def _differences(
    connection: AsyncConnection, me: Identity, rollup: Table, rows: Table, step_s: int, sums: Any,
    start_s: float,
) -> tuple[list[tuple[float, str]], int]:  # fmt: skip
    """Where a rollup does not say what its rows say, within an hour; and how many were compared.

    Rows may have been deleted since (retention): then the rollup knows more, and is right.
    """
    dialect = connection.dialect.name
    at = bucket(rows.c.ts, step_s, dialect).label("at")
    made = await _by_key(connection, _within(select(rows.c.point, at, *sums()), rows, me, start_s)
                         .group_by(rows.c.point, at))  # fmt: skip
    c = rollup.c
    kept_at = bucket(c.ts, step_s, dialect)
    kept = await _by_key(connection, _within(
        select(c.point, kept_at, c.n, c.n_missing, c.mean, c.low, c.high), rollup, me, start_s
    ))  # fmt: skip
    wrong = []
    for (point, at_s), should in made.items():
        found = kept.get((point, at_s))
        if found is None or not _agrees(found, should):
            wrong.append(
                (at_s, f"{rollup.name}: {point} at {at_s:.0f}: {found}, its rows say {should}")
            )
    return wrong, len(made)


def _within(wanted: Select[Any], table: Table, me: Identity, start_s: float) -> Select[Any]:
    return wanted.where(*mine(table, me), table.c.ts >= start_s, table.c.ts < start_s + HOUR_S)


async def _by_key(connection: AsyncConnection, wanted: Select[Any]) -> dict[Any, Any]:
    return {(r[0], float(r[1])): tuple(r[2:]) for r in await connection.execute(wanted)}


def _agrees(found: Any, should: Any) -> bool:
    if found[0] + found[1] > should[0] + should[1]:
        return True
    if tuple(found[:2]) != tuple(should[:2]):
        return False
    return all(
        a == b
        or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9))
        for a, b in zip(found[2:], should[2:], strict=True)
    )


async def vacuum(engine: AsyncEngine) -> tuple[float, float]:
    """Give space back to the file system; bytes before and after. The agent's rows wait meanwhile
    in its spool. Raises DATABASE_ERRORS."""
    async with outside_transactions(engine).connect() as connection:
        before = await _on_disk(connection)
        if engine.dialect.name == "sqlite":
            for statement in ("VACUUM", "PRAGMA optimize", "PRAGMA wal_checkpoint(TRUNCATE)"):
                await connection.exec_driver_sql(statement)
        else:
            for table in METADATA.sorted_tables:
                await connection.execute(text(f"VACUUM (ANALYZE) {table.name}"))
        return before, await _on_disk(connection)


async def _on_disk(connection: AsyncConnection) -> float:
    if connection.dialect.name != "sqlite":
        return float(await connection.scalar(text("SELECT pg_database_size(current_database())")))
    pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
    return float(pages * (await connection.exec_driver_sql("PRAGMA page_size")).scalar_one())
