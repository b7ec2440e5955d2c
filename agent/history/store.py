"""What history keeps besides streams: IMS models by version, and settings by key.

Decides that one version at most is active, and that versions count up and are never reused.
Functions over a connection in the caller's transaction.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Table, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from agent.history.schema import IMS_MODEL, SERIES, SETTINGS
from config.site import Site

Identity = tuple[str, str]  # site, area
_AT_ONCE = 500  # rows in one call, for their memory's sake


@dataclass(frozen=True, slots=True)
class StoredModel:
    """An IMS model as kept: its version here, its own id, and (unless listed) its document."""

    version: int
    id: str
    created_s: float
    active: bool
    note: str
    document: Mapping[str, Any] | None = None


_LISTED = [IMS_MODEL.c[name] for name in ("version", "id", "created", "active", "note")]


async def save_model(
    connection: AsyncConnection, me: Identity, now_s: float, text: str, model_id: str, note: str
) -> int:
    """Keep a model's JSON text; the version it got."""
    newest = select(func.max(IMS_MODEL.c.version)).where(*mine(IMS_MODEL, me))
    version = (await connection.scalar(newest) or 0) + 1
    row = {"site": me[0], "area": me[1], "version": version, "id": model_id[:64]}
    kept = {"created": now_s, "active": False, "note": note, "document": text}
    await connection.execute(insert(IMS_MODEL).values(row | kept))
    return version


async def activate_model(connection: AsyncConnection, me: Identity, version: int | None) -> bool:
    """Make this version the active one, or none. False, with nothing changed, if it isn't there."""
    all_mine = mine(IMS_MODEL, me)
    chosen = IMS_MODEL.c.version == version
    if version is not None:
        found = await connection.scalar(select(IMS_MODEL.c.version).where(*all_mine, chosen))
        if found is None:
            return False
    await connection.execute(update(IMS_MODEL).where(*all_mine).values(active=False))
    if version is not None:
        await connection.execute(update(IMS_MODEL).where(*all_mine, chosen).values(active=True))
    return True


async def load_model(
    connection: AsyncConnection, me: Identity, version: int | None
) -> StoredModel | None:
    """A version with its document; None: the active one."""
    which = IMS_MODEL.c.active if version is None else IMS_MODEL.c.version == version
    wanted = select(*_LISTED, IMS_MODEL.c.document).where(*mine(IMS_MODEL, me), which)
    row = (await connection.execute(wanted)).first()
    return None if row is None else StoredModel(*row[:5], document=json.loads(row[5]))


async def list_models(connection: AsyncConnection, me: Identity) -> list[StoredModel]:
    """Every version without its document, newest first."""
    wanted = select(*_LISTED).where(*mine(IMS_MODEL, me)).order_by(IMS_MODEL.c.version.desc())
    return [StoredModel(*row) for row in await connection.execute(wanted)]


async def get_setting(connection: AsyncConnection, me: Identity, key: str, default: Any) -> Any:
    """A kept JSON value."""
    wanted = select(SETTINGS.c.value).where(*mine(SETTINGS, me), SETTINGS.c.key == key)
    text = await connection.scalar(wanted)
    return default if text is None else json.loads(text)


async def set_setting(
    connection: AsyncConnection, me: Identity, now_s: float, key: str, value: Any
) -> None:
    """Keep a JSON value under a key."""
    row = {"site": me[0], "area": me[1], "key": key}
    kept = {"value": json.dumps(value, allow_nan=False), "changed": now_s}
    await _upsert(connection, SETTINGS, [row | kept], ("site", "area", "key"))


async def describe_series(connection: AsyncConnection, site: Site) -> None:
    """Write down what the site's points are; those it no longer has keep their history."""
    rows: list[dict[str, Any]] = [
        {"site": site.id, "area": site.area, "point": p.key, "device": p.device}
        | {"quantity": p.quantity, "unit": p.about.unit, "row": p.row, "rack": p.rack}
        for p in site.points.values()
    ]
    for at in range(0, len(rows), _AT_ONCE):
        await _upsert(connection, SERIES, rows[at : at + _AT_ONCE], ("site", "area", "point"))


def mine(table: Table, me: Identity) -> tuple[Any, Any]:
    """The rows of one site and area."""
    return table.c.site == me[0], table.c.area == me[1]


def edge(table: Table, me: Identity, which: Any) -> Select[Any]:
    """The first (func.min) or last (func.max) time in a table of points: a look in its key for each
    point, where one over all of them would read every row."""
    c = table.c
    each = select(which(c.ts)).where(*mine(table, me), c.point == SERIES.c.point).scalar_subquery()
    return select(which(each)).where(*mine(SERIES, me))


async def _upsert(
    connection: AsyncConnection, table: Table, rows: list[dict[str, Any]], key: Sequence[str]
) -> None:
    made = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = made(table)
    new = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in key}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=list(key), set_=new), rows
    )
