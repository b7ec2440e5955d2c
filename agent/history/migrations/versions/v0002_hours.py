"""Rollups of an hour, for questions about weeks; filled from the minutes that are there."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0002"
down_revision = "0001"

UTC = sa.BigInteger().with_variant(TIMESTAMP(timezone=True), "postgresql")
NAMES = {"site": sa.String(64), "area": sa.String(64), "point": sa.String(130)}
HOUR = {
    "sqlite": "ts / 3600000 * 3600000",
    "postgresql": "to_timestamp(floor(extract(epoch FROM ts) / 3600) * 3600)",
}


def upgrade() -> None:
    """Make the table and fill it."""
    op.create_table(
        "rollups_1h",
        *(sa.Column(name, kind, nullable=False) for name, kind in NAMES.items()),
        sa.Column("ts", UTC, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("n", "n_missing")),
        *(sa.Column(name, sa.Double, nullable=True) for name in ("mean", "low", "high")),
        sa.PrimaryKeyConstraint(*NAMES, "ts"),
        sqlite_with_rowid=False,
    )
    hour = HOUR[op.get_bind().dialect.name]
    op.execute(
        f"INSERT INTO rollups_1h SELECT site, area, point, {hour}, sum(n), sum(n_missing),"
        " sum(mean * n) / nullif(sum(n), 0), min(low), max(high)"
        f" FROM rollups_1m GROUP BY site, area, point, {hour}"
    )


def downgrade() -> None:
    """Drop the table; the minutes still hold what it says."""
    op.drop_table("rollups_1h")
