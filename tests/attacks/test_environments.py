"""A token of an environment sees that environment's database and nothing else: not the workspace's own, not another
environment's, not one of the same name in another workspace. And it manages nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from pipit.access.context import SecurityContext, TokenKind
from pipit.access.params import RequestParams
from pipit.catalog.catalog import Catalog
from pipit.errors import Forbidden, ReadRefused
from pipit.query.formats import JSON
from pipit.query.queries import PipeQuery, Read
from pipit.query.secure import filters_for
from projects import DAILY, TENANTS, event
from serving import Reply, Workspace

pytestmark = pytest.mark.anyio

_tokens = itertools.count(1)
LATEST = {"type": "PIPES:READ", "resource": "latest"}
# Where the one row of each place says that it is.
AMOUNTS = {"": 1, "one": 11, "two": 222}


class Places:
    """A workspace with the environments `one` and `two`, and another workspace with `one` and `there`.

    All rows are of customer `a`: where a token's environment does not hold, policies hide nothing.
    """

    def __init__(self, workspace: Workspace, other: Workspace) -> None:
        self.workspace = workspace
        self.other = other

    async def static(self, environment: str, *scopes: str, of: Workspace | None = None) -> str:
        credentials = self.workspace.server.catalog.credentials
        row = await credentials.create(
            (of or self.workspace).id, f"t{next(_tokens)}", scopes or ("ADMIN",), environment=environment
        )
        return row.token

    def jwt(self, environment: str | None, *scopes: Mapping[str, Any], **claims: Any) -> str:
        if environment is not None:
            claims["environment"] = environment
        return self.workspace.jwt(*(scopes or (LATEST,)), context={"customer_id": "a"}, **claims)

    async def send(self, token: str, *rows: Mapping[str, Any], **headers: str) -> Reply:
        body = "".join(json.dumps(row) + "\n" for row in rows).encode()
        return await self.workspace.post("/v0/events?name=events&wait=true", token=token, data=body, headers=headers)

    async def sql(self, token: str, sql: str) -> Reply:
        return await self.workspace.get(f"/v0/sql?q={quote(sql)}", token=token)

    async def amounts(self, token: str) -> list[int]:
        return [row["amount"] for row in await self.workspace.rows("/v0/pipes/latest.json", token=token)]


@pytest.fixture
async def places(workspace: Workspace) -> Places:
    server = workspace.server
    made = await server.catalog.create_workspace(f"{workspace.name}_other")
    other = Workspace(server, workspace.base_url, workspace.session, made.id)
    found = Places(workspace, other)
    for one, environments in ((workspace, ("one", "two")), (other, ("one", "there"))):
        await one.deploy(TENANTS)
        for name in environments:
            assert (await server.deployer.add_environment(one.id, name)).result == "success"
    for name, amount in AMOUNTS.items():
        await found.send(await found.static(name), event("a", amount))
    await found.send(await found.static("one", of=other), event("a", 333))
    return found


async def test_a_token_reads_its_own_environment(places: Places) -> None:
    """The same texts everywhere, one place after the other: what one has taught the planner is not used for the next."""
    snapshot = places.workspace.server.catalog.snapshot
    for environment, mine in [*AMOUNTS.items()] * 2:
        admin = await places.static(environment)
        reader = await places.static(environment, "DATASOURCES:READ:events", "PIPES:READ:latest")
        tenant = places.jwt(environment or None)
        for token in (admin, reader, tenant):
            assert await places.amounts(token) == [mine]
        for token in (admin, reader):
            for sql in ("SELECT amount FROM events", f"SELECT amount FROM {places.workspace.name}.events"):
                assert (await places.sql(token, sql)).text == f"{mine}\n"
        assert (await places.sql(admin, "SELECT amount FROM latest")).text == f"{mine}\n"
        listed = (await places.workspace.get("/v0/datasources", token=admin)).json["datasources"]
        assert {d["name"]: d["statistics"]["row_count"] for d in listed} == {"events": 1, "daily": 1}
        explained = await places.workspace.post("/v1/explain", json={"pipe": "latest", "token": tenant})
        database = snapshot(places.workspace.id, environment).workspace.database
        assert f"`{database}`.`d1_events`" in explained.json["sql"]
        assert set(explained.json["filters"]) == {f"{database}.d1_events"}


async def test_there_is_one_answer_for_every_unknown_environment(places: Places) -> None:
    workspace = places.workspace
    await workspace.server.deployer.add_environment(workspace.id, "gone")
    await workspace.server.deployer.remove_environment(workspace.id, "gone")
    database = workspace.server.catalog.snapshot(workspace.id, "one").workspace.database
    bodies: set[bytes] = set()
    for name in ("there", "never_was", "gone", "One", database, f"{workspace.name}__one"):
        tokens = [places.jwt(name), await places.static(name)]
        for token in tokens:
            for path in ("/v0/pipes/latest.json", "/v0/pipes", "/v0/pipes/openapi.json", "/v0/datasources"):
                reply = await workspace.get(path, token=token)
                assert reply.status == 403
                bodies.add(reply.body)
            reply = await places.send(token, event("a", 5))
            assert reply.status == 403
            bodies.add(reply.body)
    assert len(bodies) == 1
    for odd in ("", " one", "one\0", 1, None, ["one"], {"name": "one"}, True):
        reply = await workspace.get("/v0/pipes/latest.json", token=workspace.jwt(LATEST, environment=odd))
        assert reply.status == 403, odd


async def test_sql_reaches_no_other_database(places: Places) -> None:
    snapshot = places.workspace.server.catalog.snapshot
    admin = await places.static("one")
    elsewhere = [
        snapshot(places.workspace.id).workspace.database,
        snapshot(places.workspace.id, "two").workspace.database,
        snapshot(places.other.id, "one").workspace.database,
        f"{places.workspace.name}__two",
        "two",
        places.other.name,
    ]
    for database in elsewhere:
        for sql in (
            f"SELECT amount FROM {database}.d1_events",
            f"SELECT amount FROM {database}.events",
            f"SELECT amount FROM `{database}.d1_events`",
            f"SELECT count() FROM events WHERE amount IN {database}.d1_events",
            f"SELECT * FROM merge('{database}', '.*')",
            f"SELECT joinGet('{database}.d1_events', 'amount', 1)",
        ):
            assert (await places.sql(admin, sql)).status in (400, 403), sql


@pytest.mark.parametrize("kind", ["jwt", "static"])
async def test_appends_land_in_the_token_s_environment(places: Places, kind: str) -> None:
    if kind == "static":
        token = await places.static("two", "DATASOURCES:APPEND:events")
    else:
        scope = {"type": "DATASOURCES:APPEND", "resource": "events", "fixed_values": {"customer_id": "a"}}
        token = places.jwt("two", scope)
    assert (await places.send(token, event("a", 223))).json == {"successful_rows": 1, "quarantined_rows": 0}
    assert (await places.send(token, {**event("a", 0), "amount": "bad"})).json["quarantined_rows"] == 1
    quarantine = "SELECT count() FROM events_quarantine"
    for name, amount in AMOUNTS.items():
        assert await places.amounts(places.jwt(name or None)) == ([222, 223] if name == "two" else [amount])
        admin = await places.static(name)
        assert (await places.sql(admin, quarantine)).text == ("1\n" if name == "two" else "0\n")


async def test_an_idempotency_key_means_something_in_one_environment_only(places: Places) -> None:
    scope = {"type": "DATASOURCES:APPEND", "resource": "events", "fixed_values": {"customer_id": "a"}}
    tokens = {name: places.jwt(name or None, scope) for name in AMOUNTS}
    # The same token name, context, fixed values, key and content: each place stores it, once.
    for _ in range(2):
        for token in tokens.values():
            reply = await places.send(token, event("a", 500), **{"Idempotency-Key": "same"})
            assert reply.json == {"successful_rows": 1, "quarantined_rows": 0}
    for name, amount in AMOUNTS.items():
        assert await places.amounts(places.jwt(name or None)) == [amount, 500]
    # Nor does a key tell by a 409 that another place has seen it.
    assert (await places.send(tokens["one"], event("a", 501), **{"Idempotency-Key": "of one"})).status == 200
    assert (await places.send(tokens["two"], event("a", 502), **{"Idempotency-Key": "of one"})).status == 200


async def test_an_admin_of_an_environment_manages_nothing(places: Places) -> None:
    workspace = places.workspace
    await workspace.server.catalog.put_secret(workspace.id, "password", "CANARY-secret")
    tokens = [
        await places.static("one"),
        await places.static("one", "ADMIN_USER"),
        await places.static("one", "TOKENS", "WORKSPACE:DEPLOY", "WORKSPACE:READ_ALL"),
    ]
    victim = await places.static("two")
    requests: list[tuple[str, str, Any]] = [
        ("GET", "/v0/workspace/environments", None),
        ("POST", "/v0/workspace/environments?name=three", None),
        ("DELETE", "/v0/workspace/environments/two?confirm=true", None),
        ("DELETE", "/v0/workspace/environments/one?confirm=true", None),
        ("GET", "/v0/tokens", None),
        ("POST", "/v0/tokens?name=mine&scope=ADMIN", None),
        ("POST", "/v0/tokens/?name=mine&expiration_time=4000000000", {"scopes": [LATEST], "environment": "two"}),
        ("GET", f"/v0/tokens/{workspace.id}", None),
        ("POST", f"/v0/tokens/{workspace.id}/refresh", None),
        ("GET", "/v0/tokens/workspace%20admin%20token", None),
        ("GET", f"/v0/tokens/{workspace.admin_token}", None),
        ("GET", f"/v0/tokens/{victim}", None),
        ("PUT", f"/v0/tokens/{victim}?environment=one", None),
        ("POST", f"/v0/tokens/{victim}/refresh", None),
        ("DELETE", f"/v0/tokens/{victim}", None),
        ("GET", "/v0/workspace/keys", None),
        ("PUT", "/v0/workspace/keys/mine", {"jwks": {"keys": []}}),
        ("DELETE", "/v0/workspace/keys/mine", None),
        ("GET", "/v0/variables", None),
        ("GET", "/v0/variables/password", None),
        ("PUT", "/v0/variables/password?value=x", None),
        ("DELETE", "/v0/variables/password", None),
        ("GET", "/v0/workspace/settings", None),
        ("PUT", "/v0/workspace/settings", {"tenant_sql": True}),
        ("GET", "/v1/user/workspaces", None),
        ("POST", "/v1/workspaces?name=mine", None),
        ("POST", "/v1/deploy", None),
        ("POST", "/v1/build", None),
        ("GET", "/v1/deployments", None),
        ("GET", "/v1/deployments/live/files", None),
        ("POST", "/v1/explain", {"pipe": "latest", "token": places.jwt("two")}),
        ("POST", "/v1/explain", {"pipe": "latest"}),
        ("GET", "/v0/pipes/latest.pipe", None),
        ("GET", "/v1/pipes/latest.pipe", None),
    ]
    for token in tokens:
        for method, path, body in requests:
            reply = await workspace.request(method, path, token=token, json=body)
            assert reply.status in (403, 404), (method, path, reply.text)
            assert b"CANARY" not in reply.body and workspace.admin_token.encode() not in reply.body
        for path in (f"/v0/tokens/{token}?environment=two", f"/v0/tokens/{token}?environment="):
            assert (await workspace.request("PUT", path, token=token)).status == 403
        own = await workspace.get(f"/v0/tokens/{token}", token=token)
        assert own.status == 200 and own.json["environment"] == "one"
        secret = await places.sql(token, "% SELECT {{tb_secret('password')}}")
        assert secret.status in (400, 403) and "CANARY" not in secret.text
    assert [row.name for row in workspace.server.catalog.environments(workspace.id)] == ["one", "two"]


async def test_a_static_token_s_environment_is_not_left_by_what_the_request_says(places: Places) -> None:
    for token in (await places.static("one"), places.jwt("one")):
        for path in (
            "/v0/pipes/latest.json?environment=two",
            "/v0/pipes/latest.json?workspace=two&database=pipit&workspace_id=x",
        ):
            rows = await places.workspace.rows(path, token=token, headers={"X-Environment": "two"})
            assert [r["amount"] for r in rows] == [11]


async def test_a_read_refuses_a_snapshot_of_another_environment(places: Places) -> None:
    """Should a caller ever put a token and a snapshot together that do not belong together."""
    server, id = places.workspace.server, places.workspace.id
    query = PipeQuery("latest", RequestParams(()), JSON)
    for of, at in itertools.permutations(AMOUNTS, 2):
        security = SecurityContext(id, TokenKind.ADMIN, "admin", environment=of)
        with pytest.raises(Forbidden, match="another environment"):
            await server.reader.plan(Read(server.catalog.snapshot(id, at), security, query))


async def test_a_statement_of_another_place_does_not_run(places: Places) -> None:
    """Should the planner ever remember a statement for the wrong place: its tables are unknown there."""
    server, id = places.workspace.server, places.workspace.id
    one, two = (server.catalog.snapshot(id, name) for name in ("one", "two"))
    physical = f"{one.workspace.database}.{one.tables['events'].physical}"
    for kind in TokenKind:
        security = SecurityContext(id, kind, "x", context={"customer_id": "a"}, environment="two")
        assert set(filters_for(one, replace(security, environment="one"), [physical])) <= {physical}
        with pytest.raises(ReadRefused, match="another database"):
            filters_for(two, security, [physical])


async def test_the_name_of_a_deleted_environment_finds_nothing_of_it(places: Places) -> None:
    workspace, deployer = places.workspace, places.workspace.server.deployer
    before = workspace.server.catalog.snapshot(workspace.id, "one").workspace
    scope = {"type": "DATASOURCES:APPEND", "resource": "events", "fixed_values": {"customer_id": "a"}}
    again = {"Idempotency-Key": "again"}
    assert (await places.send(places.jwt("one", scope), event("a", 12), **again)).status == 200
    # These are acknowledged and not yet in the table.
    waiting = json.dumps(event("a", 13)).encode()
    appended = await workspace.post("/v0/events?name=events", token=places.jwt("one", scope), data=waiting)
    assert appended.status == 202
    await deployer.remove_environment(workspace.id, "one")
    assert (await workspace.get("/v0/pipes/latest.json", token=places.jwt("one"))).status == 403
    await deployer.add_environment(workspace.id, "one")
    after = workspace.server.catalog.snapshot(workspace.id, "one").workspace
    assert after.database != before.database and after.database_id != before.database_id
    assert await places.amounts(places.jwt("one")) == []
    assert (await places.send(places.jwt("one", scope), event("a", 12), **again)).status == 200
    assert await workspace.server.ingest.drain(after.database, "d1_events", 10)
    assert await places.amounts(places.jwt("one")) == [12]
    assert not (workspace.server.config.data_dir / "segments" / before.database).exists()


async def test_a_limit_tells_nothing_of_another_environment(places: Places) -> None:
    limits = {"limits": {"rps": 5}}
    for name in AMOUNTS:  # the same token name
        reply = await places.workspace.get("/v0/pipes/latest.json", token=places.jwt(name or None, **limits))
        assert reply.headers["X-RateLimit-Remaining"] == "4"


async def test_each_place_remembers_where_its_own_rows_are_from(workspace: Workspace) -> None:
    """The view is gone, and the rows that it made of policed ones are still in the old environment's table."""
    bare = TENANTS | {"datasources/daily.datasource": DAILY}
    await workspace.deploy(bare)
    add = workspace.server.deployer.add_environment
    assert (await add(workspace.id, "older")).result == "success"
    await workspace.deploy({k: v for k, v in bare.items() if "daily_view" not in k}, allow_destructive=True)
    assert (await add(workspace.id, "newer")).result == "success"
    restarted = Catalog(workspace.server.engine, workspace.server.config.admin_token)
    await restarted.load()
    scope = {"type": "PIPES:READ", "resource": "totals"}
    for name, sources, status in (("", {"events"}, 403), ("older", {"events"}, 403), ("newer", set(), 200)):
        for catalog in (workspace.server.catalog, restarted):
            assert catalog.snapshot(workspace.id, name).tables["daily"].sources == sources
        claims = {"environment": name} if name else {}
        token = workspace.jwt(scope, context={"customer_id": "a"}, **claims)
        assert (await workspace.get("/v0/pipes/totals.json", token=token)).status == status


async def test_two_names_never_make_one_database(workspace: Workspace) -> None:
    catalog = workspace.server.catalog
    longer = await catalog.create_workspace(f"{workspace.name}__b")
    databases = [
        workspace.database,
        longer.database,
        (await catalog.create_environment(workspace.id, "b")).workspace.database,
        (await catalog.create_environment(workspace.id, "b__c")).workspace.database,
        (await catalog.create_environment(longer.id, "c")).workspace.database,
        (await catalog.create_workspace(f"{workspace.name}__b__c")).database,
        (await catalog.create_environment(workspace.id, "b__2")).workspace.database,
    ]
    assert len(set(databases)) == len(databases)
    places = [s.workspace.database_id for s in catalog.everywhere]
    assert len(set(places)) == len(places)
