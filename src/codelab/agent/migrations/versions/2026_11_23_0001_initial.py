"""Create the tables of module agent.

Revision: agent_0001, the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from codelab.db.types import BigKey, JsonText, UtcDateTime

revision = "agent_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forward."""
    op.create_table(
        "session_counters",
        sa.Column("owner_id", sa.String(length=255), nullable=False),
        sa.Column("live_sessions", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", name=op.f("pk_session_counters")),
    )
    op.create_table(
        "sessions",
        sa.Column("db_id", BigKey, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("owner_id", sa.String(length=255), nullable=False),
        sa.Column("title", sa.String(length=500), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("last_activity", UtcDateTime(timezone=True), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("deleted_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("metadata_json", JsonText(), nullable=False),
        sa.Column("message_count", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("db_id", name=op.f("pk_sessions")),
    )
    op.create_index(
        "ix_sessions_owner_activity",
        "sessions",
        ["owner_id", "last_activity", "db_id"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "uq_sessions_owner_id_id",
        "sessions",
        ["owner_id", "id"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )

    op.create_table(
        "agent_contexts",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("session_db_id", BigKey, nullable=False),
        sa.Column("current_agent", sa.String(length=100), nullable=False),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("switch_count", sa.Integer(), nullable=False),
        sa.Column("metadata_json", JsonText(), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_db_id"],
            ["sessions.db_id"],
            name=op.f("fk_agent_contexts_session_db_id_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_contexts")),
        sa.UniqueConstraint("session_db_id", name=op.f("uq_agent_contexts_session_db_id")),
    )
    op.create_table(
        "session_events",
        sa.Column("session_db_id", BigKey, autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("type", sa.String(length=50), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_db_id"],
            ["sessions.db_id"],
            name=op.f("fk_session_events_session_db_id_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_db_id", "seq", name=op.f("pk_session_events")),
    )
    op.create_table(
        "turns",
        sa.Column("db_id", BigKey, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("session_db_id", BigKey, nullable=False),
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("error_code", sa.String(length=100), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("lease_owner", sa.String(length=36), nullable=True),
        sa.Column("lease_expires_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("started_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("ended_at", UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'waiting', 'completed', 'failed', 'cancelled')",
            name=op.f("ck_turns_turn_state"),
        ),
        sa.ForeignKeyConstraint(
            ["session_db_id"], ["sessions.db_id"], name=op.f("fk_turns_session_db_id_sessions"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("db_id", name=op.f("pk_turns")),
        sa.UniqueConstraint("id", name=op.f("uq_turns_id")),
    )
    op.create_index(
        "ix_turns_open",
        "turns",
        ["session_db_id", "db_id"],
        unique=False,
        sqlite_where=sa.text("state IN ('queued', 'running', 'waiting')"),
        postgresql_where=sa.text("state IN ('queued', 'running', 'waiting')"),
    )
    op.create_index(
        "uq_turns_active",
        "turns",
        ["session_db_id"],
        unique=True,
        sqlite_where=sa.text("state IN ('running', 'waiting')"),
        postgresql_where=sa.text("state IN ('running', 'waiting')"),
    )

    op.create_table(
        "agent_switches",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("context_db_id", sa.String(length=36), nullable=False),
        sa.Column("from_agent", sa.String(length=100), nullable=True),
        sa.Column("to_agent", sa.String(length=100), nullable=False),
        sa.Column("switched_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("confidence", sa.String(length=20), nullable=True),
        sa.Column("switched_by", sa.String(length=20), nullable=False),
        sa.Column("metadata_json", JsonText(), nullable=True),
        sa.ForeignKeyConstraint(
            ["context_db_id"],
            ["agent_contexts.id"],
            name=op.f("fk_agent_switches_context_db_id_agent_contexts"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent_switches")),
    )
    op.create_index("idx_context_switched", "agent_switches", ["context_db_id", "switched_at"], unique=False)

    op.create_table(
        "messages",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("session_db_id", BigKey, nullable=False),
        sa.Column("turn_db_id", BigKey, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.String(length=50), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("timestamp", UtcDateTime(timezone=True), nullable=False),
        sa.Column("agent", sa.String(length=100), nullable=True),
        sa.Column("model", sa.String(length=255), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("tool_call_id", sa.String(length=255), nullable=True),
        sa.Column("tool_calls", sa.Text(), nullable=True),
        sa.Column("token_count", sa.Integer(), nullable=True),
        sa.Column("metadata_json", JsonText(), nullable=True),
        sa.CheckConstraint("role IN ('user', 'assistant', 'system', 'tool')", name=op.f("ck_messages_valid_role")),
        sa.CheckConstraint(
            "status IN ('streaming', 'completed', 'interrupted')", name=op.f("ck_messages_message_status")
        ),
        sa.ForeignKeyConstraint(
            ["session_db_id"], ["sessions.db_id"], name=op.f("fk_messages_session_db_id_sessions"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["turn_db_id"], ["turns.db_id"], name=op.f("fk_messages_turn_db_id_turns"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
    )
    op.create_index("uq_messages_order", "messages", ["session_db_id", "turn_db_id", "seq"], unique=True)
    op.create_index(
        "uq_messages_tool_call_id",
        "messages",
        ["session_db_id", "tool_call_id"],
        unique=True,
        sqlite_where=sa.text("tool_call_id IS NOT NULL"),
        postgresql_where=sa.text("tool_call_id IS NOT NULL"),
    )

    op.create_table(
        "pending_approvals",
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
        sa.CheckConstraint(
            "status IN ('pending', 'approved', 'rejected', 'cancelled')",
            name=op.f("ck_pending_approvals_approval_status"),
        ),
        sa.ForeignKeyConstraint(
            ["session_db_id"],
            ["sessions.db_id"],
            name=op.f("fk_pending_approvals_session_db_id_sessions"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["turn_db_id"], ["turns.db_id"], name=op.f("fk_pending_approvals_turn_db_id_turns"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pending_approvals")),
        sa.UniqueConstraint("request_id", name=op.f("uq_pending_approvals_request_id")),
    )
    op.create_index("idx_pending_approvals_call_id", "pending_approvals", ["session_db_id", "call_id"], unique=False)
    op.create_index("idx_pending_approvals_session", "pending_approvals", ["session_db_id", "status"], unique=False)

    op.create_table(
        "tool_calls",
        sa.Column("db_id", BigKey, autoincrement=True, nullable=False),
        sa.Column("session_db_id", BigKey, nullable=False),
        sa.Column("turn_db_id", BigKey, nullable=False),
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("call_id", sa.String(length=255), nullable=False),
        sa.Column("tool_name", sa.String(length=255), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("edited", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("completed_seq", sa.BigInteger(), nullable=True),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("completed_at", UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('awaiting_approval', 'requested', 'completed', 'failed', 'denied', 'rejected', 'cancelled')",
            name=op.f("ck_tool_calls_tool_call_state"),
        ),
        sa.ForeignKeyConstraint(
            ["session_db_id"], ["sessions.db_id"], name=op.f("fk_tool_calls_session_db_id_sessions"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["turn_db_id"], ["turns.db_id"], name=op.f("fk_tool_calls_turn_db_id_turns"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("db_id", name=op.f("pk_tool_calls")),
    )
    op.create_index("ix_tool_calls_turn_db_id", "tool_calls", ["turn_db_id"], unique=False)
    op.create_index("uq_tool_calls_call_id", "tool_calls", ["session_db_id", "call_id"], unique=True)


def downgrade() -> None:
    """Move the schema back."""
    op.drop_index("uq_tool_calls_call_id", table_name="tool_calls")
    op.drop_index("ix_tool_calls_turn_db_id", table_name="tool_calls")

    op.drop_table("tool_calls")
    op.drop_index("idx_pending_approvals_session", table_name="pending_approvals")
    op.drop_index("idx_pending_approvals_call_id", table_name="pending_approvals")

    op.drop_table("pending_approvals")
    op.drop_index(
        "uq_messages_tool_call_id",
        table_name="messages",
        sqlite_where=sa.text("tool_call_id IS NOT NULL"),
        postgresql_where=sa.text("tool_call_id IS NOT NULL"),
    )
    op.drop_index("uq_messages_order", table_name="messages")

    op.drop_table("messages")
    op.drop_index("idx_context_switched", table_name="agent_switches")

    op.drop_table("agent_switches")
    op.drop_index(
        "uq_turns_active",
        table_name="turns",
        sqlite_where=sa.text("state IN ('running', 'waiting')"),
        postgresql_where=sa.text("state IN ('running', 'waiting')"),
    )
    op.drop_index(
        "ix_turns_open",
        table_name="turns",
        sqlite_where=sa.text("state IN ('queued', 'running', 'waiting')"),
        postgresql_where=sa.text("state IN ('queued', 'running', 'waiting')"),
    )

    op.drop_table("turns")
    op.drop_table("session_events")
    op.drop_table("agent_contexts")
    op.drop_index(
        "uq_sessions_owner_id_id",
        table_name="sessions",
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.drop_index(
        "ix_sessions_owner_activity",
        table_name="sessions",
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )

    op.drop_table("sessions")
    op.drop_table("session_counters")
