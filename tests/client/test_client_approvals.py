from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from codelab.client.approvals import Approvals, Call, Decision, describe

if TYPE_CHECKING:
    from pathlib import Path

    from codelab.client.tools.toolbox import Toolbox
    from tests.client.conftest import Script

CALL = Call("t1", "c1", "write_file", {"path": "a.txt", "content": "a"})


async def shown(toolbox: Toolbox, tool: str, arguments: Any) -> str:
    """Describe a call; returns the text."""
    return "\n".join(text for text, _ in await describe(toolbox, Call("t", "c", tool, arguments)))


class TestMemory:
    @pytest.mark.parametrize(
        "other",
        [
            {"arguments": {"path": "a.txt", "content": "b"}},
            {"tool": "create_directory"},
            {"call_id": "c2"},
            {"turn_id": "t2"},
        ],
    )
    def test_only_exactly_what_was_allowed_is(self, toolbox: Toolbox, other: dict[str, Any]) -> None:
        """Another tool, argument, call or turn is not covered."""
        approvals = Approvals("ask", None, toolbox)
        approvals.grant(CALL)

        assert not approvals.holds(msgspec.structs.replace(CALL, **other))
        assert approvals.holds(msgspec.structs.replace(CALL, arguments={"content": "a", "path": "a.txt"}))

    def test_one_yes_serves_once(self, toolbox: Toolbox) -> None:
        """A permission is spent by its use, also by an attempt with other arguments."""
        approvals = Approvals("ask", None, toolbox)
        approvals.grant(CALL)

        assert approvals.take(CALL)
        assert not approvals.take(CALL)
        approvals.grant(CALL)
        assert not approvals.take(msgspec.structs.replace(CALL, arguments={}))
        assert not approvals.take(CALL)

    def test_a_turn_that_ended_leaves_no_permission(self, toolbox: Toolbox) -> None:
        """A call id that comes again later finds nothing."""
        approvals = Approvals("ask", None, toolbox)
        approvals.grant(CALL)
        approvals.forget("t1")

        assert not approvals.holds(CALL)

    async def test_one_question_at_a_time(self, toolbox: Toolbox, person: Script) -> None:
        """A person is never asked two things at once."""
        open_questions = 0

        async def answer() -> Decision:
            nonlocal open_questions
            open_questions += 1
            assert open_questions == 1
            await asyncio.sleep(0)
            open_questions -= 1
            return Decision("approve")

        person.answers = [answer, answer, answer]
        approvals = Approvals("ask", person, toolbox)
        await asyncio.gather(*(approvals.ask(CALL) for _ in range(3)))

        assert len(person.asked) == 3

    @pytest.mark.parametrize(("mode", "kind"), [("all", "approve"), ("none", "reject")])
    async def test_the_modes_ask_nobody(self, toolbox: Toolbox, person: Script, mode: Any, kind: str) -> None:
        """``--approve`` answers in the person's place."""
        assert (await Approvals(mode, person, toolbox).ask(CALL)).kind == kind
        assert person.asked == []


class TestDescribe:
    async def test_a_write_shows_its_diff_and_its_backup(self, toolbox: Toolbox, root: Path) -> None:
        """The person sees what changes and what is kept."""
        (root / "a.txt").write_text("old\n")
        text = await shown(toolbox, "write_file", {"path": "./a.txt", "content": "new\n"})

        assert "-old\n+new" in text
        assert "kept as a.txt.bak" in text

    async def test_a_write_through_a_link_names_what_it_changes(self, toolbox: Toolbox, root: Path) -> None:
        """The real file is told."""
        (root / "real.txt").write_text("old\n")
        (root / "link.txt").symlink_to("real.txt")

        assert "link.txt is real.txt" in await shown(toolbox, "write_file", {"path": "link.txt", "content": ""})

    async def test_a_command_shows_every_character(self, toolbox: Toolbox) -> None:
        """No control character hides a part of it, and how it runs is told."""
        command = "ls\r\x1b[1A; rm -rf x \u202e\nsecond\tline"
        text = await shown(toolbox, "execute_command", {"command": command, "shell": True, "timeout": 9999})

        assert "  $ ls\\r\\x1b[1A; rm -rf x \\u202e\n  > second\\tline" in text
        assert "by the shell, for at most 300 s" in text

    @pytest.mark.parametrize(
        ("tool", "arguments", "reason"),
        [
            ("write_file", {"path": "../x", "content": ""}, "outside the folder"),
            ("create_directory", {"path": "/x"}, "outside the folder"),
            ("execute_command", {"command": "ls", "nonsense": 1}, "unknown field"),
            ("execute_command", {"command": "ls", "cwd": ".."}, "outside the folder"),
            ("delete_everything", {"path": "\x1b"}, "no such tool"),
        ],
    )
    async def test_what_cannot_run_says_so(
        self, toolbox: Toolbox, tool: str, arguments: dict[str, Any], reason: str
    ) -> None:
        """The person learns that a yes would lead nowhere."""
        text = await shown(toolbox, tool, arguments)

        assert "It cannot run" in text
        assert reason in text
        assert "\x1b" not in text

    async def test_a_file_that_is_no_text_can_still_be_decided_about(self, toolbox: Toolbox, root: Path) -> None:
        """A binary file has no diff; that is said."""
        (root / "a.bin").write_bytes(b"\xff\xfe")

        assert "cannot be shown" in await shown(toolbox, "write_file", {"path": "a.bin", "content": "x"})
