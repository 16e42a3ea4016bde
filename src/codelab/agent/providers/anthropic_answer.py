"""Reading the answer of Anthropic's messages API into deltas; there is no network in here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from codelab.agent.providers.anthropic_wire import Event, read_event
from codelab.agent.providers.base import (
    Delta,
    Finish,
    ModelError,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from codelab.agent.providers.counting import count
from codelab.agent.providers.failures import error_from_object
from codelab.agent.providers.sse import EventReader
from codelab.agent.providers.surrogates import SurrogateJoiner
from codelab.text import scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from codelab.agent.providers import anthropic_wire as wire

__all__ = ("MAX_EVENT_BYTES", "AnthropicReader")

MAX_EVENT_BYTES = 8 * 1024 * 1024
_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
    "pause_turn": "pause",
}


class AnthropicReader:
    """Read the body of an answer, fed in blocks split anywhere, into deltas; see ``Reader``.

    ``secrets`` are kept out of quoted upstream messages. What goes wrong inside the body is raised by ``end``: no delta
    before it is lost.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.done = False
        self._secrets = tuple(secrets)
        self._head = b""
        self._events: EventReader | None = None
        self._whole: list[bytes] | None = None
        self._size = 0
        self._began = False
        self._reason: str | None = None
        self._usage: dict[str, int] = {}
        self._told: Usage | None = None
        self._failure: ModelError | None = None
        self._thinking: dict[int, str] = {}
        self._inputs: dict[int, str] = {}
        self._surrogates = SurrogateJoiner()

    @property
    def finished(self) -> bool:
        """Whether the model said that its answer is complete."""
        return self._reason is not None

    def feed(self, block: bytes) -> list[Delta]:
        """Return the deltas that ``block`` completes."""
        deltas: list[Delta] = []
        if self._events is None:
            block = self._open(block)
        if self._events is None or not block:
            return deltas
        for data in self._events.feed(block):
            self._read(data, deltas)
            if self.done:
                return deltas
        if self._events.overflow:
            self._fail(_garbage("a single event that is far too long"))
        return deltas

    def end(self) -> list[Delta]:
        """Return the last deltas when the body has ended; raise ``ModelError`` when the answer is not complete."""
        deltas: list[Delta] = []
        if self._failure is None and not self.done:
            self._read_rest(deltas)
        if self._failure is not None:
            raise self._failure
        deltas.extend(
            ToolCallDelta(index, None, None, "\ufffd") if index in self._inputs else TextDelta("\ufffd")
            for index in self._surrogates.held
        )
        self._tell_usage(deltas)
        deltas.append(Finish(_REASONS.get(self._reason or "", scrub(self._reason or "") or "stop")))
        return deltas

    def _open(self, block: bytes) -> bytes:
        """Tell by the first byte what the body is; return what is to be read as events."""
        if self._whole is not None:
            self._size += len(block)
            if self._size > MAX_EVENT_BYTES:
                self._fail(_garbage("an answer that is far too long"))
            else:
                self._whole.append(block)
            return b""
        self._head = (self._head + block).removeprefix(b"\xef\xbb\xbf").lstrip()
        match self._head[:1]:
            case b"":
                pass
            case b"{":
                self._whole = [self._head]
            case b"<":
                self._fail(_garbage("a web page"))
            case b"\xef" if len(self._head) < 3:
                pass
            case _:
                self._events = EventReader(MAX_EVENT_BYTES)
                head, self._head = self._head, b""
                return head
        return b""

    def _read_rest(self, deltas: list[Delta]) -> None:
        rest = b"".join(self._whole) if self._whole is not None else self._events.rest() if self._events else b""
        if rest.strip():
            # A last event without its blank line counts when it is whole, and is a cut connection when it is not.
            self._read(rest, deltas)
            if self._whole is None and self._failure is not None and self._failure.code == "model_garbage":
                self._failure = None
        if self._failure is None and not self.finished:
            if self._began or (rest and self._whole is None):
                message = "The model provider ended the answer before it was complete."
                self._fail(ModelError("model_disconnected", message))
            else:
                self._fail(_garbage("something that is not a message"))

    def _read(self, data: bytes, deltas: list[Delta]) -> None:
        try:
            event, lenient = read_event(data)
        except (ValueError, RecursionError):
            self._fail(_garbage("something that is not a message"))
            return
        if event.error or event.type == "error":
            self._fail(error_from_object(event.error or {}, self._secrets))
            return
        self._take(event, deltas, self._surrogates.join if lenient or self._surrogates.held else _clean)

    def _take(self, event: Event, deltas: list[Delta], clean: Callable[[int, str], str]) -> None:
        match event.type:
            case "message_start":
                self._began = True
                self._count(event.message.usage if event.message else None)
                self._tell_usage(deltas)
            case "content_block_start" if event.content_block is not None:
                self._begin(event.index, event.content_block, deltas, clean)
            case "content_block_delta" if event.delta is not None:
                self._go_on(event.index, event.delta, deltas, clean)
            case "content_block_stop":
                self._close(event.index, deltas)
            case "message_delta":
                self._count(event.usage)
                self._tell_usage(deltas)
                if event.delta is not None and event.delta.stop_reason:
                    self._reason = event.delta.stop_reason
            case "message_stop":
                self.done = self.finished
            case "message" if self._whole is not None:
                for index, block in enumerate(event.content or ()):
                    self._begin(index, block, deltas, clean)
                    self._close(index, deltas)
                self._count(event.usage)
                self._reason = event.stop_reason or "end_turn"
            case _:
                pass  # ping, and what comes with newer versions

    def _begin(self, index: int, block: wire.Block, deltas: list[Delta], clean: Callable[[int, str], str]) -> None:
        self._began = True
        match block.type:
            case "text" if block.text:
                deltas.append(TextDelta(clean(index, block.text)))
            case "thinking":
                self._thinking[index] = scrub(block.signature or "")
                if block.thinking:
                    deltas.append(ReasoningDelta(clean(index, block.thinking)))
            case "redacted_thinking":
                deltas.append(ReasoningDelta("", redacted=scrub(block.data or "")))
            case "tool_use":
                # An input that is there at the start counts only when no pieces of it follow.
                whole = isinstance(block.input, dict) and bool(block.input)
                self._inputs[index] = scrub(json.dumps(block.input, ensure_ascii=False)) if whole else ""
                deltas.append(ToolCallDelta(index, scrub(block.id or "") or None, scrub(block.name or "") or None, ""))
            case _:
                pass

    def _go_on(self, index: int, delta: wire.Delta, deltas: list[Delta], clean: Callable[[int, str], str]) -> None:
        match delta.type:
            case "text_delta" if delta.text:
                deltas.append(TextDelta(clean(index, delta.text)))
            case "thinking_delta" if delta.thinking:
                self._thinking.setdefault(index, "")
                deltas.append(ReasoningDelta(clean(index, delta.thinking)))
            case "signature_delta" if delta.signature:
                self._thinking[index] = self._thinking.get(index, "") + scrub(delta.signature)
            case "input_json_delta" if delta.partial_json:
                self._inputs[index] = ""
                deltas.append(ToolCallDelta(index, None, None, clean(index, delta.partial_json)))
            case _:
                pass

    def _close(self, index: int, deltas: list[Delta]) -> None:
        if index in self._thinking:
            if self._surrogates.held.pop(index, None):
                deltas.append(ReasoningDelta("\ufffd"))
            deltas.append(ReasoningDelta("", signature=self._thinking.pop(index)))
        if arguments := self._inputs.get(index):
            self._inputs[index] = ""
            deltas.append(ToolCallDelta(index, None, None, arguments))

    def _count(self, usage: wire.Usage | None) -> None:
        # The counts of message_delta are totals, and repeat or complete those of message_start.
        for name in ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"):
            if (value := getattr(usage, name, None)) is not None:
                self._usage[name] = count(value)
        if usage is not None and isinstance(usage.output_tokens_details, dict):
            self._usage["thinking_tokens"] = count(usage.output_tokens_details.get("thinking_tokens"))

    def _tell_usage(self, deltas: list[Delta]) -> None:
        # At once: an answer that is cut off has cost what was told before.
        if self._usage and (usage := _usage(self._usage)) != self._told:
            self._told = usage
            deltas.append(usage)

    def _fail(self, failure: ModelError) -> None:
        self._failure = failure
        self.done = True


def _usage(counts: dict[str, int]) -> Usage:
    read, written = counts.get("cache_read_input_tokens", 0), counts.get("cache_creation_input_tokens", 0)
    return Usage(
        input_tokens=counts.get("input_tokens", 0) + read + written,
        output_tokens=counts.get("output_tokens", 0),
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=counts.get("thinking_tokens", 0),
    )


def _clean(_index: int, text: str) -> str:
    return scrub(text) if "\0" in text else text


def _garbage(what: str) -> ModelError:
    return ModelError("model_garbage", f"The model provider answered with {what}.")
