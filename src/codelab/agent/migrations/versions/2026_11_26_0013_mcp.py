"""Keep the MCP servers of sessions, and which definition of a tool an approval is about.

Revision: agent_0013, after agent_0012.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from codelab.db import BigKey, UtcDateTime

revision = "agent_0013"
down_revision = "agent_0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forward."""
    op.create_table(
        "mcp_servers",
        sa.Column("db_id", BigKey, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("session_db_id", BigKey, sa.ForeignKey("sessions.db_id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.String(24), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=True),
        sa.Column("tools", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
    )
    op.create_index("uq_mcp_servers_name", "mcp_servers", ["session_db_id", "name"], unique=True)
    op.add_column("pending_approvals", sa.Column("tool_version", sa.String(64), nullable=True))


def downgrade() -> None:
    """Move the schema back."""
    op.drop_column("pending_approvals", "tool_version")
    op.drop_table("mcp_servers")
