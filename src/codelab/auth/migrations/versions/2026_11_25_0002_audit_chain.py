"""Chain the audit trail.

Rows that are there stay outside of the chain until the server starts: a migration does not have the key. The foreign
key to users goes, since it would change a row after it was recorded.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_COLUMNS = ("seq", "payload_hash", "mac", "erased_at", "erased_mac")


def upgrade() -> None:
    """Go to this revision."""
    with op.batch_alter_table("audit_logs") as batch:
        batch.drop_constraint("fk_audit_logs_user_id_users", type_="foreignkey")
        batch.add_column(sa.Column("seq", sa.BigInteger(), nullable=True))
        batch.add_column(sa.Column("payload_hash", sa.String(64), nullable=True))
        batch.add_column(sa.Column("mac", sa.String(64), nullable=True))
        batch.add_column(sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
        batch.add_column(sa.Column("erased_mac", sa.String(64), nullable=True))
    op.create_index("ix_audit_logs_seq", "audit_logs", ["seq"], unique=True)

    op.create_table(
        "auth_audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("checkpoints", sa.String(64), nullable=False),
        sa.Column("proof", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_auth_audit_head"),
    )
    op.create_table(
        "auth_audit_checkpoints",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("proof", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_auth_audit_checkpoints"),
    )


def downgrade() -> None:
    """Go back; the rows stay, without proof that nobody changed them."""
    op.drop_table("auth_audit_checkpoints")
    op.drop_table("auth_audit_head")
    op.drop_index("ix_audit_logs_seq", table_name="audit_logs")
    op.execute("UPDATE audit_logs SET user_id = NULL WHERE user_id NOT IN (SELECT id FROM users)")
    with op.batch_alter_table("audit_logs") as batch:
        for column in _COLUMNS:
            batch.drop_column(column)
        batch.create_foreign_key("fk_audit_logs_user_id_users", "users", ["user_id"], ["id"], ondelete="SET NULL")
