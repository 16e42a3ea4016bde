"""Keep the summaries that models are sent in place of older messages.

Revision: agent_0006, after agent_0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from codelab.db.types import BigKey, UtcDateTime

revision = "agent_0006"
down_revision = "agent_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forward."""
    op.create_table(
        "context_summaries",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("session_db_id", BigKey, nullable=False),
        sa.Column("turn_db_id", BigKey, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("model", sa.String(length=255), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_db_id"],
            ["sessions.db_id"],
            name=op.f("fk_context_summaries_session_db_id_sessions"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["turn_db_id"], ["turns.db_id"], name=op.f("fk_context_summaries_turn_db_id_turns"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_context_summaries")),
    )
    op.create_index(
        "uq_context_summaries_place", "context_summaries", ["session_db_id", "turn_db_id", "seq"], unique=True
    )
    op.create_index("ix_context_summaries_turn_db_id", "context_summaries", ["turn_db_id"], unique=False)


def downgrade() -> None:
    """Move the schema back; models are sent the newest messages alone."""
    op.drop_index("ix_context_summaries_turn_db_id", table_name="context_summaries")
    op.drop_index("uq_context_summaries_place", table_name="context_summaries")
    op.drop_table("context_summaries")
