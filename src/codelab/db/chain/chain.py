"""Write to a chain: append, take up rows from before it, erase payloads, prune a prefix."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, func, insert, select, update

from codelab.db.chain.macs import GENESIS, ChainKey, checkpoint_digest, payload_hash
from codelab.db.types import now
from codelab.db.writer import before_commit

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.db.chain.models import ChainTables

__all__ = ("CHECKPOINT_CONTENT", "Chain", "Head")

logger = logging.getLogger(__name__)

#: What a checkpoint's MAC is over.
CHECKPOINT_CONTENT = ("number", "kind", "seq", "mac", "key_id", "reason", "created_at")
_PAGE = 500


class Head(NamedTuple):
    """Where a chain ends."""

    seq: int
    mac: str
    key_id: str
    checkpoints: str


class Chain:
    """Write the rows of one chain, in units of work of the module's writer.

    The head is locked last in a transaction and once for all its rows, so many units of many processes share the chain
    at the cost of one row.
    """

    def __init__(self, tables: ChainTables, key: ChainKey) -> None:
        self._tables = tables
        self._key = key

    @property
    def key(self) -> ChainKey:
        """The key of the MACs."""
        return self._key

    def append(self, session: AsyncSession, **row: Any) -> None:
        """Write one row when everything else of the transaction is done, right before its commit."""
        before_commit(session, self, self._write).append(row)

    async def open(self, session: AsyncSession) -> None:
        """Begin the chain where there is none, with the rows that are there; begin an epoch where the key is new."""
        await self._store(session, await self._lock_head(session))

    async def adopt(self, session: AsyncSession, reason: str) -> int:
        """Take up the rows that are in no chain yet, oldest first; return how many.

        For rows that another program wrote: nothing proves them before this moment, and a checkpoint says so.
        """
        head = await self._lock_head(session)
        first = head.seq
        head = await self._adopt(session, head, reason)
        await self._store(session, head)
        return head.seq - first

    async def erase(self, session: AsyncSession, ids: Collection[Any]) -> int:
        """Empty what may be emptied of the rows with these ids; the chain stays whole. Return how many were."""
        table, at = self._tables.rows, now()
        await self._lock_head(session)
        found = (await session.execute(select(table).where(table.c.id.in_(ids), table.c.erased_at.is_(None)))).all()
        empty = dict.fromkeys(self._tables.erasable)
        for row in found:
            rest = self._tables.payload_of(dict(row._mapping) | empty)  # noqa: SLF001 - its documented name
            proof = self._key.erasure(row.seq, row.payload_hash, rest)
            values = empty | {"erased_at": at, "erased_mac": proof}
            await session.execute(update(table).where(table.c.id == row.id).values(values))
        return len(found)

    async def cut(self, session: AsyncSession, seq: int, reason: str) -> None:
        """Put a checkpoint behind which all rows up to ``seq`` may be deleted; the caller has verified them."""
        table = self._tables.rows
        head = await self._lock_head(session)
        mac = (await session.execute(select(table.c.mac).where(table.c.seq == seq))).scalar_one()
        await self._store(session, await self._checkpoint(session, head, "pruned", seq, mac, reason))

    async def _write(self, session: AsyncSession, rows: list[dict[str, Any]]) -> None:
        head = await self._lock_head(session)
        seq, mac = head.seq, head.mac
        chained: list[dict[str, Any]] = []
        for row in rows:
            payload = self._tables.payload_of(row)
            seq, hashed = seq + 1, payload_hash(payload)
            mac = self._key.row(mac, seq, hashed)
            chained.append(payload | {"seq": seq, "payload_hash": hashed, "mac": mac})
        await session.execute(insert(self._tables.rows), chained)
        await self._store(session, head._replace(seq=seq, mac=mac))

    async def _lock_head(self, session: AsyncSession) -> Head:
        """Wait for the head and hold it to the end of the transaction; it is one of our own key."""
        head = await self._read_head(session)
        if head is None:
            if session.get_bind().dialect.name == "postgresql":  # where many may find that there is none
                await session.execute(select(func.pg_advisory_xact_lock(func.hashtext(self._tables.head.name))))
            head = await self._read_head(session) or await self._begin(session)
        if head.key_id != self._key.id:
            logger.warning("The key of %s is another than before: a new part of it begins.", self._tables.rows.name)
            head = head._replace(key_id=self._key.id)
            head = await self._checkpoint(session, head, "epoch", head.seq, head.mac, "another key")
        return head

    async def _read_head(self, session: AsyncSession) -> Head | None:
        columns = (self._tables.head.c[name] for name in Head._fields)
        row = (await session.execute(select(*columns).with_for_update())).one_or_none()
        return Head(*row) if row else None

    async def _begin(self, session: AsyncSession) -> Head:
        head = Head(0, GENESIS, self._key.id, GENESIS)
        await session.execute(insert(self._tables.head).values(id=1, proof="", **head._asdict()))
        head = await self._checkpoint(session, head, "epoch", 0, GENESIS, "the first row")
        return await self._adopt(session, head, "written before there was a chain")

    async def _adopt(self, session: AsyncSession, head: Head, reason: str) -> Head:
        table = self._tables.rows
        order = [table.c[name] for name in self._tables.order]
        page = select(table).where(table.c.seq.is_(None)).order_by(*order).limit(_PAGE)
        take_up = update(table).where(table.c.id == bindparam("row_id"))
        seq, mac = head.seq, head.mac
        while found := (await session.execute(page)).mappings().all():
            changes = []
            for row in found:
                seq, hashed = seq + 1, payload_hash(self._tables.payload_of(dict(row)))
                mac = self._key.row(mac, seq, hashed)
                changes.append({"row_id": row["id"], "seq": seq, "payload_hash": hashed, "mac": mac})
            await session.execute(take_up, changes)
        if seq == head.seq:
            return head
        return await self._checkpoint(session, head._replace(seq=seq, mac=mac), "adopted", seq, mac, reason)

    async def _checkpoint(
        self, session: AsyncSession, head: Head, kind: str, seq: int, mac: str, reason: str, at: datetime | None = None
    ) -> Head:
        table = self._tables.checkpoints
        number = (await session.execute(select(func.coalesce(func.max(table.c.number), 0)))).scalar_one() + 1
        values = (number, kind, seq, mac, self._key.id, reason, at or now())
        content = dict(zip(CHECKPOINT_CONTENT, values, strict=True))
        proof = self._key.checkpoint(head.checkpoints, content)
        await session.execute(insert(table).values(proof=proof, **content))
        return head._replace(checkpoints=checkpoint_digest(head.checkpoints, content, proof))

    async def _store(self, session: AsyncSession, head: Head) -> None:
        proof = self._key.head(head.seq, head.mac, head.checkpoints)
        await session.execute(update(self._tables.head).values(proof=proof, **head._asdict()))
