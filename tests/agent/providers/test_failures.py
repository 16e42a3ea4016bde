from __future__ import annotations

import pytest

from codelab.agent.providers.failures import quote_upstream, read_retry_after


@pytest.mark.parametrize(
    "leak",
    [
        "https://api.example.com/v1/chat",
        "postgres://u:p@db/x",
        "api.openai.com",
        "gateway.internal:4000",
        "llm-proxy:8002",
        "localhost",
        "10.0.0.7:8080",
        "[fe80::1]:80",
        "2001:db8::5",
        "host='x'",
        "ann@example.com",
        "Bearer abc.def",
        "sk-proj-abcdef",
        "sk-...wxyz",
        "****wxyz",
        "AKIAIOSFODNN7EXAMPLE1",
        "0123456789abcdef0123456789abcdef",
        "dGhpc19pc19h-c2VjcmV0X2tleQ9Z",
    ],
)
def test_addresses_and_keys_are_not_quoted(leak: str) -> None:
    """Whatever names a machine or looks like a key is cut out of a quoted message, and the words around it stay."""
    for text in (f"cannot use {leak} now", f"cannot use ({leak}), now", f'cannot use "{leak}": now'):
        quoted = quote_upstream(text)
        assert leak.rsplit(maxsplit=1)[-1] not in quoted
        assert "cannot use" in quoted
        assert quoted.endswith("now")


def test_known_secrets_are_not_quoted() -> None:
    """The key and the host of the client are cut out whatever they look like, inside words and in any case."""
    assert quote_upstream("no HUNTER2x at ollama", ["hunter2", "ollama"]) == "no […]x at […]"


@pytest.mark.parametrize(
    "text",
    [
        "The model `gpt-4.1-mini` does not exist",
        "maximum context length is 8192 tokens, you asked for 9000",
        "model anthropic/claude-sonnet-4-20250514 not found",
        "messages[2].role must be one of user, assistant",
    ],
)
def test_what_helps_is_quoted(text: str) -> None:
    """Model names and numbers survive, for they say what to do."""
    if "[2]." not in text:
        assert quote_upstream(text) == text
    assert quote_upstream(text).endswith(text[-10:])


def test_quotes_are_short_clean_and_no_markup() -> None:
    """A quote has one line of 200 characters at most, and a page of markup is not quoted at all."""
    assert quote_upstream("a\n\tb\x1b[31m c\0") == "a b [31m c\ufffd"
    assert len(quote_upstream("word " * 1000)) == 200
    assert quote_upstream("<!DOCTYPE html><p>hi") == ""
    assert quote_upstream("x " * 499 + "sk-verysecret").find("sk-") == -1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        *[(bad, None) for bad in ("", "-1", "soon", "nan", "1e9", None)],
    ],
)
def test_retry_after_is_read(value: str | None, seconds: float | None) -> None:
    """Seconds and dates are read, a date that has passed is now, and anything else is nothing."""
    assert read_retry_after(value) == seconds


def test_retry_after_in_the_far_future() -> None:
    """A date to come is more than nothing away."""
    assert (read_retry_after("Sat, 01 Jan 2200 00:00:00 GMT") or 0) > 0
