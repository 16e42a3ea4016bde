"""Make what guards people's accounts: counts of failures, links for new passwords, personal tokens, second factors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "auth_0004"
down_revision = "auth_0003"
branch_labels = None
depends_on = None


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _of_a_user(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=f"fk_{table}_user_id_users", ondelete="CASCADE")


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_token_hash", table, ["token_hash"], unique=True)
    for column in columns:
        op.create_index(f"ix_{table}_{column}", table, [column])


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        "failure_counts",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        _moment("since"),
        sa.Column("waits", sa.Integer(), nullable=False),
        _moment("blocked_until", nullable=True),
        _moment("expires_at"),
        sa.PrimaryKeyConstraint("id", name="pk_failure_counts"),
    )
    op.create_index("ix_failure_counts_expires_at", "failure_counts", ["expires_at"])
    op.create_table(
        "password_resets",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        _moment("created_at"),
        _moment("expires_at"),
        sa.PrimaryKeyConstraint("id", name="pk_password_resets"),
        _of_a_user("password_resets"),
    )
    _index("password_resets", "user_id", "expires_at")
    op.create_table(
        "personal_tokens",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        _moment("created_at"),
        _moment("expires_at"),
        _moment("last_used_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_personal_tokens"),
        _of_a_user("personal_tokens"),
    )
    _index("personal_tokens", "user_id", "expires_at")
    op.create_table(
        "second_factors",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("secret_jwe", sa.Text(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        _moment("created_at"),
        _moment("confirmed_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_second_factors"),
        _of_a_user("second_factors"),
    )
    op.create_index("ix_second_factors_user_id", "second_factors", ["user_id"], unique=True)
    op.create_table(
        "recovery_codes",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("code_hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_recovery_codes"),
        _of_a_user("recovery_codes"),
    )
    op.create_index("ix_recovery_codes_user_id", "recovery_codes", ["user_id"])


def downgrade() -> None:
    """Go back; failures are forgotten, links, personal tokens and second factors end."""
    op.drop_table("recovery_codes")
    op.drop_table("second_factors")
    op.drop_table("personal_tokens")
    op.drop_table("password_resets")
    op.drop_table("failure_counts")
