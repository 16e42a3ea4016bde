"""Unified diffs, applied strictly: every line that a hunk says is there has to be there, or nothing is changed.

Unlike ``patch`` no context is ignored. A hunk belongs where its old lines stand: at the line that it names, or, since
models miscount, at the one place in the file where they stand at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from codelab.client.tools.errors import ToolError

__all__ = ("apply",)

_HEADER = re.compile(r"@@(?: -(\d+)(?:,\d+)? \+\d+(?:,\d+)?)? ?@@")
#: What stands before the first hunk in the output of git and diff.
_PREAMBLE = re.compile(
    r"diff |index |(?:old|new) mode |(?:new|deleted) file mode |similarity |---(?: |$)|\+\+\+(?: |$)"
)
_NO_NEWLINE = "\\"


@dataclass
class _Hunk:
    """Lines of one hunk: a sign and the text of each, without line ends; ``start`` counts from 1."""

    number: int
    start: int | None
    lines: list[tuple[str, str]] = field(default_factory=list)
    #: Whether the diff says that the last line of the old, and of the new, lacks its line end.
    old_bare: bool = False
    new_bare: bool = False

    @property
    def old(self) -> list[str]:
        """Return what has to be there."""
        return [text for sign, text in self.lines if sign != "+"]


def apply(text: str, diff: str) -> str:
    """Return a text after all hunks of a diff; line ends are those of the text.

    Raises:
        ToolError: the diff cannot be read, or a hunk does not fit; the sentence says which and why.
    """
    lines = text.split("\n")
    ends = lines[-1] == ""
    if ends:
        lines.pop()
    carriage = "\r" if lines and sum(line.endswith("\r") for line in lines) * 2 > len(lines) else ""
    bare = [line.removesuffix("\r") for line in lines]
    new: list[str] = []
    done = 0
    for hunk in _parse(diff):
        at = _find(bare, hunk, done)
        new += lines[done:at]
        done = at
        for sign, said in hunk.lines:
            if sign == "+":
                new.append(said + carriage)
                continue
            if sign == " ":
                new.append(lines[done])
            done += 1
        if done == len(lines):
            ends = not hunk.new_bare if hunk.old_bare or hunk.new_bare else ends
    new += lines[done:]
    return "\n".join(new) + ("\n" if ends and new else "")


def _parse(diff: str) -> list[_Hunk]:
    lines = [line.removesuffix("\r") for line in diff.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    hunks: list[_Hunk] = []
    for number, line in enumerate(lines, start=1):
        if (header := _HEADER.match(line)) is not None:
            hunks.append(_Hunk(len(hunks) + 1, int(header[1]) if header[1] else None))
        elif not hunks:
            if line and _PREAMBLE.match(line) is None:
                raise ToolError(f"diff: line {number} comes before the first hunk, which begins with @@")
        else:
            _take(hunks[-1], line, number)
    if not hunks:
        raise ToolError("diff: has no hunk; each begins with a line such as @@ -12,3 +12,4 @@")
    for hunk in hunks:
        if all(sign == " " for sign, _ in hunk.lines):
            raise ToolError(f"diff: hunk {hunk.number} changes nothing")
    return hunks


def _take(hunk: _Hunk, line: str, number: int) -> None:
    sign, text = line[:1], line[1:]
    if sign == _NO_NEWLINE and hunk.lines:
        before = hunk.lines[-1][0]
        hunk.old_bare |= before != "+"
        hunk.new_bare |= before != "-"
    elif sign in {" ", "-", "+"}:
        hunk.lines.append((sign, text))
    elif not line:  # an empty line of context, whose space was lost
        hunk.lines.append((" ", ""))
    else:
        raise ToolError(f"diff: line {number} begins with none of space, -, + and @@; one diff is about one file")


def _find(lines: list[str], hunk: _Hunk, done: int) -> int:
    """Return the index of the line where a hunk begins."""
    old = hunk.old
    if not old:
        if lines:
            raise ToolError(f"diff: hunk {hunk.number} says nothing of where it belongs; give lines of context")
        return 0
    size = len(old)
    if hunk.start and hunk.start - 1 >= done and lines[hunk.start - 1 : hunk.start - 1 + size] == old:
        return hunk.start - 1
    found = [at for at in range(done, len(lines) - size + 1) if lines[at] == old[0] and lines[at : at + size] == old]
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(str(at + 1) for at in found[:5])
        fits = f"diff: hunk {hunk.number} fits at {len(found)} places (lines {places})"
        raise ToolError(f"{fits}; give more context, or the right line")
    raise ToolError(f"diff: hunk {hunk.number} does not fit{_nearest(lines, old, hunk, done)}; nothing was changed")


def _nearest(lines: list[str], old: list[str], hunk: _Hunk, done: int) -> str:
    """Say where a hunk stops to fit, at the place where most of it does."""
    best, at = 0, -1
    for start in range(done, len(lines)):
        same = 0
        while same < len(old) and start + same < len(lines) and lines[start + same] == old[same]:
            same += 1
        if same > best:
            best, at = same, start
    if not best and hunk.start and done <= hunk.start - 1 < len(lines):
        at = hunk.start - 1
    if at < 0:
        return f": its first line {old[0][:200]!r} is nowhere after line {done}"
    there = repr(lines[at + best][:200]) if at + best < len(lines) else "the end of the file"
    return f": it says {old[best][:200]!r} where line {at + best + 1} is {there}"
