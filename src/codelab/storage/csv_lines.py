r"""Rows between the lines of JSON that are portable and the CSV of PostgreSQL's COPY, a batch at once.

With ``QUOTE '"' ESCAPE '\' NULL 'null'`` the CSV of a row is its line of JSON without the brackets, but for control
characters, which JSON escapes and CSV takes as they are. So a batch is changed by a few replacements, and no value is
looked at by itself.
"""

from __future__ import annotations

import re

__all__ = ("ROW_END", "csv_of_lines", "lines_of_csv")

#: An empty last field and the line end: no text can hold it, since a quote within a text stands behind a backslash.
ROW_END = b',""\n'

#: What may stand for something else for a while: no line of JSON and no text of PostgreSQL holds it.
_MARK = b"\x00"
_SHORT = ((b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t"), (b"\b", b"\\b"), (b"\f", b"\\f"))
_OTHERS = bytes(range(1, 8)) + b"\x0b" + bytes(range(14, 32))
_OTHER = re.compile(b"[" + re.escape(_OTHERS) + b"]")
_RARE = re.compile(rb"\\[rtbfu]")
_ESCAPED = re.compile(rb"\\u00(0[1-9a-f]|1[0-9a-f])")


def csv_of_lines(lines: list[bytes]) -> bytes:
    """Write lines of JSON, each an array without white space, as CSV."""
    data = b"\n".join([line[1:-1] for line in lines]) + b"\n"
    if b"\\" not in data:
        return data
    data = data.replace(b"\\\\", _MARK).replace(b"\\n", b"\n")
    if _RARE.search(data):
        for raw, escaped in _SHORT:
            data = data.replace(escaped, raw)
        data = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), data)
    return data.replace(_MARK, b"\\\\")


def lines_of_csv(data: bytes) -> list[bytes]:
    """Write rows of CSV, each with ``ROW_END``, as lines of JSON, with the escapes that msgspec writes."""
    data = data.removesuffix(ROW_END).replace(ROW_END, _MARK)
    for raw, escaped in _SHORT:
        data = data.replace(raw, escaped)
    if len(data.translate(None, _OTHERS)) != len(data):
        data = _OTHER.sub(lambda match: b"\\u%04x" % ord(match[0]), data)
    return (b"[" + data.replace(_MARK, b"]" + _MARK + b"[") + b"]").split(_MARK)
