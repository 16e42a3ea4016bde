"""Reading the answer of OpenAI chat completions into deltas; there is no network in here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from codelab.agent.providers import openai_wire as wire
from codelab.agent.providers.base import (
    Delta,
    Finish,
    ModelError,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from codelab.agent.providers.failures import error_from_object
from codelab.agent.providers.openai_wire import read_chunk, read_usage
from codelab.agent.providers.sse import EventReader
from codelab.agent.providers.surrogates import SurrogateJoiner
from codelab.text import scrub

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("MAX_EVENT_BYTES", "AnswerReader")

MAX_EVENT_BYTES = 8 * 1024 * 1024
# The keys of the answer's text and reasoning among the indexes of its tool calls.
_TEXT, _REASONING = -1, -2


class AnswerReader:
    """Read the body of an answer, fed in blocks split anywhere, into deltas.

    Takes Server-Sent Events and, from servers that ignore ``stream``, one whole JSON completion. ``secrets`` are kept
    out of quoted upstream messages. What goes wrong inside the body is raised by ``end``: no delta before it is lost.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.done = False
        self._secrets = tuple(secrets)
        self._head = b""
        self._events: EventReader | None = None
        self._whole: list[bytes] | None = None
        self._size = 0
        self._chunks = 0
        self._called = False
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._failure: ModelError | None = None
        self._surrogates = SurrogateJoiner()

    @property
    def finished(self) -> bool:
        """Whether the model said that its answer is complete."""
        return self._finish is not None

    def feed(self, block: bytes) -> list[Delta]:
        """Return the deltas that ``block`` completes; once ``done`` is true the rest of the body does not matter."""
        if self._events is None:
            return self._feed_head(block)
        deltas: list[Delta] = []
        for event in self._events.feed(block):
            self._read(event, deltas)
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
        deltas.extend(map(_lost_half, self._surrogates.held))
        deltas.append(Finish(scrub(self._finish or "") or ("tool_calls" if self._called else "stop")))
        return deltas

    def _feed_head(self, block: bytes) -> list[Delta]:
        """Tell by the first byte what the body is: content types of model servers cannot be trusted."""
        if self._whole is not None:
            self._size += len(block)
            if self._size > MAX_EVENT_BYTES:
                self._fail(_garbage("an answer that is far too long"))
            else:
                self._whole.append(block)
            return []
        self._head = (self._head + block).removeprefix(b"\xef\xbb\xbf").lstrip()
        match self._head[:1]:
            case b"":
                return []
            case b"\xef" if len(self._head) < 3:
                return []
            case b"{":
                self._whole = []
            case b"<":
                self._fail(_garbage("a web page"))
                return []
            case _:
                self._events = EventReader(MAX_EVENT_BYTES)
        head, self._head = self._head, b""
        return self.feed(head)

    def _read_rest(self, deltas: list[Delta]) -> None:
        if self._whole is not None:
            self._read(b"".join(self._whole), deltas)
            if self._failure is None and not self._chunks:
                self._fail(_garbage("something that is not a chat completion"))
            return
        rest = self._events.rest() if self._events else b""
        if rest.strip() == b"[DONE]":
            return
        if rest:
            # A last event without its blank line counts when it is whole, and is a cut connection when it is not.
            self._read(rest, deltas)
            if self._failure is not None and self._failure.code == "model_garbage":
                self._failure = None
        if self._failure is None and not self.finished:
            if self._chunks or rest:
                self._fail(
                    ModelError("model_disconnected", "The model provider ended the answer before it was complete.")
                )
            else:
                self._fail(_garbage("something that is not a chat completion"))

    def _read(self, event: bytes, deltas: list[Delta]) -> None:
        if event[:1] != b"{":
            event = event.strip()
            if event == b"[DONE]":
                self.done = True
            if event == b"" or self.done:
                return
        try:
            chunk, lenient = read_chunk(event)
        except (ValueError, RecursionError):
            self._fail(_garbage("something that is not a chat completion"))
            return
        if lenient or self._surrogates.held:
            _join_surrogates(chunk, self._surrogates)
        if chunk.error:
            self._fail(error_from_object(chunk.error, self._secrets))
            return
        self._take(chunk, deltas)
        # At once: an answer that is cut off has cost what was told before.
        if chunk.usage is not None and (usage := read_usage(chunk.usage)) != self._usage:
            self._usage = usage
            deltas.append(usage)

    def _take(self, chunk: wire.Chunk, deltas: list[Delta]) -> None:
        if not chunk.choices:
            return
        self._chunks += 1
        choice = chunk.choices[0]
        if choice.finish_reason:
            self._finish = choice.finish_reason
        elif self._whole is not None:
            self._finish = ""
        message = choice.delta or choice.message
        if message is None:
            return
        thought = message.reasoning_content or message.reasoning
        if isinstance(thought, str) and thought:
            deltas.append(ReasoningDelta(_clean(thought)))
        text = message.content or message.refusal
        if isinstance(text, list):
            text = _join_parts(text)
        if text:
            deltas.append(TextDelta(_clean(text)))
        if message.tool_calls:
            self._called = True
            deltas.extend(_read_call(call, position) for position, call in enumerate(message.tool_calls))

    def _fail(self, failure: ModelError) -> None:
        self._failure = failure
        self.done = True


def _join_surrogates(chunk: wire.Chunk, joiner: SurrogateJoiner) -> None:
    message = (chunk.choices[0].delta or chunk.choices[0].message) if chunk.choices else None
    if message is None:
        return
    thought = message.reasoning_content or message.reasoning
    message.reasoning_content, message.reasoning = None, None
    if isinstance(thought, str):
        message.reasoning_content = joiner.join(_REASONING, thought)
    if isinstance(message.content, list):
        message.content = _join_parts(message.content)
    if message.content or message.refusal:
        message.content = joiner.join(_TEXT, message.content or message.refusal or "")
        message.refusal = None
    for position, call in enumerate(message.tool_calls or ()):
        call.id = scrub(call.id) if isinstance(call.id, str) else call.id
        if call.function is not None:
            call.function.name = scrub(call.function.name or "")
            if isinstance(call.function.arguments, str):
                index = position if call.index is None else call.index
                call.function.arguments = joiner.join(index, call.function.arguments)


def _read_call(call: wire.ToolCall, position: int) -> ToolCallDelta:
    function = call.function or wire.Function()
    arguments = function.arguments or ""
    if not isinstance(arguments, str):
        arguments = scrub(json.dumps(arguments, ensure_ascii=False))
    return ToolCallDelta(
        position if call.index is None else call.index,
        _clean(str(call.id)) if call.id is not None and call.id != "" else None,
        _clean(function.name) if function.name else None,
        _clean(arguments),
    )


def _join_parts(parts: list[wire.Part]) -> str:
    return "".join(part.text or "" for part in parts)


def _clean(text: str) -> str:
    # msgspec lets no surrogate through, and text with one comes clean out of ``SurrogateJoiner``.
    return scrub(text) if "\0" in text else text


def _lost_half(index: int) -> Delta:
    match index:
        case -1:
            return TextDelta("\ufffd")
        case -2:
            return ReasoningDelta("\ufffd")
        case _:
            return ToolCallDelta(index, None, None, "\ufffd")


def _garbage(what: str) -> ModelError:
    return ModelError("model_garbage", f"The model provider answered with {what}.")
