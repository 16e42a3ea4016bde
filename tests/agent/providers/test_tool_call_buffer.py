from __future__ import annotations

import pytest

from codelab.agent.providers import ToolCallBuffer, ToolCallDelta


def _collect(*deltas: tuple[int, str | None, str | None, str]) -> list[tuple[str, str, str]]:
    buffer = ToolCallBuffer()
    for delta in deltas:
        buffer.add(ToolCallDelta(*delta))
    return [(call.id, call.name, call.arguments) for call in buffer.calls()]


@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        ([(0, "a", "f", ""), (0, None, None, '{"x"'), (0, None, None, ":1}")], [("a", "f", '{"x":1}')]),
        (
            [(1, "b", "g", "{"), (0, "a", "f", "{"), (1, None, None, "}"), (0, None, None, "}")],
            [("a", "f", "{}"), ("b", "g", "{}")],
        ),
        ([(0, "a", "f", "{"), (0, "a", "f", '"x":'), (0, "a", "f", "1}")], [("a", "f", '{"x":1}')]),
        (
            [(0, "a", "f", "{}"), (0, "b", "f", "{}"), (0, "c", "g", "{}")],
            [("a", "f", "{}"), ("b", "f", "{}"), ("c", "g", "{}")],
        ),
        (
            [(0, "a", "f", "{"), (0, "b", "f", "{"), (0, "a", None, "}"), (0, "b", None, "}")],
            [("a", "f", "{}"), ("b", "f", "{}")],
        ),
        ([(0, "r1", "f", "{"), (0, "r2", None, '"x":'), (0, "r3", "", "1}")], [("r1", "f", '{"x":1}')]),
        ([(0, "a", None, ""), (0, None, "f", "{}")], [("a", "f", "{}")]),
        ([(0, "a", "f", " ")], [("a", "f", "{}")]),
        ([(0, "a", "f", '{"half')], [("a", "f", '{"half')]),
    ],
    ids=[
        "fragments",
        "interleaved",
        "repeated",
        "one index",
        "one index interleaved",
        "new ids",
        "late name",
        "none",
        "half",
    ],
)
def test_fragments_become_calls(
    deltas: list[tuple[int, str | None, str | None, str]], calls: list[tuple[str, str, str]]
) -> None:
    """However a server fragments, repeats or numbers its tool calls, each comes out once and whole."""
    assert _collect(*deltas) == calls


def test_calls_without_ids_get_ids_of_their_own() -> None:
    """Calls without an id, or with one that another call has, are told apart, and keep their made id."""
    buffer = ToolCallBuffer()
    assert not buffer
    for delta in [(0, None, "f", "{}"), (0, None, "f", "{}"), (1, "", "g", "{}"), (2, "x", "h", ""), (3, "x", "h", "")]:
        buffer.add(ToolCallDelta(*delta))
    calls = buffer.calls()
    assert buffer
    assert [call.name for call in calls] == ["f", "f", "g", "h", "h"]
    assert len({call.id for call in calls}) == 5
    assert all(call.id == "x" or call.id.startswith("call_") for call in calls)
    assert buffer.calls() == calls


def test_a_repeated_name_without_an_id_continues_half_arguments() -> None:
    """A server that repeats the name in every fragment and sends no id still makes one call."""
    calls = _collect((0, None, "f", '{"x":'), (0, None, "f", '{"y":1}'), (0, None, "f", "}"))
    assert [(name, arguments) for _, name, arguments in calls] == [("f", '{"x":{"y":1}}')]
