"""Verify a chain: which rows were changed, removed, moved, cut off or put in by somebody without the key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select, true

from codelab.db.chain import GENESIS, payload_hash
from codelab.db.chain.chain import CHECKPOINT_CONTENT
from codelab.db.chain.macs import checkpoint_digest
from codelab.storage.module import Check, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

    from codelab.db.chain import ChainKey, ChainTables

__all__ = ("chain_check", "verify_chain")

PAGE = 1000
#: How many rows a finding names.
NAMED = 20
#: How often a chain is read again when somebody prunes it meanwhile.
ATTEMPTS = 3


def chain_check(name: str, tables: ChainTables, read_key: Callable[[], ChainKey | None]) -> Check:
    """Make the check of one chain; without its key only hashes and order can be checked, which a note says."""

    async def find(connection: AsyncConnection) -> list[Finding]:
        return await verify_chain(connection, name, tables, read_key())

    return Check(name, find)


async def verify_chain(
    db: AsyncConnection | AsyncSession, name: str, tables: ChainTables, key: ChainKey | None, until: int | None = None
) -> list[Finding]:
    """Verify a chain, or its rows up to ``until``; ``name`` is what the findings are called.

    Writers may go on meanwhile: what they add is not looked at.
    """
    findings: list[Finding] = []
    for _ in range(ATTEMPTS):
        verifier = _Verifier(db, name, tables, key)
        findings = await verifier.verify(until)
        if not any(finding.severity == "fault" for finding in findings) or await verifier.is_current():
            break
    return findings


class _Epoch(NamedTuple):
    after: int
    key_id: str
    since: datetime


class _Verifier:
    def __init__(
        self, db: AsyncConnection | AsyncSession, name: str, tables: ChainTables, key: ChainKey | None
    ) -> None:
        self._db = db
        self._name = name
        self._tables = tables
        self._key = key
        self._head: Mapping[str, Any] | None = None
        self._checkpoints: list[Mapping[str, Any]] = []
        self._epochs: list[_Epoch] = []
        self._found: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}
        self._findings: list[Finding] = []

    async def verify(self, until: int | None) -> list[Finding]:
        self._head, self._checkpoints = await self._read_head()
        if self._head is None:
            await self._judge_no_head()
            return self._findings
        self._judge_checkpoints(self._head)
        self._judge_key(self._head)
        await self._walk(self._head, until)
        if until is None:
            await self._find_strangers()
        self._tell()
        return self._findings

    async def is_current(self) -> bool:
        """Tell whether nobody put a checkpoint since the chain was read."""
        _, checkpoints = await self._read_head()
        return len(checkpoints) == len(self._checkpoints)

    async def _read_head(self) -> tuple[Mapping[str, Any] | None, list[Mapping[str, Any]]]:
        """Read head and checkpoints in one statement, so that they belong together."""
        head, checkpoints = self._tables.head, self._tables.checkpoints
        joined = head.outerjoin(checkpoints, true())
        statement = select(
            *(column.label(f"head_{column.name}") for column in head.c), *(column for column in checkpoints.c)
        )
        found = (await self._db.execute(statement.select_from(joined).order_by(checkpoints.c.number))).mappings().all()
        if not found:
            return None, []
        first = {column.name: found[0][f"head_{column.name}"] for column in head.c}
        rows = [{column.name: row[column.name] for column in checkpoints.c} for row in found]
        return first, [row for row in rows if row["number"] is not None]

    async def _judge_no_head(self) -> None:
        rows = self._tables.rows
        chained = await self._list_ids(rows.c.seq.is_not(None))
        leftover = (await self._db.execute(select(self._tables.checkpoints.c.number).limit(1))).first()
        if chained or leftover is not None:
            self._add("fault", "the head of the chain is gone, and with it the proof of where the chain ended", chained)
        elif await self._list_ids(rows.c.seq.is_(None)):
            self._add("note", "the rows are in no chain yet; the server chains them at its next start")

    def _judge_checkpoints(self, head: Mapping[str, Any]) -> None:
        digest = GENESIS
        for number, row in enumerate(self._checkpoints, start=1):
            content = {name: row[name] for name in CHECKPOINT_CONTENT}
            ours = self._key is not None and row["key_id"] == self._key.id
            if self._key is not None and ours and row["proof"] != self._key.checkpoint(digest, content):
                self._add("fault", f"checkpoint {row['number']} is not what was written")
            elif row["number"] != number:
                self._add("fault", f"checkpoint {number} is missing")
                return
            digest = checkpoint_digest(digest, content, row["proof"])
            if row["kind"] == "epoch":
                self._epochs.append(_Epoch(row["seq"], row["key_id"], row["created_at"]))
        if digest != head["checkpoints"]:
            self._add("fault", "the checkpoints are not those that the head of the chain was written with")

    def _judge_key(self, head: Mapping[str, Any]) -> None:
        if self._key is None:
            self._add("note", "there is no key file, so only hashes and order were checked, no MAC")
            return
        if head["key_id"] != self._key.id:
            detail = (
                f"the chain ends under the key {head['key_id']} and the key file has {self._key.id}: it is another "
                "key file, or somebody wrote the rows anew; once the server has started with it, only what came before "
                "cannot be verified with this key"
            )
            self._add("fault", detail)
            return
        if head["proof"] != self._key.head(head["seq"], head["mac"], head["checkpoints"]):
            self._add("fault", "the head of the chain is not what was written: rows may have been cut off")
        ends = [*(epoch.after for epoch in self._epochs[1:]), head["seq"]]
        for epoch, end in zip(self._epochs, ends, strict=False):
            if epoch.key_id != self._key.id and end > epoch.after:
                detail = f"rows {epoch.after + 1} to {end} cannot be verified with this key; hashes and order were"
                self._add("note", detail)

    def _is_ours(self, seq: int) -> bool:
        """Tell whether the MAC of a row is by our key."""
        current = [epoch for epoch in self._epochs if epoch.after < seq]
        return self._key is not None and bool(current) and current[-1].key_id == self._key.id

    async def _walk(self, head: Mapping[str, Any], until: int | None) -> None:
        pruned = max((row["seq"] for row in self._checkpoints if row["kind"] == "pruned"), default=0)
        macs = {row["seq"]: row["mac"] for row in self._checkpoints} | {0: GENESIS}
        end = head["seq"] if until is None else min(until, head["seq"])
        table = self._tables.rows
        seq, mac, left = 0, None, 0
        while page := (
            (
                await self._db.execute(
                    select(table).where(table.c.seq > seq, table.c.seq <= end).order_by(table.c.seq).limit(PAGE)
                )
            )
            .mappings()
            .all()
        ):
            for row in page:
                if row["seq"] <= pruned:
                    left += 1
                expected = seq + 1 if seq else min(row["seq"], pruned + 1)
                if row["seq"] != expected:
                    self._note(f"rows {expected} to {row['seq'] - 1} are missing, before", row["id"])
                    mac = None
                elif not seq:
                    mac = macs.get(row["seq"] - 1)
                self._judge_row(dict(row), mac)
                seq, mac = row["seq"], row["mac"]
                if macs.get(seq, mac) != mac:
                    self._note("the MAC is not the one that a checkpoint has", row["id"])
        if left:
            self._add("note", f"{left} rows before the last checkpoint are still to be pruned")
        last, last_mac = (seq, mac) if seq > pruned else (pruned, macs.get(pruned))
        if last < end:
            self._add("fault", f"rows {last + 1} to {end} are missing at the end")
        elif until is None and last_mac != head["mac"]:
            self._add("fault", "the last row is not the one that the head of the chain was written with")

    def _judge_row(self, row: dict[str, Any], previous: str | None) -> None:
        payload = self._tables.payload_of(row)
        if row["erased_at"] is not None:
            self._judge_erased(row, payload)
        elif payload_hash(payload) != row["payload_hash"]:
            self._note("the content was changed", row["id"])
        if self._key is None or previous is None or not self._is_ours(row["seq"]):
            return
        if row["mac"] != self._key.row(previous, row["seq"], row["payload_hash"]):
            self._note("the MAC is wrong: the row was changed, moved or put in", row["id"])

    def _judge_erased(self, row: dict[str, Any], payload: dict[str, Any]) -> None:
        if any(payload[name] is not None for name in self._tables.erasable):
            self._note("the content was erased and is there again", row["id"])
            return
        current = [epoch for epoch in self._epochs if epoch.since <= row["erased_at"]]
        if self._key is None or not current or current[-1].key_id != self._key.id:
            return
        if row["erased_mac"] != self._key.erasure(row["seq"], row["payload_hash"], payload):
            self._note("the content was emptied without the key", row["id"])

    async def _find_strangers(self) -> None:
        rows, head = self._tables.rows, self._tables.head
        for stranger in await self._list_ids(rows.c.seq.is_(None)):
            self._note("not in the chain: put in without the key", stranger)
        # Both are read at once: a writer advances the head with its rows.
        for stranger in await self._list_ids(rows.c.seq > select(head.c.seq).scalar_subquery()):
            self._note("after the end of the chain: put in without the key", stranger)

    async def _list_ids(self, condition: Any) -> list[str]:
        id_ = self._tables.rows.c.id
        found = await self._db.execute(select(id_).where(condition).order_by(id_).limit(NAMED))
        return [str(each) for each in found.scalars()]

    def _note(self, detail: str, row_id: Any) -> None:
        """Collect a fault of one row; those of one kind become one finding."""
        self._counts[detail] = self._counts.get(detail, 0) + 1
        named = self._found.setdefault(detail, [])
        if len(named) < NAMED:
            named.append(str(row_id))

    def _tell(self) -> None:
        for detail, named in self._found.items():
            count = self._counts[detail]
            more = f" ({count} rows, of which {NAMED} are named)" if count > len(named) else ""
            self._add("fault", detail + more, named)

    def _add(self, severity: Any, detail: str, rows: list[str] | None = None) -> None:
        self._findings.append(Finding(check=self._name, severity=severity, detail=detail, rows=tuple(rows or ())))
