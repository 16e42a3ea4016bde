"""Make what the OAuth flows keep: codes, devices, browser sessions, consents, early ends; clients get redirect URIs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "auth_0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = ("device_codes", "authorization_codes", "consents", "browser_sessions", "revoked_tokens")
_CLIENT_COLUMNS = ("redirect_uris", "token_endpoint_auth_method", "client_uri", "is_registered", "last_used_at")


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _belongs(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_{column}_{target.partition('.')[0]}"
    return sa.ForeignKeyConstraint([column], [target], name=name, ondelete="CASCADE")


def upgrade() -> None:
    """Go to this revision."""
    op.add_column("users", sa.Column("is_admin", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.execute(sa.text("UPDATE users SET is_admin = :yes WHERE username = 'admin'").bindparams(yes=True))
    op.add_column(
        "oauth_clients", sa.Column("redirect_uris", sa.Text(), server_default=sa.text("'[]'"), nullable=False)
    )
    op.add_column("oauth_clients", sa.Column("token_endpoint_auth_method", sa.String(32), nullable=True))
    op.add_column("oauth_clients", sa.Column("client_uri", sa.Text(), nullable=True))
    op.add_column("oauth_clients", sa.Column("is_registered", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("oauth_clients", _moment("last_used_at", nullable=True))
    op.add_column("refresh_tokens", sa.Column("resource", sa.Text(), nullable=True))
    op.add_column("refresh_tokens", _moment("auth_time", nullable=True))

    op.create_table(
        "revoked_tokens",
        sa.Column("id", sa.String(36), nullable=False),
        _moment("expires_at"),
        sa.PrimaryKeyConstraint("id", name="pk_revoked_tokens"),
    )
    op.create_table(
        "browser_sessions",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        _moment("auth_time"),
        _moment("expires_at"),
        sa.Column("ip_address", sa.String(45), nullable=True),
        sa.Column("user_agent", sa.Text(), nullable=True),
        sa.Column("wrong_codes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_browser_sessions"),
        _belongs("browser_sessions", "user_id", "users.id"),
    )
    op.create_table(
        "consents",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("client_id", sa.String(255), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_consents"),
        sa.UniqueConstraint("user_id", "client_id", name="uq_consents_user_id"),
        _belongs("consents", "user_id", "users.id"),
        _belongs("consents", "client_id", "oauth_clients.client_id"),
    )
    op.create_table(
        "authorization_codes",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("code_hash", sa.String(64), nullable=False),
        sa.Column("family_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("client_id", sa.String(255), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=True),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=True),
        sa.Column("code_challenge", sa.String(128), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=True),
        _moment("auth_time"),
        _moment("expires_at"),
        _moment("used_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_authorization_codes"),
        _belongs("authorization_codes", "user_id", "users.id"),
        _belongs("authorization_codes", "client_id", "oauth_clients.client_id"),
    )
    op.create_table(
        "device_codes",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("device_code_hash", sa.String(64), nullable=False),
        sa.Column("user_code", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=True),
        sa.Column("client_id", sa.String(255), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=True),
        _moment("auth_time", nullable=True),
        sa.Column("interval", sa.Integer(), nullable=False),
        _moment("asked_at", nullable=True),
        _moment("expires_at"),
        sa.Column("ip_address", sa.String(45), nullable=True),
        sa.Column("user_agent", sa.Text(), nullable=True),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_device_codes"),
        _belongs("device_codes", "user_id", "users.id"),
        _belongs("device_codes", "client_id", "oauth_clients.client_id"),
    )
    for table, columns in {
        "revoked_tokens": ("expires_at",),
        "browser_sessions": ("user_id", "expires_at"),
        "consents": ("user_id", "client_id"),
        "authorization_codes": ("user_id", "client_id", "expires_at"),
        "device_codes": ("user_id", "client_id", "expires_at"),
    }.items():
        for column in columns:
            op.create_index(f"ix_{table}_{column}", table, [column])
    for table, column in (
        ("browser_sessions", "token_hash"),
        ("authorization_codes", "code_hash"),
        ("device_codes", "device_code_hash"),
        ("device_codes", "user_code"),
    ):
        op.create_index(f"ix_{table}_{column}", table, [column], unique=True)


def downgrade() -> None:
    """Go back; open flows and browser sessions end, and clients lose their redirect URIs."""
    for table in _TABLES:
        op.drop_table(table)
    with op.batch_alter_table("refresh_tokens") as batch:
        batch.drop_column("auth_time")
        batch.drop_column("resource")
    with op.batch_alter_table("oauth_clients") as batch:
        for column in reversed(_CLIENT_COLUMNS):
            batch.drop_column(column)
    with op.batch_alter_table("users") as batch:
        batch.drop_column("is_admin")
