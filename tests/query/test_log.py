"""The audit log: every read is a row, readable by the workspace as `tinybird.pipe_stats_rt` and `endpoint_errors`."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pipit.access.context import Scope, SecurityContext, TokenKind
from pipit.catalog.services import ENDPOINT_ERRORS, PIPE_STATS_RT, SERVICES, physical_name
from pipit.catalog.state import WorkspaceSettings
from pipit.errors import ProjectError, TemplateError
from pipit.ingest import Ingest
from pipit.query.log import MASK, Asked, ReadOutcome, ReadRecord, record, shown_url, status_of
from pipit.query.queries import ReadOrigin
from pipit.server.read_log import ReadLog
from pipit.tables import Locks
from pipit.tables.services import ServiceTables
from projects import ROWS, TENANTS, column
from serving import Workspace
from waiting import until

pytestmark = pytest.mark.anyio

STATS, ERRORS = PIPE_STATS_RT.name, ENDPOINT_ERRORS.name

# Tinybird's dialect; the last two are ours.
COLUMNS = {
    "start_datetime": "DateTime",
    "pipe_id": "String",
    "pipe_name": "String",
    "token": "String",
    "token_name": "String",
    "duration": "Float32",
    "read_bytes": "UInt64",
    "read_rows": "UInt64",
    "cpu_time": "Float32",
    "result_rows": "UInt64",
    "url": "Nullable(String)",
    "error": "UInt8",
    "error_message": "Nullable(String)",
    "status_code": "Int32",
    "request_id": "String",
    "parameters": "Map(String, String)",
    "method": "String",
    "release": "String",
    "user_agent": "Nullable(String)",
    "client_ip": "Nullable(String)",
    "resource_tags": "Array(String)",
    "memory_usage": "UInt64",
    "replica": "String",
    "security_context": "String",
    "environment": "String",
}


@pytest.fixture
async def project(workspace: Workspace) -> Workspace:
    tagged = "TAGS billing, core\n" + TENANTS["endpoints/latest.pipe"]
    await workspace.deploy(TENANTS | {"endpoints/latest.pipe": tagged})
    await workspace.send("events", ROWS)
    return workspace


async def written(workspace: Workspace, database: str = "") -> None:
    """Until every read until now is in the tables."""
    await workspace.server.read_log.flush()
    for service in SERVICES.values():
        await workspace.server.ingest.drain(database or workspace.database, physical_name(service))


async def rows(workspace: Workspace, name: str = STATS, what: str = "*", token: str = "admin") -> list[dict[str, Any]]:
    await written(workspace)
    sql = f"SELECT {what} FROM {name} WHERE url NOT LIKE '/v0/sql%' ORDER BY start_datetime, request_id FORMAT JSON"
    return await workspace.rows(f"/v0/sql?q={quote(sql)}", token=token)


# --- what is in a row


async def test_the_columns_are_the_dialects(project: Workspace) -> None:
    await written(project)
    described = await project.rows(f"/v0/sql?q={quote(f'SELECT * FROM {STATS} LIMIT 0 FORMAT JSON')}")
    assert described == []
    reply = await project.get(f"/v0/sql?q={quote(f'SELECT * FROM {STATS} LIMIT 0 FORMAT JSON')}")
    assert {c["name"]: c["type"] for c in reply.json["meta"]} == COLUMNS
    table = await project.server.engine.rows(
        f"SELECT create_table_query AS q FROM system.tables WHERE database = '{project.database}' "
        "AND name IN ('s1_endpoint_errors', 's1_jobs_log', 's1_pipe_stats_rt') ORDER BY name"
    )
    errors, jobs, stats = (row["q"] for row in table)
    assert "ORDER BY (pipe_id, start_datetime)" in stats and "toIntervalMonth(3)" in stats
    assert "ORDER BY (start_datetime)" in errors and "toIntervalDay(30)" in errors
    assert "ORDER BY (created_at, job_id)" in jobs and "toIntervalMonth(3)" in jobs


async def test_a_tenants_read(project: Workspace) -> None:
    token = project.jwt(
        {"type": "PIPES:READ", "resource": "latest", "fixed_params": {"action": "click"}},
        {"type": "DATASOURCES:READ", "resource": "events", "filter": "amount < 100"},
        name="acme",
        context={"customer_id": "a", "session_token": "hush"},
    )
    reply = await project.get("/v0/pipes/latest.json?limit=7", token=token, headers={"User-Agent": "me/1"})
    assert len(reply.json["data"]) == 2
    (row,) = await rows(project)
    pipe = (await project.get("/v0/pipes/latest")).json
    assert row["pipe_id"] == pipe["id"] and row["pipe_name"] == "latest"
    assert row["token_name"] == "acme" and len(row["token"]) == 16 and row["token"] not in token
    assert (row["status_code"], row["error"], row["error_message"]) == (200, 0, None)
    assert row["request_id"] == reply.headers["X-Request-Id"]
    assert row["parameters"] == {"limit": "7"} and row["url"] == "/v0/pipes/latest.json?limit=7"
    assert json.loads(row["security_context"]) == {
        "kind": "jwt",
        "context": {"customer_id": "a", "session_token": MASK},
        "fixed_params": {"action": "click"},
        "filtered": ["events"],
    }
    assert (row["method"], row["release"], row["user_agent"]) == ("GET", "1", "me/1")
    assert row["client_ip"] == "127.0.0.1" and row["resource_tags"] == ["billing", "core"]
    assert 0 < row["duration"] < 10 and row["read_rows"] > 0 and row["result_rows"] == 2 and row["read_bytes"] > 0


async def test_a_kept_answer_is_logged_and_costs_nothing(project: Workspace) -> None:
    pipe = "NODE e\nSQL >\n    %\n    {{cache_ttl('1h')}} SELECT amount FROM events\nTYPE endpoint\n"
    await project.deploy(TENANTS | {"endpoints/kept.pipe": pipe})
    for _ in range(2):
        await project.get("/v0/pipes/kept.json", token=project.tenant("kept", customer_id="a"))
    found = await rows(project, what="status_code, read_rows > 0 AS ran")
    assert sorted(r["ran"] for r in found) == [0, 1] and column(found, "status_code") == [200, 200]


async def test_every_refusal_is_a_row(project: Workspace) -> None:
    token = project.tenant("latest", "totals", customer_id="a")
    slow = project.jwt({"type": "PIPES:READ", "resource": "latest"}, name="slow", limits={"rps": 1})
    asked = [
        ("latest", await project.get("/v0/pipes/latest.json?limit=x", token=token), 400),
        ("latest", await project.get("/v0/pipes/latest.json?limit=1&limit=2", token=token), 400),
        ("latest", await project.get("/v0/pipes/latest.xml", token=token), 404),
        ("latest", await project.get("/v0/pipes/latest.json", token=project.tenant("latest")), 403),
        ("latest", await project.post("/v0/pipes/latest.json", token=token, data=b"{", headers={"Content-Type": "application/json"}), 400),
        ("chained", await project.get("/v0/pipes/chained.json", token=token), 403),
        ("nowhere", await project.get("/v0/pipes/nowhere.json"), 404),
        ("latest", await project.get("/v0/pipes/latest.json?q=SELECT+1", token=token), 403),
    ]  # fmt: skip
    limited = [await project.get("/v0/pipes/latest.json", token=slow) for _ in range(5)]
    over = next(r for r in limited if r.status == 429)
    asked.append(("latest", over, 429))
    assert [reply.status for _, reply, _ in asked] == [status for *_, status in asked]
    found = {r["request_id"]: r for r in await rows(project)}
    failed = {r["request_id"]: r for r in await rows(project, ERRORS)}
    for pipe, reply, status in asked:
        for row in (found[reply.headers["X-Request-Id"]], failed[reply.headers["X-Request-Id"]]):
            assert (row["pipe_name"], row["status_code"]) == (pipe, status)
        assert found[reply.headers["X-Request-Id"]]["error"] == 1
        assert failed[reply.headers["X-Request-Id"]]["error"] in reply.json["error"]
    assert json.loads(failed[asked[0][1].headers["X-Request-Id"]]["params"]) == {"limit": "x"}
    # A request without a token of the workspace is not the workspace's.
    assert (await project.get("/v0/pipes/latest.json", token="nonsense")).status == 403
    assert len(await rows(project)) == len(found)


async def test_sql_is_the_pseudo_pipe_query_api(project: Workspace) -> None:
    await project.get(f"/v0/sql?q={quote('SELECT count() FROM events')}&x=1")
    await project.post("/v0/sql", data=b"SELECT nothing FROM events")
    await project.get("/v0/sql")
    await written(project)
    sql = f"SELECT pipe_id, url, parameters, error_message FROM {STATS} WHERE pipe_name = 'query_api' ORDER BY duration DESC"
    found = await project.rows(f"/v0/sql?q={quote(sql + ' FORMAT JSON')}")
    assert len(found) == 3 and {r["pipe_id"] for r in found} == {"query_api"}
    told = {r["url"]: r for r in found}
    assert told["/v0/sql?q=***&x=1"]["parameters"] == {"x": "1"}
    assert "The parameter 'q' is missing" in column(found, "error_message")
    assert any("UNKNOWN_IDENTIFIER" in (m or "") for m in column(found, "error_message"))


async def test_a_tenants_sql_is_logged_with_what_it_was_not_told(project: Workspace) -> None:
    await project.server.catalog.put_settings(project.id, WorkspaceSettings(tenant_sql=True))
    token = project.jwt({"type": "DATASOURCES:READ", "resource": "events"}, context={"customer_id": "a"})
    good = await project.get(f"/v0/sql?q={quote('SELECT count() AS n FROM events FORMAT JSON')}", token=token)
    assert good.json["data"] == [{"n": 3}]
    bad = await project.get(f"/v0/sql?q={quote('SELECT sleep(1) FROM events')}", token=token)
    assert bad.status == 400 and "sleep" not in bad.text
    await written(project)
    columns = "status_code, error_message, JSONExtractString(security_context, 'context', 'customer_id') AS customer"
    sql = f"SELECT {columns} FROM {STATS} WHERE pipe_name = 'query_api' ORDER BY status_code FORMAT JSON"
    first, second = await project.rows(f"/v0/sql?q={quote(sql)}")
    assert first == {"status_code": 200, "error_message": None, "customer": "a"}
    assert (second["status_code"], second["customer"]) == (400, "a") and "sleep" in second["error_message"]


async def test_a_client_that_leaves_is_a_499(project: Workspace) -> None:
    slow = "NODE e\nSQL >\n    SELECT count() FROM numbers(100000000000)\nTYPE endpoint\n"
    await project.deploy(TENANTS | {"endpoints/slow.pipe": slow})
    asked = asyncio.create_task(project.get("/v0/pipes/slow.json"))
    running = "SELECT 1 FROM system.processes WHERE query LIKE '%numbers(1' || '00000000000)%'"
    await until(lambda: project.server.engine.rows(running))
    asked.cancel()
    found = await until(lambda: rows(project, what="status_code, error, error_message"))
    assert found == [{"status_code": 499, "error": 1, "error_message": "The client left"}]


# --- who reads it, and how


async def test_pipes_read_it_through_the_same_path(project: Workspace) -> None:
    pipe = (
        "NODE mine\nSQL >\n    SELECT pipe_name, status_code FROM tinybird.pipe_stats_rt AS s\n\n"
        "NODE e\nSQL >\n    %\n    WITH x AS (SELECT * FROM mine)\n"
        "    SELECT pipe_name, count() AS reads, (SELECT count() FROM tinybird.endpoint_errors) AS errors FROM x\n"
        "    WHERE pipe_name IN (SELECT pipe_name FROM `tinybird`.pipe_stats_rt) AND pipe_name = {{String(name)}}\n"
        "    GROUP BY pipe_name\nTYPE endpoint\n"
    )
    await project.deploy(TENANTS | {"endpoints/usage.pipe": pipe})
    await project.get("/v0/pipes/latest.json")
    await project.get("/v0/pipes/latest.xml")
    await written(project)
    assert await project.rows("/v0/pipes/usage.json?name=latest") == [{"pipe_name": "latest", "reads": 2, "errors": 1}]


async def test_a_database_without_any_read_has_it_too(workspace: Workspace) -> None:
    assert await workspace.rows(f"/v0/sql?q={quote(f'SELECT count() AS n FROM {ERRORS} FORMAT JSON')}") == [{"n": 0}]


async def test_static_tokens_need_the_scope(project: Workspace) -> None:
    credentials = project.server.catalog.credentials
    sql = f"/v0/sql?q={quote(f'SELECT count() AS n FROM {STATS} FORMAT JSON')}"
    for number, (scope, status) in enumerate(
        [("WORKSPACE:READ_ALL", 200), ("DATASOURCES:READ:events", 403), ("PIPES:READ:latest", 403)]
    ):
        row = await credentials.create(project.id, f"reads_{number}", (scope,))
        assert (await project.get(sql, token=row.token)).status == status, scope


async def test_other_names_are_not_found(project: Workspace) -> None:
    for name in (
        "tinybird.hfi_requests",
        "tinybird.s1_pipe_stats_rt",
        "tinybird.events",
        "organization.pipe_stats_rt",
    ):
        reply = await project.get(f"/v0/sql?q=SELECT+*+FROM+{name}")
        assert (reply.status, f"Resource '{name}' not found") == (400, reply.json["error"])
    assert "tinybird.pipe_stats_rt" in (await project.get("/v0/sql?q=SELECT+*+FROM+tinybird.events")).json["hint"]
    for name in (
        "pipe_stats_rt",
        "s1_pipe_stats_rt",
        f"{project.name}.pipe_stats_rt",
        f"{project.database}.s1_pipe_stats_rt",
    ):
        assert (await project.get(f"/v0/sql?q=SELECT+*+FROM+{name}")).status == 400


async def test_a_project_may_have_a_data_source_of_that_name(project: Workspace) -> None:
    mine = "SCHEMA >\n    id UInt64 `json:$.id`\n\nENGINE MergeTree\nENGINE_SORTING_KEY id\n"
    await project.deploy(TENANTS | {"datasources/pipe_stats_rt.datasource": mine})
    await project.send("pipe_stats_rt", [{"id": 7}])
    assert await project.rows(f"/v0/sql?q={quote('SELECT * FROM pipe_stats_rt FORMAT JSON')}") == [{"id": 7}]
    row = await project.server.catalog.credentials.create(project.id, "mine", ("DATASOURCES:READ:pipe_stats_rt",))
    assert (await project.get(f"/v0/sql?q={quote(f'SELECT * FROM {STATS}')}", token=row.token)).status == 403


async def test_no_view_is_fed_by_it(project: Workspace) -> None:
    target = "SCHEMA >\n    pipe_name String\n\nENGINE MergeTree\nENGINE_SORTING_KEY pipe_name\n"
    view = f"NODE v\nSQL >\n    SELECT pipe_name FROM {STATS}\nTYPE materialized\nDATASOURCE seen\n"
    with pytest.raises(ProjectError, match="cannot read a service data source"):
        await project.deploy(TENANTS | {"datasources/seen.datasource": target, "pipes/view.pipe": view})


@pytest.mark.parametrize(
    "sql",
    [f"SELECT pipe_name FROM {STATS}", f"%\n    SELECT pipe_name FROM {STATS} WHERE 1 = {{{{Int8(x, 1)}}}}"],
    ids=["text", "template"],
)
async def test_what_a_copy_makes_of_it_is_no_tenants(project: Workspace, sql: str) -> None:
    target = "SCHEMA >\n    pipe_name String\n\nENGINE MergeTree\nENGINE_SORTING_KEY pipe_name\n"
    read = "NODE e\nSQL >\n    SELECT * FROM seen\nTYPE endpoint\n"
    copy = f"NODE copied\nSQL >\n    {sql}\nTYPE copy\nTARGET_DATASOURCE seen\n"
    files = {"datasources/seen.datasource": target, "copies/c.pipe": copy, "endpoints/seen_by.pipe": read}
    await project.deploy(TENANTS | files)
    reply = await project.get("/v0/pipes/seen_by.json", token=project.tenant("seen_by", customer_id="a"))
    assert (reply.status, reply.json["code"]) == (403, "read_refused")
    assert (await project.get("/v0/pipes/seen_by.json")).status == 200


async def test_deploys_and_the_clean_up_leave_it_alone(project: Workspace) -> None:
    await project.get("/v0/pipes/latest.json")
    await written(project)
    await project.deploy(
        {"endpoints/one.pipe": "NODE e\nSQL >\n    SELECT 1 AS x\nTYPE endpoint\n"}, allow_destructive=True
    )
    await project.server.deployer.clean_up()
    assert column(await rows(project), "pipe_name") == ["latest"]
    listed = (await project.get("/v0/datasources")).json["datasources"]
    assert [d["name"] for d in listed] == []


async def test_each_environment_has_its_own(project: Workspace) -> None:
    await project.server.deployer.add_environment(project.id, "one")
    database = project.server.catalog.snapshot(project.id, "one").workspace.database
    token = project.jwt({"type": "PIPES:READ", "resource": "latest"}, context={"customer_id": "a"}, environment="one")
    assert (await project.get("/v0/pipes/latest.json", token=token)).status == 200
    await written(project, database)
    assert await rows(project) == []
    row = await project.server.catalog.credentials.create(project.id, "admin_of_one", ("ADMIN",), environment="one")
    found = await rows(project, token=row.token)
    assert [(r["pipe_name"], r["environment"]) for r in found] == [("latest", "one")]


async def test_the_examples_of_the_docs(project: Workspace) -> None:
    await project.get("/v0/pipes/latest.json", token=project.tenant("latest", customer_id="a"))
    await project.get("/v0/pipes/latest.json?limit=x")
    await written(project)
    text = (Path(__file__).parents[2] / "docs" / "audit-log.md").read_text()
    usage, errors, tenants, *more = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    assert (await sql_rows(project, usage))[0] | {"seconds": 0} == {
        "pipe_name": "latest",
        "reads": 2,
        "failed": 1,
        "seconds": 0,
    }
    assert column(await sql_rows(project, errors), "status_code") == [400]
    assert {"customer": "a", "pipe_name": "latest", "reads": 1} in await sql_rows(project, tenants)
    for query in more:
        await sql_rows(project, query)


async def sql_rows(workspace: Workspace, sql: str) -> list[dict[str, Any]]:
    return await workspace.rows(f"/v0/sql?q={quote(sql + ' FORMAT JSON')}")


# --- how it gets there


def a_record(workspace: Workspace, pipe: str = "latest", **changes: Any) -> ReadRecord:
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    security = SecurityContext(workspace.id, TokenKind.JWT, "t", (Scope("PIPES:READ", pipe),))
    error = changes.pop("error", None)
    asked = Asked(snapshot, security, pipe, **({"request_id": "r"} | changes))
    return record(asked, ReadOutcome(status_of(error), 0.1, error), now=time.time())


async def test_rows_wait_in_order_while_they_cannot_be_written(project: Workspace, tmp_path: Path) -> None:
    """The events' log is closed first, as when its disk is full; nothing is lost, nothing comes twice."""
    server = project.server
    ingest = Ingest(server.engine, tmp_path, Locks())  # not started: it refuses
    reads = ReadLog(server.catalog, ingest, ServiceTables(server.engine))
    for number in range(5):
        reads.add(a_record(project, request_id=f"r{number}", error=TemplateError("no") if number == 3 else None))
        await reads.flush()
    assert reads.waiting == 5
    await ingest.start()
    await reads.close()
    await ingest.close()
    assert reads.waiting == 0
    found = await project.rows(f"/v0/sql?q={quote(f'SELECT request_id FROM {STATS} ORDER BY request_id FORMAT JSON')}")
    assert column(found, "request_id") == [f"r{n}" for n in range(5)]
    errors = await project.rows(f"/v0/sql?q={quote(f'SELECT request_id FROM {ERRORS} FORMAT JSON')}")
    assert column(errors, "request_id") == ["r3"]


async def test_the_wait_is_bounded_and_the_oldest_go(
    project: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = project.server
    ingest = Ingest(server.engine, tmp_path, Locks())
    size = a_record(project).size
    reads = ReadLog(server.catalog, ingest, ServiceTables(server.engine), most_bytes=size * 3)
    for number in range(10):
        reads.add(a_record(project, request_id=str(number)))
    assert reads.waiting == 3
    await ingest.start()
    await reads.flush()
    await ingest.close()
    assert "7 rows are not in tinybird.pipe_stats_rt" in caplog.text
    found = await project.rows(f"/v0/sql?q={quote(f'SELECT request_id FROM {STATS} ORDER BY request_id FORMAT JSON')}")
    assert column(found, "request_id") == ["7", "8", "9"]


async def test_a_record_is_bounded_whatever_was_sent(project: Workspace) -> None:
    huge = "x" * 1_000_000
    sent = [(f"p{n}", huge) for n in range(1000)]
    origin = ReadOrigin("GET", f"/v0/pipes/latest.json?{huge}&{huge}={huge}", huge, None, "")
    found = a_record(project, "y" * 10_000, sent=sent, origin=origin, error=TemplateError(huge))
    assert len(json.dumps(found.stats_row("r"))) < 40_000


async def test_what_looks_secret_is_masked(project: Workspace) -> None:
    names = [
        "password",
        "API_KEY",
        "apiKey",
        "x-api-key",
        "Authorization",
        "client_secret",
        "auth",
        "pin",
        "accessToken",
    ]
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2lnbmF0dXJl"
    sent = [*((name, "canary") for name in names), ("note", f"see {jwt}"), ("limit", 5), ("list", ["a"])]
    url = (
        "/v0/x.json?"
        + "&".join(f"{quote(name)}=canary" for name in names)
        + f"&q=canary&token=canary&%74oken=canary&n={jwt}"
    )
    error = TemplateError("Error validating 'canary' to type Int32")
    found = a_record(project, sent=sent, origin=ReadOrigin("GET", url), error=error)
    assert "canary" not in json.dumps(found.stats_row("r")) + json.dumps(found.error_row())
    assert jwt not in json.dumps(found.stats_row("r"))
    assert found.parameters["limit"] == "5" and found.parameters["list"] == '["a"]'
    assert found.error_message == f"Template Syntax Error: Error validating '{MASK}' to type Int32"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/v0/pipes/a.json", "/v0/pipes/a.json"),
        ("/v0/pipes/a.json?x=1&token=t", "/v0/pipes/a.json?x=1&token=***"),
        ("/v0/pipes/a.json?TOKEN=t&x", "/v0/pipes/a.json?TOKEN=***&x"),
        ("/v0/sql?q=SELECT%201&q=2", "/v0/sql?q=***&q=***"),
        ("/v0/sql?q=a&amp;=b?c", "/v0/sql?q=***&amp;=b?c"),
    ],
)
async def test_shown_url(url: str, shown: str) -> None:
    assert shown_url(url) == shown


async def test_pipe_stats_has_the_same_by_day_and_pipe(project: Workspace) -> None:
    for path in ("/v0/pipes/latest.json", "/v0/pipes/latest.json", "/v0/pipes/latest.json?limit=x", "/v0/pipes/nope.json"):
        await project.get(path)
    await written(project)
    names = "sum(view_count) AS requests, sum(error_count) AS errors, avgMerge(avg_duration_state) AS latency"
    half = "quantilesTimingMerge(0.9, 0.95, 0.99)(quantile_timing_state) AS q"
    sql = f"SELECT pipe_name, any(pipe_id) AS id, {names}, {half} FROM tinybird.pipe_stats GROUP BY pipe_name FORMAT JSON"
    found = {row["pipe_name"]: row for row in await project.rows(f"/v0/sql?q={quote(sql)}")}
    assert (found["latest"]["requests"], found["latest"]["errors"]) in ((3, 1), (3, 0)) and found["nope"]["errors"] == 1
    assert found["latest"]["id"].startswith("t_") and found["latest"]["latency"] > 0 and len(found["latest"]["q"]) == 3
    described = await project.rows(f"/v0/sql?q={quote('SELECT * FROM tinybird.pipe_stats LIMIT 0 FORMAT JSON')}")
    assert described == []
    token = project.jwt({"type": "DATASOURCES:READ", "resource": "tinybird.pipe_stats"}, context={"customer_id": "a"})
    reply = await project.get(f"/v0/sql?q={quote('SELECT * FROM tinybird.pipe_stats')}", token=token)
    assert reply.status in (400, 403), reply.text
