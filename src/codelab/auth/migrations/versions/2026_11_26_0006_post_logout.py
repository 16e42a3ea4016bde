"""Clients may say where browsers go after signing out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "auth_0006"
down_revision = "auth_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    uris = sa.Column("post_logout_redirect_uris", sa.Text(), server_default=sa.text("'[]'"), nullable=False)
    op.add_column("oauth_clients", uris)


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("oauth_clients") as table:
        table.drop_column("post_logout_redirect_uris")
