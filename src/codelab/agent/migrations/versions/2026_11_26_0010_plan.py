"""Keep the to-do list that an agent shows.

Revision: agent_0010, after agent_0008.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "agent_0010"
down_revision = "agent_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forward."""
    op.add_column("sessions", sa.Column("plan", sa.Text(), nullable=True))


def downgrade() -> None:
    """Move the schema back."""
    op.drop_column("sessions", "plan")
