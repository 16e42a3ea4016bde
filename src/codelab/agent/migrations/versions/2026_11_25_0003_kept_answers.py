"""Keep answers for clients who repeat a request.

Revision: agent_0003, after agent_0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from codelab.db.types import BigKey, UtcDateTime

revision = "agent_0003"
down_revision = "agent_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forward."""
    op.create_table(
        "kept_answers",
        sa.Column("db_id", BigKey, autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.String(length=255), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("db_id", name=op.f("pk_kept_answers")),
    )
    op.create_index("uq_kept_answers_request", "kept_answers", ["owner_id", "request"], unique=True)
    op.create_index("ix_kept_answers_created_at", "kept_answers", ["created_at"], unique=False)


def downgrade() -> None:
    """Move the schema back; repeated requests are carried out again."""
    op.drop_index("ix_kept_answers_created_at", table_name="kept_answers")
    op.drop_index("uq_kept_answers_request", table_name="kept_answers")
    op.drop_table("kept_answers")
