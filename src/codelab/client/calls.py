"""What a chat does about a call: put the question to the person, claim it, run it, send the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from codelab.client.approvals import LIMIT, UNKNOWN_OUTCOME, Call, Decision, Question
from codelab.client.errors import ApiError
from codelab.client.grants import describe_grant
from codelab.client.tools.errors import ToolError
from codelab.client.tools.toolbox import MCP, convert

if TYPE_CHECKING:
    from codelab.client.api import Api
    from codelab.client.approvals import Approvals
    from codelab.client.console import Console
    from codelab.client.tools.toolbox import Toolbox
    from codelab.client.turns import Turn
    from codelab.client.wire import ApprovalRequested, Claim, ToolRequested

__all__ = ("Calls",)

#: The tool whose result is what the person says.
ASK_PERSON = "ask_followup_question"


class Calls:
    """Work on the calls and questions of one session."""

    def __init__(self, session_id: str, api: Api, toolbox: Toolbox, approvals: Approvals, console: Console) -> None:
        self._session_id = session_id
        self._api = api
        self._toolbox = toolbox
        self._approvals = approvals
        self._console = console

    def tell_elsewhere(self, tool: str) -> None:
        """Say that another client runs a call."""
        self._console.note(f"  {tool}: another client runs this call")

    async def decide(self, question: ApprovalRequested) -> None:
        """Put a question of the server to the person and send the decision."""
        if question.request_type == LIMIT:
            self._console.note(question.reason or "This turn has reached a limit. Go on?", "bold yellow")
            # Whatever tool it names, this yes allows none.
            await self._send(question, await self._approvals.ask_to_go_on())
            return
        call = Call(question.turn_id, question.call_id, question.tool_name, question.arguments, question.reason)
        unknown = question.request_type == UNKNOWN_OUTCOME
        while True:
            # An edit passes the gate of the server again, which may come back with the very call that was allowed.
            held = not unknown and self._approvals.holds(call)
            decision = Decision("approve") if held else await self._approvals.ask(call, unknown_outcome=unknown)
            if decision.grant is not None and not await self._confirm(question, decision.grant):
                continue
            if decision.kind == "edit":
                self._approvals.grant(msgspec.structs.replace(call, arguments=decision.arguments))
            elif decision.kind == "approve":
                self._approvals.grant(call)
            try:
                await self._send(question, decision)
            except ApiError as error:
                if error.status != 400 or decision.kind != "edit":
                    raise
                self._console.error(f"The edited arguments were not accepted: {error}")
                continue
            if decision.grant is not None:
                self._approvals.grant_later(question.approval_id, call)
            return

    async def _confirm(self, question: ApprovalRequested, grant: dict[str, Any]) -> bool:
        """Show what a grant would allow and ask whether that is meant."""
        try:
            preview = await self._api.preview_grant(self._session_id, question.approval_id, grant)
        except ApiError as error:
            if error.status != 400:
                raise
            self._console.error(f"This cannot be granted: {error}")
            return False
        return await self._approvals.confirm(describe_grant(preview))

    async def _send(self, question: ApprovalRequested, decision: Decision) -> None:
        try:
            await self._api.decide(
                self._session_id,
                question.approval_id,
                decision.kind,
                arguments=decision.arguments,
                feedback=decision.feedback,
                grant=decision.grant,
            )
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            self._console.note(f"{question.tool_name}: somebody else has decided about it ({error})")

    async def answer(self, turn: Turn, requested: ToolRequested) -> None:
        """Claim a call, run it and send its result."""
        if requested.tool_name.startswith(MCP) and not self._toolbox.has(requested.tool_name):
            self.tell_elsewhere(requested.tool_name)
            return
        while (claim := await self._claim(turn, requested)) is None:
            # It may have been offered again while the answer was under way.
            offered = turn.calls.get(requested.call_id, requested)
            if offered is requested:
                return
            requested = offered
        call = Call(requested.turn_id, requested.call_id, claim.tool_name, claim.arguments)
        try:
            result, error = await self._perform(call, requested.approval_id), None
        except ToolError as failure:
            result, error = None, str(failure)
        try:
            await self._api.answer_tool(self._session_id, call.call_id, turn.client, result=result, error=error)
        except ApiError as failed:
            if failed.status == 413 and error is None:
                too_large = f"The result was too large: {failed}"
                await self._api.answer_tool(self._session_id, call.call_id, turn.client, error=too_large)
            elif failed.status not in (404, 409):
                raise

    async def _claim(self, turn: Turn, requested: ToolRequested) -> Claim | None:
        try:
            return await self._api.claim(self._session_id, requested.call_id, turn.client)
        except ApiError as refused:
            if refused.status not in (404, 409):
                raise
            if refused.code == "call_claimed":
                self.tell_elsewhere(requested.tool_name)
            return None

    async def _perform(self, call: Call, approval_id: str | None) -> Any:
        if call.tool == ASK_PERSON:
            self._approvals.take(call)
            return await self._approvals.ask_for_answer(convert(call.arguments, Question))
        allowed = self._approvals.take(call) or self._approvals.is_granted(approval_id, call)
        needed = self._toolbox.needs_approval(call.tool, call.arguments)
        edited = False
        if needed and not allowed:
            decision = await self._approvals.ask(call)
            if decision.kind == "reject":
                raise ToolError(f"User rejected: {decision.feedback or 'no reason given'}")
            if decision.kind == "edit":
                call, edited = msgspec.structs.replace(call, arguments=decision.arguments), True
        self._console.note(f"  {call.tool} {_summary(call.arguments)}")
        if self._toolbox.mcp is not None and self._toolbox.mcp.has(call.tool):
            said = await self._toolbox.mcp.call(call.tool, call.arguments)
            return {"result": said, "edited_arguments": call.arguments} if edited else said
        result = await self._toolbox.run(call.tool, call.arguments, secrets_allowed=needed)
        return result | {"edited_arguments": call.arguments} if edited else result


def _summary(arguments: Any) -> str:
    if not isinstance(arguments, dict):
        return ""
    if source := arguments.get("source"):
        return f"{source} -> {arguments.get('destination')}"
    shown = arguments.get("command") or arguments.get("query") or arguments.get("path") or ""
    text = str(shown)
    return text if len(text) <= 100 else text[:99] + "…"
