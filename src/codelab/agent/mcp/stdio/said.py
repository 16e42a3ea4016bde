"""What servers say on stderr, in this server's log: lines in bounds, and none of the secrets of the file."""

from __future__ import annotations

import logging
import time
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codelab.mcpclient.file import StdioServer

__all__ = ("Said",)

logger = logging.getLogger(__name__)

#: Characters of a line, and lines at once and in a minute; what is beyond is counted.
MAX_LINE, MAX_LINES = 500, 30
MINUTE = 60.0
#: Characters from which on a value of the file's ``env`` is taken for a secret.
SECRET = 6


class Said:
    """Log what one run of a server says."""

    def __init__(self, server: StdioServer) -> None:
        self._name = server.name
        parts = [(part, f"[{name}]") for name, value in server.env.items() for part in value.splitlines()]
        # The longest first: one may be a part of another.
        self._secrets = sorted((one for one in parts if len(one[0]) >= SECRET), key=lambda one: -len(one[0]))
        # A secret may begin where what is shown ends: there is room for the whole of it.
        self._most = 4 * (MAX_LINE + max((len(part) for part, _ in self._secrets), default=0))
        self._line = bytearray()
        self._left = MAX_LINES
        self._unsaid = 0
        self._since = time.monotonic()

    def hear(self, piece: bytes) -> None:
        """Take a piece as it came, with any number of lines or a part of one."""
        at = time.monotonic()
        if at - self._since >= MINUTE:
            self._tell_unsaid()
            self._since, self._left = at, MAX_LINES
        if not self._left:  # a flood costs no more than to count it
            self._line.clear()
            self._unsaid += piece.count(b"\n")
            return
        *ended, rest = piece.split(b"\n")
        for line in ended:
            self._add(line)
            self._flush()
        self._add(rest)

    def end(self) -> None:
        """Log what is left when nothing comes any more."""
        self._flush()
        self._tell_unsaid()

    def _add(self, part: bytes) -> None:
        self._line += part[: self._most - len(self._line)]

    def _flush(self) -> None:
        line, self._line = bytes(self._line), bytearray()
        if not line.strip():
            return
        if not self._left:
            self._unsaid += 1
            return
        self._left -= 1
        logger.info("the MCP server %s says: %s", self._name, self._clean(line.decode("utf-8", "replace")))

    def _tell_unsaid(self) -> None:
        if self._unsaid:
            logger.info("the MCP server %s said %d more lines", self._name, self._unsaid)
            self._unsaid = 0

    def _clean(self, line: str) -> str:
        for value, shown in self._secrets:
            line = line.replace(value, shown)
        return "".join(c if unicodedata.category(c)[0] != "C" else " " for c in line[:MAX_LINE]).strip()
