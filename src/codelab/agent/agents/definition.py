"""One agent as a file: Markdown whose front matter describes it and whose body is its system prompt."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import yaml

from codelab.agent.policy.calls import PATHS
from codelab.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ("Agent", "read_agent")

#: A name can follow an @ in a message, and fits the columns of the database.
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,49}")
_MEMBERS = ("name", "title", "description", "tools", "path_rules", "model", "temperature")
_NEEDED = ("name", "description", "tools")
_STR, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"
_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
MAX_BYTES = 1024 * 1024


class Agent(msgspec.Struct, frozen=True):
    """One specialist. ``path_rules`` maps a tool to the regular expression that its path must match whole.

    ``model`` is the one that it asks for. ``file``, ``line`` and ``model_line`` are where its name and its model are
    written. ``colleagues`` are those that it may hand over to, itself among them, with what they are for.
    """

    name: str
    title: str
    description: str
    tools: tuple[str, ...]
    path_rules: dict[str, re.Pattern[str]]
    temperature: float | None
    prompt: str
    file: str
    line: int
    model: str | None = None
    model_line: int = 0
    colleagues: dict[str, str] = {}


def read_agent(raw: bytes, file: str, *, tools: Collection[str]) -> Agent:
    """Read the definition of an agent; ``file`` is what messages call it, ``tools`` are those that there are.

    Raises:
        StartError: it cannot be used; the line names the file and its line.
    """
    return _Reader(file, tools).read(raw)


class _Reader:
    def __init__(self, file: str, tools: Collection[str]) -> None:
        self._file = file
        self._tools = tools

    def read(self, raw: bytes) -> Agent:
        if len(raw) > MAX_BYTES:
            self._refuse(None, f"is larger than {MAX_BYTES} bytes")
        try:
            lines = re.split(r"\r\n|\r|\n", raw.decode("utf-8-sig"))
        except UnicodeDecodeError:
            self._refuse(None, "is not UTF-8")
        if lines[0].rstrip() != "---":
            self._refuse(0, "front matter between two lines of --- is expected at the beginning")
        end = next((number for number, line in enumerate(lines) if number and line.rstrip() == "---"), None)
        if end is None:
            self._refuse(0, "the front matter has no end: a second line of --- is expected")
        prompt = "\n".join(lines[end + 1 :]).strip()
        if not prompt:
            self._refuse(end, "the system prompt is empty: it is what follows the front matter")
        # The line of --- counts, so that lines are those of the file.
        return self._agent(self._compose("\n".join(["", *lines[1:end]])), prompt)

    def _compose(self, text: str) -> dict[str, yaml.Node]:
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            self._refuse(None if mark is None else mark.line, str(error.problem))
        except (yaml.YAMLError, RecursionError) as error:
            self._refuse(None, " ".join(str(error).split()) or "is nested too deeply")
        if not isinstance(root, yaml.MappingNode):
            self._refuse(0, f"names with values are expected in the front matter: {', '.join(_MEMBERS)}")
        members = self._pairs(root)
        for name, (key, _) in members.items():
            if name not in _MEMBERS:
                self._refuse(_line(key), f"{name!r} is not known here; known are {', '.join(_MEMBERS)}")
        for name in _NEEDED:
            if name not in members:
                self._refuse(0, f"{name}: is missing")
        return {name: value for name, (_, value) in members.items()}

    def _agent(self, members: dict[str, yaml.Node], prompt: str) -> Agent:
        name = self._text(members["name"], "name")
        if _NAME.fullmatch(name) is None:
            problem = "at most 50 small letters, digits, - and _ are expected, a letter first"
            self._refuse(_line(members["name"]), f"name: {problem}")
        tools = self._read_tools(members["tools"])
        model = members.get("model")
        if model is not None and model.tag == _NULL:
            model = None
        return Agent(
            name=name,
            title=self._text(members["title"], "title") if "title" in members else f"{name.capitalize()} Agent",
            description=self._text(members["description"], "description"),
            tools=tools,
            path_rules=self._read_path_rules(members["path_rules"], tools) if "path_rules" in members else {},
            temperature=self._read_temperature(members["temperature"]) if "temperature" in members else None,
            prompt=prompt,
            file=self._file,
            line=_line(members["name"]) + 1,
            model=None if model is None else self._text(model, "model"),
            model_line=0 if model is None else _line(model) + 1,
        )

    def _pairs(self, node: yaml.MappingNode) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            name = self._text(key, "a name")
            if name in pairs:
                self._refuse(_line(key), f"{name}: stands here twice")
            pairs[name] = key, value
        return pairs

    def _text(self, node: yaml.Node, name: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != _STR or not node.value.strip():
            self._refuse(_line(node), f"{name}: a text is expected")
        text: str = node.value.strip()
        if not text.isprintable():
            self._refuse(_line(node), f"{name}: one line of text is expected")
        return text

    def _read_tools(self, node: yaml.Node) -> tuple[str, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self._refuse(_line(node), "tools: a list is expected")
        tools: list[str] = []
        for each in node.value:
            tool = self._text(each, "tools")
            if tool not in self._tools:
                self._refuse(_line(each), f"tools: there is no {tool}; known are {', '.join(self._tools)}")
            if tool in tools:
                self._refuse(_line(each), f"tools: {tool} stands here twice")
            tools.append(tool)
        return tuple(tools)

    def _read_path_rules(self, node: yaml.Node, tools: tuple[str, ...]) -> dict[str, re.Pattern[str]]:
        if not isinstance(node, yaml.MappingNode):
            self._refuse(_line(node), "path_rules: tools with regular expressions are expected")
        rules: dict[str, re.Pattern[str]] = {}
        for tool, (key, value) in self._pairs(node).items():
            if tool not in tools:
                self._refuse(_line(key), f"path_rules: {tool} is not among the tools of this agent")
            if not PATHS.get(tool):
                self._refuse(_line(key), f"path_rules: {tool} has no path")
            try:
                rules[tool] = re.compile(self._text(value, f"path_rules.{tool}"))
            except (re.error, RecursionError, OverflowError) as error:
                self._refuse(_line(value), f"path_rules.{tool}: is no regular expression: {error}")
        return rules

    def _read_temperature(self, node: yaml.Node) -> float | None:
        if node.tag == _NULL:
            return None
        value: Any = None
        if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS:
            try:
                value = float(node.value)
            except ValueError:  # YAML has numbers that Python does not read
                value = None
        if value is None or not math.isfinite(value) or not 0 <= value <= 2:
            self._refuse(_line(node), "temperature: a number from 0 to 2 is expected")
        return float(value)

    def _refuse(self, line: int | None, problem: str) -> NoReturn:
        place = "" if line is None else f", line {line + 1}"
        raise StartError(f"{self._file}{place}: {problem}.")


def _line(node: yaml.Node) -> int:
    line: int = node.start_mark.line
    return line
