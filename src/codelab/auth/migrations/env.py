"""Run the migrations of module ``auth`` on the connection that the start hands over."""

from __future__ import annotations

from alembic import context

from codelab.db.migrate import configure_environment

configure_environment(context)
