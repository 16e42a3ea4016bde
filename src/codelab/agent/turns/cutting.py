"""What a stored message is to a model: its text and its calls, cut where they are too long, and how much they weigh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from codelab.agent.providers import ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Row

    from codelab.agent.providers import ChatMessage, ToolSpec

__all__ = ("Cuts", "cut_output", "cut_to_bytes", "find_cuts", "measure")

#: What a message or a call costs beside its text, in bytes.
_FRAME = 40
#: What an image costs, whatever its size: about 3,000 tokens, which is more than most models take for one.
_IMAGE = 9_600
#: What the mark of a cut may take, and the least that is left of a text, in bytes.
_MARK, _LEAST = 80, 200


class Cuts(msgspec.Struct, frozen=True):
    """Say how much of a message is shown: characters of a tool's output, and bytes of every text or call if need be."""

    tool_output_chars: int
    piece_bytes: int | None = None

    def content(self, row: Row[Any]) -> str | None:
        """Return the text of a message."""
        text: str | None = row.content
        if text is None:
            return None
        shown = cut_output(text, self.tool_output_chars) if row.role == "tool" else text
        if self.piece_bytes is not None and _bytes(shown) > self.piece_bytes:
            return cut_to_bytes(text, self.piece_bytes - _MARK)
        return shown

    def calls(self, row: Row[Any]) -> tuple[ToolCall, ...]:
        """Return the calls of a message; arguments that are too long are a JSON object that says so."""
        if not row.tool_calls:
            return ()
        return tuple(
            ToolCall(call["id"], call["function"]["name"], self._arguments(call["function"]["arguments"]))
            for call in msgspec.json.decode(row.tool_calls)
        )

    def _arguments(self, arguments: str) -> str:
        if self.piece_bytes is None or _bytes(arguments) <= self.piece_bytes:
            return arguments
        note = f"{len(arguments)} characters of arguments are left out here: they do not fit into your context."
        return msgspec.json.encode({"cut": note}).decode()

    def size(self, row: Row[Any]) -> int:
        """Return how many bytes a message takes."""
        images = _IMAGE * len(msgspec.json.decode(row.images)) if row.images else 0
        return _FRAME + sum(self.pieces(row)) + _FRAME * len(self.calls(row)) + _bytes(row.reasoning or "") + images

    def pieces(self, row: Row[Any]) -> list[int]:
        """Return the bytes of each part of a message that could be cut."""
        return [_bytes(self.content(row) or ""), *(_bytes(call.arguments) for call in self.calls(row))]


def find_cuts(rows: Sequence[Row[Any]], room: int, tool_output_chars: int) -> Cuts:
    """Find how messages that must be sent fit into so many bytes: the longest parts are cut, all to one length."""
    cuts = Cuts(tool_output_chars)
    sizes = sorted(size for row in rows for size in cuts.pieces(row))
    room -= sum(map(cuts.size, rows)) - sum(sizes)
    for number, size in enumerate(sizes):
        share = room // (len(sizes) - number)
        if size > share:
            return Cuts(tool_output_chars, max(share, _LEAST))
        room -= size
    return cuts


def cut_output(text: str, limit: int) -> str:
    """Keep the beginning and the end of a tool's output, with a mark that says how much is left out between."""
    if len(text) <= limit:
        return text
    tail = limit // 3
    return _join(text, text[: limit - tail], text[-tail:])


def cut_to_bytes(text: str, limit: int) -> str:
    """Keep the beginning and the end of a text, so many bytes of UTF-8 beside the mark between them."""
    raw = text.encode()
    if len(raw) <= limit:
        return text
    tail = limit // 3
    return _join(text, raw[: limit - tail].decode(errors="ignore"), raw[-tail:].decode(errors="ignore"))


def _join(text: str, head: str, tail: str) -> str:
    return f"{head}\n[… {len(text) - len(head) - len(tail)} characters are left out here …]\n{tail}"


def measure(messages: Iterable[ChatMessage], tools: Sequence[ToolSpec]) -> int:
    """Return how many bytes a request takes, by the same measure."""
    size = len(msgspec.json.encode(tools)) if tools else 0
    for message in messages:
        size += _FRAME + _bytes(message.content or "") + _IMAGE * len(message.images)
        size += sum(_FRAME + _bytes(call.arguments) for call in message.tool_calls)
        size += len(msgspec.json.encode(message.reasoning)) if message.reasoning else 0
    return size


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
