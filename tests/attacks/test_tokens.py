"""Attacks A01 to A26 and F12 on a served workspace: no token but exactly the right one opens anything.

Three kinds of tokens are attacked at once: those that the admin token signs, those of the team's own key pair, and
those of an identity provider whose keys come from its URL. Every refusal is a 403 (or 400 where two tokens were sent),
says nothing of B, and makes the server ask nobody but the registered URL.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from pipit.access.fetch import UNKNOWN_KEY_SECONDS
from pipit.access.keyring import Keyring, WorkspaceKey
from pipit.cli.logs import log_to
from pipit.errors import BadRequest
from pipit.server import Server
from projects import CANARY, ROWS, TENANTS, column
from serving import Reply, Workspace, made_workspace
from signing import Pair, Provider, b64, hmac_token, jwks, pair, providing, segment, small_rsa

pytestmark = pytest.mark.anyio

Claims = dict[str, Any]
AUD = "pipit-app"
PATH = "/v0/pipes/latest.json"
B64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
OWN, IDP = pair("RS256", "own"), pair("ES256", "idp")
STRANGER = {p.algorithm: pair(p.algorithm, p.kid, 9) for p in (OWN, IDP)}


@dataclass
class World:
    workspace: Workspace
    provider: Provider
    evil: Provider
    iss: str

    def own(self, **claims: Any) -> Claims:
        """The payload of a good token, as a team's backend signs it with its key pair or the admin token."""
        return {
            "workspace_id": self.workspace.id,
            "name": "tenant",
            "exp": int(time.time()) + 600,
            "scopes": [{"type": "PIPES:READ", "resource": "latest"}],
            "context": {"customer_id": "a"},
        } | claims

    def oidc(self, **claims: Any) -> Claims:
        """The payload of a good token of the identity provider."""
        return {"iss": self.iss, "aud": AUD, "sub": "user-1", "exp": int(time.time()) + 600, "org": "a"} | claims

    def hs(self, payload: Claims, **header: Any) -> str:
        return hmac_token(payload, self.workspace.admin_token.encode(), **header)

    async def read(self, token: str | None, path: str = PATH, **options: Any) -> Reply:
        reply = await self.workspace.get(path, token=token, **options)
        only_a(reply)
        return reply


def only_a(reply: Reply) -> None:
    """No canary of B in any byte of the answer."""
    whole = reply.body + repr(dict(reply.headers)).encode()
    for canary in (str(CANARY), "canary_b", '"b"'):
        assert canary.encode() not in whole, whole[:2000]


async def refused(world: World, token: str, *, message: str = "") -> Reply:
    asked = world.evil.asked
    reply = await world.read(token)
    assert reply.status == 403, (reply.status, reply.text, token[:200])
    assert world.workspace.admin_token not in reply.text
    assert message in reply.json["error"]
    assert world.evil.asked == asked, "a token chose an address"
    return reply


async def opens(world: World, token: str) -> None:
    reply = await world.read(token)
    assert reply.status == 200, reply.text
    assert column(reply.json["data"], "customer_id") == ["a", "a", "a"]


@asynccontextmanager
async def attacked(server: Server, base_url: str, http: aiohttp.ClientSession) -> AsyncIterator[World]:
    """A workspace with rows of A and B, and with a registration of each kind."""
    async with (
        made_workspace(server, base_url, http) as workspace,
        providing(IDP) as provider,
        providing(pair("RS256", "evil")) as evil,
    ):
        await workspace.deploy(TENANTS)
        assert (await workspace.send("events", ROWS)).status == 200
        made = World(workspace, provider, evil, f"https://idp.example.com/{workspace.id}")
        put = await workspace.request("PUT", "/v0/workspace/keys/team", json={"jwks": jwks(OWN)})
        assert put.status == 200, put.text
        put = await workspace.request(
            "PUT",
            "/v0/workspace/keys/idp",
            json={
                "issuer": made.iss,
                "audience": AUD,
                "jwks_url": provider.url,
                "scopes": [{"type": "PIPES:READ", "resource": "latest"}],
                "context": {"customer_id": "org"},
            },
        )
        assert put.status == 200, put.text
        assert put.json["known_keys"] == [{"kid": "idp", "alg": "ES256"}]
        yield made
        for name in ("team", "idp"):
            await workspace.request("DELETE", f"/v0/workspace/keys/{name}")


@pytest.fixture(scope="module")
async def world(server: Server, base_url: str, http: aiohttp.ClientSession) -> AsyncIterator[World]:
    """One for all tests that change nothing in it."""
    async with attacked(server, base_url, http) as made:
        yield made


@pytest.fixture
async def fresh(server: Server, base_url: str, http: aiohttp.ClientSession) -> AsyncIterator[World]:
    async with attacked(server, base_url, http) as made:
        yield made


async def test_the_right_tokens_open_what_is_as(world: World) -> None:
    """What all the cases below change one thing of."""
    await opens(world, world.hs(world.own()))
    await opens(world, OWN.sign(world.own()))
    await opens(world, IDP.sign(world.oidc()))


def public_key_as_secret(key: Pair) -> list[bytes]:
    return [key.pem(), key.pem().strip(), json.dumps(key.jwk()).encode(), json.dumps(jwks(key)).encode(), b""]


def changed(payload: Claims, **claims: Any) -> Claims:
    return {k: v for k, v in (payload | claims).items() if v is not ...}


Case = Callable[[World], list[str]]


def everywhere(**claims: Any) -> Case:
    """One change to the payload of each kind of token; `...` takes a claim away."""

    def make(world: World) -> list[str]:
        own, oidc = changed(world.own(), **claims), changed(world.oidc(), **claims)
        return [world.hs(own), OWN.sign(own), IDP.sign(oidc)]

    return make


def raw(old: str, new: str) -> Case:
    """One change to the text of the payload, signed with the right key."""

    def make(world: World) -> list[str]:
        made = []
        for payload, sign in (
            (world.own(exp=1900000000), lambda p: hmac_token(p, world.workspace.admin_token.encode())),
            (world.own(exp=1900000000), OWN.sign),
            (world.oidc(exp=1900000000, context={"customer_id": "a"}), IDP.sign),
        ):
            text = json.dumps(payload)
            assert old in text
            made.append(sign(text.replace(old, new).encode()))
        return made

    return make


def headers(**header: Any) -> Case:
    """One more header field, under a signature that holds."""

    def make(world: World) -> list[str]:
        url = world.evil.url
        filled = {k: url if v == "URL" else v for k, v in header.items()}
        return [
            world.hs(world.own(), **filled),
            OWN.sign(world.own(), **filled),
            IDP.sign(world.oidc(), **filled),
            STRANGER["RS256"].sign(world.own(), **filled),
            STRANGER["ES256"].sign(world.oidc(), **filled),
        ]

    return make


def algorithm(*names: Any) -> Case:
    """Another `alg`: the old signature under it, none, and one with an empty or public secret."""

    def make(world: World) -> list[str]:
        made = []
        for good, payload, key in (
            (world.hs(world.own()), world.own(), OWN),
            (OWN.sign(world.own()), world.own(), OWN),
            (IDP.sign(world.oidc()), world.oidc(), IDP),
        ):
            for name in names:
                head = segment({"alg": name, "typ": "JWT", "kid": key.kid})
                _, body, signature = good.split(".")
                made += [f"{head}.{body}.{signature}", f"{head}.{body}."]
                made += [hmac_token(payload, secret, alg=name) for secret in (b"", key.pem())]
                made += [hmac_token(payload, secret, alg=name, kid=key.kid) for secret in (b"", key.pem())]
        return made

    return make


def texts(change: Callable[[str, str, str], list[str]]) -> Case:
    """Other texts for good tokens: head, body, signature -> what is sent."""

    def make(world: World) -> list[str]:
        good = (world.hs(world.own()), OWN.sign(world.own()), IDP.sign(world.oidc()))
        return [text for token in good for text in change(*token.split("."))]

    return make


LATER = 10**9
NO_TIMES: list[Any] = ["1900000000", 1.9e9, -1, 0, [1900000000], {}, None, True, 1900000000000]

REFUSED: list[tuple[str, Case]] = [
    ("A01 alg none", algorithm("none")),
    ("A02 alg None, nOnE", algorithm("None", "nOnE", "NONE", "", None, ["none"])),
    (
        "A03 HS256 with the public key",
        lambda w: [
            hmac_token(payload, secret, **header)
            for key, payload in ((OWN, w.own()), (IDP, w.oidc()), (IDP, w.own()))
            for secret in public_key_as_secret(key)
            for header in ({}, {"kid": key.kid})
        ],
    ),
    (
        "A04 an alg that is not the key's",
        lambda w: [
            *algorithm("HS384", "HS512", "RS512", "PS256", "ES384", "EdDSA")(w),
            OWN.sign(w.own(), alg="RS384"),
            OWN.sign(w.own(), alg="ES256"),
            IDP.sign(w.oidc(), alg="RS256"),
            Pair("PS256", OWN.private, OWN.kid).sign(w.own()),
            Pair("RS512", OWN.private, OWN.kid).sign(w.own()),
        ],
    ),
    (
        "A05 unknown kid",
        lambda w: [
            OWN.sign(w.own(), kid="other"),
            IDP.sign(w.oidc(), kid="other"),
            IDP.sign(w.oidc(), kid="own"),
            OWN.sign(w.own(), kid="idp"),
            OWN.sign(w.oidc()),
            IDP.sign(w.own()),
            STRANGER["RS256"].sign(w.own(), kid="x"),
            w.hs(w.own(), kid="own"),
        ],
    ),
    (
        "A05 a stranger's key under a known kid",
        lambda w: [
            STRANGER["RS256"].sign(w.own()),
            STRANGER["ES256"].sign(w.oidc()),
            STRANGER["RS256"].sign(w.own(), kid=None),
        ],
    ),
    ("A06 kid as a path", headers(kid="../../dev/null")),
    ("A07 kid as SQL", headers(kid="x' OR 1=1")),
    ("A07 kid of another type", headers(kid=["own", "idp"])),
    ("A08 jku", headers(jku="URL")),
    ("A08 x5u", headers(x5u="URL")),
    ("A08 jwk", headers(jwk=pair("RS256", "evil").jwk())),
    ("A08 x5c", headers(x5c=["MIIB"])),
    (
        "A08 iss as an address",
        lambda w: [pair("RS256", "evil").sign(w.oidc(iss=w.evil.url)), IDP.sign(w.oidc(iss=w.evil.url))],
    ),
    ("A09 crit", headers(crit=["exp"])),
    ("A09 crit b64", headers(crit=["b64"], b64=False)),
    ("A10 expired by a second", lambda w: everywhere(exp=int(time.time()) - 1)(w)),
    ("A10 expired just now", lambda w: everywhere(exp=int(time.time()))(w)),
    ("A11 no exp", everywhere(exp=...)),
    *((f"A12 exp {value!r}", everywhere(exp=value)) for value in NO_TIMES),
    *((f"A12 exp {text}", raw("1900000000", text)) for text in ("NaN", "Infinity", "1e400", "1900000000.5", "1" * 400)),
    ("A13 nbf in the future", everywhere(nbf=int(time.time()) + LATER)),
    ("A13 nbf of another type", everywhere(nbf="now")),
    ("A14 another workspace", lambda w: everywhere(workspace_id=w.workspace.server.catalog.default.workspace.id)(w)),
    ("A14 no such workspace", everywhere(workspace_id="00000000-0000-0000-0000-000000000000")),
    (
        "A14 the other workspace's key",
        lambda w: [hmac_token(w.own(), w.workspace.server.catalog.default.workspace.admin_token.encode())],
    ),
    ("A15 another audience", everywhere(aud="other-app")),
    ("A15 another issuer", everywhere(iss="https://idp.example.com/other")),
    ("A19 a name twice", raw('"context": {', '"context": {"customer_id": "b"}, "context": {')),
    ("A19 a key twice", raw('"context": {', '"context": {"customer_id": "b", ')),
    ("A19 an escaped name twice", raw('"context": {', '"context": {"customer\\u005fid": "b", ')),
    ("A20 a token in a token", lambda w: [w.hs(w.own(context=w.own())), OWN.sign(OWN.sign(w.own()).encode())]),
    ("A20 five parts", texts(lambda h, b, s: [f"{h}.{b}.{s}.{b}.{s}", f"{h}.{b}..{b}.{s}"])),
    ("A20 huge", everywhere(pad="x" * 20_000)),
    (
        "A20 ten thousand scopes",
        lambda w: everywhere(scopes=[{"type": "PIPES:READ", "resource": "latest"}] * 10_000)(w)[:2],
    ),
    ("A20 deep", lambda w: [OWN.sign(b'{"a":' * 1800), IDP.sign(b"[" * 4000)]),
    ("A21 no signature", texts(lambda h, b, s: [f"{h}.{b}.", f"{h}.{b}", f"{h}.{b}.AA"])),
    ("A21 cut", texts(lambda h, b, s: [f"{h}.{b}.{s[:-1]}", f"{h}.{b}.{s[: len(s) // 2]}", f"{h}.{b}.{s}A"])),
    ("A21 padding", texts(lambda h, b, s: [f"{h}.{b}.{s}=", f"{h}.{b}.{s}%3D", f"{h}=.{b}.{s}", f"{h}.{b}==.{s}"])),
    ("A21 white space", texts(lambda h, b, s: [f"{h}. {b}.{s}", f"{h}.{b}\t.{s}"])),
    ("A21 another alphabet", texts(lambda h, b, s: [f"{h}.{b}.{s[:-2]}+/", f"{h}.{b}.{s[:-1]}é"])),
    (
        "A21 other bits of the last character",
        texts(
            # The characters that decode to the same bytes are those next to it in the alphabet.
            lambda h, b, s: [f"{h}.{b}.{s[:-1]}{B64[B64.index(s[-1]) ^ bits]}" for bits in (1, 2, 3, 4, 32)]
        ),
    ),
    *(
        (
            f"A23 the tenant is {value!r:.20}",
            lambda w, value=value: [  # type: ignore[misc]
                w.hs(w.own(context={"customer_id": value})),
                OWN.sign(w.own(context={"customer_id": value})),
                IDP.sign(w.oidc(org=value)),
            ],
        )
        for value in (
            None,
            "",
            [],
            {},
            True,
            0,
            ["a", "b"],
            "a\0b",
            ["a", None],
            [["a"]],
            {"a": "b"},
            "x" * 12_000 + "\0",
        )
    ),
    (
        "A24 no tenant",
        lambda w: [
            w.hs(w.own(context={})),
            OWN.sign(w.own(context={"team": "red"})),
            IDP.sign(changed(w.oidc(), org=...)),
        ],
    ),
    ("A24 no context", lambda w: [w.hs(changed(w.own(), context=...)), OWN.sign(changed(w.own(), context=...))]),
    (
        "a scope that a JWT cannot have",
        lambda w: [
            f(w.own(scopes=[{"type": t}])) for f in (w.hs, OWN.sign) for t in ("ADMIN", "TOKENS", "WORKSPACE:READ_ALL")
        ],
    ),
    (
        "an environment that is none",
        lambda w: [
            f(w.own(environment=e))
            for f in (w.hs, OWN.sign)
            for e in ("", None, [], 1, "a b", "../x", "x" * 65, "missing_one")
        ],
    ),
]


@pytest.mark.parametrize("case", [pytest.param(case, id=name.replace(" ", "-")) for name, case in REFUSED])
async def test_refused(world: World, case: Case) -> None:
    started = time.monotonic()
    tokens = case(world)
    assert tokens
    for token in tokens:
        await refused(world, token)
    assert time.monotonic() - started < 60
    await opens(world, OWN.sign(world.own()))


@pytest.mark.parametrize(
    "tenant", ["a' OR 1=1 --", "a\\' OR 1=1 --", "{{customer_id}}", "%27", "' || '", "A", "a ", "а", "a,b", "x" * 9000]
)
async def test_a25_a26_a_tenants_name_is_data(world: World, tenant: str) -> None:
    for token in (
        world.hs(world.own(context={"customer_id": tenant})),
        OWN.sign(world.own(context={"customer_id": tenant})),
        IDP.sign(world.oidc(org=tenant)),
    ):
        reply = await world.read(token)
        assert reply.status == 200, reply.text
        assert reply.json["data"] == []


async def test_a05_a08_junk_makes_one_outbound_request_at_most(fresh: World) -> None:
    """An unknown kid asks the registered URL, but not once for each token; and nobody else, ever."""
    asked = fresh.provider.asked
    for number in range(20):
        await refused(fresh, IDP.sign(fresh.oidc(), kid=f"junk-{number}"))
        await refused(fresh, IDP.sign(fresh.oidc(), kid=f"junk-{number}", jku=fresh.evil.url))
    assert fresh.provider.asked - asked <= 1
    assert set(fresh.provider.paths) == {"/keys"}


async def test_a16_static_and_admin_tokens_end_with_the_answer(fresh: World) -> None:
    """Revoked, then used again at once: the bound is the next request, cached or not."""
    workspace = fresh.workspace
    made = (await workspace.post("/v0/tokens?name=s&scope=WORKSPACE:READ_ALL")).json["token"]
    assert (await workspace.get(PATH, token=made)).status == 200
    assert (await workspace.post("/v0/tokens/s/refresh")).status == 200
    await refused(fresh, made, message="Invalid token")
    second = (await workspace.get("/v0/tokens/s")).json["token"]
    assert (await workspace.get(PATH, token=second)).status == 200
    assert (await workspace.request("DELETE", "/v0/tokens/s")).status == 200
    await refused(fresh, second, message="Invalid token")
    admin, jwt = workspace.admin_token, fresh.hs(fresh.own())
    await opens(fresh, jwt)
    assert (await workspace.post(f"/v0/tokens/{workspace.id}/refresh")).status == 200
    for old in (admin, jwt):
        await refused(fresh, old, message="Invalid token")
    await opens(fresh, fresh.hs(fresh.own()))


async def test_a16_f12_a_removed_key_ends_its_tokens_with_the_answer(fresh: World) -> None:
    own, idp = OWN.sign(fresh.own()), IDP.sign(fresh.oidc())
    for token in (own, idp, own, idp):
        await opens(fresh, token)
    replaced = {"jwks": jwks(STRANGER["RS256"])}
    assert (await fresh.workspace.request("PUT", "/v0/workspace/keys/team", json=replaced)).status == 200
    await refused(fresh, own, message="Invalid token")
    await opens(fresh, STRANGER["RS256"].sign(fresh.own()))
    assert (await fresh.workspace.request("DELETE", "/v0/workspace/keys/idp")).status == 200
    await refused(fresh, idp, message="Invalid token")


async def test_a16_f12_a_key_that_the_provider_took_back_ends_with_its_next_answer(fresh: World) -> None:
    old, new = IDP.sign(fresh.oidc()), pair("ES256", "next")
    await opens(fresh, old)
    fresh.provider.published = jwks(new)
    fetched = fresh.workspace.server.catalog.credentials.fetched
    fetched._tried[fresh.provider.url] -= UNKNOWN_KEY_SECONDS  # that long ago
    await opens(fresh, new.sign(fresh.oidc()))  # the first token of the new key is served
    await refused(fresh, old, message="Invalid token")


async def test_f12_a_changed_byte_is_another_token(world: World) -> None:
    for good in (world.hs(world.own()), OWN.sign(world.own()), IDP.sign(world.oidc())):
        await opens(world, good)
        head, body, signature = good.split(".")
        payload = json.loads(_plain(body))
        payload = payload | ({"org": "b"} if "org" in payload else {"context": {"customer_id": "b"}})
        for forged in (f"{head}.{segment(payload)}.{signature}", good[:-4] + "AAAA", good.swapcase()):
            await refused(world, forged)
        await opens(world, good)


def _plain(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def test_a17_two_tokens(world: World) -> None:
    good = world.hs(world.own())
    for path, token, headers_ in (
        (f"{PATH}?token={good}", good, {}),
        (f"{PATH}?token={good}&token={good}", None, {}),
        (f"{PATH}?token=", good, {}),
    ):
        reply = await world.read(token, path, headers=headers_)
        assert reply.status == 400, reply.text
    both = [("Authorization", f"Bearer {good}"), ("Authorization", f"Bearer {world.workspace.admin_token}")]
    async with aiohttp.ClientSession() as session, session.get(world.workspace.base_url + PATH, headers=both) as answer:
        assert answer.status == 400
    assert (await world.read(None, f"{PATH}?token={good}")).status == 200


async def test_a18_no_token_in_any_log(world: World, tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogger().handlers[:]
    level = logging.getLogger().level
    tokens = [world.hs(world.own()), OWN.sign(world.own()), IDP.sign(world.oidc()), IDP.sign(world.oidc(), kid="new")]
    tokens += ["p.eyJ1Ijoib25lIn0." + b64(b"x" * 32), world.workspace.admin_token]
    try:
        log_to(tmp_path, hide=[])
        for token in tokens:
            await world.workspace.get(f"{PATH}?token={token}", token=None)
            await world.workspace.get(f"/v0/tokens/{token}", token=token)
            await world.workspace.post(f"/v0/events?name=events&token={token}", token=None, data=b"{")
            logging.getLogger("pipit.api").error("GET %s?token=%s", PATH, token)
            logging.getLogger("pipit.api").error("Authorization: Bearer %s", token)
            logging.getLogger("pipit.api").error("as text %s", token)
        for handler in logging.getLogger().handlers:
            handler.flush()
        written = (tmp_path / "pipit.log").read_text()
    finally:
        for handler in logging.getLogger().handlers[:]:
            if handler not in before:
                logging.getLogger().removeHandler(handler)
                handler.close()
        logging.getLogger().handlers[:] = before
        logging.getLogger().setLevel(level)
    assert "as text" in written
    for token in tokens:
        assert token not in written
        assert token.split(".")[-1] not in written


@pytest.mark.parametrize(
    "secret", ["", "short", "x" * 31, "x" * 20 + " " + "x" * 20, "-----BEGIN PUBLIC KEY-----" + "A" * 40]
)
async def test_a22_a_weak_secret_starts_nothing(secret: str) -> None:
    with pytest.raises(BadRequest):
        Keyring.build([WorkspaceKey("id", "weak", secret)], [])


async def test_a22_a_weak_or_private_key_is_not_registered(world: World) -> None:
    for document in (
        {"jwks": jwks(small_rsa())},
        {"jwks": {"keys": [{"kty": "oct", "k": b64(b"secret" * 8), "kid": "k"}]}},
        {"jwks": {"keys": [OWN.jwk(d="AAAA")]}},
        {"jwks_url": "http://169.254.169.254/latest/meta-data"},
        {"jwks_url": "file:///etc/passwd"},
        {"jwks_file": "/etc/passwd"},
    ):
        reply = await world.workspace.request("PUT", "/v0/workspace/keys/bad", json=document)
        assert reply.status == 400, reply.text
        assert (await world.workspace.get("/v0/workspace/keys/bad")).status == 404


async def test_a15_another_workspace_cannot_register_the_same_tokens(fresh: World) -> None:
    other = await fresh.workspace.server.catalog.create_workspace(f"{fresh.workspace.name}_other")
    theirs = pair("ES256", "theirs")
    document = {
        "issuer": fresh.iss,
        "audience": AUD,
        "jwks": jwks(theirs),
        "scopes": [{"type": "PIPES:READ", "resource": "latest"}],
    }
    put = await fresh.workspace.request("PUT", "/v0/workspace/keys/x", token=other.admin_token, json=document)
    assert put.status == 409, put.text
    assert fresh.workspace.name not in put.text
    put = await fresh.workspace.request(
        "PUT", "/v0/workspace/keys/x", token=other.admin_token, json=document | {"audience": "theirs"}
    )
    assert put.status == 200, put.text
    try:
        # A provider's token for both audiences means neither; each key is believed for its own registration only.
        await refused(fresh, IDP.sign(fresh.oidc(aud=[AUD, "theirs"])))
        await refused(fresh, theirs.sign(fresh.oidc()))
        await refused(fresh, IDP.sign(fresh.oidc(aud="theirs")))
        await opens(fresh, IDP.sign(fresh.oidc()))
    finally:
        await fresh.workspace.request("DELETE", "/v0/workspace/keys/x", token=other.admin_token)


async def test_a_provider_that_hangs_holds_nobody_up(fresh: World) -> None:
    fresh.provider.gate = asyncio.Event()
    fetched = fresh.workspace.server.catalog.credentials.fetched
    fetched._tried[fresh.provider.url] -= UNKNOWN_KEY_SECONDS
    started = time.monotonic()
    await refused(fresh, IDP.sign(fresh.oidc(), kid="new"))
    assert time.monotonic() - started < 30
    await opens(fresh, IDP.sign(fresh.oidc()))
    await opens(fresh, fresh.hs(fresh.own()))
    fresh.provider.gate.set()


async def test_jwts_of_key_pairs_manage_nothing(world: World) -> None:
    for token in (OWN.sign(world.own()), IDP.sign(world.oidc())):
        for method, path in (
            ("GET", "/v0/tokens"),
            ("POST", "/v0/tokens?name=x&scope=ADMIN"),
            ("POST", f"/v0/tokens/{world.workspace.id}/refresh"),
            ("GET", "/v0/workspace/keys"),
            ("PUT", "/v0/workspace/keys/team"),
            ("DELETE", "/v0/workspace/keys/team"),
            ("GET", "/v0/workspace"),
            ("GET", "/v0/variables"),
        ):
            reply = await world.workspace.request(method, path, token=token)
            assert reply.status == 403, (method, path, reply.text)
