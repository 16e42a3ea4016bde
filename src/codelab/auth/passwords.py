"""Passwords as argon2id (RFC 9106), hashed in a few threads of their own and never on the event loop."""

from __future__ import annotations

import asyncio
import os
import secrets
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from codelab.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("MAX_PASSWORD_BYTES", "Passwords", "Verdict")

T = TypeVar("T")

#: Longer ones are refused before anything is hashed.
MAX_PASSWORD_BYTES = 1024

#: Each hash takes 64 MiB while it runs, so the number of threads bounds the memory.
_THREADS = min(4, max(2, os.cpu_count() or 2))
_MAX_WAITING = 128


class Verdict(NamedTuple):
    """Say whether a password was right, and its new hash when the stored one is out of date."""

    right: bool
    new_hash: str | None = None


class Passwords:
    """Hash and verify passwords."""

    def __init__(self, hasher: PasswordHasher | None = None, *, max_waiting: int = _MAX_WAITING) -> None:
        self._hasher = hasher or PasswordHasher()
        self._max_waiting = max_waiting
        self._waiting = 0
        self._executor: ThreadPoolExecutor | None = None

    def start(self) -> None:
        """Start the threads."""
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="codelab-passwords")

    async def stop(self) -> None:
        """End the threads; what still waits is dropped."""
        executor, self._executor = self._executor, None
        if executor is not None:
            await asyncio.to_thread(executor.shutdown, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """Hash a password."""
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, password: str, stored: str | None) -> Verdict:
        """Compare a password with a stored hash.

        Without a stored hash (nobody has that name) it takes the same time and is wrong.

        Raises:
            Unavailable: too many logins wait already.
        """
        return await self._run(lambda: self._verify(password, stored))

    def _verify(self, password: str, stored: str | None) -> Verdict:
        try:
            self._hasher.verify(stored if stored is not None else self._dummy(), password)
        except InvalidHashError:
            return self._verify(password, None)
        except VerificationError:
            return Verdict(right=False)
        if stored is None:
            return Verdict(right=False)
        outdated = self._hasher.check_needs_rehash(stored)
        return Verdict(right=True, new_hash=self._hasher.hash(password) if outdated else None)

    def _dummy(self) -> str:
        """Write a hash that no password has and that takes as long to compare as a real one."""
        hasher = self._hasher
        salt, digest = (
            b64encode(secrets.token_bytes(length)).decode().rstrip("=") for length in (hasher.salt_len, hasher.hash_len)
        )
        return f"$argon2id$v=19$m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}${salt}${digest}"

    async def _run(self, work: Callable[[], T]) -> T:
        if self._executor is None:
            raise Unavailable("The server is stopping.")
        if self._waiting >= self._max_waiting:
            raise Unavailable("Too many logins wait; try again in a moment.", headers={"Retry-After": "2"})
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._waiting -= 1
