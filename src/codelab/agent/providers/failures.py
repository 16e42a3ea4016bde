"""Turning what went wrong upstream into a ``ModelError`` that is safe to show to anyone."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from codelab.agent.providers.base import ModelError
from codelab.text import decode_lenient, scrub

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("error_from_exception", "error_from_object", "error_from_status", "quote_upstream", "read_retry_after")

_QUOTE_LENGTH = 200
_SENTENCES = {
    "model_credentials": "The model provider did not accept the API key.",
    "model_rate_limited": "The model provider takes no more requests for now.",
    "model_refused": "The model provider refused the request.",
    "model_overloaded": "The model provider is overloaded.",
    "model_failed": "The model provider failed.",
    "model_timeout": "The model provider did not answer in time.",
}
_STATUS_SENTENCES = {
    403: "The model provider does not let this API key use the model.",
    404: "The model provider does not know this model or nothing answers for it at the configured address.",
    413: "The conversation is too long for the model provider.",
}
# In-stream errors have no HTTP status; the first word found in their type and code decides.
_WORDS = (
    ("rate_limit", "model_rate_limited"),
    ("too_many_requests", "model_rate_limited"),
    ("quota", "model_rate_limited"),
    ("overload", "model_overloaded"),
    ("unavailable", "model_overloaded"),
    ("authentication", "model_credentials"),
    ("permission", "model_credentials"),
    ("api_key", "model_credentials"),
    ("timeout", "model_timeout"),
    ("invalid", "model_refused"),
    ("too_large", "model_refused"),
    ("billing", "model_refused"),
    ("not_found", "model_refused"),
    ("context_length", "model_refused"),
    ("content_filter", "model_refused"),
)
# What may name a machine or open a door. An innocent dotted word is lost as well: the price of no host getting through.
_SUSPECT = re.compile(
    r"""
    :// | @ | \*\*\* | host= | localhost
    | \w\.[^\W\d]\w                                        # a dotted name
    | \d\.\d+\.\d+\.\d | :[0-9a-f]{0,4}: | \w:\d{2,5}\b     # IPv4, IPv6, name:port
    | (?<![a-z0-9])(?:sk|pk|rk|key|gsk|xai|hf|pplx|nvapi|ghp|aiza|eyj)[-_a-z0-9.…]{6}
    """,
    re.IGNORECASE | re.VERBOSE,
)


def quote_upstream(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the first 200 characters of an upstream message without addresses and keys, or nothing if it is markup.

    ``secrets`` are removed wherever they stand, whatever they look like.
    """
    if re.search(r"<\s*[!/?a-z]", text, re.IGNORECASE):
        return ""
    text = scrub(text)
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = re.sub(re.escape(secret), "[…]", text, flags=re.IGNORECASE)
    words = "".join(c if c.isprintable() else " " for c in text[: 5 * _QUOTE_LENGTH]).split()
    if len(text) > 5 * _QUOTE_LENGTH:
        # Half a key would not look like one.
        words = words[:-1]
    for index, word in enumerate(words):
        after_scheme = index > 0 and words[index - 1].lower().endswith(("bearer", "basic"))
        if after_scheme or _SUSPECT.search(word) or _looks_like_key(word):
            words[index] = "[…]"
    text = " ".join(words)
    return text if len(text) <= _QUOTE_LENGTH else text[: _QUOTE_LENGTH - 1] + "…"


def _looks_like_key(word: str) -> bool:
    for run in re.findall(r"[A-Za-z0-9_-]{16,}", word):
        mixed = {"A" if c.isupper() else "a" if c.isalpha() else "0" for c in run if c.isalnum()}
        unbroken = max(map(len, re.split(r"[_-]", run))) >= 16
        if "0" in mixed and (len(mixed) == 3 or (unbroken and len(mixed) > 1)):
            return True
    return False


def read_retry_after(value: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (RFC 9110 section 10.2.3), never negative."""
    value = (value or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def error_from_status(
    status: int, body: bytes, *, retry_after: str | None = None, secrets: Iterable[str] = ()
) -> ModelError:
    """Describe an answer whose HTTP status is not 2xx; ``body`` may be JSON, text, a web page or nothing."""
    code = _code_of_status(status)
    try:
        said = _find_message(decode_lenient(body))
    except (ValueError, RecursionError):
        said = body.decode("utf-8", "replace")
    return _build(code, said, status, read_retry_after(retry_after), secrets)


def error_from_object(error: Any, secrets: Iterable[str] = ()) -> ModelError:
    """Describe the error object that a provider sent inside an answer with status 200."""
    status: int | None = None
    code = "model_failed"
    if isinstance(error, dict):
        number = str(error.get("code") or error.get("status") or "")
        if re.fullmatch(r"[45]\d\d", number):
            status = int(number)
            code = _code_of_status(status)
        else:
            kind = f"{error.get('type')} {error.get('code')} {error.get('status')}".lower()
            code = next((code for word, code in _WORDS if word in kind), code)
    return _build(code, _find_message(error), status, None, secrets)


def error_from_exception(error: Exception) -> ModelError:
    """Describe what aiohttp or the socket below it raised; nothing of its text is kept, for it names hosts."""
    import aiohttp

    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return ModelError(
                "model_unreachable",
                "No secure connection to the model provider could be made: check its TLS certificate.",
            )
        case aiohttp.ClientConnectorDNSError():
            return ModelError("model_unreachable", "The name of the model provider's server could not be resolved.")
        case aiohttp.ConnectionTimeoutError():
            return ModelError("model_unreachable", "The model provider did not take the connection in time.")
        case aiohttp.ClientConnectorError() | aiohttp.InvalidURL():
            return ModelError("model_unreachable", "The model provider's server could not be reached.")
        case TimeoutError():
            return ModelError("model_timeout", "The model provider went silent for too long.")
        case aiohttp.ClientResponseError():
            return ModelError("model_garbage", "The model provider answered with something that is not HTTP.")
        case _:
            return ModelError(
                "model_disconnected", "The connection to the model provider was lost before the answer was complete."
            )


def _code_of_status(status: int) -> str:
    match status:
        case 401 | 403:
            return "model_credentials"
        case 408:
            return "model_timeout"
        case 429:
            return "model_rate_limited"
        case 503 | 529:
            return "model_overloaded"
        case _:
            return "model_failed" if status >= 500 else "model_refused"


def _find_message(error: Any) -> str:
    if isinstance(error, list) and error:
        return _find_message(error[0])
    if isinstance(error, dict):
        for member in ("error", "message", "detail", "msg"):
            if error.get(member):
                return _find_message(error[member])
    return error if isinstance(error, str) else ""


def _build(code: str, said: str, status: int | None, retry_after: float | None, secrets: Iterable[str]) -> ModelError:
    message = _STATUS_SENTENCES.get(status or 0, _SENTENCES[code])
    # Providers like to repeat (a part of) a key that they did not accept.
    quote = "" if code == "model_credentials" else quote_upstream(said, secrets)
    return ModelError(code, f"{message} It said: {quote}" if quote else message, retry_after=retry_after, status=status)
