"""Names of columns mean in Pipit what they mean in plain ClickHouse: the same texts, asked of both, over equal rows.

On the one side tables in a database `shop`; on the other a workspace `shop` with the data sources `people` and `visits`,
a node `elders` and a pipe `teams`.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fuzz import examples
from pipit.catalog.build import build_snapshot
from pipit.catalog.names import first_names
from pipit.catalog.snapshot import NodeTarget, Snapshot, Workspace
from pipit.catalog.written import as_written
from pipit.datafiles import parse_project
from pipit.engine import Engine
from pipit.errors import PipitError
from pipit.query.barriers import NO_BARRIERS, Barriers, barriers_for
from pipit.query.compose import Composer, _Work
from pipit.sql.references import first_table
from pipit.tables import ddl
from pipit.templates import Binder

pytestmark = pytest.mark.anyio

PEOPLE = "SCHEMA >\n    id Int32,\n    name LowCardinality(String),\n    boss Int32\nENGINE ReplacingMergeTree\nENGINE_SORTING_KEY id\n"
VISITS = "SCHEMA >\n    id Int32,\n    n Int32,\n    who Int32\nENGINE MergeTree\nENGINE_SORTING_KEY id\n"
PARTNERS = "SCHEMA >\n    id Int32,\n    name String\nENGINE MergeTree\nENGINE_SORTING_KEY id\n"
ELDERS = "SELECT id, name, boss FROM people WHERE id < 3"
TEAMS = "SELECT boss AS id, count() AS n FROM people GROUP BY boss"
FILES = {
    "datasources/people.datasource": PEOPLE,
    "datasources/visits.datasource": VISITS,
    "vendor/other/people.datasource": PARTNERS,
    "pipes/teams.pipe": f"NODE t\nSQL >\n    {TEAMS}\nTYPE endpoint\n",
    "pipes/asked.pipe": f"NODE elders\nSQL >\n    {ELDERS}\nNODE top\nSQL >\n    SELECT 1\nTYPE endpoint\n",
}
ROWS = {
    ("shop", "people"): "(1, 'ann', 2), (2, 'bob', 2), (3, 'eve', 1), (3, 'eva', 1)",
    ("shop", "visits"): "(1, 10, 2), (2, 20, 1), (3, 30, 3), (4, 40, 9)",
    ("other", "people"): "(2, 'bea'), (3, 'moe')",
}


@dataclass(frozen=True)
class Both:
    engine: Engine = field(repr=False)
    snapshot: Snapshot = field(repr=False)
    composer: Composer = field(default_factory=Composer, repr=False)

    async def plain(self, sql: str) -> object:
        return await self._ask(sql)

    async def ours(self, sql: str, barriers: Barriers) -> object:
        pipe = self.snapshot.pipes["asked"]
        binder = Binder()
        try:
            work = _Work(self.snapshot, {}, binder, barriers)
            prepared = self.composer._compose(work, sql, owner=pipe, top=NodeTarget(pipe, pipe.nodes["top"]))
        except PipitError as error:
            return error
        return await self._ask(prepared.sql)

    async def _ask(self, sql: str) -> object:
        try:
            answer = await self.engine.query(sql, database="shop", format="JSONCompact")
        except PipitError as error:
            return error
        found = json.loads(answer)
        return [column["name"] for column in found["meta"]], sorted(found["data"], key=json.dumps)

    async def compare(self, sql: str, *, strict: bool = True) -> None:
        """What ClickHouse answers, Pipit answers. `strict`: what it refuses, Pipit refuses, and columns that several
        tables have are called the same also where the text names a database."""
        expected = await self.plain(sql)
        behind = barriers_for(self.snapshot, self.snapshot.physical_tables, None)
        for barriers in (NO_BARRIERS, behind):
            found = await self.ours(sql, barriers)
            if not isinstance(expected, PipitError):
                shown = str if strict or (".people" not in sql and "shop." not in sql) else _unqualified
                assert _called(found, shown) == _called(expected, shown), sql
            elif strict:
                assert isinstance(found, PipitError), (sql, expected)


def _unqualified(name: str) -> str:
    return re.sub(r"\w+\.", "", name)


def _called(answer: object, shown: Callable[[str], str]) -> object:
    return ([shown(name) for name in answer[0]], answer[1]) if isinstance(answer, tuple) else answer


@pytest.fixture(scope="module")
async def both(engine: Engine) -> AsyncIterator[Both]:
    project = parse_project(FILES)
    workspace = Workspace("names", "shop", "pipit_names", "k" * 40)
    snapshot = build_snapshot(workspace, project, first_names(project.datasources))
    for database in ("shop", "other", "pipit_names"):
        await engine.command(f"CREATE DATABASE {database}")
    for table in snapshot.tables.values():
        database, _, name = table.name.rpartition(".")
        for place in ((database or "shop", name), (table.database, table.physical)):
            await engine.command(ddl.create_table(table.datasource, *place))
            await engine.command(f"INSERT INTO {place[0]}.{place[1]} VALUES {ROWS[database or 'shop', name]}")
    for name, made in (("elders", ELDERS), ("teams", TEAMS)):
        await engine.command(f"CREATE TABLE shop.{name} ENGINE Memory AS {made.replace('FROM ', 'FROM shop.')}")
    yield Both(engine, snapshot)
    for database in ("shop", "other", "pipit_names"):
        await engine.command(f"DROP DATABASE {database} SYNC")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT v.n, p.name FROM visits v JOIN people p ON people.id = v.who",
        "SELECT people.id, visits.id FROM visits v JOIN people p ON people.id = visits.who",
        "SELECT elders.name, teams.n FROM elders AS e JOIN teams AS t ON elders.boss = teams.id",
        "SELECT people.* FROM people p",
        "SELECT people.* EXCEPT boss, people.COLUMNS('^b') FROM people AS p FINAL",
        "SELECT `people`.`id`, \"people\".name FROM `people` AS `p` FINAL WHERE people.id > 1",
        "SELECT shop.people.id, people.name, p.boss FROM people p",
        "SELECT shop.people.id FROM shop.people",
        "SELECT shop.people.* FROM shop.people AS p",
        "SELECT other.people.name, people.id FROM other.people AS o",
        "SELECT people.name, other.people.name FROM people JOIN other.people ON people.id = other.people.id",
        "SELECT people.name, other.people.name FROM people AS p JOIN other.people AS o ON people.id = other.people.id",
        "SELECT people.name, p.name FROM people p LEFT JOIN people ON p.id = people.id + 1",
        "SELECT people.id, q.id FROM people p LEFT JOIN people q ON p.id = q.id + 1",
        "SELECT people.n, p.name FROM visits people JOIN people p ON p.id = people.who",
        "SELECT people.n FROM people JOIN visits people ON people.who > 1",
        "SELECT sum(people.id) AS s, count() FROM people p GROUP BY people.boss ORDER BY people.boss",
        "SELECT p.id FROM people p WHERE EXISTS (SELECT 1 FROM visits v WHERE v.who = people.id)",
        "SELECT p.id, (SELECT max(visits.n) FROM visits w WHERE visits.who = people.id) AS m FROM people p",
        "SELECT p.id FROM people p WHERE people.id IN (SELECT visits.who FROM visits v)",
        "SELECT z FROM people p ARRAY JOIN [people.id, 7] AS z",
        "WITH people AS (SELECT people.id, people.name FROM people q) SELECT people.id, p.name FROM people p",
        "WITH people AS (SELECT 7 AS id) SELECT people.id, shop.people.name AS m FROM people c JOIN shop.people s ON 1",
        "WITH u AS (SELECT 1 AS k) SELECT k FROM u UNION ALL SELECT people.id FROM people q, u",
        "SELECT people.id FROM people p FINAL UNION ALL SELECT people.id FROM people q",
        "WITH u AS (SELECT 1 AS k) SELECT people.id FROM people p, u UNION ALL (SELECT people.id FROM people q, u)",
        "WITH people.id AS z SELECT z FROM people p",
        "SELECT id AS people, people.name FROM people p",
        "SELECT people.id FROM (SELECT people.id AS id FROM people p) AS people",
        "FROM people p SELECT people.id",
        "SELECT any(people.name) OVER (PARTITION BY people.id) AS a FROM elders people",
        "SELECT visits.id FROM visits PREWHERE visits.id > 1",
        "SELECT v.id FROM visits AS v PREWHERE v.id > 1",
        "SELECT arrayMap(people -> people.1, [(p.id, 1)]) AS a FROM people p",
        "SELECT people.id FROM people AS p JOIN visits USING id",
        "SELECT visits.n FROM people AS p JOIN visits AS v USING (id) ORDER BY visits.n LIMIT 1 BY visits.n",
        "SELECT CASE people.id WHEN 1 THEN people.name ELSE toString(visits.n) END AS c FROM people p, visits AS v",
        "SELECT people.id FROM people p FINAL SAMPLE 1",  # refused by both: the table has no sampling key
        "SELECT nobody.id FROM people p",
        "SELECT count() FROM people, people",
        "SELECT id, name FROM people JOIN people USING (id, name)",
    ],
)
async def test_a_name_means_what_it_means_in_clickhouse(both: Both, sql: str) -> None:
    await both.compare(sql)


# --- queries made at random: tables of every kind, under every kind of name ------------------------------------------

COLUMNS = {
    "people": ("id", "name", "boss"),
    "visits": ("id", "n", "who"),
    "elders": ("id", "name", "boss"),
    "teams": ("id", "n"),
    "shop.people": ("id", "name", "boss"),
    "shop.visits": ("id", "n", "who"),
    "shop.teams": ("id", "n"),
    "other.people": ("id", "name"),
}


@st.composite
def _item(draw: st.DrawFn) -> tuple[str, str | None, str]:
    """A table, its alias, and the text of both."""
    table = draw(st.sampled_from(sorted(COLUMNS)))
    alias = draw(st.sampled_from(["p", "q", "p", "q", None, "people", "visits"]))
    written = draw(st.sampled_from(["{} AS {}", "{} {}", "{} AS `{}`"])).format(table, alias) if alias else table
    if table in ("people", "shop.people") and draw(st.integers(0, 5)) == 0:
        written += " FINAL"
    return table, alias, written


@st.composite
def _query(draw: st.DrawFn, depth: int = 2, outer: tuple[str, ...] = (), columns: int = 0, whole: bool = False) -> str:
    """`whole`: by database and name, or else by name. A text that has both, and two tables of one name, is not followed."""
    items = draw(st.lists(_item(), min_size=1, max_size=2 if depth < 2 else 3))
    # An alias hides tables of that name in the whole FROM, its own too: which one is read then is not about columns.
    assume({alias for _, alias, _ in items}.isdisjoint(table.split(".")[-1] for table, _, _ in items))
    # Beside a table without an alias, another one of its name is asked by its alias.
    bare = [table.split(".")[-1] for table, alias, _ in items if alias is None]
    assume(not any(table.split(".")[-1] in bare for table, alias, _ in items if alias is not None))
    # Of two tables of one name the engine picks one for the bare name, by no rule that could be followed.
    assume(whole or len({table.split(".")[-1] for table, _, _ in items}) == len(items))

    def column(item: tuple[str, str | None, str] | None = None, name: str = "") -> str:
        if item is None and outer and draw(st.integers(0, 3)) == 0:
            return draw(st.sampled_from(outer))
        table, alias, _ = item or draw(st.sampled_from(items))
        own = table.split(".")[-1]
        full = table if "." in table else f"shop.{own}"
        names = [alias or full, full] if whole else [alias or own, own, own, f"`{own}`"]
        return f"{draw(st.sampled_from(names))}.{name or draw(st.sampled_from(COLUMNS[table]))}"

    text = items[0][2]
    for item in items[1:]:
        join = draw(st.sampled_from(["JOIN", "LEFT JOIN", "FULL JOIN"]))
        other = draw(st.sampled_from(items[: items.index(item) + 1]))
        text += f" {join} {item[2]} ON {column(other, 'id')} = {column(item, 'id')} + {draw(st.integers(0, 1))}"
    picked = [column() for _ in range(columns or draw(st.integers(1, 3)))]
    kinds = ["{}", "{}", "toString({})", "{} AS x{i}", "tuple({})"]
    chosen = [draw(st.sampled_from(kinds)).replace("{i}", str(i)).replace("{}", name) for i, name in enumerate(picked)]
    if not columns and draw(st.integers(0, 5)) == 0:
        chosen.append(f"{draw(st.sampled_from(items))[0]}.*")
    where = [f"{column()} IS NOT NULL"] if draw(st.booleans()) else []
    if depth and draw(st.booleans()):
        here = (*outer, *(column(item, "id") for item in items))
        inner = draw(_query(depth - 1, here, 1, whole))
        where.append(draw(st.sampled_from([f"EXISTS ({inner})", f"toString({column()}) IN ({inner})"])))
    sql = f"SELECT {', '.join(chosen)} FROM {text}" + (f" WHERE {' AND '.join(where)}" if where else "")
    if depth and not columns:
        # Beside a CTE `people`, `people.id` for a `shop.people AS p` is not followed.
        shape = draw(st.integers(2 if ".people" in sql else 0, 7))
        if shape == 3:
            sql = f"{sql} UNION ALL {draw(_query(0, (), len(chosen), whole))}"
        elif shape == 1:
            sql = f"WITH people AS (SELECT id, name, boss FROM people AS p WHERE people.id > 1) {sql}"
        elif shape == 2:
            sql = f"WITH u AS (SELECT 1 AS k) {sql}"
        elif shape == 4:
            sql = f"SELECT * FROM ({sql}) AS people"
    return sql


_READ = re.compile(r"\b(?:FROM|JOIN) (?:(\w+)\.)?(\w+)")


def _is_followed(sql: str) -> bool:
    """False for a text that names a table by its database and another one by its name alone, where both are called the
    same."""
    tables = {(database or "shop", name) for database, name in _READ.findall(sql)}
    return len({name for _, name in tables}) == len(tables) or not re.search(r"\b(?:shop|other)\.\w+\.\*", sql)


@given(sql=st.booleans().flatmap(lambda whole: _query(whole=whole).filter(lambda sql: whole or _is_followed(sql))))
@settings(max_examples=examples(150))
async def test_random_queries_answer_as_in_clickhouse(both: Both, sql: str) -> None:
    await both.compare(sql, strict=False)


def test_messages_name_what_people_wrote(both: Both) -> None:
    message = as_written("Maybe you meant: ['d1_people.name', '_5_asked_elders.name', '_5_teams_t.n', 'q1_people.id']", both.snapshot)
    assert message == "Maybe you meant: ['people.name', 'elders.name', 'teams.n', 'people_quarantine.id']"


@pytest.mark.parametrize(
    ("meant", "told"),
    [
        ("['d1_visits.n']", ""),
        ("['d1_visits.n', 'v.n']", ". Maybe you meant: ['v.n']"),
        ("['v.n']", ". Maybe you meant: ['v.n']"),
    ],
)
def test_the_name_that_is_not_found_is_not_suggested(both: Both, meant: str, told: str) -> None:
    for quoted in ("`visits.n`", "'visits.n'"):
        message = f"Identifier {quoted} cannot be resolved. Maybe you meant: {meant} (UNKNOWN_IDENTIFIER)"
        assert as_written(message, both.snapshot) == f"Identifier {quoted} cannot be resolved{told} (UNKNOWN_IDENTIFIER)"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT v.n FROM visits AS v PREWHERE visits.n > 10",
        "SELECT visits.n, v.id FROM visits v PREWHERE visits.n > 10 WHERE visits.who < 9 ORDER BY visits.n",
        "SELECT `visits`.n AS x FROM shop.visits AS v PREWHERE shop.visits.n > 10 AND visits.id > 1",
        "SELECT v.n, people.name FROM visits AS v JOIN people AS p ON people.id = visits.who PREWHERE visits.n > 10",
        "SELECT v.n FROM (SELECT visits.n FROM visits AS w PREWHERE visits.n > 10) AS v",
        "SELECT count() AS c FROM visits AS v PREWHERE visits.n > 10 AND v.id IN (SELECT id FROM people)",
        "SELECT sum(people.id) AS s FROM people AS p FINAL PREWHERE people.id > 1",
        "SELECT visits.* FROM visits AS v PREWHERE visits.n > 10",
    ],
)
async def test_a_prewhere_by_the_tables_own_name_beside_an_alias(both: Both, sql: str) -> None:
    found = await both.ours(sql, NO_BARRIERS)
    expected = await both.plain(sql)
    assert isinstance(expected, tuple) and _called(found, str) == expected


@pytest.mark.parametrize(
    ("sql", "first"),
    [
        ("SELECT 1 FROM a.x JOIN a.y ON 1", "x"),
        ("WITH y AS (SELECT * FROM a.y) SELECT 1 FROM a.x AS x JOIN y ON 1", "x"),
        ("WITH y AS (SELECT * FROM a.y), x AS (SELECT * FROM a.x JOIN y ON 1) SELECT 1 FROM x AS q", "x"),
        ("SELECT (SELECT 1 FROM a.y) FROM (SELECT * FROM a.x)", "x"),
        ("WITH x AS (SELECT * FROM x) SELECT 1 FROM x", "x"),
    ],
)
def test_the_left_most_table_is_found_through_ctes(sql: str, first: str) -> None:
    found = first_table(sql)
    assert found is not None and found.name == first
