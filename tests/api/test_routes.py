"""The HTTP surface: formats, parameters, objects, CORS, secrets, workspaces (Tinybird's HTTP API)."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import replace
from typing import cast

import pyarrow.parquet as parquet
import pytest

from pipit.engine import Engine
from projects import ROWS, TENANTS, column, event
from serving import Workspace, serving

pytestmark = pytest.mark.anyio


@pytest.fixture
async def deployed(workspace: Workspace) -> Workspace:
    await workspace.deploy(TENANTS)
    assert (await workspace.send("events", ROWS)).status == 200
    return workspace


async def test_formats(deployed: Workspace) -> None:
    token = deployed.tenant("totals", customer_id="a")
    reply = await deployed.get("/v0/pipes/totals.json", token=token)
    assert reply.json["meta"] == [{"name": "customer_id", "type": "String"}, {"name": "events", "type": "UInt64"}]
    assert reply.json["data"] == [{"customer_id": "a", "events": 3}] and reply.json["rows"] == 1
    csv = await deployed.get("/v0/pipes/totals.csv", token=token)
    assert csv.text == '"customer_id","events"\n"a",3\n' and csv.headers["Content-Type"].startswith("text/csv")
    assert (await deployed.get("/v0/pipes/totals.ndjson", token=token)).text == '{"customer_id":"a","events":3}\n'
    table = parquet.read_table(io.BytesIO((await deployed.get("/v0/pipes/totals.parquet", token=token)).body))
    assert table.num_rows == 1


async def test_parameters_from_query_form_and_json(deployed: Workspace) -> None:
    amounts = [1, 2, 3]
    everything = column(await deployed.rows("/v0/pipes/latest.json?limit=3"), "amount")
    assert everything == amounts
    form = await deployed.post("/v0/pipes/latest.json", data={"limit": "2"})
    assert column(form.json["data"], "amount") == amounts[:2]
    body = await deployed.post("/v0/pipes/latest.json", json={"limit": 1})
    assert column(body.json["data"], "amount") == amounts[:1]
    ignored = await deployed.rows("/v0/pipes/latest.json?limit=1&cli_version=9&from=ui&unknown=1&__tb__semver=1")
    assert column(ignored, "amount") == amounts[:1]


async def test_token_in_the_url(deployed: Workspace) -> None:
    token = deployed.tenant("latest", customer_id="a")
    reply = await deployed.get(f"/v0/pipes/latest.json?token={token}", token=None)
    assert column(reply.json["data"], "customer_id") == ["a", "a", "a"]


async def test_pipes_reading_pipes_and_q(deployed: Workspace) -> None:
    rows = await deployed.rows("/v0/pipes/chained.json?action=click", token=deployed.tenant("chained", customer_id="a"))
    assert rows == [{"action": "click", "total": 3}]
    over = await deployed.rows(
        "/v0/pipes/latest.json?q=SELECT%20count()%20AS%20n%20FROM%20_%20WHERE%20amount%20%3C%203"
    )
    assert over == [{"n": 2}]


async def test_sql(deployed: Workspace) -> None:
    post = await deployed.post("/v0/sql", data=b"SELECT count() AS n FROM events FORMAT JSON")
    assert post.json["data"] == [{"n": 5}]
    form = await deployed.post("/v0/sql", data={"q": "SELECT customer_id, amount FROM latest ORDER BY amount LIMIT 1"})
    assert form.text == "a\t1\n"
    accept = await deployed.post("/v0/sql", data=b"SELECT 1 AS x", headers={"Accept": "application/json"})
    assert accept.json["data"] == [{"x": 1}]
    csv = await deployed.post("/v0/sql", data=b"SELECT 'foo' AS a, 'bar' AS b FORMAT CSV")
    assert csv.text == '"foo","bar"\n'
    named = await deployed.post("/v0/sql?pipeline=totals", data=b"SELECT sum(events) AS n FROM _ FORMAT JSON")
    assert named.json["data"] == [{"n": 5}]
    template = await deployed.post("/v0/sql?x=7", data=b"% SELECT {{Int32(x)}} AS v FORMAT JSON")
    assert template.json["data"] == [{"v": 7}]


async def test_static_tokens_read_what_their_scopes_name(deployed: Workspace) -> None:
    files = TENANTS | {"endpoints/latest.pipe": "TOKEN reader READ\n" + TENANTS["endpoints/latest.pipe"]}
    await deployed.deploy(files)
    token = next(t.token for t in deployed.server.catalog.tokens(deployed.id) if t.name == "reader")
    assert len(await deployed.rows("/v0/pipes/latest.json", token=token)) == 5
    assert (await deployed.get("/v0/pipes/totals.json", token=token)).status == 403
    assert (await deployed.post("/v0/sql", token=token, data=b"SELECT count() FROM latest")).text == "5\n"
    assert (await deployed.post("/v0/sql", token=token, data=b"SELECT count() FROM events")).status == 403
    listed = await deployed.get("/v0/pipes?attrs=id,name", token=token)
    assert [sorted(p) for p in listed.json["pipes"]] == [["id", "name", "url"]]
    assert listed.json["pipes"][0]["name"] == "latest"


async def test_objects(deployed: Workspace) -> None:
    pipe = (await deployed.get("/v0/pipes/latest")).json
    assert pipe["name"] == "latest" and pipe["type"] == "endpoint" and pipe["endpoint"]
    assert [n["name"] for n in pipe["nodes"]] == ["filtered", "endpoint"]
    assert pipe["nodes"][0]["params"][0]["name"] == "action"
    by_id = await deployed.get(f"/v0/pipes/{pipe['id']}.json?limit=1")
    assert by_id.status == 200
    source = (await deployed.get("/v0/datasources/events")).json
    assert source["statistics"]["row_count"] == 5
    assert source["schema"]["columns"][0]["jsonpath"] == "$.timestamp"
    assert source["engine"]["sorting_key"] == "customer_id, timestamp"
    assert {u["name"] for u in source["used_by"]} >= {"latest", "daily_view"}
    listed = (await deployed.get("/v0/datasources")).json["datasources"]
    assert {d["name"] for d in listed} == {"events", "daily"}
    text = await deployed.get("/v0/datasources/events.datasource")
    assert text.text == TENANTS["datasources/events.datasource"]
    assert (await deployed.get("/v1/pipes/latest.pipe")).text == TENANTS["endpoints/latest.pipe"]


async def test_openapi_lists_what_the_token_may_call(deployed: Workspace) -> None:
    token = deployed.jwt(
        {"type": "PIPES:READ", "resource": "latest", "fixed_params": {"action": "click"}}, context={"customer_id": "a"}
    )
    document = (await deployed.get("/v0/pipes/openapi.json", token=token)).json
    assert {p.split(".")[0] for p in document["paths"]} == {"/v0/pipes/latest"}
    operation = document["paths"]["/v0/pipes/latest.json"]["get"]
    assert [p["name"] for p in operation["parameters"]] == ["limit"]


async def test_cors_is_open_and_preflight_needs_no_token(deployed: Workspace) -> None:
    origin = {"Origin": "https://app.example"}
    preflight = await deployed.request(
        "OPTIONS",
        "/v0/events?name=events",
        token=None,
        headers=origin
        | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"},
    )
    assert preflight.status == 200 and preflight.headers["Access-Control-Allow-Origin"] == "*"
    reply = await deployed.get("/v0/pipes/latest.json", headers=origin)
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in reply.headers
    assert "private" in reply.headers["Cache-Control"] and "Authorization" in reply.headers["Vary"]


async def test_events_bodies(deployed: Workspace) -> None:
    row = json.dumps(event("a", 50)).encode()
    zipped = await deployed.post(
        "/v0/events?name=events&wait=true", data=gzip.compress(row), headers={"Content-Encoding": "gzip"}
    )
    assert zipped.json == {"successful_rows": 1, "quarantined_rows": 0}
    pretty = json.dumps([event("a", 51), event("a", 52)], indent=2).encode()
    array = await deployed.post("/v0/events?name=events&wait=true&format=json", data=pretty)
    assert array.json == {"successful_rows": 2, "quarantined_rows": 0}
    browser = await deployed.post("/v0/events?name=events&wait=true", data=row, headers={"Content-Type": "text/plain"})
    assert browser.status == 200
    assert (await deployed.post("/v0/events", data=row)).status == 400
    assert (await deployed.post("/v0/events?name=events&format=xml", data=row)).status == 400


async def test_idempotency_key(deployed: Workspace) -> None:
    row = json.dumps(event("a", 60)).encode()
    for _ in range(3):
        reply = await deployed.post(
            "/v0/events?name=events&wait=true", data=row, headers={"Idempotency-Key": "order-1"}
        )
        assert reply.json == {"successful_rows": 1, "quarantined_rows": 0}
    assert column(
        await deployed.rows("/v0/sql?q=SELECT%20amount%20FROM%20events%20WHERE%20amount%3D60%20FORMAT%20JSON"), "amount"
    ) == [60]


async def test_append_tokens_with_fixed_values(deployed: Workspace) -> None:
    """G03: the token sets the column, whatever the body says."""
    token = deployed.jwt({"type": "DATASOURCES:APPEND", "resource": "events", "fixed_values": {"customer_id": "a"}})
    body = json.dumps(event("b", 70)).encode()
    reply = await deployed.post("/v0/events?name=events&wait=true", token=token, data=body)
    assert reply.json == {"successful_rows": 1, "quarantined_rows": 0}
    sql = "SELECT%20customer_id%20FROM%20events%20WHERE%20amount%3D70%20FORMAT%20JSON"
    assert await deployed.rows(f"/v0/sql?q={sql}") == [{"customer_id": "a"}]


async def test_rate_limits(deployed: Workspace) -> None:
    token = deployed.jwt(
        {"type": "PIPES:READ", "resource": "latest"}, context={"customer_id": "a"}, limits={"rps": 2}, name="slow"
    )
    replies = [await deployed.get("/v0/pipes/latest.json", token=token) for _ in range(8)]
    refused = [r for r in replies if r.status == 429]
    assert refused and refused[0].json["code"] == "rate_limited"
    assert refused[0].headers["X-RateLimit-Limit"] == "2" and int(refused[0].headers["Retry-After"]) >= 1
    allowed = next(r for r in replies if r.status == 200)
    assert allowed.headers["X-RateLimit-Limit"] == "2"


async def test_rate_limits_of_writes(deployed: Workspace) -> None:
    object.__setattr__(deployed.server.config, "writes_rps", 2)
    try:
        body = json.dumps(event("a", 71)).encode()
        replies = [await deployed.post("/v0/events?name=events", data=body) for _ in range(8)]
        replies += [await deployed.post("/v0/datasources?mode=append&name=events&format=ndjson", data=body) for _ in range(4)]
    finally:
        object.__setattr__(deployed.server.config, "writes_rps", 0)
    refused = [r for r in replies if r.status == 429]
    assert refused and all(int(r.headers["Retry-After"]) >= 1 for r in refused)
    taken = [r for r in replies if r.status != 429]
    assert taken and all(r.status in (200, 202) and r.headers["X-RateLimit-Limit"] == "2" for r in taken)


async def test_secrets(deployed: Workspace) -> None:
    made = await deployed.post("/v0/variables", data={"name": "key", "value": "s3cr'et", "type": "secret"})
    assert made.json["name"] == "key" and "value" not in made.json
    pipe = "NODE n\nSQL >\n    %\n    SELECT {{tb_secret('key')}} AS k FROM events LIMIT 1\nTYPE endpoint\n"
    await deployed.deploy(TENANTS | {"endpoints/secretive.pipe": pipe})
    assert await deployed.rows("/v0/pipes/secretive.json") == [{"k": "s3cr'et"}]
    assert (await deployed.request("PUT", "/v0/variables/key", data={"value": "new"})).status == 200
    assert await deployed.rows("/v0/pipes/secretive.json") == [{"k": "new"}]
    assert [v["name"] for v in (await deployed.get("/v0/variables")).json["variables"]] == ["key"]
    assert (await deployed.request("DELETE", "/v0/variables/key")).json == {"ok": True}
    assert (await deployed.get("/v0/variables/key")).json["error"] == "Not found"


async def test_workspaces_are_apart(deployed: Workspace) -> None:
    server_admin = deployed.server.config.admin_token
    name = deployed.name + "_second"
    made = await deployed.post(f"/v1/workspaces?name={name}", token=server_admin)
    assert made.status == 200, made.text
    second = made.json
    assert (await deployed.get("/v1/workspace", token=second["token"])).json["name"] == name
    assert (await deployed.get("/v0/pipes", token=second["token"])).json == {"pipes": []}
    assert (await deployed.get("/v0/pipes/latest.json", token=second["token"])).status == 404
    query = f"SELECT count() FROM {deployed.database}.d1_events"
    assert (await deployed.post("/v0/sql", token=second["token"], data=query.encode())).status == 400
    assert (await deployed.post(f"/v1/workspaces?name={name}", token=server_admin)).status == 409
    assert (await deployed.post("/v1/workspaces?name=no-good", token=server_admin)).status == 400


async def test_minted_jwts(deployed: Workspace) -> None:
    body = {"scopes": [{"type": "PIPES:READ", "resource": "latest"}], "context": {"customer_id": "a"}}
    minted = await deployed.post("/v0/tokens/?name=u1&expiration_time=4102444800", json=body)
    rows = await deployed.rows("/v0/pipes/latest.json", token=minted.json["token"])
    assert column(rows, "customer_id") == ["a", "a", "a"]


async def test_health_and_version(deployed: Workspace) -> None:
    for path in ("/v0/health", "/v0/ready"):
        assert (await deployed.get(path, token=None)).json == {"status": "ok", "engine": True}
    assert (await deployed.get("/version", token=None)).json["version"]


class _Away:
    """The engine as it is while its process is down."""

    available = False


async def test_without_its_engine_the_server_is_alive_and_not_ready(deployed: Workspace) -> None:
    """It still takes events in: nobody may restart it for that."""
    away = replace(deployed.server, engine=cast(Engine, _Away()))
    async with serving(away) as url:
        there = Workspace(away, url, deployed.session, deployed.id)
        alive, ready = await there.get("/v0/health", token=None), await there.get("/v0/ready", token=None)
        assert (await there.send("events", ROWS, wait=False)).status == 202
    assert alive.status == 200 and ready.status == 503 and ready.headers["Retry-After"] == "1"
    assert alive.json == ready.json == {"status": "engine_unavailable", "engine": False}


async def test_output_columns_are_named_as_in_the_dialect(deployed: Workspace) -> None:
    pipe = "NODE n\nSQL >\n    %\n    SELECT {{Int32(a)}}, {{Int32(a)}} AS b, upper({{String(s)}}) FROM events LIMIT 1\nTYPE endpoint\n"
    await deployed.deploy(TENANTS | {"endpoints/names.pipe": pipe})
    reply = await deployed.get("/v0/pipes/names.json?a=5&s=x'y")
    assert reply.json["data"] == [{"toInt32('5')": 5, "b": 5, "upper('x\\'y')": "X'Y"}]


async def test_scopes_may_name_ids(deployed: Workspace) -> None:
    id = (await deployed.get("/v0/pipes/latest")).json["id"]
    token = deployed.jwt({"type": "PIPES:READ", "resource": id}, context={"customer_id": "a"})
    assert column(await deployed.rows("/v0/pipes/latest.json", token=token), "customer_id") == ["a", "a", "a"]
    assert (await deployed.get("/v0/pipes/totals.json", token=token)).status == 403


async def test_a_tenant_appends_to_a_policed_table_only_with_fixed_values(deployed: Workspace) -> None:
    token = deployed.jwt({"type": "DATASOURCES:APPEND", "resource": "events"})
    reply = await deployed.post(
        "/v0/events?name=events&wait=true", token=token, data=json.dumps(event("b", 9)).encode()
    )
    assert reply.status == 403 and "fixed_values" in reply.json["error"]


async def test_a_tenant_sees_how_to_call_a_pipe_and_never_its_sql(deployed: Workspace) -> None:
    token = deployed.jwt(
        {"type": "PIPES:READ", "resource": "latest", "fixed_params": {"action": "click"}}, context={"customer_id": "a"}
    )
    listed = (await deployed.get("/v0/pipes", token=token)).json["pipes"]
    pipe = (await deployed.get("/v0/pipes/latest", token=token)).json
    assert listed == [pipe]
    assert [(p["name"], p["type"], p["default"]) for p in pipe["parameters"]] == [("limit", "Int32", 100)]
    assert pipe == {
        "id": (await deployed.get("/v0/pipes/latest")).json["id"],
        "name": "latest",
        "description": "The newest events",
        "type": "endpoint",
        "url": f"{deployed.base_url}/v0/pipes/latest.json",
        "parameters": pipe["parameters"],
    }
    narrowed = (await deployed.get("/v0/pipes/latest?attrs=name,nodes,content,path", token=token)).json
    assert set(narrowed) == {"name", "url"}
    tokens = {t.name: t.token for t in deployed.server.catalog.tokens(deployed.id)}
    assert (await deployed.get("/v0/pipes/latest", token=tokens["ingest"])).status == 404


@pytest.mark.parametrize(
    ("fixed", "context", "missing"),
    [
        ({"amount": 5}, {}, "customer_id"),
        ({"team": "x", "amount": 5}, {}, "customer_id"),
        ({"customer_id": "a"}, {"customer_id": "a", "team": "x"}, "team"),
    ],
)
async def test_an_append_token_fixes_what_the_policy_compares(
    deployed: Workspace, fixed: dict[str, object], context: dict[str, object], missing: str
) -> None:
    token = deployed.jwt({"type": "DATASOURCES:APPEND", "resource": "events", "fixed_values": fixed}, context=context)
    body = json.dumps(event("victim", 4711)).encode()
    reply = await deployed.post("/v0/events?name=events&wait=true", token=token, data=body)
    assert reply.status == 403, reply.text
    assert "fixed_values" in reply.json["error"] and f"'{missing}'" in reply.json["error"]
    sql = "SELECT%20count()%20AS%20n%20FROM%20events%20WHERE%20amount%3D4711%20FORMAT%20JSON"
    assert await deployed.rows(f"/v0/sql?q={sql}") == [{"n": 0}]


async def test_an_append_token_of_a_team_fixes_customer_and_team(deployed: Workspace) -> None:
    token = deployed.jwt(
        {"type": "DATASOURCES:APPEND", "resource": "events", "fixed_values": {"customer_id": "a", "team": "x"}},
        context={"customer_id": "a", "team": "x"},
    )
    body = json.dumps(event("victim", 4712)).encode()
    assert (await deployed.post("/v0/events?name=events&wait=true", token=token, data=body)).status == 200
    sql = "SELECT%20customer_id,team%20FROM%20events%20WHERE%20amount%3D4712%20FORMAT%20JSON"
    assert await deployed.rows(f"/v0/sql?q={sql}") == [{"customer_id": "a", "team": "x"}]
