"""Which passwords people may choose: long ones that nobody guesses first (NIST SP 800-63B section 3.1.1.2)."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.resources import files
from typing import Literal

from codelab.auth.passwords import MAX_PASSWORD_BYTES
from codelab.errors import BadRequest
from codelab.text import scrub

__all__ = ("MIN_PASSWORD_LENGTH", "Flaw", "WeakPassword", "check_password")

MIN_PASSWORD_LENGTH = 8
#: The 10,000 most common passwords of at least 8 characters, from the lists of zxcvbn: MIT licence, copyright 2012-2016
#: Dan Wheeler and Dropbox, Inc.; Python port by Daniel Wolf.
_COMMON = "common_passwords.txt.gz"

Flaw = Literal["too_short", "too_long", "too_common", "like_name"]
_SENTENCES: dict[Flaw, str] = {
    "too_short": f"must have at least {MIN_PASSWORD_LENGTH} characters",
    "too_long": f"must be UTF-8 of at most {MAX_PASSWORD_BYTES} bytes, without U+0000",
    "too_common": "is one of the first that everybody tries; choose another one",
    "like_name": "must not be your name or address; choose another one",
}


class WeakPassword(BadRequest):
    """Refuse a new password; ``flaw`` says why, for programs and pages, ``reason`` for people."""

    def __init__(self, flaw: Flaw) -> None:
        self.flaw, self.reason = flaw, _SENTENCES[flaw]
        super().__init__(f"password: {self.reason}", code="weak_password", field="password")


def check_password(password: str, *names: str) -> None:
    """Accept a new password; ``names`` are what its person is called.

    Raises:
        WeakPassword: it is too short, too long, or easily guessed.
    """
    if len(password) < MIN_PASSWORD_LENGTH:
        raise WeakPassword("too_short")
    if scrub(password) != password or len(password.encode()) > MAX_PASSWORD_BYTES:
        raise WeakPassword("too_long")
    plain = password.casefold()
    if plain in {part.casefold() for name in names for part in (name, name.partition("@")[0])}:
        raise WeakPassword("like_name")
    if plain in _common() or len(set(plain)) == 1:
        raise WeakPassword("too_common")


@cache
def _common() -> frozenset[str]:
    packed = files("codelab.auth").joinpath(_COMMON).read_bytes()
    return frozenset(gzip.decompress(packed).decode().split("\n"))
