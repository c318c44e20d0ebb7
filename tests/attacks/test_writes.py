"""What a write says, and whom it stops: senders of one table share its segments, and views read other tables.

K32: no text of the engine's reaches a tenant or an append token on a write. K33: nor on any other door. (K30 and K31 are
in tests/ingest/test_isolate.py: whose rows a refused row keeps out of a view.)
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipit.api.app import app_for
from pipit.api.requests import authenticate
from pipit.engine.failures import engine_error
from pipit.tables import Mode
from serving import Reply, Workspace
from waiting import until

pytestmark = pytest.mark.anyio

LANDING = """
TOKEN collector APPEND

SCHEMA >
    `id` Int32 `json:$.id`,
    `customer_id` String `json:$.customer_id`,
    `amount` String `json:$.amount`

ENGINE MergeTree
ENGINE_SORTING_KEY id
"""
ROLLUP = """
SCHEMA >
    `id` Int32,
    `customer_id` String,
    `amount` UInt32

ENGINE MergeTree
ENGINE_SORTING_KEY id
"""
RATES = """
SCHEMA >
    `customer_id` String `json:$.customer_id`,
    `rate` String `json:$.rate`

ENGINE MergeTree
ENGINE_SORTING_KEY customer_id
"""
VIEW = """
NODE into_rollup
SQL >
    SELECT id, customer_id, toUInt32(amount) AS amount FROM landing
TYPE materialized
DATASOURCE rollup
"""
JOINED = """
NODE with_rates
SQL >
    SELECT l.id AS id, l.customer_id AS customer_id, toUInt32(r.rate) AS amount
    FROM landing AS l CROSS JOIN rates AS r
TYPE materialized
DATASOURCE rollup
"""
FILES = {"datasources/landing.datasource": LANDING, "datasources/rollup.datasource": ROLLUP}
SECRET = "12-of-B-secret"


def append_token(workspace: Workspace, kind: str) -> str:
    if kind == "static":
        return next(t.token for t in workspace.server.catalog.tokens(workspace.id) if t.name == "collector")
    scope: dict[str, Any] = {"type": "DATASOURCES:APPEND", "resource": "landing"}
    return workspace.jwt(scope, context={"customer_id": "A"}) if kind == "jwt" else "admin"


async def send(workspace: Workspace, token: str, *rows: dict[str, Any]) -> Reply:
    body = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return await workspace.post("/v0/events?name=landing&wait=true", token=token, data=body)


@pytest.mark.parametrize("kind", ["jwt", "static", "admin"])
async def test_k32_a_refused_write_tells_the_engines_words_to_who_may_read_all_rows(
    workspace: Workspace, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The view fails on B's rate, whatever A sends."""
    await workspace.deploy({**FILES, "datasources/rates.datasource": RATES, "materializations/joined.pipe": JOINED})
    await workspace.send("rates", [{"customer_id": "B", "rate": SECRET}])
    with caplog.at_level(logging.WARNING, "pipit.api"):
        reply = await send(workspace, append_token(workspace, kind), {"id": 1, "customer_id": "A", "amount": "1"})
    assert reply.status == 422
    id = reply.headers["X-Request-Id"]
    (told,) = [r.getMessage() for r in caplog.records if id in r.getMessage()]
    assert SECRET in told
    if kind == "admin":
        assert SECRET in reply.text
        return
    assert reply.json == {
        "error": "The events were stored, but a materialized view failed on them",
        "code": "unprocessable_write",
        "reason": "view_failed",
        "documentation": "/docs/errors.html#unprocessable_write",
        "hint": "Do not send them again: the view is fed when it works again. "
        f"The workspace's owner finds the reason in the server's log, under {id}.",
    }


@pytest.mark.parametrize("kind", ["jwt", "static"])
async def test_k32_a_good_event_beside_anothers_bad_one_is_told_nothing_of_it(workspace: Workspace, kind: str) -> None:
    """One segment: B's event is refused by the view, A's is in it. Each is told of its own."""
    await workspace.deploy({**FILES, "materializations/parsed.pipe": VIEW})
    token = append_token(workspace, kind)
    table = workspace.server.catalog.snapshot(workspace.id).tables["landing"]
    ingest = workspace.server.ingest
    bodies = [{"id": 1, "customer_id": "A", "amount": "7"}, {"id": 2, "customer_id": "B", "amount": SECRET}]
    async with workspace.server.locks.acquire([table.key], Mode.ALTER):
        waiting = [asyncio.create_task(send(workspace, token, body)) for body in bodies]
        await until(lambda: ingest.pending(table.database, table.physical).rows >= 2)
    good, bad = await asyncio.gather(*waiting)
    assert (good.status, good.json) == (200, {"successful_rows": 1, "quarantined_rows": 0})
    assert (bad.status, bad.json) == (200, {"successful_rows": 0, "quarantined_rows": 1})
    rollup = await workspace.rows("/v0/sql?q=SELECT+id,amount+FROM+rollup+FORMAT+JSON")
    assert rollup == [{"id": 1, "amount": 7}]
    why = await workspace.rows("/v0/sql?q=SELECT+id,c__error+FROM+landing_quarantine+FORMAT+JSON")
    assert [row["id"] for row in why] == ["2"]
    assert "the materialized view 'parsed.into_rollup'" in why[0]["c__error"][0]
    assert SECRET in why[0]["c__error"][0]  # the quarantine is the workspace's own


@pytest.mark.parametrize("code", [6, 43, 47, 395, 117])
async def test_k33_an_engines_text_that_comes_through_any_door_is_not_shown_to_a_tenant(
    workspace: Workspace, code: int
) -> None:
    """Whatever route lets it through: what renders errors decides by who asks."""

    async def leaky(request: Request) -> Response:
        if request.url.path != "/nobody":
            authenticate(request)
        raise engine_error(code, f"Code: {code}. DB::Exception: Cannot parse '{SECRET}'")

    app = app_for(workspace.server, extra_routes=[Route("/leaky", leaky), Route("/nobody", leaky)])
    for path, token, sees in (
        ("/leaky", workspace.jwt({"type": "PIPES:READ", "resource": "x"}), False),
        ("/nobody", None, False),
        ("/leaky", workspace.admin_token, True),
    ):
        status, text = await ask(app, path, token)
        assert status == 400
        assert (SECRET in text) is sees
        assert ("The engine refused the statement" in text) is not sees


async def ask(app: Any, path: str, token: str | None) -> tuple[int, str]:
    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 1),
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def keep(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, keep)
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:]).decode()
