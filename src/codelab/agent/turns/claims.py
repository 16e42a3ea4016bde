"""Claims: one client at a time runs a tool call, and what becomes of a call whose client goes away before its result.

A call is free until a client claims it. The claim is a row's column and holds across restarts; whether its client is
there is known by its streams. Of one that stays away longer than ``AGENT_RUNTIME__CLAIM_GRACE_SECONDS``, a tool that
only looks is offered again; of any other nobody knows what it did, and a person is asked.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.idempotency import write_once
from codelab.agent.mcp.clients import require_runner
from codelab.agent.mcp.tools import is_foreign
from codelab.agent.ownership import require_session
from codelab.agent.repository import approvals, claims, sessions, turns
from codelab.agent.schemas import Claim
from codelab.agent.tools import IDEMPOTENT
from codelab.agent.turns.calls import UNKNOWN_OUTCOME
from codelab.errors import Conflict, NotFound

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row

    from codelab.agent.log import EventLog
    from codelab.agent.readers import Readers
    from codelab.agent.turns.calls import CallTransitions
    from codelab.db import Database, Transaction
    from codelab.idempotency import Once
    from codelab.identity import Principal

__all__ = ("ClaimService", "open_for_result", "unknown_outcome")

#: Calls that are looked up at once.
PAGE = 500
QUESTION = "The client that ran this went away before its result. Run it again?"
_UNKNOWN = (
    "The client that ran this went away before its result, so its outcome is unknown: it may have been done, in part "
    "or whole. Look before you repeat it."
)


def unknown_outcome(feedback: str | None) -> str:
    """Say to the model what became of a call that a person does not let run again."""
    return f"{_UNKNOWN} The person says: {feedback}" if feedback else _UNKNOWN


def _require_free(call: Row[Any], client: str | None) -> None:
    if call.claimed_by is not None and call.claimed_by != client:
        held = {"client_id": call.claimed_by, "claimed_at": call.claimed_at}
        raise Conflict("Another client runs this call.", code="call_claimed", field="call_id", extra={"claim": held})


async def _require_runner(calls: CallTransitions, tx: Transaction, call: Row[Any], client: str | None) -> None:
    if is_foreign(call.tool_name):
        require_runner(call, (await calls.foreign(tx, call.session_db_id)).get(call.tool_name), client)


async def open_for_result(
    calls: CallTransitions, tx: Transaction, turn: Row[Any], call: Row[Any], client: str | None
) -> None:
    """Let a client's result of an open call in: that of the client which has it, or of any that may while it is free.

    A late one of the client that went away answers the question about it, which is withdrawn.

    Raises:
        Conflict: another client has the call or its tool, codelab makes it, or a person has not approved it.
    """
    await _require_runner(calls, tx, call, client)
    if call.state == "requested":
        _require_free(call, client)
        return
    if client is None or call.claimed_by != client:
        raise Conflict("A person has not approved this call yet.", code="approval_pending", field="call_id")
    for row in await approvals.list_pending(tx.session, call.session_db_id):
        if row.call_id == call.call_id:
            await calls.withdraw(tx, turn, row)


class ClaimService:
    """Give calls to clients, and take them from those that went away."""

    def __init__(
        self, database: Database, log: EventLog, calls: CallTransitions, readers: Readers, *, grace: float
    ) -> None:
        self._database = database
        self._log = log
        self._calls = calls
        self._readers = readers
        self._grace = grace
        #: Since when (monotonic seconds) the client of a claim is not there. A process that starts waits anew.
        self._absent: dict[tuple[int, str, datetime], float] = {}

    async def claim(
        self, principal: Principal, session_id: str, call_id: str, client: str, once: Once | None = None
    ) -> Claim:
        """Give a call to a client; one that has it already is given it again, for another grace.

        Raises:
            NotFound: no such session of this person, or no such call in it.
            Conflict: another client has it or its tool, codelab makes it, nobody has approved it, or it has ended.
        """

        async def unit(tx: Transaction) -> Claim:
            session = await require_session(tx.session, principal, session_id)
            call = await turns.find_call(tx.session, session.db_id, call_id)
            if call is None:
                raise NotFound(f"call_id: this session has no call {call_id!r}", code="unknown_call", field="call_id")
            await _require_runner(self._calls, tx, call, client)
            if call.state == "awaiting_approval":
                raise Conflict("A person has not approved this call yet.", code="approval_pending", field="call_id")
            if call.state != "requested":
                raise Conflict(f"This call has ended: {call.state}.", code="call_ended", field="call_id")
            _require_free(call, client)
            turn = await turns.find_active(tx.session, session.db_id)
            assert turn is not None
            await claims.claim(tx.session, call.db_id, client)
            if call.claimed_by is None:
                data = {
                    "call_id": call_id,
                    "turn_id": turn.id,
                    "tool_name": call.tool_name,
                    "client_id": client,
                    "attempt": call.attempt,
                }
                await self._log.append(tx, session.db_id, ("tool.claimed", data))
            return Claim(
                call_id=call_id,
                turn_id=turn.id,
                client_id=client,
                tool_name=call.tool_name,
                arguments=msgspec.json.decode(call.arguments),
                attempt=call.attempt,
            )

        route, values = ("tool-claims", session_id, call_id), [client]
        claimed = await write_once(self._database, once, principal.subject, route, values, unit, Claim)
        if once is not None and once.replayed:  # what was answered then need not hold any more
            claimed = await self._database.write(unit)
        return claimed

    async def release_abandoned(self) -> None:
        """Take calls from the clients that are away for longer than the grace; called again and again."""
        at = time.monotonic()
        absent: dict[tuple[int, str, datetime], float] = {}
        abandoned: list[Row[Any]] = []
        after = 0
        while True:
            async with self._database.read() as db:
                page = await claims.list_claimed(db, after, PAGE)
            for row in page:
                if self._readers.is_attached(row.session_db_id, row.claimed_by) or self._calls.is_made_here(row):
                    continue
                key = (row.db_id, row.claimed_by, row.claimed_at)
                absent[key] = self._absent.get(key, at)
                if at - absent[key] >= self._grace:
                    abandoned.append(row)
            if len(page) < PAGE:
                break
            after = page[-1].db_id
        self._absent = absent
        for row in abandoned:
            await self._database.write(partial(self._release, row))

    async def _release(self, row: Row[Any], tx: Transaction) -> None:
        call = await claims.find_claimed(tx.session, row.db_id, row.claimed_by)
        if call is None or call.claimed_at != row.claimed_at:
            return  # answered, or claimed again meanwhile
        turn = await turns.find_active(tx.session, row.session_db_id)
        session = await sessions.find_by_key(tx.session, row.session_db_id)
        if turn is None or session is None or self._readers.is_attached(row.session_db_id, row.claimed_by):
            return
        arguments = msgspec.json.decode(call.arguments)
        tool = (await self._calls.foreign(tx, session.db_id)).get(call.tool_name)
        if call.tool_name not in IDEMPOTENT and not (tool and tool.safe):
            await claims.set_waiting(tx.session, call.db_id)
            await self._calls.ask(
                tx, session, turn, call.agent, call.call_id, call.tool_name, arguments, QUESTION, UNKNOWN_OUTCOME
            )
            return
        await claims.offer_again(tx.session, call.db_id)
        fresh = await turns.find_call(tx.session, row.session_db_id, call.call_id)
        assert fresh is not None
        approval_id = await claims.last_approval(tx.session, row.session_db_id, call.call_id)
        await self._calls.request(tx, turn, fresh, arguments, approval_id=approval_id)
