"""Lines of servers, however their pieces come."""

from __future__ import annotations

import pytest

from codelab.mcpclient.lines import EDGE, PATIENCE, Endless, Lines, TooLong

MOST = 1000
LONG = b"x" * (2 * MOST)


def cut(raw: bytes, size: int) -> list[bytes | TooLong]:
    """Give bytes in pieces of a size, and return the lines."""
    lines = Lines(MOST)
    return [line for at in range(0, len(raw), size) for line in lines.add(raw[at : at + size])]


@pytest.mark.parametrize("size", [1, 7, 300, 1000, 1001, 100_000])
def test_lines_are_whole_or_too_long(size: int) -> None:
    """Exactly as many bytes as allowed are not too many, and what follows a line that is too long is read."""
    raw = b"one\n\n" + b"y" * MOST + b"\n" + LONG + b"\ntwo\n" + b"y" * (MOST + 1) + b"\nthree\nrest"

    assert cut(raw, size) == [b"one", b"", b"y" * MOST, TooLong(None), b"two", TooLong(None), b"three"]


@pytest.mark.parametrize("size", [1, 300, 100_000])
@pytest.mark.parametrize(
    ("head", "tail", "found"),
    [
        (b'{"jsonrpc":"2.0","id":5,"result":"', b'"}', 5),
        (b'{ "id" : 6, "jsonrpc": "2.0", "result": "', b'"}', 6),
        (b'{"result":"', b'"},"jsonrpc":"2.0","id":7}', 7),
        (b'{"result":"', b'"}, "id": 8, "jsonrpc": "2.0" }\r', 8),
        (b'{"jsonrpc":"2.0","method":"x","params":{"id":9,"a":"', b'"}}', None),
        (b'{"jsonrpc":"2.0","id":"ten","result":"', b'"}', None),
    ],
)
def test_what_a_line_answers_is_found_at_its_ends(size: int, head: bytes, tail: bytes, found: int | None) -> None:
    """Where libraries write it, in a line of any length."""
    assert cut(head + LONG + tail + b"\n", size) == [TooLong(found)]


def test_a_line_without_an_end_is_not_kept() -> None:
    """Only its ends are, until that is enough."""
    lines = Lines(MOST)
    for _ in range(PATIENCE):
        assert not list(lines.add(b"x" * MOST))
        assert len(lines._buffer) <= MOST + EDGE
    with pytest.raises(Endless):
        list(lines.add(b"x" * 2 * MOST))
