"""Whether a project's servers may be started: the person is asked once for each content of its file."""

from __future__ import annotations

import hashlib
import shlex
import time
from typing import TYPE_CHECKING, Any

import msgspec

from codelab.client.console import escape_line
from codelab.client.state import hold_lock_async, read_private_json, write_private

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from codelab.mcpclient import StdioServer

__all__ = ("Consents", "describe")

#: Files remembered in `mcp.json`; the oldest are forgotten.
MAX_REMEMBERED = 500


class Consents:
    """Remember what the person said about files of servers, in ``mcp.json`` of the data folder."""

    def __init__(self, data: Path) -> None:
        self._path = data / "mcp.json"
        self._lock = data / "mcp.lock"

    def find(self, path: Path, raw: bytes) -> bool | None:
        """Tell what was said about a file with this very content; ``None``: nothing."""
        entry = self._read().get(str(path))
        if not isinstance(entry, dict) or entry.get("sha256") != _digest(raw):
            return None
        allowed = entry.get("allowed")
        return allowed if isinstance(allowed, bool) else None

    async def remember(self, path: Path, raw: bytes, *, allowed: bool) -> None:
        """Keep what was said about a file, in the place of what was said about its earlier content."""
        async with hold_lock_async(self._lock):
            entries = {key: value for key, value in self._read().items() if isinstance(value, dict)}
            entries[str(path)] = {"sha256": _digest(raw), "allowed": allowed, "at": time.time()}
            newest = sorted(entries.items(), key=lambda item: float(item[1].get("at") or 0))[-MAX_REMEMBERED:]
            write_private(self._path, msgspec.json.encode(dict(newest)))

    def _read(self) -> dict[str, Any]:
        found = read_private_json(self._path)
        return found if isinstance(found, dict) else {}


def describe(path: Path, servers: Sequence[StdioServer]) -> list[tuple[str, str]]:
    """Describe what a file would start, whole and as escaped lines: nothing can hide in it."""
    lines = [(escape_line(f"{path} names MCP servers. They would run on this machine, as you:"), "bold yellow")]
    for server in servers:
        lines.append((f"  {server.name}: {escape_line(shlex.join([server.command, *server.args]))}", "bold"))
        if server.cwd != str(path.parent):
            lines.append((f"    in {escape_line(server.cwd)}", "yellow"))
        lines += [(f"    with {escape_line(f'{name}={value}')}", "yellow") for name, value in server.env.items()]
    return [*lines, ("Say yes only if you trust this folder. You are asked again when the file changes.", "")]


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
