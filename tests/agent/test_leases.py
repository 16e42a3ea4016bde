"""Which process works on a turn: leases, what becomes of a turn whose owner is gone, and of one that is taken over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from tests.agent.providers.upstream import STALL, chunk, chunks_of, text_answer
from tests.agent.test_steer import steer
from tests.agent.transcripts import END, call, calls_answer, last, text_of, types
from tests.agent.witness import Witness

if TYPE_CHECKING:
    from tests.agent.conftest import Serve
    from tests.agent.providers.upstream import Upstream
    from tests.support.databases import DatabaseUrls
    from tests.support.server import Person, Running

#: Times as both databases read them.
PAST, FUTURE = "2001-01-01 00:00:00.000000", "2999-01-01 00:00:00.000000"
FINISH = chunks_of(chunk(finish="stop"))
LEASES = "SELECT lease_owner, lease_expires_at FROM turns ORDER BY db_id"


async def until(witness: Witness, query: str, rows: list[tuple[Any, ...]]) -> None:
    """Return when a query gives these rows."""
    async with asyncio.timeout(60):
        while await witness.rows(query) != rows:
            await asyncio.sleep(0.02)


async def give_away(witness: Witness, expires: str) -> None:
    """Name another process in every turn that runs."""
    await witness.change(f"UPDATE turns SET lease_owner = 'other', lease_expires_at = '{expires}'")  # noqa: S608 - ours


async def hanging(ada: Person, model: Upstream, *more: Any) -> str:
    """Make a session whose model has said one word."""
    model.play(text_of("Well"), *more)
    session = await ada.session(agent="ask")
    accepted = await ada.say(session, "hello")
    await ada.until(session, "message.delta", after=accepted["seq"])
    return session


class TestOwner:
    async def test_a_running_turn_is_leased_and_renewed(
        self, serve: Serve, model: Upstream, with_model: dict[str, Any], migrated: DatabaseUrls
    ) -> None:
        """The lease names the process and moves on while the turn runs; waiting turns and ended ones have none."""
        gate = asyncio.Event()
        model.play(text_of("I read."), gate, calls_answer(call("read_file", {"path": "a"}, id="a")))
        model.play(text_answer("Read."))
        async with serve(**with_model, lease_seconds=0.5) as running, Witness.at(migrated) as witness:
            ada = await running.person()
            session = await ada.session(agent="ask")
            await ada.say(session, "read a")
            await ada.until(session, "message.delta")
            ((owner, first),) = await witness.rows(LEASES)
            async with asyncio.timeout(60):
                while (await witness.rows(LEASES))[0][1] <= first:
                    await asyncio.sleep(0.02)
            ((still, _),) = await witness.rows(LEASES)
            gate.set()
            await ada.until(session, "turn.waiting")
            waiting = await witness.rows(LEASES)
            await ada.answer(session, "a", result="A")
            await ada.until(session, "turn.completed")
            ended = await witness.rows(LEASES)

        assert owner is not None
        assert still == owner
        assert waiting == ended == [(None, None)]

    async def test_one_statement_renews_all(self, running: Running, migrated: DatabaseUrls) -> None:
        """Twenty turns run: to renew their leases is one UPDATE."""
        ada = await running.person()
        sessions = [await ada.session(agent="ask") for _ in range(20)]
        for session in sessions:
            await ada.say(session, "count to 5000")
        async with Witness.at(migrated) as witness:
            await until(witness, "SELECT count(*) FROM turns WHERE state = 'running'", [(20,)])
            before = await witness.rows(LEASES)
            agent = running.app.state.agent
            renewals: list[str] = []

            @event.listens_for(agent.database.engine.sync_engine, "before_cursor_execute")
            def _count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
                if statement.startswith("UPDATE turns SET lease_expires_at"):
                    renewals.append(statement)

            await agent.runner.keep_leases()
            after = await witness.rows(LEASES)

        assert len(renewals) == 1
        assert len({owner for owner, _ in before}) == 1
        assert all(new > old for (_, old), (_, new) in zip(before, after, strict=True))

    async def test_a_stop_gives_the_leases_back(
        self, serve: Serve, model: Upstream, with_model: dict[str, Any], migrated: DatabaseUrls
    ) -> None:
        """After an orderly stop the turn runs on in the database and is nobody's."""
        async with serve(**with_model) as running:
            await hanging(await running.person(), model, STALL)
        async with Witness.at(migrated) as witness:
            left = await witness.rows("SELECT state, lease_owner, lease_expires_at FROM turns")

        assert left == [("running", None, None)]


class TestTakeover:
    async def test_a_start_needs_not_wait_for_a_lease(
        self, serve: Serve, model: Upstream, with_model: dict[str, Any], migrated: DatabaseUrls
    ) -> None:
        """Who holds the lock of the database knows that the owner is gone, however long its lease."""
        async with serve(**with_model) as running:
            session = await hanging(await running.person(), model, STALL)
        model.play(text_answer("Yes."))
        async with Witness.at(migrated) as witness:
            await give_away(witness, FUTURE)
        async with serve(**with_model, lease_seconds=3600.0) as running:
            events = await (await running.person()).until(session, *END)

        assert types(events)[-1] == "turn.completed"

    async def test_without_a_proof_a_turn_is_taken_when_its_lease_ends(
        self, serve: Serve, model: Upstream, with_model: dict[str, Any], migrated: DatabaseUrls
    ) -> None:
        """Another's turn is left alone while its lease lasts; then it goes on here, and what was said is kept."""
        async with serve(**with_model, lease_seconds=0.3) as running, Witness.at(migrated) as witness:
            ada = await running.person()
            session = await hanging(ada, model, STALL)
            await give_away(witness, FUTURE)
            async with asyncio.timeout(60):
                await model.closed_by_client.wait()  # what is not ours is not paid for any longer
            await running.app.state.agent.runner.recover(proven=False)
            alone = await witness.rows("SELECT lease_owner FROM turns")
            asked = len(model.bodies)
            model.play(text_answer("Yes."))
            await give_away(witness, PAST)
            events = await ada.until(session, *END)

        assert (alone, asked) == ([("other",)], 1)
        assert [e.data["status"] for e in events if e.type == "message.completed"] == ["interrupted", "completed"]
        assert events[-1].type == "turn.completed"

    @pytest.mark.parametrize("ending", [(text_of(" then."), FINISH), (b"data: {{{\n\n",), (b"",)])
    async def test_a_runner_that_was_taken_over_writes_nothing(
        self,
        serve: Serve,
        model: Upstream,
        with_model: dict[str, Any],
        migrated: DatabaseUrls,
        ending: tuple[bytes, ...],
    ) -> None:
        """Its model speaks on, fails or breaks off: the log and the turn stay as the other owner has them."""
        gate = asyncio.Event()
        look = "SELECT seq, type, data FROM session_events ORDER BY seq"
        async with serve(**with_model, lease_seconds=3600.0) as running, Witness.at(migrated) as witness:
            await hanging(await running.person(), model, gate, *ending)
            await give_away(witness, FUTURE)
            before = await witness.rows(look)
            gate.set()
            async with asyncio.timeout(60):
                while running.app.state.agent.runner.running:
                    await asyncio.sleep(0.01)
            after = await witness.rows(look)
            turn = await witness.rows("SELECT state, steps, lease_owner FROM turns")

        assert before == after
        assert turn == [("running", 0, "other")]


class TestOnRestart:
    async def test_fail_ends_what_was_cut_off_and_nothing_else(
        self, serve: Serve, model: Upstream, with_model: dict[str, Any]
    ) -> None:
        """A running turn fails and keeps what was said; one that waits goes on waiting; those in line run."""
        settings = with_model | {"on_restart": "fail"}
        async with serve(**settings) as running:
            ada = await running.person()
            cut = await hanging(ada, model, STALL)
            queued = await ada.say(cut, "and then?")
            steering = await steer(ada, cut, "briefly")
            model.play(calls_answer(call("read_file", {"path": "a"}, id="a")))
            waiting = await ada.session(agent="ask")
            await ada.say(waiting, "read a")
            await ada.until(waiting, "turn.waiting")
        model.otherwise = lambda _: (text_answer("Yes."),)
        async with serve(**settings) as running:
            ada = await running.person()
            events = await ada.events(
                cut, lambda e: e.type == "turn.completed" and e.data["turn_id"] != queued["turn_id"]
            )
            await ada.answer(waiting, "a", result="A")
            went_on = await ada.until(waiting, *END)
            history = await ada.history(cut)
        failed = last(events, "turn.failed")

        assert failed["code"] == "interrupted_by_restart"
        assert [(m["content"], m["status"]) for m in history] == [
            ("hello", "completed"),
            ("Well", "interrupted"),
            ("and then?", "completed"),
            ("Yes.", "completed"),
            ("briefly", "completed"),
            ("Yes.", "completed"),
        ]
        assert types(events)[-1] == "turn.completed"
        assert last(events, "turn.started")["message_id"] == steering["message_id"]
        assert types(went_on)[-1] == "turn.completed"
