"""The log of one session of another system, as it would be here: events, messages, hand-overs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.agent.agents import ORCHESTRATOR
from codelab.db import new_id
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from codelab.agent.agents import Agent
    from codelab.import_records import Note, SessionRecord

__all__ = ("MODEL", "SessionLog", "known_agent")

#: The reference did not keep which model answered.
MODEL = "unknown"
#: Agents of the reference that have another name here.
_SAME_WORK = {"universal": "coder"}


def known_agent(name: str, agents: Mapping[str, Agent]) -> str:
    """Return the agent here that does the work of one of the other system."""
    name = _SAME_WORK.get(name, name)
    return name if name in agents else ORCHESTRATOR


class SessionLog:
    """Collect rows in the order of time.

    ``turn_db_id`` of messages, calls and approvals is the index in ``turns`` until the keys are known. ``taken`` are
    ids that something here has already.
    """

    def __init__(self, record: SessionRecord, agents: Mapping[str, Agent], taken: Collection[str]) -> None:
        self._record = record
        self._agents = agents
        self._taken = taken
        self._renamed: dict[str, str] = {}
        self._next_switch = 0
        first = record.switches[0].from_agent if record.switches else record.current_agent
        self._agent = known_agent(first or ORCHESTRATOR, agents)
        self.turns: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.approvals: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.repairs: list[Note] = []

    def switches(self, context_id: str) -> list[dict[str, Any]]:
        """Return the rows of the hand-overs."""
        return [
            {
                "id": self.own(switch.id),
                "context_db_id": context_id,
                "from_agent": switch.from_agent,
                "to_agent": switch.to_agent,
                "switched_at": switch.at,
                "reason": switch.reason,
                "confidence": switch.confidence,
                "switched_by": switch.by,
            }
            for switch in self._record.switches
        ]

    def own(self, given: str) -> str:
        """Return the id that a thing has here."""
        if given not in self._taken:
            return given
        return self._renamed.setdefault(given, new_id())

    def event(self, kind: str, at: datetime, data: dict[str, Any]) -> int:
        """Append an event; return its ``seq``."""
        seq = len(self.events) + 1
        self.events.append({"seq": seq, "type": kind, "data": canonical_json(data), "created_at": at})
        return seq

    def message(self, message_id: str, seq: int, role: str, content: str, at: datetime, **values: Any) -> None:
        """Append a message of the turn that is being built."""
        row = dict.fromkeys(("agent", "model", "name", "tool_call_id", "tool_calls", "token_count", "metadata_json"))
        row |= {"id": message_id, "turn_db_id": len(self.turns), "seq": seq, "role": role, "status": "completed"}
        self.messages.append(row | {"content": content, "timestamp": at} | values)

    def switch_until(self, at: datetime | None) -> None:
        """Append the hand-overs up to a time; all that are left for None."""
        switches = self._record.switches
        while self._next_switch < len(switches) and (at is None or switches[self._next_switch].at <= at):
            switch = switches[self._next_switch]
            self._next_switch += 1
            self._agent = known_agent(switch.to_agent, self._agents)
            data = {
                "from_agent": switch.from_agent,
                "to_agent": switch.to_agent,
                "reason": switch.reason,
                "confidence": switch.confidence,
                "by": switch.by,
            }
            self.event("agent.switched", switch.at, data)

    def start_answer(self, message_id: str, turn_id: str, at: datetime, content: str) -> int:
        """Append the begin and the text of an answer; return the ``seq`` of its begin."""
        data = {"message_id": message_id, "turn_id": turn_id, "agent": self._agent, "model": MODEL}
        seq = self.event("message.started", at, data)
        if content:
            self.event("message.delta", at, {"message_id": message_id, "offset": 0, "text": content})
        return seq

    def complete_answer(
        self, message_id: str, turn_id: str, at: datetime, content: str, status: str, calls: list[dict[str, Any]]
    ) -> None:
        """Append the end of an answer."""
        data = {
            "message_id": message_id,
            "turn_id": turn_id,
            "agent": self._agent,
            "model": MODEL,
            "content": content,
            "status": status,
            "tool_calls": calls,
            "reasoning": [],
            "usage": None,
        }
        self.event("message.completed", at, data)
