"""What happens between a client's request and its code: who is it, do they agree, and the answer."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING

from codelab.auth.authorize.request import read_request
from codelab.auth.errors import OAuthError
from codelab.auth.redirects import with_parameters
from codelab.auth.repository.codes import find_consent, insert_code, keep_consent
from codelab.auth.scopes import within_rights
from codelab.auth.tokens import hash_token, new_refresh_token
from codelab.db import new_id, now

if TYPE_CHECKING:
    from codelab.auth.audit import Audit, Event
    from codelab.auth.authorize.request import AuthorizationRequest, Refused
    from codelab.auth.repository.browsers import BrowserRecord
    from codelab.auth.resources import Audiences
    from codelab.auth.schemas import Origin
    from codelab.db import Database, Transaction

__all__ = ("Authorizing", "Step")

#: How long a client may take to exchange its code (RFC 6749 section 4.1.2 asks for at most ten minutes).
CODE_LIFETIME = timedelta(seconds=60)


class Step(Enum):
    """What has to happen next."""

    SIGN_IN = "sign in"
    CONSENT = "consent"
    ANSWER = "answer"


class Authorizing:
    """Decide about authorization requests."""

    def __init__(self, database: Database, audit: Audit, audiences: Audiences, issuer: str) -> None:
        self._database = database
        self._audit = audit
        self._audiences = audiences
        self._issuer = issuer

    async def read(self, query: str) -> AuthorizationRequest:
        """Read a request.

        Raises:
            Unproven: only a page can say what is wrong.
            Refused: the client is told.
        """
        async with self._database.read() as session:
            return await read_request(session, query, self._audiences)

    async def next_step(self, request: AuthorizationRequest, browser: BrowserRecord | None) -> Step:
        """Say what a request waits for.

        Raises:
            Refused: with ``prompt=none`` nobody may be asked, or the person has no right to what is asked.
        """
        if browser is None or self._is_stale(request, browser):
            if "none" in request.prompt:
                raise request.refuse("Nobody is signed in", "login_required")
            return Step.SIGN_IN
        scope = self.scope_of(request, browser)
        async with self._database.read() as session:
            consented = await find_consent(session, browser.user_id, request.client.client_id)
        covered = consented is not None and set(scope.split()) <= set(consented.split())
        if "consent" in request.prompt or request.is_native or not covered:
            if "none" in request.prompt:
                raise request.refuse("The person has to agree", "consent_required")
            return Step.CONSENT
        return Step.ANSWER

    @staticmethod
    def _is_stale(request: AuthorizationRequest, browser: BrowserRecord) -> bool:
        if {"login", "select_account"} & request.prompt:
            return True
        return request.max_age is not None and now() - browser.auth_time > timedelta(seconds=request.max_age)

    @staticmethod
    def scope_of(request: AuthorizationRequest, browser: BrowserRecord) -> str:
        """Return what this person can let the client do.

        Raises:
            Refused: nothing of what it asks for.
        """
        try:
            return within_rights(request.scope, is_admin=browser.is_admin)
        except OAuthError as error:
            raise request.refuse(error.detail, error.code) from None

    async def allow(self, request: AuthorizationRequest, browser: BrowserRecord, origin: Origin, *, asked: bool) -> str:
        """Make a code and return where the browser brings it; ``asked`` says that the person has just agreed."""
        code, scope, at = new_refresh_token(), self.scope_of(request, browser), now()
        client_id = request.client.client_id

        async def unit(transaction: Transaction) -> None:
            session = transaction.session
            if asked:
                before = await find_consent(session, browser.user_id, client_id)
                everything = sorted({*scope.split(), *(before or "").split()})
                await keep_consent(session, browser.user_id, client_id, " ".join(everything), at)
            await insert_code(
                session,
                code_hash=hash_token(code),
                family_id=new_id(),
                user_id=browser.user_id,
                client_id=client_id,
                redirect_uri=request.named_redirect_uri,
                scope=scope,
                resource=request.resource,
                code_challenge=request.code_challenge,
                nonce=request.nonce,
                auth_time=browser.auth_time,
                expires_at=at + CODE_LIFETIME,
            )
            event: Event = "consent_given" if asked else "consent_remembered"
            self._audit.record(session, event, origin, user_id=browser.user_id, client_id=client_id, scope=scope)

        await self._database.write(unit)
        return self._answer(request.redirect_uri, request.state, code=code)

    async def deny(self, request: AuthorizationRequest, browser: BrowserRecord, origin: Origin) -> str:
        """Return where the browser brings the answer that the person does not agree."""
        error = request.refuse("The person did not agree", "access_denied")

        async def unit(transaction: Transaction) -> None:
            self._audit.record(
                transaction.session,
                "consent_denied",
                origin,
                user_id=browser.user_id,
                client_id=request.client.client_id,
                error=error.detail,
            )

        await self._database.write(unit)
        return self.answer_refusal(error)

    def answer_refusal(self, refused: Refused) -> str:
        """Return where the browser brings a refusal."""
        return self._answer(refused.redirect_uri, refused.state, error=refused.code, error_description=refused.detail)

    def _answer(self, redirect_uri: str, state: str | None, **parameters: str) -> str:
        if state is not None:
            parameters["state"] = state
        return with_parameters(redirect_uri, parameters | {"iss": self._issuer})  # RFC 9207
