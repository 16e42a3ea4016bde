"""The form of a token request (RFC 6749 section 3.2), read strictly."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from codelab.auth.errors import InvalidClient, OAuthError
from codelab.errors import BadRequest
from codelab.text import reject_unstorable

__all__ = (
    "FORM",
    "MAX_FORM_BYTES",
    "ClientCredentials",
    "parse_form",
    "parse_parameters",
    "read_client_credentials",
    "require",
)

FORM = "application/x-www-form-urlencoded"
MAX_FORM_BYTES = 65_536
#: Parameters that may occur more than once (RFC 8707 section 2); the values are joined by blanks.
_REPEATABLE = {"resource"}


class ClientCredentials(NamedTuple):
    """What a client says about itself; ``secret`` is None when it shows none.

    ``method`` is ``none``, ``client_secret_basic`` or ``client_secret_post`` (RFC 7591 section 2).
    """

    client_id: str
    secret: str | None
    method: str


def parse_form(content_type: str | None, body: bytes) -> dict[str, str]:
    """Read a form; a parameter without a value counts as absent (RFC 6749 section 3.2).

    Raises:
        OAuthError: another content type, or what ``parse_parameters`` refuses.
    """
    if (content_type or "").partition(";")[0].strip().lower() != FORM:
        raise OAuthError(f"Content-Type: must be {FORM}")
    return parse_parameters(body)


def parse_parameters(body: bytes, repeated: list[str] | None = None) -> dict[str, str]:
    """Read form-encoded parameters, of a body or a query; with a list, names that occur twice are added to it.

    Raises:
        OAuthError: a parameter that occurs twice, or text that is not UTF-8 or holds U+0000.
    """
    fields: dict[str, str] = {}
    for part in body.split(b"&"):
        raw_name, _, raw_value = part.partition(b"=")
        if not raw_value:
            continue
        name = _decode(raw_name, "a parameter name")
        value = _decode(raw_value, name)
        if name in fields and name not in _REPEATABLE:
            if repeated is None:
                raise OAuthError(f"{name}: must not occur more than once", field=name)
            repeated.append(name)
        fields[name] = f"{fields[name]} {value}" if name in fields else value
    return fields


def _decode(raw: bytes, field: str) -> str:
    try:
        text = unquote_to_bytes(raw.replace(b"+", b" ")).decode()
        reject_unstorable(text, field)
    except UnicodeDecodeError:
        raise OAuthError(f"{field}: must be UTF-8", field=field) from None
    except BadRequest as error:
        raise OAuthError(error.detail, field=field) from None
    return text


def require(fields: dict[str, str], *names: str) -> list[str]:
    """Return the values of parameters that must be there.

    Raises:
        OAuthError: one is missing.
    """
    if missing := [name for name in names if name not in fields]:
        plural = "s" if len(missing) > 1 else ""
        raise OAuthError(f"Missing required parameter{plural}: {' and '.join(missing)}", field=missing[0])
    return [fields[name] for name in names]


def read_client_credentials(fields: dict[str, str], authorization: str | None) -> ClientCredentials:
    """Read who the client is: from HTTP Basic with form-encoded halves, or from the form (RFC 6749 section 2.3.1).

    Another scheme than Basic is none of the client's credentials and is ignored.

    Raises:
        OAuthError: the two disagree, or neither is there.
        InvalidClient: the header cannot be read.
    """
    scheme, _, encoded = (authorization or "").strip().partition(" ")
    if scheme.lower() != "basic":
        (client_id,) = require(fields, "client_id")
        secret = fields.get("client_secret")
        return ClientCredentials(client_id, secret, "none" if secret is None else "client_secret_post")
    try:
        raw_id, colon, raw_secret = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        secret = _decode(raw_secret, "client_secret") or None
        credentials = ClientCredentials(_decode(raw_id, "client_id"), secret, "client_secret_basic")
    except (binascii.Error, ValueError, OAuthError):
        raise InvalidClient("Authorization: cannot be read as Basic credentials") from None
    if not colon or not credentials.client_id:
        raise InvalidClient("Authorization: cannot be read as Basic credentials")
    if "client_secret" in fields:
        raise OAuthError("client_secret: must not be sent in two ways", field="client_secret")
    if fields.get("client_id", credentials.client_id) != credentials.client_id:
        raise OAuthError("client_id: differs from the one in the Authorization header", field="client_id")
    return credentials
