"""What TimescaleDB adds where it is present: hypertables, compression, an aggregate a day.

Decides nothing: a PostgreSQL without the extension is served in full without this module, and
nothing of Skadi reads what it makes. Not tested: no TimescaleDB could be installed where Skadi is
built (tests that need one skip with "timescale"). Statements as in TimescaleDB 2's reference.
"""

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agent.history.db import outside_transactions

log = structlog.get_logger(__name__)

PRESENT = "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'"
_SERIES = {"telemetry_raw": "point", "rollups_1m": "point", "ims_scores": "unit"}
_CHUNK = "INTERVAL '1 day'"
_COMPRESS_AFTER = "INTERVAL '7 days'"


def _of_table(table: str, key: str) -> list[str]:
    return [
        f"SELECT create_hypertable('{table}', 'ts', chunk_time_interval => {_CHUNK},"
        " if_not_exists => TRUE, migrate_data => TRUE)",
        f"ALTER TABLE {table} SET (timescaledb.compress, timescaledb.compress_orderby = 'ts',"
        f" timescaledb.compress_segmentby = 'site, area, {key}')",
        f"SELECT add_compression_policy('{table}', {_COMPRESS_AFTER}, if_not_exists => TRUE)",
    ]


# For dashboards. Made outside of a transaction, as TimescaleDB wants it.
_DAYS = [
    "CREATE MATERIALIZED VIEW IF NOT EXISTS rollups_1d WITH (timescaledb.continuous) AS"
    " SELECT site, area, point, time_bucket(INTERVAL '1 day', ts) AS ts, sum(n) AS n,"
    " sum(mean * n) / nullif(sum(n), 0) AS mean, min(low) AS low, max(high) AS high"
    " FROM rollups_1m GROUP BY site, area, point, time_bucket(INTERVAL '1 day', ts) WITH NO DATA",
    "SELECT add_continuous_aggregate_policy('rollups_1d', start_offset => INTERVAL '30 days',"
    " end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '1 hour', if_not_exists => TRUE)",
]
STATEMENTS = [s for item in _SERIES.items() for s in _of_table(*item)] + _DAYS


async def switch_on(engine: AsyncEngine) -> bool:
    """Use TimescaleDB where its extension was created in this database; True when it is used.

    A statement that is refused (rights, licence, another release) is logged and left out.
    """
    if engine.dialect.name != "postgresql":
        return False
    async with outside_transactions(engine).connect() as connection:
        if not await connection.scalar(text(PRESENT)):
            return False
        return await _run(connection)


async def _run(connection: AsyncConnection) -> bool:
    try:
        for statement in STATEMENTS:
            await connection.execute(text(statement))
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        log.warning("TimescaleDB is there but not used in full", reason=reason)
        return False
    return True
