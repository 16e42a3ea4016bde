from __future__ import annotations

import io

import pytest

from codelab.client.console import Console, diff_lines, escape_line, escape_prose


class TestEscape:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("rm -rf x\rls   ", "rm -rf x\\rls   "),
            ("ls\x1b[8m; rm", "ls\\x1b[8m; rm"),
            ("a\nb\tc", "a\\nb\\tc"),
            ("a\x7fb\x9bc", "a\\x7fb\\x9bc"),
            ("\u202eabc\u200b\u2066", "\\u202eabc\\u200b\\u2066"),
            ("a\u00a0b\u2028c", "a\\xa0b\\u2028c"),
            ("\U000e0041", "\\U000e0041"),
            ("\ud800", "\\ud800"),
            ("häh 日本 🎉", "häh 日本 🎉"),
        ],
    )
    def test_a_line_hides_nothing(self, text: str, shown: str) -> None:
        """Every character that is not plainly visible is spelled out."""
        assert escape_line(text) == shown

    def test_prose_keeps_its_lines_and_spaces(self) -> None:
        """Line ends, tabs, wide spaces and joiners stay; what drives a terminal does not."""
        assert escape_prose("a\r\n\tb\u00a0c 👩\u200d💻\x1b[2J\u202e") == "a\n\tb\u00a0c 👩\u200d💻\\x1b[2J\\u202e"


class TestDiff:
    def test_a_change(self) -> None:
        """A unified diff, with escape sequences spelled out."""
        lines = [line for line, _ in diff_lines("a.py", "one\ntwo\n", "one\n2\x1b[0m\n")]

        assert lines == ["--- a/a.py", "+++ b/a.py", "@@ -1,2 +1,2 @@", " one", "-two", "+2\\x1b[0m"]

    def test_a_new_file(self) -> None:
        """It comes from nowhere; a missing last line end is told."""
        lines = [line for line, _ in diff_lines("a.py", None, "x = '\\t'\n\ty")]

        assert lines[0] == "--- /dev/null"
        assert lines[3:] == ["+x = '\\t'", "+\ty", "\\ No newline at end of file"]

    def test_a_changed_line_end_shows(self) -> None:
        """CRLF and LF are not the same."""
        assert ("+a\\r", "green") in list(diff_lines("a", "a\n", "a\r\n"))

    def test_a_very_long_diff_says_what_it_leaves_out(self) -> None:
        """Nothing is left out silently."""
        lines = list(diff_lines("a", None, "x\n" * 5_000))

        assert "3003 more lines are not shown" in lines[-1][0]


class TestConsole:
    def test_a_pipe_gets_plain_text(self) -> None:
        """No colours and no wrapping where there is no terminal."""
        answers, notes = io.StringIO(), io.StringIO()
        console = Console(answers=answers, notes=notes)
        console.answer("hi ")
        console.error("x " * 200)
        console.answer("there")
        console.end_answer()

        assert answers.getvalue() == "hi there\n"
        assert notes.getvalue() == "x " * 200 + "\n"

    def test_a_note_begins_its_own_line(self) -> None:
        """Where answers and notes share a terminal, a note does not land behind half an answer."""
        both = io.StringIO()
        console = Console(answers=both, notes=both)
        console.answer("half")
        console.note("a\x1bb")

        assert both.getvalue() == "half\na\\x1bb\n"

    def test_nothing_is_printed_into_an_open_question(self) -> None:
        """What comes meanwhile is printed afterwards, in order."""
        both = io.StringIO()
        console = Console(answers=both, notes=both)
        console.hold()
        console.answer("one")
        console.note("two")
        console.block([("question", "")])
        held = both.getvalue()
        console.release()

        assert held == "question\n"
        assert both.getvalue() == "question\none\ntwo\n"


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestThoughts:
    def test_dimmed_on_a_terminal(self) -> None:
        """They stand apart from the answer, in lines of their own, and cannot drive the terminal."""
        screen = _Screen()
        console = Console(answers=screen, notes=screen)
        console.thought("Let me see")
        console.thought("\x1b[2J.")
        console.answer("Yes.")
        console.end_answer()

        assert screen.getvalue() == "\x1b[2mLet me see\x1b[0m\x1b[2m\\x1b[2J.\x1b[0m\nYes.\n"

    def test_not_in_a_pipe(self) -> None:
        """What a script reads is the answer alone."""
        pipe = io.StringIO()
        console = Console(answers=pipe, notes=io.StringIO())
        console.thought("Let me see.")
        console.answer("Yes.")

        assert pipe.getvalue() == "Yes."
