"""Fixtures of the client's tests: a folder, a data folder beside it, and a server that follows a script."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from codelab.client.api import Api, http_client
from codelab.client.approvals import Approvals, Call, Decision, Mode
from codelab.client.console import Console
from codelab.client.session import Conversation
from codelab.client.tools.paths import Folder
from codelab.client.tools.toolbox import Toolbox
from tests.client.scripted import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty project folder."""
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An empty data folder beside the project."""
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def folder(root: Path, data: Path) -> Folder:
    """The folder that tools may use."""
    return Folder(root, data)


@pytest.fixture
def toolbox(folder: Folder) -> Toolbox:
    """The tools, with a small environment for commands."""
    return Toolbox(folder, {"PATH": "/usr/bin:/bin"})


@dataclass
class Script:
    """A person who answers as planned; it keeps what was shown."""

    answers: list[Decision | Callable[[], Awaitable[Decision]]] = field(default_factory=list)
    asked: list[Call] = field(default_factory=list)
    asked_to_go_on: int = 0
    shown: list[str] = field(default_factory=list)

    async def decide(self, call: Call, lines: list[tuple[str, str]]) -> Decision:
        """Answer as planned."""
        self.asked.append(call)
        self.shown.append("\n".join(text for text, _ in lines))
        return await self._answer()

    async def go_on(self) -> Decision:
        """Answer as planned."""
        self.asked_to_go_on += 1
        return await self._answer()

    async def confirm(self, lines: list[tuple[str, str]]) -> bool:
        """Answer as planned."""
        self.shown.append("\n".join(text for text, _ in lines))
        return (await self._answer()).kind == "approve"

    async def answer(self, question: str, options: list[str]) -> str | None:
        """Say the first option, or nothing where there is none."""
        self.shown.append(question)
        return next(iter(options), None)

    async def _answer(self) -> Decision:
        answer = self.answers.pop(0)
        return answer if isinstance(answer, Decision) else await answer()


@pytest.fixture
def person() -> Script:
    """Somebody who answers questions."""
    return Script()


class _Access:
    identity = "test"

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self.recovered = 0

    async def address(self) -> str:
        return self._server.url

    async def token(self) -> str:
        return "token-0"

    async def renew(self, refused: str) -> None:
        self._server.tokens = {refused}

    async def recover(self) -> None:
        self.recovered += 1


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The scripted server."""
    async with ScriptedServer().running() as running:
        yield running


@dataclass
class Desk:
    """A conversation with the scripted server, and what it printed."""

    conversation: Conversation
    approvals: Approvals
    api: Api
    answers: io.StringIO
    notes: io.StringIO


@pytest.fixture
async def make_desk(server: ScriptedServer, toolbox: Toolbox, person: Script) -> AsyncIterator[Callable[..., Desk]]:
    """Call it with a mode of ``--approve`` for a conversation; one that is ``alone`` has nobody to ask."""
    async with http_client(server.url) as client:
        api = Api(_Access(server), client)

        def make(mode: Mode = "ask", *, alone: bool = False) -> Desk:
            answers, notes = io.StringIO(), io.StringIO()
            approvals = Approvals(mode, None if alone else person, toolbox)
            console = Console(answers=answers, notes=notes)
            return Desk(
                Conversation(server.session_id, api, toolbox, approvals, console), approvals, api, answers, notes
            )

        yield make
