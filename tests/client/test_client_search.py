from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from codelab.client.tools import search
from codelab.client.tools.errors import ToolError
from codelab.client.tools.search import SearchInCode, search_in_code

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.client.tools.paths import Folder
    from codelab.client.tools.toolbox import Toolbox


@pytest.fixture(autouse=True)
def project(root: Path) -> None:
    """A few files with the word in them."""
    (root / "src").mkdir()
    (root / "src" / "a.py").write_text("import os\nWord = 1\r\n")
    (root / "b.md").write_text("a word, (word)\n")
    (root / ".env").write_text("word=secret\n")
    (root / "server.PEM").write_text("word\n")
    (root / "binary").write_bytes(b"word\0")
    (root / "node_modules").mkdir()
    (root / "node_modules" / "c.js").write_text("word\n")


def find(folder: Folder, query: str, **options: Any) -> list[tuple[str, int]]:
    """Search; returns path and line of each match."""
    return [
        (match["path"], match["line"]) for match in search_in_code(folder, SearchInCode(query, **options))["matches"]
    ]


def test_text_is_found_in_any_case(folder: Folder) -> None:
    """Paths, lines counted from 1, and the text of the line without its end are told."""
    assert search_in_code(folder, SearchInCode("word")) == {
        "query": "word",
        "matches": [
            {"path": "b.md", "line": 1, "text": "a word, (word)"},
            {"path": "src/a.py", "line": 2, "text": "Word = 1"},
        ],
        "truncated": False,
    }


@pytest.mark.parametrize(
    ("query", "options", "found"),
    [
        ("Word", {"case_sensitive": True}, [("src/a.py", 2)]),
        ("(word)", {}, [("b.md", 1)]),
        ("^w.rd = \\d$", {"regex": True}, [("src/a.py", 2)]),
        ("word", {"file_pattern": "*.py"}, [("src/a.py", 2)]),
        ("word", {"file_pattern": "src/*"}, [("src/a.py", 2)]),
        ("word", {"path": "src"}, [("src/a.py", 2)]),
        ("word", {"path": "b.md"}, [("b.md", 1)]),
        ("word", {"path": ".env"}, []),
        ("nowhere", {}, []),
    ],
)
def test_options(folder: Folder, query: str, options: dict[str, Any], found: list[tuple[str, int]]) -> None:
    """Each option narrows the search as its name says."""
    assert find(folder, query, **options) == found


def test_a_link_to_secrets_is_not_searched(folder: Folder, root: Path) -> None:
    """Neither by its own name nor as the place to search."""
    (root / "notes.txt").symlink_to(".env")

    assert find(folder, "secret") == []
    assert find(folder, "secret", path="notes.txt") == []


def test_results_are_bounded(folder: Folder, root: Path) -> None:
    """``max_results`` cuts and says so."""
    (root / "many.txt").write_text("word\n" * 50)
    found = search_in_code(folder, SearchInCode("word", max_results=10))

    assert (len(found["matches"]), found["truncated"]) == (10, True)


def test_long_lines_are_cut(folder: Folder, root: Path) -> None:
    """A minified file does not fill the answer."""
    (root / "min.js").write_text("needle" + "x" * 10_000)

    assert len(search_in_code(folder, SearchInCode("needle"))["matches"][0]["text"]) == search.MAX_LINE + 1


def test_a_bad_expression_is_said(folder: Folder) -> None:
    """The error names the argument."""
    with pytest.raises(ToolError, match="query: is not a regular expression"):
        search_in_code(folder, SearchInCode("(", regex=True))


async def test_an_expression_runs_in_a_process_of_its_own(toolbox: Toolbox) -> None:
    """The answer is the same as in this process, errors too."""
    arguments = {"query": "^w.rd", "regex": True}
    found = await toolbox.run("search_in_code", arguments, secrets_allowed=False)

    assert found["matches"] == [{"path": "src/a.py", "line": 2, "text": "Word = 1"}]
    with pytest.raises(ToolError, match="query: is not a regular expression"):
        await toolbox.run("search_in_code", arguments | {"query": "["}, secrets_allowed=False)


async def test_an_expression_that_takes_for_ever_is_stopped(
    toolbox: Toolbox, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catastrophic backtracking neither hangs the chat nor outlives the search."""
    monkeypatch.setattr(search, "TIME_LIMIT", -4.0)
    (root / "trap.txt").write_text("a" * 60 + "!\n")
    with pytest.raises(ToolError, match="took longer"):
        await toolbox.run("search_in_code", {"query": "^(a+)+$", "regex": True}, secrets_allowed=False)


async def test_nothing_of_the_folder_is_imported(toolbox: Toolbox, root: Path) -> None:
    """A file that has the name of a module does not run."""
    (root / "json.py").write_text("open('ran', 'w')")
    (root / "msgspec.py").write_text("open('ran', 'w')")
    await toolbox.run("search_in_code", {"query": "x", "regex": True}, secrets_allowed=False)

    assert not (root / "ran").exists()
