"""The event log in pages of JSON: the same sequence as the stream, by the same cursor."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.agent.transcripts import END

if TYPE_CHECKING:
    from tests.support.server import Event, Person


async def talk(ada: Person, count: int = 20) -> tuple[str, list[Event]]:
    """Make a session with one completed turn; return its whole log."""
    session = await ada.session(agent="ask")
    await ada.say(session, f"count to {count}")
    return session, await ada.until(session, *END)


async def read(ada: Person, session: str, **params: Any) -> dict[str, Any]:
    """Read one page."""
    answer = await ada.http.get(f"/api/v1/sessions/{session}/events", params={"format": "json"} | params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    page: dict[str, Any] = answer.json()
    return page


async def test_pages_of_any_size_give_the_log_of_the_stream(ada: Person) -> None:
    """From every cursor, followed by ``next_after``, the pages joined are what the stream sends."""
    session, whole = await talk(ada)
    expected = [(event.seq, event.type, event.data) for event in whole]
    for limit in (1, 2, 7, len(whole), 1000):
        after, seen = 0, []
        while page := await read(ada, session, after=after, limit=limit):
            if not page["events"]:
                break
            assert len(page["events"]) <= limit
            assert page["latest"] == len(whole)
            seen += [(event["seq"], event["type"], event["data"]) for event in page["events"]]
            after = page["next_after"]
        assert seen == expected
    times = [datetime.fromisoformat(event["created_at"]) for event in (await read(ada, session))["events"]]

    assert times == sorted(times)
    assert times[0].utcoffset() is not None


async def test_a_page_at_or_beyond_the_end_is_empty_and_its_cursor_stays(ada: Person) -> None:
    """Nothing new is no error: the cursor that was given is given back, and later finds what came."""
    session, whole = await talk(ada, 1)
    end = len(whole)

    assert await read(ada, session, after=end) == {"events": [], "next_after": end, "latest": end}
    assert await read(ada, session, after=end + 2) == {"events": [], "next_after": end + 2, "latest": end}
    assert await read(ada, session, after="latest") == {"events": [], "next_after": end, "latest": end}

    await ada.say(session, "count to 1")
    await ada.until(session, *END, after=end)
    assert (await read(ada, session, after=end + 2))["events"][0]["seq"] == end + 3


async def test_accept_chooses_the_form(ada: Person) -> None:
    """The parameter wins over the header; whoever names neither gets the stream."""
    session, _ = await talk(ada, 1)
    cases: list[tuple[dict[str, str], dict[str, str], str]] = [
        ({}, {"Accept": "application/json"}, "application/json"),
        ({}, {"Accept": "application/json;q=0.9, text/event-stream;q=0.1"}, "application/json"),
        ({"format": "json"}, {"Accept": "text/event-stream"}, "application/json"),
        ({"format": "sse"}, {"Accept": "application/json"}, "text/event-stream"),
        ({}, {"Accept": "text/event-stream"}, "text/event-stream"),
        ({}, {"Accept": "*/*"}, "text/event-stream"),
        ({}, {"Accept": "image/png"}, "text/event-stream"),
    ]
    for params, headers, expected in cases:
        url = f"/api/v1/sessions/{session}/events"
        async with ada.http.stream("GET", url, params=params, headers=headers) as answer:
            assert answer.headers["content-type"].startswith(expected), (params, headers)


async def test_bad_parameters_are_named(ada: Person) -> None:
    """The cursor, the form and the limit are refused by name, in this form as in the other."""
    session = await ada.session()
    url = f"/api/v1/sessions/{session}/events"
    cases = [("after", wrong) for wrong in ("-1", "x", "1.5", "9" * 19)]
    cases += [("format", "xml"), ("limit", "0"), ("limit", "1001"), ("limit", "x")]
    for field, wrong in cases:
        answer = await ada.http.get(url, params={"format": "json"} | {field: wrong})
        assert (answer.status_code, answer.json()["field"]) == (400, field), (field, wrong)
    answer = await ada.http.get("/api/v1/sessions/nothing/events", params={"format": "json"})
    assert answer.status_code == 404
