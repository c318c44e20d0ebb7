"""A data source written in other words is no change; one that is another table is."""

from __future__ import annotations

import pytest

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
        assert first.snapshot.deployment == 1, [str(c) for c in first.plan.changed_datasources]
        again = await workspace.deploy({"datasources/t.datasource": other})
        assert (again.result, again.plan.changed_datasources) == ("no_changes", ())


@pytest.mark.parametrize("name", OTHER)
async def test_another_table_is_still_refused(workspace: Workspace, name: str) -> None:
    one, other = OTHER[name]
    await workspace.deploy({"datasources/t.datasource": one})
    with pytest.raises(ProjectError, match="change"):
        await workspace.deploy({"datasources/t.datasource": other})


async def test_what_else_changes_with_the_words_is_a_change(workspace: Workspace) -> None:
    await workspace.deploy({"datasources/t.datasource": table("ENGINE_SORTING_KEY a, b")})
    described = "DESCRIPTION more\n\n" + table("ENGINE_SORTING_KEY (a, b)")
    outcome = await workspace.deploy({"datasources/t.datasource": described})
    assert (outcome.result, outcome.plan.changed_datasources) == ("success", ("t",))
