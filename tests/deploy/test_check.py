"""`pipit check`: everything at once, sorted, nothing said twice, and warnings for what answers differently here."""

from __future__ import annotations

import re

import pytest

from pipit.deploy.check import Checked, check_files
from pipit.engine import Engine

pytestmark = pytest.mark.anyio

EVENTS = "SCHEMA >\n    `at` DateTime `json:$.at`,\n    `name` String `json:$.name`\n\nENGINE MergeTree\nENGINE_SORTING_KEY at\n"
TOTALS = "SCHEMA >\n    `name` String,\n    `n` UInt64\n\nENGINE SummingMergeTree\nENGINE_SORTING_KEY name\n"


def pipe(sql: str, more: str = "TYPE endpoint\n") -> str:
    return "NODE e\nSQL >\n" + "".join(f"    {row}\n" for row in sql.split("\n")) + "\n" + more


async def checked(engine: Engine, **files: str) -> Checked:
    return await check_files(engine, {name.replace("__", "."): text for name, text in files.items()})


def lines(found: Checked) -> list[str]:
    return [str(error) for error in found.errors]


async def test_errors_of_every_stage_come_together_and_sorted(engine: Engine) -> None:
    found = await checked(
        engine,
        events__datasource=EVENTS,
        bad__datasource="SCHEMA >\n    `a` Boolean\n",
        worse__datasource="SCHEMA >\n    `a` Strin\n",
        a_view__pipe=pipe("SELECT nam FROM events", "TYPE materialized\nDATASOURCE totals\n"),
        totals__datasource=TOTALS,
        b_view__pipe=pipe(
            "%\nSELECT name, {{UInt64(n, 1)}} AS n FROM events", "TYPE materialized\nDATASOURCE totals\n"
        ),
        parse__pipe="NODE e\nSQL SELECT 1\nSQL >\n    SELECT 1\n",
        template__pipe=pipe("%\nSELECT {{String(a}}"),
        unclosed__pipe=pipe("%\nSELECT 1 {% if defined(a) %}"),
        engine__pipe=pipe("SELECT nme FROM events"),
    )
    assert [(e.file, e.line, e.column) for e in found.errors] == [
        ("a_view.pipe", 3, 12),
        ("b_view.pipe", 3, 5),
        ("bad.datasource", 2, 9),
        ("engine.pipe", 3, 12),
        ("parse.pipe", 2, 1),
        ("template.pipe", 4, 12),
        ("unclosed.pipe", 4, 14),
        ("worse.datasource", 2, 5),
    ], lines(found)


async def test_what_follows_from_a_file_that_is_wrong_is_not_said(engine: Engine) -> None:
    found = await checked(
        engine,
        events__datasource=EVENTS.replace("DateTime", "DateTime64"),
        reads__pipe=pipe("SELECT name FROM events"),
        reads_it__pipe=pipe("%\nSELECT name FROM reads WHERE name = {{String(name)}}"),
        fills__pipe=pipe("SELECT 1 AS name", "TYPE materialized\nDATASOURCE events\n"),
        copies__pipe=pipe("SELECT name FROM events", "TYPE copy\nTARGET_DATASOURCE events\n"),
        other__pipe=pipe("SELECT * FROM nowhere"),
    )
    assert lines(found) == [
        "events.datasource:2:10: DateTime64 type without precision is not supported",
        "other.pipe:3:19: node 'e': Resource 'nowhere' not found",
    ]
    assert not [w for w in found.warnings if "'events'" in w.message]


async def test_a_mistake_that_only_names_a_wrong_file_is_told(engine: Engine) -> None:
    """A column has the name of a data source whose file is wrong: that is another mistake, and not told by the first."""
    found = await checked(
        engine,
        events__datasource=EVENTS.replace("DateTime", "DateTime64"),
        logs__datasource=EVENTS,
        other__pipe=pipe("SELECT events FROM logs"),
        asks__pipe=pipe("%\nSELECT {{Int32(events, 'x')}} AS n FROM logs"),
    )
    assert [e.file for e in found.errors] == ["events.datasource", "other.pipe"], lines(found)


async def test_a_default_that_reads_like_a_missing_parameter_is_told(engine: Engine) -> None:
    """What a template that asks for a value says, as a value."""
    wrong = pipe("%\nSELECT {% if defined(a) %} {{Int32(n, 'evaluated to null')}} {% else %} 1 {% end %} AS n")
    (warning,) = (await checked(engine, p__pipe=wrong)).warnings
    assert "Error validating 'evaluated to null'" in warning.message


async def test_a_ttl_is_blamed_for_what_the_engine_says_of_it_alone(engine: Engine) -> None:
    """The place that the engine names is a field of a syntax error; a text of the file may read the same."""
    key = "ENGINE_PARTITION_KEY toYYYYMM(`failed at position 99999`)\nENGINE_TTL at + INTERVAL 1 DAY\n"
    text = EVENTS + key
    (error,) = (await checked(engine, events__datasource=text)).errors
    assert "ENGINE_TTL" not in error.message, error


async def test_a_table_that_cannot_be_made_is_told_once(engine: Engine) -> None:
    found = await checked(
        engine,
        event__datasource=EVENTS.replace("String", "Strng"),
        events__datasource=EVENTS,
        reads__pipe=pipe("SELECT name FROM event"),
        other__pipe=pipe("SELECT nam FROM events"),
    )
    assert [(e.file, e.line) for e in found.errors] == [("event.datasource", 3), ("other.pipe", 3)], lines(found)


async def test_views_that_read_a_table_that_cannot_be_made_say_nothing_of_their_own(engine: Engine) -> None:
    found = await checked(
        engine,
        events__datasource=EVENTS + "ENGINE_TTL nothing + INTERVAL 1 DAY\n",
        totals__datasource=TOTALS,
        v__pipe="NODE a\nSQL >\n    SELECT name, 1 AS n FROM events\nNODE b\nSQL >\n    SELECT name, n FROM a\n"
        "TYPE materialized\nDATASOURCE totals\n",
    )
    assert [error.file for error in found.errors] == ["events.datasource"]


async def test_a_message_has_the_names_that_people_wrote(engine: Engine) -> None:
    files = {"vendor/sales/orders.datasource": EVENTS, "a.pipe": pipe("SELECT t.nam FROM sales.orders AS t")}
    (error,) = (await check_files(engine, files)).errors
    assert "alias of sales.orders" in error.message and "d1_" not in error.message


async def test_a_view_is_tried_beside_an_endpoint_that_is_wrong(engine: Engine) -> None:
    found = await checked(
        engine,
        events__datasource=EVENTS,
        totals__datasource=TOTALS,
        view__pipe=pipe("SELECT name, [1] AS n FROM events", "TYPE materialized\nDATASOURCE totals\n"),
        wrong__pipe=pipe("SELECT nme FROM events"),
    )
    assert [error.file for error in found.errors] == ["view.pipe", "wrong.pipe"], lines(found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("cache_ttl('2m')", "Invalid TTL cache expression, valid expressions are ('5s', '1m', '5m', '30m', '1h')"),
        ("max_threads(0)", "max_threads() takes a number from 1 to 1024"),
        ("activate('nothing')", "'activate' takes one of: analyzer"),
    ],
)
async def test_what_is_wrong_for_every_request_is_an_error(engine: Engine, call: str, message: str) -> None:
    sql = "%\n{% if defined(never) %}\n{{" + call + "}}\n{% end %}\nSELECT 1"
    found = await checked(engine, one__pipe=pipe(sql))
    (error,) = found.errors
    assert message in error.message and (error.line, error.column) == (5, 5)


async def test_a_text_in_a_pattern_is_a_warning(engine: Engine) -> None:
    sql = "%\nSELECT name FROM events\nWHERE name LIKE concat('%', {{String(text)}}, '%')"
    found = await checked(engine, events__datasource=EVENTS, one__pipe=pipe(sql))
    assert not found.errors
    (warning,) = found.warnings
    assert str(warning) == "one.pipe:5:33: 'text' is part of a LIKE pattern: here a % in its value is a wildcard"
    assert "sql_unescape(String(text), '%')" in warning.hint


async def test_a_project_that_is_right(engine: Engine) -> None:
    found = await checked(engine, events__datasource=EVENTS, one__pipe=pipe("SELECT name FROM events"))
    assert found == Checked((), (), 1, 1, 1)


async def test_what_a_request_may_do_without_is_warned_of_with_its_place(engine: Engine) -> None:
    """A bad expression in a branch: one warning each, with file, line and column; both sides are tried all the same."""
    found = await checked(
        engine,
        events__datasource=EVENTS,
        branch__pipe=pipe(
            "%\nSELECT name FROM events\n{% if defined(a) %}\n  WHERE {{foo(a)}} {{Strng(a)}}\n{% elif b %}\n"
            "  WHERE name = {{b.uper()}}\n{% end %}"
        ),
        loop__pipe=pipe("%\nSELECT 1 AS one {% for x in Array(l) %}{% if not loop.first %},{% end %}{{x}}{% end %}"),
        wide__pipe=pipe("%\nSELECT {% set x = [i.upper() for i in 'ab'] %}{{','.join(x)}} AS v"),
        both__pipe=pipe("%\nSELECT {% if defined(a) %}{{foo(a)}}{% else %}nme{% end %} FROM events"),
        always__pipe=pipe("%\nSELECT {{foo(a)}} AS v"),
    )
    assert [(e.file, e.line) for e in found.errors] == [("always.pipe", 4), ("both.pipe", 4)], lines(found)
    warned = {(w.file, w.line, w.column): (w.message, w.hint) for w in found.warnings}
    end = "; a request that takes this branch fails"
    assert warned == {
        ("both.pipe", 4, 31): (f"node 'e': Invalid function name: foo{end}", ""),
        ("branch.pipe", 6, 13): (f"node 'e': Invalid function name: foo{end}", ""),
        ("branch.pipe", 6, 24): (f"node 'e': Invalid function name: Strng{end}", "Did you mean String?"),
        ("branch.pipe", 8, 20): (f"node 'e': Invalid method name: uper{end}", warned[("branch.pipe", 8, 20)][1]),
        ("loop.pipe", 4, 44): (f"node 'e': Invalid expression: loop.first{end}", ""),
    }


async def test_a_parameter_with_two_types_or_defaults_is_warned_of_with_both_places(engine: Engine) -> None:
    two = (
        "NODE a\nSQL >\n    %\n    SELECT {{Int32(n, 1)}} AS v, {{Int32(n, 1)}} AS w, {{Date(d, '2026-01-01')}} AS d\n\n"
        "NODE b\nSQL >\n    %\n    SELECT v FROM a WHERE v > {{Int64(n, 2)}} OR {{Date(d)}} > '' OR {{defined(n)}}\n"
        "    OR {{Int8(n, 3)}} > 0 OR {{Array(l, 'Int8', '1')}} = [1] OR {{Array(l, 'String', '1')}} = ['1']\nTYPE endpoint\n"
    )
    found = await checked(engine, events__datasource=EVENTS, two__pipe=two)
    assert not found.errors, lines(found)
    end = "at two.pipe:4:12: listings and OpenAPI show the first"
    assert [(w.line, w.column, w.message) for w in found.warnings if "parameter" in w.message] == [
        (9, 31, f"The parameter 'n' has the type Int64 here and Int32 {end}"),
        (9, 31, f"The parameter 'n' has the default 2 here and 1 {end}"),
        (10, 65, "The parameter 'l' has the type Array(String) here and Array(Int8) at two.pipe:10:30: "
                 "listings and OpenAPI show the first"),
    ]  # fmt: skip


async def test_what_was_meant(engine: Engine) -> None:
    """Tables, functions, types and engines that are misspelt, each with one error and a suggestion that fits, or none."""
    found = await checked(
        engine,
        events__datasource=EVENTS,
        typed__datasource="SCHEMA >\n    `a` Strin\n\nENGINE MergeTree\nENGINE_SORTING_KEY a\n",
        other__datasource="SCHEMA >\n    `a` Colour\n\nENGINE MergeTree\nENGINE_SORTING_KEY a\n",
        tables__pipe=pipe("SELECT name FROM evnts"),
        nodes__pipe="NODE first_one\nSQL >\n    SELECT 1 AS v\n\n" + pipe("SELECT v FROM frst_one"),
        nothing__pipe=pipe("SELECT name FROM something_else"),
        functions__pipe=pipe("SELECT toStartOfHuor(at) AS h FROM events"),
        aggregate__pipe=pipe("SELECT cuont() AS n FROM events"),
        unknown__pipe=pipe("SELECT frobnicate(name) AS n FROM events"),
    )
    hints = {error.file: error.hint for error in found.errors}
    assert len(hints) == len(found.errors) == 8, lines(found)
    assert hints["tables.pipe"] == "Did you mean events?" and hints["nodes.pipe"] == "Did you mean first_one?"
    assert hints["functions.pipe"] == "Did you mean toStartOfHour?" and hints["aggregate.pipe"] == "Did you mean count?"
    assert "Did you mean" not in hints["unknown.pipe"] + hints["nothing.pipe"] + hints["other.datasource"]
    typed = next(error for error in found.errors if error.file == "typed.datasource")
    assert "String" in typed.hint + typed.message, typed


async def test_a_syntax_error_shows_the_sql_that_it_means_once(engine: Engine) -> None:
    found = await checked(
        engine,
        events__datasource=EVENTS,
        broken__pipe="NODE a\nSQL >\n    %\n    SELECT name\n    FROM events\n    WHERE 1 AND AND name = {{String(x)}}\n"
        "NODE e\nSQL >\n    SELECT * FROM a\nTYPE endpoint\n",
        short__pipe=pipe("SELECT name FROM events WHERE"),
        late__pipe=pipe("%\nSELECT name FROM events {% if defined(x) %} WHERE name = {{String(x)}} {{String(x)}} {% end %}"),
    )
    first, short = found.errors
    assert (first.file, first.line) == ("broken.pipe", 6) and "after: WHERE 1 AND AND" in first.message
    assert "`name =` {p" in first.message
    assert "at the end of: " in short.message and short.message.endswith("SELECT name FROM events WHERE")
    (late,) = [w for w in found.warnings if w.file == "late.pipe"]
    assert "cannot be read at" in late.message
    assert not any("__no_value__" in told.message for told in (*found.errors, *found.warnings))


@pytest.mark.parametrize(
    ("sql", "place", "said"),
    [
        ("SELECT id FROM ev WHERE who = '' AND AND 1", (3, 42), "at `1` (after: SELECT id FROM ev WHERE who = '' AND AND)"),
        ("SELECT id FROM ev ORDER id", (3, 25), "at `id` (after: SELECT id FROM ev ORDER)"),
        ("SELECT 'ä' AS id FROM ev ORDER id", (3, 32), "at `id` (after: SELECT 'ä' AS id FROM ev ORDER)"),
        ("WITH x AS (SELECT id FROM ev) SELECT id FROM x, ev WHERE id id", (3, 61), "at `id`"),
        ("SELECT id FROM ev AS e WHERE who = 'a long text that goes on' AND who != 'b' AND AND 1", (3, 86), "at `1` (after: "),
        ("SELECT id FROM\n    ev\n    GROUP id", (5, 11), "at `id` (after: GROUP)"),
        ("SELECT id FROM one ORDER id", (6, 26), "at `id` (after: SELECT id FROM one ORDER)"),
        ("SELECT id FROM ev WHERE", (3, 24), "at the end of: SELECT id FROM ev WHERE"),
    ],
)
async def test_a_syntax_error_is_told_where_it_is_in_the_projects_names(
    engine: Engine, sql: str, place: tuple[int, int], said: str
) -> None:
    """Also where its word stands earlier in the text too, and where the text is cut."""
    one = "NODE one\nSQL >\n    SELECT id FROM ev\n" if "one" in sql else ""
    found = await checked(
        engine,
        ev__datasource="SCHEMA >\n    `id` Int32,\n    `who` String\nENGINE MergeTree\nENGINE_SORTING_KEY id\n",
        e__pipe=f"{one}NODE e\nSQL >\n    {sql}\nTYPE endpoint\n",
    )
    (error,) = found.errors
    assert f"cannot be read {said}" in error.message
    assert not re.search(r"ck_|[0-9a-f]{8}|d\d+_|_\d_|AS `ev`|`\.", error.message), error.message
    after = error.message.partition("(after: ")[2]
    assert not after or after.removesuffix(")").split()[0] in sql.split(), error.message
    assert (error.line, error.column) == (place[0], place[1] + 4 * (place[0] < 5 or bool(one))), error


async def test_nodes_that_are_broken_each_by_itself_are_all_told(engine: Engine) -> None:
    """Only a node that reads a broken one breaks by the same; another one with the same mistake has to be fixed too."""
    found = await checked(
        engine,
        events__datasource=EVENTS,
        two__pipe="NODE a\nSQL >\n    SELECT name FROM evnts\nNODE b\nSQL >\n    SELECT at FROM evnts\n"
        "NODE e\nSQL >\n    SELECT name FROM a\nTYPE endpoint\n",
    )
    assert [error.message.partition(":")[0] for error in found.errors] == ["node 'a'", "node 'b'"]


@pytest.mark.parametrize("ttl", ["at + INTERVAL 3 DAYZ", "at + INTERVAL 3", "at at2 at3", "at + toIntervalDay(3) 4"])
async def test_a_ttl_that_is_none_is_told_of_its_line(engine: Engine, ttl: str) -> None:
    found = await checked(engine, events__datasource=f"{EVENTS}ENGINE_TTL {ttl}\n")
    assert lines(found) == [f"events.datasource:7:1: The engine does not understand ENGINE_TTL {ttl}"]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("ids, 'int32'", "Did you mean Int32?"), ("ids, 'Int23'", "Did you mean Int"), 
        ("ids, 'Strng'", "Did you mean String?"),
        ("ids, 'uint64', '1,2'", "Did you mean UInt64?"), ("ids, element='int32'", "Did you mean Int32?"),
        ("ids, 'Int32'", ""), ("ids, Int32", ""), ("ids", ""), ("ids, \"'a', 'b'\"", ""), ("ids, 'paid,open'", ""),
        ("ids, '1,2'", ""),
    ],
)  # fmt: skip
async def test_an_elements_type_that_is_nearly_one_is_warned_of(engine: Engine, arguments: str, hint: str) -> None:
    found = await checked(engine, a__pipe=pipe("%\nSELECT {{Array(" + arguments + ")}} AS x"))
    assert not found.errors
    told = [w for w in found.warnings if "no type of elements" in w.message]
    assert [w.line for w in told] == ([4] if hint else [])
    assert all((w.hint or "").startswith(hint) for w in told)


@pytest.mark.parametrize("word", ["settings", "select", "as", "in", "ttl", "group", "delete", "order", "engine", "from"])
async def test_a_column_that_is_called_as_a_word_of_sql_in_keys_and_ttl(engine: Engine, word: str) -> None:
    schema = f"SCHEMA >\n    `id` UInt64,\n    `{word}` DateTime\n\nENGINE MergeTree\n"
    for lines_ in (
        f"ENGINE_SORTING_KEY id\nENGINE_TTL {word} + INTERVAL 1 DAY\n",
        f'ENGINE_SORTING_KEY id\nENGINE_TTL "{word} + toIntervalDay(1)"\nENGINE_SETTINGS index_granularity=4096\n',
        f"ENGINE_SORTING_KEY id\nENGINE_TTL toDateTime(id) + INTERVAL 1 DAY DELETE WHERE id > 1 AND {word} > '2020-01-01'\n",
        f"ENGINE_SORTING_KEY id, {word}\nENGINE_PARTITION_KEY toYYYYMM({word})\n",
    ):
        found = await check_files(engine, {"t.datasource": schema + lines_})
        assert not found.errors, (lines_, found.errors)


@pytest.mark.parametrize(
    ("sql", "place"),
    [
        ("SELECT 1 AS a UNION ALL SELECT 1, 2", (3, 19)),
        ("SELECT id FROM events\n    UNION ALL\n    SELECT id, id FROM events", (4, 5)),
        ("SELECT * EXCEPT id FROM events INTERSECT SELECT 1, 2, 3, 4, 5, 6, 7, 8, 9", (3, 36)),
        ("WITH c AS (SELECT 1 AS x) SELECT x FROM c EXCEPT SELECT x, x FROM c", (3, 47)),
        ("SELECT id FROM first UNION DISTINCT (SELECT id, 1 FROM first)", (3, 26)),
    ],
)
async def test_unequal_numbers_of_columns_are_an_error(engine: Engine, sql: str, place: tuple[int, int]) -> None:
    first = "NODE first\nSQL >\n    SELECT 1 AS id\n\n" if "first" in sql else ""
    pipe = f"{first}NODE n\nSQL >\n    {sql}\n\nTYPE endpoint\n"
    events = "SCHEMA >\n    `id` UInt64,\n    `b` String\n\nENGINE MergeTree\nENGINE_SORTING_KEY id\n"
    (error,) = (await check_files(engine, {"events.datasource": events, "p.pipe": pipe})).errors
    assert (error.file, error.line - first.count("\n"), error.column) == ("p.pipe", *place)
    assert "Different number of columns" in error.message


async def test_a_union_that_holds_together_is_none(engine: Engine) -> None:
    sql = "SELECT 1 AS a, 'x' AS b UNION ALL SELECT {{UInt8(n)}}, 'y' -- the end"
    pipe = f"NODE n\nSQL >\n    %\n    {sql}\n\nTYPE endpoint\n"
    found = await check_files(engine, {"p.pipe": pipe})
    assert not found.errors and not found.warnings
