"""Keep which client runs an MCP server.

Revision: agent_0014, after agent_0013.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "agent_0014"
down_revision = "agent_0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forward."""
    op.add_column("mcp_servers", sa.Column("client_id", sa.String(64), nullable=True))


def downgrade() -> None:
    """Move the schema back."""
    op.execute("DELETE FROM mcp_servers WHERE client_id IS NOT NULL")
    op.drop_column("mcp_servers", "client_id")
