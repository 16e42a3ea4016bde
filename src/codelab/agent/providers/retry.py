"""When a model call is made again, after how long, and with which model."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from codelab.agent.providers.base import ModelError

__all__ = ("Attempts", "Retry", "RetryPolicy", "is_transient")

#: Seconds: the longest pause after the first failure, doubled with each further one, and the longest of all.
FIRST, LONGEST = 0.5, 30.0
_TRANSIENT = {"model_unreachable", "model_rate_limited", "model_overloaded", "model_failed"}
_TRANSIENT_STATUS = {408, 409}


def is_transient(error: ModelError) -> bool:
    """Tell whether the same call may succeed soon.

    So it may after: no connection, 408, 409, 429, any 5xx, or an error of these kinds as the first thing in an answer.
    Not after silence or a lost connection: the call may be at work, and would be paid for twice.
    """
    return not error.begun and (error.code in _TRANSIENT or error.status in _TRANSIENT_STATUS)


class Retry(msgspec.Struct, frozen=True):
    """Say what is done about a failure: ``attempt`` counts the calls with the next one; ``delay`` is in seconds."""

    attempt: int
    model: str
    delay: float


class RetryPolicy(msgspec.Struct, frozen=True):
    """Bound what is tried: ``retries`` of each model, ``seconds`` in all, and ``fallbacks`` that are asked in order."""

    retries: int = 0
    seconds: float = 0.0
    fallbacks: tuple[str, ...] = ()


class Attempts:
    """Count the attempts at one model call."""

    def __init__(self, policy: RetryPolicy, model: str) -> None:
        self._policy = policy
        self.model = model
        self._others = [other for other in policy.fallbacks if other != model]
        self._began = time.monotonic()
        self._attempt = 1
        self._failures = 0

    def after(self, error: ModelError) -> Retry | None:
        """Return what to do after a failure; None when it is final."""
        if error.begun:
            return None
        transient = is_transient(error)
        if transient and self._failures < self._policy.retries:
            delay = self._pause(error.retry_after)
            if time.monotonic() - self._began + delay <= self._policy.seconds:
                self._failures += 1
                return self._next(delay)
        # Another model of the same server may be less busy, or be there at all.
        if (transient or error.status == 404) and self._others:
            self.model = self._others.pop(0)
            self._failures = 0
            return self._next(0.0)
        return None

    def _pause(self, retry_after: float | None) -> float:
        """Choose a pause with full jitter; never before the provider wants to be asked again."""
        most = min(LONGEST, FIRST * 2**self._failures)
        return (retry_after or 0.0) + random.uniform(0.0, most)  # noqa: S311 - it spreads load and guards nothing

    def _next(self, delay: float) -> Retry:
        self._attempt += 1
        return Retry(self._attempt, self.model, round(delay, 3))
