"""The same servers and people as the tests of module ``agent`` have."""

from __future__ import annotations

from tests.agent.conftest import ada, database, model, nothing_unexpected, running, serve, start, talker, with_model

__all__ = ("ada", "database", "model", "nothing_unexpected", "running", "serve", "start", "talker", "with_model")
