from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import bcrypt
import pytest
from argon2 import PasswordHasher

from codelab.auth.passwords import Passwords
from codelab.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class GatedHasher(PasswordHasher):
    """A cheap hasher that waits for permission and remembers how many ran at once, and where."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.gate = threading.Event()
        self.gate.set()
        self.lock = threading.Lock()
        self.threads: set[str] = set()
        self.running = self.peak = self.verified = 0

    def verify(self, *args: str | bytes) -> bool:  # type: ignore[override]  # positional, as it is called
        """Verify once the gate is open."""
        with self.lock:
            self.running += 1
            self.verified += 1
            self.peak = max(self.peak, self.running)
            self.threads.add(threading.current_thread().name)
        self.gate.wait(30)
        with self.lock:
            self.running -= 1
        return super().verify(*args)


@pytest.fixture
def hasher() -> GatedHasher:
    """The hasher of ``passwords``."""
    return GatedHasher()


@pytest.fixture
async def passwords(hasher: GatedHasher) -> AsyncIterator[Passwords]:
    """Passwords of which ten may wait."""
    passwords = Passwords(hasher, max_waiting=10)
    passwords.start()
    yield passwords
    hasher.gate.set()
    await passwords.stop()


async def test_only_the_right_password_is_right(passwords: Passwords) -> None:
    """A hash accepts its password and no other; a name without a hash accepts none."""
    stored = await passwords.hash("wonderland")
    assert stored.startswith("$argon2id$")
    assert (await passwords.verify("wonderland", stored)) == (True, None)
    assert not (await passwords.verify("Wonderland", stored)).right
    assert not (await passwords.verify("wonderland", None)).right


async def test_unknown_user_costs_a_verification(passwords: Passwords, hasher: GatedHasher) -> None:
    """Without a hash, or with one that cannot be read, a full verification runs all the same."""
    hasher.peak = 0
    await passwords.verify("x", None)
    assert hasher.peak == 1
    assert not (await passwords.verify("x", "$2b$12$unreadable")).right


async def test_outdated_hash_is_replaced(passwords: Passwords) -> None:
    """A hash of other parameters is right once, and comes with its replacement."""
    weak = PasswordHasher(time_cost=1, memory_cost=16, parallelism=2).hash("wonderland")
    verdict = await passwords.verify("wonderland", weak)
    assert verdict.right
    assert verdict.new_hash is not None
    assert (await passwords.verify("wonderland", verdict.new_hash)) == (True, None)


async def test_hashing_is_bounded_and_off_the_loop(passwords: Passwords, hasher: GatedHasher) -> None:
    """At most four run at once, in threads of their own; more than the limit are told to come back."""
    hasher.gate.clear()
    waiting = [asyncio.create_task(passwords.verify("x", None)) for _ in range(10)]
    while hasher.running < 2:  # the loop runs on while the hashers stand still
        await asyncio.sleep(0.001)
    with pytest.raises(Unavailable) as refused:
        await passwords.verify("x", None)
    assert "Retry-After" in refused.value.headers
    hasher.gate.set()
    assert not any(verdict.right for verdict in await asyncio.gather(*waiting))
    assert 2 <= hasher.peak <= 4
    assert all(name.startswith("codelab-passwords") for name in hasher.threads)


async def test_stop_drops_what_waits(passwords: Passwords) -> None:
    """After the stop nothing is hashed."""
    await passwords.stop()
    with pytest.raises(Unavailable):
        await passwords.hash("x")


class TestBcrypt:
    """The hashes of people who came from the reference system."""

    @pytest.fixture
    def computed(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Names of the expensive computations of bcrypt, real ones and those for show."""
        done: list[str] = []
        check, compute = bcrypt.checkpw, bcrypt.hashpw

        def checkpw(password: bytes, stored: bytes) -> bool:
            done.append("check")
            return check(password, stored)

        def hashpw(password: bytes, salt: bytes) -> bytes:
            done.append("show")
            return compute(password, salt)

        monkeypatch.setattr(bcrypt, "checkpw", checkpw)
        monkeypatch.setattr(bcrypt, "hashpw", hashpw)
        return done

    @pytest.mark.parametrize("prefix", ["2a", "2b", "2y"])
    async def test_right_once_then_argon2(self, passwords: Passwords, prefix: str) -> None:
        """The password is right and comes with its argon2id hash; another one is wrong."""
        stored = bcrypt.hashpw(b"wonderland", bcrypt.gensalt(4)).decode().replace("$2b$", f"${prefix}$")
        verdict = await passwords.verify("wonderland", stored, with_bcrypt=True)
        assert verdict.right
        assert verdict.new_hash is not None
        assert verdict.new_hash.startswith("$argon2id$")
        assert not (await passwords.verify("Wonderland", stored, with_bcrypt=True)).right
        assert not (await passwords.verify("", stored, with_bcrypt=True)).right

    async def test_everybody_costs_the_same(
        self, passwords: Passwords, hasher: GatedHasher, computed: list[str]
    ) -> None:
        """While one has a bcrypt hash, a wrong password costs one bcrypt and one argon2, whoever is asked for."""
        legacy = bcrypt.hashpw(b"wonderland", bcrypt.gensalt(12)).decode()
        modern = await passwords.hash("wonderland")
        computed.clear()
        for stored, kind in ((legacy, "check"), (modern, "show"), (None, "show"), ("$2b$12$unreadable", "show")):
            hasher.verified = 0
            assert not (await passwords.verify("x", stored, with_bcrypt=True)).right
            assert computed == [kind]
            assert hasher.verified >= 1
            computed.clear()
        assert (await passwords.verify("wonderland", modern)).right
        assert computed == []

    async def test_long_passwords(self, passwords: Passwords) -> None:
        """Bcrypt looks at 72 bytes; what nobody compared is not made the new password."""
        stored = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
        assert (await passwords.verify("x" * 72, stored)).new_hash is not None
        assert (await passwords.verify("x" * 80, stored)) == (True, None)
        assert not (await passwords.verify("x" * 71, stored)).right

    async def test_a_hash_that_would_never_end(self, passwords: Passwords, computed: list[str]) -> None:
        """A cost that keeps a thread for hours is not paid: nobody can log in with such a hash."""
        stored = bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode().replace("$04$", "$31$")
        computed.clear()
        assert not (await passwords.verify("x", stored)).right
        assert computed == []
