"""Keep what model calls used and cost, what models thought, images, and the model of a session.

Revision: agent_0005, after agent_0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from codelab.db.types import BigKey

revision = "agent_0005"
down_revision = "agent_0004"
branch_labels = None
depends_on = None

_DETAILS = ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cost")
_COUNTS = ("input_tokens", "output_tokens", *_DETAILS)


def upgrade() -> None:
    """Move the schema forward; what was used before stays unknown."""
    for table, counts in (("messages", _COUNTS), ("turns", _DETAILS), ("sessions", _COUNTS)):
        for name in counts:
            op.add_column(table, sa.Column(name, sa.BigInteger(), nullable=True))
    for table in ("turns", "sessions"):
        op.add_column(table, sa.Column("unpriced_calls", sa.Integer(), nullable=True))
    op.add_column("sessions", sa.Column("model", sa.String(length=255), nullable=True))
    op.add_column("messages", sa.Column("reasoning", sa.Text(), nullable=True))
    op.add_column("messages", sa.Column("images", sa.Text(), nullable=True))
    # Sums that go on from here lack what was before, and have to say so.
    op.execute("UPDATE sessions SET unpriced_calls = 1 WHERE message_count > 0")
    op.execute("UPDATE turns SET unpriced_calls = 1 WHERE state IN ('running', 'waiting') AND steps > 0")
    op.create_table(
        "message_images",
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("session_db_id", BigKey, nullable=False),
        sa.Column("media_type", sa.String(length=50), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name=op.f("fk_message_images_message_id_messages"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["session_db_id"],
            ["sessions.db_id"],
            name=op.f("fk_message_images_session_db_id_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("message_id", "n", name=op.f("pk_message_images")),
    )
    op.create_index("ix_message_images_session_db_id", "message_images", ["session_db_id"], unique=False)


def downgrade() -> None:
    """Move the schema back; images, reasoning and what was counted are lost."""
    op.drop_index("ix_message_images_session_db_id", table_name="message_images")
    op.drop_table("message_images")
    op.drop_column("messages", "images")
    op.drop_column("messages", "reasoning")
    op.drop_column("sessions", "model")
    for table in ("turns", "sessions"):
        op.drop_column(table, "unpriced_calls")
    for table, counts in (("messages", _COUNTS), ("turns", _DETAILS), ("sessions", _COUNTS)):
        for name in counts:
            op.drop_column(table, name)
