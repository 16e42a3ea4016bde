"""Sessions: the rules of making, finding, changing and deleting them. Another person's session does not exist."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from codelab.agent.idempotency import write_once
from codelab.agent.ownership import PUBLIC_ID, require_session
from codelab.agent.repository import images, messages, sessions, turns
from codelab.agent.schemas import (
    MAX_IMAGES,
    AgentContextInfo,
    CallUsage,
    History,
    HistoryMessage,
    ImageInfo,
    NewSession,
    SessionChange,
    SessionInfo,
    SessionList,
    Switch,
)
from codelab.agent.turns.steering import STEERS
from codelab.db import new_id
from codelab.errors import BadRequest, Conflict, NotFound
from codelab.text import reject_unstorable

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

    from codelab.agent.agents import Agents
    from codelab.agent.log import EventLog
    from codelab.agent.model_choice import Models
    from codelab.agent.turns import Runner, Transitions
    from codelab.db import Database, Transaction
    from codelab.idempotency import Once
    from codelab.identity import Principal

__all__ = ("SessionService",)

T = TypeVar("T")
#: What names an image of a message.
NUMBERS = frozenset(map(str, range(MAX_IMAGES)))
#: What a cursor may hold: what both databases can compare with.
Key = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class SessionService:
    """Make, find, list, change and delete sessions of a person."""

    def __init__(
        self,
        database: Database,
        log: EventLog,
        transitions: Transitions,
        runner: Runner,
        agents: Agents,
        models: Models,
    ) -> None:
        self._database = database
        self._log = log
        self._transitions = transitions
        self._runner = runner
        self._agents = agents
        self._models = models

    async def create(self, principal: Principal, new: NewSession, once: Once | None = None) -> SessionInfo:
        """Make a session.

        Raises:
            BadRequest: there is no such agent, or the model is not allowed.
            Conflict: this person has a session with that id.
        """
        if new.agent is not None and new.agent not in self._agents:
            raise BadRequest(f"agent: must be one of {', '.join(self._agents)}", field="agent")
        if new.model is not None:
            self._models.check(new.model)
        session_id = new.session_id or new_id()
        agent = new.agent or self._agents.first
        metadata = new.metadata or {}

        async def unit(tx: Transaction) -> SessionInfo | None:
            at = await sessions.add(
                tx.session,
                session_id=session_id,
                owner_id=principal.subject,
                title=new.title,
                agent=agent,
                model=new.model,
                metadata=metadata,
            )
            return None if at is None else SessionInfo.fresh(session_id, new, agent, metadata, at)

        values = [new.session_id, new.title, new.agent, metadata, *([new.model] if new.model else [])]
        made = await write_once(self._database, once, principal.subject, ("sessions",), values, unit, SessionInfo)
        if made is None:  # refused here and not in the unit, whose failure would send its whole batch back
            raise Conflict(f"You have a session {session_id!r} already.", code="session_exists", field="session_id")
        return made

    async def get(self, principal: Principal, session_id: str) -> SessionInfo:
        """Return a session."""
        async with self._database.peek() as db:
            return SessionInfo.from_row(await require_session(db, principal, session_id))

    async def key(self, principal: Principal, session_id: str) -> int:
        """Return the internal key of a session."""
        async with self._database.peek() as db:
            db_id: int = (await require_session(db, principal, session_id)).db_id
            return db_id

    async def list(self, principal: Principal, *, limit: int, cursor: str | None, text: str | None) -> SessionList:
        """Return a page of sessions, the latest activity first.

        Raises:
            BadRequest: the cursor is not one of ours, or the text cannot be searched.
        """
        before = _read_cursor(cursor, tuple[datetime, Key]) if cursor else None
        if before is not None and before[0].utcoffset() != timedelta(0):  # converting the first and last days overflows
            raise _bad_cursor()
        if text is not None:
            reject_unstorable(text, "q")
        async with self._database.read() as db:
            rows = await sessions.list_live(db, principal.subject, limit=limit + 1, before=before, text=text)
            total = None if text is not None else await sessions.count_live(db, principal.subject)
        more = len(rows) > limit
        page = rows[:limit]
        next_cursor = _write_cursor((page[-1].last_activity, page[-1].db_id)) if more else None
        return SessionList([SessionInfo.from_row(row) for row in page], total, limit, 0, next_cursor)

    async def change(self, principal: Principal, session_id: str, change: SessionChange) -> SessionInfo:
        """Change the title, the model or the metadata of a session; the next model call asks the model.

        Raises:
            BadRequest: the model is not allowed.
        """
        values: dict[str, Any] = {}
        if change.title is not msgspec.UNSET:
            values["title"] = change.title
        if change.model is not msgspec.UNSET:
            if change.model is not None:
                self._models.check(change.model)
            values["model"] = change.model
        if change.metadata is not msgspec.UNSET:
            values["metadata_json"] = change.metadata

        async def unit(tx: Transaction) -> SessionInfo:
            session = await require_session(tx.session, principal, session_id)
            if values:
                await sessions.set_fields(tx.session, session.db_id, **values)
            return await _info(tx.session, session.db_id)

        return await self._database.write(unit)

    async def delete(self, principal: Principal, session_id: str) -> None:
        """Delete a session softly: its turns are cancelled, its streams end."""

        async def unit(tx: Transaction) -> str | None:
            session = await require_session(tx.session, principal, session_id)
            turn = await turns.find_active(tx.session, session.db_id)
            if turn is not None:
                await self._transitions.cancel(tx, turn, "The session was deleted")
            while (queued := await turns.next_queued(tx.session, session.db_id)) is not None:
                await self._transitions.cancel(tx, queued, "The session was deleted")
            await sessions.mark_deleted(tx.session, session.db_id, principal.subject)
            tx.after_commit(lambda: self._log.close_session(session.db_id))
            return None if turn is None else str(turn.id)

        turn_id = await self._database.write(unit)
        if turn_id is not None:
            await self._runner.interrupt(turn_id)

    async def history(self, principal: Principal, session_id: str, *, limit: int, cursor: str | None) -> History:
        """Return a page of messages in order, and all hand-overs."""
        after = _read_cursor(cursor, tuple[Key, Key]) if cursor else None
        async with self._database.read() as db:
            session = await require_session(db, principal, session_id)
            rows = await messages.list_page(db, session.db_id, after=after, limit=limit + 1)
            switches = await sessions.list_switches(db, session.context_id)
        page = rows[:limit]
        next_cursor = _write_cursor((page[-1].turn_db_id, page[-1].seq)) if len(rows) > limit else None
        return History(
            session_id=session.id,
            messages=[_history_message(row) for row in page],
            message_count=session.message_count,
            last_activity=session.last_activity,
            current_agent=session.current_agent,
            agent_history=[Switch.from_row(row) for row in switches],
            next_cursor=next_cursor,
        )

    async def image(self, principal: Principal, session_id: str, message_id: str, n: str) -> tuple[str, bytes]:
        """Return an image of a message: its media type and its bytes; ``n`` counts from 0.

        Raises:
            NotFound: no such session of this person, or no such image in it.
        """
        async with self._database.read() as db:
            session = await require_session(db, principal, session_id)
            named = re.fullmatch(PUBLIC_ID, message_id) is not None and n in NUMBERS
            row = await images.find(db, session.db_id, message_id, int(n)) if named else None
        if row is None:
            raise NotFound("This session has no such image.", code="unknown_image")
        return row.media_type, base64.b64decode(row.data)

    async def context(self, principal: Principal, session_id: str, *, with_history: bool) -> AgentContextInfo:
        """Return which agent a session is with."""
        async with self._database.peek() as db:
            session = await require_session(db, principal, session_id)
            rows = await sessions.list_switches(db, session.context_id) if with_history else None
            return AgentContextInfo.from_rows(session, rows)


async def _info(db: AsyncSession, db_id: int) -> SessionInfo:
    row = await sessions.find_by_key(db, db_id)
    assert row is not None
    return SessionInfo.from_row(row)


def _history_message(row: Row[Any]) -> HistoryMessage:
    return HistoryMessage(
        role=row.role,
        content=row.content,
        id=row.id,
        created_at=row.timestamp,
        turn_id=row.turn_id,
        status=row.status,
        agent=row.agent,
        name=row.name,
        tool_call_id=row.tool_call_id,
        tool_calls=msgspec.json.decode(row.tool_calls) if row.tool_calls else None,
        delivery="steer" if STEERS in (row.metadata_json or {}) else None,
        reasoning=_thoughts(row.reasoning) if row.reasoning else None,
        usage=CallUsage.from_row(row),
        images=msgspec.json.decode(row.images, type=list[ImageInfo]) if row.images else None,
    )


def _thoughts(stored: str) -> str | None:
    parts = (part.get("text") for part in msgspec.json.decode(stored))
    return "\n\n".join(filter(None, parts)) or None


def _write_cursor(values: tuple[Any, ...]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def _read_cursor(cursor: str, kind: type[T]) -> T:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=kind)
    except (binascii.Error, ValueError):
        raise _bad_cursor() from None


def _bad_cursor() -> BadRequest:
    return BadRequest("cursor: is not a cursor that this API gave out", field="cursor")
