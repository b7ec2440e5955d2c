"""The tables of history."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0001"
down_revision = None

UTC = sa.BigInteger().with_variant(TIMESTAMP(timezone=True), "postgresql")
NAME = sa.String(64)
POINT = sa.String(130)
# table -> its key after site and area, and its other columns (nullable unless in REQUIRED)
TABLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "series": (
        {"point": POINT},
        {"device": NAME, "quantity": NAME, "unit": sa.String(16), "row": NAME, "rack": NAME},
    ),
    "telemetry_raw": (
        {"point": POINT, "ts": UTC},
        {"value": sa.Double, "quality": sa.String(8)},
    ),
    "rollups_1m": (
        {"point": POINT, "ts": UTC},
        {"n": sa.Integer, "n_missing": sa.Integer}
        | {"mean": sa.Double, "low": sa.Double, "high": sa.Double},
    ),
    "rollup_dirty": ({"ts": UTC}, {}),
    "ims_scores": (
        {"unit": NAME, "ts": UTC},
        {"deviation": sa.Double, "ema": sa.Double, "heat": sa.Double}
        | {"state": sa.String(16), "since": UTC, "top": sa.Text},
    ),
    "optimizer_actions": (
        {"uid": sa.String(32)},
        {"ts": UTC, "cycle": NAME, "kind": sa.String(32), "loop": sa.String(16)}
        | {"move": NAME, "scope": sa.String(96), "detail": sa.Text},
    ),
    "ims_model": (
        {"version": sa.Integer},
        {"id": NAME, "created": UTC, "active": sa.Boolean, "note": sa.Text, "document": sa.Text},
    ),
    "settings": ({"key": sa.String(128)}, {"value": sa.Text, "changed": UTC}),
    "history_gaps": (
        {"stream": sa.String(32), "since": UTC},
        {"until": UTC, "dropped": sa.BigInteger},
    ),
}
REQUIRED = {
    "series": {"device", "quantity", "unit"},
    "telemetry_raw": {"quality"},
    "rollups_1m": {"n", "n_missing"},
    "ims_scores": {"state", "top"},
    "optimizer_actions": {"ts", "cycle", "kind", "detail"},
    "ims_model": {"id", "created", "active", "note", "document"},
    "settings": {"value", "changed"},
    "history_gaps": {"until", "dropped"},
}
INDEXES = {
    "series_by_rack": ("series", ["site", "area", "rack"]),
    "optimizer_actions_by_time": ("optimizer_actions", ["site", "area", "ts"]),
}


def upgrade() -> None:
    """Make the tables."""
    for table, (key, others) in TABLES.items():
        must = REQUIRED.get(table, set())
        keys = {"site": NAME, "area": NAME} | key
        op.create_table(
            table,
            *(sa.Column(name, kind, nullable=False) for name, kind in keys.items()),
            *(sa.Column(name, kind, nullable=name not in must) for name, kind in others.items()),
            sa.PrimaryKeyConstraint(*keys),
            sqlite_with_rowid=False,
        )
    for name, (table, columns) in INDEXES.items():
        op.create_index(name, table, columns)


def downgrade() -> None:
    """Drop the tables, with all that is in them."""
    for name, (table, _) in INDEXES.items():
        op.drop_index(name, table)
    for table in reversed(TABLES):
        op.drop_table(table)
