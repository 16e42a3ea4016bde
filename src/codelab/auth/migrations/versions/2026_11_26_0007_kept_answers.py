"""Keep answers for administrators who repeat a request."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from codelab.db.types import BigKey, UtcDateTime

revision = "auth_0007"
down_revision = "auth_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        "auth_kept_answers",
        sa.Column("db_id", BigKey, autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.String(length=255), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("db_id", name=op.f("pk_auth_kept_answers")),
    )
    op.create_index("uq_auth_kept_answers_request", "auth_kept_answers", ["owner_id", "request"], unique=True)
    op.create_index("ix_auth_kept_answers_created_at", "auth_kept_answers", ["created_at"], unique=False)


def downgrade() -> None:
    """Go back; repeated requests are carried out again."""
    op.drop_index("ix_auth_kept_answers_created_at", table_name="auth_kept_answers")
    op.drop_index("uq_auth_kept_answers_request", table_name="auth_kept_answers")
    op.drop_table("auth_kept_answers")
