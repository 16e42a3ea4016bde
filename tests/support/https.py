"""A web server with TLS under names of its own, and a fetcher that finds and trusts it."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from codelab.db import now
from codelab.fetching import Fetcher, is_public

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

__all__ = ("HOST", "WebServer", "serve_https")

HOST = "client.example"


@dataclass
class WebServer:
    """A server, what it answers by path, and which paths it was asked for."""

    port: int
    tls: ssl.SSLContext
    pages: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def url(self, path: str = "/client.json") -> str:
        """Return the URL of a path."""
        return f"https://{HOST}:{self.port}{path}"

    def show(self, path: str, body: str | bytes, content_type: str = "application/json", **headers: str) -> str:
        """Answer a path with a body from now on; return its URL."""

        async def answer(_: web.Request) -> web.Response:
            content = body.encode() if isinstance(body, str) else body
            told = {name.replace("_", "-"): value for name, value in headers.items()}
            return web.Response(body=content, content_type=content_type, headers=told)

        self.pages[path] = answer
        return self.url(path)

    def fetcher(self, *, guarded: bool = False) -> Fetcher:
        """Make a fetcher that finds the server here, which ``guarded`` does not let it."""

        async def resolve(host: str, port: int) -> list[str]:
            return ["127.0.0.1"] if host == HOST else ["93.184.216.34", "127.0.0.1"]

        return Fetcher(resolve=resolve, allowed=is_public if guarded else lambda _: True, tls=self.tls)


def _certify(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    at = now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - timedelta(days=1))
        .not_valid_after(at + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "tls.pem", folder / "tls.key"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return chain, private


@asynccontextmanager
async def serve_https(folder: Path) -> AsyncIterator[WebServer]:
    """Serve on a free loopback port."""
    chain, private = _certify(folder)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(chain, private)
    server = WebServer(0, ssl.create_default_context(cafile=str(chain)))

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        server.asked.append(request.path)
        page = server.pages.get(request.path)
        if page is None:
            return web.Response(status=404, text="{}", content_type="application/json")
        return await page(request)  # type: ignore[arg-type]  # a BaseRequest is all that the pages look at

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=own)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()
        await asyncio.sleep(0)  # the transports of TLS close one turn later
