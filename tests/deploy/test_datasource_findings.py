"""What `check` and a deploy say of defaults, keys, FORWARD_QUERY, views that go and targets that nobody may read."""

from __future__ import annotations

import pytest

from pipit.deploy.check import Checked, check_files
from pipit.engine import Engine
from projects import DAILY, DAILY_POLICY, DAILY_VIEW, EVENTS, event
from serving import Workspace

pytestmark = pytest.mark.anyio

PLAIN = "SCHEMA >\n    `id` UInt64 `json:$.id`,\n    {}\n\nENGINE MergeTree\nENGINE_SORTING_KEY id\n"
VIEWED = {
    "datasources/events.datasource": EVENTS,
    "datasources/daily.datasource": DAILY,
    "materializations/daily_view.pipe": DAILY_VIEW,
}


async def one(engine: Engine, text: str) -> Checked:
    return await check_files(engine, {"t.datasource": text})


@pytest.mark.parametrize(
    "column",
    [
        "`x` Int8 DEFAULT 300",
        "`x` Int8 DEFAULT 100 + 200",
        "`x` UInt8 DEFAULT -1",
        "`x` Int32 DEFAULT 1.9",
        "`x` Nullable(Int8) DEFAULT 300",
        "`x` LowCardinality(FixedString(2)) DEFAULT 'abc'",
        "`x` Date DEFAULT '2024-13-45'",
        "`x` DateTime DEFAULT '2200-01-01 00:00:00'",
        "`x` DateTime64(3) DEFAULT 'soon'",
        "`x` Decimal(5, 2) DEFAULT 123456",
        "`x` Array(UInt8) DEFAULT [1, 300]",
        "`x` Map(String, UInt8) DEFAULT map('a', 300)",
        "`x` UUID DEFAULT 'nobody'",
        "`x` IPv4 DEFAULT '1.2.3.400'",
        "`x` Enum8('a' = 1) DEFAULT 'b'",
        "`x` Int128 DEFAULT toUInt256('340282366920938463463374607431768211461')",
    ],
)
async def test_a_default_that_its_column_cannot_hold_is_an_error(engine: Engine, column: str) -> None:
    found = await one(engine, PLAIN.format(column))
    assert [(e.file, e.line, e.column) for e in found.errors] == [("t.datasource", 3, 5)], found.errors
    assert "'x'" in found.errors[0].message and found.errors[0].hint


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        ("`x` Int8 DEFAULT 100", "100"),
        ("`x` DateTime64(3) `json:$.x` DEFAULT ''", "1970-01-01 00:00:00.000"),
        ("`x` DateTime `json:$.x` DEFAULT ''", "1970-01-01 00:00:00"),
        ('`x` Date `json:$.x` DEFAULT ""', "1970-01-01"),
        ("`x` Int32 `json:$.x` DEFAULT ''", "0"),
        ("`x` LowCardinality(UInt16) `json:$.x` DEFAULT ''", "0"),
        ("`x` UUID `json:$.x` DEFAULT ''", "00000000-0000-0000-0000-000000000000"),
        ("`x` String `json:$.x` DEFAULT ''", ""),
        ("`x` DateTime DEFAULT '2024-01-02 03:04:05'", "2024-01-02 03:04:05"),
        ("`x` Enum8('a' = 1, 'b' = 2) DEFAULT 'b'", "b"),
        ("`x` Bool DEFAULT 'true'", "true"),
        ("`x` Array(String) DEFAULT []", "[]"),
        ("`x` UInt64 DEFAULT id * 2", "14"),
        ("`x` String `json:$.x` DEFAULT null", None),
        ("`x` LowCardinality(String) `json:$.x` DEFAULT NULL", None),
        ("`x` Nullable(Int8) `json:$.x` DEFAULT NULL", None),
    ],
)
async def test_a_missing_value_is_the_default(workspace: Workspace, column: str, shown: str | None) -> None:
    await workspace.deploy({"datasources/t.datasource": PLAIN.format(column)})
    reply = await workspace.send("t", [{"id": 7}])
    assert reply.json == {"successful_rows": 1, "quarantined_rows": 0}, reply.text
    (row,) = await workspace.rows("/v0/sql?q=SELECT%20toString(x)%20AS%20x%20FROM%20t%20FORMAT%20JSON")
    assert row["x"] == shown


async def test_default_null_says_what_it_means(engine: Engine) -> None:
    found = await one(engine, PLAIN.format("`x` String DEFAULT null"))
    assert not found.errors
    (warning,) = [w for w in found.warnings if "DEFAULT NULL" in w.message]
    assert (warning.line, warning.column) == (3, 5) and "Nullable(String)" in warning.message
    (error,) = (await one(engine, PLAIN.format("`x` Array(String) DEFAULT null"))).errors
    assert (error.line, error.column) == (3, 5)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELEKT nope", "SELECT"),
        ("SELECT a,, b", "Syntax error"),
        ("SELECT id; DROP TABLE t", ""),
        ("INSERT INTO t SELECT 1", "SELECT"),
        ("SELECT 1 INTO OUTFILE 'x'", "SELECT"),
    ],
)
async def test_a_forward_query_has_to_be_a_select(engine: Engine, query: str, words: str) -> None:
    found = await one(engine, PLAIN.format("`x` String `json:$.x`") + f"\nFORWARD_QUERY >\n    {query}\n")
    (error,) = found.errors
    assert (error.file, error.line) == ("t.datasource", 8) and words in error.message


async def test_a_forward_query_that_has_nothing_to_do_is_said(workspace: Workspace) -> None:
    text = PLAIN.format("`x` String `json:$.x`") + "\nFORWARD_QUERY >\n    SELECT id, 'a' AS x\n"
    outcome = await workspace.deploy({"t.datasource": text})
    (warning,) = [w for w in outcome.warnings if "FORWARD_QUERY" in w.message]
    assert warning.line == 8 and "not applied" in warning.message


async def test_a_table_without_a_sorting_key(engine: Engine) -> None:
    text = "SCHEMA >\n    `id` UInt64 `json:$.id`\n\nENGINE MergeTree\n"
    for lines in ("", "ENGINE_SORTING_KEY tuple()\n"):
        (warning,) = (await one(engine, text + lines)).warnings
        assert "no sorting key" in warning.message and (warning.file, warning.line) == ("t.datasource", 4)
    assert not (await one(engine, text + "ENGINE_SORTING_KEY id\n")).warnings
    assert not (await one(engine, text.replace("MergeTree", '"Null"'))).warnings


async def test_a_rollup_that_tenants_cannot_read(engine: Engine) -> None:
    found = await check_files(engine, VIEWED)
    (warning,) = [w for w in found.warnings if "Tenants cannot read" in w.message]
    assert warning.file == "datasources/daily.datasource" and "'events'" in warning.message and warning.line == 2
    with_policy = VIEWED | {"datasources/daily.datasource": DAILY_POLICY}
    assert not [w for w in (await check_files(engine, with_policy)).warnings if "Tenants" in w.message]


async def test_a_deleted_view_is_said_by_plan_deploy_and_check(workspace: Workspace, engine: Engine) -> None:
    await workspace.deploy(VIEWED)
    await workspace.send("events", [event("a", 1)])
    without = {name: text for name, text in VIEWED.items() if "view" not in name}
    for check in (True, False):
        outcome = await workspace.deploy(without, check=check, allow_destructive=True)
        (warning,) = [w for w in outcome.warnings if "stops filling" in w.message]
        assert "'daily'" in warning.message and "'events'" in warning.message
        assert "pipit populate daily_view --truncate" in warning.hint
    (unfilled,) = [w for w in (await check_files(engine, without)).warnings if "Nothing fills" in w.message]
    assert "'daily'" in unfilled.message


async def test_a_view_that_comes_back_fills_the_gap(workspace: Workspace) -> None:
    await workspace.deploy(VIEWED)
    await workspace.send("events", [event("a", 1)])
    await workspace.deploy({name: text for name, text in VIEWED.items() if "view" not in name}, allow_destructive=True)
    await workspace.send("events", [event("a", 2)])
    await workspace.deploy(VIEWED)
    await workspace.send("events", [event("a", 3)])
    sql = "SELECT%20countMerge(events)%20AS%20n%20FROM%20daily%20FORMAT%20JSON"
    (row,) = await workspace.rows(f"/v0/sql?q={sql}")
    assert int(row["n"]) == 3
