"""The policy of an installation and of its sessions: read it, set it for a session, say what it does with a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.gate import NO_FOREIGN, check_call
from codelab.agent.ownership import require_session
from codelab.agent.policy import Policy, RuleError, built_in_rules, load_rules, read_rule
from codelab.agent.repository import sessions
from codelab.agent.schemas import Explanation, SessionPolicy
from codelab.agent.schemas.policy import ExplainedRule
from codelab.agent.tools import TOOLS
from codelab.errors import BadRequest
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from codelab.agent.agents import Agents
    from codelab.agent.audit import AuditTrail
    from codelab.agent.mcp import Catalogue
    from codelab.agent.mcp.tools import ForeignTool
    from codelab.agent.policy import Rule
    from codelab.agent.schemas import Call, SessionPolicyChange
    from codelab.db import Database, Transaction
    from codelab.identity import Principal

__all__ = ("PolicyService", "explain_call", "read_policy")

#: Rules of one session, and bytes of their JSON.
MAX_RULES, MAX_BYTES = 100, 64 * 1024
VARIABLE = "AGENT_RUNTIME__POLICY_FILE"


def read_policy(file: Path | None, agents: Agents, name: str = VARIABLE) -> Policy:
    """Read the policy of an installation with these agents; ``name`` is what named the operator's file.

    Raises:
        StartError: the file cannot be read, or a rule in it cannot be used; the line names the file and its line.
    """
    built_in = built_in_rules(agents.ours)
    if file is None:
        return Policy(built_in=built_in)
    return Policy(load_rules(file, name, agents=agents.defined, tools=TOOLS.keys()), built_in)


def explain_call(
    policy: Policy,
    agents: Agents,
    agent: str,
    tool: str,
    arguments: dict[str, Any],
    foreign: Mapping[str, ForeignTool] = NO_FOREIGN,
) -> Explanation:
    """Judge a call as the gate would, and tell why.

    Raises:
        BadRequest: there is no such agent.
    """
    if agent not in agents:
        raise BadRequest(f"agent: must be one of {', '.join(agents)}", field="agent")
    return Explanation.of(check_call(agents[agent], tool, canonical_json(arguments), policy, foreign=foreign))


class PolicyService:
    """Show and set the rules of sessions; the layers before them are the installation's."""

    def __init__(
        self, database: Database, audit: AuditTrail, policy: Policy, agents: Agents, catalogue: Catalogue
    ) -> None:
        self._database = database
        self._agents = agents
        self._audit = audit
        self._policy = policy
        self._catalogue = catalogue

    async def explain(self, principal: Principal, call: Call) -> Explanation:
        """Judge a call as the gate would, and tell why; in a session of the caller where one is named.

        Raises:
            BadRequest: there is no such agent.
            NotFound: no such session of this person.
        """
        policy, foreign = self._policy, NO_FOREIGN
        if call.session_id is not None:
            async with self._database.peek() as db:
                session = await require_session(db, principal, call.session_id)
                foreign = await self._catalogue.of_session(db, session.db_id)
            policy = policy.of_session(session.policy_rules)
        return explain_call(policy, self._agents, call.agent, call.tool, call.arguments, foreign)

    async def get(self, principal: Principal, session_id: str) -> SessionPolicy:
        """Return the rules of a session.

        Raises:
            NotFound: no such session of this person.
        """
        async with self._database.peek() as db:
            session = await require_session(db, principal, session_id)
        return self._show(session.id, session.policy_rules)

    async def set(self, principal: Principal, session_id: str, change: SessionPolicyChange) -> SessionPolicy:
        """Set the rules of a session. They hold from the next call on, and lift nothing that is denied before them.

        Raises:
            BadRequest: a rule cannot be used, or there are too many.
            NotFound: no such session of this person.
        """
        rules = self._read(change)
        text = canonical_json(rules) if rules else None
        if text is not None and len(text.encode()) > MAX_BYTES:
            raise BadRequest(f"rules: are larger than {MAX_BYTES} bytes", field="rules")

        async def unit(tx: Transaction) -> SessionPolicy:
            session = await require_session(tx.session, principal, session_id)
            await sessions.set_fields(tx.session, session.db_id, policy_rules=text)
            after = self._show(session.id, text)
            self._audit.record(
                tx,
                "session_policy_changed",
                owner_id=session.owner_id,
                session_id=session.id,
                actor_id=principal.subject,
                client_id=principal.client_id,
                policy_version=after.policy_version,
                rules=len(rules),
            )
            return after

        return await self._database.write(unit)

    def _show(self, session_id: str, text: str | None) -> SessionPolicy:
        policy = self._policy.of_session(text)
        return SessionPolicy(session_id, policy.version, [ExplainedRule.of(rule) for rule in policy.session])

    def _read(self, change: SessionPolicyChange) -> list[Rule]:
        if len(change.rules) > MAX_RULES:
            raise BadRequest(f"rules: are more than {MAX_RULES}", field="rules")
        rules = []
        for place, given in enumerate(change.rules):
            members = {name: value for name, value in msgspec.structs.asdict(given).items() if value is not None}
            try:
                rule = read_rule(members, f"session:{place + 1}", agents=self._agents.defined, tools=TOOLS.keys())
            except RuleError as error:
                raise BadRequest(f"rules[{place}]: {error}", field="rules") from None
            rules.append(rule)
        return rules
