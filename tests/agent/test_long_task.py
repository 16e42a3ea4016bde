"""One task through four agents, with all that a person can say; the transcript is valid at each model call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from codelab.agent.agents import load_agents
from tests.agent.providers.upstream import run_upstream
from tests.agent.test_approvals import let_time_pass
from tests.agent.transcripts import END
from tests.agent.voices import VOICES, Asked, Voice, check_pairs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.agent.providers.upstream import Upstream
    from tests.support.server import Event, Person, Running

PLAN: dict[str, Any] = {"items": [{"text": "design", "status": "in_progress"}, {"text": "build", "status": "pending"}]}
DESIGN = {"path": "docs/design.md", "content": "Draft"}
EDITED = DESIGN | {"content": "# Design"}
TEST = {"command": "make test"}
APP, SETUP = {"path": "app.py", "content": "a"}, {"path": "setup.py", "content": "s"}


class Play:
    """Give a session's model its next answer, and see what the session does with it."""

    def __init__(self, voice: Voice, model: Upstream, person: Person, session: str) -> None:
        self._voice = voice
        self._model = model
        self._person = person
        self._session = session
        self.events: list[Event] = []
        #: The calls of each answer that was given so far.
        self.made: list[list[tuple[str, str]]] = []

    def expect(self, *calls: Asked, text: str = "I go on.") -> None:
        """Have the model say this next."""
        self.made.append([(call_id, tool) for call_id, tool, _ in calls])
        self._model.play(self._voice.calls(calls, text))

    async def until(self, *kinds: str) -> dict[str, str]:
        """Follow until an event of some types that is new; return what is asked of people since, approvals by call."""
        after = self.events[-1].seq if self.events else 0
        fresh = await self._person.until(self._session, *kinds, after=after)
        self.events += fresh
        return {e.data["call_id"]: e.data["approval_id"] for e in fresh if e.type == "approval.requested"}

    async def decide(self, approval_id: str, decision: str, **body: Any) -> dict[str, Any]:
        """Decide an approval."""
        answer = await self._person.decide(self._session, approval_id, decision, **body)
        assert answer.status_code == 200, answer.text
        decided: dict[str, Any] = answer.json()
        return decided

    async def bring(self, *call_ids: str) -> None:
        """Answer calls as the client does that runs them."""
        for call_id in call_ids:
            answer = await self._person.answer(self._session, call_id, result=f"{call_id} is done")
            assert answer.status_code == 200, answer.text


async def architect(play: Play) -> None:
    """Plan and read at once, write what the person edits, and hand over."""
    play.expect(("plan", "update_plan", PLAN), ("read", "read_file", {"path": "README.md"}))
    await play.until("turn.waiting")
    play.expect(("list", "list_files", {"path": "."}), ("design", "write_file", DESIGN))
    await play.bring("read")
    asked = await play.until("turn.waiting")
    await play.bring("list")
    await play.decide(asked["design"], "edit", modified_arguments=EDITED)
    play.expect(("to-coder", "switch_mode", {"mode": "coder", "reason": "The design is agreed"}))
    play.expect(("which", "ask_followup_question", {"question": "Which?", "options": ["A", "B"]}))
    await play.bring("design")
    await play.until("turn.waiting")


async def coder(play: Play, person: Person, running: Running, session: str) -> None:
    """Ask, be refused, wait too long, run what is granted until the grant is taken back, and hand over."""
    play.expect(("app", "write_file", APP), ("setup", "write_file", SETUP), ("test-1", "execute_command", TEST))
    await person.say(session, "B")
    asked = await play.until("turn.waiting")
    decided = await play.decide(asked["test-1"], "approve", grant={"scope": "session"})
    await play.decide(asked["app"], "reject", feedback="Use main.py")
    await play.bring("test-1")
    play.expect(("test-2", "execute_command", TEST), ("look", "search_in_code", {"query": "main"}))
    await let_time_pass(running)
    await running.app.state.agent.expiry.expire_overdue()
    assert await play.until("turn.waiting") == {}  # the grant allows it
    revoked = await person.http.delete(f"/api/v1/grants/{decided['grant']['grant_id']}")
    assert revoked.status_code == 200
    play.expect(("test-3", "execute_command", TEST))
    await play.bring("look", "test-2")
    asked = await play.until("turn.waiting")
    await play.decide(asked["test-3"], "approve")
    play.expect(("more", "read_file", {"path": "main.py"}), ("to-debug", "switch_mode", {"mode": "debug"}))
    await play.bring("test-3")
    await play.until("turn.waiting")


async def debug(play: Play) -> None:
    """Be denied, show the plan anew, end too early, then in time."""
    play.expect(
        ("fix", "write_file", APP), ("plan-2", "update_plan", PLAN), ("early", "attempt_completion", {"result": "?"})
    )
    play.expect(("done", "attempt_completion", {"result": "It was the wrong file."}))
    await play.bring("more")
    await play.until(*END)


@pytest.mark.parametrize("provider", VOICES)
async def test_a_task_through_four_agents(start: Callable[..., Awaitable[Running]], provider: str) -> None:
    """Routed, designed, built and debugged; then the next message is routed again, and its agent sees it all."""
    voice = VOICES[provider]
    async with run_upstream() as model:
        settings = {"llm_proxy_url": model.url, "llm_model": "m", "llm_retries": 0, "routing": "model"}
        running = await start(**voice.settings, **settings)
        person = await running.person()
        session = await person.session()
        play = Play(voice, model, person, session)
        model.play(voice.says('{"agent": "architect", "confidence": "high", "reasoning": "A design comes first"}'))
        await person.say(session, "Build me an app")
        await architect(play)
        await coder(play, person, running, session)
        await debug(play)
        model.play(voice.says('{"agent": "ask", "confidence": "high", "reasoning": "A question"}'))
        model.play(voice.says("Because of the path."))
        await person.say(session, "Why was that?")
        await play.until(*END)

    prompts = [check(voice, body, play.made) for body in model.bodies]
    told = results_of(voice, model.bodies[-1])
    switched = [event.data for event in play.events if event.type == "agent.switched"]
    names = {agent.prompt: name for name, agent in load_agents().items()}

    assert [names.get(prompt) for prompt in prompts] == [
        *(None, "architect", "architect", "architect"),
        *("coder", "coder", "coder", "coder", "coder"),
        *("debug", "debug", None, "ask"),
    ]
    assert [(data["to_agent"], data["by"]) for data in switched] == [
        *(("architect", "router"), ("coder", "agent"), ("debug", "agent")),
        *(("orchestrator", "router"), ("ask", "router")),
    ]
    assert [e.type for e in play.events if e.type in END] == ["turn.completed", "turn.completed"]
    assert told["which"] == "B"
    assert msgspec.json.decode(told["design"])["arguments"] == EDITED
    rejected, expired = msgspec.json.decode(told["app"]), msgspec.json.decode(told["setup"])
    assert (rejected["status"], rejected["feedback"], expired["status"]) == ("rejected", "Use main.py", "expired")
    assert told["test-2"] == "test-2 is done"
    assert told["fix"].startswith("Error: The agent debug does not have the tool write_file")
    assert told["early"].startswith("Error: Call attempt_completion alone")
    requested = [event.data["call_id"] for event in play.events if event.type == "tool.requested"]
    assert sorted(requested) == ["design", "list", "look", "more", "read", "test-1", "test-2", "test-3", "which"]


def check(voice: Voice, body: dict[str, Any], made: list[list[tuple[str, str]]]) -> str:
    """Fail unless a request is valid and has the calls that the model made until then; return its system prompt."""
    prompt, seen, results = voice.read(body)
    check_pairs(seen, results)
    assert seen == made[: len(seen)]
    return prompt


def results_of(voice: Voice, body: dict[str, Any]) -> dict[str, str]:
    """Return every result in a request by the id of its call."""
    _, _, results = voice.read(body)
    return {call_id: text for given in results for call_id, text in given}
