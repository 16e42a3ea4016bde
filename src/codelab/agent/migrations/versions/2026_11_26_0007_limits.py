"""Keep how long the steps of a turn took, for the limit on time.

Revision: agent_0007, after agent_0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "agent_0007"
down_revision = "agent_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forward; what turns have worked before does not count."""
    op.add_column("turns", sa.Column("worked_ms", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    """Move the schema back."""
    op.drop_column("turns", "worked_ms")
