"""What a query gives against what its target holds: said at check with both places, and never cut when rows come."""

from __future__ import annotations

from typing import Any

import pytest

from pipit.api.deployments import deployment_object
from pipit.deploy.check import Checked, check_files
from pipit.deploy.plan import Cause
from pipit.engine import Engine
from pipit.ingest import match
from pipit.ingest.convert import Conversion
from serving import Reply, Workspace

pytestmark = pytest.mark.anyio

CLICKS = """SCHEMA >
    `link` String `json:$.link`,
    `v` Int64 `json:$.v`,
    `f` Float64 `json:$.f`,
    `maybe` Nullable(Int64) `json:$.maybe`

ENGINE MergeTree
ENGINE_SORTING_KEY link
"""
SMALL = "SCHEMA >\n    `link` String,\n    `n` Int8\n\nENGINE MergeTree\nENGINE_SORTING_KEY link\n"
ROW = {"link": "a", "v": 1, "f": 1.0}


def view(sql: str, target: str = "small") -> str:
    return f"NODE m\nSQL >\n    {sql}\n\nTYPE materialized\nDATASOURCE {target}\n"


def copy(sql: str, target: str = "small", mode: str = "append") -> str:
    return f"NODE c\nSQL >\n    {sql}\n\nTYPE copy\nTARGET_DATASOURCE {target}\nCOPY_MODE {mode}\n"


def project(sql: str, target: str = SMALL, kind: str = "view") -> dict[str, str]:
    return {
        "datasources/clicks.datasource": CLICKS,
        "datasources/small.datasource": target,
        "pipes/fill.pipe": view(sql) if kind == "view" else copy(sql),
    }


async def rows(workspace: Workspace, sql: str) -> list[dict[str, Any]]:
    return await workspace.rows(f"/v0/sql?q={sql.replace(' ', '%20')}%20FORMAT%20JSON")


async def run_copy(workspace: Workspace, pipe: str) -> dict[str, Any]:
    reply: Reply = await workspace.post(f"/v0/pipes/{pipe}/copy")
    assert reply.status == 200, reply.text
    id = reply.json["job"]["job_id"]
    await workspace.server.jobs.ended(id)
    found: dict[str, Any] = (await workspace.get(f"/v0/jobs/{id}")).json
    return found


def said(found: Checked) -> list[str]:
    return [str(warning) for warning in found.warnings]


async def test_a_view_refuses_what_its_target_cannot_hold(workspace: Workspace) -> None:
    await workspace.deploy(project("SELECT link, v AS n FROM clicks"))
    good = await workspace.send("clicks", [{**ROW, "v": 127}])
    assert good.json == {"successful_rows": 1, "quarantined_rows": 0}
    bad = await workspace.send("clicks", [{**ROW, "v": 300}])
    assert bad.status == 422 or bad.json["quarantined_rows"] == 1, bad.text
    assert [r["n"] for r in await rows(workspace, "SELECT n FROM small")] == [127]


@pytest.mark.parametrize(
    ("sql", "column", "bad", "fits"),
    [
        ("SELECT link, v AS n FROM clicks", "`n` Int8", {"v": 300}, {"v": -5}),
        ("SELECT link, f AS n FROM clicks", "`n` Int32", {"f": 1.9}, {"f": 3.0}),
        ("SELECT link, maybe AS n FROM clicks", "`n` Int64", {"maybe": None}, {"maybe": 4}),
        ("SELECT link, link AS n FROM clicks", "`n` Date", {"link": "2024-13-45"}, {"link": "2024-01-05"}),
        ("SELECT link, [v] AS n FROM clicks", "`n` Array(UInt8)", {"v": 300}, {"v": 3}),
        ("SELECT link, link AS n FROM clicks", "`n` FixedString(2)", {"link": "abc"}, {"link": "ab"}),
        ("SELECT link, toDateTime64(v, 3) AS n FROM clicks", "`n` DateTime", {"v": 7258118400}, {"v": 0}),
        ("SELECT link, v AS n FROM clicks", "`n` Enum8('x' = 1)", {"v": 2}, {"v": 1}),
        ("SELECT link, toDateTime64(f, 3) AS n FROM clicks", "`n` DateTime", {"f": -0.5}, {"f": 0.5}),
        ("SELECT link, v AS n FROM clicks", "`n` TINYINT", {"v": 300}, {"v": -5}),
        ("SELECT link, f AS n FROM clicks", "`n` Nullable( numeric(5, 2) )", {"f": 1000.5}, {"f": 3.14}),
    ],
)
async def test_a_copy_fails_and_says_which_column(
    workspace: Workspace, sql: str, column: str, bad: dict[str, Any], fits: dict[str, Any]
) -> None:
    await workspace.deploy(project(sql, SMALL.replace("`n` Int8", column), "copy"))
    await workspace.send("clicks", [{**ROW, **fits}])
    assert (await run_copy(workspace, "fill"))["status"] == "done"
    assert len(await rows(workspace, "SELECT n FROM small")) == 1
    await workspace.send("clicks", [{**ROW, **bad}])
    for mode in ("append", "replace"):
        reply = await workspace.post(f"/v0/pipes/fill/copy?_mode={mode}")
        id = reply.json["job"]["job_id"]
        await workspace.server.jobs.ended(id)
        job = (await workspace.get(f"/v0/jobs/{id}")).json
        assert job["status"] == "error"
        assert "'n' does not fit" in job["error"] and "small" in job["error"], job["error"]
        assert "throwIf" not in job["error"]
        assert len(await rows(workspace, "SELECT n FROM small")) == 1


async def test_a_populate_is_checked_too(workspace: Workspace) -> None:
    files = project("SELECT link, v AS n FROM clicks")
    await workspace.deploy({k: v for k, v in files.items() if "clicks" in k})
    await workspace.send("clicks", [{**ROW, "v": 300}])
    with pytest.raises(Exception, match="'n' does not fit"):
        await workspace.deploy(files)  # it fills its target from the rows that are there
    with_skip = files | {"datasources/small.datasource": SMALL + "BACKFILL skip\n"}
    await workspace.deploy(with_skip)
    reply = await workspace.post("/v0/pipes/fill/nodes/m/population")
    id = reply.json["job"]["job_id"]
    await workspace.server.jobs.ended(id)
    job = (await workspace.get(f"/v0/jobs/{id}")).json
    assert job["status"] == "error" and "'n' does not fit" in job["error"]
    assert await rows(workspace, "SELECT n FROM small") == []


async def test_null_becomes_the_default_that_a_column_has(workspace: Workspace) -> None:
    target = SMALL.replace("`n` Int8", "`n` Int8 DEFAULT 7")
    await workspace.deploy(project("SELECT link, maybe AS n FROM clicks", target, "copy"))
    await workspace.send("clicks", [{**ROW, "maybe": None}])
    assert (await run_copy(workspace, "fill"))["status"] == "done"
    assert [r["n"] for r in await rows(workspace, "SELECT n FROM small")] == [7]


@pytest.mark.parametrize("kind", ["view", "copy"])
async def test_check_compares_names_and_types(engine: Engine, kind: str) -> None:
    target = (
        "SCHEMA >\n    `link` String,\n    `n` Int8,\n    `tags` Array(String),\n    `note` Nullable(String),\n"
        "    `k` UInt8 DEFAULT 1\n\nENGINE MergeTree\nENGINE_SORTING_KEY link\n"
    )
    found = await check_files(engine, project("SELECT link AS lnik, v AS n FROM clicks", target, kind))
    assert not found.errors
    warnings = [w for w in found.warnings if w.file == "pipes/fill.pipe"]
    narrowed, unknown, missing = sorted(warnings, key=lambda w: ("'n' is" not in w.message, "lnik" not in w.message))
    assert "'n' is Int64" in narrowed.message and "Int8" in narrowed.message
    assert "datasources/small.datasource:3:5" in narrowed.message
    assert (narrowed.line, narrowed.column) == (3, 31)
    assert "'lnik'" in unknown.message and "'link'" in unknown.hint
    assert "datasources/small.datasource:2:5" in unknown.hint
    assert "'tags'" in missing.message and "'link'" in missing.message
    assert "'note'" not in missing.message and "'k'" not in missing.message
    assert "datasources/small.datasource:4:5" in missing.message


async def test_what_fits_says_nothing(engine: Engine) -> None:
    found = await check_files(
        engine, project("SELECT link, toInt8(1) AS n FROM clicks", SMALL.replace("`n` Int8", "`n` Int64"))
    )
    assert not found.errors and not [w for w in found.warnings if "fill.pipe" in w.file], said(found)


async def test_a_query_with_one_row_over_nothing_is_no_error(engine: Engine) -> None:
    """avg of no rows is nan, which no Int32 holds; no row was there."""
    found = await check_files(
        engine, project("SELECT 'a' AS link, avg(v) AS n FROM clicks", SMALL.replace("`n` Int8", "`n` Int32"))
    )
    assert not found.errors


async def test_a_copy_that_reads_what_is_not_there_is_an_error(engine: Engine) -> None:
    found = await check_files(engine, project("SELECT link, v AS n FROM clikcs", kind="copy"))
    assert [(e.file, e.line) for e in found.errors] == [("pipes/fill.pipe", 3)]
    assert "clikcs" in found.errors[0].message


def _as_it_was(source: str, target: str, x: str, message: str, *, null_is_default: bool = False) -> Conversion:
    return Conversion(x)


async def test_a_live_view_is_made_again_with_its_rows(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an earlier version made it; the same files again."""
    files = project("SELECT link, v AS n FROM clicks")
    with monkeypatch.context() as patched:
        patched.setattr(match, "conversion", _as_it_was)
        await workspace.deploy(files)
        catalog = workspace.server.catalog
        forget(workspace)
    await workspace.send("clicks", [{**ROW, "v": 1}, {**ROW, "v": 2}])
    before = catalog.snapshot(workspace.id).names.views
    planned = await workspace.deploy(files, check=True)
    assert [(made.view.key, made.cause) for made in planned.plan.views_made] == [("fill.m", Cause.CONVERSIONS)]
    outcome = await workspace.deploy(files)
    assert deployment_object(outcome)["changed_pipe_names"] == ["fill"]
    assert outcome.result == "success" and any("'n' is Int64" in w.message for w in outcome.warnings)
    assert outcome.snapshot.names.views != before
    await workspace.send("clicks", [{**ROW, "v": 3}])
    bad = await workspace.send("clicks", [{**ROW, "v": 300}])
    assert bad.status == 422 or bad.json["quarantined_rows"] == 1
    assert sorted(r["n"] for r in await rows(workspace, "SELECT n FROM small")) == [1, 2, 3]
    again = await workspace.deploy(files)
    assert again.result == "no_changes"


def forget(workspace: Workspace) -> None:
    """What a view takes of its query stood in no row of an earlier version's state."""
    catalog = workspace.server.catalog
    catalog.snapshot(workspace.id).names.selects.clear()


async def test_a_view_that_cuts_nothing_stays_as_it_is(workspace: Workspace) -> None:
    files = project("SELECT link, toInt8(1) AS n FROM clicks")
    await workspace.deploy(files)
    forget(workspace)
    assert (await workspace.deploy(files)).result == "no_changes"


async def test_names_that_need_quotes(workspace: Workspace) -> None:
    target = SMALL.replace("`n` Int8", "`a-b.c` Int8")
    await workspace.deploy(project("SELECT link, v AS `a-b.c` FROM clicks", target))
    await workspace.send("clicks", [{**ROW, "v": 5}])
    assert [r["a-b.c"] for r in await rows(workspace, "SELECT `a-b.c` FROM small")] == [5]


async def test_an_engine_that_cannot_convert_is_an_error_at_check(engine: Engine) -> None:
    target = SMALL.replace("`n` Int8", "`n` AggregateFunction(sum, Int8)")
    target = target.replace("MergeTree", "AggregatingMergeTree")
    found: Checked = await check_files(
        engine, project("SELECT link, sumState(v) AS n FROM clicks GROUP BY link", target)
    )
    assert [e.file for e in found.errors] == ["pipes/fill.pipe"], said(found)
