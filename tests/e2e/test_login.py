"""``codelab chat --url`` logs in with a browser: this machine's, or any other with a code."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pexpect
import pytest

import tests
from tests.support.forking import forked_server
from tests.support.person import decide
from tests.support.process import clean_environ, run_codelab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.databases import DatabaseUrls
    from tests.support.process import ServerProcess

ROOT = Path(tests.__file__).parent.parent
DEADLINE = 60


def browser(decision: str) -> dict[str, str]:
    """Make a browser whose person decides so."""
    return {"BROWSER": f"{sys.executable} -m tests.support.person {decision} %s", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder to chat in."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def server(home: Path, databases: DatabaseUrls) -> Iterator[ServerProcess]:
    """A server of its own process."""
    with forked_server(home, databases) as running:
        yield running


@pytest.fixture
def chat(server: ServerProcess, home: Path, project: Path) -> Iterator[Callable[..., Any]]:
    """Call it to say hello in a chat at a terminal."""
    children: list[Any] = []

    def start(*arguments: str, **environ: str) -> Any:
        child = pexpect.spawn(
            sys.executable,
            ["-m", "codelab", "chat", "--url", server.url, "--prompt", "hello", *arguments],
            cwd=str(project),
            env=clean_environ(home, TERM="xterm", **environ),
            encoding="utf-8",
            dimensions=(50, 300),
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)


def ends(child: Any, status: int) -> str:
    """Wait for the end of a chat and return what it showed."""
    child.expect(pexpect.EOF, DEADLINE)
    shown = str(child.before)
    child.close()
    assert child.exitstatus == status, shown
    return shown


def kept(home: Path) -> Any:
    """Read the login that is kept."""
    (file,) = home.rglob("credentials.json")
    (entry,) = json.loads(file.read_text(encoding="utf-8")).values()
    return entry


def test_with_the_browser_of_this_machine(
    server: ServerProcess, chat: Callable[..., Any], home: Path, project: Path
) -> None:
    """The browser opens, the person signs in and agrees, the chat goes on; the next one is logged in already."""
    shown = ends(chat(**browser("allow")), 0)
    assert "/oauth/authorize?" in shown
    assert "hello" in shown
    assert (kept(home)["username"], kept(home)["client_id"]) == ("admin", "codelab-cli")
    later = run_codelab(
        *("chat", "--url", server.url, "--prompt", "hello again"), folder=project, environ=clean_environ(home)
    )
    assert later.returncode == 0, later.stderr


def test_with_a_code(server: ServerProcess, chat: Callable[..., Any], home: Path) -> None:
    """Where no browser can be opened the chat shows an address and a code, and waits until somebody let it in."""
    child = chat()
    child.expect(r"enter the code ([A-Z]{4}-[A-Z]{4})", DEADLINE)
    asyncio.run(decide(f"{server.url}/oauth/device?user_code={child.match.group(1)}", "allow"))
    ends(child, 0)
    assert kept(home)["client_id"] == "codelab-cli"


def test_a_code_beside_a_browser(chat: Callable[..., Any]) -> None:
    """``--device`` asks for a code although there is a browser."""
    child = chat("--device", **browser("allow"))
    child.expect(r"enter the code ([A-Z]{4}-[A-Z]{4})", DEADLINE)


def test_a_person_says_no(server: ServerProcess, chat: Callable[..., Any], home: Path) -> None:
    """The chat ends with one line and exit code 2, either way, and keeps nothing."""
    shown = ends(chat(**browser("deny")), 2)
    assert "did not agree" in shown
    child = chat()
    child.expect(r"enter the code ([A-Z]{4}-[A-Z]{4})", DEADLINE)
    asyncio.run(decide(f"{server.url}/oauth/device?user_code={child.match.group(1)}", "deny"))
    assert "did not agree" in ends(child, 2)
    assert not list(home.rglob("credentials.json"))


def test_somebody_else_logs_in(chat: Callable[..., Any]) -> None:
    """With ``--username`` another person's login is refused."""
    assert "You logged in as admin, not as ada." in ends(chat("--username", "ada", **browser("allow")), 2)
