"""Requests of administrators that they may repeat: those whose answer has no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from codelab.auth.repository.answers import ANSWERS
from codelab.idempotency import Idempotency

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from codelab.auth.operators.common import Actor
    from codelab.db import Database, Transaction
    from codelab.idempotency import Once

__all__ = ("MAX_KEPT_ANSWER", "remove_old", "write_once")

T = TypeVar("T")

#: The longest answer that is kept, in bytes.
MAX_KEPT_ANSWER = 262_144

_idempotency = Idempotency(ANSWERS)
remove_old = _idempotency.remove_old


async def write_once(
    database: Database,
    once: Once | None,
    actor: Actor,
    route: tuple[str, ...],
    unit: Callable[[Transaction], Awaitable[T]],
    kind: type[Any],
) -> T:
    """Run a unit of work, or return what it answered to the same key of the same actor before.

    Raises:
        Conflict: as ``Idempotency.write_once`` does.
    """
    values = [once.body] if once is not None else []
    return await _idempotency.write_once(database, once, actor.by, route, values, unit, kind)
