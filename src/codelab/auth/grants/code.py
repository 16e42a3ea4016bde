"""The authorization code grant (RFC 6749 section 4.1.3) with PKCE (RFC 7636)."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from codelab.auth.forms import require
from codelab.auth.grants.issuing import Granted, refuse_grant
from codelab.auth.repository import codes
from codelab.auth.repository.revocations import end_login
from codelab.auth.tokens import hash_token, new_refresh_token
from codelab.db import now

if TYPE_CHECKING:
    from codelab.auth.audit import Audit
    from codelab.auth.grants.issuing import Issuing
    from codelab.auth.repository.clients import ClientRecord
    from codelab.auth.repository.codes import CodeRecord
    from codelab.auth.revocations import Revocations
    from codelab.auth.schemas import Origin, TokenAnswer
    from codelab.db import Database, Transaction

__all__ = ("CodeGrant",)

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class CodeGrant:
    """Exchange an authorization code for tokens, once; a second use ends what the first was given."""

    def __init__(self, database: Database, audit: Audit, issuing: Issuing, ended: Revocations) -> None:
        self._database = database
        self._ended = ended
        self._audit = audit
        self._issuing = issuing

    async def __call__(self, client: ClientRecord, fields: dict[str, str], origin: Origin) -> TokenAnswer:
        """Answer one request.

        Raises:
            OAuthError: the request is refused.
        """
        (shown,) = require(fields, "code")
        async with self._database.peek() as session:
            code = await codes.find_code(session, hash_token(shown))
        # Another client's code is unknown to this one, so that it learns nothing and harms nobody.
        if code is None or code.client_id != client.client_id:
            raise refuse_grant("Invalid code")
        if code.used_at is None:
            self._check(code, fields)
        resource = self._issuing.audiences.check(fields.get("resource"))
        refresh_token = new_refresh_token() if "refresh_token" in client.allowed_grant_types else None
        granted = Granted(
            user_id=code.user_id,
            scope=code.scope,
            resource=code.resource or resource,
            auth_time=code.auth_time,
            nonce=code.nonce,
            family_id=code.family_id,
        )
        at, reused = now(), False

        async def unit(transaction: Transaction) -> bool:
            nonlocal reused
            session = transaction.session
            if not await codes.use_code(session, code.id, at):
                again = await codes.find_code(session, hash_token(shown))
                if reused := again is not None and again.used_at is not None:
                    ended = await end_login(session, code.family_id, at)
                    self._audit.record(
                        session,
                        "code_reuse",
                        origin,
                        user_id=code.user_id,
                        client_id=client.client_id,
                        error="A used code came back; what it was exchanged for was revoked",
                        family_id=code.family_id,
                        revoked=ended,
                    )
                return False
            await self._issuing.keep(session, client, granted, at, refresh_token)
            self._audit.record(
                session, "code_exchanged", origin, user_id=code.user_id, client_id=client.client_id, scope=code.scope
            )
            return True

        if not await self._database.write(unit):
            self._ended.note()
            detail = "The code has expired" if code.expires_at <= at else "Invalid code"
            raise refuse_grant(detail, recorded=reused)
        return self._issuing.tell(client, granted, refresh_token)

    @staticmethod
    def _check(code: CodeRecord, fields: dict[str, str]) -> None:
        """Compare what the client shows with what it asked for; a slip does not use the code up."""
        if code.redirect_uri is not None and fields.get("redirect_uri") != code.redirect_uri:
            raise refuse_grant("redirect_uri: differs from the one of the authorization request")
        (verifier,) = require(fields, "code_verifier")
        digest = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        if not _VERIFIER.fullmatch(verifier) or not hmac.compare_digest(digest, code.code_challenge):
            raise refuse_grant("code_verifier: does not fit the code")
