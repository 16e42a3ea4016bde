"""Run the migrations of module ``agent``."""

from __future__ import annotations

from alembic import context

from codelab.db.migrate import configure_environment

configure_environment(context)
