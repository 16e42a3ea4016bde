"""Paths as rules see them: plain ones for what allows, every reading of a dressed-up one for what denies or asks.

The server does not see the client's file system: symbolic links, hard links and mount points are not known here. The
client keeps its tools inside the project folder.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from codelab.agent.policy.folding import fold, is_plain_text

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Reading", "allows_path", "forbids_path", "may_reach", "read_path", "split_pattern", "why_not_plain")

#: Characters of a path that is still read; a longer one is taken for whatever is denied.
MAX_PATH = 4096
#: A drive or a URL's scheme before a name, which leads to a root: C:secrets, file:secrets.
_ROOT = re.compile(r"(?:^|(?<=/))(?:(?:[a-z]|file):)+")
#: The short names that Windows makes, such as SECRET~1.TXT.
_SHORT = re.compile(r"([^~/]{1,8})~[0-9]{1,6}(\.[^./]{0,3})?")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$|clock\$)(?:\..*)?", re.IGNORECASE)
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")


class Reading(NamedTuple):
    """One thing that a path may mean; ``anywhere`` when it may begin above the project folder."""

    parts: tuple[str, ...]
    anywhere: bool


def why_not_plain(path: str) -> str | None:
    """Say why a path is not a plain one from the project folder, as ``src/app.py`` or ``.`` is; None: it is."""
    if path == ".":
        return None
    parts = path.split("/")
    checks = (
        (not path or len(path) > MAX_PATH, "is empty or too long"),
        (not is_plain_text(path), "has characters with other spellings, or unseen ones"),
        ("\\" in path, "has a backslash"),
        (":" in path, "has a colon"),
        (any(part in {"", ".", ".."} for part in parts), "is absolute, or has an empty part, . or .."),
        (any(part != part.strip(" ") or part.endswith(".") for part in parts), "has a dot or space at an end"),
        (any(part.startswith("~") or _SHORT.fullmatch(part) for part in parts), "has a ~ that something may expand"),
        (_ESCAPE.search(path) is not None, "has a percent escape"),
        (any(_DEVICE.fullmatch(part) for part in parts), "names a device of Windows"),
    )
    return next((reason for wrong, reason in checks if wrong), None)


def read_path(path: str) -> tuple[Reading, ...] | None:
    """Return everything that a path may mean, folded; None when it is too long to tell."""
    if len(path) > MAX_PATH:
        return None
    texts = set(_folds(path))
    for _ in range(3):  # escaped escapes, and what they make
        texts |= {form for text in tuple(texts) if "%" in text for form in _folds(unquote(text))}
    return tuple(dict.fromkeys(reading for text in sorted(texts) for reading in _places(text)))


def allows_path(pattern: str, path: str, *, itself: bool, exact: bool) -> bool:
    """Tell whether an allow covers a plain path; ``itself`` when ``src/**`` is to cover ``src`` as well."""
    if exact:
        return path == pattern
    wanted, parts = pattern.split("/"), () if path == "." else tuple(path.split("/"))
    if pattern == ".":
        return not parts
    if not itself and wanted[-1] == "**" and len(wanted) > 1:
        wanted.append("*")
    return len(wanted) in _positions(tuple(wanted), parts, folded=False)


def forbids_path(pattern: str, reading: Reading) -> bool:
    """Tell whether a deny or an ask covers a place; ``secrets/**`` covers ``secrets`` as well."""
    wanted = split_pattern(pattern, anywhere=reading.anywhere)
    return len(wanted) in _positions(wanted, reading.parts, folded=True)


def may_reach(pattern: str, reading: Reading) -> bool:
    """Tell whether something below a place may be covered: whoever walks there would come to it."""
    wanted = split_pattern(pattern, anywhere=reading.anywhere)
    return any(position < len(wanted) for position in _positions(wanted, reading.parts, folded=True))


@lru_cache(maxsize=4096)
def split_pattern(pattern: str, *, anywhere: bool) -> tuple[str, ...]:
    """Return the folded parts of a pattern; of a path that may begin anywhere the end is compared."""
    folded = fold(pattern)
    parts = () if folded == "." else tuple(folded.split("/"))
    return ("**", *(part for part in parts if part)) if anywhere else parts


def _folds(text: str) -> Iterator[str]:
    yield fold(text)
    if "\0" in text:  # where programs in C stop reading
        yield fold(text.partition("\0")[0])


def _places(text: str) -> Iterator[Reading]:
    text = text.replace("\\", "/")
    yield from _resolve(text, anywhere=text.startswith(("/", "~")))
    if (rooted := _ROOT.sub("/", text)) != text:
        yield from _resolve(rooted, anywhere=True)


def _resolve(text: str, *, anywhere: bool) -> Iterator[Reading]:
    parts = [part for part in map(_clean, text.split("/")) if part != "."]
    if ".." not in parts:
        yield Reading(tuple(parts), anywhere)
        return
    stack: list[str] = []
    for part in parts:
        if part == "..":
            del stack[-1:]
        else:
            stack.append(part)
    yield Reading(tuple(stack), anywhere=True)
    # Behind a link the parent is not the part before.
    yield Reading(tuple(part for part in parts if part != ".."), anywhere=True)


def _clean(part: str) -> str:
    """Drop what Windows drops from a name: streams behind a colon, dots and spaces at its end."""
    name = part.partition(":")[0]
    if cleaned := name.rstrip(". ").lstrip(" "):
        return cleaned
    return ".." if name.count(".") > 1 else "."


def _positions(pattern: tuple[str, ...], parts: tuple[str, ...], *, folded: bool) -> set[int]:
    """Return how much of the pattern may be used up after all parts; the length of the pattern is a match."""
    positions = _pass_over(pattern, {0})
    for part in parts:
        positions = _pass_over(
            pattern,
            {
                position + (pattern[position] != "**")
                for position in positions
                if position < len(pattern)
                and (pattern[position] == "**" or _same(pattern[position], part, folded=folded))
            },
        )
        if not positions:
            break
    return positions


def _pass_over(pattern: tuple[str, ...], positions: set[int]) -> set[int]:
    found = set(positions)
    for position in positions:
        after = position
        while after < len(pattern) and pattern[after] == "**":
            after += 1
            found.add(after)
    return found


def _same(pattern: str, part: str, *, folded: bool) -> bool:
    if fnmatchcase(part, pattern):
        return True
    short = _SHORT.fullmatch(part) if folded else None
    return short is not None and pattern.lstrip(".").replace(" ", "").startswith(short[1][:2])
