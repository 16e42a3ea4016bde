"""Keep what people grant beside their decisions.

Revision: agent_0008, after agent_0007.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from codelab.db.types import BigKey, UtcDateTime

revision = "agent_0008"
down_revision = "agent_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forward."""
    op.create_table(
        "grants",
        sa.Column("db_id", BigKey, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("owner_id", sa.String(length=255), nullable=False),
        sa.Column("scope", sa.String(length=20), nullable=False),
        sa.Column("session_db_id", BigKey, nullable=True),
        sa.Column("turn_id", sa.String(length=36), nullable=True),
        sa.Column("agent", sa.String(length=100), nullable=True),
        sa.Column("tool_name", sa.String(length=255), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("approval_id", sa.String(length=255), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("uses_left", sa.Integer(), nullable=True),
        sa.Column("last_used_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("expires_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "scope IN ('once', 'times', 'until', 'turn', 'session', 'agent', 'all_sessions')",
            name=op.f("ck_grants_grant_scope"),
        ),
        sa.ForeignKeyConstraint(
            ["session_db_id"], ["sessions.db_id"], name=op.f("fk_grants_session_db_id_sessions"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("db_id", name=op.f("pk_grants")),
        sa.UniqueConstraint("id", name=op.f("uq_grants_id")),
    )
    op.create_index("ix_grants_owner", "grants", ["owner_id", "db_id"], unique=False)
    op.create_index("ix_grants_session_db_id", "grants", ["session_db_id"], unique=False)


def downgrade() -> None:
    """Move the schema back; everything is asked again."""
    op.drop_index("ix_grants_session_db_id", table_name="grants")
    op.drop_index("ix_grants_owner", table_name="grants")
    op.drop_table("grants")
