"""What the chat knows of one turn."""

from __future__ import annotations

from collections import Counter
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import asyncio

    from codelab.client.wire import ApprovalRequested, MessageDelta, ToolRequested

__all__ = ("Outcome", "Turn", "new_client")


class Outcome(msgspec.Struct):
    """How a turn ended; this is what ``--json`` prints."""

    session_id: str
    turn_id: str
    status: str = "running"
    answer: str = ""
    error: str | None = None
    tool_calls: list[dict[str, Any]] = []
    usage: Any = None

    @property
    def sentence(self) -> str:
        """Say to a person how the turn ended."""
        said = "The turn failed" if self.status == "failed" else f"The turn was {self.status}"
        return f"{said}: {self.error}" if self.error else f"{said}."

    @property
    def spent(self) -> str:
        """Say in a few words what the turn used and cost; empty where the server tells nothing."""
        if not isinstance(self.usage, dict) or not self.usage.get("input_tokens"):
            return ""
        read, written, cached = (self.usage.get(f"{kind}_tokens") or 0 for kind in ("input", "output", "cache_read"))
        said = f"{read:,} tokens in{f' ({cached:,} cached)' if cached else ''}, {written:,} out"
        cost, known = (self.usage.get(name) or 0 for name in ("cost", "known_cost"))
        if cost or known:
            said += f", {'' if cost else 'at least '}{_dollars(cost or known)}"
        return said


def new_client() -> str:
    """Name who claims the calls of a turn.

    Never the same twice: a call that an earlier run of ours left is not ours any more.
    """
    return f"chat-{token_urlsafe(12)}"


class Turn:
    """What is known of the turn that is followed."""

    def __init__(self, session_id: str, turn_id: str, replay_to: int, client: str) -> None:
        self.outcome = Outcome(session_id, turn_id)
        self.client = client
        #: Events up to here happened before we came; they are only remembered.
        self.replay_to = replay_to
        self.live = replay_to == 0
        #: Texts so far of the answers of this turn that are not complete.
        self.texts: dict[str, str] = {}
        #: Code points so far of what the model thought, by message.
        self.thoughts: Counter[str] = Counter()
        #: Arguments of the calls, as they were asked for last.
        self.arguments: dict[str, Any] = {}
        self.calls: dict[str, ToolRequested] = {}
        #: Calls that another client runs.
        self.elsewhere: set[str] = set()
        self.questions: dict[str, ApprovalRequested] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        #: The person has stopped it; nothing of it is begun any more.
        self.stopped = False

    def fresh_thought(self, delta: MessageDelta) -> str:
        """Take a piece of reasoning; return what of it was not there before."""
        known = self.thoughts[delta.message_id]
        fresh = delta.text[max(known - delta.offset, 0) :]
        self.thoughts[delta.message_id] = max(known, delta.offset + len(delta.text))
        return fresh


def _dollars(cost: int) -> str:
    """Write micro-USD."""
    return f"${cost / 1e6:.2f}" if cost >= 1_000_000 else f"${cost / 1e6:.4f}"
