"""A data source written in other words is no change; one that is another table is."""

from __future__ import annotations

import pytest

from pipit.deploy.describe import changes
from pipit.errors import ProjectError
from serving import Workspace

pytestmark = pytest.mark.anyio

TABLE = """SCHEMA >
    `a` Int32 `json:$.a` DEFAULT 1 + 1,
    `b` DateTime `json:$.b` CODEC(Delta, ZSTD(1)),
    `c` String `json:$.c`

{indexes}ENGINE {engine}
{lines}"""


def table(*lines: str, engine: str = "MergeTree", columns: tuple[str, str] = ("", ""), indexes: str = "") -> str:
    text = TABLE.format(engine=engine, lines="".join(f"{line}\n" for line in lines), indexes=indexes)
    return text.replace(*columns) if columns[0] else text


INDEX = "INDEXES >\n    INDEX i {} TYPE minmax GRANULARITY 1\n\n"
EQUAL = {
    "tuple() and no line": (table(), table("ENGINE_SORTING_KEY tuple()")),
    "brackets": (table("ENGINE_SORTING_KEY a, b"), table("ENGINE_SORTING_KEY (a, b)")),
    "two brackets": (table("ENGINE_SORTING_KEY a"), table("ENGINE_SORTING_KEY ((a))")),
    "tuple(...)": (table("ENGINE_SORTING_KEY a, b"), table("ENGINE_SORTING_KEY tuple(a, b)")),
    "backticks": (table("ENGINE_SORTING_KEY a, b"), table("ENGINE_SORTING_KEY `a`,`b`")),
    "blanks": (table("ENGINE_SORTING_KEY a, b"), table("ENGINE_SORTING_KEY a ,  b")),
    "primary key": (table("ENGINE_SORTING_KEY a, b"), table("ENGINE_SORTING_KEY a, b", "ENGINE_PRIMARY_KEY a, b")),
    "partition": (
        table("ENGINE_SORTING_KEY a", "ENGINE_PARTITION_KEY toYYYYMM(b)"),
        table("ENGINE_SORTING_KEY a", "ENGINE_PARTITION_KEY (toYYYYMM(`b`))"),
    ),
    "no partition": (table("ENGINE_SORTING_KEY a"), table("ENGINE_SORTING_KEY a", "ENGINE_PARTITION_KEY tuple()")),
    "no partition and no key": (table(), table("ENGINE_PARTITION_KEY tuple()", "ENGINE_SORTING_KEY tuple()")),
    "a default setting": (
        table("ENGINE_SORTING_KEY a"),
        table("ENGINE_SORTING_KEY a", "ENGINE_SETTINGS index_granularity=8192, min_rows_for_wide_part=0"),
    ),
    "a default setting beside another": (
        table("ENGINE_SORTING_KEY a", "ENGINE_SETTINGS min_bytes_for_wide_part=1"),
        table("ENGINE_SORTING_KEY a", "ENGINE_SETTINGS index_granularity=8192, min_bytes_for_wide_part=1"),
    ),
    "ttl": (
        table("ENGINE_SORTING_KEY a", "ENGINE_TTL b + INTERVAL 30 DAY"),
        table("ENGINE_SORTING_KEY a", "ENGINE_TTL b + toIntervalDay(30)"),
    ),
    "type": (table("ENGINE_SORTING_KEY a"), table("ENGINE_SORTING_KEY a", columns=("Int32", "INT"))),
    "text": (table("ENGINE_SORTING_KEY a"), table("ENGINE_SORTING_KEY a", columns=("c` String", "c` VARCHAR"))),
    "default": (table("ENGINE_SORTING_KEY a"), table("ENGINE_SORTING_KEY a", columns=("1 + 1", "plus(1, 1)"))),
    "default in brackets": (table("ENGINE_SORTING_KEY a"), table("ENGINE_SORTING_KEY a", columns=("1 + 1", "(1 + 1)"))),
    "codec": (
        table("ENGINE_SORTING_KEY a"),
        table("ENGINE_SORTING_KEY a", columns=("CODEC(Delta, ZSTD(1))", "CODEC(Delta(4), ZSTD)")),
    ),
    "settings": (
        table("ENGINE_SORTING_KEY a", "ENGINE_SETTINGS index_granularity=1024, min_bytes_for_wide_part=0"),
        table("ENGINE_SORTING_KEY a", "ENGINE_SETTINGS min_bytes_for_wide_part = 0, index_granularity = 1024"),
    ),
    "index": (
        table("ENGINE_SORTING_KEY a", indexes=INDEX.format("a + 1")),
        table("ENGINE_SORTING_KEY a", indexes=INDEX.format("plus(a, 1)")),
    ),
}
OTHER = {
    "order of keys": (table("ENGINE_SORTING_KEY a, b"), table("ENGINE_SORTING_KEY b, a")),
    "a key": (table("ENGINE_SORTING_KEY a"), table("ENGINE_SORTING_KEY a, b")),
    "primary key": (table("ENGINE_SORTING_KEY a, b"), table("ENGINE_SORTING_KEY a, b", "ENGINE_PRIMARY_KEY a")),
    "ttl": (
        table("ENGINE_SORTING_KEY a", "ENGINE_TTL b + INTERVAL 30 DAY"),
        table("ENGINE_SORTING_KEY a", "ENGINE_TTL b + INTERVAL 31 DAY"),
    ),
    "type": (table("ENGINE_SORTING_KEY a"), table("ENGINE_SORTING_KEY a", columns=("Int32", "Int64"))),
    "default": (table("ENGINE_SORTING_KEY a"), table("ENGINE_SORTING_KEY a", columns=("1 + 1", "1 + 2"))),
    "setting": (
        table("ENGINE_SORTING_KEY a", "ENGINE_SETTINGS index_granularity=1024"),
        table("ENGINE_SORTING_KEY a", "ENGINE_SETTINGS index_granularity=2048"),
    ),
    "index": (
        table("ENGINE_SORTING_KEY a", indexes=INDEX.format("a + 1")),
        table("ENGINE_SORTING_KEY a", indexes=INDEX.format("a + 2")),
    ),
}


@pytest.mark.parametrize("name", EQUAL)
async def test_the_same_table_in_other_words_is_no_change(workspace: Workspace, name: str) -> None:
    for one, other in (EQUAL[name], EQUAL[name][::-1]):
        first = await workspace.deploy({"datasources/t.datasource": one}, allow_destructive=True)
        assert first.snapshot.deployment == 1, [str(c) for c in first.plan.datasources.changed]
        again = await workspace.deploy({"datasources/t.datasource": other})
        assert (again.result, again.plan.datasources.changed) == ("no_changes", ())


@pytest.mark.parametrize("name", OTHER)
async def test_another_table_is_a_change(workspace: Workspace, name: str) -> None:
    one, other = OTHER[name]
    await workspace.deploy({"datasources/t.datasource": one})
    try:
        outcome = await workspace.deploy({"datasources/t.datasource": other})
    except ProjectError as error:
        assert "change" in str(error)
    else:
        assert outcome.plan.datasources.changed == ("t",) and len(outcome.plan.operations) > 1


async def test_what_else_changes_with_the_words_is_a_change(workspace: Workspace) -> None:
    await workspace.deploy({"datasources/t.datasource": table("ENGINE_SORTING_KEY a, b")})
    described = "DESCRIPTION more\n\n" + table("ENGINE_SORTING_KEY (a, b)")
    outcome = await workspace.deploy({"datasources/t.datasource": described})
    assert (outcome.result, outcome.plan.datasources.changed) == ("success", ("t",))


FULL = ("ENGINE_PARTITION_KEY tuple()", "ENGINE_SETTINGS index_granularity=8192")
OLD = table("ENGINE_SORTING_KEY a", "ENGINE_TTL b + INTERVAL 30 DAY", indexes=INDEX.format("a + 1"))
NEW = table("ENGINE_SORTING_KEY (a)", "ENGINE_TTL b + toIntervalDay(30)", *FULL, indexes=INDEX.format("plus(a, 1)"))
CHANGES = {
    "the sorting key": ("KEY (a)", "KEY (a, b)", "The sorting key changes"),
    "the primary key": ("KEY (a)\n", "KEY (a)\nENGINE_PRIMARY_KEY tuple()\n", "The primary key changes"),
    "the partition key": ("ENGINE_PARTITION_KEY tuple()", "ENGINE_PARTITION_KEY a", "The partition key changes"),
    "the TTL": ("toIntervalDay(30)", "toIntervalDay(31)", "TTL b + toIntervalDay(31)"),
    "a setting": (
        "granularity=8192",
        "granularity=1024",
        "ENGINE_SETTINGS change, and the engine cannot alter the table to it: Setting 'index_granularity' is readonly "
        "for storage 'MergeTree'",
    ),
    "an index": ("plus(a, 1)", "plus(a, 2)", "index i dropped, new index i"),
    "a default": ("DEFAULT 1 + 1", "DEFAULT 1 + 2", "column a: DEFAULT 1 + 2"),
    "a type": ("`c` String", "`c` FixedString(3)", "The type of 'c' changes from String to FixedString(3)"),
    "a column": (",\n    `c` String `json:$.c`", "", "column c removed, with its values in 0 rows"),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_is_told_alone(workspace: Workspace, name: str) -> None:
    """Everything else in the file is written in other words, and is no change for that."""
    before, after, message = CHANGES[name]
    assert before in NEW
    await workspace.deploy({"datasources/t.datasource": OLD})
    changed = {"datasources/t.datasource": NEW.replace(before, after)}
    try:
        outcome = await workspace.deploy(changed, check=True, allow_destructive=True)
    except ProjectError as caught:
        told = [error.message.partition(". ")[0].partition(" (READONLY")[0] for error in caught.errors]
    else:
        told = [change["change"].partition(" (READONLY")[0] for change in changes(outcome.plan)]
    rebuilt = [one for one in told if one.startswith("made anew")]
    assert ", ".join(one for one in told if one not in rebuilt) == message and len(rebuilt) <= 1


async def test_a_new_column_beside_other_words_is_added(workspace: Workspace) -> None:
    await workspace.deploy({"datasources/t.datasource": OLD})
    more = NEW.replace("`c` String `json:$.c`", "`c` VARCHAR `json:$.c`,\n    `d` Nullable(String) `json:$.d`")
    outcome = await workspace.deploy({"datasources/t.datasource": more})
    assert outcome.result == "success"
    again = await workspace.deploy({"datasources/t.datasource": more})
    assert again.result == "no_changes"
