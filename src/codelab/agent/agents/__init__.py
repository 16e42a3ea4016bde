"""Agents are data: one Markdown file each, ours in this package and the operator's in a folder of their own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from codelab.agent.agents.definition import Agent, read_agent
from codelab.agent.tools import SWITCH_MODE, TOOLS
from codelab.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

__all__ = ("ORCHESTRATOR", "UNIVERSAL", "VARIABLE", "Agent", "Agents", "load_agents")

ORCHESTRATOR, UNIVERSAL = "orchestrator", "universal"
VARIABLE = "AGENT_RUNTIME__AGENTS_DIR"
_TEAM = (ORCHESTRATOR, "coder", "architect", "debug", "ask")


class Agents(Mapping[str, Agent]):
    """The agents that work here, by name.

    ``first`` is the name of the one that sessions begin with. ``defined`` are the names of all that have a file, also
    of those that do not work in this mode; ``ours`` those whose file is the one that codelab comes with.
    """

    def __init__(self, agents: Mapping[str, Agent], *, defined: Collection[str], ours: Collection[str]) -> None:
        self._agents = dict(agents)
        self.first = next(iter(self._agents))
        self.defined = tuple(defined)
        self.ours = frozenset(ours)

    def __getitem__(self, name: str) -> Agent:
        return self._agents[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._agents)

    def __len__(self) -> int:
        return len(self._agents)

    def find(self, name: str) -> Agent:
        """Return an agent; in the place of one that is not here (any more), the one that sessions begin with."""
        return self._agents.get(name) or self._agents[self.first]


def load_agents(folder: Path | None = None, *, multi: bool = True) -> Agents:
    """Read the agents that ship with codelab, the orchestrator first, then those in a folder of the operator.

    One of the same name takes the place of ours. With ``multi`` there are all but ``universal``, else it alone.

    Raises:
        StartError: a file is not as it must be; the line names the file and its line.
    """
    ours, own = _read_ours(), {} if folder is None else _read_folder(folder)
    every = ours | own
    working = {name: agent for name, agent in every.items() if (name != UNIVERSAL) == multi}
    colleagues = {name: agent.description for name, agent in working.items()}
    if not multi:  # there is nobody to hand over to
        universal = working[UNIVERSAL]
        tools = tuple(tool for tool in universal.tools if tool != SWITCH_MODE)
        working = {UNIVERSAL: msgspec.structs.replace(universal, tools=tools)}
    known = {name: msgspec.structs.replace(agent, colleagues=colleagues) for name, agent in working.items()}
    return Agents(known, defined=every, ours=ours.keys() - own.keys())


@cache
def _read_ours() -> dict[str, Agent]:
    folder = files(__package__)
    names = (*_TEAM, UNIVERSAL)
    return {name: read_agent((folder / f"{name}.md").read_bytes(), f"{name}.md", tools=TOOLS) for name in names}


def _read_folder(folder: Path) -> dict[str, Agent]:
    """Read every file in a folder whose name ends with ``.md``; hidden ones and folders are left out."""
    agents: dict[str, Agent] = {}
    path = folder
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix != ".md" or path.name.startswith(".") or path.is_dir():
                continue
            agent = read_agent(path.read_bytes(), f"{VARIABLE}: {path}", tools=TOOLS)
            if (other := agents.get(agent.name)) is not None:
                defined = other.file.removeprefix(f"{VARIABLE}: ")
                raise StartError(f"{agent.file}, line {agent.line}: the agent {agent.name} is in {defined} already.")
            agents[agent.name] = agent
    except OSError as error:
        raise StartError(f"{VARIABLE}: {path} cannot be read: {error.strerror or error}.") from None
    return agents
