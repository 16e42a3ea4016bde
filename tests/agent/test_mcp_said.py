"""What MCP servers say on stderr: in the log, in bounds, without the secrets that their file gives them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from codelab.agent.mcp.stdio.said import MAX_LINE, MAX_LINES, Said
from codelab.mcpclient import StdioServer

if TYPE_CHECKING:
    import pytest

KEY = "-----BEGIN KEY-----\nMIIBVgIBADANBg\nkqhkiG9w0BAQEFAASC\n-----END KEY-----"


def hear(caplog: pytest.LogCaptureFixture, *pieces: bytes, **env: str) -> list[str]:
    """Return the lines of the log that pieces of stderr lead to."""
    caplog.set_level(logging.INFO)
    said = Said(StdioServer("tests", "any", (), env, "/"))
    for piece in pieces:
        said.hear(piece)
    said.end()
    return [record.getMessage().removeprefix("the MCP server tests ") for record in caplog.records]


def test_lines_are_put_together_from_pieces(caplog: pytest.LogCaptureFixture) -> None:
    """However they come; empty ones are left out, and the last one needs no end."""
    assert hear(caplog, b"on", b"e\n\n  \ntw", b"o\nthr", b"ee") == ["says: one", "says: two", "says: three"]


def test_secrets_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Whole and in pieces, of several lines, one that holds another, and where a line is cut."""
    pieces = (b"a s3cret", b"-token and s3cret-\n", KEY.encode() + b"\n", b"x" * (MAX_LINE - 4) + b"s3cret-token\n")
    lines = hear(caplog, *pieces, A="s3cret-token", B="s3cret", C=KEY, D="on")

    assert lines[0] == "says: a [A] and [B]-"
    assert lines[1:5] == ["says: [C]"] * 4
    assert lines[5] == f"says: {'x' * (MAX_LINE - 4)}[A]"
    assert not [line for line in lines if "s3cr" in line or "MII" in line]


def test_a_flood_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    """So many lines of so many characters, without what terminals obey, and how many there were beyond."""
    lines = hear(caplog, b"\x1b[31m\xff" + b"y" * 10_000_000 + b"\n", b"no\n" * 1000, b"no\n" * 1000)

    assert lines[0] == "says: [31m\ufffd" + "y" * (MAX_LINE - 6)
    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == f"said {2001 - MAX_LINES} more lines"
