"""Requests for module ``agent`` that a client may repeat."""

from __future__ import annotations

from codelab.agent.repository.answers import ANSWERS
from codelab.idempotency import Idempotency

__all__ = ("find_kept", "remove_old", "write_once")

_idempotency = Idempotency(ANSWERS)
find_kept = _idempotency.find_kept
remove_old = _idempotency.remove_old
write_once = _idempotency.write_once
