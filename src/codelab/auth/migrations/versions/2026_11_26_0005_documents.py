"""Clients may describe themselves in a document: keep for how long it is good."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "auth_0005"
down_revision = "auth_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.add_column("oauth_clients", sa.Column("document_expires_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("oauth_clients") as table:
        table.drop_column("document_expires_at")
