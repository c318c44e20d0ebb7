"""Attacks H and E: what an answer tells besides its rows, what its bytes do to a reader, what a read may cost."""

from __future__ import annotations

import csv
import io
import json
import time
from typing import Any

import pytest
from starlette.routing import Route

from pipit.access.params import RequestParams
from pipit.api.app import app_for
from pipit.errors import PipitError
from pipit.query.formats import JSON
from pipit.query.limits import Limits
from pipit.query.plan import Plan
from pipit.query.queries import PipeQuery, Read, SqlQuery
from pipit.query.read import Reader
from projects import CANARY, EVENTS, ROWS, TENANTS, column, event
from serving import Workspace

pytestmark = pytest.mark.anyio

ONLY_EVENTS = {"datasources/events.datasource": EVENTS, "endpoints/latest.pipe": TENANTS["endpoints/latest.pipe"]}


@pytest.fixture
async def tenants(workspace: Workspace) -> Workspace:
    await workspace.deploy(TENANTS)
    await workspace.send("events", ROWS)
    return workspace


async def plan_of(workspace: Workspace, pipe: str, token: str, **parameters: Any) -> Plan:
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    security = workspace.server.authenticator.check(token, workspace.server.catalog.keyring)
    return await workspace.server.reader.plan(Read(snapshot, security, PipeQuery(pipe, RequestParams(), JSON)))


# --- E: beside the rows


async def test_another_tenants_rows_change_no_byte_and_no_granule(workspace: Workspace) -> None:
    """E07: not a time, which a test cannot bound, but what makes it: the same statement under the same settings, and
    the same marks of the table read, whether b has 2 rows or 200,000. (What is left: rows of b in the marks that a's
    rows share, and the second run of a query that failed in its first.)"""
    await workspace.deploy(ONLY_EVENTS)
    await workspace.send("events", [event("a", n) for n in range(20)])
    token = workspace.tenant("latest", customer_id="a")
    engine, seen = workspace.server.engine, []
    table = f"`{workspace.database}`.`d1_events`"
    for _ in range(2):
        plan = await plan_of(workspace, "latest", token)
        explained = await engine.query(
            "EXPLAIN indexes = 1, json = 1 " + plan.composed.sql,
            plan.params,
            settings=plan.settings,
            database=workspace.database,
            format="TSVRaw",
        )
        indexes = found(json.loads(explained), "Indexes")
        granules = next(index["Selected Granules"] for index in indexes if index["Type"] == "PrimaryKey")
        reply = await workspace.get("/v0/pipes/latest.json", token=token)
        seen.append((plan.composed.sql, plan.settings, granules, reply.status, reply.body))
        await engine.command(
            f"INSERT INTO {table} SELECT '2026-11-01 10:00:00', 'b', 'red', 'click', {CANARY} FROM numbers(200000)"
        )
        await engine.command(f"OPTIMIZE TABLE {table} FINAL")
    assert seen[0] == seen[1]
    assert seen[0][3] == 200 and seen[0][2] == 1


def found(tree: Any, name: str) -> list[Any]:
    """All items of the lists of this name, anywhere in a JSON tree."""
    if isinstance(tree, list):
        return [item for branch in tree for item in found(branch, name)]
    if not isinstance(tree, dict):
        return []
    own = tree.get(name, [])
    return [*own, *(item for key, branch in tree.items() if key != name for item in found(branch, name))]


async def test_rate_limits_of_one_tenant_tell_nothing_of_another(tenants: Workspace) -> None:
    """E09: a name of its own for each tenant's token; b's requests neither count for a nor show in its headers."""
    scope = {"type": "PIPES:READ", "resource": "latest"}
    a, b = (
        tenants.jwt(scope, name=f"user of {who}", context={"customer_id": who}, limits={"rps": 100})
        for who in ("a", "b")
    )
    for _ in range(5):
        assert (await tenants.get("/v0/pipes/latest.json", token=b)).status == 200
    reply = await tenants.get("/v0/pipes/latest.json", token=a)
    assert reply.headers["X-RateLimit-Remaining"] == "99"


async def test_no_answer_can_be_kept_by_a_shared_cache(tenants: Workspace) -> None:
    """E10, F09: private, told apart by the token, and nothing in it to ask whether it changed."""
    token = tenants.tenant("latest", customer_id="a")
    for path in ("/v0/pipes/latest.json", "/v0/pipes/latest.csv", "/v0/pipes", "/v0/pipes/totals.json", "/nothing"):
        for headers in ({}, {"If-None-Match": "*", "If-Modified-Since": "Thu, 01 Jan 2099 00:00:00 GMT"}):
            reply = await tenants.get(path, token=token, headers=headers)
            assert reply.status != 304
            assert "private" in reply.headers["Cache-Control"]
            assert "Authorization" in reply.headers["Vary"]
            assert not {"ETag", "Last-Modified", "Age", "Set-Cookie"} & set(reply.headers)


PAGES = {"/docs", "/docs/errors.html"}


async def test_no_route_shows_a_tenant_anything_of_another(tenants: Workspace) -> None:
    """E11, E14, J06, J15: every route of the application with a's token: no value of b, no SQL, no example row, no
    count of rows, and no metrics."""
    token = tenants.tenant("latest", customer_id="a")
    paths = {route.path for route in app_for(tenants.server).routes if isinstance(route, Route)}
    assert len(paths) > 20 and [path for path in paths if "metrics" in path or "prometheus" in path] == ["/metrics"]
    assert (await tenants.get("/metrics", token=token)).status == 403  # they are of all tenants
    for path in [*sorted(paths), "/metrics", "/v0/metrics", "/v0/pipes/latest/values", "/v0/pipes/latest/meta"]:
        for name in ("latest", "latest.json", "events", "totals", "by_param.json"):
            url = path.replace("{file}", name).replace("{name}", name.partition(".")[0]).replace("{id}", "1")
            for method in ("GET", "POST"):
                reply = await tenants.request(method, f"{url}?name=events&attrs=", token=token)
                assert reply.status < 500, (method, url, reply.text)
                secrets = ["canary_b", str(CANARY), '"b"', "d1_events", tenants.admin_token]
                # Pages of the documentation, which anybody gets, may speak of SQL and policies.
                if path not in PAGES or (await tenants.request(method, path, token=None)).text != reply.text:
                    secrets += ["SELECT", "ROW_POLICY"]
                for secret in secrets:
                    assert secret not in reply.text, (method, url, secret)
            if "{" not in path:
                break


async def test_a_tenants_document_lists_what_it_may_call(tenants: Workspace) -> None:
    """J06."""
    token = tenants.tenant("latest", customer_id="a")
    document = (await tenants.get("/v0/pipes/openapi.json", token=token)).json
    assert {path.rpartition("/")[2].partition(".")[0] for path in document["paths"]} == {"latest"}
    listed = (await tenants.get("/v0/pipes", token=token)).json["pipes"]
    assert column(listed, "name") == ["latest"] and not {"nodes", "content", "path"} & set(listed[0])
    for path in ("/v0/datasources", "/v0/datasources/events", "/v0/datasources/nothing"):
        assert (await tenants.get(path, token=token)).status == 403  # their counts are of all tenants
    for hidden in ("totals", "chained", "by_param", "daily_view", "nothing"):
        reply = await tenants.get(f"/v0/pipes/{hidden}", token=token)
        assert (reply.status, reply.json["error"]) == (404, f"Pipe '{hidden}' not found")


# --- H: the bytes

HOSTILE_TEXTS = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    '"quoted", and "again"',
    "a\nb",
    "a\r\nb",
    "</script><script>alert(1)</script>",
    "\u2028\u2029",
    "\ufeff",
    '{"x": 1}\n{"y": 2}',
    "a\0b",
]


async def test_a_cell_is_its_value_in_every_format(workspace: Workspace) -> None:
    """H01, H03, H04: rows hold what was stored, and no cell ends a row, a field or the document. Whether a cell is a
    formula is the spreadsheet's to ask: values are never changed (docs/differences.md)."""
    await workspace.deploy(ONLY_EVENTS)
    await workspace.send("events", [event("a", n, action=text) for n, text in enumerate(HOSTILE_TEXTS)])
    token = workspace.tenant("latest", customer_id="a")

    async def get(extension: str) -> bytes:
        reply = await workspace.get(f"/v0/pipes/latest.{extension}", token=token)
        assert reply.headers["X-Content-Type-Options"] == "nosniff" and "html" not in reply.headers["Content-Type"]
        return reply.body

    assert column(json.loads(await get("json"))["data"], "action") == HOSTILE_TEXTS
    lines = (await get("ndjson")).rstrip(b"\n").split(b"\n")
    assert [json.loads(line)["action"] for line in lines] == HOSTILE_TEXTS
    text = (await get("csv")).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["action"] for row in rows] == HOSTILE_TEXTS
    assert text.startswith('"customer_id","team","action","amount"\n')  # every text is quoted


async def test_numbers_keep_their_value_and_json_its_grammar(workspace: Workspace) -> None:
    """H03: UInt64 to the last digit, NaN and infinities as null."""
    query = (
        "SELECT toUInt64(18446744073709551615) AS u, toInt64(-9223372036854775808) AS i, nan AS n, inf AS p, -inf AS m"
    )
    reply = await workspace.get(f"/v0/sql?q={query.replace(' ', '+')}+FORMAT+JSON")
    assert b"18446744073709551615" in reply.body and b"-9223372036854775808" in reply.body
    row = json.loads(reply.body, parse_constant=lambda name: pytest.fail(name))["data"][0]
    assert (row["n"], row["p"], row["m"]) == (None, None, None)


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "a\u2028b", "\x7f", "a\rb"])
async def test_a_columns_name_holds_no_control_character(workspace: Workspace, name: str) -> None:
    """H05: in no format, so that no reader of a Parquet or Arrow schema is surprised."""
    for quoted in (f"`{name}`", f'"{name}"'):
        pipe = f"NODE n\nSQL >\n    SELECT amount AS {quoted} FROM events\nTYPE endpoint\n"
        reply = await workspace.post("/v0/sql", data=f"SELECT 1 AS {quoted} FORMAT Parquet".encode())
        assert reply.status in (400, 403), reply.body
        with pytest.raises(PipitError):
            await workspace.deploy(ONLY_EVENTS | {"endpoints/named.pipe": pipe})


FORMATS = [
    "Native",
    "JSON",
    "Json",
    "NDJSON",
    "tsv",
    "xml",
    "html",
    "sql",
    "mysqldump",
    "template",
    "avro",
    "arrow",
    "null",
]
FORMATS += ["JSONEachRow", "CustomSeparated", "prometheus", "..%2fjson", "json%00", "json%20", "json.json.x", ""]


async def test_a_format_that_is_not_on_the_list(tenants: Workspace) -> None:
    """H02, H06: exact names only; of a statement those of the list in any case. Some formats of the engine read schemas,
    templates or settings. Prometheus is not among them."""
    token = tenants.tenant("latest", customer_id="a")
    for extension in FORMATS:
        reply = await tenants.get(f"/v0/pipes/latest.{extension}", token=token)
        assert reply.status in (403, 404) and "data" not in reply.json, extension
    for format in (
        "Template",
        "CustomSeparated",
        "SQLInsert",
        "Null",
        "ProtobufSingle",
        "MySQLDump",
        "Prometheus",
        "jso",
    ):
        reply = await tenants.post("/v0/sql", data=f"SELECT 1 AS x FORMAT {format}".encode())
        assert reply.status == 400 and "format" in reply.json["error"], format


# --- H: what a read may cost


async def test_the_engine_has_a_bound_for_each_read(tenants: Workspace) -> None:
    """H10: time and result of the read, memory of the process and of each query; the statement cannot change them."""
    for token in (tenants.tenant("latest", customer_id="a"), tenants.admin_token):
        settings = (await plan_of(tenants, "latest", token)).settings
        assert settings["max_execution_time"] and settings["max_result_bytes"] and settings["readonly"] == 1
        assert (settings["timeout_overflow_mode"], settings["result_overflow_mode"]) == ("throw", "throw")
    rows = await tenants.server.engine.rows(
        "SELECT name, value FROM system.settings WHERE name = 'max_memory_usage' "
        "UNION ALL SELECT name, value FROM system.server_settings WHERE name = 'max_server_memory_usage'"
    )
    assert len(rows) == 2 and all(int(row["value"]) > 0 for row in rows)


EXPENSIVE = {
    "a long text": "SELECT length(repeat('x', 10000000000)) AS n",
    "a long array": "SELECT length(groupArray(number)) AS n FROM numbers(1000000000000)",
    "a large range": "SELECT arrayJoin(range(1000000000)) AS n",
    "a cross join": "SELECT count() AS n FROM numbers(1000000) AS a, numbers(1000000) AS b, numbers(1000000) AS c",
    "a recursion": "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT count() AS n FROM t",
    "a million millions": "SELECT sum(sipHash64(number)) AS n FROM numbers(1000000000000)",
}


@pytest.mark.parametrize("name", EXPENSIVE)
async def test_an_expensive_statement_ends_and_the_engine_lives(workspace: Workspace, name: str) -> None:
    """H10, H11, D30: a clear 4xx soon after the time of a read, and the next one is answered."""
    engine, started = workspace.server.engine, time.monotonic()
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    security = workspace.server.authenticator.check(workspace.admin_token, workspace.server.catalog.keyring)
    reader = Reader(engine, Limits(seconds=1))
    with pytest.raises(PipitError) as caught:
        async with reader.open(Read(snapshot, security, SqlQuery(EXPENSIVE[name], RequestParams(), JSON))) as answer:
            async for _ in answer.chunks:
                pass
    assert 400 <= caught.value.status < 500, caught.value
    assert time.monotonic() - started < 60
    assert (await workspace.post("/v0/sql", data=b"SELECT 1 AS x")).body == b"1\n"


async def test_an_expensive_pattern_of_a_tenant_ends(workspace: Workspace) -> None:
    """H11: a pattern that a request chooses, of a megabyte, and one that would make others backtrack for ever."""
    pipe = (
        "NODE n\nSQL >\n    %\n    SELECT count() AS n FROM events WHERE match(action, {{String(x)}})\nTYPE endpoint\n"
    )
    await workspace.deploy(ONLY_EVENTS | {"endpoints/matching.pipe": pipe})
    await workspace.send("events", [event("a", n, action="a" * 5000) for n in range(20)])
    token, headers = workspace.tenant("matching", customer_id="a"), {"Content-Type": "application/json"}
    for pattern in ("a" * 1_000_000, "(a?){1000}" * 1000, "(a+)+$" * 10, "((a*)*)*b", "(" * 10_000, "[" * 1000):
        started = time.monotonic()
        body = json.dumps({"x": pattern}).encode()
        reply = await workspace.post("/v0/pipes/matching.json", token=token, headers=headers, data=body)
        assert reply.status in (200, 400, 408), reply.text
        assert len(reply.body) < 1000 and time.monotonic() - started < 60
