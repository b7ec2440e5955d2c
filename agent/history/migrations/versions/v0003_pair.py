"""Which agent of a pair is the writer."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "hall_lease",
        *(sa.Column(name, sa.String(64), nullable=False) for name in ("site", "area")),
        sa.Column("holder", sa.String(128), nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("epoch", "beat")),
        sa.Column("held", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("site", "area"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop it; the next agent that starts makes a new epoch."""
    op.drop_table("hall_lease")
