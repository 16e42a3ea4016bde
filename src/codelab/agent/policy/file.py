"""The operator's rules: a YAML file that is read once, at the start, and refused as a whole when a line is wrong.

YAML because its parser says at which line each value stands, so that every message can.
"""

from __future__ import annotations

import shlex
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NoReturn, cast, get_args

import yaml

from codelab.agent.policy.calls import PATHS
from codelab.agent.policy.commands import plain_argv
from codelab.agent.policy.folding import is_plain_text
from codelab.agent.policy.rules import MCP, Effect, Rule
from codelab.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

__all__ = ("MCP", "RuleError", "load_rules", "read_rule")

MAX_BYTES = 1024 * 1024
_MEMBERS = ("tool", "agent", "path", "command", "exact", "effect", "reason")
_EFFECTS = get_args(Effect)
_WORDS = {"allow": "allows this", "ask": "asks a person", "deny": "does not allow this"}


def load_rules(path: Path, name: str, *, agents: Collection[str], tools: Collection[str]) -> tuple[Rule, ...]:
    """Read the rules of a file; ``name`` is the variable or option that named it.

    Raises:
        StartError: it cannot be read, or a rule in it cannot be used; the line names the file and its line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise StartError(f"{name}: {path} cannot be read: {error.strerror or error}.") from None
    return _Reader(f"{name}: {path}", path.name, agents, {*tools, *PATHS}).read(raw)


class RuleError(ValueError):
    """Say what is wrong with a rule; the sentence is for the person who wrote it."""


def read_rule(rule: dict[str, Any], source: str, *, agents: Collection[str], tools: Collection[str]) -> Rule:
    """Read one rule that came as JSON, by what holds for those of a file; ``source`` says where it stands.

    Raises:
        RuleError: it cannot be used.
    """
    return _OneReader("", source, agents, {*tools, *PATHS}).read_one(rule)


class _Reader:
    def __init__(self, where: str, source: str, agents: Collection[str], tools: Collection[str]) -> None:
        self._where = where
        self._source = source
        self._agents = agents
        self._tools = tools

    def read(self, raw: bytes) -> tuple[Rule, ...]:
        if len(raw) > MAX_BYTES:
            self._refuse(None, f"is larger than {MAX_BYTES} bytes")
        try:
            root = yaml.compose(raw.decode("utf-8-sig"), Loader=yaml.SafeLoader)
        except UnicodeDecodeError:
            self._refuse(None, "is not UTF-8")
        except yaml.MarkedYAMLError as error:
            hint = " (a value that begins with * needs quotes)" if "alias" in str(error) else ""
            self._refuse(error.problem_mark, f"{error.problem}{hint}")
        except (yaml.YAMLError, RecursionError) as error:
            self._refuse(None, " ".join(str(error).split()) or "is nested too deeply")
        if root is None:
            return ()
        rules = self._members(root, ("rules",)).get("rules")
        if not isinstance(rules, yaml.SequenceNode):
            self._refuse((rules or root).start_mark, "a list of rules below rules: is expected")
        return tuple(self._rule(node) for node in rules.value)

    def _rule(self, node: yaml.Node) -> Rule:
        members = self._members(node, _MEMBERS)
        for needed in ("tool", "effect"):
            if needed not in members:
                self._refuse(node.start_mark, f"{needed}: is missing")
        effect = self._text(members["effect"], "effect")
        if effect not in _EFFECTS:
            self._refuse(members["effect"].start_mark, f"effect: must be allow, ask or deny, not {effect!r}")
        tool = self._name(members["tool"], "tool", self._tools)
        agent = self._name(members["agent"], "agent", self._agents) if "agent" in members else "*"
        rule = Rule(
            tool=tool,
            agent=agent,
            effect=cast("Effect", effect),
            path=self._path(members["path"], effect, tool) if "path" in members else None,
            command=self._command(members["command"], tool) if "command" in members else None,
            exact=self._switch(members["exact"]) if "exact" in members else False,
            reason=self._text(members["reason"], "reason") if "reason" in members else self._reason(effect),
            source=self._place(node),
        )
        if rule.exact and (effect != "allow" or (rule.path is None and rule.command is None)):
            self._refuse(members["exact"].start_mark, "exact: is for an allow with a path or a command")
        if effect == "allow" and rule.path is not None and rule.command is None and tool == "execute_command":
            self._refuse(members["path"].start_mark, "path: allows no command by itself; add command")
        return rule

    def _place(self, node: yaml.Node) -> str:
        return f"{self._source}:{node.start_mark.line + 1}"

    def _members(self, node: yaml.Node, known: tuple[str, ...]) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._refuse(node.start_mark, f"names with values are expected here: {', '.join(known)}")
        members: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name not in known:
                self._refuse(key.start_mark, f"{name!r} is not known here; known are {', '.join(known)}")
            if name in members:
                self._refuse(key.start_mark, f"{name}: stands here twice")
            members[name] = value
        return members

    def _text(self, node: yaml.Node, name: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null" or not node.value.strip():
            self._refuse(node.start_mark, f"{name}: a text is expected")
        text: str = node.value
        if not is_plain_text(text):
            self._refuse(node.start_mark, f"{name}: has characters that cannot be seen or have other spellings")
        return text

    def _name(self, node: yaml.Node, name: str, known: Collection[str]) -> str:
        text = self._text(node, name)
        fits = any(fnmatchcase(one, text) for one in known) or (name == "tool" and text.startswith(MCP))
        if not fits:
            self._refuse(node.start_mark, f"{name}: there is no {text}; known are {', '.join(sorted(known))}")
        return text

    def _path(self, node: yaml.Node, effect: str, tool: str) -> str:
        text = self._text(node, "path")
        parts = text.split("/")
        absolute = text.startswith("/")
        if "\\" in text or ":" in text or (text != "." and any(part in {".", ".."} for part in parts)):
            self._refuse(node.start_mark, "path: is written with / and without . .. : and \\")
        if any(not part for part in parts[absolute:]) or any(part != part.strip(" ") for part in parts):
            self._refuse(node.start_mark, "path: has an empty part, or one that begins or ends with a space")
        if absolute and effect == "allow":
            self._refuse(node.start_mark, "path: only paths inside the project folder can be allowed")
        if tool in PATHS and not PATHS[tool]:
            self._refuse(node.start_mark, f"path: {tool} has none")
        return text

    def _command(self, node: yaml.Node, tool: str) -> tuple[str, ...]:
        if not fnmatchcase("execute_command", tool):
            self._refuse(node.start_mark, "command: is for the tool execute_command")
        if isinstance(node, yaml.SequenceNode):
            words = tuple(self._text(word, "command") for word in node.value)
            argv = plain_argv(shlex.join(words)) if words else None
        else:
            argv = plain_argv(self._text(node, "command"))
        if argv is None:
            self._refuse(node.start_mark, "command: plain words are expected, without what a shell would act on")
        return argv

    def _switch(self, node: yaml.Node) -> bool:
        if not isinstance(node, yaml.ScalarNode) or node.value not in {"true", "false"}:
            self._refuse(node.start_mark, "exact: true or false is expected")
        return bool(node.value == "true")

    def _reason(self, effect: str) -> str:
        return f"The operator's policy {_WORDS[effect]}"

    def _refuse(self, mark: Any, problem: str) -> NoReturn:
        line = "" if mark is None else f", line {mark.line + 1}"
        raise StartError(f"{self._where}{line}: {problem}.")


class _OneReader(_Reader):
    """Read a rule without lines."""

    def read_one(self, rule: dict[str, Any]) -> Rule:
        return self._rule(yaml.representer.SafeRepresenter().represent_data(rule))

    def _place(self, node: yaml.Node) -> str:  # noqa: ARG002 - there are no lines to read from it
        return self._source

    def _reason(self, effect: str) -> str:
        return f"The policy of this session {_WORDS[effect]}"

    def _refuse(self, mark: Any, problem: str) -> NoReturn:  # noqa: ARG002 - as above
        raise RuleError(problem)
