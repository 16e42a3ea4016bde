from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

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
        self.running = self.peak = 0

    def verify(self, *args: str | bytes) -> bool:  # type: ignore[override]  # positional, as it is called
        """Verify once the gate is open."""
        with self.lock:
            self.running += 1
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
