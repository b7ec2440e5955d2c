"""The engine behind history: which database, how it is opened, and its schema brought up to date.

Decides durability (WAL with synchronous=NORMAL: a power cut may cost the last seconds of
telemetry, never the file; what must survive is in the journal) and that a transaction that
writes says so from its start. Must never put a password into a URL that is logged.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from agent.history.schema import METADATA
from config.secrets import SecretError, resolve
from config.site import Site


class SchemaError(Exception):
    """The database's schema is not one this release knows."""


# All that a database which is away, full, foreign or newer than this release can raise.
DATABASE_ERRORS = (SQLAlchemyError, OSError, TimeoutError, SecretError, SchemaError)
CONNECT_S = 5.0
STATEMENT_S = 60.0
BUSY_MS = 5_000
_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    f"PRAGMA busy_timeout={BUSY_MS}",
    "PRAGMA journal_size_limit=67108864",
    "PRAGMA temp_store=MEMORY",
)
_MIGRATIONS = Path(__file__).parent / "migrations"
NEWEST = max(p.name[1:5] for p in (_MIGRATIONS / "versions").glob("v[0-9]*.py"))  # its revision
_STAMP = "alembic_version"
_MIGRATION_LOCK = 0x534B414449  # "SKADI": one agent at a time upgrades a shared database


def history_url(site: Site) -> URL:
    """Where this site's history lives, without the password. Default: SQLite in data_dir."""
    given = site.history.url
    if given is None:
        return URL.create("sqlite+aiosqlite", database=f"{site.agent.data_dir}/history.db")
    url = make_url(given)
    driver = "sqlite+aiosqlite" if url.drivername == "sqlite" else "postgresql+asyncpg"
    return url.set(drivername=driver)


def make_engine(site: Site, environ: Mapping[str, str] | None = None) -> AsyncEngine:
    """The engine; nothing is opened yet. Raises config.secrets.SecretError, OSError (folder)."""
    url = history_url(site)
    if url.drivername.startswith("sqlite"):
        if url.database:
            Path(url.database).parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        return _sqlite_engine(url)
    if site.history.password is not None:
        url = url.set(password=resolve(site.history.password, environ).get_secret_value())
    limits = {"timeout": CONNECT_S, "command_timeout": STATEMENT_S}
    settings = {"application_name": f"skadi {site.id}/{site.area}"[:63], "timezone": "UTC"}
    return create_async_engine(
        url,
        pool_size=1,
        max_overflow=2,
        connect_args=limits | {"server_settings": settings},
        hide_parameters=True,
    )


def _sqlite_engine(url: URL) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=3, hide_parameters=True)

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # Transactions are ours: sqlite3's own would leave schema changes outside of them.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _SQLITE_PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("outside"):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes") else "BEGIN")

    return engine


def for_writing(engine: AsyncEngine) -> AsyncEngine:
    """The same engine; its transactions take SQLite's write lock when they begin."""
    return engine.execution_options(writes=True)


def outside_transactions(engine: AsyncEngine) -> AsyncEngine:
    """The same engine for statements that no transaction may hold, such as VACUUM."""
    if engine.dialect.name == "sqlite":  # its driver's own AUTOCOMMIT would undo what _prepare set
        return engine.execution_options(outside=True)
    return engine.execution_options(isolation_level="AUTOCOMMIT")


async def migrate(engine: AsyncEngine) -> None:
    """Bring the schema to this release's. All or nothing; safe when several agents start at once.

    One that is already there takes no lock; an empty database gets the tables as they are now, and
    only an older one is migrated, which takes Alembic's memory. Raises DATABASE_ERRORS.
    """
    async with asyncio.timeout(STATEMENT_S):
        async with engine.connect() as connection:
            if await connection.run_sync(_revision) == NEWEST:
                return
        async with for_writing(engine).begin() as connection:
            if engine.dialect.name == "postgresql":
                lock = text("SELECT pg_advisory_xact_lock(:n)")
                await connection.execute(lock, {"n": _MIGRATION_LOCK})
            empty = await connection.run_sync(_revision) is None
            await connection.run_sync(_create if empty else upgrade)


def _revision(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, _STAMP):
        return None
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {_STAMP}"))
    return revision


def _create(connection: Connection) -> None:
    """All tables of this release at once, stamped as Alembic would."""
    METADATA.create_all(connection, checkfirst=False)
    connection.execute(
        text(f"CREATE TABLE {_STAMP} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    )
    connection.execute(text(f"INSERT INTO {_STAMP} VALUES (:newest)"), {"newest": NEWEST})


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Migrate an older schema. Raises SchemaError."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise SchemaError(str(error)) from error


def one_line(error: BaseException) -> str:
    """An error in one line: its type and what it says, never the parameters of a statement."""
    text = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
