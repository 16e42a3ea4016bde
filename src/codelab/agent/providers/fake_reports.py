"""How ``fake-llm`` tells what its tools did."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.text import decode_lenient

if TYPE_CHECKING:
    from codelab.agent.providers.base import ToolCall

__all__ = ("Outcome", "read_outcome", "report")

_SHOWN_LINES = 20
_SHOWN_ITEMS = 50
_LINE_LENGTH = 200
_NOT_DONE = {
    "write_file": "Nothing was written.",
    "create_directory": "No folder was created.",
    "execute_command": "The command was not run.",
}


class Outcome(msgspec.Struct, frozen=True):
    """Hold a call and what came back: ``result`` is a JSON value or plain text."""

    tool: str
    arguments: dict[str, Any]
    result: Any

    @property
    def rejected(self) -> bool:
        """Whether a person or the policy said no."""
        if isinstance(self.result, dict):
            return self.result.get("status") in {"rejected", "denied"}
        return self.failed and bool(
            re.match(r"error:.{0,40}\b(?:reject|den(?:y|ied))", self.result, re.IGNORECASE | re.DOTALL)
        )

    @property
    def failed(self) -> bool:
        """Whether the tool answered with an error."""
        return isinstance(self.result, str) and self.result.startswith("Error:")

    @property
    def succeeded(self) -> bool:
        """Whether what was asked for happened."""
        return not (self.rejected or self.failed)


def read_outcome(call: ToolCall, content: str) -> Outcome:
    """Read the content of the tool message that answers ``call``, whatever its shape."""
    arguments = _decode(call.arguments)
    return Outcome(call.name, arguments if isinstance(arguments, dict) else {}, _decode(content))


def report(outcome: Outcome) -> str:
    """Say what came back."""
    not_done = _NOT_DONE.get(outcome.tool, "")
    if outcome.rejected:
        feedback = _text(outcome.result, "feedback") if isinstance(outcome.result, dict) else outcome.result[6:].strip()
        said = f" The reason given: {feedback}" if feedback else ""
        return f"This was rejected, so I did not do it. {not_done}".rstrip() + said
    if outcome.failed:
        return f"That did not work: {outcome.result[6:].strip() or 'the tool gave no reason'}\n\n{not_done}".rstrip()
    if isinstance(outcome.result, dict):
        tell = _REPORTS.get(outcome.tool)
        told = tell(outcome.result, outcome.arguments) if tell else None
        if told is not None:
            return told
    text = outcome.result if isinstance(outcome.result, str) else msgspec.json.encode(outcome.result).decode()
    return (
        f"`{outcome.tool}` came back with:\n\n{_fence(text)}" if text else f"`{outcome.tool}` came back with nothing."
    )


def _report_read(result: dict[str, Any], arguments: dict[str, Any]) -> str | None:
    content = result.get("content")
    if not isinstance(content, str):
        return None
    path = _text(result, "path") or _text(arguments, "path")
    total = result.get("total_lines")
    lines = total if isinstance(total, int) else len(content.splitlines())
    if not content:
        return f"`{path}` is empty."
    more = ", and begins with" if lines > _SHOWN_LINES or result.get("truncated") else ""
    return f"`{path}` has {_number(lines, 'line')}{more}:\n\n{_fence(content)}"


def _report_list(result: dict[str, Any], arguments: dict[str, Any]) -> str | None:
    entries = result.get("entries")
    if not isinstance(entries, list):
        return None
    path = _text(result, "path") or _text(arguments, "path") or "."
    if not entries:
        return f"There is nothing in `{path}`."
    more = ", maybe more" if result.get("truncated") else ""
    shown = [f"- `{_text(entry, 'path')}{_ending(entry)}`" for entry in entries[:_SHOWN_ITEMS]]
    return "\n".join([f"`{path}` has {_number(len(entries), 'entry')}{more}:", "", *shown, *_left(entries)])


def _report_search(result: dict[str, Any], arguments: dict[str, Any]) -> str | None:
    matches = result.get("matches")
    if not isinstance(matches, list):
        return None
    query = _text(result, "query") or _text(arguments, "query")
    if not matches:
        return f"I found no `{query}`."
    more = " or more" if result.get("truncated") else ""
    shown = [f"{_text(m, 'path')}:{_text(m, 'line')}: {_text(m, 'text').strip()}" for m in matches[:_SHOWN_LINES]]
    return f"I found `{query}` in {_number(len(matches), 'line')}{more}:\n\n{_fence(chr(10).join(shown), len(matches))}"


def _report_write(result: dict[str, Any], arguments: dict[str, Any]) -> str | None:
    if "bytes_written" not in result:
        return None
    path = _text(result, "path") or _text(arguments, "path")
    backup = (
        f" The version before it is in `{_text(result, 'backup')}`." if isinstance(result.get("backup"), str) else ""
    )
    verb = "overwritten" if result.get("created") is False else "written"
    return f"Done: `{path}` is {verb} ({_text(result, 'bytes_written')} bytes).{backup}"


def _report_folder(result: dict[str, Any], arguments: dict[str, Any]) -> str | None:
    if "created" not in result:
        return None
    path = _text(result, "path") or _text(arguments, "path")
    return f"Done: the folder `{path}` is created." if result["created"] else f"The folder `{path}` was already there."


def _report_run(result: dict[str, Any], arguments: dict[str, Any]) -> str | None:
    if "exit_code" not in result and not result.get("timed_out"):
        return None
    command = _text(arguments, "command").replace("`", "'")
    end = (
        "was stopped because it took too long"
        if result.get("timed_out")
        else f"ended with exit code {_text(result, 'exit_code')}"
    )
    said = [f"`{command}` {end}."]
    if printed := _text(result, "stdout").strip("\n"):
        said.append(f"It printed:\n\n{_fence(printed)}")
    if complained := _text(result, "stderr").strip("\n"):
        said.append(f"On stderr:\n\n{_fence(complained)}")
    return "\n\n".join(said)


_REPORTS = {
    "read_file": _report_read,
    "list_files": _report_list,
    "search_in_code": _report_search,
    "write_file": _report_write,
    "create_directory": _report_folder,
    "execute_command": _report_run,
}


def _fence(text: str, total: int | None = None) -> str:
    """Quote the first lines in a fence that nothing in them can close."""
    lines = text.splitlines()
    shown = [line if len(line) <= _LINE_LENGTH else line[:_LINE_LENGTH] + "…" for line in lines[:_SHOWN_LINES]]
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", "\n".join(shown))), default=0))
    left = (total or len(lines)) - len(shown)
    more = f"\n\nThere is more: {_number(left, 'line')}." if left > 0 else ""
    return "\n".join([ticks, *shown, ticks]) + more


def _left(items: list[Any]) -> list[str]:
    return [f"- … and {len(items) - _SHOWN_ITEMS} more"] if len(items) > _SHOWN_ITEMS else []


def _ending(entry: Any) -> str:
    is_folder = isinstance(entry, dict) and entry.get("type") in {"directory", "dir", "folder"}
    return "/" if is_folder and not _text(entry, "path").endswith("/") else ""


def _text(value: Any, member: str) -> str:
    found = value.get(member) if isinstance(value, dict) else value
    return "" if found is None else str(found)


def _number(count: int, noun: str) -> str:
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun[:-1]}ies" if noun.endswith("y") else f"{count} {noun}s"


def _decode(text: str) -> Any:
    try:
        return decode_lenient(text.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return text
