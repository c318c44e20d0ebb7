"""What may stand in a data source's definition, piece by piece; what a piece could do to the whole is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipit.sql.expressions import (
    ExpressionError,
    Kind,
    check_codec,
    check_column_name,
    check_expression,
    check_setting,
    check_type,
    is_one_group,
)
from pipit.sql.lexer import LexerKind, significant, tokenize

COLUMNS = (
    *("ttl", "group", "set", "to", "recompress", "order", "index", "default", "codec", "delete", "where", "primary"),
    *("partition", "sample", "settings", "comment", "engine", "limit", "having", "union", "format", "first", "interval"),
)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Kind.KEY, "a, b"),
        (Kind.KEY, "(a, b)"),
        (Kind.KEY, "tuple()"),
        (Kind.KEY, "from, to, with, exists, `sel ect`, cityHash64(x) % 64"),
        (Kind.DEFAULT, "now()"),
        (Kind.DEFAULT, "CAST(x AS Nullable(String))"),
        (Kind.DEFAULT, "x::UInt8"),
        (Kind.DEFAULT, "x::Array(Nullable(String))"),
        (Kind.DEFAULT, "x IN ('a', lower('B'), (1, 2))"),
        (Kind.DEFAULT, "'; -- SELECT'"),
        (Kind.DEFAULT, "CASE WHEN (a = 1) THEN (1) ELSE (2) END"),
        (Kind.DEFAULT, "arrayMap(x -> x + 1, a)"),
        (Kind.INDEX, "(a, lower(b))"),
        (Kind.INDEX_TYPE, "bloom_filter(0.01)"),
        (Kind.INDEX_TYPE, "text(tokenizer = ngrams(3), preprocessor = lower(x))"),
        (Kind.TTL, "toDateTime(ts) + INTERVAL 3 MONTH"),
        # Words of the grammar where a column is due.
        *((Kind.TTL, f"{word} + INTERVAL 1 DAY DELETE WHERE b > {word}") for word in COLUMNS),
        *((Kind.TTL, f"toDate({word}) + toIntervalDay(1)") for word in (*COLUMNS, "select", "as", "in")),
        *((Kind.KEY, f"toYYYYMM({word}), {word}, id - {word}") for word in (*COLUMNS, "as", "in")),
        (Kind.KEY, "select, id"),
        *((Kind.TTL, f"{word} + INTERVAL 1 DAY") for word in ("select", "as", "in", "from", "with")),
        *((Kind.TTL, f"ts + INTERVAL 1 DAY DELETE WHERE {word} > 1 AND {word} < 9") for word in ("select", "as", "in")),
        (Kind.TTL, "ts + toIntervalDay(1) DELETE WHERE (x = 'a') AND f_x > 1, day + INTERVAL 1 YEAR"),
    ],
)
def test_allowed(kind: Kind, text: str) -> None:
    check_expression(text, kind=kind)


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        (Kind.KEY, "", "empty"),
        (Kind.KEY, "x) AS SELECT 1 --", "comment"),
        (Kind.KEY, "x) AS SELECT (1", "closes nothing"),
        (Kind.KEY, "(x]", "closes nothing"),
        (Kind.KEY, "(x", "is missing"),
        (Kind.KEY, "x; DROP TABLE t", "';'"),
        (Kind.KEY, "{x:Identifier}", "'{'"),
        (Kind.KEY, "'a", "quote"),
        (Kind.KEY, "x /* y */", "comment"),
        (Kind.KEY, "`a\nb`", "cannot be printed"),
        (Kind.KEY, "`a\\nb`", "cannot be printed"),
        (Kind.KEY, "x AS y", "AS"),
        (Kind.DEFAULT, "1, y UInt8", "','"),
        (Kind.DEFAULT, "(SELECT 1)", "SELECT"),
        (Kind.DEFAULT, "(FROM t)", "FROM"),
        (Kind.DEFAULT, "exists(t)", "EXISTS"),
        (Kind.DEFAULT, "x IN t", "IN needs"),
        (Kind.DEFAULT, "x IN (t)", "values only"),
        (Kind.DEFAULT, "x IN (`a`.`t`)", "values only"),
        (Kind.DEFAULT, "x in ((t))", "values only"),
        (Kind.DEFAULT, "x IN {t:Identifier}", "'{'"),
        (Kind.DEFAULT, "notIn(x, t)", "reads a table"),
        (Kind.DEFAULT, "file('/etc/passwd')", "'file'"),
        (Kind.DEFAULT, "`file` ('/etc/passwd')", "'file'"),
        (Kind.DEFAULT, "lower(hostName ())", "'hostName'"),
        (Kind.DEFAULT, "HOSTNAME()", "'HOSTNAME'"),
        (Kind.DEFAULT, "joinGet('j', 'a', 1)", "'joinGet'"),
        (Kind.DEFAULT, "@@version", "@@"),
        (Kind.INDEX_TYPE, "set(sleep(1))", "'sleep'"),
        (Kind.TTL, "ts GROUP BY x SET y = max(y)", "GROUP"),
        (Kind.TTL, "ts TO DISK 'a'", "TO"),
        (Kind.TTL, "ttl + INTERVAL 1 DAY TO DISK 'a'", "TO"),
        (Kind.TTL, "and GROUP BY x SET y = max(y)", "GROUP"),
        (Kind.TTL, "ts + group GROUP BY x SET y = max(y)", "GROUP"),
        (Kind.TTL, "interval GROUP BY x SET y = max(y)", "GROUP"),
        (Kind.TTL, "not RECOMPRESS 1", "RECOMPRESS"),
        (Kind.TTL, "delete WHERE x", "WHERE without"),
        (Kind.KEY, "a NOT IN t", "IN needs"),
        (Kind.KEY, "in(a, t)", "values only"),
        (Kind.KEY, "select -1", "SELECT"),
        (Kind.KEY, "(select 1)", "SELECT"),
        (Kind.KEY, "a AS b", "AS"),
        (Kind.TTL, "(select + 1)", "SELECT"),
        (Kind.TTL, "ts + toIntervalDay(select - 1)", "SELECT"),
        (Kind.TTL, "ts DELETE WHERE x AND (select - 1)", "SELECT"),
        (Kind.TTL, "ts DELETE WHERE x > 1 AS y", "AS"),
        (Kind.TTL, "ts DELETE WHERE x IN t", "IN needs"),
        (Kind.TTL, "ts DELETE WHERE x AND y IN t", "IN needs"),
        (Kind.TTL, "ts DELETE WHERE and IN t", "IN needs"),
        (Kind.FILTER, "x AND in IN t", "IN needs"),
        (Kind.TTL, "ts, * GROUP BY x SET y = max(y)", "GROUP"),
        (Kind.TTL, "settings SETTINGS disk = 'a'", "SETTINGS"),
        (Kind.TTL, "ttl SETTINGS disk = 'a'", "SETTINGS"),
        (Kind.TTL, "ts TO VOLUME 'a'", "TO"),
        (Kind.TTL, "ts RECOMPRESS CODEC(ZSTD(1))", "CODEC"),
        (Kind.TTL, "ts SETTINGS disk = 'a'", "SETTINGS"),
        (Kind.TTL, "ts WHERE x", "WHERE without"),
        (Kind.TTL, "ts DELETE, b WHERE x", "WHERE without"),
    ],
)
def test_refused(kind: Kind, text: str, why: str) -> None:
    with pytest.raises(ExpressionError, match=why.replace("(", r"\(")):
        check_expression(text, kind=kind)


@pytest.mark.parametrize(
    "text",
    [
        "String",
        "Nullable(Decimal(18, 4))",
        "DateTime64(3, 'Europe/Madrid')",
        "Enum8('a)' = 1, 'b' = -2)",
        "Tuple(a String, `b c` Array(Int8))",
        "AggregateFunction(sumMap, Array(UInt8), Array(UInt8))",
        "AggregateFunction(1, sumMap, Array(UInt8), Array(UInt8))",
        "AggregateFunction(quantilesIf(0.5, 0.9), Float64, UInt8)",
        "SimpleAggregateFunction(anyLast, Nullable(String))",
        "JSON(a.b UInt32, SKIP c, SKIP REGEXP 'x', max_dynamic_paths=3)",
    ],
)
def test_types(text: str) -> None:
    check_type(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "String, y String",
        "String DEFAULT 1",
        "String TTL now()",
        "String) ENGINE = Memory AS SELECT (1",
        "DateTime64(hostName())",
        "FixedString((SELECT 1))",
        "Tuple(SELECT(1))",
        "Nullable(sum(1))",
        "AggregateFunction(flameGraph, UInt64)",
        "AggregateFunction(file('a'), UInt64)",
        "String -- a",
        "Tuple(`a\nb` String)",
        "Array(String)[1]",
    ],
)
def test_no_types(text: str) -> None:
    with pytest.raises(ExpressionError):
        check_type(text)


def test_codecs() -> None:
    for text in ("CODEC(ZSTD(1))", "CODEC(Delta, LZ4)", "CODEC(T64('bit'), Default)"):
        check_codec(text)
    for text in (
        "CODEC(AES_256_GCM_SIV)",
        "CODEC(ZSTD(sleep(1)))",
        "CODEC(LZ4) TTL x",
        "CODEC",
        "ZSTD(1)",
        "CODEC((SELECT 1))",
    ):
        with pytest.raises(ExpressionError):
            check_codec(text)


def test_settings() -> None:
    for value in ("1", "'1'", "true", "0.5"):
        check_setting("index_granularity", value)
    for value in ("1 AS SELECT 1", "1, disk = 'a'", "sleep(1)", "(1)", "", "1 --", "`a`", "{a:UInt8}", "1; 2"):
        with pytest.raises(ExpressionError):
            check_setting("index_granularity", value)
    for name in ("disk", "storage_policy", "table_readonly", "table_disk", "no_such_setting", "INDEX_GRANULARITY"):
        with pytest.raises(ExpressionError):
            check_setting(name, "1")


def test_names() -> None:
    check_column_name("é 日本 `'")
    for name in ("", "a\nb", "a\x00", "a\x1b", "a\u2028b"):
        with pytest.raises(ExpressionError):
            check_column_name(name)


def test_groups() -> None:
    assert is_one_group("(a, b)") and is_one_group(" ((a), (b)) ") and is_one_group("(')')")
    for text in ("(a), (b)", "a", "", "(", "(x, '(') SETTINGS a = (')')", "(a) + 1"):
        assert not is_one_group(text)


_PIECES = st.sampled_from(
    [
        "x",
        "(",
        ")",
        "[",
        "]",
        ",",
        "'",
        "`",
        "--",
        "/*",
        "*/",
        ";",
        "SELECT",
        "IN",
        "AS",
        "f",
        "lower",
        "1",
        "'a'",
        "\\",
        "{",
        "}",
        ".",
        "=",
        "DELETE",
        "WHERE",
        "GROUP",
        "$$",
        "#",
        '"',
        "FROM",
        " ",
        "\n",
    ]
)


@example(text="SELECT")
@example(text="f(SELECT, 1)")
@example(text="SELECT 1")
@given(text=st.lists(_PIECES, max_size=12).map("".join))
def test_what_passes_stays_in_its_brackets(text: str) -> None:
    """Around any text that passes, brackets hold it: the lexer sees the same tokens, and the group ends at the end."""
    try:
        check_expression(text, kind=Kind.KEY)
    except ExpressionError:
        return
    assert is_one_group(f"({text})")
    tokens = significant(tokenize(f"({text}) END"))
    assert tokens[-1].text == "END"
    assert not any(t.kind in (LexerKind.COMMENT, LexerKind.SEMICOLON, LexerKind.ERROR) for t in tokens)
    # The name of a column may be SELECT; no query can begin with it where nothing follows.
    after_select = [after for t, after in itertools.pairwise(tokens) if t.text.upper() == "SELECT"]
    assert all(after.kind in (LexerKind.CLOSE, LexerKind.COMMA) for after in after_select)
