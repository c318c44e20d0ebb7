"""Tenant SQL under attack (ATTACKS D, E01, E02, E04, E05): the holder of a JWT for A writes the text, B has the canary."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from pipit.catalog.state import WorkspaceSettings
from projects import CANARY, DAILY, ROWS, TENANTS
from serving import Reply, Workspace

pytestmark = pytest.mark.anyio

SECRET = "SCHEMA >\n    customer_id String `json:$.customer_id`,\n    x String `json:$.x`\n\nENGINE MergeTree\n" + (
    "ENGINE_SORTING_KEY customer_id\nROW_POLICY customer_id = {{String(context.customer_id)}}\n"
)
COUNTRIES = (
    "SCHEMA >\n    code String `json:$.code`\n\nENGINE MergeTree\nENGINE_SORTING_KEY code\n"
    "ROW_POLICY none REASON 'the same list for everybody'\n"
)
BARE = "SCHEMA >\n    customer_id String `json:$.customer_id`\n\nENGINE MergeTree\nENGINE_SORTING_KEY customer_id\n"
FILES = TENANTS | {
    "datasources/sec.datasource": SECRET,
    "datasources/countries.datasource": COUNTRIES,
    "datasources/bare.datasource": BARE,
}
SCOPES = [{"type": "DATASOURCES:READ", "resource": name} for name in ("events", "daily", "countries", "bare")]


async def opened(workspace: Workspace, files: dict[str, str] | None = None) -> Workspace:
    await workspace.deploy(FILES | (files or {}))
    await workspace.server.catalog.put_settings(workspace.id, WorkspaceSettings(tenant_sql=True))
    await workspace.send("events", ROWS)
    await workspace.send("sec", [{"customer_id": "a", "x": "mine"}, {"customer_id": "b", "x": "canary_b_sec"}])
    await workspace.send("countries", [{"code": "de"}, {"code": "fr"}])
    return workspace


def token(workspace: Workspace, *scopes: dict[str, Any], **context: Any) -> str:
    return workspace.jwt(*(scopes or SCOPES), context=context or {"customer_id": "a"})


async def ask(workspace: Workspace, sql: str, *, jwt: str = "", url: str = "") -> Reply:
    reply = await workspace.post(f"/v0/sql{url}", token=jwt or token(workspace), data=sql.encode("utf-8", "surrogateescape"))
    for canary in (str(CANARY), str(CANARY + 1), "canary", "d1_", "pipit_", "DB::Exception", "ClickHouse", workspace.database):
        assert canary not in reply.body.decode("utf-8", "replace"), (sql, reply.body)
    return reply


def is_refused(reply: Reply) -> bool:
    """The one answer: the same for all but the request's id."""
    body = {k: v for k, v in reply.json.items() if k != "hint"}
    wanted = {
        "error": "The query cannot be run",
        "code": "query_refused",
        "documentation": "/docs/errors.html#query_refused",
    }
    assert reply.status != 400 or (body == wanted and reply.headers["X-Request-Id"] in reply.json["hint"]), reply.text
    return reply.status == 400


async def test_plain_sql_works(workspace: Workspace) -> None:
    await opened(workspace)
    cases = {
        "SELECT customer_id, amount FROM events ORDER BY amount FORMAT CSV": '"a",1\n"a",2\n"a",3\n',
        "SELECT count() FROM events": "3\n",
        "WITH x AS (SELECT sum(amount) AS s FROM events) SELECT s FROM x;": "6\n",
        "SELECT countMerge(events) FROM daily": "3\n",
        "SELECT action, count() FROM events AS e GROUP BY action ORDER BY action": "click\t2\nview\t1\n",
        "SELECT code FROM countries ORDER BY code": "de\nfr\n",
        "SELECT e.amount, c.code FROM events e CROSS JOIN countries c ORDER BY 1, 2 LIMIT 1": "1\tde\n",
        "SELECT number, toDate('2026-01-01') + number FROM numbers(2)": "0\t2026-01-01\n1\t2026-01-02\n",
        "SELECT 1": "1\n",
        "(SELECT 1) UNION ALL (SELECT 1)": "1\n1\n",
        "SELECT amount FROM events WHERE action IN ('view')": "3\n",
        "SELECT amount FROM events WHERE amount IN (SELECT max(amount) FROM events)": "3\n",
        "SELECT quantile(0.5)(amount), uniq(team), groupArray(amount) FROM events": "2\t2\t[1,2,3]\n",
        "SELECT row_number() OVER (ORDER BY amount) AS n, amount FROM events ORDER BY n": "1\t1\n2\t2\n3\t3\n",
        "SELECT * FROM values('a Int8', 1)": "1\n",
    }
    for sql, answer in cases.items():
        reply = await ask(workspace, sql)
        assert (reply.status, reply.text) == (200, answer), (sql, reply.text)
    reply = await workspace.get(f"/v0/sql?q={quote('SELECT count() AS n FROM events FORMAT JSON')}", token=token(workspace))
    assert reply.json["data"] == [{"n": 3}]


async def test_off_unless_the_workspace_turns_it_on(workspace: Workspace) -> None:
    await workspace.deploy(FILES)
    reply = await ask(workspace, "SELECT 1")
    assert (reply.status, reply.json["code"]) == (403, "forbidden")
