"""Keep how long each model call took.

Revision: agent_0012, after agent_0008.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "agent_0012"
down_revision = "agent_0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forward; of earlier calls it is not known."""
    op.add_column("messages", sa.Column("duration_ms", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Move the schema back."""
    op.drop_column("messages", "duration_ms")
