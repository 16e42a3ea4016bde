"""Make what guards people's accounts: counts of failures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "auth_0004"
down_revision = "auth_0003"
branch_labels = None
depends_on = None


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        "failure_counts",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        _moment("since"),
        sa.Column("waits", sa.Integer(), nullable=False),
        _moment("blocked_until", nullable=True),
        _moment("expires_at"),
        sa.PrimaryKeyConstraint("id", name="pk_failure_counts"),
    )
    op.create_index("ix_failure_counts_expires_at", "failure_counts", ["expires_at"])


def downgrade() -> None:
    """Go back; failures are forgotten."""
    op.drop_table("failure_counts")
