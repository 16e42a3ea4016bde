"""What ``fake-llm`` says: the next reply follows from the transcript and from the tools that are offered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from codelab.agent.providers.fake_intents import COUNT_LIMIT, PlannedCall, Step, parse
from codelab.agent.providers.fake_reports import Outcome, read_outcome, report

if TYPE_CHECKING:
    from codelab.agent.providers.base import ChatMessage, Image, ModelRequest

__all__ = ("Reply", "answer")

_HELP = """\
I am `fake-llm`, the offline model that codelab starts with. I do not think, but I can show you how everything works \
on your own files. Try:

- `what is in README.md`, `read A and B`, `list files in src`, `search for TODO in src`
- `create hello.py that prints hi`, `create a folder docs`, `run ls`
- two of them joined by `and then`, or `count to 100`
- `think, then list files`: I show what reasoning looks like

For a real model set AGENT_RUNTIME__LLM_PROXY_URL (any OpenAI-compatible server), AGENT_RUNTIME__LLM_MODEL and, if the \
server wants one, AGENT_RUNTIME__LLM_API_KEY, and start codelab again."""

_SUMMARY = re.compile(r"Summarise these (\d+) records:\n")
_INTENTIONS = {
    "read_file": "I will read `{path}`.",
    "write_file": "I will write `{path}`.",
    "list_files": "I will list the files in `{path}`.",
    "search_in_code": "I will search for `{query}`.",
    "create_directory": "I will create the folder `{path}`.",
    "execute_command": "I will run `{command}`.",
}


_THINK = re.compile(
    r"(?:please\s+)?think(?:\s+(?:first|hard|about\s+it))?"
    r"(?:\s*,?\s*(?:and\s+)?then\s+|\s*[,.:]\s*|\s*$)",
    re.IGNORECASE,
)


class Reply(msgspec.Struct, frozen=True):
    """Hold one answer: what is thought before it, its text, then its calls."""

    text: str
    calls: tuple[PlannedCall, ...] = ()
    thought: str = ""


def answer(request: ModelRequest) -> Reply:
    """Return the next message of the transcript in ``request``."""
    messages = request.messages
    start = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    sentence = (messages[start].content or "") if start >= 0 else ""
    if asked := _SUMMARY.match(sentence):  # as turns/summary.py asks
        return Reply(f"I cannot sum up what was said. {asked[1]} older records of this session are left out here.")
    reply = _answer(request, sentence, start)
    images = messages[start].images if start == len(messages) - 1 else ()
    if not images:
        return reply
    seen = _see(images)
    return Reply(f"{seen}\n\n{reply.text}" if reply.calls or parse(sentence) else seen, reply.calls, reply.thought)


def _answer(request: ModelRequest, sentence: str, start: int) -> Reply:
    if thinking := _THINK.match(sentence):
        wanted = sentence[thinking.end() :].strip()
        reply = _reply(request, wanted, start) if wanted else Reply("I have thought.")
        return msgspec.structs.replace(reply, thought=_think(wanted, reply))
    return _reply(request, sentence, start)


def _reply(request: ModelRequest, sentence: str, start: int) -> Reply:
    messages = request.messages
    steps = parse(sentence)
    if not steps:
        return Reply(_say_help(sentence))
    outcomes = _collect_outcomes(messages[start + 1 :])
    switched = any(outcome.tool == "switch_mode" for outcome in outcomes)
    done = [outcome for outcome in outcomes if outcome.tool != "switch_mode"]
    fresh: list[str] = []
    for number, step in enumerate(steps):
        if not step.calls:
            if number == len(steps) - 1 or not done:
                fresh.append(_count(step.count_to or 0))
            continue
        if not done:
            return _start(step, fresh, request, switched=switched)
        mine, done = done[: len(step.calls)], done[len(step.calls) :]
        fresh = [report(outcome) for outcome in mine] if not done else []
        if not all(outcome.succeeded for outcome in mine):
            if number < len(steps) - 1:
                fresh.append("I stop here; what was to come after it is not done.")
            return Reply("\n\n".join(fresh))
    return Reply("\n\n".join(fresh))


def _start(step: Step, said: list[str], request: ModelRequest, *, switched: bool) -> Reply:
    offered = {tool.name for tool in request.tools}
    missing = next((call.tool for call in step.calls if call.tool not in offered), None)
    if missing is None:
        intentions = [_INTENTIONS[call.tool].format_map(call.arguments) for call in step.calls]
        return Reply("\n\n".join([*said, " ".join(intentions)]), step.calls)
    if "switch_mode" in offered and not switched:
        reason = f"This needs the tool {missing}, which the current agent does not have."
        call = PlannedCall("switch_mode", {"mode": "coder", "reason": reason})
        return Reply("\n\n".join([*said, "This is work for the coder, so I hand over."]), (call,))
    refusal = f"I cannot do that with this agent: it has no tool `{missing}`. Switch to the coder and ask again."
    return Reply("\n\n".join([*said, refusal]))


def _think(wanted: str, reply: Reply) -> str:
    asked = f'They want me to "{" ".join(wanted.split())[:120]}". ' if wanted else "Nothing is asked of me. "
    tools = " and ".join(f"`{call.tool}`" for call in reply.calls)
    return asked + (f"For that I need {tools}." if tools else "I can answer that now.")


def _see(images: tuple[Image, ...]) -> str:
    kinds = ", ".join(image.media_type for image in images)
    return f"Images in your message: {len(images)} ({kinds}). I only count them; a real model would look at them."


def _collect_outcomes(messages: tuple[ChatMessage, ...]) -> list[Outcome]:
    results = {message.tool_call_id: message.content or "" for message in messages if message.role == "tool"}
    return [read_outcome(call, results.get(call.id, "")) for message in messages for call in message.tool_calls]


def _count(limit: int) -> str:
    if limit > COUNT_LIMIT:
        return f"I count to {COUNT_LIMIT} at most."
    return " ".join(map(str, range(1, limit + 1))) or "There is nothing to count."


def _say_help(sentence: str) -> str:
    words = sentence.split()
    if not words:
        return _HELP
    heard = " ".join(words[:12]).replace("`", "'")
    cut = "…" if len(words) > 12 or len(heard) > 120 else ""
    return f'You wrote "{heard[:120]}{cut}", which I do not know how to do.\n\n{_HELP}'
