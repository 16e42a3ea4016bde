"""Passwords as argon2id (RFC 9106), hashed in a few threads of their own and never on the event loop.

People who came from the reference system have bcrypt hashes until they log in once. While there is one, every login
costs a bcrypt and an argon2 computation, real ones or for show, so the time does not tell whose hash is of which kind,
nor whether a name exists.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from codelab.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("MAX_PASSWORD_BYTES", "Passwords", "Verdict", "is_bcrypt")

T = TypeVar("T")

#: Longer ones are refused before anything is hashed.
MAX_PASSWORD_BYTES = 1024

#: Each hash takes 64 MiB while it runs, so the number of threads bounds the memory.
_THREADS = min(4, max(2, os.cpu_count() or 2))
_MAX_WAITING = 128
#: Hashes that are compared: a cost of over 15 could keep a thread for minutes.
_BCRYPT = re.compile(r"\$2[aby]\$(?:0[4-9]|1[0-5])\$[./A-Za-z0-9]{53}")
#: What bcrypt looks at; older libraries ignored the rest of a longer password, newer ones refuse it.
_BCRYPT_BYTES = 72
#: The cost of the reference's hashes.
_BCRYPT_COST = 12


def is_bcrypt(stored: str) -> bool:
    """Tell whether a stored hash is one of bcrypt that can be compared."""
    return _BCRYPT.fullmatch(stored) is not None


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

    async def verify(self, password: str, stored: str | None, *, with_bcrypt: bool = False) -> Verdict:
        """Compare a password with a stored hash.

        Without a stored hash (nobody has that name) it takes the same time and is wrong. ``with_bcrypt`` says that
        somebody has a bcrypt hash, so that all others cost as much.

        Raises:
            Unavailable: too many logins wait already.
        """
        return await self._run(lambda: self._verify_any(password, stored, with_bcrypt=with_bcrypt))

    def _verify_any(self, password: str, stored: str | None, *, with_bcrypt: bool) -> Verdict:
        shown = password.encode()
        if stored is not None and is_bcrypt(stored):
            if not bcrypt.checkpw(shown[:_BCRYPT_BYTES], stored.encode()):
                return self._verify(password, None)
            # Nobody compared the rest of a longer one: renewed, a slip in it would lock its owner out.
            new_hash = self._hasher.hash(password)
            return Verdict(right=True, new_hash=new_hash if len(shown) <= _BCRYPT_BYTES else None)
        if with_bcrypt:
            bcrypt.hashpw(shown[:_BCRYPT_BYTES], bcrypt.gensalt(_BCRYPT_COST))
        return self._verify(password, stored)

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
