"""Which redirect URIs are the same, and which can be registered."""

from __future__ import annotations

import pytest

from codelab.auth.redirects import describe_problem, fits


@pytest.mark.parametrize(
    ("registered", "shown", "expected"),
    [
        ("http://127.0.0.1/callback", "http://127.0.0.1:1/callback", True),
        ("http://127.0.0.1:80/callback", "http://127.0.0.1/callback", True),
        ("http://[::1]:5/", "http://[::1]:65535/", True),
        ("http://localhost/x?y", "http://localhost:9/x?y", True),
        ("http://127.0.0.1/callback", "http://localhost/callback", False),
        ("http://127.0.0.1/callback", "http://127.0.0.2/callback", False),
        ("http://127.0.0.1/callback", "http://127.0.0.1:1/callback/", False),
        ("http://127.0.0.1/callback", "http://127.0.0.1:1/callback?x", False),
        ("http://127.0.0.1/callback", "https://127.0.0.1:1/callback", False),
        ("http://127.0.0.1/callback", "http://127.0.0.1:1@evil.example/callback", False),
        ("http://127.0.0.1/callback", "http://127.0.0.1.evil.example/callback", False),
        ("http://127.0.0.1", "http://127.0.0.1:80/", False),
        ("https://a.example/", "https://a.example:444/", False),
        ("com.example.app:/cb", "com.example.app:/cb", True),
    ],
)
def test_redirect_match(registered: str, shown: str, expected: bool) -> None:
    """Character by character, but for the port on the loopback (RFC 8252 section 7.3)."""
    assert fits(registered, shown) is expected


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("https://a.example/cb", None),
        ("https://a.example:8443/cb?x=1", None),
        ("http://localhost:1/cb", None),
        ("http://[::1]/cb", None),
        ("com.example.app:/cb", None),
        ("http://a.example/cb", "must be https, or on 127.0.0.1, [::1] or localhost"),
        ("https://a.example/cb#x", "must not have a fragment"),
        ("https://u@a.example/cb", "needs a host, and no user"),
        ("https:///cb", "needs a host, and no user"),
        ("https://a.example;script-src/cb", "needs a host, and no user"),
        ("https://a.example,default-src/cb", "needs a host, and no user"),
        ("https://*.example/cb", "needs a host, and no user"),
        ("https://[2001:db8::1]:8443/cb", None),
        ("javascript:alert(1)", "needs https, or a scheme like com.example.app"),
        ("data:text/html,x", "needs https, or a scheme like com.example.app"),
        ("/cb", "needs https, or a scheme like com.example.app"),
        ("https://a.example/c b", "is no URI"),
        ("https://a.example:x/cb", "is no URI"),
        ("https://[x/cb", "is no URI"),
    ],
)
def test_redirects_that_can_be_registered(uri: str, problem: str | None) -> None:
    """HTTPS with a host, the loopback with http, or a scheme of an app's own; no fragment."""
    assert describe_problem(uri) == problem
