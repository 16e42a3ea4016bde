"""Agents are data: one Markdown file each, its front matter the description, its body the system prompt."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from codelab.errors import StartError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ("ORCHESTRATOR", "UNIVERSAL", "Agent", "load_agents")

ORCHESTRATOR, UNIVERSAL = "orchestrator", "universal"
_ORDER = ("orchestrator", "coder", "architect", "debug", "ask")


class _FrontMatter(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    title: str
    description: str
    tools: tuple[str, ...]
    path_rules: dict[str, str] = {}
    temperature: float | None = None
    model: str | None = None


class Agent(msgspec.Struct, frozen=True):
    """One specialist. ``path_rules`` maps a tool to the regular expression that its path must match whole.

    ``model`` is the one that it asks for, ``file`` where it is defined.
    """

    name: str
    title: str
    description: str
    tools: tuple[str, ...]
    path_rules: dict[str, re.Pattern[str]]
    temperature: float | None
    prompt: str
    file: str
    model: str | None = None


@cache
def load_agents() -> dict[str, Agent]:
    """Read the agents that ship with codelab, by name, the orchestrator first.

    Raises:
        StartError: a file is not as it must be; the line names the file.
    """
    folder = files(__package__)
    loaded = {name: _parse(folder / f"{name}.md") for name in _ORDER}
    return {agent.name: agent for agent in loaded.values()}


def _parse(file: Traversable) -> Agent:
    # The package's own import would be a cycle: the tools know the providers, and nothing of agents.
    from codelab.agent.tools import TOOLS

    text = file.read_text(encoding="utf-8")
    parts = re.fullmatch(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL)
    if parts is None:
        raise StartError(f"{file.name}: front matter between two lines of --- is expected.")
    try:
        raw: Any = yaml.safe_load(parts.group(1))
        matter = msgspec.convert(raw, _FrontMatter)
        rules = {tool: re.compile(pattern) for tool, pattern in matter.path_rules.items()}
    except (yaml.YAMLError, msgspec.ValidationError, re.error) as error:
        raise StartError(f"{file.name}: {' '.join(str(error).split())}") from None
    if unknown := sorted(set(matter.tools) - set(TOOLS)):
        raise StartError(f"{file.name}: unknown tools {', '.join(unknown)}.")
    return Agent(
        name=matter.name,
        title=matter.title,
        description=matter.description,
        tools=matter.tools,
        path_rules=rules,
        temperature=matter.temperature,
        prompt=parts.group(2).strip(),
        file=file.name,
        model=matter.model,
    )
