"""Grants in place of "always": what a person allows beyond one decision, exactly as decided, and for how long."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from codelab.agent import gate
from codelab.agent.ownership import PUBLIC_ID, require_session
from codelab.agent.paging import read_position
from codelab.agent.policy import NotGrantable, Rule, exact_rule, matches
from codelab.agent.repository import approvals, grants, turns
from codelab.agent.schemas import Grant, GrantList, GrantPreview, PastCall
from codelab.agent.schemas.policy import ExplainedRule
from codelab.db import now
from codelab.errors import BadRequest, NotFound
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Row

    from codelab.agent.agents import Agent
    from codelab.agent.audit import AuditTrail, Event
    from codelab.agent.mcp.tools import ForeignTool
    from codelab.agent.policy import Policy
    from codelab.agent.providers import ToolCall
    from codelab.agent.schemas import GrantRequest
    from codelab.db import Database, Transaction
    from codelab.identity import Principal

__all__ = ("GrantService", "Judged", "judge_calls", "make_grant")

#: Calls that a preview looks at.
LAST_CALLS = 100
#: Only these are asked in the words of a call that can come again.
TOOL = "tool"
#: Scopes beyond one session, which is where an MCP server and its tools are.
BEYOND = ("agent", "all_sessions")


class Judged(NamedTuple):
    """A verdict, and the approval from which the grant came that made it an allow."""

    verdict: gate.Verdict
    approval_id: str | None = None


class _Place(NamedTuple):
    """Where a grant holds."""

    session_db_id: int | None
    turn_id: str | None
    agent: str | None


async def judge_calls(
    tx: Transaction,
    policy: Policy,
    agent: Agent,
    session: Row[Any],
    turn: Row[Any],
    calls: Sequence[ToolCall],
    foreign: Mapping[str, ForeignTool],
) -> list[Judged]:
    """Pass the calls of one answer through the gate, in order; what would be asked may be granted, and is counted."""
    policy = policy.of_session(session.policy_rules)
    usable: list[Row[Any]] | None = None
    judged: list[Judged] = []
    for call in calls:
        verdict = gate.check_call(agent, call.name, call.arguments, policy, foreign=foreign)
        approval_id = None
        if verdict.effect == "ask":
            if usable is None:
                usable = await grants.list_usable(
                    tx.session, session.owner_id, session_db_id=session.db_id, turn_id=turn.id, agent=agent.name
                )
            for row in reversed(usable):
                rule = msgspec.structs.replace(_rule(row), source=row.id)
                # The server that was granted may be another one now, or describe its tool in another way.
                tool = foreign.get(call.name)
                if rule.tool_version != (None if tool is None else tool.version):
                    continue
                granted = gate.check_call(agent, call.name, call.arguments, policy, grants=(rule,), foreign=foreign)
                # A grant that has run out, or was revoked meanwhile, is no grant.
                if granted.effect == "allow" and await grants.use(tx.session, row.db_id):
                    verdict, approval_id = granted, row.approval_id
                    break
        judged.append(Judged(verdict, approval_id))
    return judged


async def make_grant(
    audit: AuditTrail,
    tx: Transaction,
    principal: Principal,
    session: Row[Any],
    approval: Row[Any],
    turn: Row[Any],
    arguments: dict[str, Any],
    request: GrantRequest,
) -> Grant:
    """Keep what a person grants beside a decision, in its transaction; ``arguments`` are those that were approved.

    Raises:
        BadRequest: no rule can name exactly this call, or the time is over.
    """
    rule = _grantable(approval, arguments, request.scope)
    _require_future(request.until)
    place = _place(session, approval.agent, turn.id, request.scope)
    grant_id = await grants.add(
        tx.session,
        owner_id=principal.subject,
        scope=request.scope,
        session_db_id=place.session_db_id,
        turn_id=place.turn_id,
        agent=place.agent,
        tool_name=approval.tool_name,
        rule=canonical_json(msgspec.to_builtins(rule)),
        approval_id=approval.request_id,
        client_id=principal.client_id,
        uses_left=1 if request.scope == "once" else request.times,
        expires_at=request.until,
    )
    row = await grants.find(tx.session, principal.subject, grant_id)
    assert row is not None
    _record(audit, tx, principal, "grant_made", row)
    return Grant.from_row(row)


class GrantService:
    """Show what a grant would be, list grants, and take them back."""

    def __init__(self, database: Database, audit: AuditTrail) -> None:
        self._database = database
        self._audit = audit

    async def preview(
        self,
        principal: Principal,
        session_id: str,
        approval_id: str,
        request: GrantRequest,
        modified: dict[str, Any] | None,
    ) -> GrantPreview:
        """Show the rule of a grant, and which of the last calls it would have allowed; nothing is changed.

        Raises:
            BadRequest: no rule can name exactly this call, or the time is over.
            NotFound: no such session of this person, or no such approval in it.
        """
        async with self._database.read() as db:
            session = await require_session(db, principal, session_id)
            approval = await approvals.find(db, session.db_id, approval_id) if _is_id(approval_id) else None
            if approval is None:
                raise NotFound("This session has no such approval.", code="unknown_approval")
            turn = await turns.find_by_key(db, approval.turn_db_id)
            arguments = msgspec.json.decode(approval.arguments) if modified is None else modified
            rule = _grantable(approval, arguments, request.scope)
            _require_future(request.until)
            place = _place(session, approval.agent, turn.id if turn else None, request.scope)
            found = await grants.last_calls(db, principal.subject, place.session_db_id, LAST_CALLS)
        past = [
            PastCall.from_row(row, arguments)
            for row in found
            if place.agent in {None, row.agent}
            and isinstance(arguments := msgspec.json.decode(row.arguments), dict)
            and matches(rule, row.agent or "", row.tool_name, arguments)
        ]
        return GrantPreview(
            scope=request.scope,
            session_id=None if place.session_db_id is None else session.id,
            turn_id=place.turn_id,
            agent=place.agent,
            times=1 if request.scope == "once" else request.times,
            until=request.until,
            rule=ExplainedRule.of(rule),
            calls=past,
            looked_at=len(found),
        )

    async def list(self, principal: Principal, *, ended: bool, cursor: str | None, limit: int) -> GrantList:
        """List a person's grants, the newest first.

        Raises:
            BadRequest: the cursor is none of this list.
        """
        before = read_position(cursor)
        async with self._database.read() as db:
            rows = await grants.list_all(db, principal.subject, ended=ended, before=before, limit=limit + 1)
        more = str(rows[limit - 1].db_id) if len(rows) > limit else None
        return GrantList([Grant.from_row(row) for row in rows[:limit]], more)

    async def revoke(self, principal: Principal, grant_id: str) -> Grant:
        """Take a grant back: the next call is asked for again. A second time changes nothing.

        Raises:
            NotFound: this person has no such grant.
        """

        async def unit(tx: Transaction) -> Grant:
            row = await grants.find(tx.session, principal.subject, grant_id) if _is_id(grant_id) else None
            if row is None:
                raise NotFound("There is no such grant.", code="unknown_grant")
            if row.revoked_at is None:
                await grants.revoke(tx.session, row.db_id)
                _record(self._audit, tx, principal, "grant_revoked", row)
            row = await grants.find(tx.session, principal.subject, grant_id)
            assert row is not None
            return Grant.from_row(row)

        return await self._database.write(unit)


def _record(audit: AuditTrail, tx: Transaction, principal: Principal, event: Event, row: Row[Any]) -> None:
    audit.record(
        tx,
        event,
        owner_id=row.owner_id,
        session_id=row.session_id,
        actor_id=principal.subject,
        client_id=principal.client_id,
        grant_id=row.id,
        approval_id=row.approval_id,
        scope=row.scope,
        agent=row.agent,
        tool_name=row.tool_name,
        rule=msgspec.json.decode(row.rule),
    )


def _grantable(approval: Row[Any], arguments: dict[str, Any], scope: str) -> Rule:
    if approval.request_type != TOOL:
        raise BadRequest("grant: only the question whether a tool may run can be granted", field="grant")
    try:
        if approval.tool_version is not None and scope in BEYOND:
            raise NotGrantable("a tool of an MCP server is granted in one session: once, times, until, turn or session")
        return exact_rule(approval.tool_name, arguments, approval.tool_version)
    except NotGrantable as error:
        raise BadRequest(f"grant: {error}", code="cannot_be_granted", field="grant") from None


def _require_future(until: datetime | None) -> None:
    if until is not None and until <= now():
        raise BadRequest("until: is over already", field="until")


def _place(session: Row[Any], agent: str, turn_id: str | None, scope: str) -> _Place:
    if scope == "all_sessions":
        return _Place(None, None, None)
    if scope == "agent":
        return _Place(None, None, agent)
    return _Place(session.db_id, turn_id if scope == "turn" else None, agent)


def _rule(row: Row[Any]) -> Rule:
    return msgspec.json.decode(row.rule, type=Rule)


def _is_id(text: str) -> bool:
    return re.fullmatch(PUBLIC_ID, text) is not None
