"""The tools that change files which exist: strict diffs, and files that go or move."""

from __future__ import annotations

import random
from difflib import unified_diff
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from codelab.client.approvals import Approvals, Call, describe
from codelab.client.tools.diffs import apply
from codelab.client.tools.errors import ToolError

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.client.tools.toolbox import Toolbox
    from tests.client.conftest import Script

TEXT = "one\ntwo\nthree\nfour\nfive\n"

FITS: dict[str, tuple[str, str, str]] = {
    "a line": (TEXT, "@@ -2,3 +2,3 @@\n two\n-three\n+3\n four", "one\ntwo\n3\nfour\nfive\n"),
    "headers of git": (
        TEXT,
        "diff --git a/x b/x\nindex 1..2\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-one\n+1\n",
        "1" + TEXT[3:],
    ),
    "the wrong line": (TEXT, "@@ -90,1 +90,1 @@\n-three\n+3", TEXT.replace("three", "3")),
    "wrong counts": (TEXT, "@@ -3,9 +3,7 @@\n-three\n+3", TEXT.replace("three", "3")),
    "no numbers": (TEXT, "@@ @@\n-three\n+3", TEXT.replace("three", "3")),
    "two hunks": (TEXT, "@@ -1 +1 @@\n-one\n+1\n@@ -5 +5 @@\n-five\n+5", "1\ntwo\nthree\nfour\n5\n"),
    "named among equals": ("a\na\na\n", "@@ -2 +2 @@\n-a\n+b", "a\nb\na\n"),
    "an empty line of context": ("a\n\nb\n", "@@ -1,3 +1,3 @@\n a\n\n-b\n+c", "a\n\nc\n"),
    "at the end": (TEXT, "@@ -5 +5,2 @@\n five\n+six", TEXT + "six\n"),
    "all of it": ("a\n", "@@ -1 +0,0 @@\n-a", ""),
    "an empty file": ("", "@@ -0,0 +1 @@\n+a", "a\n"),
    "carriage returns": ("a\r\nb\r\n", "@@ -1,2 +1,3 @@\n a\n-b\n+c\n+d", "a\r\nc\r\nd\r\n"),
    "no last line end": ("a\nb", "@@ -1,2 +1,2 @@\n-a\n+c\n b", "c\nb"),
    "a last line end more": ("a", "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a", "a\n"),
    "a last line end less": ("a\n", "@@ -1 +1 @@\n-a\n+a\n\\ No newline at end of file", "a"),
    "a line that looks like a header": ("-- a/x\n", "@@ -1 +1 @@\n--- a/x\n+++ b/x", "++ b/x\n"),
    "other line ends stay": ("a\x0cb\u2028c\nd\n", "@@ -2 +2 @@\n-d\n+e", "a\x0cb\u2028c\ne\n"),
}
UNFIT = {
    "context that is not there": ("@@ -1,2 +1,2 @@\n one\n-zwei\n+2", "says 'zwei' where line 2 is 'two'"),
    "one space more": ("@@ -1 +1 @@\n-one \n+1", "does not fit"),
    "another case": ("@@ -1 +1 @@\n-One\n+1", "does not fit"),
    "a tab": ("@@ -1 +1 @@\n-\tone\n+1", "does not fit"),
    "past the end": ("@@ -5,2 +5,1 @@\n five\n-six", "where line 6 is the end of the file"),
    "hunks in the wrong order": ("@@ -5 +5 @@\n-five\n+5\n@@ -1 +1 @@\n-one\n+1", "hunk 2 does not fit"),
    "hunks that overlap": ("@@ -1,2 +1 @@\n-one\n-two\n@@ -2,2 +1 @@\n two\n-three", "hunk 2 does not fit"),
    "one hunk of two": ("@@ -1 +1 @@\n-one\n+1\n@@ -5 +5 @@\n-six\n+6", "nothing was changed"),
    "nothing about where": ("@@ -2,0 +3 @@\n+new", "says nothing of where it belongs"),
    "nothing to change": ("@@ -1,2 +1,2 @@\n one\n two", "changes nothing"),
    "an empty hunk": ("@@ -1 +1 @@", "changes nothing"),
    "no hunk": ("--- a\n+++ b", "has no hunk"),
    "prose": ("Here is the diff:\n@@ -1 +1 @@\n-one\n+1", "before the first hunk"),
    "a fence": ("@@ -1 +1 @@\n-one\n+1\n```", "line 4 begins with none"),
    "a second file": ("@@ -1 +1 @@\n-one\n+1\ndiff --git a/y b/y", "one diff is about one file"),
    "nothing": ("", "has no hunk"),
}


@pytest.mark.parametrize("name", FITS)
def test_a_diff_that_fits_is_applied(name: str) -> None:
    """With every line end as it was, wherever the numbers of a hunk are wrong but its lines are not."""
    text, diff, wanted = FITS[name]

    assert apply(text, diff) == wanted


def test_a_hunk_with_two_places_is_refused() -> None:
    """The model is told where; nobody guesses."""
    with pytest.raises(ToolError, match=r"fits at 2 places \(lines 1, 3\)"):
        apply("a\nb\na\n", "@@ -9 +9 @@\n-a\n+c")


def test_what_difflib_writes_is_applied() -> None:
    """For a thousand pairs of texts the diff of the two leads from one to the other."""
    rng = random.Random(5)
    for _ in range(1000):
        old, new = ([rng.choice("abcd") + "\n" for _ in range(rng.randrange(1, 12))] for _ in range(2))
        diff = "".join(unified_diff(old, new, "a/x", "b/x"))
        if diff:
            assert apply("".join(old), diff) == "".join(new), diff


@pytest.mark.parametrize("name", UNFIT)
async def test_a_diff_that_does_not_fit_changes_nothing(toolbox: Toolbox, root: Path, name: str) -> None:
    """The file is as it was, to the byte, nothing is left beside it, and the model reads why."""
    diff, reason = UNFIT[name]
    (root / "x").write_bytes(TEXT.encode())

    with pytest.raises(ToolError, match=reason.replace("(", r"\(")):
        await run(toolbox, "apply_diff", path="x", diff=diff)
    assert {path.name: path.read_bytes() for path in root.iterdir()} == {"x": TEXT.encode()}


async def run(toolbox: Toolbox, tool: str, **arguments: Any) -> dict[str, Any]:
    """Run a tool as the chat does after a person's yes."""
    assert toolbox.needs_approval(tool, arguments)
    return await toolbox.run(tool, arguments, secrets_allowed=False)


async def test_a_diff_is_written_whole(toolbox: Toolbox, root: Path) -> None:
    """The file keeps its mode and its encoding."""
    (root / "x").write_bytes("é\ntwo\n".encode("latin-1"))
    (root / "x").chmod(0o640)
    result = await run(toolbox, "apply_diff", path="x", diff="@@ -2 +2 @@\n-two\n+zwö", encoding="latin-1")

    assert result == {"path": "x", "bytes_written": 6, "total_lines": 2}
    assert (root / "x").read_bytes() == "é\nzwö\n".encode("latin-1")
    assert (root / "x").stat().st_mode & 0o777 == 0o640


async def test_files_go_and_move(toolbox: Toolbox, root: Path) -> None:
    """Into folders that are made on demand."""
    (root / "a").write_text("a")
    moved = await run(toolbox, "move_file", source="a", destination="new/b", create_dirs=True)
    assert (moved, (root / "new/b").read_text()) == ({"source": "a", "destination": "new/b"}, "a")
    deleted = await run(toolbox, "delete_file", path="new/b")

    assert deleted == {"path": "new/b", "deleted": True}
    assert sorted(path.name for path in root.rglob("*")) == ["new"]


HOSTILE: dict[str, tuple[str, dict[str, Any]]] = {
    "delete outside": ("delete_file", {"path": "../outside"}),
    "delete by its absolute path": ("delete_file", {"path": "/etc/hostname"}),
    "delete a folder": ("delete_file", {"path": "folder"}),
    "delete the chat's folder": ("delete_file", {"path": "."}),
    "delete a link": ("delete_file", {"path": "link"}),
    "delete through a link": ("delete_file", {"path": "out/outside"}),
    "delete what is not there": ("delete_file", {"path": "nothing"}),
    "diff outside": ("apply_diff", {"path": "../outside", "diff": "@@ -1 +1 @@\n-kept\n+gone"}),
    "diff through a link": ("apply_diff", {"path": "out/outside", "diff": "@@ -1 +1 @@\n-kept\n+gone"}),
    "diff what is not there": ("apply_diff", {"path": "nothing", "diff": "@@ -0,0 +1 @@\n+new"}),
    "diff a folder": ("apply_diff", {"path": "folder", "diff": "@@ -0,0 +1 @@\n+new"}),
    "move from outside": ("move_file", {"source": "../outside", "destination": "mine"}),
    "move outside": ("move_file", {"source": "file", "destination": "../mine"}),
    "move through a link": ("move_file", {"source": "file", "destination": "out/mine"}),
    "move onto a file": ("move_file", {"source": "file", "destination": "folder/kept"}),
    "move onto a link": ("move_file", {"source": "file", "destination": "dangling"}),
    "move onto a folder": ("move_file", {"source": "file", "destination": "folder"}),
    "move into a folder": ("move_file", {"source": "file", "destination": "folder/"}),
    "move a folder": ("move_file", {"source": "folder", "destination": "other"}),
    "move a link": ("move_file", {"source": "link", "destination": "other"}),
    "move without the parent": ("move_file", {"source": "file", "destination": "none/file"}),
    "another argument": ("delete_file", {"path": "file", "recursive": True}),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_nothing_else_is_touched(toolbox: Toolbox, root: Path, name: str) -> None:
    """Neither outside of the folder, nor what is a folder or a link, nor what has the name already."""
    outside = root.parent / "outside"
    outside.write_text("kept\n")
    (root / "folder").mkdir()
    for path in ("file", "folder/kept"):
        (root / path).write_text("kept")
    (root / "link").symlink_to("file")
    (root / "out").symlink_to(root.parent)
    (root / "dangling").symlink_to("nowhere")
    tool, arguments = HOSTILE[name]
    before = sorted(str(path) for path in root.rglob("*"))

    with pytest.raises(ToolError):
        await run(toolbox, tool, **arguments)
    assert sorted(str(path) for path in root.rglob("*")) == before
    assert (outside.read_text(), (root / "file").read_text(), (root / "folder/kept").read_text()) == (
        "kept\n",
        "kept",
        "kept",
    )


async def test_a_person_sees_what_a_call_does(toolbox: Toolbox, root: Path) -> None:
    """The diff as it comes out, the file that goes, both names of one that moves; or that it cannot run."""
    (root / "x").write_text(TEXT)

    async def shown(tool: str, **arguments: Any) -> str:
        return "\n".join(text for text, _ in await describe(toolbox, Call("t", "c", tool, arguments)))

    diff = await shown("apply_diff", path="x", diff="@@ -77 +77 @@\n-three\n+3")
    assert "@@ -1,5 +1,5 @@" in diff
    assert "-three\n+3" in diff
    assert "Delete x, for good." in await shown("delete_file", path="./x")
    assert "Move x to y." in await shown("move_file", source="x", destination="y")
    assert "It cannot run: diff: hunk 1" in await shown("apply_diff", path="x", diff="@@ @@\n-six")


async def test_a_question_is_for_the_person(toolbox: Toolbox, person: Script) -> None:
    """Their answer is the result; where nobody is, or nobody answers, the model is told so."""
    from codelab.client.approvals import Question

    asked = msgspec.convert({"question": "Which?", "options": ["A", "B"]}, Question)

    assert await Approvals("all", person, toolbox).ask_for_answer(asked) == "A"
    with pytest.raises(ToolError, match="gave no answer"):
        await Approvals("ask", person, toolbox).ask_for_answer(Question("Which?"))
    with pytest.raises(ToolError, match="Nobody is there"):
        await Approvals("none", None, toolbox).ask_for_answer(asked)
