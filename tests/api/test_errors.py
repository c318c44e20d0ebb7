"""Every refusal: its documented status and shape, and nothing else happens."""

from __future__ import annotations

import time

import aiohttp
import jwt as pyjwt
import pytest

from pipit.api.docs import error_classes
from projects import ROWS, TENANTS
from serving import Reply, Workspace

pytestmark = pytest.mark.anyio


def canonical(reply: Reply, status: int, code: str) -> str:
    """The one shape of errors; the message."""
    assert reply.status == status, reply.text
    body = reply.json
    assert set(body) <= {"error", "code", "documentation", "hint", "errors", "result", "filename", "line", "column"}
    assert body["code"] == code
    assert body["documentation"]
    assert reply.headers["Content-Type"].startswith("application/json")
    assert reply.headers["X-Request-Id"]
    for leak in ("Traceback", "d1_", "pipit_test", "ClickHouse", "DB::", "/pipit/"):
        assert leak not in reply.text, reply.text
    message: str = body["error"]
    return message


@pytest.fixture
async def deployed(workspace: Workspace) -> Workspace:
    await workspace.deploy(TENANTS)
    await workspace.send("events", ROWS)
    return workspace


async def row_count(workspace: Workspace) -> int:
    rows = await workspace.rows("/v0/sql?q=SELECT%20count()%20AS%20n%20FROM%20events%20FORMAT%20JSON")
    return int(rows[0]["n"])


async def test_bad_datafile(deployed: Workspace) -> None:
    form = aiohttp.FormData()
    form.add_field("data_project://", b"SCHEMA >\n    a Strin", filename="datasources/x.datasource")
    before = deployed.server.catalog.snapshot(deployed.id)
    reply = await deployed.post("/v1/deploy", data=form)
    assert reply.status == 400 and reply.json["result"] == "failed"
    assert "datasources/x.datasource" in [e["filename"] for e in reply.json["errors"]]
    assert deployed.server.catalog.snapshot(deployed.id) is before


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("limit=x", "Template Syntax Error: Error validating 'x' to type Int32"),
        ("limit=99999999999", "Template Syntax Error: Error validating '99999999999' to type Int32"),
        ("limit=1;DROP TABLE x", "Template Syntax Error: Error validating '1;DROP TABLE x' to type Int32"),
    ],
)
async def test_bad_parameter(deployed: Workspace, query: str, text: str) -> None:
    reply = await deployed.get(f"/v0/pipes/latest.json?{query.replace(' ', '%20')}")
    assert canonical(reply, 400, "template_error") == text


async def test_missing_parameter(deployed: Workspace) -> None:
    reply = await deployed.get("/v0/pipes/by_param.json")
    assert canonical(reply, 400, "template_error") == (
        "Template Syntax Error: Required parameter is not defined. Check the parameters customer_id. "
        "Please provide a value or set a default value in the pipe code."
    )


async def test_bad_tokens(deployed: Workspace) -> None:
    good = deployed.tenant("latest", customer_id="a")
    head, payload, signature = good.split(".")
    other = pyjwt.encode(
        {"workspace_id": deployed.id, "name": "x", "exp": time.time() + 60, "scopes": []}, "k" * 40, algorithm="HS256"
    )
    tokens = {
        "": "no token",
        "nonsense": "",
        f"{head}.{payload}.": "",
        f"{head}.{payload}.{signature[:-2]}": "",
        other: "",
        deployed.jwt({"type": "PIPES:READ", "resource": "latest"}, ttl=-1): "expired",
        deployed.jwt({"type": "PIPES:READ", "resource": "latest"}, workspace_id="nowhere"): "",
    }
    for token, word in tokens.items():
        reply = await deployed.get("/v0/pipes/latest.json", token=token)
        assert word in canonical(reply, 403, "forbidden"), token
    reply = await deployed.get("/v0/pipes/latest.json", token=None)
    canonical(reply, 403, "forbidden")
    both = await deployed.get(f"/v0/pipes/latest.json?token={good}", token=good)
    canonical(both, 400, "bad_request")


async def test_unknown_pipe_and_data_source(deployed: Workspace) -> None:
    assert canonical(await deployed.get("/v0/pipes/nope.json"), 404, "not_found") == "The pipe 'nope' does not exist"
    assert canonical(await deployed.get("/v0/pipes/nope"), 404, "not_found") == "Pipe 'nope' not found"
    reply = await deployed.get("/v0/datasources/nope")
    assert canonical(reply, 404, "not_found") == 'Data Source "nope" does not exist'
    assert "nope" in canonical(await deployed.post("/v0/events?name=nope", data=b"{}"), 404, "not_found")
    canonical(await deployed.get("/v0/pipes/daily_view.json"), 404, "not_found")
    canonical(await deployed.get("/v0/pipes/latest.xml"), 404, "not_found")
    canonical(await deployed.get("/v9/nothing"), 404, "not_found")


async def test_missing_scope(deployed: Workspace) -> None:
    reader = deployed.tenant("latest", customer_id="a")
    for path in ("/v0/pipes/totals.json", "/v0/tokens", "/v0/variables", "/v0/datasources", "/v1/deployments"):
        canonical(await deployed.get(path, token=reader), 403, "forbidden")
    before = await row_count(deployed)
    canonical(await deployed.post("/v0/events?name=events", token=reader, data=b"{}"), 403, "forbidden")
    canonical(await deployed.get("/v0/sql?q=SELECT%201", token=reader), 403, "forbidden")
    canonical(await deployed.post("/v0/sql", token=reader, data=b"SELECT 1"), 403, "forbidden")
    canonical(await deployed.get("/v0/pipes/latest.json?q=SELECT%201%20FROM%20_", token=reader), 403, "forbidden")
    canonical(await deployed.post("/v1/deploy", token=reader, data=b""), 403, "forbidden")
    canonical(await deployed.post("/v1/workspaces?name=mine", token=reader), 403, "forbidden")
    canonical(await deployed.post("/v1/workspaces?name=mine"), 403, "forbidden")
    tokens = {t.name: t.token for t in deployed.server.catalog.tokens(deployed.id)}
    canonical(await deployed.get("/v0/pipes/latest.json", token=tokens["ingest"]), 403, "forbidden")
    assert await row_count(deployed) == before


async def test_oversized_bodies_and_urls(deployed: Workspace) -> None:
    limit = deployed.server.config.max_event_bytes
    before = await row_count(deployed)
    reply = await deployed.post("/v0/events?name=events&wait=true", data=b" " * (limit + 1))
    canonical(reply, 413, "too_large")
    canonical(await deployed.get("/v0/pipes/latest.json?x=" + "y" * 9000), 414, "uri_too_long")
    assert await row_count(deployed) == before


async def test_methods(deployed: Workspace) -> None:
    for method in ("DELETE", "PUT", "PATCH", "TRACE"):
        assert (await deployed.request(method, "/v0/pipes/latest.json")).status == 405
    assert (await deployed.request("HEAD", "/v0/pipes/latest.json", token=None)).status == 403
    head = await deployed.request("HEAD", "/v0/pipes/latest.json")
    assert (head.status, head.body) == (200, b"")


async def test_bad_sql_says_what_without_our_names(deployed: Workspace) -> None:
    for sql in (
        "SELECT nothing FROM events",
        "SELECT * FROM nothing",
        "SELEC 1",
        "SELECT 1; SELECT 2",
        "SELECT throwIf(1) FROM events",
        "INSERT INTO events SELECT * FROM events",
    ):
        reply = await deployed.post("/v0/sql", data=sql.encode())
        assert reply.status in (400, 403), sql
        canonical(reply, reply.status, reply.json["code"])


async def test_the_error_page_lists_the_tree(deployed: Workspace) -> None:
    page = await deployed.get("/docs/errors.html", token=None)
    for kind in error_classes():
        assert f'id="{kind.code}"' in page.text
        assert (kind.__doc__ or "").strip(), kind
    codes = [kind.code for kind in error_classes()]
    assert len(codes) == len(set(codes))
