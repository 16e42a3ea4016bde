"""The limits of a turn: how much it may do before a person is asked whether it goes on.

A yes allows the same again, so the second question comes at twice the limit. It is an approval of the type ``limit``,
and all that was asked and decided is in its rows: nothing has to be remembered between two steps.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import msgspec

from codelab.agent.repository import approvals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row

    from codelab.agent.schemas import CallUsage
    from codelab.db import Transaction

__all__ = ("CONTINUE_TURN", "Bounds", "Reached", "Spent", "TurnLimits", "add_seconds")

#: What a question about a limit has in the place of a tool's name.
CONTINUE_TURN = "continue_turn"
#: The names of the limits, which are those of the members below.
_NAMES = ("steps", "tokens", "seconds")
_SAID = {
    "steps": "This turn has made {used:,} model calls, and the limit is {bound:,}. Go on?",
    "tokens": "This turn has used {used:,} tokens, and the limit is {bound:,}. Go on?",
    "seconds": "The model has worked {used:,} seconds on this turn, and the limit is {bound:,}. Go on?",
}


def add_seconds(worked_ms: int, seconds: float) -> int:
    """Add the time of a step, which is never nothing."""
    return worked_ms + math.ceil(seconds * 1000)


class Spent(msgspec.Struct, frozen=True):
    """What a turn has used so far."""

    steps: int
    tokens: int
    worked_ms: int

    @classmethod
    def of(cls, turn: Row[Any]) -> Self:
        """Make it from a row of ``turns``."""
        return cls(turn.steps, turn.input_tokens + turn.output_tokens, turn.worked_ms)

    def after(self, usage: CallUsage | None, seconds: float) -> Self:
        """Add one more step."""
        tokens = 0 if usage is None else usage.input_tokens + usage.output_tokens
        return type(self)(self.steps + 1, self.tokens + tokens, add_seconds(self.worked_ms, seconds))

    @property
    def seconds(self) -> int:
        """Whole seconds of work."""
        return self.worked_ms // 1000


class Reached(msgspec.Struct, frozen=True):
    """A limit that a turn has reached; ``number`` counts the questions of the turn from 1."""

    limit: str
    used: int
    bound: int
    allowance: int
    number: int

    @property
    def arguments(self) -> dict[str, Any]:
        """What a person decides about; ``allowance`` is what a yes allows again."""
        return {"limit": self.limit, "used": self.used, "allowance": self.allowance}

    @property
    def reason(self) -> str:
        """The question in words."""
        return _SAID[self.limit].format(used=self.used, bound=self.bound)


class Bounds(msgspec.Struct, frozen=True):
    """Where a turn stops to ask, by the name of each limit that there is; it has ``asked`` so often before."""

    limits: TurnLimits
    of: dict[str, int]
    asked: int

    def find_reached(self, spent: Spent) -> Reached | None:
        """Return the first limit that is reached."""
        for name, bound in self.of.items():
            if (used := getattr(spent, name)) >= bound:
                return Reached(name, used, bound, getattr(self.limits, name), self.asked + 1)
        return None

    def seconds_left(self, spent: Spent) -> float | None:
        """Return how long the next step may take; None is as long as it likes."""
        bound = self.of.get("seconds")
        return None if bound is None else bound - spent.worked_ms / 1000


class TurnLimits(msgspec.Struct, frozen=True):
    """What a turn may use before a person is asked, and again after each yes; 0 is no limit."""

    steps: int = 0
    tokens: int = 0
    seconds: int = 0

    async def find_bounds(self, tx: Transaction, turn_db_id: int, spent: Spent) -> Bounds:
        """Find where a turn stops to ask, from what people have decided about it."""
        allowances = {name: allowance for name in _NAMES if (allowance := getattr(self, name))}
        # Nobody was asked about a turn that has come to no limit.
        over = any(getattr(spent, name) >= allowance for name, allowance in allowances.items())
        asked = await approvals.list_limits(tx.session, turn_db_id) if over else []
        allowed = _used_when_allowed(asked)
        # One step may use more than is allowed at once: a yes leads to the next multiple, and so to one more step.
        bounds = {name: (allowed[name] // allowance + 1) * allowance for name, allowance in allowances.items()}
        return Bounds(self, bounds, len(asked))


def _used_when_allowed(asked: Sequence[Row[Any]]) -> dict[str, int]:
    """Return how much of each limit was used when a person last let the turn go on."""
    used = dict.fromkeys(_NAMES, 0)
    for row in asked:
        if row.status == "approved":
            arguments = msgspec.json.decode(row.arguments)
            used[arguments["limit"]] = max(used[arguments["limit"]], arguments["used"])
    return used
