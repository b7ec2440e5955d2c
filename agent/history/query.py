"""What history is asked: series of a point, scores of a unit, actions, gaps.

Decides which table answers and how much of it: raw rows below a step of a minute, then
one-minute rollups, and hourly ones for whole hours over days. Never more than MAX_ROWS; a caller who needs more asks for the next stretch.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CursorResult,
    Double,
    Select,
    Table,
    and_,
    case,
    func,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from agent.history.schema import (
    HISTORY_GAPS,
    HOUR_S,
    IMS_SCORES,
    MINUTE_S,
    OPTIMIZER_ACTIONS,
    ROLLUPS_1H,
    ROLLUPS_1M,
    SERIES,
    TELEMETRY_RAW,
)
from agent.history.store import Identity, edge, mine

MAX_ROWS = 100_000
LONG_S = 48 * HOUR_S  # over a longer time hours are answered by the hour, from the first whole one


class Sample(NamedTuple):
    """A stretch of a series that begins at ts_s: mean, low and high of `n` good readings in the
    quantity's unit (None when there was none), and how many others there were."""

    ts_s: float
    value: float | None
    low: float | None
    high: float | None
    n: int
    n_missing: int


@dataclass(frozen=True, slots=True)
class Score:
    """What the monitor said of a unit at ts_s."""

    ts_s: float
    deviation: float | None
    ema: float | None
    heat: float | None
    state: str
    since_s: float | None
    top: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Action:
    """One record of a decision."""

    ts_s: float
    cycle: str
    kind: str
    loop: str | None
    move: str | None
    scope: str | None
    detail: Mapping[str, Any]
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """Rows of a stream that were given up between two times, both inclusive."""

    stream: str
    since_s: float
    until_s: float
    dropped: int


def bucket(ts: ColumnElement[Any], step_s: float, dialect: str) -> ColumnElement[Any]:
    """The start of the step a time falls in, in POSIX seconds."""
    if dialect == "postgresql":
        return func.floor(_epoch(ts) / step_s) * step_s
    step_ms = max(1, round(step_s * 1000))
    return (type_coerce(ts, BigInteger) // step_ms) * step_ms / 1000.0


def seconds(ts: ColumnElement[Any], dialect: str) -> ColumnElement[Any]:
    """A time as POSIX seconds, made by the database: many rows are read."""
    if dialect == "postgresql":
        return _epoch(ts)
    return type_coerce(ts, BigInteger) / 1000.0


def _epoch(ts: ColumnElement[Any]) -> ColumnElement[Any]:
    """extract() would count in numeric, which takes longer than all the rest of a query."""
    return func.date_part("epoch", ts, type_=Double)


async def series(
    connection: AsyncConnection,
    me: Identity,
    point: str,
    since_s: float,
    until_s: float,
    step_s: float | None = None,
) -> list[Sample]:
    """A point from since_s to before until_s, oldest first. step_s None: each raw reading."""
    if step_s is not None and not step_s > 0:
        raise ValueError(f"step_s {step_s!r} must be above 0, or None for every reading")
    table = _answers(since_s, until_s, step_s)
    c = table.c
    found = await connection.execute(
        _rows(table, step_s, connection.dialect.name)
        .where(*mine(table, me), c.point == point, c.ts >= since_s, c.ts < until_s)
        .limit(MAX_ROWS)
    )
    rows = _plain(found)
    if step_s is None:
        return [
            Sample(at_s, value, value, value, 1, 0) if quality == "good" and value is not None
            else Sample(at_s, None, None, None, 0, 1) for at_s, value, quality in rows
        ]  # fmt: skip
    return [Sample(float(r[0]), r[1], r[2], r[3], int(r[4]), int(r[5])) for r in rows]


def _plain(found: CursorResult[Any]) -> Sequence[Any]:
    """The rows as the driver has fetched them, for columns that need no conversion: to make a Row of
    each costs more than the query where there are tens of thousands."""
    rows: Sequence[Any] = found.cursor.fetchall() if found.cursor is not None else ()
    found.close()
    return rows


async def timeline(
    connection: AsyncConnection,
    me: Identity,
    quantity: str,
    since_s: float,
    until_s: float,
    step_s: float,
) -> dict[str, list[tuple[float, float | None]]]:
    """Every point of a quantity: (start of the step, mean in the quantity's unit), by point."""
    if not step_s >= MINUTE_S:
        raise ValueError(f"step_s {step_s!r} must be at least {MINUTE_S}")
    table = _answers(since_s, until_s, step_s)
    c = table.c
    known = select(SERIES.c.point).where(*mine(SERIES, me), SERIES.c.quantity == quantity)
    dialect = connection.dialect.name
    at: ColumnElement[Any] = seconds(c.ts, dialect).label("at")
    order: ColumnElement[Any] = c.ts  # in which SQLite has its rows
    wanted = select(c.point, at, c.mean.label("mean"))
    if step_s != (HOUR_S if table is ROLLUPS_1H else MINUTE_S):  # else each row is its own step
        at = order = bucket(c.ts, step_s, dialect).label("at")
        mean = func.sum(c.mean * c.n) / func.nullif(func.sum(c.n), 0)
        wanted = select(c.point, at, mean.label("mean")).group_by(c.point, at)
    wanted = wanted.where(*mine(table, me), c.point.in_(known), c.ts >= since_s, c.ts < until_s)
    if dialect == "postgresql":
        found = _plain(await connection.execute(_by_point(wanted)))
        return {point: list(zip(times, means, strict=True)) for point, times, means in found}
    rows = _plain(await connection.execute(wanted.order_by(c.point, order)))
    return {
        point: [(float(at_s), mean) for _, at_s, mean in each]
        for point, each in groupby(rows, itemgetter(0))
    }


def _by_point(wanted: Select[Any]) -> Select[Any]:
    """A row a point with two arrays in place of a row a value: its driver takes as long for a row of
    three as for an array of a hundred."""
    c = wanted.subquery().c
    in_order = (func.array_agg(aggregate_order_by(column, c.at)) for column in (c.at, c.mean))
    return select(c.point, *in_order).group_by(c.point).order_by(c.point)


async def span(connection: AsyncConnection, me: Identity) -> tuple[float, float] | None:
    """The start of the first rolled-up minute, and the end of the last one."""
    first = await connection.scalar(edge(ROLLUPS_1M, me, func.min))
    last = await connection.scalar(edge(ROLLUPS_1M, me, func.max))
    return None if first is None or last is None else (first, last + MINUTE_S)


def _answers(since_s: float, until_s: float, step_s: float | None) -> Table:
    if step_s is None or step_s < MINUTE_S:
        return TELEMETRY_RAW
    hours = step_s % HOUR_S == 0 and until_s - since_s > LONG_S
    return ROLLUPS_1H if hours else ROLLUPS_1M


def _rows(table: Table, step_s: float | None, dialect: str) -> Select[Any]:
    if step_s is None:
        c = table.c
        return select(seconds(c.ts, dialect), c.value, c.quality).order_by(c.ts)
    if table is TELEMETRY_RAW:
        return _of_raw(step_s, dialect)
    return _of_rollups(table, step_s, dialect)


def _of_raw(step_s: float, dialect: str) -> Select[Any]:
    c = TELEMETRY_RAW.c
    value = case((c.quality == "good", c.value))
    at = bucket(c.ts, step_s, dialect).label("at")
    n = func.count(value)
    return (
        select(at, func.avg(value), func.min(value), func.max(value), n, func.count() - n)
        .group_by(at)
        .order_by(at)
    )


def _of_rollups(table: Table, step_s: float, dialect: str) -> Select[Any]:
    c = table.c
    at = bucket(c.ts, step_s, dialect).label("at")
    n = func.sum(c.n)
    mean = func.sum(c.mean * c.n) / func.nullif(n, 0)
    return (
        select(at, mean, func.min(c.low), func.max(c.high), n, func.sum(c.n_missing))
        .group_by(at)
        .order_by(at)
    )


async def scores(
    connection: AsyncConnection,
    me: Identity,
    unit: str,
    since_s: float,
    until_s: float,
) -> list[Score]:
    """What the monitor said of a unit, oldest first."""
    c = IMS_SCORES.c
    found = await connection.execute(
        select(c.ts, c.deviation, c.ema, c.heat, c.state, c.since, c.top)
        .where(*mine(IMS_SCORES, me), c.unit == unit, c.ts >= since_s, c.ts < until_s)
        .order_by(c.ts)
        .limit(MAX_ROWS)
    )
    return [Score(*row[:6], top=tuple(json.loads(row[6]))) for row in found]


async def actions(
    connection: AsyncConnection,
    me: Identity,
    since_s: float,
    limit: int,
    before: tuple[float, str] | None = None,
    kinds: Sequence[str] = (),
    until_s: float | None = None,
) -> list[Action]:
    """Records of decisions from a time on, newest first; `before` (ts_s, uid) turns the page."""
    c = OPTIMIZER_ACTIONS.c
    where = [*mine(OPTIMIZER_ACTIONS, me), c.ts >= since_s]
    if before is not None:
        at_s, uid = before
        where.append(or_(c.ts < at_s, and_(c.ts == at_s, c.uid > uid)))
    if kinds:
        where.append(c.kind.in_(kinds))
    if until_s is not None:
        where.append(c.ts < until_s)
    found = await connection.execute(
        select(c.ts, c.cycle, c.kind, c.loop, c.move, c.scope, c.detail, c.uid)
        .where(*where)
        .order_by(c.ts.desc(), c.uid)
        .limit(max(0, min(limit, MAX_ROWS)))
    )
    return [Action(*row[:6], detail=json.loads(row[6]), uid=row[7]) for row in found]


async def gaps(connection: AsyncConnection, me: Identity, since_s: float) -> list[Gap]:
    """Holes that reach past since_s, oldest first."""
    c = HISTORY_GAPS.c
    found = await connection.execute(
        select(c.stream, c.since, c.until, c.dropped)
        .where(*mine(HISTORY_GAPS, me), c.until >= since_s)
        .order_by(c.since)
        .limit(MAX_ROWS)
    )
    return [Gap(*row) for row in found]


async def means(
    connection: AsyncConnection,
    me: Identity,
    point: str,
    since_s: float,
    until_s: float,
    step_s: float,
) -> list[tuple[float, float]]:
    """(start of a step, mean of its good readings) of a point's raw readings: little, for training."""
    c = TELEMETRY_RAW.c
    at = bucket(c.ts, step_s, connection.dialect.name).label("at")
    found = await connection.execute(
        select(at, func.avg(c.value))
        .where(*mine(TELEMETRY_RAW, me), c.point == point, c.ts >= since_s, c.ts < until_s)
        .where(c.quality == "good")
        .group_by(at)
        .limit(MAX_ROWS)
    )
    return [(float(r[0]), float(r[1])) for r in found if r[1] is not None]


async def persistent(
    connection: AsyncConnection,
    me: Identity,
    unit: str,
    since_s: float,
    until_s: float,
    step_s: float,
) -> list[float]:
    """The starts of steps in which a unit was persistent."""
    c = IMS_SCORES.c
    at = bucket(c.ts, step_s, connection.dialect.name).label("at")
    found = await connection.execute(
        select(at)
        .where(*mine(IMS_SCORES, me), c.unit == unit, c.ts >= since_s, c.ts < until_s)
        .where(c.state == "persistent")
        .distinct()
        .order_by(at)
        .limit(MAX_ROWS)
    )
    return [float(r[0]) for r in found]
