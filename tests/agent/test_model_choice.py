"""Which model answers: the session's, its agent's, or the default; and what there is to choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from codelab.agent.model_choice import Models
from codelab.app import create_app
from codelab.errors import StartError
from tests.agent.providers.upstream import text_answer
from tests.agent.transcripts import END, call, calls_answer, last
from tests.support.server import make_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.databases import DatabaseUrls
    from tests.support.server import Person, Running

ALLOWED = "model: must be one of test-model, small, large"


@pytest.fixture
def with_models(with_model: dict[str, Any]) -> dict[str, Any]:
    """Settings of a server with three models to choose from."""
    return with_model | {"llm_models": ("small", "large")}


@pytest.fixture
async def chooser(start: Callable[..., Awaitable[Running]], with_models: dict[str, Any]) -> Person:
    """A person who has three models to choose from."""
    return await (await start(**with_models)).person()


async def change(person: Person, session: str, **body: Any) -> Any:
    """Change a session; return the answer."""
    return await person.http.patch(f"/api/v1/sessions/{session}", json=body)


async def model_of(person: Person, session: str) -> Any:
    """Read which model a session chose."""
    return (await person.http.get(f"/api/v1/sessions/{session}")).json()["model"]


async def ask(person: Person, session: str) -> Any:
    """Have a turn of one answer; return which model it names."""
    accepted = await person.say(session, "hi")
    events = await person.until(session, *END, turn=accepted["turn_id"])
    assert events[-1].type == "turn.completed"
    return last(events, "message.completed")["model"]


def agents_with(folder: Path, **models: str) -> dict[str, Path]:
    """Let agents ask for models in files of their own; return the setting for it."""
    agents = folder / "agents"
    agents.mkdir()
    for name, model in models.items():
        head = f"name: {name}\nmodel: {model}\ndescription: d\ntools: [read_file]\n"
        (agents / f"{name}.md").write_text(f"---\n{head}---\nBe brief.", encoding="utf-8")
    return {"agents_dir": agents}


class TestSession:
    async def test_chosen_with_the_session(self, chooser: Person, model: Upstream) -> None:
        """What a new session asks for is what the model server is asked for; it is shown, and named in the answers."""
        model.otherwise = lambda _body: (text_answer("Hi."),)
        session = await chooser.session(agent="ask", model="large")

        assert await model_of(chooser, session) == "large"
        assert await ask(chooser, session) == "large"
        assert model.bodies[0]["model"] == "large"
        assert [m.get("agent") for m in await chooser.history(session)] == [None, "ask"]

    async def test_changed_and_taken_back(self, chooser: Person, model: Upstream) -> None:
        """A change holds from the next turn on, null is the default again, and what is absent stays."""
        model.otherwise = lambda _body: (text_answer("Hi."),)
        session = await chooser.session(agent="ask")
        answered = [await ask(chooser, session)]
        for body in ({"model": "small"}, {"title": "t"}, {"model": None}):
            changed = await change(chooser, session, **body)
            assert changed.status_code == 200, changed.text
            answered.append(await ask(chooser, session))

        assert answered == ["test-model", "small", "small", "test-model"]
        assert [body["model"] for body in model.bodies] == answered
        assert await model_of(chooser, session) is None

    async def test_a_change_while_a_turn_runs(self, chooser: Person, model: Upstream) -> None:
        """It holds from the next model call of that turn on."""
        model.play(calls_answer(call("read_file", {"path": "a"}, id="call_1")))
        model.play(text_answer("Done."))
        session = await chooser.session(agent="ask")
        await chooser.say(session, "read a")
        await chooser.until(session, "turn.waiting")
        await change(chooser, session, model="large")
        await chooser.answer(session, "call_1", result="aaa")
        events = await chooser.until(session, *END)

        assert [body["model"] for body in model.bodies] == ["test-model", "large"]
        assert [e.data["model"] for e in events if e.type == "message.completed"] == ["test-model", "large"]

    @pytest.mark.parametrize("wanted", ["nothing", "", "TEST-MODEL", "large "])
    async def test_only_what_is_allowed(self, chooser: Person, wanted: str) -> None:
        """Any other is refused where it is said, with the models that are allowed; nothing changes."""
        session = await chooser.session(model="small")
        made = await chooser.http.post("/api/v1/sessions", json={"session_id": "new", "model": wanted})
        changed = await change(chooser, session, model=wanted, title="t")

        for answer in (made, changed):
            problem = answer.json()
            assert (answer.status_code, problem["field"], problem["detail"]) == (400, "model", ALLOWED)
        assert (await chooser.http.get("/api/v1/sessions/new")).status_code == 404
        shown = (await chooser.http.get(f"/api/v1/sessions/{session}")).json()
        assert (shown["model"], shown["title"]) == ("small", None)

    async def test_a_model_that_is_no_longer_allowed(
        self, serve: Serve, model: Upstream, with_models: dict[str, Any]
    ) -> None:
        """After a restart without it the next turn is answered by the next in the order; then it may be chosen anew."""
        model.otherwise = lambda _body: (text_answer("Hi."),)
        async with serve(**with_models) as running:
            session = await (await running.person()).session(agent="ask", model="large")
        async with serve(**with_models | {"llm_models": ("small",)}) as running:
            ada = await running.person()

            assert await model_of(ada, session) == "large"
            assert await ask(ada, session) == "test-model"
            refused = await change(ada, session, model="large")
            assert (refused.status_code, refused.json()["field"]) == (400, "model")
            assert (await change(ada, session, title="t")).status_code == 200
            assert (await change(ada, session, model="small")).json()["model"] == "small"
            assert await ask(ada, session) == "small"

    async def test_the_same_request_again(self, chooser: Person) -> None:
        """The model belongs to what a key stands for: with another one it is another request."""
        headers = {"Idempotency-Key": "one"}
        first = await chooser.http.post("/api/v1/sessions", json={"model": "small"}, headers=headers)
        again = await chooser.http.post("/api/v1/sessions", json={"model": "small"}, headers=headers)
        other = await chooser.http.post("/api/v1/sessions", json={"model": "large"}, headers=headers)

        assert first.json() == again.json()
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


class TestAgent:
    async def test_the_order(
        self,
        start: Callable[..., Awaitable[Running]],
        model: Upstream,
        with_models: dict[str, Any],
        tmp_path: Path,
    ) -> None:
        """The session's goes before its agent's, the agent's before the default, also after a hand-over."""
        own = agents_with(tmp_path, ask="small")
        model.otherwise = lambda _body: (text_answer("Hi."),)
        ada = await (await start(**with_models | own)).person()
        session = await ada.session(agent="debug")
        answered = [await ask(ada, session)]
        await ada.http.post(f"/api/v1/agents/{session}/switch", json={"target_agent": "ask"})
        answered.append(await ask(ada, session))
        await change(ada, session, model="large")
        answered.append(await ask(ada, session))
        await change(ada, session, model=None)
        answered.append(await ask(ada, session))

        assert answered == ["test-model", "small", "large", "small"]

    def test_one_that_is_not_allowed_ends_the_start(
        self, databases: DatabaseUrls, tmp_path: Path, with_models: dict[str, Any]
    ) -> None:
        """The line names the file of the agent and its line, the model, and the variable."""
        settings = make_settings(databases, tmp_path, **with_models | agents_with(tmp_path, coder="huge"))
        expected = r"coder\.md, line 3: model: huge is not allowed; AGENT_RUNTIME__LLM_MODELS has to name it\.$"

        with pytest.raises(StartError, match=expected):
            create_app(settings, issuer="http://127.0.0.1")


class TestList:
    async def test_what_may_be_chosen(
        self, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any], tmp_path: Path
    ) -> None:
        """Each model once, the default first, with its window and the prices that are known; all may be chosen."""
        (tmp_path / "prices.toml").write_text("[models]\nsmall = { input = 0.075, output = 3, cache_read = 0.3 }\n")
        more = {
            "llm_models": ("small", "test-model", "small"),
            "llm_context_tokens": 64_000,
            "prices_file": tmp_path / "prices.toml",
        }
        ada = await (await start(**with_model | more)).person()
        answer = await ada.http.get("/api/v1/models")
        shared = {"object": "model", "owned_by": "openai", "context_tokens": 64_000}

        assert answer.json() == {
            "object": "list",
            "data": [
                {"id": "test-model"} | shared,
                {"id": "small", "prices": {"input": 0.075, "output": 3.0, "cache_read": 0.3}} | shared,
            ],
        }
        for each in answer.json()["data"]:
            assert await ada.session(model=each["id"])

    async def test_the_fallback_models_without_a_list(
        self, start: Callable[..., Awaitable[Running]], with_model: dict[str, Any]
    ) -> None:
        """Where no list is set the models are the first one and those that are asked in its place."""
        ada = await (await start(**with_model | {"llm_fallback_models": ("second", "third")})).person()
        listed = (await ada.http.get("/api/v1/models")).json()["data"]

        assert [each["id"] for each in listed] == ["test-model", "second", "third"]

    async def test_offline(self, running: Running) -> None:
        """Without a model server there is fake-llm; reading the list needs the scope to read, and no more."""
        reader = await running.person("rita", "api:read")
        writer = await running.person("will", "api:write")
        listed = (await reader.http.get("/api/v1/models")).json()["data"]

        assert [(each["id"], each["owned_by"]) for each in listed] == [("fake-llm", "fake-llm")]
        assert (await writer.http.get("/api/v1/models")).status_code == 403
        assert (await running.http.get("/api/v1/models")).status_code == 401


def test_choosing() -> None:
    """The first choice that is allowed counts; without one it is the default."""
    models = Models("a", ("b", "a", "c"))

    assert models.allowed == ("a", "b", "c")
    assert models.choose(None, None) == models.choose("x", None) == models.choose("x", "y") == "a"
    assert models.choose("b", "c") == models.choose("x", "b") == models.choose(None, "b") == "b"
