"""Requests that a client may repeat: the header Idempotency-Key (draft-ietf-httpapi-idempotency-key-header).

The answer is kept in the transaction of its effect, so that no crash can keep one without the other. Units of work run
one after the other, so a repetition that comes while the first request still runs waits for it, and finds its answer.
An error has no effect and is not kept: the repetition is tried anew. Of an answer that is too long only that it was
given is kept, so that its effect comes once all the same.
"""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from codelab.db import now
from codelab.errors import BadRequest, Conflict
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Row

    from codelab.db import Database, Transaction
    from codelab.db.answers import KeptAnswers
    from codelab.db.upkeep import Batches

__all__ = ("HEADER", "KEPT", "Idempotency", "Once", "read_key")

T = TypeVar("T")

HEADER = "Idempotency-Key"
#: How long an answer is kept.
KEPT = timedelta(hours=24)
#: Answers that are looked up at once to be removed.
_PAGE = 2000
_KEY = re.compile(r'"([\x20-\x7e]{1,255})"|([\x21\x23-\x7e]{1,255})')


class Once:
    """A request that has a key; ``replayed`` tells whether it got an answer that was kept.

    An answer of more than ``most`` bytes is not kept. ``body`` is what was sent, where the route itself reads no body.
    """

    __slots__ = ("body", "key", "most", "replayed")

    def __init__(self, key: str, most: int) -> None:
        self.body = ""
        self.key = key
        self.most = most
        self.replayed = False


def read_key(value: str, field: str = HEADER, *, most: int) -> Once:
    """Read a key: an RFC 9651 string, or the same without its quotes. ``most`` bytes of its answer are kept.

    Raises:
        BadRequest: it is empty, longer than 255 characters, or not printable ASCII.
    """
    found = _KEY.fullmatch(value)
    if found is None:
        raise BadRequest(f"{field}: must be 1 to 255 printable ASCII characters", field=field)
    return Once(found[1] or found[2], most)


class Idempotency:
    """Carry out what the clients of one module ask for once, with the answers that the module keeps."""

    def __init__(self, answers: KeptAnswers) -> None:
        self._answers = answers

    async def write_once(
        self,
        database: Database,
        once: Once | None,
        owner_id: str,
        route: tuple[str, ...],
        values: Any,
        unit: Callable[[Transaction], Awaitable[T]],
        kind: type[Any],
    ) -> T:
        """Run a unit of work, or return what it answered to the same key before.

        ``owner_id`` is the subject of the principal, ``route`` names what is asked for and of what, ``values`` are what
        the client sent, ``kind`` is what the unit returns where it had an effect; one that returns None had none, and
        nothing is kept of it.

        Raises:
            Conflict: the key came with other values before, or its answer was too long to keep.
        """
        if once is None:
            return await database.write(unit)
        name, digest = _hash([*route, once.key]), _hash(values)

        async def keeping(tx: Transaction) -> tuple[Any, Any]:
            row = await self._answers.find(tx.session, owner_id, name)
            if row is not None and row.created_at > now() - KEPT:
                return row, None
            result = await unit(tx)
            if result is not None:
                if row is not None:
                    await self._answers.remove(tx.session, [row.db_id])
                answer = msgspec.json.encode(result).decode()
                kept = answer if len(answer.encode()) <= once.most else ""
                await self._answers.add(tx.session, owner_id=owner_id, request=name, digest=digest, answer=kept)
            return None, result

        row, result = await database.write(keeping)
        if row is None:
            fresh: T = result
            return fresh
        # Refused here and not in the unit, whose failure would send its whole batch back.
        replayed: T = _replay(row, digest, once, kind)
        return replayed

    async def find_kept(
        self, database: Database, once: Once | None, owner_id: str, route: tuple[str, ...], values: Any, kind: type[T]
    ) -> T | None:
        """Return what was answered to the same key before, None where nothing was: for work that comes before the unit.

        Raises:
            Conflict: as ``write_once`` does.
        """
        if once is None:
            return None
        async with database.peek() as db:
            row = await self._answers.find(db, owner_id, _hash([*route, once.key]))
        if row is None or row.created_at <= now() - KEPT:
            return None
        replayed: T = _replay(row, _hash(values), once, kind)
        return replayed

    async def remove_old(self, batches: Batches) -> int:
        """Remove the answers that are not given any more; return how many."""
        before = now() - KEPT
        return await batches.run_through(
            lambda db: self._answers.list_before(db, before, _PAGE),
            _PAGE,
            lambda tx, keys: self._answers.remove(tx.session, keys),
        )


def _replay(row: Row[Any], digest: str, once: Once, kind: type[Any]) -> Any:
    if row.digest != digest:
        detail = f"{HEADER}: this key came with another request before."
        raise Conflict(detail, code="idempotency_key_reused", field=HEADER)
    if not row.answer:
        detail = f"{HEADER}: this request was carried out before; its answer was too long to keep."
        raise Conflict(detail, code="answer_not_kept", field=HEADER)
    once.replayed = True
    return msgspec.json.decode(row.answer, type=kind)


def _hash(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
