"""The list of sessions: order, pages, search, and a total that stays true."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from codelab.agent.repository import sessions, tables
from tests.agent.transcripts import END

if TYPE_CHECKING:
    from tests.support.server import Person, Running


async def list_all(ada: Person, **params: Any) -> list[dict[str, Any]]:
    """Read every page."""
    found: list[dict[str, Any]] = []
    while True:
        answer = await ada.http.get("/api/v1/sessions", params=params)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["sessions"]) <= params.get("limit", 100)
        found += page["sessions"]
        if page["next_cursor"] is None:
            return found
        params["cursor"] = page["next_cursor"]


async def add_sessions(running: Running, ada: Person, *titles: str) -> list[str]:
    """Make sessions in one transaction; return their ids."""
    ids = [f"s{number}" for number in range(len(titles))]

    async def unit(tx: Any) -> None:
        for session_id, title in zip(ids, titles, strict=True):
            await sessions.add(
                tx.session, session_id=session_id, owner_id=ada.id, title=title, agent="ask", metadata={}
            )

    await running.app.state.agent.database.write(unit)
    return ids


async def test_pages_have_every_session_once_in_order(running: Running, ada: Person) -> None:
    """250 sessions, 40 of them at the very same microsecond, are read in pages of any size, newest first."""
    ids = await add_sessions(running, ada, *(f"title {number}" for number in range(250)))
    database = running.app.state.agent.database
    async with database.read() as db:
        at = await db.scalar(select(tables.sessions.c.last_activity).where(tables.sessions.c.id == "s100"))
    same = [f"s{number}" for number in range(100, 140)]

    async def unit(tx: Any) -> None:
        await tx.session.execute(
            tables.sessions.update().where(tables.sessions.c.id.in_(same)).values(last_activity=at)
        )

    await database.write(unit)
    bob = await running.person("bob")
    await bob.session()
    whole = [session["id"] for session in await list_all(ada, limit=1000)]

    assert sorted(whole) == sorted(ids)
    assert whole[:110] == ids[:139:-1]
    for limit in (7, 40, 100, 249, 250, 251):
        assert [session["id"] for session in await list_all(ada, limit=limit)] == whole
    first = (await ada.http.get("/api/v1/sessions")).json()
    assert (len(first["sessions"]), first["total"], first["limit"], first["offset"]) == (100, 250, 100, 0)


async def test_activity_moves_a_session_to_the_top(ada: Person) -> None:
    """A message counts as activity; a new title does not."""
    old, new = await ada.session(agent="ask"), await ada.session(agent="ask")
    await ada.http.patch(f"/api/v1/sessions/{old}", json={"title": "changed"})
    before = [session["id"] for session in await list_all(ada)]
    await ada.say(old, "count to 1")
    await ada.until(old, *END)

    assert before == [new, old]
    assert [session["id"] for session in await list_all(ada)] == [old, new]


async def test_search_ignores_case_in_every_script(running: Running, ada: Person) -> None:
    """Both databases find the same titles; what means something to LIKE stands for itself."""
    titles = ["Fix the PARSER", "Привет МИР", "ÄRGER mit Öl", "50% done", "a_b", "a/b\\c", "ΟΔΟΣ", "İzmir", "plain"]
    await add_sessions(running, ada, *titles)
    await ada.session()
    searches = {
        "parser": ["Fix the PARSER"],
        "THE PARSER": ["Fix the PARSER"],
        "мир": ["Привет МИР"],
        "ПРИВЕТ": ["Привет МИР"],
        "ärger": ["ÄRGER mit Öl"],
        "öL": ["ÄRGER mit Öl"],
        "%": ["50% done"],
        "_": ["a_b"],
        "/": ["a/b\\c"],
        "\\": ["a/b\\c"],
        "/%": [],
        "a%b": [],
        "οδο": ["ΟΔΟΣ"],
        "ΟΔΟΣ": ["ΟΔΟΣ"],
        "izmir": ["İzmir"],
        "nowhere": [],
        "'; DROP TABLE sessions; --": [],
        "x" * 500: [],
    }
    for text, expected in searches.items():
        page = (await ada.http.get("/api/v1/sessions", params={"q": text})).json()
        assert [session["title"] for session in page["sessions"]] == expected, text
        assert page["total"] is None
    pages = await list_all(ada, q="I", limit=1)
    assert [session["title"] for session in pages] == ["plain", "İzmir", "ÄRGER mit Öl", "Fix the PARSER"]


async def test_bad_parameters_are_refused_by_name(ada: Person) -> None:
    """A limit out of range, a text that cannot be stored, and cursors that nobody gave out."""

    def forge(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    forged = [
        "x",
        "%%%",
        "é",
        "a\x00",
        forge("{}"),
        forge("[]"),
        forge("[1,2]"),
        forge('["2026-01-01T00:00:00", 1]'),
        forge('["2026-01-01T00:00:00Z", -1]'),
        forge(f'["2026-01-01T00:00:00Z", {2**63}]'),
        forge(f'["2026-01-01T00:00:00Z", {10**40}]'),
        forge('["0001-01-01T00:00:00+14:00", 1]'),
        forge('["9999-12-31T23:59:59-14:00", 1]'),
        forge('["2026-01-01T00:00:00Z", 1, 1]'),
        forge("[" * 5000),
        "A" * 5000,
    ]
    wrong = [("cursor", text) for text in forged]
    wrong += [("limit", text) for text in ("0", "1001", "-1", "x", "1.5", "", "9" * 400)]
    wrong += [("q", text) for text in ("\x00", "x" * 501)]
    for field, text in wrong:
        answer = await ada.http.get("/api/v1/sessions", params={field: text})
        assert (answer.status_code, answer.json().get("field")) == (400, field), (field, text, answer.text)


async def test_the_total_stays_true_under_concurrency(ada: Person) -> None:
    """100 sessions made and 60 deleted, each twice at once and all together: the counter says 40."""

    async def live(number: int) -> None:
        made = await asyncio.gather(
            *(ada.http.post("/api/v1/sessions", json={"session_id": f"n{number}"}) for _ in range(2))
        )
        assert sorted(answer.status_code for answer in made) == [201, 409]
        if number < 60:
            gone = await asyncio.gather(*(ada.http.delete(f"/api/v1/sessions/n{number}") for _ in range(2)))
            assert sorted(answer.status_code for answer in gone) == [204, 404]

    await asyncio.gather(*(live(number) for number in range(100)))
    page = (await ada.http.get("/api/v1/sessions", params={"limit": 1000})).json()

    assert page["total"] == len(page["sessions"]) == 40
