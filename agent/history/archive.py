"""A site's history as one file, and back: a ZIP with a manifest and one member a table.

Decides the format: a line a row, a JSON array of the columns in the order the manifest names
them, times in integer milliseconds, rows in the order of their key; the manifest holds the count
and SHA-256 of each member. An export is one snapshot, while the agent goes on writing. An import
adds what is not there and changes nothing that is: run it again when it was cut off. An archive
that is damaged, or of a newer release, is refused before anything is written.
"""

import hashlib
import json
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agent.history.db import NEWEST, for_writing, one_line
from agent.history.schema import (
    HALL_LEASE,
    IMS_MODEL,
    METADATA,
    MINUTE_S,
    ROLLUP_DIRTY,
    TELEMETRY_RAW,
    Utc,
)
from agent.history.store import Identity, mine

FORMAT = 1
ROWS_AT_ONCE = 5_000
MOST_LINE = 1 << 24
MANIFEST = "manifest.json"
_TIMES = ("ts", "until", "changed", "created")  # what --since and --until look at
_DATE = (1980, 1, 1, 0, 0, 0)


class ArchiveError(Exception):
    """The file can't be used. The message says why and what to do."""


async def export(
    engine: AsyncEngine, me: Identity, path: Path, since_s: float, until_s: float
) -> dict[str, Any]:
    """Write everything of a site between two times to a new file; its manifest. Raises
    DATABASE_ERRORS and OSError; a file that was begun is removed."""
    new = path.with_name(path.name + ".new")
    try:
        with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            async with _snapshot(engine).connect() as connection:
                manifest = await _write(archive, connection, me, (since_s, until_s))
            _member(archive, MANIFEST, json.dumps(manifest, indent=1))
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return manifest


def _snapshot(engine: AsyncEngine) -> AsyncEngine:
    """SQLite's transactions are snapshots anyway."""
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


async def _write(
    archive: zipfile.ZipFile, connection: AsyncConnection, me: Identity, span: tuple[float, float]
) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for table in METADATA.sorted_tables:
        if table is HALL_LEASE:
            continue
        digest, count = hashlib.sha256(), 0
        with archive.open(zipfile.ZipInfo(table.name, _DATE), "w", force_zip64=True) as member:
            async for row in _rows(connection, table, me, span):
                line = json.dumps(row, allow_nan=False, separators=(",", ":")).encode() + b"\n"
                digest.update(line)
                member.write(line)
                count += 1
        columns = list(table.columns.keys())
        tables[table.name] = {"rows": count, "sha256": digest.hexdigest(), "columns": columns}
    return {"format": FORMAT, "revision": NEWEST, "site": me[0], "area": me[1], "tables": tables}


async def _rows(
    connection: AsyncConnection, table: Table, me: Identity, span: tuple[float, float]
) -> AsyncIterator[list[Any]]:
    wanted = select(table).where(*mine(table, me)).order_by(*table.primary_key.columns)
    timed = next((table.c[name] for name in _TIMES if name in table.c), None)
    if timed is not None:
        wanted = wanted.where(timed >= span[0], timed < span[1])
    times = [i for i, c in enumerate(table.columns) if isinstance(c.type, Utc)]
    async for found in await connection.stream(wanted):
        row = list(found)
        for i in times:
            row[i] = None if row[i] is None else round(row[i] * 1000)
        yield row


def _member(archive: zipfile.ZipFile, name: str, content: str) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, content)


async def restore(engine: AsyncEngine, path: Path) -> dict[str, Any]:
    """Add what an archive holds and is not there; its manifest.

    Raises ArchiveError before anything is written, DATABASE_ERRORS, OSError.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _manifest(archive)
            for name, about in manifest["tables"].items():
                _verify(archive, name, about)
            for name, about in manifest["tables"].items():
                rows = _read(archive, METADATA.tables[name], about["columns"])
                await _add(engine, METADATA.tables[name], rows)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ArchiveError(f"{path}: not a whole archive ({error}); export it again") from error
    return manifest


def _manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    try:
        if archive.getinfo(MANIFEST).file_size > MOST_LINE:
            raise ValueError("its manifest is too long")
        found = json.loads(archive.read(MANIFEST))
        if found["format"] != FORMAT or str(found["revision"]) > NEWEST:
            raise ValueError("it is of a newer release of Skadi; update first")
        for name, about in found["tables"].items():
            have = METADATA.tables[name].columns.keys()
            if not set(about["columns"]) <= set(have) or not isinstance(about["rows"], int):
                raise ValueError(f"its table {name} has columns this release does not know")
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ArchiveError(f"{archive.filename}: not a history archive: {error}") from error
    manifest: dict[str, Any] = found
    return manifest


def _verify(archive: zipfile.ZipFile, name: str, about: Mapping[str, Any]) -> None:
    digest, count = hashlib.sha256(), 0
    try:
        with archive.open(name) as member:
            for line in _lines(member, name):
                digest.update(line)
                count += 1
    except KeyError:
        raise ArchiveError(f"{archive.filename}: its table {name} is missing") from None
    if (count, digest.hexdigest()) != (about["rows"], about.get("sha256")):
        raise ArchiveError(f"{archive.filename}: its table {name} was changed or cut off")


def _lines(member: IO[bytes], name: str) -> Iterator[bytes]:
    while line := member.readline(MOST_LINE):
        if not line.endswith(b"\n"):
            raise ArchiveError(f"{name}: a line is longer than {MOST_LINE} bytes, or cut off")
        yield line


def _read(archive: zipfile.ZipFile, table: Table, columns: list[str]) -> Iterator[dict[str, Any]]:
    times = {c.name for c in table.columns if isinstance(c.type, Utc)}
    with archive.open(table.name) as member:
        for number, line in enumerate(_lines(member, table.name), 1):
            where = f"{archive.filename}: {table.name} line {number}"
            try:
                row = dict(zip(columns, json.loads(line), strict=True))
                for name in times & set(columns):
                    row[name] = None if row[name] is None else row[name] / 1000
            except (ValueError, TypeError, RecursionError) as error:
                raise ArchiveError(f"{where}: {error}") from error
            yield row


async def _add(engine: AsyncEngine, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    """Rows that were not there, in transactions of ROWS_AT_ONCE; minutes they fall in are rolled
    up again."""
    statement = _insert_for(engine, table).on_conflict_do_nothing()
    while batch := list(islice(rows, ROWS_AT_ONCE)):
        try:
            async with for_writing(engine).begin() as connection:
                if table is IMS_MODEL:
                    await _leave_active(connection, batch)
                await connection.execute(statement, batch)
                if table is TELEMETRY_RAW:
                    minutes = {
                        (r["site"], r["area"], r["ts"] // MINUTE_S * MINUTE_S) for r in batch
                    }
                    notes = [dict(zip(("site", "area", "ts"), m, strict=True)) for m in minutes]
                    dirty = _insert_for(engine, ROLLUP_DIRTY).on_conflict_do_nothing()
                    await connection.execute(dirty, notes)
        except (SQLAlchemyError, ArithmeticError, ValueError, TypeError, KeyError) as error:
            if isinstance(error, OperationalError | InterfaceError):  # not the rows' fault
                raise
            raise ArchiveError(f"{table.name}: a row is refused: {one_line(error)}") from error


async def _leave_active(connection: AsyncConnection, models: list[dict[str, Any]]) -> None:
    """The model that is active here stays the only one."""
    for model in models:
        me = mine(IMS_MODEL, (model["site"], model["area"]))
        if await connection.scalar(select(IMS_MODEL.c.version).where(*me, IMS_MODEL.c.active)):
            model["active"] = False


def _insert_for(engine: AsyncEngine, table: Table) -> Any:
    return (sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert)(table)
