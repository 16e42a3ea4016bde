"""Events as chunks of the reference system: objects of the same ten members, absent ones null.

Several things that the reference did not have share its chunks: text beside a tool call is an ``assistant_message``
that is not final, a question about a limit is a call of the tool ``continue_turn``, a cancelled turn is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codelab.agent.repository.events import Event

__all__ = ("ENDINGS", "Renderer", "error_chunk", "switch_chunk")

_MEMBERS = (
    "type",
    "content",
    "token",
    "is_final",
    "call_id",
    "tool_name",
    "arguments",
    "requires_approval",
    "error",
    "metadata",
)
_EMPTY: dict[str, Any] = dict.fromkeys(_MEMBERS)
#: What ends the stream of one request: nothing more comes until somebody acts.
ENDINGS = frozenset({"turn.completed", "turn.failed", "turn.cancelled", "turn.waiting"})
#: Frequent, and rendered only for who asked for tokens.
_DELTA = "message.delta"


def _write(kind: str, **members: Any) -> str:
    return msgspec.json.encode(_EMPTY | {"type": kind} | members).decode()


def error_chunk(text: str) -> str:
    """Write an error; the reference's clients read ``content`` or ``error``, so it is in both."""
    return _write("error", content=text, error=text, is_final=True)


def switch_chunk(data: dict[str, Any], *, is_final: bool) -> str:
    """Write a hand-over; its facts are in ``metadata`` and beside it, where either generation of clients looks."""
    facts = {name: data[name] for name in ("from_agent", "to_agent", "reason", "confidence")}
    content = f"Switched to {data['to_agent']} agent"
    return _write("agent_switched", content=content, is_final=is_final, metadata=facts, **facts)


def _message(content: str | None, token: str, *, is_final: bool) -> str:
    return _write("assistant_message", content=content, token=token, is_final=is_final, requires_approval=False)


class Renderer:
    """Render the events of a session for one client, in order.

    By default an answer is one final ``assistant_message``; with ``tokens`` its text comes before it, as it is said.
    With ``turn_id`` other turns are left out.
    """

    def __init__(self, *, tokens: bool = False, turn_id: str | None = None) -> None:
        self._tokens = tokens
        self._turn_id = turn_id
        self._message_id: str | None = None
        #: What was said and may be the last word of its turn; that is known one event later.
        self._said: str | None = None
        self._shown: set[tuple[Any, ...]] = set()

    def render(self, event: Event) -> Sequence[str]:
        """Return the chunks of an event; most have none."""
        if event.type == _DELTA and not self._tokens:
            return ()
        data = msgspec.json.decode(event.data)
        if self._turn_id is not None and data.get("turn_id", self._turn_id) != self._turn_id:
            return ()
        return [*self._finish(event.type), *self._render(event.type, data)]

    def _finish(self, kind: str) -> Sequence[str]:
        """Render what was held back, now that the next event tells whether it was the last word."""
        if self._said is None or kind not in {"message.started", *ENDINGS}:
            return ()
        said, self._said = self._said, None
        return (self._whole(said, is_final=kind == "turn.completed"),)

    def _render(self, kind: str, data: dict[str, Any]) -> Sequence[str]:
        match kind:
            case "message.started":
                self._message_id = data["message_id"]
            case "message.delta" if data["message_id"] == self._message_id or self._turn_id is None:
                return (_message(None, data["text"], is_final=False),)
            case "message.completed" if data["status"] == "completed":
                if not data["tool_calls"]:
                    self._said = data["content"]
                elif data["content"]:
                    return (self._whole(data["content"], is_final=False),)
            case "approval.requested":
                return self.ask(data["approval_id"], data["call_id"], data["tool_name"], data["arguments"])
            case "tool.requested" if data.get("client_id") is None:  # such a client has no name to claim it with
                return self.hand_out(data["call_id"], data["tool_name"], data["arguments"], data["attempt"])
            case "agent.switched":
                return (switch_chunk(data, is_final=data["by"] == "user"),)
            case "turn.failed" | "turn.cancelled":
                return (error_chunk(data.get("error") or data["reason"]),)
        return ()

    def ask(self, approval_id: str, call_id: str, tool_name: str, arguments: dict[str, Any]) -> Sequence[str]:
        """Render a question to a person, once."""
        return self._call((approval_id,), call_id, tool_name, arguments, requires_approval=True)

    def hand_out(self, call_id: str, tool_name: str, arguments: dict[str, Any], attempt: int) -> Sequence[str]:
        """Render a call that may run, once for each time it is offered."""
        return self._call((call_id, attempt), call_id, tool_name, arguments, requires_approval=False)

    def _call(
        self, key: tuple[Any, ...], call_id: str, tool_name: str, arguments: dict[str, Any], *, requires_approval: bool
    ) -> Sequence[str]:
        if key in self._shown:
            return ()
        self._shown.add(key)
        return (
            _write(
                "tool_call",
                call_id=call_id,
                tool_name=tool_name,
                arguments=arguments,
                requires_approval=requires_approval,
                is_final=True,
            ),
        )

    def _whole(self, content: str, *, is_final: bool) -> str:
        # Who adds up tokens has them all already.
        return _message(content, "" if self._tokens else content, is_final=is_final)
