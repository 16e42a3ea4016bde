"""search_in_code: find text in the files of the folder.

A regular expression of a model can take for ever, and ``re`` does not let go of the interpreter meanwhile. So they
run in a process of their own (``python -m codelab.client.tools.search``), which is killed after ``TIME_LIMIT``.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from codelab.client.tools.errors import ToolError
from codelab.client.tools.files import MAX_TEXT
from codelab.client.tools.paths import Folder, explain, is_sensitive, printable_path

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("TIME_LIMIT", "SearchInCode", "search_in_code", "search_in_process")

#: Seconds for one search; what was found until then is the result.
TIME_LIMIT = 30.0
#: Bytes of a file that is searched; larger ones are passed over.
MAX_FILE = 8 * 1024 * 1024
#: Characters of a matching line that are shown.
MAX_LINE = 500
MAX_RESULTS = 1_000
#: Folders of tools and dependencies, which drown the matches of the project.
PASSED_OVER = frozenset({".git", ".hg", ".svn", ".venv", "__pycache__", "node_modules"})


class SearchInCode(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``search_in_code``; ``file_pattern`` is a glob of names, or of paths when it holds ``/``."""

    query: Annotated[str, msgspec.Meta(min_length=1)]
    path: str = "."
    file_pattern: str | None = None
    case_sensitive: bool = False
    regex: bool = False
    max_results: Annotated[int, msgspec.Meta(ge=1)] = 100


def search_in_code(folder: Folder, args: SearchInCode) -> dict[str, Any]:
    """Search text files line by line; binary files and files of secrets are passed over."""
    place = folder.resolve(args.path)
    try:
        found = re.compile(
            args.query if args.regex else re.escape(args.query), 0 if args.case_sensitive else re.IGNORECASE
        )
    except (re.error, RecursionError, OverflowError) as error:
        raise ToolError(f"query: is not a regular expression: {error}") from None
    limit = min(args.max_results, MAX_RESULTS)
    deadline = time.monotonic() + TIME_LIMIT
    matches: list[dict[str, Any]] = []
    room, truncated = MAX_TEXT, False
    for path, number, line in _lines(folder, place.real, place.parts, args):
        if time.monotonic() > deadline:
            truncated = True
            break
        if not found.search(line):
            continue
        text = line if len(line) <= MAX_LINE else line[:MAX_LINE] + "…"
        room -= len(path.encode()) + len(text.encode()) + 32
        if len(matches) == limit or room < 0:
            truncated = True
            break
        matches.append({"path": path, "line": number, "text": text})
    return {"query": args.query, "matches": matches, "truncated": truncated}


async def search_in_process(folder: Folder, args: SearchInCode, env: dict[str, str]) -> dict[str, Any]:
    """Search in a process of its own, killed when the time is over or the task is cancelled."""
    import asyncio

    request = msgspec.json.encode({"root": folder.root, "data": folder.data, "args": args})
    # -P and the neutral folder: nothing that lies in the person's folder is ever imported.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "codelab.client.tools.search",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
        env=env,
        start_new_session=True,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(request), TIME_LIMIT + 5)
        answer = msgspec.json.decode(output)
    except TimeoutError:
        raise ToolError(f"query: the expression took longer than {TIME_LIMIT:.0f} s; use a simpler one") from None
    except msgspec.DecodeError:
        raise ToolError("search_in_code: the search process failed") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if "error" in answer:
        raise ToolError(str(answer["error"]))
    return dict(answer["result"])


def _lines(folder: Folder, real: str, parts: tuple[str, ...], args: SearchInCode) -> Iterator[tuple[str, int, str]]:
    place = folder.resolve(args.path)
    try:
        is_directory = stat.S_ISDIR(os.lstat(real).st_mode)
    except OSError as error:
        raise explain(args.path, error) from None
    if is_directory:
        with folder.open_directory(place) as descriptor:
            yield from _below(folder, descriptor, parts, args)
    elif not place.sensitive:
        with folder.open_file(place) as file:
            yield from _numbered(file, place.shown)


def _below(
    folder: Folder, descriptor: int, parts: tuple[str, ...], args: SearchInCode
) -> Iterator[tuple[str, int, str]]:
    try:
        with os.scandir(descriptor) as scanned:
            found = sorted(scanned, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in found:
        path = (*parts, entry.name)
        if entry.name in PASSED_OVER or is_sensitive(path):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                opened, is_file = folder.enter(descriptor, entry.name), False
            elif entry.is_file(follow_symlinks=False) and _wanted(args.file_pattern, entry.name, "/".join(path)):
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                opened, is_file = os.open(entry.name, flags, dir_fd=descriptor), True
            else:
                continue
        except (OSError, ToolError):
            continue
        try:
            if is_file:
                yield from _numbered(opened, printable_path("/".join(path)))
            else:
                yield from _below(folder, opened, path, args)
        finally:
            os.close(opened)


def _numbered(descriptor: int, path: str) -> Iterator[tuple[str, int, str]]:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE:
        return
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read(MAX_FILE + 1)
    if b"\0" in data[:8192]:
        return
    for number, line in enumerate(data.split(b"\n"), start=1):
        yield path, number, line.removesuffix(b"\r").decode("utf-8", "replace")


def _wanted(pattern: str | None, name: str, path: str) -> bool:
    return pattern is None or fnmatchcase(path if "/" in pattern else name, pattern)


def _main() -> None:
    class Request(msgspec.Struct):
        root: str
        data: str
        args: SearchInCode

    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    try:
        answer: dict[str, Any] = {"result": search_in_code(Folder(request.root, request.data), request.args)}
    except ToolError as error:
        answer = {"error": str(error)}
    sys.stdout.buffer.write(msgspec.json.encode(answer))


if __name__ == "__main__":
    _main()
