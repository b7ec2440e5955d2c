"""Migrations and tables say the same, on both databases."""

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from agent.history.db import NEWEST, for_writing, history_url, make_engine, migrate, upgrade
from agent.history.schema import METADATA, Utc, stored_time
from config.secrets import SecretRef
from tests.agent import make
from tests.agent.postgres import database

MIGRATIONS = Path(__file__).parents[2] / "agent" / "history" / "migrations"


def differences(connection: Connection) -> list[Any]:
    def same_type(_context: Any, _inspected: Any, column: Any, found: Any, wanted: Any) -> bool:
        compiled = [t.compile(connection.dialect) for t in (found, wanted)]
        ints = {"INTEGER", "BIGINT"}  # SQLite reports what was declared
        return compiled[0] != compiled[1] and not (column.name == "ts" and set(compiled) <= ints)

    context = MigrationContext.configure(connection, opts={"compare_type": same_type})
    return compare_metadata(context, METADATA)


def keys(connection: Connection) -> dict[str, Any]:
    """Each table's primary key, and the revision the database says it is of."""
    about = inspect(connection)
    found = {t: about.get_pk_constraint(t)["constrained_columns"] for t in about.get_table_names()}
    return found | {"revision": connection.scalar(text("SELECT version_num FROM alembic_version"))}


async def check(site: Any, environ: dict[str, str], old: str | None) -> dict[str, Any]:
    """An empty database, or one of revision `old`, becomes what the code says; its keys."""
    engine = make_engine(site, environ)
    if old is not None:
        async with for_writing(engine).begin() as connection:
            await connection.run_sync(upgrade, old)
    await migrate(engine)
    await migrate(engine)  # a second time there is nothing to do
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
        found = await connection.run_sync(keys)
    await engine.dispose()
    return found


async def test_sqlite_made_and_migrated_is_what_the_code_says(tmp_path: Path) -> None:
    made = await check(make.site(tmp_path / "new"), {}, None)
    assert await check(make.site(tmp_path / "old"), {}, "0001") == made
    assert made["telemetry_raw"] == ["site", "area", "point", "ts"]
    assert made["revision"] == NEWEST


async def test_postgresql_made_and_migrated_is_what_the_code_says() -> None:
    found = []
    for old in (None, "0001"):
        given = database()
        site = make.site(url=given.url, password=SecretRef(env="PG"))
        try:
            found.append(await check(site, {"PG": given.password}, old))
        finally:
            given.remove()
    assert found[0] == found[1]


def test_revisions_form_one_line_and_every_table_names_site_and_area() -> None:
    revisions = list(ScriptDirectory(str(MIGRATIONS)).walk_revisions())
    assert len(revisions) == len(list((MIGRATIONS / "versions").glob("v*.py")))
    for table in METADATA.tables.values():
        assert [c.name for c in table.primary_key][:2] == ["site", "area"], table.name


def test_the_default_is_sqlite_in_data_dir_and_no_url_shows_a_password() -> None:
    assert history_url(make.site("/var/lib/skadi")).database == "/var/lib/skadi/history.db"
    url = history_url(make.site(url="postgresql://u@db.example/x"))
    assert url.render_as_string() == "postgresql+asyncpg://u@db.example/x"


@pytest.mark.parametrize("time_s", [0.001, 1_700_000_000.123, 1_700_000_000.0004, 4e9])
def test_times_survive_to_the_millisecond(time_s: float) -> None:
    class Of:
        def __init__(self, name: str) -> None:
            self.name = name

    for name in ("sqlite", "postgresql"):
        back = Utc().process_result_value(stored_time(time_s, name), Of(name))  # type: ignore[arg-type]
        assert back == pytest.approx(time_s, abs=0.00051)
