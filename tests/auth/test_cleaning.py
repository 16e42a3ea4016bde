"""What module ``auth`` need not keep goes; what shows a theft, or is proof of anything, stays."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from codelab.auth.cleaning import clean, prune_audit, remove_tokens
from codelab.db import now
from codelab.db.upkeep import Batches
from tests.auth.test_audit_chain import check, faults, record, trail
from tests.support.browser import browsing
from tests.support.flows import WEB, let_in

if TYPE_CHECKING:
    import pytest

    from tests.support.auth import RunningAuth

FOREVER: dict[str, Any] = {"keep_ended_tokens": None, "keep_expired_keys": None, "keep_audit": None}


async def run(auth: RunningAuth, **settings: timedelta | None) -> dict[str, int]:
    """Clean once with these settings; what is not named is kept."""
    chain = auth.module._audit.chain
    return await clean(auth.module.database, replace(auth.settings, **(FOREVER | settings)), chain)


class TestTokens:
    async def test_ended_tokens_go_when_their_time_has_come(self, auth: RunningAuth) -> None:
        """Expired ones and revoked ones, each after the setting; a live one is still good."""
        tokens = [(await auth.login()).json()["refresh_token"] for _ in range(3)]
        rotated = (await auth.refresh(tokens[0])).json()["refresh_token"]
        old, young = now() - timedelta(days=31), now() - timedelta(days=29)
        logins = await auth.rows("SELECT id FROM refresh_tokens WHERE NOT revoked AND parent_jti_hash IS NULL")
        ids = [row["id"] for row in logins]
        move = "UPDATE refresh_tokens SET expires_at = :at WHERE id = :id"
        for row_id, at in zip(ids, (old, young), strict=False):
            await set_time(auth, move, at, id=row_id)
        await set_time(auth, "UPDATE refresh_tokens SET revoked_at = :at WHERE revoked", young)
        counts = await run(auth, keep_ended_tokens=timedelta(days=30))
        left = {row["id"] for row in await auth.rows("SELECT id FROM refresh_tokens")}

        assert counts["refresh tokens"] == 1
        assert ids[0] not in left
        assert len(left) == 3
        # The rotated one is still known, so that its reuse is noticed.
        await auth.refresh(tokens[0])
        events = [row["event_type"] for row in await trail(auth)]
        assert events[-1] == "token_reuse"
        assert (await auth.refresh(rotated)).status_code == 400
        await set_time(auth, "UPDATE refresh_tokens SET revoked_at = :at WHERE revoked", old)
        counts = await run(auth, keep_ended_tokens=timedelta(days=30))
        assert counts["refresh tokens"] == 2

    async def test_many_tokens_beside_logins(self, auth: RunningAuth) -> None:
        """5,000 go in batches while people log in; every one of those keeps their token."""
        await auth.login()
        await auth.execute(
            "INSERT INTO refresh_tokens "
            "(id, jti_hash, family_id, user_id, client_id, scope, expires_at, revoked, created_at) "
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
            "SELECT 'old-' || i, 'hash-' || i, 'family', user_id, client_id, scope, created_at, revoked, created_at "
            "FROM refresh_tokens, n WHERE id NOT LIKE 'old-%'"
        )
        database = auth.module.database
        cutoff = now()
        removing = asyncio.create_task(remove_tokens(Batches(database), cutoff))
        logins = [(await auth.login()).json()["refresh_token"] for _ in range(20)]

        assert await removing == 5000
        assert len(await auth.rows("SELECT id FROM refresh_tokens")) == 21
        for token in logins:
            assert (await auth.refresh(token)).status_code == 200
        assert await check(auth) == []


async def test_expired_keys_go_and_the_current_one_stays(auth: RunningAuth) -> None:
    """A key that signs has no end, and one whose tokens may still live is published."""
    at = now()
    columns = "INSERT INTO signing_keys (kid, alg, public_jwk, private_jwe, created_at, retired_at, expires_at) "
    for kid, days in (("old", 31), ("young", 29)):
        values = "SELECT :kid, alg, public_jwk, private_jwe, created_at, created_at, :at FROM signing_keys "
        values += "WHERE expires_at IS NULL"
        await set_time(auth, columns + values, at - timedelta(days=days), kid=kid)
    counts = await run(auth, keep_expired_keys=timedelta(days=30))
    kids = {row["kid"] for row in await auth.rows("SELECT kid FROM signing_keys")}

    assert counts["signing keys"] == 1
    assert len(kids) == 2
    assert "young" in kids


class TestAudit:
    async def test_forever_is_the_default(self, auth: RunningAuth) -> None:
        """Nobody loses a trail without having asked for it."""
        await record(auth, 3)
        await set_time(auth, "UPDATE audit_logs SET created_at = :at", now() - timedelta(days=9999))
        counts = await clean(auth.module.database, auth.settings, auth.module._audit.chain)

        assert counts["audit rows"] == 0
        assert len(await trail(auth)) == 3

    async def test_old_rows_go_and_the_rest_is_verified(self, auth: RunningAuth) -> None:
        """The prefix goes behind a checkpoint; later rows stay verifiable, and a second run does nothing."""
        await record(auth, 300)
        cutoff = now()
        await record(auth, 5)
        database, chain = auth.module.database, auth.module._audit.chain
        assert await prune_audit(database, Batches(database), chain, cutoff) == 300
        await record(auth, 1)

        assert [row["seq"] for row in await trail(auth)] == list(range(301, 307))
        assert await check(auth) == []
        assert await prune_audit(database, Batches(database), chain, cutoff) == 0
        assert len(await auth.rows("SELECT number FROM auth_audit_checkpoints")) == 2

    async def test_what_was_changed_is_not_pruned(self, auth: RunningAuth, caplog: pytest.LogCaptureFixture) -> None:
        """Pruning must not wash away that somebody was at the rows."""
        await record(auth, 10)
        await auth.execute("UPDATE audit_logs SET client_id = 'x' WHERE seq = 4")
        database, chain = auth.module.database, auth.module._audit.chain

        assert await prune_audit(database, Batches(database), chain, now()) == 0
        assert "not pruned" in caplog.text
        assert len(await trail(auth)) == 10
        assert len(faults(await check(auth))) == 1

    async def test_pruning_that_was_cut_off_goes_on(self, auth: RunningAuth) -> None:
        """After the checkpoint a crash may come at any moment; the next run removes what is left."""
        await record(auth, 10)
        database, chain = auth.module.database, auth.module._audit.chain
        await database.write(lambda tx: chain.cut(tx.session, 8, "cut off"))
        await auth.execute("DELETE FROM audit_logs WHERE seq < 4")

        assert await prune_audit(database, Batches(database), chain, now() - timedelta(days=1)) == 5
        assert [row["seq"] for row in await trail(auth)] == [9, 10]
        assert await check(auth) == []


async def set_time(auth: RunningAuth, statement: str, at: Any, **parameters: Any) -> None:
    """Change the database with a time, in whichever form it keeps times."""
    from sqlalchemy import bindparam, text

    from codelab.db import UtcDateTime

    async with auth.module.database.engine.begin() as connection:
        await connection.execute(
            text(statement).bindparams(bindparam("at", type_=UtcDateTime())), {"at": at, **parameters}
        )


async def test_ended_flows_go_a_day_later(auth: RunningAuth) -> None:
    """Codes and browser sessions go a day after their end; younger ones stay."""
    await auth.client("web", "authorization_code", redirect_uris=[WEB])
    async with browsing(auth.app) as browser:
        await let_in(browser)
    for age, expected in ((timedelta(hours=23), 0), (timedelta(hours=25), 2)):
        await set_time(auth, "UPDATE authorization_codes SET expires_at = :at", now() - age)
        await set_time(auth, "UPDATE browser_sessions SET expires_at = :at", now() - age)
        assert (await run(auth))["ended flows"] == expected
