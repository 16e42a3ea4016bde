"""The one door to the tools: names, argument checks, and what needs a person's yes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from codelab.client.tools.commands import ExecuteCommand, command_environment, execute_command
from codelab.client.tools.edits import (
    ApplyDiff,
    DeleteFile,
    MoveFile,
    apply_diff,
    delete_file,
    find_file,
    find_free,
    move_file,
)
from codelab.client.tools.errors import ToolError
from codelab.client.tools.files import (
    CreateDirectory,
    ListFiles,
    ReadFile,
    WriteFile,
    create_directory,
    list_files,
    read_file,
    write_file,
)
from codelab.client.tools.search import SearchInCode, search_in_code, search_in_process

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codelab.client.mcp.servers import Servers
    from codelab.client.tools.paths import Folder

__all__ = ("MCP", "McpCall", "Toolbox", "convert")

T = TypeVar("T")

#: What the names of tools of MCP servers begin with, whoever runs them.
MCP = "mcp__"
_ARGUMENTS: dict[str, type[msgspec.Struct]] = {
    "read_file": ReadFile,
    "list_files": ListFiles,
    "search_in_code": SearchInCode,
    "write_file": WriteFile,
    "apply_diff": ApplyDiff,
    "delete_file": DeleteFile,
    "move_file": MoveFile,
    "create_directory": CreateDirectory,
    "execute_command": ExecuteCommand,
}
_ALWAYS_ASK = frozenset({"write_file", "apply_diff", "delete_file", "move_file", "create_directory", "execute_command"})


def convert(arguments: object, kind: type[T]) -> T:
    """Check the arguments of a tool.

    Raises:
        ToolError: naming the argument that is wrong.
    """
    try:
        return msgspec.convert(arguments, kind)
    except msgspec.ValidationError as error:
        raise ToolError(f"arguments: {error}") from None


class McpCall(msgspec.Struct, frozen=True):
    """A call of a tool of an MCP server; that checks the arguments itself."""

    tool: str
    arguments: Any


class Toolbox:
    """Run tools inside one folder, and those of MCP servers that the chat runs."""

    def __init__(self, folder: Folder, environ: Mapping[str, str], mcp: Servers | None = None) -> None:
        self.folder = folder
        self.mcp = mcp
        self._environ = environ

    def has(self, tool: str) -> bool:
        """Tell whether this machine has a tool."""
        return tool in _ARGUMENTS or (self.mcp is not None and self.mcp.has(tool))

    def check(self, tool: str, arguments: object) -> msgspec.Struct:
        """Check name and arguments of a call.

        Raises:
            ToolError: this machine has no such tool, or an argument is wrong.
        """
        if tool.startswith(MCP) and self.has(tool):
            return McpCall(tool, arguments)
        if (kind := _ARGUMENTS.get(tool)) is None:
            raise ToolError(f"{tool}: this client has no such tool; it has {', '.join(_ARGUMENTS)}")
        return convert(arguments, kind)

    def needs_approval(self, tool: str, arguments: object) -> bool:
        """Tell whether the call needs a person's yes: it changes something, runs something, or reads secrets.

        Raises:
            ToolError: the call could not run at all.
        """
        checked = self.check(tool, arguments)
        if isinstance(checked, ReadFile):
            return self.folder.resolve(checked.path).sensitive
        match checked:
            case WriteFile() | ApplyDiff() | CreateDirectory():
                self.folder.resolve(checked.path)
            case DeleteFile():
                find_file(self.folder, checked.path)
            case MoveFile():
                find_file(self.folder, checked.source)
                find_free(self.folder, checked.destination)
            case _:
                pass
        return isinstance(checked, McpCall) or tool in _ALWAYS_ASK

    async def run(self, tool: str, arguments: object, *, secrets_allowed: bool) -> dict[str, Any]:
        """Run a call, but one of an MCP tool; ``secrets_allowed`` says that a person allowed to read a file of secrets.

        Raises:
            ToolError: it could not do its work.
        """
        checked = self.check(tool, arguments)
        try:
            match checked:
                case ReadFile():
                    return await asyncio.to_thread(read_file, self.folder, checked, secrets_allowed=secrets_allowed)
                case ListFiles():
                    return await asyncio.to_thread(list_files, self.folder, checked)
                case SearchInCode() if checked.regex:
                    return await search_in_process(self.folder, checked, command_environment(self._environ))
                case SearchInCode():
                    return await asyncio.to_thread(search_in_code, self.folder, checked)
                case WriteFile():
                    return await asyncio.to_thread(write_file, self.folder, checked)
                case ApplyDiff():
                    return await asyncio.to_thread(apply_diff, self.folder, checked)
                case DeleteFile():
                    return await asyncio.to_thread(delete_file, self.folder, checked)
                case MoveFile():
                    return await asyncio.to_thread(move_file, self.folder, checked)
                case CreateDirectory():
                    return await asyncio.to_thread(create_directory, self.folder, checked)
                case ExecuteCommand():
                    return await execute_command(self.folder, checked, self._environ)
        except (OSError, ValueError, RecursionError) as error:
            raise ToolError(f"{tool}: {error}") from None
        raise ToolError(f"{tool}: this client has no such tool")
