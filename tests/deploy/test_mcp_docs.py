"""The commands of ``docs/mcp.md``, run as a reader runs them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from codelab.mcpclient import read_servers
from tests.deploy.test_doc_commands import DOCS, blocks
from tests.support.mcp import run_mcp_server
from tests.support.process import clean_environ, server_process

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import DatabaseUrls

PAGE = DOCS / "mcp.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
async def test_a_server_is_added_as_the_page_shows(databases: DatabaseUrls, tmp_path: Path) -> None:
    """The variable and the curl of the page, with the reader's own host, token and session; then the other routes."""
    hosts, *commands = blocks(PAGE, "sh")
    name, _, value = hosts.partition("=")
    async with run_mcp_server() as remote:
        own = value.replace("mcp.example.com", remote.place, 1)
        assert own != value
        with server_process(tmp_path, databases, (), **{name: own}) as server:
            async with server.login() as http:
                made = await http.post("/api/v1/sessions", json={"agent": "coder"})
                token = http.headers["Authorization"].removeprefix("Bearer ")
                variables = {"TOKEN": token, "SESSION": made.json()["id"]}
                answers = []
                for command in commands:
                    typed = command.replace("http://127.0.0.1:8000", server.url).replace("Bearer …", "Bearer abc")
                    typed = typed.replace("https://mcp.example.com/mcp", remote.url)
                    answers.append(await run(typed, tmp_path, variables))
                listed = await http.get(f"/api/v1/sessions/{variables['SESSION']}/mcp-servers")

    tools = [[tool["tool_name"] for tool in answer["tools"]] for answer in answers]
    assert tools == [["mcp__weather__add"], ["mcp__git__log"]]
    assert (answers[1]["transport"], answers[1]["client_id"]) == ("client", "my-editor-1")
    assert (answers[0]["name"], answers[0]["has_headers"], answers[0]["error"]) == ("weather", True, None)
    assert listed.json()["mcp_servers"] == answers
    assert remote.tokens == {"Bearer abc"}


async def run(command: str, folder: Path, variables: dict[str, str]) -> dict[str, Any]:
    """Run a command in a shell; return the JSON that it prints."""
    environ = clean_environ(folder, **variables) | {"PATH": os.environ["PATH"]}
    done = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", command], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_files_of_the_page_can_be_used() -> None:
    """They are read as they stand, and have every member that there is."""
    (operators,), (persons,) = (read_servers(example.encode(), PAGE) for example in blocks(PAGE, "json"))

    assert (operators.name, operators.command, operators.cwd) == ("git", "uvx", "/srv/project")
    assert persons.cwd == str(PAGE.parent)
    for server in (operators, persons):
        assert server.args
        assert server.env


def test_the_page_names_what_there_is() -> None:
    """Each variable and route of the page is in the others too."""
    page = PAGE.read_text(encoding="utf-8")
    api = (DOCS / "api.md").read_text(encoding="utf-8")
    configuration = (DOCS / "configuration.md").read_text(encoding="utf-8")

    for variable in set(re.findall(r"\b(?:AGENT_RUNTIME|AUTH_SERVICE)__\w+", page)):
        assert f"`{variable}`" in configuration, variable
    assert "POST /api/v1/sessions/{session_id}/mcp-servers" in api
