"""Joining the halves of characters beyond the BMP that a server escaped into two chunks."""

from __future__ import annotations

from codelab.text import scrub

__all__ = ("SurrogateJoiner",)


class SurrogateJoiner:
    r"""Make text with surrogates storable: pairs become their character, halves without a partner become U+FFFD.

    Some servers cut ``"\ud83d\ude00"`` in the middle. A high half at the end of a piece is ``held`` until the next
    piece of the same text, which ``key`` names.
    """

    def __init__(self) -> None:
        self.held: dict[int, str] = {}

    def join(self, key: int, text: str) -> str:
        """Return ``text`` after what was held for ``key``, without its own last half."""
        if not text:
            return text
        text = self.held.pop(key, "") + text
        if "\ud800" <= text[-1] <= "\udbff":
            self.held[key] = text[-1]
            text = text[:-1]
        return scrub(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
