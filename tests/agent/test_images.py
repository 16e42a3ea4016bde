"""Images in messages: taken as data, kept, told without their bytes, and shown to models as long as they fit."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from sqlalchemy.event import listen

from codelab.agent.turns import images
from codelab.agent.turns.transcript import IMAGES_CUT
from tests.agent.providers import messages_api
from tests.agent.providers.upstream import STALL, run_upstream, text_answer
from tests.agent.transcripts import END, call, calls_answer, last, text_of
from tests.agent.witness import Witness
from tests.support.sockets import socket_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.databases import DatabaseUrls
    from tests.support.server import Person, Running

BEGINNINGS = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff\xe0",
    "image/gif": b"GIF89a",
    "image/webp": b"RIFF\x0a\x00\x00\x00WEBP",
}
JSON = {"Content-Type": "application/json"}
INERT = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
}


def raw(media_type: str = "image/png", size: int = 100) -> bytes:
    """Make what begins like an image."""
    return BEGINNINGS[media_type].ljust(size, b"\xfe")


def image(media_type: str = "image/png", size: int = 100) -> dict[str, str]:
    """Make an image as a message carries it."""
    return {"media_type": media_type, "data": base64.b64encode(raw(media_type, size)).decode()}


def told(media_type: str = "image/png", size: int = 100) -> dict[str, Any]:
    """Make what is told of it."""
    return {"media_type": media_type, "bytes": size, "sha256": hashlib.sha256(raw(media_type, size)).hexdigest()}


def shown(message: dict[str, Any]) -> list[str]:
    """Return the addresses of the images in a message to a model of OpenAI's kind."""
    parts = message["content"] if isinstance(message["content"], list) else []
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def url_of(media_type: str = "image/png", size: int = 100) -> str:
    """Make the address that OpenAI's API takes: the data itself."""
    return f"data:{media_type};base64,{image(media_type, size)['data']}"


async def turn(person: Person, session: str, content: str, *images: dict[str, str]) -> dict[str, Any]:
    """Hold a turn; return its acknowledgement."""
    accepted = await person.say(session, content, **({"images": list(images)} if images else {}))
    events = await person.until(session, *END, turn=accepted["turn_id"])
    return accepted | {"end": events[-1]}


class TestMessages:
    async def test_one_of_each_kind(self, talker: Person, model: Upstream) -> None:
        """The model is sent the data; the event and the history tell what each is; the bytes come back as they were."""
        model.play(text_answer("A cat."))
        kinds = [(kind, 100 + n) for n, kind in enumerate(BEGINNINGS)]
        session = await talker.session(agent="ask")
        accepted = await turn(talker, session, "what is this?", *(image(*kind) for kind in kinds))
        events = await talker.until(session, *END)
        history = await talker.history(session)
        sent = model.bodies[0]["messages"][-1]

        assert shown(sent) == [url_of(*kind) for kind in kinds]
        assert sent["content"][-1] == {"type": "text", "text": "what is this?"}
        assert last(events, "message.created")["images"] == [told(*kind) for kind in kinds]
        assert history[0]["images"] == [told(*kind) for kind in kinds]
        assert "images" not in history[1]
        for n, (media_type, size) in enumerate(kinds):
            path = f"/api/v1/sessions/{session}/messages/{accepted['message_id']}/images/{n}"
            answer = await talker.http.get(path)
            assert (answer.status_code, answer.content) == (200, raw(media_type, size))
            assert answer.headers["content-type"] == media_type
            assert answer.headers["content-disposition"].startswith("attachment; ")
            assert INERT.items() <= dict(answer.headers).items()

    async def test_the_data_is_kept_once(self, ada: Person, migrated: DatabaseUrls) -> None:
        """No event and no column of a message has the bytes, and a message without images has none of it."""
        session = await ada.session(agent="ask")
        await turn(ada, session, "hello")
        await turn(ada, session, "look", image(size=3000))
        events = await ada.until(session, "turn.completed")
        async with Witness.at(migrated) as witness:
            assert (await witness.counts())["message_images"] == 1

        assert image(size=3000)["data"][:200] not in str(events)
        assert events[0].data["images"] == []

    async def test_what_is_no_image_is_refused_by_name(self, ada: Person, migrated: DatabaseUrls) -> None:
        """Wrong types, other bytes, no base64, addresses, too many: 400 at the member, and nothing is written."""
        good = image()
        cases: list[tuple[Any, str]] = [
            ([good, {"media_type": "image/png", "data": "no base64!"}], "images[1].data"),
            ([good, {"media_type": "image/png", "data": good["data"] + "\n"}], "images[1].data"),
            ([{"media_type": "image/png", "data": good["data"][:-1]}], "images[0].data"),
            ([{"media_type": "image/png", "data": "\u00e9"}], "images[0].data"),
            ([{"media_type": "image/png", "data": ""}], "images[0].data"),
            ([{"media_type": "image/gif", "data": good["data"]}], "images[0].data"),
            ([{"media_type": "image/jpeg", "data": base64.b64encode(b"<svg/>").decode()}], "images[0].data"),
            ([{"media_type": "image/svg+xml", "data": good["data"]}], "images[0].media_type"),
            ([{"media_type": "image/png\n", "data": good["data"]}], "images[0].media_type"),
            ([{"media_type": "image/png", "data": 5}], "images[0].data"),
            ([{"media_type": "image/png"}], "images[0].data"),
            ([{"data": good["data"]}], "images[0].media_type"),
            ([good | {"url": "https://example.org/a.png"}], "images[0].url"),
            (["https://example.org/a.png"], "images[0]"),
            ([good] * 9, "images"),
            ("x", "images"),
        ]
        session = await ada.session(agent="ask")
        url = f"/api/v1/sessions/{session}/messages"
        async with Witness.at(migrated) as witness, socket_of(ada, session) as socket:
            before = await witness.counts()
            for images, field in cases:
                answer = await ada.http.post(url, json={"content": "look", "images": images})
                problem = answer.json()
                assert (answer.status_code, problem["field"]) == (400, field), problem
                assert problem["detail"].startswith(f"{field}: ")
                framed = (await socket.ask("message.send", content="look", images=images))["error"]
                assert (framed["status"], framed["field"]) == (400, field), framed
            for member, named in (("media_type", True), ("data", True), ("\\ud800", False)):
                odd = '{"media_type": "image/png", "data": "", "NAME": "\\ud800"}'.replace("NAME", member)
                body = f'{{"type": "message.send", "id": "odd", "content": "look", "images": [{odd}]}}'
                answer = await ada.http.post(url, content=body, headers=JSON)
                framed = (await socket.ask_raw(body, "odd"))["error"]
                assert (answer.status_code, framed["status"]) == (400, 400)
                member_field = f"images[0].{member}" if named else None
                assert answer.json().get("field") == framed.get("field") == member_field
            assert await witness.counts() == before

    async def test_sizes(self, start: Callable[..., Awaitable[Running]]) -> None:
        """Eight images of the largest size are taken, over HTTP and in a frame; a byte more in one is 413 by name."""
        largest = 3_000_001
        ada = await (await start(max_image_bytes=largest, max_message_bytes=1000, max_result_bytes=2000)).person()
        session = await ada.session(agent="ask")
        url = f"/api/v1/sessions/{session}/messages"
        body = {"content": "\u00e9" * 500, "images": [image(size=largest)] * 8}
        taken = await ada.http.post(url, json=body)
        for size in (largest + 1, largest + 3000):
            refused = await ada.http.post(url, json={"content": "x", "images": [image(), image(size=size)]})
            assert (refused.status_code, refused.json()["field"]) == (413, "images[1].data")
        huge = await ada.http.post(url, json={"content": "x", "images": [image(size=largest)] * 9})
        elsewhere = await ada.http.post("/api/v1/sessions", json={"metadata": {"a": "x" * 200_000}})
        async with socket_of(ada, session) as socket:
            framed = await socket.ask("message.send", **body)
            over = await socket.ask("message.send", content="x", images=[image(size=largest + 1)])
        await ada.until(session, *END, turn=framed["result"]["turn_id"])

        assert taken.status_code == 202, taken.text
        assert [huge.status_code, elsewhere.status_code] == [413, 413]
        assert framed["ok"]
        assert (over["error"]["status"], over["error"]["field"]) == (413, "images[0].data")
        assert [len(m["images"]) for m in await ada.history(session) if m["role"] == "user"] == [8, 8]

    async def test_bytes_that_are_not_there(self, running: Running, ada: Person) -> None:
        """No such number, message or session, or somebody else's: 404."""
        session = await ada.session(agent="ask")
        other = await ada.session(agent="ask")
        said = await turn(ada, session, "look", image())
        bob = await running.person("bob")
        message = said["message_id"]
        for path in (
            f"{session}/messages/{message}/images/1",
            f"{session}/messages/{message}/images/-1",
            f"{session}/messages/{message}/images/{10**30}",
            f"{session}/messages/{message}/images/x",
            f"{session}/messages/nothing/images/0",
            f"{session}/messages/%00/images/0",
            f"{session}/messages/{'x' * 4000}/images/0",
            f"{other}/messages/{message}/images/0",
        ):
            answer = await ada.http.get(f"/api/v1/sessions/{path}")
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path
        assert (await bob.http.get(f"/api/v1/sessions/{session}/messages/{message}/images/0")).status_code == 404
        assert (await ada.http.get(f"/api/v1/sessions/{session}/messages/{message}/images/0")).status_code == 200


class TestCommands:
    async def test_the_same_request_again(self, ada: Person) -> None:
        """A key stands for the images too: the same ones get the same answer, others are another request."""
        session = await ada.session(agent="ask")
        url, headers = f"/api/v1/sessions/{session}/messages", {"Idempotency-Key": "one"}
        bodies = [{"content": "look", "images": [image(size=size)]} for size in (100, 100, 101)]
        first, again, other = [await ada.http.post(url, json=body, headers=headers) for body in bodies]
        await ada.until(session, *END, turn=first.json()["turn_id"])

        assert (again.status_code, again.json()) == (202, first.json())
        assert again.headers["idempotent-replayed"] == "true"
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
        assert [len(m["images"]) for m in await ada.history(session) if m["role"] == "user"] == [1]

    async def test_queued_and_steered(self, talker: Person, model: Upstream) -> None:
        """A message that waits tells its images in the queue; one that steers brings them into the running turn."""
        model.play(calls_answer(call("read_file", {"path": "a"}, id="call_1")))
        model.otherwise = lambda _body: (text_answer("I see."),)
        session = await talker.session(agent="ask")
        await talker.say(session, "read a")
        await talker.until(session, "turn.waiting")
        queued = await talker.say(session, "and this", images=[image("image/gif")])
        await talker.say(session, "look", images=[image()], delivery="steer")
        queue = (await talker.http.get(f"/api/v1/sessions/{session}/queue")).json()["queue"]
        await talker.answer(session, "call_1", result="aaa")
        await talker.until(session, *END, turn=queued["turn_id"])

        assert [each["images"] for each in queue] == [[told("image/gif")], [told()]]
        assert [shown(message) for message in model.bodies[1]["messages"][1:]] == [[], [], [], [url_of()]]
        assert shown(model.bodies[2]["messages"][-1]) == [url_of("image/gif")]

    async def test_a_message_that_was_taken_back(self, talker: Person, model: Upstream) -> None:
        """No model sees its images, and the person still can."""
        model.play(text_of("Well"), STALL)
        model.play(text_answer("Good."))
        session = await talker.session(agent="ask")
        await talker.say(session, "begin")
        await talker.until(session, "message.delta")
        queued = await talker.say(session, "look", images=[image()])
        removed = await talker.http.delete(f"/api/v1/sessions/{session}/queue/{queued['turn_id']}")
        await talker.http.post(f"/api/v1/sessions/{session}/cancel")
        await turn(talker, session, "go on")
        path = f"/api/v1/sessions/{session}/messages/{queued['message_id']}/images/0"

        assert removed.status_code == 200
        assert "image_url" not in str(model.bodies)
        assert (await talker.http.get(path)).content == raw()


class TestWindow:
    async def test_they_are_sent_again_after_a_restart(
        self, serve: Serve, model: Upstream, with_model: dict[str, Any]
    ) -> None:
        """A turn that was cut off is asked for with its images, byte for byte as before, and so is the next one."""
        model.play(text_of("A c"), STALL)
        model.otherwise = lambda _body: (text_answer("A cat."),)
        async with serve(**with_model) as running:
            ada = await running.person()
            session = await ada.session(agent="ask")
            accepted = await ada.say(session, "what is this?", images=[image(), image("image/webp")])
            await ada.until(session, "message.delta")
        async with serve(**with_model) as running:
            ada = await running.person()
            await ada.until(session, "turn.completed", turn=accepted["turn_id"])
            await turn(ada, session, "are you sure?")

        assert model.bodies[0] == model.bodies[1]
        assert shown(model.bodies[0]["messages"][1]) == [url_of(), url_of("image/webp")]
        assert model.bodies[2]["messages"][:2] == model.bodies[0]["messages"]

    async def test_what_falls_out_is_not_read(
        self, start: Callable[..., Awaitable[Running]], model: Upstream, with_model: dict[str, Any]
    ) -> None:
        """An image counts as 9,600 bytes: what does not fit beside newer ones is neither read nor sent."""
        model.otherwise = lambda _body: (text_answer("Yes."),)
        small = {"llm_context_tokens": 20_000, "llm_max_output_tokens": 2_000, "summarise_at": None}
        running = await start(**with_model | small)
        ada = await running.person()
        session = await ada.session(agent="ask")
        reads: list[int] = []

        def count(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
            if "FROM message_images" in statement:
                reads.append(len(values))

        listen(running.app.state.agent.database.engine.sync_engine, "before_cursor_execute", count)
        for n in range(8):
            await turn(ada, session, f"look at {n}", image(size=200 + n))
        seen = [[url for message in body["messages"] for url in shown(message)] for body in model.bodies]

        # Of about 54,000 bytes the prompt and the tools take some; five images fit beside them and no sixth.
        most = max(map(len, seen))
        assert 3 <= most <= 5
        assert seen[-1] == [url_of(size=200 + n) for n in range(8 - most, 8)]
        assert reads == [len(each) for each in seen]
        context = (await ada.http.get(f"/api/v1/sessions/{session}/context")).json()
        assert [m["images"] for m in context["messages"] if "images" in m] == [["image/png"]] * most
        assert context["tokens_estimated"] > most * 2500
        assert len(reads) == 8

    async def test_only_so_many_bytes_in_one_request(
        self, talker: Person, model: Upstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those of the current turn are always sent; older ones, newest first, as far as the bytes go; a mark stays."""
        monkeypatch.setattr(images, "MOST_BYTES", 3 * len(image(size=900)["data"]))
        model.otherwise = lambda _body: (text_answer("Yes."),)
        session = await talker.session(agent="ask")
        for n in range(4):
            await turn(talker, session, f"look at {n}", image(size=900 - n % 2))
        await turn(talker, session, "all at once", *[image(size=900)] * 5)
        users = [[m for m in body["messages"] if m["role"] == "user"] for body in model.bodies]

        assert [len(shown(m)) for m in users[2]] == [1, 1, 1]
        assert [len(shown(m)) for m in users[3]] == [0, 1, 1, 1]
        assert [len(shown(m)) for m in users[4]] == [0, 0, 0, 0, 5]
        assert users[3][0]["content"] == f"look at 0\n\n{IMAGES_CUT}"

    async def test_a_model_that_takes_none(self, talker: Person, model: Upstream) -> None:
        """The provider's refusal ends the turn; what was refused is not sent again, so the session goes on."""
        refusal = b'{"error": {"message": "this model does not support images"}}'
        session = await talker.session(agent="ask")
        model.play(text_answer("A cat."))
        await turn(talker, session, "look", image())
        model.play(refusal, status=400)
        refused = await turn(talker, session, "and this", image("image/gif"))
        model.otherwise = lambda _body: (text_answer("Good."),)
        again = await turn(talker, session, "then without")
        fresh = await turn(talker, session, "look again", image("image/webp"))
        users = [[m for m in body["messages"] if m["role"] == "user"] for body in model.bodies]

        assert refused["end"].type == "turn.failed"
        assert refused["end"].data["code"] == "model_refused"
        assert "this model does not support images" in refused["end"].data["error"]
        assert (again["end"].type, fresh["end"].type) == ("turn.completed", "turn.completed")
        assert [m["content"] for m in users[2]] == [
            f"look\n\n{IMAGES_CUT}",
            f"and this\n\n{IMAGES_CUT}",
            "then without",
        ]
        assert [len(shown(m)) for m in users[3]] == [0, 0, 0, 1]

    async def test_a_summary_says_that_there_were_images(
        self, start: Callable[..., Awaitable[Running]], model: Upstream, with_model: dict[str, Any]
    ) -> None:
        """They fill the window like text does; the model that summarises is told of them and not shown them."""
        small = {"llm_context_tokens": 20_000, "llm_max_output_tokens": 2_000}
        model.otherwise = lambda _body: (text_answer("Yes."),)
        ada = await (await start(**with_model | small)).person()
        session = await ada.session(agent="ask")
        for n in range(6):
            await turn(ada, session, f"look at {n}", image())
        asked = [str(body["messages"][1]["content"]) for body in model.bodies if "tools" not in body]

        assert asked
        assert '"images":["image/png"]' in asked[0]
        assert image()["data"] not in "".join(asked)


async def test_anthropic(start: Callable[..., Awaitable[Running]]) -> None:
    """Anthropic's API gets blocks with the data, before the text of the message, in requests that it takes."""
    async with run_upstream() as claude:
        claude.otherwise = lambda _body: (messages_api.answer(messages_api.text_block(0, "A cat.")),)
        settings: dict[str, Any] = {"llm_provider": "anthropic", "llm_proxy_url": claude.url, "llm_model": "claude-x"}
        ada = await (await start(**settings)).person()
        session = await ada.session(agent="ask")
        await turn(ada, session, "what is this?", image(), image("image/jpeg"))
        await turn(ada, session, "are you sure?")
        for body in claude.bodies:
            messages_api.check_request(body)
            blocks = body["messages"][0]["content"]
            sources = [
                {"type": "base64", "media_type": kind, "data": image(kind)["data"]}
                for kind in ("image/png", "image/jpeg")
            ]
            assert [block["source"] for block in blocks[:2]] == sources
            assert blocks[2]["text"] == "what is this?"


async def test_offline(ada: Person) -> None:
    """fake-llm says how many images it was shown, and does what the text asks for all the same."""
    session = await ada.session(agent="ask")
    await turn(ada, session, "what is this?", image(), image("image/gif"))
    await turn(ada, session, "count to 3", image())
    await turn(ada, session, "count to 2")
    answers = [m["content"] for m in await ada.history(session) if m["role"] == "assistant"]

    assert answers[0].startswith("Images in your message: 2 (image/png, image/gif). ")
    assert answers[1].startswith("Images in your message: 1 (image/png). ")
    assert answers[1].endswith("\n\n1 2 3")
    assert answers[2] == "1 2"
