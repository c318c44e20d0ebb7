"""Rows leave a data source: by a condition, lightly, all of them; and who may do so."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from serving import Reply, Workspace

pytestmark = pytest.mark.anyio

TABLE = "SCHEMA >\n    k String,\n    n Int32\n\nENGINE MergeTree\nENGINE_PARTITION_KEY n % 2\nENGINE_SORTING_KEY k\nTOKEN adding APPEND\n"
TOTALS = "SCHEMA >\n    k String,\n    n Int32\n\nENGINE MergeTree\nENGINE_SORTING_KEY k\n"
VIEW = "NODE seen\nSQL >\n    SELECT k, n FROM t\nTYPE materialized\nDATASOURCE totals\n"


@pytest.fixture
async def project(workspace: Workspace) -> Workspace:
    await workspace.deploy({"datasources/t.datasource": TABLE, "datasources/totals.datasource": TOTALS, "pipes/v.pipe": VIEW})
    await workspace.send("t", [{"k": f"k{n}", "n": n} for n in range(10)])
    return workspace


async def count(workspace: Workspace, what: str = "t") -> int:
    (row,) = await workspace.rows(f"/v0/sql?q={quote(f'SELECT count() AS n FROM {what} FORMAT JSON')}")
    return int(row["n"])


async def delete(workspace: Workspace, path: str, **options: Any) -> Reply:
    token = options.pop("token", "admin")
    body = "&".join(f"{key}={quote(str(value))}" for key, value in options.items())
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return await workspace.post(path, data=body.encode(), headers=headers, token=token)


async def test_a_condition_deletes_its_rows_and_no_others(project: Workspace) -> None:
    dry = await delete(project, "/v0/datasources/t/delete", delete_condition="n >= 7", dry_run="true")
    assert dry.json == {"rows_to_be_deleted": 3}
    assert await count(project) == 10
    reply = await delete(project, "/v0/datasources/t/delete", delete_condition="n >= 7")
    assert reply.status == 200, reply.text
    assert reply.json["delete_id"] == reply.json["job_id"]
    await project.server.jobs.ended(reply.json["job_id"])
    job = (await project.get(f"/v0/jobs/{reply.json['job_id']}")).json
    assert (job["status"], job["kind"], job["rows_affected"]) == ("done", "delete_data", 3), job
    assert await count(project) == 7
    assert await count(project, "totals") == 10, "a delete does not go on into what views made"


async def test_events_that_were_acknowledged_before_are_deleted_too(project: Workspace) -> None:
    await project.send("t", [{"k": "late", "n": 99}], wait=False)
    reply = await delete(project, "/v1/datasources/t/delete", delete_condition="n = 99", wait="true")
    assert reply.json["rows_affected"] == 1, reply.text
    assert sorted(reply.json["mutation"]) == ["partitions_done", "partitions_in_progress", "partitions_scanned"]
    assert await count(project) == 10
    some = await delete(project, "/v1/datasources/t/delete", delete_condition="n > 0", wait="true", partition="0")
    assert (some.json["rows_affected"], some.json["mutation"]["partitions_done"]) == (4, ["0"]), some.text
    assert await count(project) == 6


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "1) OR (1",
        "n IN (SELECT n FROM totals)",
        "n = 1; DROP TABLE t",
        "n = 1 SETTINGS max_threads = 1",
        "dictGet('x', 'y', k) = 1",
        "sleep(3)",
        "nothing = 1",
        "k",
        "file('/etc/passwd') = ''",
    ],
)
async def test_a_condition_is_one_expression_over_the_tables_columns(project: Workspace, condition: str) -> None:
    for path in ("/v0/datasources/t/delete", "/v1/datasources/t/delete"):
        reply = await delete(project, path, delete_condition=condition)
        assert reply.status == 400, (condition, reply.text)
    assert await count(project) == 10


async def test_truncate_also_the_quarantine(project: Workspace) -> None:
    await project.send("t", [{"k": "bad", "n": "x"}])
    assert await count(project, "t_quarantine") == 1
    reply = await project.post("/v0/datasources/t_quarantine/truncate")
    assert (reply.status, reply.body) == (205, b"")
    assert (await count(project, "t_quarantine"), await count(project)) == (0, 10)
    await project.send("t", [{"k": "late", "n": 99}], wait=False)
    assert (await project.post("/v0/datasources/t/truncate")).status == 205
    assert (await count(project), await count(project, "totals")) == (0, 11)
    await project.send("t", [{"k": "new", "n": 1}])
    assert await count(project) == 1


async def test_only_the_workspaces_own_tokens_that_may(project: Workspace) -> None:
    tenant = project.jwt({"type": "DATASOURCES:APPEND", "resource": "t"}, {"type": "DATASOURCES:READ", "resource": "t"}, {"type": "ADMIN"})
    listed = (await project.get("/v0/tokens")).json["tokens"]
    adding = next(t["token"] for t in listed if t["name"] == "adding")
    dropping = (await project.post("/v0/tokens?name=d&scope=DATASOURCES:DROP:t")).json["token"]
    for token in (tenant, adding):
        for path in ("/v0/datasources/t/delete", "/v1/datasources/t/delete", "/v0/datasources/t/truncate", "/v0/datasources?mode=replace&name=t", "/v1/datasources/t/replace"):
            reply = await delete(project, path, token=token, delete_condition="1")
            assert reply.status == 403, (path, reply.text)
    assert await count(project) == 10
    reply = await delete(project, "/v1/datasources/t/delete", token=dropping, delete_condition="n = 1", wait="true")
    assert reply.json["rows_affected"] == 1, reply.text
    assert (await delete(project, "/v0/datasources/nope/truncate", token=dropping)).status == 403
    assert (await delete(project, "/v0/datasources/nope/truncate")).status == 404
