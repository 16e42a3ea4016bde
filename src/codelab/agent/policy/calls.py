"""What in a tool call is a path, and what a command: the only place that knows the tools' arguments for the policy."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from codelab.agent.policy.commands import plain_argv, read_script
from codelab.agent.policy.paths import Reading, read_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codelab.agent.policy.commands import Script

__all__ = ("PATHS", "Call")

#: The arguments that are paths, by tool. A tool that is not here may have them anywhere, and no allow with a path.
PATHS: dict[str, tuple[str, ...]] = {
    "read_file": ("path",),
    "write_file": ("path",),
    "apply_diff": ("path",),
    "create_directory": ("path",),
    "delete_file": ("path",),
    "move_file": ("source", "destination"),
    "list_files": ("path",),
    "search_in_code": ("path",),
    "execute_command": ("cwd",),
    "switch_mode": (),
    "ask_followup_question": (),
    "attempt_completion": (),
    "update_plan": (),
}
#: Where a tool looks when it is not told.
_DEFAULTS = {"search_in_code": ".", "execute_command": "."}
#: Arguments that select files below the path.
_GLOBS = {"list_files": "pattern", "search_in_code": "file_pattern"}
#: What can take in a whole folder; the others take one file.
_ONE_FILE = frozenset({"read_file", "write_file", "apply_diff", "create_directory"})
#: Texts of one call that are read as paths; a call with more is taken for one that may come to what is denied.
MAX_TEXTS = 4_000
#: Depth to which texts are looked for; the gate refuses what is nested deeper.
_MAX_DEPTH = 100


class Call:
    """One tool call, read once for all rules."""

    def __init__(self, agent: str, tool: str, arguments: dict[str, Any]) -> None:
        self.agent = agent
        self.tool = tool
        self.arguments = arguments
        self.known = tool in PATHS
        self.is_command = tool == "execute_command"
        #: Whether the call looks at what is below its path, and not only at its path.
        self.walks = tool == "search_in_code" or (
            tool == "list_files" and arguments.get("recursive", False) is not False
        )

    @cached_property
    def paths(self) -> tuple[str, ...] | None:
        """All paths of the call as they are written; None when one is missing or no text, or others may be meant."""
        if not self.known or self._selects_elsewhere:
            return None
        values = self._path_values()
        texts = tuple(value for value in values if isinstance(value, str))
        return texts if texts and len(texts) == len(values) else None

    @cached_property
    def readings(self) -> tuple[Reading, ...] | None:
        """All places that the call may mean; None when they are too long or too many to tell."""
        texts = set(_texts(self._path_values() if self.known else self.arguments)) | set(self._selected)
        return _read(texts | set(self._words))

    @cached_property
    def walked(self) -> tuple[Reading, ...] | None:
        """The places below which the call may look; None as for ``readings``."""
        if self.is_command:
            return _read(set(self._words))  # where it runs says nothing about what it looks at
        return self.readings if self.tool not in _ONE_FILE else ()

    @cached_property
    def argv(self) -> tuple[str, ...] | None:
        """The words of a plain command; None for every other one."""
        command = self.arguments.get("command")
        return plain_argv(command) if self.is_command and isinstance(command, str) else None

    @cached_property
    def script(self) -> Script | None:
        """All commands that the call may run; None when there is none that can be read."""
        return read_script("\n".join(_texts(self.arguments.get("command")))) if self.is_command else None

    @cached_property
    def _selected(self) -> tuple[str, ...]:
        """What the glob of a walking tool selects, from its path and from the project folder."""
        below = list(_texts(self.arguments.get(_GLOBS.get(self.tool, ""))))
        path = self.arguments.get("path")
        return (*below, *(f"{path}/{text}" for text in below if isinstance(path, str)))

    def _path_values(self) -> list[Any]:
        names = PATHS[self.tool]
        found = [self.arguments.get(name) for name in names]
        return [_DEFAULTS.get(self.tool) if value is None else value for value in found]

    @property
    def _selects_elsewhere(self) -> bool:
        return any(any(c in text for c in "/\\:") or ".." in text for text in self._selected[:1])

    @cached_property
    def _words(self) -> tuple[str, ...]:
        """Every word of a command that may be a path, also those in options, from the folder that it runs in."""
        return tuple(dict.fromkeys(self._find_words()))

    def _find_words(self) -> Iterator[str]:
        cwd = self.arguments.get("cwd")
        for command in self.script.commands if self.script else ():
            for word in command.words:
                bare = word.lstrip("-@<>")
                for text in {word, bare, bare[1:] if word.startswith("-") else bare, *_pieces(bare)}:
                    if text:
                        yield text
                        if isinstance(cwd, str) and cwd not in {"", "."}:
                            yield f"{cwd}/{text}"


def _read(paths: set[str]) -> tuple[Reading, ...] | None:
    if len(paths) > MAX_TEXTS:
        return None
    readings: dict[Reading, None] = {}
    for path in sorted(paths):
        found = read_path(path)
        if found is None:
            return None
        readings |= dict.fromkeys(found)
    return tuple(readings)


def _pieces(word: str) -> Iterable[str]:
    for separator in "=:,@":
        if separator in word:
            yield from (piece.strip("'\"") for piece in word.split(separator))


def _texts(value: Any, depth: int = _MAX_DEPTH) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, dict):
        for item in value.values():
            yield from _texts(item, depth - 1)
    elif depth and isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, depth - 1)
