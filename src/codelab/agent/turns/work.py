"""What there is to do next in a session: the model call that its turn waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.repository import sessions, turns
from codelab.agent.turns.lease import is_free
from codelab.agent.turns.limits import Spent
from codelab.agent.turns.steering import take_steering

if TYPE_CHECKING:
    from sqlalchemy import Row

    from codelab.agent.log import EventLog
    from codelab.agent.turns.lease import Leases
    from codelab.agent.turns.limits import TurnLimits
    from codelab.agent.turns.transitions import Transitions
    from codelab.db import Transaction

__all__ = ("Work", "WorkFinder")


class Work(msgspec.Struct):
    """One model call to make, which may take so many ``seconds``."""

    session: Any
    turn: Any
    seconds: float | None


class WorkFinder:
    """Find the next model call of a session, and make its turn ready for it.

    ``resumes`` says whether a turn goes on that another process left running.
    """

    def __init__(
        self, log: EventLog, transitions: Transitions, leases: Leases, limits: TurnLimits, *, resumes: bool
    ) -> None:
        self._log = log
        self._transitions = transitions
        self._leases = leases
        self._limits = limits
        self._resumes = resumes

    def first(self, session: Row[Any], turn: Row[Any]) -> Work:
        """Return the first call of a turn that this process has just set running."""
        return Work(session=session, turn=turn, seconds=self._limits.seconds or None)

    async def take(self, tx: Transaction, session_db_id: int) -> Work | None:
        """Find the next model call to make, and leave the session ready for it."""
        session = await sessions.find_by_key(tx.session, session_db_id)
        if session is None:
            return None
        turn = await turns.find_active(tx.session, session_db_id, lock=True)
        if turn is not None and turn.state == "waiting":
            return None
        if turn is not None and turn.lease_owner != self._leases.owner:
            if not is_free(turn):
                return None  # another process works on it
            turn = await self._take_over(tx, turn)
        elif turn is not None:
            await self._leases.claim(tx, turn)  # a write: where none can be made, no model call is paid for in vain
        if turn is None:
            turn = await turns.next_queued(tx.session, session_db_id)
            if turn is None:
                return None
            await self._transitions.start(tx, session, turn)
        if await self._transitions.answers.interrupt(tx, turn):  # an earlier attempt was cut off
            turn = await turns.find_active(tx.session, session_db_id) or turn
        spent = Spent.of(turn)
        bounds = await self._limits.find_bounds(tx, turn.db_id, spent)
        if (reached := bounds.find_reached(spent)) is not None:
            await self._transitions.ask_to_go_on(tx, session, turn, reached)
            return None
        await take_steering(self._log, tx, turn)
        return Work(session=session, turn=turn, seconds=bounds.seconds_left(spent))

    async def _take_over(self, tx: Transaction, turn: Row[Any]) -> Row[Any] | None:
        """Make a turn this process' own that another left running, or end it where the operator wants that."""
        if self._resumes:
            await self._leases.claim(tx, turn)
            return turn
        sentence = "The server was stopped while the model answered; it does not ask again (AGENT_RUNTIME__ON_RESTART)."
        await self._transitions.fail(tx, turn, "interrupted_by_restart", sentence)
        return None
