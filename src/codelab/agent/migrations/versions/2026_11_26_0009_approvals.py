"""Let approvals expire and be listed for a person; keep who decided from where, rules of sessions, an audit trail.

Revision: agent_0009, after agent_0008.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from codelab.db.types import BigKey, UtcDateTime

revision = "agent_0009"
down_revision = "agent_0008"
branch_labels = None
depends_on = None

_TABLE = "pending_approvals"
_CHECK = "ck_pending_approvals_approval_status"
_BEFORE = "status IN ('pending', 'approved', 'rejected', 'cancelled')"
_AFTER = "status IN ('pending', 'approved', 'rejected', 'cancelled', 'expired')"
_PENDING = sa.text("status = 'pending'")
_OWNERS = """
UPDATE pending_approvals
   SET owner_id = numbered.owner_id, inbox_seq = numbered.number
  FROM (SELECT p.id, s.owner_id, row_number() OVER (PARTITION BY s.owner_id ORDER BY p.created_at, p.id) AS number
          FROM pending_approvals p JOIN sessions s ON s.db_id = p.session_db_id) AS numbered
 WHERE numbered.id = pending_approvals.id
"""
_COUNTERS = """
UPDATE session_counters
   SET inbox_seq = coalesce(
       (SELECT max(p.inbox_seq) FROM pending_approvals p WHERE p.owner_id = session_counters.owner_id), 0)
"""


def upgrade() -> None:
    """Move the schema forward; what waits already waits for ever."""
    for name, type_ in (
        ("owner_id", sa.String(length=255)),
        ("expires_at", UtcDateTime(timezone=True)),
        ("policy_version", sa.String(length=64)),
        ("decided_client_id", sa.String(length=255)),
        ("inbox_seq", sa.BigInteger()),
    ):
        op.add_column(_TABLE, sa.Column(name, type_, nullable=True))
    op.add_column("session_counters", sa.Column("inbox_seq", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("sessions", sa.Column("policy_rules", sa.Text(), nullable=True))
    op.execute(_OWNERS)
    op.execute(_COUNTERS)
    _rebuild(_BEFORE, _AFTER, owner_nullable=False)
    op.create_index("uq_pending_approvals_inbox", _TABLE, ["owner_id", "inbox_seq"], unique=True)
    op.create_index(
        "ix_pending_approvals_waiting",
        _TABLE,
        ["owner_id", "inbox_seq"],
        unique=False,
        sqlite_where=_PENDING,
        postgresql_where=_PENDING,
    )
    op.create_index(
        "ix_pending_approvals_expiring",
        _TABLE,
        ["expires_at"],
        unique=False,
        sqlite_where=_PENDING,
        postgresql_where=_PENDING,
    )
    _create_audit()


def _rebuild(before: str, after: str, *, owner_nullable: bool) -> None:
    """Change the check and whether there must be an owner; SQLite has to copy the table for it."""
    with op.batch_alter_table(_TABLE, copy_from=_table(before, owner_nullable=not owner_nullable)) as batch:
        batch.alter_column("owner_id", existing_type=sa.String(length=255), nullable=owner_nullable)
        batch.drop_constraint(op.f(_CHECK), type_="check")
        batch.create_check_constraint(op.f(_CHECK), after)


def _table(check: str, *, owner_nullable: bool) -> sa.Table:
    """Describe the table with all new columns; ``upgrade --sql`` has no database to read it from."""
    return sa.Table(
        _TABLE,
        sa.MetaData(),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("request_id", sa.String(length=255), nullable=False),
        sa.Column("request_type", sa.String(length=50), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=True),
        sa.Column("session_db_id", BigKey, nullable=False),
        sa.Column("turn_db_id", BigKey, nullable=False),
        sa.Column("call_id", sa.String(length=255), nullable=False),
        sa.Column("agent", sa.String(length=100), nullable=False),
        sa.Column("tool_name", sa.String(length=255), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("status", sa.String(length=50), nullable=False),
        sa.Column("decision", sa.String(length=20), nullable=True),
        sa.Column("decision_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("decision_reason", sa.Text(), nullable=True),
        sa.Column("decided_by", sa.String(length=255), nullable=True),
        sa.Column("decided_arguments", sa.Text(), nullable=True),
        sa.Column("owner_id", sa.String(length=255), nullable=owner_nullable),
        sa.Column("expires_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("policy_version", sa.String(length=64), nullable=True),
        sa.Column("decided_client_id", sa.String(length=255), nullable=True),
        sa.Column("inbox_seq", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(check, name=_CHECK),
        sa.ForeignKeyConstraint(
            ["session_db_id"],
            ["sessions.db_id"],
            name="fk_pending_approvals_session_db_id_sessions",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["turn_db_id"], ["turns.db_id"], name="fk_pending_approvals_turn_db_id_turns", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_pending_approvals"),
        sa.UniqueConstraint("request_id", name="uq_pending_approvals_request_id"),
        sa.Index("idx_pending_approvals_call_id", "session_db_id", "call_id"),
        sa.Index("idx_pending_approvals_session", "session_db_id", "status"),
        sa.Index("ix_pending_approvals_turn_db_id", "turn_db_id"),
    )


def _create_audit() -> None:
    op.create_table(
        "agent_audit",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("event_type", sa.String(length=50), nullable=False),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("owner_id", sa.String(length=255), nullable=True),
        sa.Column("actor_id", sa.String(length=255), nullable=True),
        sa.Column("client_id", sa.String(length=255), nullable=True),
        sa.Column("session_id", sa.String(length=36), nullable=True),
        sa.Column("data", sa.Text(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("payload_hash", sa.String(length=64), nullable=True),
        sa.Column("mac", sa.String(length=64), nullable=True),
        sa.Column("erased_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("erased_mac", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_audit")),
    )
    op.create_index(op.f("ix_agent_audit_seq"), "agent_audit", ["seq"], unique=True)
    op.create_index(op.f("ix_agent_audit_owner_id"), "agent_audit", ["owner_id"], unique=False)
    op.create_index(op.f("ix_agent_audit_created_at"), "agent_audit", ["created_at"], unique=False)
    op.create_table(
        "agent_audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.Column("checkpoints", sa.String(length=64), nullable=False),
        sa.Column("proof", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_audit_head")),
    )
    op.create_table(
        "agent_audit_checkpoints",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("proof", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_agent_audit_checkpoints")),
    )


def downgrade() -> None:
    """Move the schema back; what expired counts as cancelled, and the audit trail is gone."""
    op.drop_table("agent_audit_checkpoints")
    op.drop_table("agent_audit_head")
    op.drop_table("agent_audit")
    for name in ("ix_pending_approvals_expiring", "ix_pending_approvals_waiting"):
        op.drop_index(name, table_name=_TABLE, sqlite_where=_PENDING, postgresql_where=_PENDING)
    op.drop_index("uq_pending_approvals_inbox", table_name=_TABLE)
    op.execute("UPDATE pending_approvals SET status = 'cancelled' WHERE status = 'expired'")
    _rebuild(_AFTER, _BEFORE, owner_nullable=True)
    op.drop_column("sessions", "policy_rules")
    op.drop_column("session_counters", "inbox_seq")
    for name in ("inbox_seq", "decided_client_id", "policy_version", "expires_at", "owner_id"):
        op.drop_column(_TABLE, name)
