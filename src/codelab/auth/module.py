"""The module as a Litestar plugin: everything it is made of, put together."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from litestar.plugins import InitPlugin

from codelab.auth.accounts import Accounts
from codelab.auth.audit import Audit
from codelab.auth.authorize.service import Authorizing
from codelab.auth.browsers import Browsers
from codelab.auth.cleaning import clean
from codelab.auth.clients import KnownClients
from codelab.auth.devices import Devices
from codelab.auth.discovery import Discovery
from codelab.auth.documents import ClientDocuments
from codelab.auth.edge import Challenges, Cors
from codelab.auth.grants import Grants
from codelab.auth.grants.client_credentials import ClientCredentialsGrant
from codelab.auth.grants.code import CodeGrant
from codelab.auth.grants.device import DeviceGrant
from codelab.auth.grants.issuing import Issuing
from codelab.auth.grants.password import PasswordGrant
from codelab.auth.grants.refresh import RefreshGrant
from codelab.auth.inherited import InheritedTokens
from codelab.auth.introspection import Introspection
from codelab.auth.keys import KeyRing
from codelab.auth.logins import Logins
from codelab.auth.logouts import Logouts
from codelab.auth.middleware import BearerMiddleware
from codelab.auth.operators import Operators
from codelab.auth.operators.clients import Clients
from codelab.auth.operators.keys import Keys
from codelab.auth.operators.trail import Trail
from codelab.auth.operators.users import Users
from codelab.auth.pages import Pages
from codelab.auth.pages.front import Front
from codelab.auth.passwords import Passwords
from codelab.auth.people.factors import SecondFactors
from codelab.auth.personal_tokens import PersonalTokens
from codelab.auth.principals import Principals
from codelab.auth.refusals import Refusals
from codelab.auth.registration import Registration
from codelab.auth.resets import Resets
from codelab.auth.resources import Audiences
from codelab.auth.revocations import Revocations
from codelab.auth.routes.account import create_routes as account_routes
from codelab.auth.routes.admin import create_routes as admin_routes
from codelab.auth.routes.authorize import create_routes as authorize_routes
from codelab.auth.routes.device import DEVICE
from codelab.auth.routes.device import create_routes as device_routes
from codelab.auth.routes.logout import create_routes as logout_routes
from codelab.auth.routes.metadata import create_routes as metadata_routes
from codelab.auth.routes.pages import create_routes as page_routes
from codelab.auth.routes.registration import create_routes as registration_routes
from codelab.auth.routes.reset import create_routes as reset_routes
from codelab.auth.routes.token import create_routes as token_routes
from codelab.auth.routes.userinfo import create_routes as userinfo_routes
from codelab.auth.seeds import DEVICE_CODE, plant
from codelab.auth.storage import SCHEMA
from codelab.auth.throttle import Throttle
from codelab.auth.tokens import AccessTokens
from codelab.db import Database, Limits, parse_url
from codelab.db.jobs import Job, Jobs
from codelab.db.upkeep import Upkeep
from codelab.fetching import Fetcher
from codelab.repeating import mark_replays

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from litestar import Litestar
    from litestar.config.app import AppConfig
    from litestar.types import ASGIApp

    from codelab.auth.grants import Grant
    from codelab.identity import Principal
    from codelab.settings import AuthSettings

__all__ = ("AuthModule",)

#: Seconds between two looks at what other processes did with the keys.
_FOLLOW_KEYS = 0.5
#: Whose 401 is not about the API.
_FOR_CLIENTS = ("/oauth/token", "/oauth/device_authorization", "/oauth/introspect", "/oauth/revoke", "/oauth/userinfo")
#: What scripts in browsers may ask too; to introspect needs a secret, which they cannot keep.
_FOR_BROWSERS = (
    "/oauth/register",
    "/oauth/token",
    "/oauth/device_authorization",
    "/oauth/revoke",
    "/oauth/userinfo",
)


class AuthModule(InitPlugin):
    """Log people in and tell who is calling: a Litestar plugin with routes, middleware and a database of its own.

    ``issuer`` is the ``iss`` of access tokens. ``local_secret`` (``codelab_local_…``) is the bearer token of the person
    whose own server this is. ``db_wait`` is how many seconds the start waits for PostgreSQL.

    Raises:
        StartError: the database URL is not understood.
    """

    def __init__(
        self, settings: AuthSettings, *, issuer: str, local_secret: str | None = None, db_wait: float = 30.0
    ) -> None:
        self.database = Database(
            parse_url(settings.db_url, SCHEMA.variable),
            SCHEMA,
            Limits(settings.db_pool_size, settings.db_statement_timeout),
        )
        self._settings = settings
        self._db_wait = db_wait
        self._audit = Audit(self.database, settings.key_encryption_key_file)
        self._keys = KeyRing(self.database, settings.key_encryption_key_file, self._audit, settings.key_max_age)
        self._passwords = Passwords()
        self._issuer = issuer
        audiences = Audiences(issuer, settings.jwt_audience)
        self._tokens = AccessTokens(self._keys, issuer=issuer, audiences=audiences)
        self._ended = Revocations(self.database)
        self._inherited = InheritedTokens(self.database, settings.key_encryption_key_file)
        throttle = Throttle(
            self.database, per_account=settings.login_failures, per_address=settings.login_failures_per_address
        )
        self._logins = Logins(self.database, self._passwords, self._audit, throttle)
        issuing = Issuing(self._tokens, audiences)
        grants: dict[str, Grant] = {
            "authorization_code": CodeGrant(self.database, self._audit, issuing, self._ended),
            DEVICE_CODE: DeviceGrant(self.database, self._audit, issuing),
            "refresh_token": RefreshGrant(
                self.database,
                self._audit,
                issuing,
                self._inherited,
                self._ended,
                timedelta(seconds=settings.refresh_grace),
            ),
            "client_credentials": ClientCredentialsGrant(self.database, self._audit, issuing),
            "password": PasswordGrant(self._logins, issuing),
        }
        if not settings.password_grant:
            grants.pop("password")
        refusals = Refusals(self.database, self._audit)
        self._known = KnownClients(self.database)
        self._grants = Grants(self._known, refusals, grants)
        browsers = Browsers(self.database, secure=issuer.startswith("https:"))
        self._factors = SecondFactors(self.database, self._audit, throttle, settings.key_encryption_key_file)
        self._front = Front(Pages(issuer), browsers, self._logins, self._factors)
        self._resets = Resets(self.database, self._passwords, self._audit, self._ended)
        self._accounts = Accounts(self.database, self._logins, self._passwords, self._audit, self._ended)
        self._logouts = Logouts(self.database, self._tokens)
        self._personal = PersonalTokens(self.database, self._audit, self._ended)
        self._authorizing = Authorizing(self.database, self._audit, audiences, issuer)
        self._devices = Devices(
            self.database, self._known, self._audit, refusals, audiences, throttle, f"{issuer.rstrip('/')}{DEVICE}"
        )
        self._discovery = Discovery(
            issuer,
            audiences,
            self._grants.types,
            registration=settings.registration != "off",
            documents=settings.client_documents,
        )
        self._documents = ClientDocuments(self.database, self._known, self._audit, Fetcher(), settings)
        self.upkeep = Upkeep("auth", self._look_after)
        self.operators = Operators(
            users=Users(self.database, self._passwords, self._audit, self._ended),
            clients=Clients(self.database, self._known, self._audit, self._ended, settings),
            keys=Keys(self.database, self._audit, self._keys),
            trail=Trail(self.database),
        )
        self._jobs = Jobs(Job("auth-keys", _FOLLOW_KEYS, self._keys.refresh))
        self._registration = Registration(self.database, self._audit, settings)
        self._principals = Principals(
            self.database, self._known, self._tokens, self._personal, self._ended, local_secret
        )
        self._introspection = Introspection(
            self.database, self._known, self._audit, self._tokens, self._inherited, self._ended, refusals
        )

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the routes, the middleware and the life of the module to an application."""
        app_config.route_handlers.extend(metadata_routes(self._discovery, self._keys))
        app_config.route_handlers.extend(token_routes(self._grants, self._introspection))
        app_config.route_handlers.extend(userinfo_routes(self._introspection))
        app_config.route_handlers.extend(authorize_routes(self._front, self._authorizing, self._documents))
        app_config.route_handlers.extend(device_routes(self._front, self._devices))
        app_config.route_handlers.extend(account_routes(self._front, self._accounts, self._personal, self._factors))
        app_config.route_handlers.extend(logout_routes(self._front, self._accounts, self._logouts))
        app_config.route_handlers.extend(reset_routes(self._front, self._resets))
        app_config.route_handlers.extend(page_routes())
        app_config.route_handlers.append(admin_routes(self.operators, self._issuer))
        if self._settings.registration != "off":
            is_open = self._settings.registration == "open"
            app_config.route_handlers.extend(registration_routes(self._registration, is_open=is_open))
        app_config.middleware.append(BearerMiddleware(self._principals))
        mark_replays(app_config)
        app_config.lifespan.append(self._live)
        return app_config

    def surround(self, app: ASGIApp) -> ASGIApp:
        """Wrap an application: browsers may ask what is for them, and who is refused learns where to log in."""
        documents = (*self._discovery.server_paths, *self._discovery.resource_paths, "/.well-known/jwks.json")
        challenges = Challenges(app, self._discovery.resource_url, but=_FOR_CLIENTS)
        return Cors(challenges, [*documents, *_FOR_BROWSERS])

    @asynccontextmanager
    async def _live(self, _app: Litestar) -> AsyncIterator[None]:
        try:
            await self.start(alone=True)
            yield
        finally:
            await self.stop()

    async def start(self, *, alone: bool = False) -> None:
        """Migrate the database, load the keys, make what a new installation begins with.

        With ``alone`` this is the one process that serves the database, until ``stop``.

        Raises:
            StartError: one line that says what is wrong.
        """
        await self.database.start(self._db_wait, alone=alone)
        await self._audit.open()
        await self._keys.load()
        self._factors.open()
        await self._inherited.load()
        self._passwords.start()
        await plant(self.database, self._passwords, self._settings)
        self.upkeep.start()
        self._jobs.start()

    async def stop(self) -> None:
        """Finish what was begun and close the database."""
        await self._jobs.stop()
        await self.upkeep.stop()
        await self._passwords.stop()
        if self._keys.loaded:
            await self._personal.keep_uses()
        await self.database.stop()

    async def _look_after(self) -> dict[str, int]:
        await self._personal.keep_uses()
        return await clean(self.database, self._settings, self._audit.chain)

    async def ready(self) -> bool:
        """Tell whether tokens can be issued: keys are loaded and the database answers."""
        return self._keys.loaded and await self.database.ping()

    async def authenticate(self, token: str) -> Principal:
        """Return the person behind a bearer token.

        Raises:
            Unauthenticated: the token is not valid, or its user is disabled.
        """
        return await self._principals.find(token)

    async def still_valid(self, principals: Collection[Principal]) -> set[Principal]:
        """Return those whose proof has not ended or been revoked, and who are not disabled.

        What another process did counts.
        """
        at = time.time()
        current = {each for each in principals if each.expires_at is None or each.expires_at > at}
        active = await self._principals.still_active(current)
        ended = await self._ended.ended({each_id for each in current for each_id in each.proof_ids})
        return {each for each in active if ended.isdisjoint(each.proof_ids)}
