"""Keep which client runs a tool call, and how often it was offered.

Revision: agent_0004, after agent_0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from codelab.db.types import UtcDateTime

revision = "agent_0004"
down_revision = "agent_0003"
branch_labels = None
depends_on = None

_CLAIMED = sa.text("state = 'requested' AND claimed_by IS NOT NULL")


def upgrade() -> None:
    """Move the schema forward; open calls are free to claim."""
    op.add_column("tool_calls", sa.Column("attempt", sa.Integer(), server_default="1", nullable=False))
    op.add_column("tool_calls", sa.Column("claimed_by", sa.String(length=64), nullable=True))
    op.add_column("tool_calls", sa.Column("claimed_at", UtcDateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_tool_calls_claimed",
        "tool_calls",
        ["db_id"],
        unique=False,
        sqlite_where=_CLAIMED,
        postgresql_where=_CLAIMED,
    )


def downgrade() -> None:
    """Move the schema back; whoever answers a call first runs it."""
    op.drop_index("ix_tool_calls_claimed", table_name="tool_calls", sqlite_where=_CLAIMED, postgresql_where=_CLAIMED)
    op.drop_column("tool_calls", "claimed_at")
    op.drop_column("tool_calls", "claimed_by")
    op.drop_column("tool_calls", "attempt")
