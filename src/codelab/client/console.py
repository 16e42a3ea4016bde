"""What the chat prints: answers, notes and diffs, with every control character made visible."""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console as RichConsole

__all__ = ("Console", "diff_lines", "escape_line", "escape_prose")

#: Lines of one diff that are shown; the editor shows the rest.
MAX_DIFF = 2_000

# U+200C and U+200D join letters and emoji in ordinary text.
_PROSE = "\n\t\u200c\u200d"


def escape_prose(text: str) -> str:
    """Make control and invisible characters of running text visible, so that it cannot drive the terminal.

    Line ends, tabs and all kinds of spaces stay; a carriage return is dropped.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in _PROSE or (char.isspace() and char > "\x9f") else _escaped(char)
        for char in text.replace("\r", "")
    )


def escape_line(text: str) -> str:
    """Make every character visible that is not printable, line ends included: nothing can hide in the line."""
    return text if text.isprintable() else "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if char in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[char]
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def diff_lines(path: str, old: str | None, new: str) -> Iterator[tuple[str, str]]:
    """Yield a unified diff as pairs of line and style."""
    name = escape_line(path)
    before = "/dev/null" if old is None else f"a/{name}"
    # Split at "\n" only: other line ends must show up as what they are.
    lines = difflib.unified_diff(_split(old or ""), _split(new), before, f"b/{name}", lineterm="")
    styles = {"+": "green", "-": "red", "@": "cyan"}
    shown = 0
    for line in lines:
        shown += 1
        if shown > MAX_DIFF:
            continue
        style = "bold" if shown <= 2 else styles.get(line[:1], "")
        end = "" if line.endswith("\n") or shown <= 2 or line.startswith("@") else "\n\\ No newline at end of file"
        body = line.removesuffix("\n")
        yield line[:1] + "\t".join(escape_line(part) for part in body[1:].split("\t")), style
        if end:
            yield end.strip("\n"), "dim"
    if shown > MAX_DIFF:
        yield f"… {shown - MAX_DIFF} more lines are not shown; answer `edit` to see all of them", "bold yellow"


def _split(text: str) -> list[str]:
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


class Console:
    """Print answers to one stream and everything else to another; colours only on a terminal."""

    def __init__(self, *, answers: TextIO | None = None, notes: TextIO | None = None) -> None:
        """Prepare; ``answers=None`` prints no answers (``--json``)."""
        self._answers = answers
        self._notes = sys.stderr if notes is None else notes
        self._rich: RichConsole | None = None
        self._held: list[Callable[[], None]] | None = None
        self._open = False
        self._thinking = False
        same = answers is not None and (self._notes is answers or (self._notes.isatty() and answers.isatty()))
        #: Whether a note would land behind an answer that is still being printed.
        self._shared = same

    def answer(self, text: str) -> None:
        """Print more of an answer at once."""
        if text and self._answers is not None:
            self._do(lambda: self._say(escape_prose(text)))

    def thought(self, text: str) -> None:
        """Print more of what the model thinks, dimmed; only where answers go to a terminal."""
        if text and self._answers is not None and self._answers.isatty():
            self._do(lambda: self._think(escape_prose(text)))

    def end_answer(self) -> None:
        """End the line of an answer."""
        self._do(self._break)

    def note(self, text: str, style: str = "dim") -> None:
        """Print one line about what happens."""
        self._do(lambda: self._line(escape_line(text), style))

    def error(self, text: str) -> None:
        """Print one line about what went wrong."""
        self.note(text, "red")

    def block(self, lines: list[tuple[str, str]]) -> None:
        """Print lines, already escaped, with their styles, at once even while a question is open."""
        for text, style in lines:
            self._line(text, style)

    def hold(self) -> None:
        """Keep back what is printed, while a question is open."""
        self._held = []

    def release(self) -> None:
        """Print what was kept back."""
        held, self._held = self._held or [], None
        for action in held:
            action()

    def _do(self, action: Callable[[], None]) -> None:
        if self._held is None:
            action()
        else:
            self._held.append(action)

    def _say(self, text: str) -> None:
        if self._thinking:
            self._break()
        self._write(text)

    def _think(self, text: str) -> None:
        self._write(f"\x1b[2m{text}\x1b[0m")
        self._open = not text.endswith("\n")
        self._thinking = True

    def _write(self, text: str) -> None:
        if self._answers is not None:
            self._answers.write(text)
            self._answers.flush()
            self._open = not text.endswith("\n")

    def _break(self) -> None:
        if self._open:
            self._write("\n")
        self._thinking = False

    def _line(self, text: str, style: str) -> None:
        from rich.console import Console as RichConsole
        from rich.text import Text

        if self._shared:
            self._break()
        if self._rich is None:
            self._rich = RichConsole(file=self._notes, highlight=False, markup=False, emoji=False)
        # soft_wrap: the terminal wraps; a line in a file or a pipe stays one line.
        self._rich.print(Text(text, style=style), soft_wrap=True)
