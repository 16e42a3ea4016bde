"""Codes of authenticator apps: TOTP (RFC 6238) with SHA-1, six digits and steps of 30 seconds, as all apps have it."""

from __future__ import annotations

import hmac
import secrets
from base64 import b32encode
from urllib.parse import quote, urlencode

__all__ = ("STEP", "code_at", "matching_step", "new_secret", "show_secret", "uri_of")

STEP = 30
_DIGITS = 6


def new_secret() -> bytes:
    """Make a secret of 160 bits (RFC 4226 section 4)."""
    return secrets.token_bytes(20)


def code_at(secret: bytes, step: int) -> str:
    """Return the code of a step (RFC 4226 section 5.3)."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 15
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(number % 10**_DIGITS).zfill(_DIGITS)


def matching_step(secret: bytes, code: str, at: float) -> int | None:
    """Return the step that a code is of; the clock of the app may be one step off (RFC 6238 section 5.2)."""
    current, found = int(at) // STEP, None
    for step in range(max(current - 1, 0), current + 2):
        if hmac.compare_digest(code_at(secret, step).encode(), code.encode(errors="replace")):
            found = step
    return found


def show_secret(secret: bytes) -> str:
    """Write a secret as apps take it."""
    return b32encode(secret).decode().rstrip("=")


def uri_of(secret: bytes, username: str, issuer: str) -> str:
    """Write the URI that is in the QR code."""
    label = f"{quote(issuer)}:{quote(username)}"
    return f"otpauth://totp/{label}?{urlencode({'secret': show_secret(secret), 'issuer': issuer})}"
