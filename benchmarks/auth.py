"""The token endpoint beside bare applications and npm's oidc-provider: grants, introspection, keys, password logins.

oidc-provider keeps everything in memory here, which is quicker than any database, and commits nothing; it is left out
where there is no Node or npm cannot install it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx2

from benchmarks.processes import codelab, cpu_seconds, get, load, program
from benchmarks.sides import Row, fresh_database, rounds_of
from tests.support.process import PASSWORD, run_codelab, server_environ

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from benchmarks.processes import Codelab
    from tests.support.databases import PostgresServer

__all__ = ("measure",)

CLIENT, SECRET = "bench", "b" * 43
FLUTTER = "codelab-flutter-app"
PACKAGE = "oidc-provider@9"
CONNECTIONS = 16


def form(path: str, **fields: str) -> str:
    """Write a form as it goes over the wire."""
    body = urlencode(fields)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}"


_BY_SECRET = {"client_id": CLIENT, "client_secret": SECRET}
GRANT = form("/oauth/token", grant_type="client_credentials", scope="api:read", **_BY_SECRET)
LOGIN = form("/oauth/token", grant_type="password", client_id=FLUTTER, username="admin", password=PASSWORD)
JWKS = get("/.well-known/jwks.json")


async def measure(folder: Path, server: PostgresServer | None, rounds: int, seconds: float) -> list[Row]:
    """Ask with 16 connections from processes of their own, all sides in turn."""
    place = folder / uuid4().hex
    length = ("--seconds", str(seconds))

    async def ask(url: str, request: str) -> Mapping[str, float]:
        return await load("load", url, request, *length)

    async def refresh(url: str, tokens: list[str], form: str, path: str = "/oauth/token") -> Mapping[str, float]:
        measured: dict[str, Any] = await load(
            "refresh_load", url, json.dumps(tokens), "--form", form, "--path", path, *length
        )
        tokens[:] = measured.pop("tokens")
        return measured

    async with codelab(place, server) as side:
        await asyncio.to_thread(_make_client, place, side)
        own = await _refresh_tokens(side)
        raw = [f"new-{number}" for number in range(CONNECTIONS)]
        floor_file = fresh_database(folder, None).removeprefix("sqlite:///")
        with (
            program("auth_floor", "sign") as sign,
            program("auth_floor", "rotate", floor_file) as rotate,
            oidc_provider(folder) as other,
        ):
            token = (await side.http.post("/oauth/token", data=_grant())).json()["access_token"]

            async def busy() -> Mapping[str, float]:
                logins = asyncio.create_task(load("load", side.url, LOGIN, *length))
                beside = await load("load", side.url, JWKS, "--connections", "1", *length)
                return {"rate": (await logins)["rate"], "p99": beside["p99"] * 1000}

            async def cost() -> Mapping[str, float]:
                before = cpu_seconds(side.pid)
                rate = (await load("load", side.url, GRANT, *length))["rate"]
                return {"rate": (cpu_seconds(side.pid) - before) / (rate * seconds) * 1e6}

            sides: dict[str, Callable[[], Awaitable[Mapping[str, float]]]] = {
                "sign": lambda: ask(sign, GRANT),
                "grant": lambda: ask(side.url, GRANT),
                "rotate": lambda: refresh(rotate, raw, "client_id=x"),
                "refresh": lambda: refresh(side.url, own, f"client_id={FLUTTER}"),
                "introspect": lambda: ask(side.url, form("/oauth/introspect", token=token, **_BY_SECRET)),
                "jwks": lambda: ask(side.url, JWKS),
                "busy": busy,
                "cost": cost,
            }
            if other is not None:
                url, theirs = other
                held = await _their_token(url)
                by_secret = urlencode(_BY_SECRET)
                sides |= {
                    "their refresh": lambda: refresh(url, theirs, by_secret, "/token"),
                    "their introspect": lambda: ask(url, form("/token/introspection", token=held, **_BY_SECRET)),
                    "their jwks": lambda: ask(url, get("/jwks")),
                }
            found = await rounds_of(sides, rounds)
    rate = {name: of["rate"] for name, of in found.items()}
    rows = [
        Row("client_credentials, beside Litestar that signs", rate["grant"], "/s", rate["sign"], at_least=0.9),
        Row("refresh, beside raw sqlite3", rate["refresh"], "/s", rate["rotate"], at_least=0.4),
    ]
    rows += [
        Row(f"{name}, beside oidc-provider in memory", rate[name], "/s", rate.get(f"their {name}"), at_least=1.0)
        for name in ("refresh", "introspect", "jwks")
        if f"their {name}" in rate
    ]
    return [
        *rows,
        Row("introspection", rate["introspect"], "/s", above=2900),
        Row("JWKS", rate["jwks"], "/s", above=7500),
        Row("password logins", rate["busy"], "/s"),
        Row("JWKS while 16 log in, p99", found["busy"]["p99"], "ms", below=50),
        Row("processor time of client_credentials", rate["cost"], "us"),
    ]


@contextmanager
def oidc_provider(folder: Path) -> Iterator[tuple[str, list[str]] | None]:
    """Run npm's oidc-provider; give its address and refresh tokens, or None when it cannot be had."""
    npm, node = shutil.which("npm"), shutil.which("node")
    place = folder / "oidc-provider"
    place.mkdir(exist_ok=True)
    command = [str(npm), "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(place), PACKAGE]
    if npm is None or node is None or subprocess.run(command, capture_output=True, cwd=place, check=False).returncode:
        print("oidc-provider is left out: there is no Node, or npm cannot install it")
        yield None
        return
    script = shutil.copy(Path(__file__).with_name("oidc_provider.mjs"), place)
    process = subprocess.Popen(
        [node, script, CLIENT, SECRET], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        told = json.loads(next(line for line in process.stdout if line.startswith("{")))
        yield told["url"], told["tokens"]
    finally:
        process.terminate()
        process.wait(30)


async def _their_token(url: str) -> str:
    async with httpx2.AsyncClient(base_url=url) as http:
        token: str = (await http.post("/token", data=_grant())).json()["access_token"]
        return token


def _grant() -> dict[str, str]:
    return {"grant_type": "client_credentials", "scope": "api:read", **_BY_SECRET}


def _make_client(place: Path, side: Codelab) -> None:
    arguments = ("client", "create", CLIENT, "--name", "Bench", "--confidential", "--grant", "client_credentials")
    environ = server_environ(place, side.databases)
    done = run_codelab(*arguments, "--secret-stdin", folder=place, environ=environ, stdin=SECRET)
    assert done.returncode == 0, done.stderr


async def _refresh_tokens(side: Codelab) -> list[str]:
    fields = {"grant_type": "password", "client_id": FLUTTER, "username": "admin", "password": PASSWORD}
    answers = [(await side.http.post("/oauth/token", data=fields)).json() for _ in range(CONNECTIONS)]
    return [each["refresh_token"] for each in answers]
