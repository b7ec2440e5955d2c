"""The tables of history, for SQLite and PostgreSQL alike.

Decides what is kept and by which key. Every row names its site and area, so that many agents can
share one database. Keys are natural ones: writing a row twice (a retry, a backfill) changes
nothing. telemetry_raw is ordered by point, then time, since it is read a point at a time.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

MINUTE_S = 60
HOUR_S = 3_600


class Utc(TypeDecorator[float]):
    """POSIX seconds in Python; timestamptz in PostgreSQL, integer milliseconds in SQLite."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: float | None, dialect: Dialect) -> Any:
        return None if value is None else stored_time(value, dialect.name)

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:
        if value is None:
            return None
        return value.timestamp() if isinstance(value, datetime) else value / 1000


def stored_time(time_s: float, dialect: str) -> datetime | int:
    """A time as the database takes it, to the millisecond in both."""
    time_ms = round(time_s * 1000)
    return datetime.fromtimestamp(time_ms / 1000, UTC) if dialect == "postgresql" else time_ms


METADATA = MetaData()


def _table(name: str, *columns: Any, **options: Any) -> Table:
    site = Column("site", String(64), primary_key=True)
    area = Column("area", String(64), primary_key=True)
    return Table(name, METADATA, site, area, *columns, sqlite_with_rowid=False, **options)


def _key(name: str, kind: Any) -> Column[Any]:
    return Column(name, kind, primary_key=True, autoincrement=False)


# What there is to ask for: where each point belongs and what it measures.
SERIES = _table(
    "series",
    _key("point", String(130)),
    Column("device", String(64), nullable=False),
    Column("quantity", String(64), nullable=False),
    Column("unit", String(16), nullable=False),
    Column("row", String(64)),
    Column("rack", String(64)),
    Index("series_by_rack", "site", "area", "rack"),
)
# value is null unless quality is good or stale.
TELEMETRY_RAW = _table(
    "telemetry_raw",
    _key("point", String(130)),
    _key("ts", Utc()),
    Column("value", Double),
    Column("quality", String(8), nullable=False),
)


def _rollups(name: str) -> Table:
    """mean, low and high are of good readings alone; n counts those, n_missing all others."""
    return _table(
        name,
        _key("point", String(130)),
        _key("ts", Utc()),
        Column("n", Integer, nullable=False),
        Column("n_missing", Integer, nullable=False),
        Column("mean", Double),
        Column("low", Double),
        Column("high", Double),
    )


ROLLUPS_1M = _rollups("rollups_1m")
ROLLUPS_1H = _rollups("rollups_1h")
# Minutes whose raw rows have changed since they were rolled up. Written with the rows.
ROLLUP_DIRTY = _table("rollup_dirty", _key("ts", Utc()))
IMS_SCORES = _table(
    "ims_scores",
    _key("unit", String(64)),
    _key("ts", Utc()),
    Column("deviation", Double),
    Column("ema", Double),
    Column("heat", Double),
    Column("state", String(16), nullable=False),
    Column("since", Utc()),
    Column("top", Text, nullable=False),
)
# One row a journal record of a decision; what is common to all of them stands in columns.
OPTIMIZER_ACTIONS = _table(
    "optimizer_actions",
    _key("uid", String(32)),
    Column("ts", Utc(), nullable=False),
    Column("cycle", String(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("loop", String(16)),
    Column("move", String(64)),
    Column("scope", String(96)),
    Column("detail", Text, nullable=False),
    Index("optimizer_actions_by_time", "site", "area", "ts"),
)
IMS_MODEL = _table(
    "ims_model",
    _key("version", Integer),
    Column("id", String(64), nullable=False),
    Column("created", Utc(), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("note", Text, nullable=False),
    Column("document", Text, nullable=False),
)
SETTINGS = _table(
    "settings",
    _key("key", String(128)),
    Column("value", Text, nullable=False),
    Column("changed", Utc(), nullable=False),
)
# Where rows were dropped because the database was away too long: `since`..`until` has holes.
HISTORY_GAPS = _table(
    "history_gaps",
    _key("stream", String(32)),
    _key("since", Utc()),
    Column("until", Utc(), nullable=False),
    Column("dropped", BigInteger, nullable=False),
)
# Which agent of a pair is the writer. `beat` goes up with every renewal; `held` is the second copy
# of its journal. Not part of a backup.
HALL_LEASE = _table(
    "hall_lease",
    Column("holder", String(128), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("beat", BigInteger, nullable=False),
    Column("held", Text, nullable=False),
)
