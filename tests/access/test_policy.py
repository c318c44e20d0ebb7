"""Row policies: only context values, typed strictly, printed by the one printer (attacks A23 to A26, J16)."""

from __future__ import annotations

import random
import re
import string
import uuid
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import examples
from pipit.access.context import SecurityContext, TokenKind
from pipit.access.policy import Policy, combine
from pipit.datafiles.resources import Column, DataSource, Position, RowPolicy
from pipit.engine import Engine
from pipit.errors import DatafileError, Forbidden
from pipit.sql.lexer import LexerKind as Kind
from pipit.sql.lexer import significant, string_value, tokenize
from pipit.sql.literals import quote_string

TWO_KEYS = """customer_id = {{String(context.customer_id)}}
{% if defined(context.team) %} AND team = {{String(context.team)}} {% end %}"""


def policy(condition: str, *optional: str) -> Policy:
    given = RowPolicy(condition, frozenset(optional), Position(10, 5))
    return Policy.compile(DataSource("events", "datasources/events.datasource", (), row_policy=given))


def tenant(**context: object) -> SecurityContext:
    return SecurityContext("w", TokenKind.JWT, "acme", (), context)  # type: ignore[arg-type]


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_policy_of_two_keys() -> None:
    compiled = policy(TWO_KEYS, "team")
    assert compiled.keys == {"customer_id", "team"}
    assert compiled.required == {"customer_id"}
    assert words(compiled.filter_for(tenant(customer_id="acme"))) == "(customer_id = 'acme')"
    both = compiled.filter_for(tenant(customer_id="acme", team="sales", more="x"))
    assert words(both) == "(customer_id = 'acme') AND (team = 'sales')"
    assert words(compiled.example()) == "(customer_id = 'a') AND (team = 'a')"


def test_a24_a_token_without_the_key_is_refused_and_the_key_named() -> None:
    for context in ({}, {"team": "sales"}, {"CUSTOMER_ID": "acme"}, {"customer_id ": "acme"}):
        with pytest.raises(Forbidden, match="customer_id") as caught:
            policy(TWO_KEYS, "team").filter_for(tenant(**context))
        assert caught.value.status == 403


@pytest.mark.parametrize("value", [None, "", (), [], {}, True, 0, 1.5, ("A", "B"), ["A", "B"], "\ud800"])
def test_a23_a_value_of_another_type_is_refused(value: object) -> None:
    for compiled, key in ((policy(TWO_KEYS, "team"), "customer_id"), (policy(TWO_KEYS, "team"), "team")):
        context = {"customer_id": "A"} | {key: value}
        with pytest.raises(Forbidden, match=key):
            compiled.filter_for(tenant(**context))


@pytest.mark.parametrize(
    ("type", "value", "printed"),
    [
        ("String", "it's", r"'it\'s'"),
        ("String", "A,B", "'A,B'"),
        ("Int32", -5, "(-5)"),
        ("UInt64", 2**64 - 1, "18446744073709551615"),
        ("UInt64", "42", "42"),
        ("UInt256", 2**200, f"CAST('{2**200}', 'UInt256')"),
        ("Int", 5, "5"),
        ("Integer", "-7", "(-7)"),
        ("Float64", 1.5, "1.5"),
        ("Float64", "2", "2.0"),
        ("Boolean", True, "true"),
        ("Boolean", False, "false"),
        ("Date", "2024-02-29", "'2024-02-29'"),
        ("DateTime", "2024-02-29 10:00:00", "'2024-02-29 10:00:00'"),
        ("Array", ("a", "b'"), r"['a', 'b\'']"),
    ],
)
def test_values_are_printed_as_literals_of_their_type(type: str, value: object, printed: str) -> None:
    compiled = policy(f"x = {{{{{type}(context.x)}}}}")
    assert words(compiled.filter_for(tenant(x=value))) == f"(x = {printed})"


@pytest.mark.parametrize(
    ("type", "value"),
    [
        ("UInt8", 256),
        ("UInt8", -1),
        ("UInt8", True),
        ("UInt8", 1.0),
        ("UInt8", "1;"),
        ("UInt8", "１"),
        ("UInt8", "0x1"),
        ("UInt8", ""),
        ("UInt8", (1,)),
        ("Int", 2**256),
        ("Float64", "nan"),
        ("Float64", "inf"),
        ("Float64", float("nan")),
        ("Float64", True),
        ("Boolean", 1),
        ("Boolean", "true"),
        ("Date", "2024-13-45"),
        ("Date", 20240101),
        ("Date", "2024-01-01' OR '1"),
        ("DateTime", "now()"),
        ("Array", "a,b"),
        ("Array", ()),
        ("Array", (1, 2)),
        ("Array", ("a", "")),
        ("Array", ("a", None)),
    ],
)
def test_c11_a23_what_is_not_of_the_type_is_refused(type: str, value: object) -> None:
    with pytest.raises(Forbidden, match="'x' is not a value of type") as caught:
        policy(f"x = {{{{{type}(context.x)}}}}").filter_for(tenant(x=value))
    assert str(value) not in caught.value.message or len(str(value)) < 3


def test_arrays_of_numbers() -> None:
    compiled = policy("x IN {{Array(context.x, 'UInt32')}} AND y IN {{Array(context.y, 'Int')}}")
    found = words(compiled.filter_for(tenant(x=(1, 2), y=(1, -300))))
    assert found == "(x IN [1, 2] AND y IN [1, (-300)])"
    for bad in ((1, 2**32), ("1", "x"), (True,)):
        with pytest.raises(Forbidden, match="'x' is not a value of type Array"):
            compiled.filter_for(tenant(x=bad, y=(1,)))


REFUSED = {
    "a = '{{String(context.a)}}'": "quotes",
    'a = "{{String(context.a)}}"': "quotes",
    "a = $$ {{String(context.a)}} $$": "quotes",
    "`{{String(context.a)}}` = 1": "quotes",
    "t.{{String(context.a)}} = 1": "quotes",
    "{{String(context.a)}}(1)": "quotes",
    "x::{{String(context.a)}}": "quotes",
    "a = '_value_of_the_context_0' OR b = '{{String(context.a)}}'": "quotes",
    "a = {{context.a}}": "{{Type(context.key)}}",
    "a = {{String(a)}}": "{{Type(context.key)}}",
    "a = {{String(context.a, 'x')}}": "no defaults",
    "a = {{String(context.a.b)}}": "{{Type(context.key)}}",
    "a = {{String(context['a'])}}": "{{Type(context.key)}}",
    "a = {{tb_secret('x')}}": "{{Type(context.key)}}",
    "a = {{column(context.a)}}": "not a type",
    "a = {{symbol(context.a)}}": "not a type",
    "a = {{JSON(context.a)}}": "not a type",
    "a = {{Array(context.a, 'JSON')}}": "not a type",
    "a = {{Array(context.a, 'Nonsense')}}": "not a type",
    "{% set x = 1 %} a = 1": "does not take",
    "{% for x in y %} a = 1 {% end %}": "does not take",
    "a = 1 {% if defined(a) %} AND b = 1 {% end %}": "does not take",
    "a = 1 {% if not defined(context.o) %} AND b = 1 {% end %}": "does not take",
    "a = 1 {% if context.o == 1 %} AND b = 1 {% end %}": "does not take",
    "a = 1 {% if defined(context.o) %} AND b = 1 {% else %} AND b = 2 {% end %}": "does not take",
    "a = 1 {% if defined(context.o) %} AND b = 1": "no {% end %}",
    "a = 1 {% end %}": "does not take",
    "a = 1 {% if defined(context.x) %} AND b = 1 {% end %}": "not optional",
    "a = {{String(context.o)}} {% if defined(context.o) %} AND b = 1 {% end %}": "inside {% if defined(context.o) %}",
    "a = 1 {% if defined(context.o) %} OR b = 1 {% end %}": "begin with AND",
    "a = 1 {% if defined(context.o) %} ANDb = 1 {% end %}": "begin with AND",
    "a = 1 {% if defined(context.o) %} {% end %}": "begin with AND",
    "a = 1 {% if defined(context.o) %} AND {% end %}": "empty",
    "a = 1 {% if defined(context.o) %} AND b = 1) OR (1 = 1 {% end %}": "closes nothing",
    "a = 1 {% if defined(context.o) %} AND (b = 1 {% end %})": "missing",
    "(a = 1 {% if defined(context.o) %} AND b = 1 {% end %})": "outside of brackets",
    "a = 1 OR c = 1 {% if defined(context.o) %} AND b = 1 {% end %}": "brackets",
    "a = 1 {% if defined(context.o) %} AND b = 1 {% end %} OR c = 1": "begin with AND",
    "a = 1 {% if defined(context.o) %} AND b = 1 {% end %} AND c = 1 OR d = 1": "brackets",
    "a = 1 {% if defined(context.o) %} AND b = 1 {% end %} + 1": "begin with AND",
    "a = 1 {% if defined(context.o) %} AND b = 1 {% end %} {{String(context.a)}}": "begin with AND",
    "{% if defined(context.o) %} AND b = 1 {% end %}": "cannot begin",
    "a = 1 {% if defined(context.o) %} AND b = 1 {% if defined(context.o) %} AND c = 1 {% end %}{% end %}": "nested",
    "a = 1": "ROW_POLICY_OPTIONAL",
    "a = {{ String(context.a)": "Missing end",
    "a IN (SELECT 1) {% if defined(context.o) %} AND b = 1 {% end %}": "outside of brackets",
    "a IN tbl": "list of values",
    "a = 1; DROP TABLE x": "';'",
    "a = 1 -- x": "comment",
}


@pytest.mark.parametrize(("condition", "why"), REFUSED.items(), ids=range(len(REFUSED)))
def test_c08_any_other_form_is_an_error_of_the_deploy_with_its_place(condition: str, why: str) -> None:
    with pytest.raises(DatafileError) as caught:
        policy(condition, "o")
    assert why in caught.value.message
    assert str(caught.value).startswith("datasources/events.datasource:10:")


def test_an_error_stands_at_its_line_and_column() -> None:
    with pytest.raises(DatafileError) as caught:
        policy("a = 1\n  AND b = {{String(b)}}")
    assert (caught.value.line, caught.value.column) == (11, 15)
    assert caught.value.excerpt == "  AND b = {{String(b)}}"


def test_what_follows_an_optional_part() -> None:
    compiled = policy("a = 1 {% if defined(context.o) %} AND b = {{Int8(context.o)}} {% end %} AND c = 2", "o")
    assert words(compiled.filter_for(tenant())) == "(a = 1 AND c = 2)"
    assert words(compiled.filter_for(tenant(o=5))) == "(a = 1 AND c = 2) AND (b = 5)"


def test_an_optional_part_can_only_narrow() -> None:
    compiled = policy("a = 1 {% if defined(context.o) %} AND b = 1 OR 1 = 1 {% end %}", "o")
    assert words(compiled.filter_for(tenant(o="x"))) == "(a = 1) AND (b = 1 OR 1 = 1)"


def test_filters_are_combined_with_and() -> None:
    assert combine(["a = 1 OR b = 2", "c = 3"]) == "(a = 1 OR b = 2) AND (c = 3)"
    for nothing in ([], [""], ["a = 1", " "]):
        with pytest.raises(ValueError):
            combine(nothing)


HOSTILE = st.text(max_size=40) | st.text(
    alphabet=st.sampled_from(list("'\\\"`-/*#;(){}$%\0\n\r\t\b\f\v\x1a ‘’“”ΑAaé🐦")), max_size=20
)
COLLECTED = policy("a = {{String(context.x)}} AND b IN {{Array(context.y, 'String')}} OR c={{String(context.x)}}")


@settings(max_examples=examples(2000))
@given(x=HOSTILE.filter(bool), y=st.lists(HOSTILE.filter(bool), min_size=1, max_size=3))
def test_a25_no_value_changes_the_structure(x: str, y: list[str]) -> None:
    """The tokens are those of a harmless value, and the text that stands in them is the value."""
    if any("\ud800" <= character <= "\udfff" for character in x + "".join(y)):
        return
    plain = significant(tokenize(COLLECTED.filter_for(tenant(x="v", y=("v",) * len(y)))))
    found = significant(tokenize(COLLECTED.filter_for(tenant(x=x, y=tuple(y)))))
    assert [t.kind for t in found] == [t.kind for t in plain]
    assert [t.text for t in found if t.kind is not Kind.STRING] == [t.text for t in plain if t.kind is not Kind.STRING]
    assert [string_value(t.text) for t in found if t.kind is Kind.STRING] == [x, *y, x]


@settings(max_examples=examples(500))
@given(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), HOSTILE, st.lists(HOSTILE, max_size=2).map(tuple))
)
def test_a23_whatever_the_context_holds_the_answer_is_a_filter_or_403(value: object) -> None:
    for type in ("String", "UInt64", "Int", "Float64", "Boolean", "Date", "DateTime64", "Array"):
        compiled = policy(f"x = {{{{{type}(context.x)}}}}")
        try:
            found = compiled.filter_for(tenant(x=value))
        except Forbidden:
            continue
        assert found.startswith("(x = ")


# --- in the engine -------------------------------------------------------------------------------------------------


def hostile_values() -> list[str]:
    """The classics, and random mixes of what quoting gets wrong."""
    classics = [
        "A",
        "B",
        "a",
        "A ",
        " A",
        "Α",
        "A\0B",
        "A,B",
        "A' OR 1=1 --",
        "A\\' OR 1=1 --",
        "A\\",
        "\\",
        "'",
        "''",
        "\\'",
        "' OR ''='",
        "{{x}}",
        "{x:String}",
        "%27",
        "\\x27",
        "\\u0027",
        "%",
        "_",
        "\n",
        "\r\n",
        "\t",
        "\x1a",
        "‘",
        "’ OR 1=1 --",
        "“",
        "$$",
        "/*",
        "--",
        "#",
        ";",
        "NULL",
        "1",
        "')",
        "') OR (1=1",
        "}, 'x': '1",
        "\u200b",
        "\ufeff",
        "é",
        "é",
        "🐦",
    ]
    rng = random.Random(26)
    alphabet = "'\\\"`-/*#;(){}$%,: \0\n\r\t\b\f\v\x1a‘’“”\u2028Αé🐦" + string.ascii_letters[:6] + "0nrtxN"
    mixes = {"".join(rng.choices(alphabet, k=rng.randint(1, 12))) for _ in range(700)}
    return list(dict.fromkeys([*classics, *sorted(mixes)]))


@pytest.fixture
async def database(engine: Engine) -> AsyncIterator[str]:
    name = f"policy_{uuid.uuid4().hex[:12]}"
    await engine.command(f"CREATE DATABASE `{name}`")
    yield name
    await engine.command(f"DROP DATABASE `{name}`")


@pytest.mark.anyio
async def test_a25_a26_the_value_that_the_engine_compares_is_the_value_sent(engine: Engine, database: str) -> None:
    """One row for each hostile value: the filter lets through that row and no other."""
    values = hostile_values()
    table = f"`{database}`.events"
    await engine.command(
        f"CREATE TABLE {table} (i UInt32, h String, v String DEFAULT unhex(h)) ENGINE = MergeTree ORDER BY v"
    )
    await engine.insert(table, [{"i": i, "h": v.encode().hex()} for i, v in enumerate(values)])
    compiled = policy("v = {{String(context.v)}} AND v IN {{Array(context.list, 'String')}}")
    for i, value in enumerate(values):
        condition = compiled.filter_for(tenant(v=value, list=(value, value + "'")))
        rows = await engine.rows(
            f"SELECT i FROM {table}",
            settings={
                "readonly": 1,
                "additional_table_filters": f"{{{quote_string(f'{database}.events')}: {quote_string(condition)}}}",
            },
        )
        assert rows == [{"i": i}], repr(value)


@pytest.mark.anyio
async def test_a25_no_value_changes_the_engine_s_own_tree(engine: Engine) -> None:
    compiled = policy(TWO_KEYS, "team")

    async def tree(value: str) -> list[str]:
        condition = compiled.filter_for(tenant(customer_id=value, team=value))
        rows = await engine.rows(f"EXPLAIN AST SELECT 1 FROM t WHERE {condition}")
        lines = [re.sub(r"Literal '.*'\Z", "Literal", row["explain"], flags=re.DOTALL) for row in rows]
        assert sum(line.endswith("Literal") for line in lines) == 2
        return lines

    harmless = await tree("v")
    for value in hostile_values()[:200]:
        assert await tree(value) == harmless, repr(value)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("type", "clickhouse", "value", "others"),
    [
        ("UInt64", "UInt64", 2**64 - 1, [0, 2**63, 2**64 - 2]),
        ("UInt64", "UInt64", "9007199254740993", [9007199254740992, 9007199254740994]),
        ("Int64", "Int64", -(2**63), [-(2**63) + 1, 0, 2**63 - 1]),
        ("Int", "Int128", -(2**100), [2**100, 0]),
        ("UInt256", "UInt256", 2**256 - 1, [2**256 - 2, 0]),
        ("Float64", "Float64", 0.1, [0.2, -0.1, 0]),
        ("Boolean", "Bool", True, [False]),
        ("Date", "Date", "2024-02-29", ["2024-03-01", "1970-01-01"]),
        ("DateTime", "DateTime", "2024-02-29 10:00:00", ["2024-02-29 10:00:01"]),
    ],
)
async def test_other_types_compare_as_sent(
    engine: Engine, database: str, type: str, clickhouse: str, value: object, others: list[object]
) -> None:
    table = f"`{database}`.t"
    await engine.command(f"CREATE TABLE {table} (i UInt8, v {clickhouse}) ENGINE = MergeTree ORDER BY i")
    await engine.insert(
        table, [{"i": i, "v": v if isinstance(v, bool) else str(v)} for i, v in enumerate([value, *others])]
    )
    condition = policy(f"v = {{{{{type}(context.v)}}}} AND v IN {{{{Array(context.l, '{type}')}}}}").filter_for(
        tenant(v=value, l=(value, value))
    )
    assert await engine.rows(f"SELECT i FROM {table} WHERE {condition}") == [{"i": 0}]


COLUMNS = tuple(Column(name, "String") for name in ("customer_id", "team", "region", "lower", "a b", "n.x", "n"))


@pytest.mark.parametrize(
    ("condition", "context", "columns"),
    [
        ("customer_id = {{String(context.customer_id)}}", {}, {"customer_id"}),
        (TWO_KEYS, {}, {"customer_id"}),
        (TWO_KEYS, {"team": "x"}, {"customer_id", "team"}),
        ("lower(customer_id) = {{String(context.c)}} AND region != ''", {}, {"customer_id", "region"}),
        ("`customer_id` = {{String(context.c)}} OR \"a b\" = 'x'", {}, {"customer_id", "a b"}),
        ("events.customer_id = {{String(context.c)}}", {}, {"customer_id"}),
        ("n.x = {{String(context.c)}}", {}, {"n.x", "n"}),
        ("`n.x` = {{String(context.c)}}", {}, {"n.x"}),
        ("'region' = {{String(context.c)}}", {}, set()),
    ],
)
def test_the_columns_that_a_policy_compares(condition: str, context: dict[str, object], columns: set[str]) -> None:
    optional = frozenset({"team"}) if "defined" in condition else frozenset()
    given = RowPolicy(condition, optional, Position(10, 5))
    compiled = Policy.compile(DataSource("events", "datasources/events.datasource", COLUMNS, row_policy=given))
    assert compiled.columns_for(tenant(**context)) == columns


NUMBERS = (
    Column("n", "UInt64"),
    Column("d", "LowCardinality(Nullable(Int8))"),
    Column("p", "Decimal(9, 2)"),
    Column("s", "String"),
)


@pytest.mark.parametrize(
    "condition",
    [
        "n = {{String(context.x)}}",
        "s = 'a' AND (d) != {{String(context.x)}}",
        "{{String(context.x)}} == p",
        "n IN {{Array(context.x)}}",
        "n NOT IN ({{String(context.x)}}, {{String(context.x)}})",
        "`n` IN ({{String(context.x)}})",
        "s = 'a' {% if defined(context.o) %} AND p = {{String(context.o)}} {% end %}",
    ],
)
def test_a_number_is_not_compared_with_a_text(condition: str) -> None:
    """The engine reads '18446744073709551658' as the UInt64 42, and '1.54' as the Decimal 1.5: another tenant's."""
    given = RowPolicy(condition, frozenset({"o"}) if "context.o" in condition else frozenset(), Position(10, 5))
    with pytest.raises(DatafileError, match="a number, with a text") as caught:
        Policy.compile(DataSource("events", "events.datasource", NUMBERS, row_policy=given))
    assert caught.value.line == 10


def test_a_text_beside_a_number_is_no_comparison() -> None:
    for condition in (
        "s = {{String(context.x)}} AND n > 5",
        "n = 5 AND s = {{String(context.x)}}",
        "n = {{UInt64(context.x)}}",
    ):
        Policy.compile(DataSource("events", "e", NUMBERS, row_policy=RowPolicy(condition)))


KINDS = [
    # a policy, the column's type, the key's value, values of rows of which only the first is the token's
    ("v = {{UInt64(context.v)}}", "LowCardinality(UInt64)", "42", ["42", "420", "4", "18446744073709551615"]),
    ("v = {{Int64(context.v)}}", "Int64", -1, ["-1", "1", "9223372036854775807"]),
    ("v = {{Int64(context.v)}}", "Decimal(18, 4)", 42, ["42", "42.0001", "-42"]),
    ("v = {{Float64(context.v)}}", "Float64", 1.5, ["1.5", "1.5000000000000002"]),
    (
        "v = {{String(context.v)}}",
        "UUID",
        "6d8f2c1e-0000-4000-8000-000000000001",
        ["6d8f2c1e-0000-4000-8000-000000000001", "6d8f2c1e-0000-4000-8000-000000000002"],
    ),
    ("toString(v) = {{String(context.v)}}", "Enum8('a' = 1, 'A' = 2, 'a ' = 3, '1' = 4)", "a", ["a", "A", "a ", "1"]),
    ("v = {{String(context.v)}}", "LowCardinality(Nullable(String))", "a", ["a", "A", "a ", "\u0430", "", None]),
    ("v = {{String(context.v)}}", "String", "42", ["42", "042", "42.0", "42 "]),
    ("v IN {{Array(context.v, 'UInt32')}}", "UInt32", (7,), ["7", "77", "0"]),
    ("v IN ({{String(context.v)}}, 'z')", "String", "a", ["a", "A", "b"]),
    ("has(v, {{String(context.v)}})", "Array(String)", "a", [["a", "b"], ["A"], [], ["a "]]),
    ("hasAny(v, {{Array(context.v)}})", "Array(String)", ("a", "q"), [["b", "q"], ["Q"], [], ["a "]]),
    (
        "hasAny(v, {{Array(context.v, 'UInt64')}})",
        "Array(UInt64)",
        (2**64 - 1,),
        [[1, "18446744073709551615"], [1], []],
    ),
    ("has({{Array(context.v)}}, v)", "String", ("a", "q"), ["q", "Q", "", "a,q"]),
    ("v = {{Boolean(context.v)}}", "Bool", False, [False, True]),
    (
        "v = {{DateTime64(context.v)}}",
        "DateTime64(3)",
        "2024-01-01 00:00:00.123",
        ["2024-01-01 00:00:00.123", "2024-01-01 00:00:00.124"],
    ),
]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]} {kind[1]}")
async def test_a26_every_kind_of_value_meets_its_own_rows(
    engine: Engine, database: str, kind: tuple[str, str, object, list[object]]
) -> None:
    """Through the filter of a read, not a WHERE: of all rows the first, of case, space, homoglyph and number alike."""
    condition, type, value, rows = kind
    await engine.command(f"CREATE TABLE `{database}`.t (i UInt8, v {type}) ENGINE = MergeTree ORDER BY i")
    await engine.insert(f"`{database}`.t", [{"i": i, "v": v} for i, v in enumerate(rows)])
    given = RowPolicy(condition)
    compiled = Policy.compile(DataSource("t", "t.datasource", (Column("v", type),), row_policy=given))

    async def seen(filter: str) -> list[int]:
        setting = f"{{{quote_string(f'{database}.t')}: {quote_string(filter)}}}"
        found = await engine.rows(
            f"SELECT i FROM `{database}`.t ORDER BY i", settings={"readonly": 1, "additional_table_filters": setting}
        )
        return [row["i"] for row in found]

    assert await seen(compiled.filter_for(tenant(v=value))) == [0]
    assert isinstance(await seen(compiled.example()), list)  # what a deploy tries
    other = (value,) if not isinstance(value, tuple) else value[0]
    with pytest.raises(Forbidden, match="'v' is not a value"):  # a list for a scalar, a scalar for a list
        compiled.filter_for(tenant(v=other))
