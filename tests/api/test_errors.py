"""Every refusal: its documented status and shape, and nothing else happens."""

from __future__ import annotations

import inspect
import json
import re
import time

import aiohttp
import jwt as pyjwt
import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from pipit import errors
from pipit.api.app import app_for
from pipit.reasons import Reason
from projects import ROWS, TENANTS
from serving import Reply, Workspace

pytestmark = pytest.mark.anyio


def canonical(reply: Reply, status: int, code: str) -> str:
    """The one shape of errors; the message."""
    assert reply.status == status, reply.text
    body = reply.json
    places = {"parameter", "filename", "line", "column"}
    assert set(body) <= {"error", "code", "reason", "documentation", "hint", "errors", "result"} | places
    assert body["code"] == code
    assert body["reason"] in list(Reason)
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
    reply = await deployed.post("/v1/deploy?auto_promote=true", data=form)
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


def drawn() -> dict[str, tuple[str, str, str]]:
    """The tree in the module's docstring: class -> (code, status, the class it stands under)."""
    found: dict[str, tuple[str, str, str]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        row = re.match(r"    ((?:[│ ] {3})*(?:[├└]── )?)([A-Z]\w+) +([a-z_]+) +(\d+|any)\b", line)
        if row:
            depth = len(row[1]) // 4
            above[depth:] = [row[2]]
            found[row[2]] = (row[3], row[4], above[depth - 1] if depth else "Exception")
    return found


def test_the_tree_is_drawn_as_it_is() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.PipitError)]
    actual = {
        kind.__name__: (
            kind.code,
            "any" if "status" in inspect.signature(kind).parameters else str(kind.status),
            (kind.__bases__[0]).__name__,
        )
        for kind in classes
    }
    assert drawn() == actual


async def test_the_error_page_lists_every_error_once(deployed: Workspace) -> None:
    page = (await deployed.get("/docs/errors.html", token=None)).text
    shown = re.findall(r'<dt id="(\w+)"><code>(\w+)</code> &middot; (\d+)</dt><dd>([^<]+)</dd>', page)
    tree = {code: status for code, status, _ in drawn().values()}
    assert [code for code, *_ in shown] == [code for _, code, _, _ in shown]
    assert sorted(code for code, *_ in shown) == sorted(tree)
    assert {code: status for code, _, status, _ in shown} == {
        code: "400" if status == "any" else status for code, status in tree.items()
    }


async def test_a_browser_may_read_every_refusal(deployed: Workspace) -> None:
    """Also those that are made before any route is reached."""
    origin = {"Origin": "https://app.example"}
    paths = {"/v0/pipes/latest.json?x=" + "y" * 9000: 414, "/v0/pipes/latest.json?token=x": 400, "/v9": 404}
    for path, status in paths.items():
        reply = await deployed.get(path, headers=origin)
        assert (reply.status, reply.headers.get("Access-Control-Allow-Origin")) == (status, "*")
        assert "X-Request-Id" in reply.headers["Access-Control-Expose-Headers"]


async def test_a_500_says_nothing_but_its_id_and_a_browser_may_read_it(
    deployed: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: Request) -> Response:
        raise RuntimeError("the secret of d1_events")

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/fail", "raw_path": b"/fail", "query_string": b""}
    app = app_for(deployed.server, extra_routes=[Route("/fail", fail)])
    await app(scope | {"headers": [(b"origin", b"https://app.example")]}, receive, send)
    headers = Headers(raw=sent[0]["headers"])
    body = json.loads(sent[1]["body"])
    assert sent[0]["status"] == 500 and body["code"] == "internal_error"
    assert headers["access-control-allow-origin"] == "*" and headers["x-request-id"] in body["hint"]
    assert "secret" not in sent[1]["body"].decode() and headers["x-request-id"] in caplog.text


async def test_what_pipit_itself_says_keeps_the_name_that_was_asked_for(deployed: Workspace) -> None:
    """The engine's names become people's in the engine's messages alone: `events` is there, `d1_events` is nothing."""
    physical = deployed.server.catalog.snapshot(deployed.id).tables["events"].physical
    reply = await deployed.get(f"/v0/sql?q=SELECT%20*%20FROM%20{physical}")
    assert (reply.status, reply.json["error"]) == (400, f"Resource '{physical}' not found")
