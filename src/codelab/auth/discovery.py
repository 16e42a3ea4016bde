"""The documents from which a client learns everything else, and nothing that is not true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from codelab.auth.keys import ALGORITHM
from codelab.auth.pages.texts import LANGUAGES
from codelab.auth.scopes import ABOUT_PEOPLE, SCOPES

if TYPE_CHECKING:
    from collections.abc import Collection

    from codelab.auth.resources import Audiences

__all__ = ("Discovery",)

_SERVER = "/.well-known/oauth-authorization-server"
_OPENID = "/.well-known/openid-configuration"
_RESOURCE = "/.well-known/oauth-protected-resource"
_ABOUT_THE_LOGIN = ("iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash")
_ABOUT_THE_PERSON = ("preferred_username", "email", "email_verified")
_CLIENT_AUTH = ["none", "client_secret_basic", "client_secret_post"]


class Discovery:
    """Describe the server and its API; an issuer with a path is found where RFC 8414 and RFC 9728 insert the path."""

    def __init__(
        self,
        issuer: str,
        audiences: Audiences,
        grant_types: Collection[str],
        *,
        registration: bool,
        documents: bool,
    ) -> None:
        parts = urlsplit(issuer)
        path = parts.path.rstrip("/")
        base = issuer.rstrip("/")
        self.server_paths = sorted({_SERVER, _SERVER + path, _OPENID, _OPENID + path})
        self.resource_paths = sorted({_RESOURCE, f"{_RESOURCE}{path}/api/v1"})
        #: Where the document about the API is, for challenges (RFC 9728 section 5.1).
        self.resource_url = f"{parts.scheme}://{parts.netloc}{_RESOURCE}{path}/api/v1"
        self.server: dict[str, Any] = {
            "issuer": issuer,
            "authorization_endpoint": f"{base}/oauth/authorize",
            "token_endpoint": f"{base}/oauth/token",
            "device_authorization_endpoint": f"{base}/oauth/device_authorization",
            "userinfo_endpoint": f"{base}/oauth/userinfo",
            "introspection_endpoint": f"{base}/oauth/introspect",
            "revocation_endpoint": f"{base}/oauth/revoke",
            "end_session_endpoint": f"{base}/oauth/logout",
            "jwks_uri": f"{base}/.well-known/jwks.json",
            "scopes_supported": list(SCOPES),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "prompt_values_supported": ["none", "login", "consent", "select_account"],
            "ui_locales_supported": list(LANGUAGES),
            "claims_parameter_supported": False,
            "request_parameter_supported": False,
            "request_uri_parameter_supported": False,
            "grant_types_supported": list(grant_types),
            "token_endpoint_auth_methods_supported": _CLIENT_AUTH,
            "revocation_endpoint_auth_methods_supported": _CLIENT_AUTH,
            "introspection_endpoint_auth_methods_supported": _CLIENT_AUTH[1:],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "claims_supported": [*_ABOUT_THE_LOGIN, *_ABOUT_THE_PERSON],
            "client_id_metadata_document_supported": documents,
            "protected_resources": [audiences.api],
        }
        if registration:
            self.server["registration_endpoint"] = f"{base}/oauth/register"
        self.resource: dict[str, Any] = {
            "resource": audiences.api,
            "authorization_servers": [issuer],
            # Clients that know no better ask for all of these; RFC 9728 section 2 lets us leave some out.
            "scopes_supported": [scope for scope in SCOPES if scope not in {*ABOUT_PEOPLE, "api:admin"}],
            "bearer_methods_supported": ["header"],
            "resource_name": "codelab",
        }
