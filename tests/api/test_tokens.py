"""Tokens over HTTP: made, looked at, changed, refreshed, deleted; what counts at once and what a restart finds."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from pipit.access.jwt import verify
from pipit.catalog.catalog import Catalog
from pipit.errors import Forbidden
from projects import ROWS, TENANTS
from serving import Workspace
from signing import jwks, pair, providing

pytestmark = pytest.mark.anyio

UNKNOWN = "Token has not enough permissions to get information about this token"
READER = "\nTOKEN reader READ\n"
FILES = TENANTS | {"endpoints/chained.pipe": READER + TENANTS["endpoints/chained.pipe"]}


@pytest.fixture
async def deployed(workspace: Workspace) -> Workspace:
    await workspace.deploy(FILES)
    assert (await workspace.send("events", ROWS)).status == 200
    return workspace


async def make(workspace: Workspace, name: str, *scopes: str, by: str = "admin", **more: str) -> dict[str, Any]:
    query = urlencode([("name", name), *(("scope", s) for s in scopes), *more.items()])
    reply = await workspace.post(f"/v0/tokens?{query}", token=by)
    assert reply.status == 200, reply.text
    made: dict[str, Any] = reply.json
    return made


async def reads(workspace: Workspace, token: str) -> int:
    return (await workspace.get("/v0/pipes/chained.json", token=token)).status


async def restarted(workspace: Workspace) -> Catalog:
    catalog = Catalog(workspace.server.engine, workspace.server.config.admin_token)
    await catalog.load()
    return catalog


async def test_a_token_is_made_and_opens_what_its_scopes_say(deployed: Workspace) -> None:
    made = await make(deployed, "dashboards", "PIPES:READ:chained", description="of the office")
    assert made.keys() == {"id", "token", "name", "description", "scopes", "origin", "host", "is_internal"}
    assert made["scopes"] == [{"type": "PIPES:READ", "resource": "chained"}]
    assert made["token"].startswith("p.e")
    assert await reads(deployed, made["token"]) == 200
    assert (await deployed.get("/v0/pipes/totals.json", token=made["token"])).status == 403
    listed = (await deployed.get("/v0/tokens")).json["tokens"]
    assert {t["name"] for t in listed} == {"workspace admin token", "ingest", "reader", "dashboards"}
    assert made in listed
    for reference in (made["id"], made["name"], made["token"]):
        assert (await deployed.get(f"/v0/tokens/{quote(reference, safe='')}")).json == made
    assert (await restarted(deployed)).keyring.find(made["token"]) is not None


@pytest.mark.parametrize("way", ["url", "form", "json", "objects"])
async def test_every_way_to_send_it(workspace: Workspace, way: str) -> None:
    pairs = [("name", "n"), ("description", "d"), ("scope", "PIPES:READ:a"), ("scope", "DATASOURCES:CREATE")]
    if way == "url":
        reply = await workspace.post(f"/v0/tokens/?{urlencode(pairs)}&cli_version=1&from=cli")
    elif way == "form":
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        reply = await workspace.post("/v0/tokens", data=urlencode(pairs).encode(), headers=form)
    else:
        scopes: list[Any] = ["PIPES:READ:a", "DATASOURCES:CREATE"]
        if way == "objects":
            scopes = [{"type": "PIPES:READ", "resource": "a"}, {"type": "DATASOURCES:CREATE"}]
        reply = await workspace.post("/v0/tokens", json={"name": "n", "description": "d", "scopes": scopes})
    assert reply.status == 200, reply.text
    assert (reply.json["name"], reply.json["description"]) == ("n", "d")
    assert reply.json["scopes"] == [{"type": "PIPES:READ", "resource": "a"}, {"type": "DATASOURCES:CREATE"}]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("name=n", 400),
        ("scope=PIPES:READ:a", 400),
        ("name=n&name=m&scope=PIPES:READ:a", 400),
        ("name=n&scope=NOTHING", 400),
        ("name=n&scope=PIPES:READ", 400),
        ("name=n&scope=ADMIN:x", 400),
        ("name=n&scope=DATASOURCES:READ:events:customer_id%3D1", 400),
        ("name=a%2Fb&scope=ADMIN", 400),
        ("name=%20n&scope=ADMIN", 400),
        ("name=n%0A&scope=ADMIN", 400),
        ("name=" + "x" * 300 + "&scope=ADMIN", 400),
        ("name=workspace+admin+token&scope=ADMIN", 409),
        ("name=n&scope=ADMIN&environment=no%20name", 400),
        ("name=n&scope=ADMIN&expiration_time=soon", 400),
        ("name=n&scope=PIPES:READ:a&expiration_time=1900000000", 400),
    ],
)
async def test_what_is_no_token(workspace: Workspace, query: str, status: int) -> None:
    reply = await workspace.post(f"/v0/tokens?{query}")
    assert reply.status == status, reply.text
    assert len((await workspace.get("/v0/tokens")).json["tokens"]) == 1


async def test_a_name_is_taken_once(deployed: Workspace) -> None:
    await make(deployed, "dashboards", "PIPES:READ:chained")
    for name in ("dashboards", "reader"):
        assert (await deployed.post(f"/v0/tokens?name={name}&scope=ADMIN")).status == 409
    other = FILES["endpoints/chained.pipe"].replace("TOKEN reader", "TOKEN dashboards")
    with pytest.raises(Exception, match="made over HTTP"):
        await deployed.deploy(FILES | {"endpoints/chained.pipe": other})


async def test_a_json_body_with_an_expiration_is_a_jwt_and_never_a_static_token(deployed: Workspace) -> None:
    expires = int(time.time()) + 60
    scopes = [{"type": "PIPES:READ", "resource": "latest"}]
    reply = await deployed.post(
        "/v0/tokens",
        json={"name": "acme", "expiration_time": expires, "scopes": scopes, "context": {"customer_id": "a"}},
    )
    assert reply.status == 200, reply.text
    assert list(reply.json) == ["token"]
    assert len(await deployed.rows("/v0/pipes/latest.json", token=reply.json["token"])) == 3
    assert "acme" not in {t["name"] for t in (await deployed.get("/v0/tokens")).json["tokens"]}


async def test_put_replaces_scopes_and_keeps_the_secret(deployed: Workspace) -> None:
    made = await make(deployed, "dashboards", "PIPES:READ:chained")
    reply = await deployed.request("PUT", "/v0/tokens/dashboards?scope=PIPES:READ:totals&description=new&name=office")
    assert reply.status == 200, reply.text
    assert (reply.json["token"], reply.json["id"]) == (made["token"], made["id"])
    assert (reply.json["name"], reply.json["description"]) == ("office", "new")
    assert await reads(deployed, made["token"]) == 403
    reply = await deployed.request("PUT", "/v0/tokens/office?description=newer")
    assert reply.json["scopes"] == [{"type": "PIPES:READ", "resource": "totals"}]
    found = (await restarted(deployed)).credentials.find(deployed.id, "office")
    assert found is not None
    assert (found.scopes, found.description) == (("PIPES:READ:totals",), "newer")


async def test_a_refresh_ends_the_old_secret(deployed: Workspace) -> None:
    made = await make(deployed, "dashboards", "PIPES:READ:chained")
    reply = await deployed.post("/v0/tokens/dashboards/refresh")
    assert reply.status == 200, reply.text
    assert reply.json == made | {"token": reply.json["token"]}
    assert reply.json["token"] != made["token"]
    assert [await reads(deployed, t) for t in (made["token"], reply.json["token"])] == [403, 200]
    keyring = (await restarted(deployed)).keyring
    assert keyring.find(made["token"]) is None
    assert keyring.find(reply.json["token"]) is not None


async def test_a_deleted_token_is_gone(deployed: Workspace) -> None:
    made = await make(deployed, "dashboards", "PIPES:READ:chained")
    assert (await deployed.request("DELETE", f"/v0/tokens/{made['id']}")).json == {"ok": True}
    assert await reads(deployed, made["token"]) == 403
    for method in ("GET", "PUT", "DELETE"):
        reply = await deployed.request(method, f"/v0/tokens/{made['id']}")
        assert (reply.status, reply.json["error"]) == (403, UNKNOWN)
    assert (await restarted(deployed)).keyring.find(made["token"]) is None
    again = await make(deployed, "dashboards", "PIPES:READ:chained")
    assert again["id"] != made["id"]


async def test_tokens_of_files_are_refreshed_and_follow_the_files(deployed: Workspace) -> None:
    (old,) = [t for t in (await deployed.get("/v0/tokens")).json["tokens"] if t["name"] == "reader"]
    new = (await deployed.post("/v0/tokens/reader/refresh")).json
    assert [await reads(deployed, t) for t in (old["token"], new["token"])] == [403, 200]
    # A deploy brings the old text back no more than a restart does, and scopes are those of the files.
    totals = READER + TENANTS["endpoints/totals.pipe"]
    await deployed.deploy(FILES | {"endpoints/totals.pipe": totals})
    for catalog in (deployed.server.catalog, await restarted(deployed)):
        assert catalog.keyring.find(old["token"]) is None
        found = catalog.keyring.find(new["token"])
        assert found is not None
        assert {s.resource for s in found.scopes} == {"chained", "totals"}
    assert (await deployed.request("PUT", "/v0/tokens/reader?description=x")).status == 200
    for method, query in (("DELETE", ""), ("PUT", "?scope=ADMIN"), ("PUT", "?name=x"), ("PUT", "?environment=e")):
        reply = await deployed.request(method, f"/v0/tokens/reader{query}")
        assert reply.status == 409, reply.text
        assert "files" in reply.json["error"]
    await deployed.deploy(TENANTS)
    for catalog in (deployed.server.catalog, await restarted(deployed)):
        assert catalog.keyring.find(new["token"]) is None, "its last TOKEN line is gone"


async def test_an_admin_refresh_ends_every_jwt_at_once(deployed: Workspace) -> None:
    admin, jwt = deployed.admin_token, deployed.tenant("latest", customer_id="a")
    assert (await deployed.get("/v0/pipes/latest.json", token=jwt)).status == 200
    reply = await deployed.post("/v0/tokens/workspace%20admin%20token/refresh")
    assert reply.status == 200, reply.text
    assert reply.json["token"] == deployed.admin_token != admin
    for old in (admin, jwt):
        assert (await deployed.get("/v0/pipes/latest.json", token=old)).status == 403
    assert (await deployed.get("/v0/tokens", token=admin)).status == 403
    assert (await deployed.get("/v0/tokens")).status == 200
    assert len(await deployed.rows("/v0/pipes/latest.json", token=deployed.tenant("latest", customer_id="a"))) == 3
    keyring = (await restarted(deployed)).keyring
    assert keyring.find(admin) is None
    assert keyring.find(deployed.admin_token) is not None
    assert (await deployed.request("DELETE", f"/v0/tokens/{deployed.id}")).status == 409


async def test_the_default_workspace_token_is_refreshed_where_it_is_kept(workspace: Workspace) -> None:
    engine = workspace.server.engine
    kept: list[str] = []
    given = workspace.server.config.admin_token
    catalog = Catalog(engine, given, keep_admin_token=kept.append)
    await catalog.load()
    made = await catalog.refresh_admin_token(catalog.default.workspace.id)
    assert kept == [made]
    assert catalog.keyring.find(given) is None
    assert catalog.default.workspace.admin_token == made
    after = Catalog(engine, kept[0])
    await after.load()
    assert after.keyring.find(made) is not None

    def full(token: str) -> None:
        raise OSError("No space left on device")

    catalog = Catalog(engine, given, keep_admin_token=full)
    await catalog.load()
    with pytest.raises(OSError, match="space"):
        await catalog.refresh_admin_token(catalog.default.workspace.id)
    assert catalog.keyring.find(given) is not None, "what was not kept does not count"


async def test_a_token_that_was_given_from_outside_is_refreshed_there(workspace: Workspace) -> None:
    default = workspace.server.catalog.default.workspace
    reply = await workspace.post(f"/v0/tokens/{default.id}/refresh", token=default.admin_token)
    assert reply.status == 409
    assert "PIPIT_ADMIN_TOKEN" in reply.json["error"]
    assert (await workspace.get("/v0/tokens", token=default.admin_token)).status == 200


async def test_who_may_manage_tokens_cannot_become_an_admin(deployed: Workspace) -> None:
    manager = (await make(deployed, "manager", "TOKENS"))["token"]
    boss = await make(deployed, "boss", "ADMIN")
    names = {t["name"] for t in (await deployed.get("/v0/tokens", token=manager)).json["tokens"]}
    assert names == {"ingest", "reader", "manager"}
    mine = await make(deployed, "mine", "PIPES:READ:chained", by=manager)
    for method, path in (
        ("POST", "/v0/tokens?name=x&scope=ADMIN"),
        ("POST", "/v0/tokens?name=x&scope=ADMIN_USER"),
        ("PUT", "/v0/tokens/mine?scope=ADMIN"),
        ("PUT", "/v0/tokens/manager?scope=ADMIN"),
        ("POST", "/v0/tokens?name=x&expiration_time=1900000000"),
        *((m, f"/v0/tokens/{r}") for m in ("GET", "PUT", "DELETE") for r in (boss["id"], "boss", deployed.id)),
        ("POST", "/v0/tokens/boss/refresh"),
        ("POST", f"/v0/tokens/{deployed.id}/refresh"),
        ("GET", "/v0/workspace/keys"),
        ("PUT", "/v0/workspace/keys/k"),
    ):
        reply = await deployed.request(method, path, token=manager)
        assert reply.status == 403, (method, path, reply.text)
        assert boss["token"] not in reply.text
        assert deployed.admin_token not in reply.text
    assert (await deployed.post(f"/v0/tokens/{mine['id']}/refresh", token=manager)).status == 200


async def test_other_tokens_see_themselves_at_most(deployed: Workspace, workspace: Workspace) -> None:
    made = await make(deployed, "dashboards", "PIPES:READ:chained")
    other = await make(deployed, "other", "PIPES:READ:chained")
    token = made["token"]
    assert (await deployed.get(f"/v0/tokens/{token}", token=token)).json == made
    for method, path in (
        ("GET", "/v0/tokens"),
        ("GET", "/v0/tokens/other"),
        ("GET", f"/v0/tokens/{other['token']}"),
        ("PUT", f"/v0/tokens/{token}?scope=ADMIN"),
        ("DELETE", f"/v0/tokens/{token}"),
        ("POST", f"/v0/tokens/{token}/refresh"),
        ("POST", "/v0/tokens?name=x&scope=PIPES:READ:chained"),
    ):
        for by in (token, deployed.tenant("latest", customer_id="a")):
            reply = await deployed.request(method, path, token=by)
            assert reply.status == 403, (method, path, reply.text)
            assert other["token"] not in reply.text


async def test_another_workspace_has_other_tokens(deployed: Workspace) -> None:
    made = await make(deployed, "dashboards", "PIPES:READ:chained")
    default = deployed.server.catalog.default.workspace.admin_token
    for reference in (made["id"], made["token"], "dashboards", deployed.id, deployed.admin_token):
        for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/refresh")):
            reply = await deployed.request(method, f"/v0/tokens/{reference}{path}", token=default)
            assert (reply.status, reply.json["error"]) == (403, UNKNOWN)
    assert await reads(deployed, made["token"]) == 200


async def test_keys_are_registered_shown_replaced_and_outlive_a_restart(deployed: Workspace) -> None:
    key = pair("ES256")
    path = "/v0/workspace/keys/team"
    assert (await deployed.get("/v0/workspace/keys")).json == {"keys": []}
    for method in ("GET", "DELETE"):
        assert (await deployed.request(method, path)).status == 404
    put = await deployed.request("PUT", path, json={"jwks": jwks(key)})
    assert put.status == 200, put.text
    assert put.json == {"name": "team", "jwks": jwks(key), "known_keys": [{"kid": "k1", "alg": "ES256"}]}
    assert (await deployed.request("PUT", path, json=put.json)).json == put.json
    assert (await deployed.get("/v0/workspace/keys")).json == {"keys": [put.json]}
    claims = {
        "workspace_id": deployed.id,
        "exp": int(time.time()) + 60,
        "scopes": [{"type": "PIPES:READ", "resource": "latest"}],
        "context": {"customer_id": "a"},
    }
    text = key.sign(claims)
    assert len(await deployed.rows("/v0/pipes/latest.json", token=text)) == 3
    after = await restarted(deployed)
    assert verify(text, after.keyring, now=time.time()).security.workspace_id == deployed.id
    other = await deployed.request("PUT", "/v0/workspace/keys/two", json={"jwks": jwks(pair("ES256", "k1", 5))})
    assert (other.status, "kid" in other.json["error"]) == (409, True)
    assert (await deployed.request("DELETE", path)).json == {"ok": True}
    with pytest.raises(Forbidden):
        verify(text, (await restarted(deployed)).keyring, now=time.time())
    for body in (b"[]", b"{", b'{"jwks": {"keys": []}, "jwks": {"keys": []}}', b'{"jwks_url": "http://10.0.0.1/"}'):
        assert (await deployed.request("PUT", path, data=body)).status == 400


async def test_keys_of_a_url_are_asked_for_again_after_a_restart(deployed: Workspace) -> None:
    async with providing(pair("ES256")) as provider:
        put = await deployed.request("PUT", "/v0/workspace/keys/team", json={"jwks_url": provider.url})
        assert put.json["known_keys"] == [{"kid": "k1", "alg": "ES256"}]
        after = await restarted(deployed)
        assert not after.credentials.keys(deployed.id, "team").keys
        await after.credentials.fetched.refresh()
        assert len(after.credentials.keys(deployed.id, "team").keys) == 1
        await deployed.request("DELETE", "/v0/workspace/keys/team")
    async with providing() as provider:  # one that publishes nothing is registered, and told
        put = await deployed.request("PUT", "/v0/workspace/keys/team", json={"jwks_url": provider.url})
        assert (put.status, put.json["known_keys"]) == (200, [])
        await deployed.request("DELETE", "/v0/workspace/keys/team")


async def test_a_registration_that_cannot_be_read_takes_nothing_with_it(deployed: Workspace) -> None:
    state = deployed.server.catalog.state
    for name, value in (("newer", '{"jwks": 5, "from_a_later_version": true}'), ("broken", "{")):
        await state.put_issuer(deployed.id, name, value)
    try:
        after = await restarted(deployed)
        assert dict(after.credentials.issuers(deployed.id)) == {}
        assert after.keyring.find(deployed.admin_token) is not None
    finally:
        for name in ("newer", "broken"):
            await state.put_issuer(deployed.id, name, "", deleted=True)
