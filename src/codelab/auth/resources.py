"""For whom access tokens are: the one protected resource of this server, under two names (RFC 8707)."""

from __future__ import annotations

from codelab.auth.errors import OAuthError

__all__ = ("Audiences",)


class Audiences:
    """Know the audiences of access tokens: what ``resource`` may name, and what holds without it."""

    def __init__(self, issuer: str, default: str) -> None:
        self.default = default
        #: The identifier of our own API, which its metadata is found by (RFC 9728).
        self.api = f"{issuer.rstrip('/')}/api/v1"

    @property
    def accepted(self) -> tuple[str, str]:
        """What our API takes as ``aud``, and nothing else."""
        return (self.default, self.api)

    def check(self, asked: str | None) -> str | None:
        """Return the resource that was asked for, None for none; several are parted by blanks.

        Raises:
            OAuthError: ``invalid_target`` (RFC 8707 section 2).
        """
        if asked is None:
            return None
        if set(asked.split(" ")) != {self.api}:
            raise OAuthError(f"resource: must be {self.api}", code="invalid_target", field="resource")
        return self.api

    def of(self, resource: str | None) -> str:
        """Return the ``aud`` of a token for a resource."""
        return self.default if resource is None else resource
