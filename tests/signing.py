"""Real key pairs, a signer that can make any token (also those that no library would), and a provider's key server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jwt as pyjwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ALGORITHMS = ("RS256", "ES256", "ES384", "EdDSA")


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def segment(data: object) -> str:
    return b64(data if isinstance(data, bytes) else json.dumps(data, separators=(",", ":")).encode())


@dataclass(frozen=True)
class Pair:
    """A key pair of the algorithm, as its owner has it."""

    algorithm: str
    private: Any = field(repr=False)
    kid: str = "k1"

    def jwk(self, **more: Any) -> dict[str, Any]:
        """The public half as a JWK. `more` adds, or with None takes away."""
        made = pyjwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private.public_key(), as_dict=True)
        made = {k: v for k, v in made.items() if k in ("kty", "crv", "n", "e", "x", "y")}
        return {k: v for k, v in (made | {"kid": self.kid, "use": "sig"} | more).items() if v is not None}

    def pem(self) -> bytes:
        made: bytes = self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return made

    def sign(self, payload: Mapping[str, Any] | bytes, **header: Any) -> str:
        """A token; `header` adds to the usual one, or with None takes away."""
        head = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid} | header
        signed = f"{segment({k: v for k, v in head.items() if v is not None})}.{segment(payload)}"
        algorithm = pyjwt.get_algorithm_by_name(self.algorithm)
        return f"{signed}.{b64(algorithm.sign(signed.encode(), self.private))}"


def hmac_token(payload: Mapping[str, Any], key: bytes, **header: Any) -> str:
    signed = f"{segment({'alg': 'HS256', 'typ': 'JWT'} | header)}.{segment(payload)}"
    return f"{signed}.{b64(hmac.new(key, signed.encode(), hashlib.sha256).digest())}"


@cache
def pair(algorithm: str, kid: str = "k1", number: int = 0) -> Pair:
    """One pair for each name and number: making RSA keys takes its time."""
    if algorithm[:2] in ("RS", "PS"):
        return Pair(algorithm, rsa.generate_private_key(public_exponent=65537, key_size=2048), kid)
    if algorithm == "EdDSA":
        return Pair(algorithm, ed25519.Ed25519PrivateKey.generate(), kid)
    curve = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}[algorithm]
    return Pair(algorithm, ec.generate_private_key(curve()), kid)


def small_rsa() -> Pair:
    return Pair("RS256", rsa.generate_private_key(public_exponent=65537, key_size=1024))


def jwks(*pairs: Pair) -> dict[str, Any]:
    return {"keys": [p.jwk() for p in pairs]}


@dataclass
class Provider:
    """An identity provider's HTTP server: what it publishes, and how often it was asked."""

    url: str = ""
    published: Any = None
    status: int = 200
    asked: int = 0
    paths: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    gate: Any = None  # an event to wait for, before answering

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        self.paths.append(request.path_qs)
        if self.gate is not None:
            await self.gate.wait()
        body = self.published if isinstance(self.published, bytes) else json.dumps(self.published).encode()
        return web.Response(body=body, status=self.status, headers=self.headers, content_type="application/json")


@asynccontextmanager
async def providing(*pairs: Pair) -> AsyncIterator[Provider]:
    provider = Provider(published=jwks(*pairs))
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", provider.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
        yield provider
    finally:
        if provider.gate is not None:
            provider.gate.set()
        await runner.cleanup()


__all__ = ["ALGORITHMS", "Pair", "Provider", "hmac_token", "jwks", "pair", "providing", "segment", "small_rsa"]
