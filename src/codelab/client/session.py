"""One turn at a time over the event log: answers are printed, calls are run, questions are put."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from codelab.client.calls import Calls
from codelab.client.turns import Outcome, Turn, new_client
from codelab.client.wire import (
    ApprovalRequested,
    Event,
    MessageCompleted,
    MessageDelta,
    PlanUpdated,
    Session,
    ToolCompleted,
    ToolRequested,
    read,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from codelab.client.api import Api
    from codelab.client.approvals import Approvals
    from codelab.client.console import Console
    from codelab.client.tools.toolbox import Toolbox

__all__ = ("Conversation", "Interrupted")

#: How the items of a plan are marked.
_MARKS = {"completed": "[x]", "in_progress": "[>]"}
_ENDS = {"turn.completed": "completed", "turn.failed": "failed", "turn.cancelled": "cancelled"}


class Interrupted(Exception):
    """The person pressed Ctrl-C at a question."""


class Conversation:
    """Talk in one session."""

    def __init__(self, session_id: str, api: Api, toolbox: Toolbox, approvals: Approvals, console: Console) -> None:
        self.session_id = session_id
        self._api = api
        self._approvals = approvals
        self._console = console
        self._mcp = toolbox.mcp
        self._calls = Calls(session_id, api, toolbox, approvals, console)
        self._inbox: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._busy = False

    async def send(self, content: str, images: Sequence[dict[str, str]] = ()) -> Outcome:
        """Send a message and follow its turn to the end.

        Raises:
            ClientError: the server refused the message, or was lost on the way.
        """
        with self._interruptible():
            client = await self._introduce()
            accepted = await self._api.send(self.session_id, content, images)
            return await self._follow(Turn(self.session_id, accepted.turn_id, 0, client), accepted.seq - 1)

    async def resume(self, session: Session) -> Outcome | None:
        """Follow the turn that runs in a session, taking up what it waits for; ``None`` when there is none."""
        if session.active_turn is None:
            return None
        with self._interruptible():
            # From the beginning: what the turn waits for may have been asked long ago.
            client = await self._introduce()
            return await self._follow(Turn(self.session_id, session.active_turn.turn_id, session.last_seq, client), 0)

    async def _introduce(self) -> str:
        """Make a name for this client in the next turn, and tell which tools of MCP servers it has."""
        client = new_client()
        if self._mcp is not None:
            await self._mcp.tell(self._api, self.session_id, client)
        return client

    def interrupt(self) -> bool:
        """Cancel the turn that is followed; tells whether there is one."""
        if self._busy:
            self._inbox.put_nowait(Interrupted())
        return self._busy

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        self._inbox = asyncio.Queue()
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    async def _follow(self, turn: Turn, after: int) -> Outcome:
        pump = asyncio.create_task(self._pump(after, turn.client))
        try:
            while turn.outcome.status == "running":
                item = await self._inbox.get()
                if isinstance(item, Interrupted):
                    self._stop(turn)
                elif isinstance(item, Exception):
                    raise item
                else:
                    self._handle(turn, item)
        finally:
            tasks = [pump, *turn.tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._approvals.forget(turn.outcome.turn_id)
            self._console.end_answer()
        return turn.outcome

    async def _pump(self, after: int, client: str) -> None:
        try:
            async for event in self._api.events(self.session_id, after, client):
                self._inbox.put_nowait(event)
        except Exception as error:  # noqa: BLE001 - whoever reads the inbox raises it.
            self._inbox.put_nowait(error)

    def _stop(self, turn: Turn) -> None:
        turn.stopped = True
        for task in turn.tasks.values():
            task.cancel()
        self._console.note("Cancelling the turn … (Ctrl-C again leaves)")
        self._start(turn, "cancel", self._cancel())

    async def _cancel(self) -> None:
        await self._api.cancel(self.session_id)

    def _start(self, turn: Turn, name: str, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - as in _pump.
                self._inbox.put_nowait(error)

        if (old := turn.tasks.get(name)) is not None and not old.done():
            work.close()
            return
        turn.tasks[name] = asyncio.create_task(run())

    def _drop(self, turn: Turn, name: str) -> None:
        if (task := turn.tasks.get(name)) is not None:
            task.cancel()

    def _handle(self, turn: Turn, event: Event) -> None:  # noqa: C901 - one arm for each type of event
        data = event.data
        mine = data.get("turn_id") == turn.outcome.turn_id
        match event.type:
            case "message.started" if mine:
                turn.texts[str(data.get("message_id"))] = ""
            case "message.delta" | "reasoning.delta":
                self._on_delta(turn, read(data, MessageDelta), thought=event.type == "reasoning.delta")
            case "message.completed" if mine:
                self._on_message(turn, read(data, MessageCompleted))
            case "tool.requested" if mine:
                self._on_call(turn, read(data, ToolRequested))
            case "tool.claimed" if mine:
                self._on_claim(turn, event)
            case "tool.completed" if mine:
                self._on_result(turn, read(data, ToolCompleted))
            case "approval.requested" if mine:
                self._on_question(turn, read(data, ApprovalRequested))
            case "approval.resolved" if mine:
                approval_id = str(data.get("approval_id"))
                turn.questions.pop(approval_id, None)
                self._drop(turn, f"approval {approval_id}")
            case "agent.switched" if turn.live:
                reason = f": {data['reason']}" if data.get("reason") else ""
                self._console.note(f"{data.get('to_agent')} takes over from {data.get('from_agent')}{reason}")
            case "plan.updated" if mine and turn.live:
                self._show_plan(read(data, PlanUpdated))
            case "turn.completed" | "turn.failed" | "turn.cancelled" if mine:
                self._on_end(turn, event)
        if not turn.live and event.seq >= turn.replay_to:
            self._go_live(turn)

    def _show_plan(self, plan: PlanUpdated) -> None:
        for item in plan.items:
            self._console.note(f"  {_MARKS.get(item.status, '[ ]')} {item.text}", "")

    def _go_live(self, turn: Turn) -> None:
        turn.live = True
        for text in turn.texts.values():
            self._console.answer(text)
        if turn.outcome.status == "running":
            for question in turn.questions.values():
                self._put(turn, question)
            for call in turn.calls.values():
                if call.call_id in turn.elsewhere:
                    self._calls.tell_elsewhere(call.tool_name)
                else:
                    self._run(turn, call)

    def _on_delta(self, turn: Turn, delta: MessageDelta, *, thought: bool) -> None:
        so_far = turn.texts.get(delta.message_id)
        if so_far is not None and thought:
            fresh = turn.fresh_thought(delta)
            if turn.live:
                self._console.thought(fresh)
        elif so_far is not None and delta.offset + len(delta.text) > len(so_far):
            self._more(turn, delta.message_id, delta.text[max(len(so_far) - delta.offset, 0) :])

    def _more(self, turn: Turn, message_id: str, text: str) -> None:
        turn.texts[message_id] += text
        if turn.live:
            self._console.answer(text)

    def _on_message(self, turn: Turn, message: MessageCompleted) -> None:
        so_far = turn.texts.setdefault(message.message_id, "")
        content = message.content or ""
        self._more(turn, message.message_id, content[len(so_far) :])
        if message.status == "interrupted":
            if turn.live:
                self._console.note("[this answer was interrupted]", "yellow")
        else:
            # Text beside tool calls is not yet the answer; the last message is.
            turn.outcome.answer = content
        del turn.texts[message.message_id]
        if turn.live:
            self._console.end_answer()

    def _on_call(self, turn: Turn, call: ToolRequested) -> None:
        turn.calls[call.call_id] = call
        turn.elsewhere.discard(call.call_id)
        turn.arguments[call.call_id] = call.arguments
        if turn.live:
            self._run(turn, call)

    def _on_question(self, turn: Turn, question: ApprovalRequested) -> None:
        turn.questions[question.approval_id] = question
        turn.arguments[question.call_id] = question.arguments
        turn.calls.pop(question.call_id, None)
        if turn.live:
            self._put(turn, question)

    def _on_claim(self, turn: Turn, event: Event) -> None:
        if event.data.get("client_id") != turn.client:
            turn.elsewhere.add(str(event.data.get("call_id")))

    def _on_result(self, turn: Turn, result: ToolCompleted) -> None:
        turn.calls.pop(result.call_id, None)
        entry = {"call_id": result.call_id, "tool_name": result.tool_name, "status": result.status}
        turn.outcome.tool_calls.append(entry | {"arguments": turn.arguments.get(result.call_id), "error": result.error})
        self._drop(turn, f"call {result.call_id}")
        if turn.live and result.status != "completed":
            self._console.note(f"  {result.tool_name} {result.status}: {result.error or ''}".rstrip(": "), "yellow")

    def _on_end(self, turn: Turn, event: Event) -> None:
        outcome = turn.outcome
        outcome.status = _ENDS[event.type]
        outcome.usage = event.data.get("usage")
        if outcome.status == "failed":
            outcome.error = str(event.data.get("error") or event.data.get("code") or "the turn failed")
        elif outcome.status == "cancelled":
            outcome.error = str(event.data.get("reason") or "cancelled")

    def _put(self, turn: Turn, question: ApprovalRequested) -> None:
        if not turn.stopped:
            self._start(turn, f"approval {question.approval_id}", self._calls.decide(question))

    def _run(self, turn: Turn, call: ToolRequested) -> None:
        if not turn.stopped:
            self._start(turn, f"call {call.call_id}", self._calls.answer(turn, call))
