"""The rules that the rows of module ``agent`` keep, for ``codelab db check``."""

from __future__ import annotations

from codelab.agent.repository.checks import log, turns

__all__ = ("CHECKS",)

CHECKS = log.CHECKS + turns.CHECKS
