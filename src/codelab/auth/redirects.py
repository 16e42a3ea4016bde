"""Where a browser may be sent back to (RFC 8252, RFC 9700 section 4.1)."""

from __future__ import annotations

import re
from urllib.parse import urlencode, urlsplit

__all__ = ("describe_problem", "fits", "is_native", "source_of", "with_parameters")

#: An address of the machine that the browser runs on: any port will do (RFC 8252 section 7.3).
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\]|localhost)(?::[0-9]{1,5})?((?:[/?].*)?)")
#: A scheme of an app's own is a name of domain, reversed (RFC 8252 section 7.1): those of browsers have no dot.
_OWN_SCHEME = re.compile(r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+", re.IGNORECASE)
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_CHARACTERS = re.compile(r"[!-~]{1,2000}")


def fits(registered: str, shown: str) -> bool:
    """Tell whether a redirect URI is a registered one: equal, or on the loopback and equal but for the port."""
    if registered == shown:
        return True
    wanted, found = _LOOPBACK.fullmatch(registered), _LOOPBACK.fullmatch(shown)
    return wanted is not None and found is not None and wanted.groups() == found.groups()


def is_native(uri: str) -> bool:
    """Tell whether a program on the person's machine gets the answer, and which one nobody can prove."""
    return urlsplit(uri).scheme != "https"


def describe_problem(uri: str) -> str | None:
    """Say why a redirect URI cannot be registered, None when it can."""
    try:
        parts = urlsplit(uri)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        return "is no URI"
    if not _CHARACTERS.fullmatch(uri) or not port_is_fine:
        return "is no URI"
    if "#" in uri:
        return "must not have a fragment"
    if parts.scheme == "https":
        # The host stands in a Content-Security-Policy, so it has nothing but what names and addresses have.
        return None if _HOST.fullmatch(parts.netloc) else "needs a host, and no user"
    if parts.scheme == "http":
        return None if _LOOPBACK.fullmatch(uri) else "must be https, or on 127.0.0.1, [::1] or localhost"
    return None if _OWN_SCHEME.fullmatch(parts.scheme) else "needs https, or a scheme like com.example.app"


def source_of(uri: str) -> str:
    """Return the part of a URI that ``form-action`` of a Content-Security-Policy names."""
    parts = urlsplit(uri)
    # The grammar of CSP has no IPv6 addresses.
    if parts.scheme not in {"http", "https"} or "[" in parts.netloc:
        return f"{parts.scheme}:"
    return f"{parts.scheme}://{parts.netloc}"


def with_parameters(uri: str, parameters: dict[str, str]) -> str:
    """Add parameters to the query of a URI, which keeps its own (RFC 6749 section 3.1.2)."""
    return f"{uri}{'&' if '?' in uri else '?'}{urlencode(parameters)}"
