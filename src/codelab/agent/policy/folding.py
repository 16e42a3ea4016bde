"""Spellings that a file system, a shell or an eye may take for the same text are folded into one.

Only what denies or asks is compared in folded form. What allows takes plain text, or nothing.
"""

from __future__ import annotations

import unicodedata

__all__ = ("fold", "is_plain_text")

#: Characters that look like one of ASCII and that no normalisation turns into it.
_LOOKALIKES = str.maketrans(
    {
        "\u2215": "/",  # division slash
        "\u2044": "/",  # fraction slash
        "\u29f8": "/",  # big solidus
        "\u2571": "/",  # box drawings diagonal
        "\u2216": "\\",  # set minus
        "\u29f5": "\\",  # reverse solidus operator
        "\u29f9": "\\",  # big reverse solidus
        "\ua789": ":",  # modifier letter colon
        "\u2236": ":",  # ratio
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2010": "-",
        "\u2011": "-",
        "\u2012": "-",
        "\u2013": "-",
        "\u2014": "-",
        "\u2212": "-",
        "\u0131": "i",  # NTFS and others know it as a form of i
        "\u0307": None,  # what is left of the Turkish capital I
    }
)
#: Control, format, surrogate, private, unassigned, line and paragraph separators: they show nothing.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: They show nothing either, but have the category of marks and letters; the replacement character may stand for U+0000.
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u3164\uffa0\ufffd") | {
    chr(code) for code in range(0xFE00, 0xFE10)
}


def fold(text: str, keep: str = "") -> str:
    """Return the one form of all spellings of a text: compatibility forms, case, look-alikes, nothing unseen.

    ``keep`` are control characters that have a meaning in this text.
    """
    if text.isascii() and text.isprintable():
        return text.lower()
    for _ in range(2):  # what case folding makes may be another compatibility form
        text = unicodedata.normalize("NFKC", text).translate(_LOOKALIKES).casefold()
    return "".join(c for c in text if c in keep or not _is_unseen(c))


def is_plain_text(text: str) -> bool:
    """Tell whether a text is what it looks like: no other spelling of it, nothing unseen, no space but U+0020."""
    if text.isascii():
        return text.isprintable()
    return (
        unicodedata.normalize("NFKC", text) == text
        and text.translate(_LOOKALIKES) == text
        and not any(_is_unseen(c) or (c.isspace() and c != " ") for c in text)
    )


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN or character in _FILLERS
