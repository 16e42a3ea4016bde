"""The same servers and people as the tests of the two modules have."""

from __future__ import annotations

from tests.agent.conftest import ada, database, model, nothing_unexpected, running, serve, start, talker, with_model
from tests.auth.conftest import auth
from tests.auth.conftest import new_settings as settings

__all__ = (
    "ada",
    "auth",
    "database",
    "model",
    "nothing_unexpected",
    "running",
    "serve",
    "settings",
    "start",
    "talker",
    "with_model",
)
