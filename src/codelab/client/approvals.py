"""What this person allowed in this process, and how they are asked.

The server says what a person decided; the chat believes only its own memory. A call runs when exactly this tool with
exactly these arguments was allowed here, for this call of this turn, and one yes serves for one run.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from codelab.client.console import diff_lines, escape_line, escape_prose
from codelab.client.tools.commands import MAX_TIMEOUT, ExecuteCommand
from codelab.client.tools.edits import ApplyDiff, DeleteFile, MoveFile, find_file, find_free, patched
from codelab.client.tools.errors import ToolError
from codelab.client.tools.files import WriteFile, read_text
from codelab.client.tools.toolbox import MCP, McpCall

if TYPE_CHECKING:
    from codelab.client.tools.toolbox import Toolbox

__all__ = ("LIMIT", "UNKNOWN_OUTCOME", "Approvals", "Call", "Decision", "Mode", "Person", "Question", "describe")

Mode = Literal["ask", "all", "none"]
#: The type of a question about a call whose client went away before its result.
UNKNOWN_OUTCOME = "unknown_outcome"
#: The type of a question about a turn that has reached a limit.
LIMIT = "limit"
Line = tuple[str, str]
#: Arguments that a grant leaves open.
_FREE = {"write_file": ("content",), "apply_diff": ("diff",), "execute_command": ("timeout",)}


class Call(msgspec.Struct, frozen=True):
    """One call of a tool, as the server names it."""

    turn_id: str
    call_id: str
    tool: str
    arguments: Any
    reason: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Tell calls apart; a model may use a call id again in a later turn."""
        return self.turn_id, self.call_id

    @property
    def digest(self) -> bytes:
        """Return tool and arguments in their one canonical form."""
        return msgspec.json.encode([self.tool, self.arguments], order="sorted")


class Decision(msgspec.Struct, frozen=True):
    """What a person decided; ``arguments`` belong to ``edit``, ``grant`` (where and how long) to ``approve``."""

    kind: Literal["approve", "edit", "reject"]
    arguments: Any = None
    feedback: str | None = None
    grant: dict[str, Any] | None = None


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``ask_followup_question``, which is for the person and for no tool of the machine."""

    question: str
    options: list[str] = []


class Person(Protocol):
    """Somebody who can be asked."""

    async def decide(self, call: Call, lines: list[Line]) -> Decision:
        """Show a call and ask about it; cancelled when the question is moot."""

    async def go_on(self) -> Decision:
        """Ask whether a turn goes on that has reached a limit; cancelled as above."""

    async def confirm(self, lines: list[Line]) -> bool:
        """Show a grant and ask whether it is meant; cancelled as above."""

    async def answer(self, question: str, options: list[str]) -> str | None:
        """Put a question of an agent; None when they do not answer. Cancelled as above."""


class Approvals:
    """Ask a person, or stand in for one (``--approve``), and remember what was allowed."""

    def __init__(self, mode: Mode, person: Person | None, toolbox: Toolbox) -> None:
        self._mode = mode
        self._person = person
        self._toolbox = toolbox
        self._granted: dict[tuple[str, str], bytes] = {}
        #: What was granted for later calls, by the approval that it was granted with.
        self._later: dict[str, bytes] = {}
        self._one_question = asyncio.Lock()

    async def ask(self, call: Call, *, unknown_outcome: bool = False) -> Decision:
        """Get a decision about a call; one of unknown outcome is never run again without a person who has looked."""
        if self._mode == "all" and unknown_outcome:
            return Decision("reject", feedback="nobody is there who could look what it did")
        if self._mode == "all":
            return Decision("approve")
        if self._mode == "none" or self._person is None:
            return Decision("reject", feedback="rejected by --approve none")
        async with self._one_question:
            return await self._person.decide(call, await describe(self._toolbox, call))

    async def ask_to_go_on(self) -> Decision:
        """Get a decision about a turn at a limit; ``--approve all`` allows calls, and extends no limit by itself."""
        if self._mode == "none" or self._person is None:
            return Decision("reject", feedback=f"--approve {self._mode} does not go on at a limit")
        async with self._one_question:
            return await self._person.go_on()

    async def confirm(self, lines: list[Line]) -> bool:
        """Ask whether a grant is meant as it is shown."""
        if self._person is None:
            return False
        async with self._one_question:
            return await self._person.confirm(lines)

    def grant_later(self, approval_id: str, call: Call) -> None:
        """Remember that a person allowed calls like this one until the server says otherwise."""
        self._later[approval_id] = _likeness(call)

    def is_granted(self, approval_id: str | None, call: Call) -> bool:
        """Tell whether the server lets a call run for a grant of this process, and the grant is for such a call."""
        return approval_id is not None and self._later.get(approval_id) == _likeness(call)

    async def ask_for_answer(self, question: Question) -> str:
        """Get the answer to a question of an agent.

        Raises:
            ToolError: nobody is there, or they do not answer; the sentence is for the model.
        """
        if self._person is None:
            raise ToolError("Nobody is there to answer. Go on without an answer, or say what you need to know.")
        async with self._one_question:
            answer = await self._person.answer(question.question, question.options)
        if answer is None:
            raise ToolError("The person gave no answer.")
        return answer

    def grant(self, call: Call) -> None:
        """Remember that a person allowed exactly this."""
        self._granted[call.key] = call.digest

    def holds(self, call: Call) -> bool:
        """Tell whether exactly this was allowed and has not run yet."""
        return self._granted.get(call.key) == call.digest

    def take(self, call: Call) -> bool:
        """Use the permission for exactly this call up; whatever was allowed for the call is spent."""
        held = self.holds(call)
        self._granted.pop(call.key, None)
        return held

    def forget(self, turn_id: str) -> None:
        """Forget what was allowed in a turn that has ended."""
        for key in [key for key in self._granted if key[0] == turn_id]:
            del self._granted[key]


def _likeness(call: Call) -> bytes:
    """Return what is the same in all calls that one grant allows: a file with any content, a command in its folder."""
    free = _FREE.get(call.tool, ())
    arguments = call.arguments
    if isinstance(arguments, dict):
        arguments = {name: value for name, value in arguments.items() if name not in free}
    return msgspec.json.encode([call.tool, arguments], order="sorted")


async def describe(toolbox: Toolbox, call: Call) -> list[Line]:
    """Describe a call to the person who decides, as escaped lines: a diff, the exact command, or the arguments."""
    reason = f": {call.reason}" if call.reason else ""
    lines = [(escape_line(f"{call.tool} asks for your approval{reason}"), "bold yellow")]
    if call.tool.startswith(MCP) and not toolbox.has(call.tool):
        return [
            *lines,
            ("It does not run here, but on the server or in another client.", "dim"),
            *_describe_arguments(call.arguments),
        ]
    try:
        checked = toolbox.check(call.tool, call.arguments)
        match checked:
            case WriteFile():
                return lines + await asyncio.to_thread(_describe_write, toolbox, checked)
            case ApplyDiff():
                return lines + await asyncio.to_thread(_describe_diff, toolbox, checked)
            case DeleteFile():
                place = find_file(toolbox.folder, checked.path)
                return [*lines, (f"Delete {escape_line(place.shown)}, for good.", "yellow")]
            case MoveFile():
                source = find_file(toolbox.folder, checked.source)
                target = find_free(toolbox.folder, checked.destination)
                return [*lines, (f"Move {escape_line(source.shown)} to {escape_line(target.shown)}.", "yellow")]
            case ExecuteCommand():
                return lines + _describe_command(toolbox, checked)
            case McpCall() if toolbox.mcp is not None:
                server, name = toolbox.mcp.explain(call.tool)
                what = (f"Call {escape_line(name)} of your MCP server {server}, with:", "yellow")
                return [*lines, what, *_describe_arguments(call.arguments)]
            case _:
                toolbox.needs_approval(call.tool, call.arguments)
                return lines + _describe_arguments(call.arguments)
    except ToolError as error:
        return [*lines, *_describe_arguments(call.arguments), (f"It cannot run: {escape_line(str(error))}", "red")]


def _describe_write(toolbox: Toolbox, args: WriteFile) -> list[Line]:
    place = toolbox.folder.resolve(args.path)
    lines: list[Line] = []
    if place.shown != args.path:
        lines.append((f"{escape_line(args.path)} is {escape_line(place.shown)}", "yellow"))
    try:
        old = read_text(toolbox.folder, place, args.encoding)
    except ToolError as error:
        return [
            *lines,
            (f"The old content cannot be shown: {escape_line(str(error))}", "yellow"),
            *diff_lines(place.shown, None, args.content),
        ]
    if old == args.content:
        lines.append((f"{escape_line(place.shown)} stays as it is.", "yellow"))
    elif old is None and not args.content:
        lines.append((f"{escape_line(place.shown)} is created, empty.", "yellow"))
    if old is not None and args.backup:
        name = escape_line(f"{place.shown}.bak")
        lines.append((f"The old version is kept as {name}, in place of what has that name now.", "dim"))
    return [*lines, *diff_lines(place.shown, old, args.content)]


def _describe_diff(toolbox: Toolbox, args: ApplyDiff) -> list[Line]:
    place, old, new = patched(toolbox.folder, args)
    named = [(f"{escape_line(args.path)} is {escape_line(place.shown)}", "yellow")] if place.shown != args.path else []
    return [*named, *diff_lines(place.shown, old, new)]


def _describe_command(toolbox: Toolbox, args: ExecuteCommand) -> list[Line]:
    place = toolbox.folder.resolve(args.cwd or ".")
    how = "by the shell" if args.shell else "without a shell"
    where = "" if place.shown == "." else f" in {escape_line(place.shown)}"
    seconds = min(args.timeout, MAX_TIMEOUT)
    first, *rest = args.command.split("\n")
    return [
        (f"Run {how}{where}, for at most {seconds} s:", "yellow"),
        (f"  $ {escape_line(first)}", "bold"),
        *((f"  > {escape_line(line)}", "bold") for line in rest),
    ]


def _describe_arguments(arguments: Any) -> list[Line]:
    shown = msgspec.json.format(msgspec.json.encode(arguments), indent=2).decode()
    return [(escape_prose(line), "") for line in shown.split("\n")]
