"""A DEFAULT that reads columns, a clock or chance may give what its column cannot hold: `check` says so, and no way into
the table cuts it."""

from __future__ import annotations

import pytest

from pipit.deploy.check import Checked, check_files
from pipit.engine import Engine
from pipit.errors import ProjectError
from serving import Workspace

from .test_column_warnings import rows, run_copy

pytestmark = pytest.mark.anyio

PLAIN = "SCHEMA >\n    `id` UInt64 `json:$.id`,\n    `x2` Int64 `json:$.x2`,\n    {}\n\nENGINE MergeTree\nENGINE_SORTING_KEY id\n"
TARGET = PLAIN.replace(" `json:$.id`", "").replace(" `json:$.x2`", "")
NODE = "NODE n\nSQL >\n    {}\n\n"


async def one(engine: Engine, column: str) -> Checked:
    return await check_files(engine, {"t.datasource": PLAIN.format(column)})


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("`c` Int8 DEFAULT x2", ["'c' is Int64", "the column is Int8", "refused"]),
        ("`c` UInt16 DEFAULT toYYYYMM(toDate(x2))", ["UInt32", "UInt16"]),
        ("`c` Nullable(Int8) DEFAULT x2 + 1", ["Int64", "Nullable(Int8)"]),
        ("`c` LowCardinality(UInt8) DEFAULT x2", ["Int64", "LowCardinality(UInt8)"]),
        ("`c` Array(UInt8) DEFAULT [x2]", ["Array(Int64)", "Array(UInt8)"]),
        ("`c` Decimal(5, 2) DEFAULT x2 / 3", ["Float64", "Decimal(5, 2)", "rounded"]),
        ("`c` UInt8 DEFAULT rand() % 200 + 10", ["UInt16", "UInt8"]),
        ("`c` UInt16 DEFAULT if(today() < '2000-01-01', 70000, 1)", ["UInt32", "UInt16"]),
    ],
)
async def test_a_default_that_may_not_fit_is_warned_of(engine: Engine, column: str, words: list[str]) -> None:
    found = await one(engine, column)
    assert not found.errors
    (warning,) = found.warnings
    assert (warning.file, warning.line, warning.column) == ("t.datasource", 4, 5)
    assert all(word in warning.message for word in words), warning.message
    assert "Convert it in the DEFAULT" in warning.hint


@pytest.mark.parametrize(
    "column",
    [
        "`c` Int64 DEFAULT x2",
        "`c` String DEFAULT x2",
        "`c` UInt32 DEFAULT toYYYYMM(toDate(x2))",
        "`c` Int8 DEFAULT toInt8(x2)",
        "`c` Date DEFAULT toDate(now())",
        "`c` DateTime DEFAULT now()",
        "`c` UInt64 DEFAULT rand()",
        "`c` Int8 DEFAULT 100",
        "`c` DEFAULT x2",
    ],
)
async def test_a_default_that_fits_says_nothing(engine: Engine, column: str) -> None:
    found = await one(engine, column)
    assert not found.errors and not found.warnings


@pytest.mark.parametrize("default", ["rand()", "rand64() % 2147483649", "toInt64(rand()) - 5"])
async def test_a_default_of_chance_is_judged_by_many_draws(engine: Engine, default: str) -> None:
    for _ in range(3):
        (error,) = (await one(engine, f"`c` Int16 DEFAULT {default}")).errors
        assert (error.file, error.line, error.column) == ("t.datasource", 4, 5) and "'c'" in error.message
        assert "whenever" in error.hint


@pytest.mark.parametrize(
    ("default", "words", "hint"),
    [
        ("x3 + 1", "reads 'x3', which is no column", "id, x2, c"),
        ("concat(toString(id), nobody)", "reads 'nobody', which is no column", "id, x2, c"),
        ("[`no one`]", "reads 'no one', which is no column", "id, x2, c"),
    ],
)
async def test_a_default_that_reads_what_is_no_column(engine: Engine, default: str, words: str, hint: str) -> None:
    (error,) = (await one(engine, f"`c` Array(String) DEFAULT {default}")).errors
    assert (error.file, error.line, error.column) == ("t.datasource", 4, 5)
    assert words in error.message and hint in error.hint and "tmp_alter" not in error.message


async def test_events_are_stored_or_refused_and_never_cut(workspace: Workspace) -> None:
    text = PLAIN.format("`small` Int8 `json:$.small` DEFAULT x2,\n    `left` UInt8 DEFAULT x2 + 1")
    await workspace.deploy({"datasources/t.datasource": text})
    reply = await workspace.send("t", [{"id": 1, "x2": 100}, {"id": 2, "x2": 300}, {"id": 3, "x2": 254, "small": 5}])
    assert reply.json == {"successful_rows": 2, "quarantined_rows": 1}
    assert await rows(workspace, "SELECT id, small, left FROM t ORDER BY id") == [
        {"id": 1, "small": 100, "left": 101},
        {"id": 3, "small": 5, "left": 255},
    ]
    (bad,) = await rows(workspace, "SELECT c__error_column AS names, c__error AS why FROM t_quarantine")
    assert bad["names"] == ["small", "left"]
    assert bad["why"][1] == "value '301', the DEFAULT of column 'left', is not UInt8"


async def test_an_unchanged_project_is_no_change(workspace: Workspace) -> None:
    text = PLAIN.format("`small` Int8 DEFAULT x2, `k` UInt8 DEFAULT rand() % 7 + 1, `c` Array(Int8) DEFAULT [x2]")
    files = {"datasources/t.datasource": text, "datasources/u.datasource": TARGET.format("`small` Int8 DEFAULT x2")}
    files["pipes/v.pipe"] = NODE.format("SELECT id, x2 FROM t") + "TYPE materialized\nDATASOURCE u\n"
    assert (await workspace.deploy(files)).result == "success"
    assert (await workspace.deploy(files)).result == "no_changes"


async def test_a_view_refuses_a_default_that_does_not_fit(workspace: Workspace) -> None:
    target = TARGET.format("`mid` Int64 DEFAULT x2 * 2,\n    `small` Int8 DEFAULT mid,\n    `plain` Int64 DEFAULT mid")
    await workspace.deploy(
        {
            "datasources/t.datasource": PLAIN.format("`y` UInt8 `json:$.y` DEFAULT 1"),
            "datasources/u.datasource": target,
            "pipes/v.pipe": NODE.format("SELECT id, x2 FROM t") + "TYPE materialized\nDATASOURCE u\n",
        }
    )
    reply = await workspace.send("t", [{"id": 1, "x2": 50}, {"id": 2, "x2": 150}, {"id": 3, "x2": -64}])
    assert reply.json == {"successful_rows": 2, "quarantined_rows": 1}
    assert await rows(workspace, "SELECT id, small, plain FROM u ORDER BY id") == [
        {"id": 1, "small": 100, "plain": 100},
        {"id": 3, "small": -128, "plain": -128},
    ]


@pytest.mark.parametrize("mode", ["append", "replace"])
async def test_a_copy_fails_for_a_default_that_does_not_fit(workspace: Workspace, mode: str) -> None:
    copy = "TYPE copy\nTARGET_DATASOURCE u\nCOPY_MODE " + mode + "\n"
    files = {
        "datasources/t.datasource": PLAIN.format("`y` Nullable(Int8) `json:$.y`"),
        "datasources/u.datasource": TARGET.format("`y` Int8 DEFAULT x2"),
        "pipes/c.pipe": NODE.format("SELECT id, x2, y FROM t") + copy,
        "pipes/without.pipe": NODE.format("SELECT id, x2 FROM t") + copy,
    }
    await workspace.deploy(files)
    await workspace.send("t", [{"id": 1, "x2": 7}, {"id": 2, "x2": 300, "y": 3}])
    assert (await run_copy(workspace, "c"))["status"] == "done"
    assert await rows(workspace, "SELECT id, y FROM u ORDER BY id") == [{"id": 1, "y": 7}, {"id": 2, "y": 3}]
    await workspace.send("t", [{"id": 3, "x2": 300}])
    for pipe in ("c", "without"):
        job = await run_copy(workspace, pipe)
        assert job["status"] == "error" and "the DEFAULT of 'y'" in job["error"]
    assert len(await rows(workspace, "SELECT id FROM u")) == 2


async def test_a_new_columns_default_has_to_fit_the_rows_that_are_there(workspace: Workspace) -> None:
    old = PLAIN.format("`y` UInt8 `json:$.y` DEFAULT 1")
    await workspace.deploy({"datasources/t.datasource": old})
    await workspace.send("t", [{"id": 1, "x2": 7}, {"id": 2, "x2": 300}])
    new = old.replace("DEFAULT 1\n", "DEFAULT 1,\n    `small` {} DEFAULT x2\n")
    with pytest.raises(ProjectError) as refused:
        await workspace.deploy({"datasources/t.datasource": new.format("Int8")})
    (error,) = refused.value.errors
    assert (error.file, error.line, error.column) == ("datasources/t.datasource", 5, 5)
    assert "1 of the 2 rows" in error.message
    assert await rows(workspace, "SELECT * FROM t ORDER BY id LIMIT 1") == [{"id": 1, "x2": 7, "y": 1}]
    await workspace.deploy({"datasources/t.datasource": new.format("Int16")})
    assert [row["small"] for row in await rows(workspace, "SELECT small FROM t ORDER BY id")] == [7, 300]
    reply = await workspace.send("t", [{"id": 3, "x2": 70_000}])
    assert reply.json == {"successful_rows": 0, "quarantined_rows": 1}
