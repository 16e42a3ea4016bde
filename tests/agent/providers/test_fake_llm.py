from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from codelab.agent.providers import (
    ChatMessage,
    Finish,
    ModelRequest,
    TextDelta,
    ToolCall,
    ToolCallBuffer,
    ToolCallDelta,
    ToolSpec,
    Usage,
    create_client,
)
from codelab.agent.providers.fake import FakeClient
from codelab.agent.providers.fake_intents import parse

if TYPE_CHECKING:
    from collections.abc import Callable

TOOLS = ("read_file", "write_file", "list_files", "search_in_code", "create_directory", "execute_command")


async def ask(messages: list[ChatMessage], tools: tuple[str, ...] = TOOLS) -> ChatMessage:
    """Return the answer as the message that a turn would append."""
    text = ""
    buffer = ToolCallBuffer()
    ends: list[object] = []
    specs = tuple(ToolSpec(name, "", {"type": "object"}) for name in tools)
    async for delta in FakeClient(pace=0).stream(ModelRequest("fake-llm", tuple(messages), specs)):
        assert not ends or isinstance(ends[-1], Usage)
        if isinstance(delta, TextDelta):
            text += delta.text
        elif isinstance(delta, ToolCallDelta):
            buffer.add(delta)
        else:
            ends.append(delta)
    assert [type(end) for end in ends] == [Usage, Finish]
    assert ends[1] == Finish("tool_calls" if buffer else "stop")
    return ChatMessage("assistant", text, buffer.calls())


async def converse(
    sentence: str, run: Callable[[str, dict[str, Any]], Any], tools: tuple[str, ...] = TOOLS
) -> list[ChatMessage]:
    """Play a whole turn; ``run`` gives the result of each tool call, a value or a text."""
    messages = [ChatMessage("system", "You are an agent."), ChatMessage("user", sentence)]
    for _ in range(10):
        answer = await ask(messages, tools)
        messages.append(answer)
        if not answer.tool_calls:
            return messages
        for call in answer.tool_calls:
            result = run(call.name, msgspec.json.decode(call.arguments))
            content = result if isinstance(result, str) else msgspec.json.encode(result).decode()
            messages.append(ChatMessage("tool", content, tool_call_id=call.id))
    raise AssertionError("the turn does not end")


def _calls_of(messages: list[ChatMessage]) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, msgspec.json.decode(call.arguments)) for message in messages for call in message.tool_calls]


def _read_file(content: str) -> dict[str, Any]:
    lines = len(content.splitlines())
    return {
        "path": "f",
        "content": content,
        "start_line": 1,
        "end_line": lines,
        "total_lines": lines,
        "truncated": False,
    }


@pytest.mark.parametrize(
    ("sentence", "calls"),
    [
        *[
            (sentence, [("read_file", {"path": "README.md"})])
            for sentence in (
                "what is in README.md",
                "What's in README.md?",
                "read README.md",
                "please show me README.md",
                "Can you explain README.md?",
                "summarise the file `README.md`.",
                "summarize README.md please",
                "what does README.md say?",
                "explain what README.md does",
                "tell me about the README.md file",
            )
        ],
        ("read A and B", [("read_file", {"path": "A"}), ("read_file", {"path": "B"})]),
        ("read a.py, 'b c.py' and d.py", [("read_file", {"path": path}) for path in ("a.py", "b c.py", "d.py")]),
        ("create hello.py that prints hi", [("write_file", {"path": "hello.py", "content": "print('hi')\n"})]),
        (
            "Create a file hi.js which prints 'it''s'.",
            [("write_file", {"path": "hi.js", "content": "console.log(\"it''s\");\n"})],
        ),
        (
            "write a script a/b.sh that says it's",
            [("write_file", {"path": "a/b.sh", "content": "#!/bin/sh\necho 'it'\"'\"'s'\n"})],
        ),
        ("create notes.md with # Title", [("write_file", {"path": "notes.md", "content": "# Title\n"})]),
        (
            "write a file x.txt containing a and then b",
            [("write_file", {"path": "x.txt", "content": "a and then b\n"})],
        ),
        ("create x.html with ```html\n<p>\n```", [("write_file", {"path": "x.html", "content": "<p>\n"})]),
        ("write hello to x.txt", [("write_file", {"path": "x.txt", "content": "hello\n"})]),
        ("create hello.py", [("write_file", {"path": "hello.py", "content": "print('hello')\n"})]),
        ("run ls", [("execute_command", {"command": "ls"})]),
        ("run ls ..", [("execute_command", {"command": "ls .."})]),
        ("execute `git log | head`, please", [("execute_command", {"command": "git log | head"})]),
        ("list files", [("list_files", {"path": "."})]),
        ("list the files in src", [("list_files", {"path": "src"})]),
        ("what is in this folder?", [("list_files", {"path": "."})]),
        ("list files in src recursively", [("list_files", {"path": "src", "recursive": True})]),
        ("search for TODO in src", [("search_in_code", {"query": "TODO", "path": "src"})]),
        ("find 'a b'", [("search_in_code", {"query": "a b"})]),
        ("create a folder docs", [("create_directory", {"path": "docs"})]),
        ("mkdir a/b", [("create_directory", {"path": "a/b"})]),
        ("run ls; then read a.txt", [("execute_command", {"command": "ls"}), ("read_file", {"path": "a.txt"})]),
    ],
)
def test_sentences_are_understood(sentence: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    """What a person would type first becomes the right tool calls."""
    assert [(call.tool, call.arguments) for step in parse(sentence) for call in step.calls] == calls


@pytest.mark.parametrize(
    "sentence", ["", "hi", "explain recursion", "run the tests", "write a haiku", "create tests", "\0", "then then"]
)
async def test_everything_else_gets_help(sentence: str) -> None:
    """What is not understood is said back in short, with what can be done and how to set a real model."""
    answer = await ask([ChatMessage("user", sentence)])
    assert not answer.tool_calls
    for name in (
        "AGENT_RUNTIME__LLM_PROXY_URL",
        "AGENT_RUNTIME__LLM_MODEL",
        "AGENT_RUNTIME__LLM_API_KEY",
        "read",
        "create",
    ):
        assert name in (answer.content or "")
    assert sentence.strip() in (answer.content or "")


async def test_help_does_not_repeat_a_long_message() -> None:
    """A message of a mebibyte is answered with help of ordinary length."""
    answer = await ask([ChatMessage("user", "create a " * 120_000)])
    assert len(answer.content or "") < 1_500


@pytest.mark.parametrize("end", ["", "!x", " to"])
@pytest.mark.parametrize("verb", ["write ", "put ", "save ", "read ", "create a", "list ", "what is in ", "search "])
@pytest.mark.parametrize("filler", [" ", "a ", "to ", "in ", " and ", "`", "the my "])
def test_sentences_made_to_be_hard_are_read(verb: str, filler: str, end: str) -> None:
    """No sentence keeps the server busy: reading takes far less than the test timeout for the whole run of them."""
    assert len(parse((verb + filler * 2000)[:1990] + end)) <= 1


async def test_a_file_is_quoted() -> None:
    """The answer quotes the first lines in a fence that the file cannot close, and says how many lines there are."""
    messages = await converse("what is in f", lambda *_: "", ())
    assert not _calls_of(messages)
    content = "# T\n```py\nx\n```\n" + "line\n" * 40
    answer = (await converse("read f", lambda *_: _read_file(content)))[-1].content or ""
    assert "44 lines" in answer
    assert "````\n# T\n```py\nx\n```\nline" in answer
    assert answer.count("line\n") == 16
    assert "There is more: 24 lines." in answer


async def test_a_write_is_announced_and_confirmed() -> None:
    """Before a write the file is named, after it the answer confirms what the tool did."""
    result = {"path": "hello.py", "bytes_written": 12, "created": True, "backup": None}
    messages = await converse("create hello.py that prints hi", lambda *_: result)
    assert _calls_of(messages) == [("write_file", {"path": "hello.py", "content": "print('hi')\n"})]
    assert "I will write `hello.py`" in (messages[2].content or "")
    assert messages[-1].content == "Done: `hello.py` is written (12 bytes)."


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (
            {"status": "rejected", "tool_name": "write_file", "feedback": "use main.py"},
            ("rejected", "Nothing was written", "use main.py"),
        ),
        ({"status": "rejected", "tool_name": "write_file", "feedback": None}, ("rejected", "Nothing was written")),
        ("Error: User rejected: not now", ("rejected", "Nothing was written", "not now")),
        ("Error: disk full", ("did not work", "disk full", "Nothing was written")),
    ],
)
async def test_a_rejected_write_is_not_claimed(result: Any, words: tuple[str, ...]) -> None:
    """After a rejection or an error the answer says so and that nothing was written, and the rest is not done."""
    messages = await converse("create hello.py that prints hi and then run python hello.py", lambda *_: result)
    assert [name for name, _ in _calls_of(messages)] == ["write_file"]
    for word in (*words, "I stop here"):
        assert word in (messages[-1].content or "")
    assert "Done" not in (messages[-1].content or "")


@pytest.mark.parametrize(
    ("sentence", "result", "words"),
    [
        (
            "run ls",
            {"exit_code": 1, "stdout": "a.txt\n", "stderr": "oops", "timed_out": False},
            ("exit code 1", "a.txt", "oops"),
        ),
        ("run ls", {"exit_code": None, "stdout": "", "stderr": "", "timed_out": True}, ("too long",)),
        (
            "list files",
            {
                "path": ".",
                "entries": [{"path": "src", "type": "directory", "size": 0}, {"path": "a", "type": "file", "size": 1}],
            },
            ("2 entries", "`src/`", "`a`"),
        ),
        ("list files", {"path": ".", "entries": [], "truncated": False}, ("nothing in `.`",)),
        (
            "find x",
            {"query": "x", "matches": [{"path": "a.py", "line": 3, "text": " x = 1"}], "truncated": True},
            ("a.py:3: x = 1", "or more"),
        ),
        ("find x", {"query": "x", "matches": []}, ("no `x`",)),
        ("mkdir d", {"path": "d", "created": True}, ("`d` is created",)),
        ("mkdir d", {"path": "d", "created": False}, ("already there",)),
        ("read f", _read_file(""), ("empty",)),
    ],
)
async def test_results_are_told(sentence: str, result: Any, words: tuple[str, ...]) -> None:
    """The answer says what each tool gave back."""
    answer = (await converse(sentence, lambda *_: result))[-1].content or ""
    for word in words:
        assert word in answer


@pytest.mark.parametrize("sentence", ["read f", "create f.py", "list files", "find x", "mkdir d", "run ls"])
@pytest.mark.parametrize(
    "result",
    [
        *("", "plain", "null", "[1]", "7", "{", "Error:", r'{"content": "\ud800"}', "[" * 100_000),
        *({}, {"status": "approved"}, {"content": 1}, {"content": "x", "total_lines": "y"}, {"matches": [[]]}),
        *({"entries": [1, None]}, {"entries": 1}, {"exit_code": [], "stdout": {}}),
    ],
)
async def test_results_of_unknown_shape_do_no_harm(sentence: str, result: Any) -> None:
    """Whatever a client sends as a result, the turn ends with an answer."""
    assert (await converse(sentence, lambda *_: result))[-1].content


async def test_two_requests_are_done_one_after_the_other() -> None:
    """The second part of "and then" runs after the first one's result, which is reported between."""
    results = {
        "write_file": {"path": "a.py", "bytes_written": 12, "created": True, "backup": None},
        "execute_command": {"exit_code": 0, "stdout": "hi\n", "stderr": "", "timed_out": False},
    }
    messages = await converse("create a.py that prints hi and then run python a.py", lambda tool, _: results[tool])
    assert [name for name, _ in _calls_of(messages)] == ["write_file", "execute_command"]
    assert "`a.py` is written" in (messages[4].content or "")
    assert "I will run" in (messages[4].content or "")
    assert "exit code 0" in (messages[-1].content or "")
    assert "is written" not in (messages[-1].content or "")


async def test_two_files_are_read_side_by_side() -> None:
    """Two files are two calls of one message, with ids of their own, and each result is told for its call."""
    messages = await converse(
        "read a.py and b.py", lambda _, arguments: {**_read_file("x\n"), "path": arguments["path"]}
    )
    assert len(messages[2].tool_calls) == 2
    assert len({call.id for call in messages[2].tool_calls}) == 2
    assert "`a.py` has 1 line:" in (messages[-1].content or "")
    assert "`b.py` has 1 line:" in (messages[-1].content or "")


async def test_an_agent_without_the_tool_hands_over() -> None:
    """A missing tool leads to the coder when the agent can switch, once; after the switch the work goes on."""
    user = ChatMessage("user", "create a.py that prints hi")
    first = await ask([user], ("read_file", "switch_mode"))
    assert _calls_of([first])[0][0] == "switch_mode"
    assert _calls_of([first])[0][1]["mode"] == "coder"
    assert "write_file" in _calls_of([first])[0][1]["reason"]
    switched = [user, first, ChatMessage("tool", "Switched to coder agent", tool_call_id=first.tool_calls[0].id)]
    assert _calls_of([await ask(switched)]) == [("write_file", {"path": "a.py", "content": "print('hi')\n"})]
    stuck = await ask(switched, ("read_file", "switch_mode"))
    assert not stuck.tool_calls
    assert "cannot" in (stuck.content or "")
    assert "cannot" in ((await ask([user], ("read_file",))).content or "")


async def test_counting_streams_word_by_word() -> None:
    """Counting gives each number as a delta of its own, up to the limit."""
    request = ModelRequest("fake-llm", (ChatMessage("user", "count to 10000"),))
    words = [delta.text async for delta in FakeClient(pace=0).stream(request) if isinstance(delta, TextDelta)]
    assert [word.strip() for word in words] == [str(number) for number in range(1, 10_001)]
    assert "10000 at most" in ((await ask([ChatMessage("user", "count to 10001")])).content or "")
    assert "at most" in ((await ask([ChatMessage("user", "count to " + "9" * 1000)])).content or "")
    assert (await ask([ChatMessage("user", "count to 0")])).content
    messages = await converse("count to 3 and then run ls", lambda *_: {"exit_code": 0, "stdout": "", "stderr": ""})
    assert (messages[2].content or "").startswith("1 2 3")
    assert "exit code 0" in (messages[-1].content or "")


async def test_the_same_transcript_gets_the_same_answer() -> None:
    """Answers and call ids follow from the transcript alone, and no id comes twice in a session."""
    messages: list[ChatMessage] = []
    ids: list[str] = []
    for _ in range(3):
        messages.append(ChatMessage("user", "read a.py and b.py"))
        answer = await ask(messages)
        assert await ask(messages) == answer
        messages.append(answer)
        messages += [ChatMessage("tool", "Error: gone", tool_call_id=call.id) for call in answer.tool_calls]
        messages.append(await ask(messages))
        ids += [call.id for call in answer.tool_calls]
    assert len(set(ids)) == 6


async def test_only_the_last_request_counts() -> None:
    """Calls of earlier turns are not taken for those of this one."""
    old = ToolCall("c", "read_file", '{"path":"a.py"}')
    messages = [
        ChatMessage("user", "read a.py"),
        ChatMessage("assistant", "", (old,)),
        ChatMessage("tool", "Error: no", tool_call_id="c"),
        ChatMessage("user", "read a.py"),
    ]
    assert len((await ask(messages)).tool_calls) == 1


async def test_a_stream_can_be_left_at_any_word() -> None:
    """Closing or cancelling a paced stream ends it, and the client stays usable."""
    client = create_client(None, None)
    assert client.name == "fake-llm"
    request = ModelRequest("fake-llm", (ChatMessage("user", "count to 10000"),))

    async def drain() -> None:
        async for _ in client.stream(request):
            started.set()

    started = asyncio.Event()
    task = asyncio.create_task(drain())
    await asyncio.wait_for(started.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await client.close()
    assert isinstance(await anext(aiter(client.stream(request))), TextDelta)
