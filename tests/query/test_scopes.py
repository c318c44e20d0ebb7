"""What a workspace's static token may read with SQL of its own: what its scopes name, on every route."""

from __future__ import annotations

import pytest

from projects import ROWS, TENANTS
from serving import Workspace

pytestmark = pytest.mark.anyio


@pytest.fixture
async def reader(workspace: Workspace) -> tuple[Workspace, str]:
    """A token with PIPES:READ:latest, and nothing else."""
    await workspace.deploy(
        TENANTS | {"endpoints/latest.pipe": "TOKEN reader READ\n" + TENANTS["endpoints/latest.pipe"]}
    )
    await workspace.send("events", ROWS)
    token = next(t.token for t in workspace.server.catalog.tokens(workspace.id) if t.name == "reader")
    return workspace, token


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM events",
        "SELECT * FROM totals",
        "SELECT * FROM _ UNION ALL SELECT customer_id, team, action, amount FROM events",
        "SELECT (SELECT count() FROM events) AS n FROM _",
        "SELECT * FROM _ WHERE customer_id IN (SELECT customer_id FROM daily)",
        "WITH x AS (SELECT * FROM events) SELECT * FROM x",
        "SELECT * FROM events_quarantine",
        "SELECT count() FROM _ WHERE customer_id IN events",
    ],
)
async def test_q_reads_nothing_beyond_the_scopes(reader: tuple[Workspace, str], sql: str) -> None:
    workspace, token = reader
    reply = await workspace.post("/v0/pipes/latest.json", token=token, data={"q": sql})
    assert reply.status == 403, reply.text
    sent = await workspace.post("/v0/sql", token=token, data={"q": sql.replace("FROM _", "FROM latest")})
    assert sent.status == 403, sent.text


async def test_q_over_the_pipe_itself(reader: tuple[Workspace, str]) -> None:
    workspace, token = reader
    reply = await workspace.post("/v0/pipes/latest.json", token=token, data={"q": "SELECT count() AS n FROM _"})
    assert reply.json["data"] == [{"n": 5}]
    other = await workspace.post("/v0/sql?pipeline=latest", token=token, data={"q": "SELECT count() AS n FROM _"})
    assert other.text == "5\n"
    refused = await workspace.post("/v0/sql?pipeline=totals", token=token, data={"q": "SELECT count() AS n FROM _"})
    assert refused.status == 403


async def test_settings_reach_the_examination(workspace: Workspace) -> None:
    """`union_default_mode` changes whether the text means anything at all."""
    pipe = "NODE n\nSQL >\n    SELECT 1 AS x UNION SELECT 1 AS x SETTINGS union_default_mode = 'ALL'\nTYPE endpoint\n"
    await workspace.deploy(TENANTS | {"endpoints/united.pipe": pipe})
    assert len(await workspace.rows("/v0/pipes/united.json")) == 2


async def test_fixed_params_are_strict_too(workspace: Workspace) -> None:
    bare = TENANTS["datasources/events.datasource"].split("ROW_POLICY >")[0]
    daily = TENANTS["datasources/daily.datasource"].split("\nROW_POLICY")[0] + "\n"
    own = TENANTS["endpoints/by_param.pipe"].replace("FIXED_PARAMS customer_id\n", "")
    await workspace.deploy(
        TENANTS
        | {"datasources/events.datasource": bare, "datasources/daily.datasource": daily, "endpoints/own.pipe": own}
    )
    await workspace.send("events", ROWS)
    fixed_by_the_token = {"type": "PIPES:READ", "resource": "own", "fixed_params": {"customer_id": "a"}}
    reply = await workspace.get("/v0/pipes/own.json", token=workspace.jwt(fixed_by_the_token))
    assert reply.status == 200 and "statistics" not in reply.json
    fixed = workspace.jwt({"type": "PIPES:READ", "resource": "by_param", "fixed_params": {"customer_id": "a"}})
    assert "statistics" not in (await workspace.get("/v0/pipes/by_param.json", token=fixed)).json
    plain = workspace.jwt({"type": "PIPES:READ", "resource": "latest"})
    assert "statistics" in (await workspace.get("/v0/pipes/latest.json", token=plain)).json
