"""The commands of clients on turns. Each is one unit of work; what it allows is decided inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codelab.agent.idempotency import write_once
from codelab.agent.images import take_images
from codelab.agent.ownership import require_session
from codelab.agent.repository import images as image_rows
from codelab.agent.repository import messages, sessions, turns
from codelab.agent.schemas import AgentContextInfo, ContextAnswer, MessageAccepted, ToolResultTaken, TurnState
from codelab.agent.tools import ASK_PERSON
from codelab.agent.turns.claims import open_for_result
from codelab.agent.turns.server_tools import switch_agent
from codelab.agent.turns.steering import STEERS
from codelab.db import new_id
from codelab.errors import BadRequest, Conflict, NotFound, TooLarge
from codelab.text import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Row

    from codelab.agent.agents import Agent
    from codelab.agent.log import EventLog
    from codelab.agent.schemas import NewImage
    from codelab.agent.turns.approvals import ApprovalService
    from codelab.agent.turns.calls import CallTransitions
    from codelab.agent.turns.runner import Runner
    from codelab.agent.turns.transitions import Transitions
    from codelab.db import Database, Transaction
    from codelab.idempotency import Once
    from codelab.identity import Principal

__all__ = ("TurnService",)

TITLE_LENGTH = 500


class TurnService:
    """Take messages, tool results, cancels and switches from clients."""

    def __init__(
        self,
        database: Database,
        log: EventLog,
        transitions: Transitions,
        calls: CallTransitions,
        runner: Runner,
        agents: Mapping[str, Agent],
        approvals: ApprovalService,
        *,
        max_message_bytes: int,
        max_image_bytes: int,
        max_result_bytes: int,
    ) -> None:
        self._database = database
        self._log = log
        self._transitions = transitions
        self._calls = calls
        self._runner = runner
        self._agents = agents
        self._approvals = approvals
        self._max_message_bytes = max_message_bytes
        self._max_image_bytes = max_image_bytes
        self._max_result_bytes = max_result_bytes

    async def post_message(
        self,
        principal: Principal,
        session_id: str,
        content: str,
        delivery: str = "queue",
        once: Once | None = None,
        *,
        images: Sequence[NewImage] = (),
    ) -> MessageAccepted:
        """Take a user's message and queue the turn that answers it; one that steers joins the active turn.

        So does one that takes the place of a decision: what waited for one is rejected then. While an agent waits for
        the answer to its question, the message is that answer.

        Raises:
            BadRequest: the content is empty, an image is none, or the message is an answer and has images.
            Conflict: the delivery is ``reject`` and a turn is active or waits.
            TooLarge: it is over ``AGENT_RUNTIME__MAX_MESSAGE_BYTES``, or an image over ``…MAX_IMAGE_BYTES``.
            NotFound: no such session of this person.
        """
        if not content.strip():
            raise BadRequest("content: must not be empty", field="content")
        if len(content.encode()) > self._max_message_bytes:
            raise TooLarge(f"content: must not be over {self._max_message_bytes} bytes", field="content")
        taken = await take_images(images, self._max_image_bytes)
        told = [image.info for image in taken]
        message_id, turn_id = new_id(), new_id()

        async def unit(tx: Transaction) -> MessageAccepted:
            session = await require_session(tx.session, principal, session_id)
            if delivery == "reject":
                await self._reject_while_busy(tx, session)
            elif (asked := await self._find_question(tx, session)) is not None:
                return await self._answer_question(tx, *asked, content, has_images=bool(taken))
            instead = await self._approvals.reject_for_message(tx, principal, session)
            if instead:  # the turn may have ended with that, at a limit
                session = await require_session(tx.session, principal, session_id)
            joined = session.turn_id if delivery == "steer" or instead else None
            # Where nothing is before it, a turn begins here: a second transaction would only make people wait.
            runs = session.turn_id is None and await turns.next_queued(tx.session, session.db_id) is None
            turn = await self._transitions.add(tx, session, turn_id=turn_id, message_id=message_id, runs=runs)
            data = {
                "message_id": message_id,
                "turn_id": joined or turn_id,
                "role": "user",
                "content": content,
                "delivery": "steer" if joined else "queue",
                "images": told,
            }
            new = [("message.created", data), *([self._transitions.tell_start(session, turn)] if runs else [])]
            seq = await self._log.append(tx, session.db_id, *new, messages=1) - len(new) + 1
            await messages.add(
                tx.session,
                message_id=message_id,
                session_db_id=session.db_id,
                turn_db_id=turn.db_id,
                seq=seq,
                role="user",
                content=content,
                metadata_json={STEERS: joined} if joined else None,
                images=canonical_json(told) if told else None,
            )
            if taken:
                await image_rows.add(tx.session, session.db_id, message_id, taken)
            if session.title is None:
                title = " ".join(content.split())[:TITLE_LENGTH]
                await sessions.set_fields(tx.session, session.db_id, title=title)
            tx.after_commit(lambda: self._runner.wake(session.db_id, (session, turn) if runs else None))
            return MessageAccepted(message_id=message_id, turn_id=joined or turn_id, seq=seq)

        route, values = ("messages", session_id), [content, delivery, *([told] if told else [])]
        return await write_once(self._database, once, principal.subject, route, values, unit, MessageAccepted)

    @staticmethod
    async def _reject_while_busy(tx: Transaction, session: Row[Any]) -> None:
        turn = await turns.find_active(tx.session, session.db_id) or await turns.next_queued(tx.session, session.db_id)
        if turn is not None:
            active = {"turn_id": turn.id, "state": turn.state}
            raise Conflict("A turn is active in this session.", code="turn_active", extra={"active_turn": active})

    @staticmethod
    async def _find_question(tx: Transaction, session: Row[Any]) -> tuple[Row[Any], Row[Any]] | None:
        """Find the turn that waits for an answer, and the oldest question in it."""
        if session.turn_state != "waiting":
            return None
        turn = await turns.find_active(tx.session, session.db_id)
        for call in await turns.list_open_calls(tx.session, turn.db_id) if turn is not None else ():
            if turn is not None and call.tool_name == ASK_PERSON and call.state == "requested":
                return turn, call
        return None

    async def _answer_question(
        self, tx: Transaction, turn: Row[Any], call: Row[Any], content: str, *, has_images: bool
    ) -> MessageAccepted:
        if has_images:
            raise BadRequest("images: the answer to an agent's question cannot have any", field="images")
        message_id = new_id()
        seq = await self._calls.answer(tx, turn, call, "completed", result=content, message_id=message_id)
        await self._runner.resume_when_answered(tx, turn)
        return MessageAccepted(message_id=message_id, turn_id=turn.id, seq=seq)

    async def take_result(
        self,
        principal: Principal,
        session_id: str,
        call_id: str,
        result: Any,
        error: str | None,
        once: Once | None = None,
        *,
        client: str | None = None,
    ) -> ToolResultTaken:
        """Take a client's result of a call, once; a repeated one gets what was recorded.

        Raises:
            NotFound: no such session of this person, or no such call in it.
            Conflict: a person has not approved the call yet, or another client runs it.
            TooLarge: it is over ``AGENT_RUNTIME__MAX_RESULT_BYTES``.
        """
        self.check_result_size(result, error)

        async def unit(tx: Transaction) -> ToolResultTaken:
            return await self.record_result(tx, principal, session_id, call_id, result, error, client=client)

        route, values = ("tool-results", session_id), [call_id, result, error]
        return await write_once(self._database, once, principal.subject, route, values, unit, ToolResultTaken)

    def check_result_size(self, result: Any, error: str | None) -> None:
        """Raise ``TooLarge`` for a result over ``AGENT_RUNTIME__MAX_RESULT_BYTES``."""
        if len(canonical_json(error if error is not None else result).encode()) > self._max_result_bytes:
            field = "error" if error is not None else "result"
            raise TooLarge(f"{field}: must not be over {self._max_result_bytes} bytes", field=field)

    async def record_result(
        self,
        tx: Transaction,
        principal: Principal,
        session_id: str,
        call_id: str,
        result: Any,
        error: str | None,
        *,
        client: str | None = None,
    ) -> ToolResultTaken:
        """Take the result of a call inside a unit of work; raises what ``take_result`` raises."""
        session = await require_session(tx.session, principal, session_id)
        call = await turns.find_call(tx.session, session.db_id, call_id)
        if call is None:
            raise NotFound(f"call_id: this session has no call {call_id!r}", code="unknown_call", field="call_id")
        if call.completed_seq is not None:
            return ToolResultTaken(call_id=call_id, status=call.state, seq=call.completed_seq)
        turn = await turns.find_active(tx.session, session.db_id)
        assert turn is not None
        await open_for_result(self._calls, tx, turn, call, client)
        status = "failed" if error is not None else "completed"
        seq = await self._calls.answer(tx, turn, call, status, result=result, error=error)
        await self._runner.resume_when_answered(tx, turn)
        return ToolResultTaken(call_id=call_id, status=status, seq=seq)

    async def cancel(self, principal: Principal, session_id: str, once: Once | None = None) -> TurnState:
        """Stop the active turn: the model call at once, open calls answered as cancelled; what was said stays.

        Where none is active yet, the turn that is about to start is cancelled. One that starts only because the meant
        one has just ended is not.
        """
        async with self._database.peek() as db:
            session = await require_session(db, principal, session_id)
            queued = None if session.turn_id else await turns.next_queued(db, session.db_id)
        turn_id = queued.id if queued else session.turn_id

        async def unit(tx: Transaction) -> TurnState:
            await require_session(tx.session, principal, session_id)
            if turn_id is not None:
                turn = await turns.find_open(tx.session, session.db_id, turn_id)
            else:  # it may have begun between the two reads
                turn = await turns.find_active(tx.session, session.db_id)
            if turn is None:
                return TurnState(turn_id=None, state=None)
            await self._transitions.cancel(tx, turn, "Cancelled by the user")
            tx.after_commit(lambda: self._runner.wake(session.db_id))
            return TurnState(turn_id=turn.id, state="cancelled")

        route = ("cancel", session_id)
        state = await write_once(self._database, once, principal.subject, route, [], unit, TurnState)
        if state.turn_id is not None:
            await self._runner.interrupt(state.turn_id)
        return state

    async def switch(
        self, principal: Principal, session_id: str, to_agent: str, reason: str | None, once: Once | None = None
    ) -> ContextAnswer:
        """Hand the session to another agent, from the next model call on.

        Raises:
            BadRequest: there is no such agent.
            Conflict: the session is with that agent already.
        """
        if to_agent not in self._agents:
            known = ", ".join(self._agents)
            raise BadRequest(f"target_agent: must be one of {known}", field="target_agent")

        async def unit(tx: Transaction) -> ContextAnswer:
            session = await require_session(tx.session, principal, session_id)
            if session.current_agent == to_agent:
                raise Conflict(f"The session is with {to_agent} already.", code="same_agent", field="target_agent")
            await switch_agent(
                self._log,
                tx,
                session,
                to_agent=to_agent,
                reason=reason or "User requested",
                confidence="high",
                by="user",
            )
            switched = await require_session(tx.session, principal, session_id)
            switches = await sessions.list_switches(tx.session, switched.context_id)
            return ContextAnswer(AgentContextInfo.from_rows(switched, switches))

        route = ("switch", session_id)
        return await write_once(self._database, once, principal.subject, route, [to_agent, reason], unit, ContextAnswer)
