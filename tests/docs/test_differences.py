"""docs/differences.md: what it says of questions that Tinybird's documentation leaves open, tried on a real server."""

from __future__ import annotations

import sys

import pytest

from pages import DOCS, tables
from pipit.errors import ProjectError
from serving import Workspace

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.anyio

ROWS = [{"who": "a", "n": 1}, {"who": "b", "n": 2}]
NODE = "NODE n\nSQL >\n    %\n    {sql}\nTYPE endpoint\n"
PROJECT = {
    "datasources/landing.datasource": "SCHEMA >\n    `who` String `json:$.who`,\n    `n` UInt32 `json:$.n`\n",
    "pipes/of_one.pipe": "FIXED_PARAMS who\n\n"
    + NODE.format(sql="SELECT * FROM landing WHERE who = {{String(who)}}"),
    "pipes/through.pipe": NODE.format(sql="SELECT n FROM of_one"),
    "pipes/first.pipe": NODE.format(sql="SELECT n FROM landing ORDER BY n LIMIT 1"),
    "pipes/every.pipe": NODE.format(sql="SELECT n FROM landing ORDER BY n"),
    "pipes/day.pipe": NODE.format(sql="SELECT toDate({{Date(d)}}) AS d"),
}


@pytest.fixture
async def project(workspace: Workspace) -> Workspace:
    await workspace.deploy(PROJECT)
    assert (await workspace.send("landing", ROWS)).status == 200
    return workspace


def test_there_is_a_line_for_every_question() -> None:
    (table,) = tables(DOCS / "differences.md", "## Questions that the dialect leaves open")
    assert len(table.rows) == 16 and all(row[1] for row in table.rows)


async def test_sql_without_format(project: Workspace) -> None:
    plain = await project.get("/v0/sql?q=SELECT+1+AS+x")
    assert plain.headers["Content-Type"].startswith("text/tab-separated-values") and plain.text == "1\n"
    asked = await project.get("/v0/sql?q=SELECT+1+AS+x", headers={"Accept": "application/json"})
    assert asked.json["data"] == [{"x": 1}]


async def test_events(project: Workspace) -> None:
    token = project.jwt({"type": "DATASOURCES:APPEND", "resource": "landing"})
    body = b'{"who":"c","n":3}\n'
    assert (await project.post("/v0/events?name=nope", data=body)).status == 404
    assert (await project.post("/v0/events?name=nope", data=body, token=token)).status == 403
    assert (await project.post("/v0/events?name=landing", data=body, token=token)).status == 202
    packed = await project.post(
        "/v0/events?name=landing&wait=true", data=zstd.compress(body), headers={"Content-Encoding": "zstd"}
    )
    assert (packed.status, packed.json) == (200, {"successful_rows": 1, "quarantined_rows": 0})


async def test_tokens(project: Workspace) -> None:
    for token in (None, "nonsense"):
        assert (await project.get("/v0/pipes/every.json", token=token)).status == 403


async def test_headers_and_rows_before_the_limit(project: Workspace) -> None:
    whole, cut = await project.get("/v0/pipes/every.json"), await project.get("/v0/pipes/first.json")
    assert "rows_before_limit_at_least" not in whole.json and cut.json["rows_before_limit_at_least"] == 2
    headers = {name.lower(): value for name, value in whole.headers.items()}
    assert headers["cache-control"] == "private, no-store" and headers["x-request-id"]
    assert "authorization" in headers["vary"].lower() and headers["x-content-type-options"] == "nosniff"


async def test_dates(project: Workspace) -> None:
    assert (await project.rows("/v0/pipes/day.json?d=2026-03-09")) == [{"d": "2026-03-09"}]
    assert (await project.get("/v0/pipes/day.json?d=20260309")).status == 400


@pytest.mark.parametrize(("name", "allowed"), [("select", False), ("system", False), ("rows", True), ("top", True)])
async def test_reserved_names(workspace: Workspace, name: str, allowed: bool) -> None:
    files = {f"pipes/{name}.pipe": NODE.format(sql="SELECT 1 AS x")}
    if allowed:
        assert (await workspace.deploy(files, check=True)).result == "success"
    else:
        with pytest.raises(ProjectError, match="cannot be the name of a resource"):
            await workspace.deploy(files, check=True)


async def test_what_a_token_fixes_is_that_of_the_pipe_that_is_asked(project: Workspace) -> None:
    outer, inner = ({"type": "PIPES:READ", "resource": pipe} for pipe in ("through", "of_one"))
    fixed = project.jwt(outer | {"fixed_params": {"who": "a"}})
    assert await project.rows("/v0/pipes/through.json?who=b", token=fixed) == [{"n": 1}]
    beside = project.jwt(outer, inner | {"fixed_params": {"who": "a"}})
    reply = await project.get("/v0/pipes/through.json?who=b", token=beside)
    assert reply.status == 403 and "'who'" in reply.json["error"], reply.text
