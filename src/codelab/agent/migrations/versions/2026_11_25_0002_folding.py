"""Keep what was folded; index what leads from turns, so that a deleted session can be removed.

Revision: agent_0002, after agent_0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from codelab.db.types import BigKey, UtcDateTime

revision = "agent_0002"
down_revision = "agent_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forward."""
    op.create_table(
        "folded_ranges",
        sa.Column("session_db_id", BigKey, autoincrement=False, nullable=False),
        sa.Column("completed_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("deltas", sa.BigInteger(), nullable=False),
        sa.Column("folded_at", UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_db_id"],
            ["sessions.db_id"],
            name=op.f("fk_folded_ranges_session_db_id_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_db_id", "completed_seq", name=op.f("pk_folded_ranges")),
    )
    op.add_column("turns", sa.Column("folded_at", UtcDateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_turns_unfolded",
        "turns",
        ["ended_at"],
        unique=False,
        sqlite_where=sa.text("folded_at IS NULL AND ended_at IS NOT NULL"),
        postgresql_where=sa.text("folded_at IS NULL AND ended_at IS NOT NULL"),
    )
    op.create_index(
        "ix_sessions_deleted_at",
        "sessions",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_index("ix_turns_session_db_id", "turns", ["session_db_id"], unique=False)
    op.create_index("ix_messages_turn_db_id", "messages", ["turn_db_id"], unique=False)
    op.create_index("ix_pending_approvals_turn_db_id", "pending_approvals", ["turn_db_id"], unique=False)


def downgrade() -> None:
    """Move the schema back; what was folded stays so, and nothing says so any more."""
    op.drop_index("ix_pending_approvals_turn_db_id", table_name="pending_approvals")
    op.drop_index("ix_messages_turn_db_id", table_name="messages")
    op.drop_index("ix_turns_session_db_id", table_name="turns")
    op.drop_index(
        "ix_sessions_deleted_at",
        table_name="sessions",
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.drop_index(
        "ix_turns_unfolded",
        table_name="turns",
        sqlite_where=sa.text("folded_at IS NULL AND ended_at IS NOT NULL"),
        postgresql_where=sa.text("folded_at IS NULL AND ended_at IS NOT NULL"),
    )
    op.drop_column("turns", "folded_at")
    op.drop_table("folded_ranges")
