"""``codelab audit tail --follow`` beside a server."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from codelab.auth.storage import SCHEMA, describe
from codelab.cli.audit.tail import describe_row, watch
from codelab.db import parse_url
from codelab.installation import Store

if TYPE_CHECKING:
    from tests.support.auth import RunningAuth


async def test_follow(served: RunningAuth) -> None:
    """It begins with the newest row and goes on with what is written; nobody's text leaves its line."""
    url = parse_url(served.settings.db_url, SCHEMA.variable)
    hostile = "eve\n\x1b[2J\u202eadmin"
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(60), aclosing(watch([Store(describe(served.settings), url)], 1, follow=True)) as pages:
        async for rows in pages:
            if not seen:
                await served.login(hostile, "wrong")
                await served.login("ada", "wrong")
            seen += rows
            if len(seen) == 3:
                break

    assert [row["event_type"] for row in seen] == ["user_created", "login_failed", "login_failed"]
    assert [row["seq"] for row in seen] == list(range(seen[0]["seq"], seen[0]["seq"] + 3))
    line = describe_row(seen[1])
    assert line.isprintable()
    assert " auth  login_failed client_id=codelab-flutter-app " in line
    assert 'error_message="Invalid username or password"' in line
