"""Nobody can tell from the time of an answer whether a name exists."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from argon2 import PasswordHasher

from tests.support.auth import PASSWORD, running_auth

if TYPE_CHECKING:
    from codelab.settings import AuthSettings

#: Dear enough that one computation more or less is far outside of what chance does.
HASHER = PasswordHasher(time_cost=2, memory_cost=16_384, parallelism=1)


def share_of_larger(one: list[float], other: list[float]) -> float:
    """Return how often a value of the first is the larger (Mann and Whitney): a half when they are of one kind."""
    return sum((a > b) + (a == b) / 2 for a in one for b in other) / (len(one) * len(other))


@pytest.fixture
def settings(new_settings: AuthSettings) -> AuthSettings:
    """The first start hashes the password at the real cost."""
    return new_settings


async def test_failures_cost_the_same(settings: AuthSettings, soak: bool) -> None:
    """An unknown name, a wrong password and a disabled user get the same answer for the same processor time.

    Processor time, since that of the clock depends on what else the machine does. Of values of one kind the share is
    outside of the bounds once in some 5,000 runs.
    """
    rounds, low, high = (100, 0.3, 0.7) if soak else (12, 0.05, 0.95)
    many = replace(settings, login_failures=10_000, login_failures_per_address=10_000)
    async with running_auth(many, hasher=HASHER) as auth:
        await auth.execute(
            "INSERT INTO users (id, username, email, password_hash, is_active, is_verified, created_at, updated_at) "
            "SELECT 'bob', 'bob', 'b@example.com', password_hash, :no, is_verified, created_at, updated_at FROM users",
            no=False,
        )
        taken: dict[str, list[float]] = {"nobody": [], "admin": [], "bob": []}
        texts = set()
        for turn in range(rounds + 1):
            for name, times in taken.items():
                before = time.process_time()
                answer = await auth.login(name, PASSWORD if name == "bob" else "wrong horse battery staple")
                if turn:  # the first of each kind has more to do
                    times.append(time.process_time() - before)
                texts.add((answer.status_code, answer.text))
    assert len(texts) == 1
    for one, other in combinations(taken, 2):
        assert low < share_of_larger(taken[one], taken[other]) < high, (one, other)
