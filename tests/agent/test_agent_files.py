"""What the definition of an agent may say, and what is said about one that cannot be used."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from codelab.agent.agents import VARIABLE, load_agents
from codelab.agent.agents.definition import _MEMBERS
from codelab.agent.gate import check_call
from codelab.agent.tools import TOOLS
from codelab.errors import StartError
from tests.deploy.test_doc_commands import DOCS

if TYPE_CHECKING:
    from pathlib import Path


HEAD = "name: reviewer\ndescription: Reviews changes\ntools: [read_file, write_file, switch_mode]\n"
WRITE = {"path": "notes.md", "content": "n"}


def write(folder: Path, file: str, head: str = HEAD, body: str = "You review.", *, ends: str = "\n") -> Path:
    """Write a definition; return its folder."""
    folder.mkdir(exist_ok=True)
    text = f"---\n{head}---\n{body}\n".replace("\n", ends)
    (folder / file).write_bytes(text.encode())
    return folder


class TestFile:
    def test_what_a_file_may_say(self, tmp_path: Path) -> None:
        """All members, in any order, with the line ends of any system; what follows the front matter is the prompt."""
        more = "title: The Reviewer\nmodel: small\ntemperature: 0.5\npath_rules:\n  write_file: 'docs/.*'\n"
        agent = load_agents(write(tmp_path, "r.md", more + HEAD, "\n# You\n\n---\nreview.\n", ends="\r\n"))["reviewer"]
        plain = load_agents(write(tmp_path, "r.md", HEAD + "model:\n"))["reviewer"]

        assert (agent.title, agent.description, agent.model) == ("The Reviewer", "Reviews changes", "small")
        assert (agent.temperature, agent.tools) == (0.5, ("read_file", "write_file", "switch_mode"))
        assert {tool: rule.pattern for tool, rule in agent.path_rules.items()} == {"write_file": "docs/.*"}
        assert agent.prompt == "# You\n\n---\nreview."
        assert (plain.title, plain.model, plain.temperature, plain.path_rules) == ("Reviewer Agent", None, None, {})

    @pytest.mark.parametrize(
        ("text", "line", "problem"),
        [
            ("You review.", 1, "front matter between two lines of --- is expected at the beginning"),
            ("", 1, "front matter between two lines of --- is expected at the beginning"),
            (f"---\n{HEAD}", 1, "the front matter has no end: a second line of --- is expected"),
            (f"---\n{HEAD}---\n \n", 5, "the system prompt is empty: it is what follows the front matter"),
            ("---\n---\nYou.", 1, "names with values are expected in the front matter"),
            ("---\n- a\n---\nYou.", 1, "names with values are expected in the front matter"),
            (f"---\n{HEAD}colour: red\n---\nYou.", 5, "'colour' is not known here; known are name, title, "),
            (f"---\n{HEAD}name: other\n---\nYou.", 5, "name: stands here twice"),
            ("---\ndescription: d\ntools: []\n---\nYou.", 1, "name: is missing"),
            ("---\nname: a\ndescription: d\n---\nYou.", 1, "tools: is missing"),
            ("---\nname: a\ndescription: d\ntools: [read_file\n---\nYou.", 4, "expected ',' or ']'"),
            ("---\nname: a\ndescription: Plans: and writes\ntools: []\n---\nYou.", 3, "mapping values are not allowed"),
            ("---\nname: Reviewer\ndescription: d\ntools: []\n---\nYou.", 2, "name: at most 50 small letters"),
            ("---\nname: 'a b'\ndescription: d\ntools: []\n---\nYou.", 2, "name: at most 50 small letters"),
            (f"---\nname: {'a' * 51}\ndescription: d\ntools: []\n---\nYou.", 2, "name: at most 50 small letters"),
            ("---\nname: on\ndescription: d\ntools: []\n---\nYou.", 2, "name: a text is expected"),
            ("---\nname: a\ndescription:\ntools: []\n---\nYou.", 3, "description: a text is expected"),
            ("---\nname: a\ndescription: |\n  a\n  b\ntools: []\n---\nYou.", 3, "description: one line of text"),
            ("---\nname: a\ndescription: d\ntools: read_file\n---\nYou.", 4, "tools: a list is expected"),
            (
                "---\nname: a\ndescription: d\ntools:\n- read_file\n- rm\n---\nY.",
                6,
                "tools: there is no rm; known are ",
            ),
            (
                "---\nname: a\ndescription: d\ntools: [read_file, read_file]\n---\nY.",
                4,
                "tools: read_file stands here t",
            ),
            (f"---\n{HEAD}path_rules: docs\n---\nY.", 5, "path_rules: tools with regular expressions are expected"),
            (f"---\n{HEAD}path_rules:\n  delete_file: a\n---\nY.", 6, "path_rules: delete_file is not among the tools"),
            (f"---\n{HEAD}path_rules:\n  switch_mode: a\n---\nY.", 6, "path_rules: switch_mode has no path"),
            (f"---\n{HEAD}path_rules:\n  read_file: '('\n---\nY.", 6, "path_rules.read_file: is no regular expression"),
            (f"---\n{HEAD}temperature: hot\n---\nY.", 5, "temperature: a number from 0 to 2 is expected"),
            (f"---\n{HEAD}temperature: 2.1\n---\nY.", 5, "temperature: a number from 0 to 2 is expected"),
            (f"---\n{HEAD}temperature: .nan\n---\nY.", 5, "temperature: a number from 0 to 2 is expected"),
            (f"---\n{HEAD}model: [small]\n---\nY.", 5, "model: a text is expected"),
        ],
    )
    def test_what_is_wrong_ends_the_start(self, tmp_path: Path, text: str, line: int, problem: str) -> None:
        """In one line that names the variable, the file, its line and what is wrong there."""
        (tmp_path / "a.md").write_text(text)
        with pytest.raises(StartError) as refused:
            load_agents(tmp_path)

        assert str(refused.value).startswith(f"{VARIABLE}: {tmp_path}/a.md, line {line}: {problem}")
        assert "\n" not in str(refused.value)

    def test_the_page_shows_one(self, tmp_path: Path) -> None:
        """The example of ``docs/agents.md`` can be used as it is, and does what the page says of it."""
        page = (DOCS / "agents.md").read_text(encoding="utf-8")
        (tmp_path / "reviewer.md").write_text(page.split("```markdown\n")[1].split("```\n")[0], encoding="utf-8")
        agents = load_agents(tmp_path)
        agent = agents["reviewer"]
        members = re.findall(r"^\| `(\w+)` \| ", page.split("| member |")[1].split("## Tools")[0], re.MULTILINE)

        def effect(path: str) -> str:
            return check_call(agent, "write_file", json.dumps({"path": path, "content": ""})).effect

        assert (effect("reviews/today.md"), effect("src/app.py"), effect("reviews/../src/a.md")) == (
            "ask",
            "deny",
            "deny",
        )
        assert (agent.title, agent.temperature) == ("Reviewer Agent", 0.2)
        assert agent.prompt.startswith("You review changes.")
        assert sorted(members) == sorted(_MEMBERS)
        assert set(TOOLS) == set(re.findall(r"`(\w+)`", page.split("## Tools")[1]))
        for name in load_agents():
            assert f"| `{name}` | " in page

    def test_what_is_no_text(self, tmp_path: Path) -> None:
        """Other bytes, too many of them, and a folder that is not there."""
        for raw, problem in ((b"---\n\xff", "is not UTF-8"), (b"-" * 1024**2 + b"-", "is larger than 1048576 bytes")):
            (tmp_path / "a.md").write_bytes(raw)
            with pytest.raises(StartError, match=problem):
                load_agents(tmp_path)
        with pytest.raises(StartError, match=rf"^{VARIABLE}: .*nowhere cannot be read: No such file"):
            load_agents(tmp_path / "nowhere")

    def test_one_file_for_each_name(self, tmp_path: Path) -> None:
        """The line names both files; what is hidden, no ``.md`` or a folder is no definition."""
        write(tmp_path, "a.md")
        (tmp_path / "deep.md").mkdir()
        for other in (".b.md", "b.md~", "b.txt"):
            write(tmp_path, other, "nonsense")
        assert "reviewer" in load_agents(tmp_path)
        write(tmp_path, "b.md")

        expected = rf"b\.md, line 2: the agent reviewer is in {tmp_path}/a\.md already\.$"
        with pytest.raises(StartError, match=expected):
            load_agents(tmp_path)
