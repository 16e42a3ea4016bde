"""Putting together what a model thinks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codelab.agent.providers.base import ReasoningPart

if TYPE_CHECKING:
    from codelab.agent.providers.base import ReasoningDelta

__all__ = ("ReasoningBuffer",)


class ReasoningBuffer:
    """Collect the fragments of thoughts into whole blocks.

    A block ends with its signature, or where text or a block that only the provider can read comes between.
    """

    def __init__(self) -> None:
        self._parts: list[ReasoningPart] = []
        self._open: list[str] = []
        self._at = 0

    def add(self, delta: ReasoningDelta, at: int) -> None:
        """Take the next fragment; ``at`` counts the code points of the answer's text before it."""
        if self._open and at != self._at:
            self._close(None)
        self._at = at
        if delta.redacted is not None:
            self._close(None)
            self._parts.append(ReasoningPart(redacted=delta.redacted, at=at))
            return
        if delta.text:
            self._open.append(delta.text)
        if delta.signature is not None:
            self._close(delta.signature)

    def parts(self) -> tuple[ReasoningPart, ...]:
        """Return the blocks in their order."""
        self._close(None)
        return tuple(self._parts)

    def _close(self, signature: str | None) -> None:
        if self._open or signature:
            self._parts.append(ReasoningPart("".join(self._open), signature=signature, at=self._at))
            self._open = []
