"""The one printer: what it prints, the engine reads back as the same value of the same type, as one expression."""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import json
import re
import struct
import uuid
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fuzz import examples
from pipit.engine import Engine
from pipit.sql.lexer import LexerKind, significant, tokenize
from pipit.sql.literals import print_literal, quote_string

BATCH = 100
FUZZ = settings(
    max_examples=examples(100),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # a failure names its case; shrinking a batch takes minutes
)

FRAGMENTS = [
    *"'\"`\\;-/*#$%_{}()[]\0\n\r\t\b\f\v\x1a\x7f ax1é１‘’“”−\u2028\ufeff\U0001f600",
    *["\\'", "''", "--", "*/", "/*", "{{x}}", "{p1:String}", "$$", "') OR 1=1 --", "\\0", "\\x27", "\\N", "NULL"],
]
texts = st.one_of(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join), st.text(max_size=30))


def typed(type: str, values: st.SearchStrategy[Any], expected: Any = str) -> st.SearchStrategy[tuple[str, Any, Any]]:
    return values.map(lambda value: (type, value, expected(value)))


def integers() -> list[st.SearchStrategy[tuple[str, Any, Any]]]:
    found = []
    for width in (8, 16, 32, 64, 128, 256):
        found.append(typed(f"UInt{width}", st.integers(0, (1 << width) - 1)))
        found.append(typed(f"Int{width}", st.integers(-(1 << width - 1), (1 << width - 1) - 1)))
    return found


def decimals(precision: int, scale: int) -> st.SearchStrategy[tuple[str, Any, Any]]:
    limit = 10**precision - 1
    values = st.integers(-limit, limit).map(lambda digits: decimal.Decimal(f"{digits}E-{scale}"))
    shown = f"Decimal({precision}, {scale})"
    return typed(shown, values, lambda value: decimal.Decimal(value))


moments = st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2106, 2, 7, 6, 28, 15)).map(
    lambda m: m.replace(microsecond=0)
)
fine_moments = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2262, 4, 11))
short = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4)

values = st.one_of(
    typed("String", texts),
    typed("LowCardinality(String)", texts),
    typed("Nullable(String)", st.none() | texts, lambda value: value),
    typed("FixedString(16)", short, lambda value: value + "\0" * (16 - len(value.encode()))),
    *integers(),
    typed("Float64", st.floats(allow_nan=False, allow_infinity=False), float),
    typed("Float32", st.floats(allow_nan=False, allow_infinity=False, width=32), float),
    decimals(9, 4),
    decimals(18, 0),
    decimals(38, 10),
    decimals(76, 76),
    typed("Bool", st.booleans(), lambda value: str(value).lower()),
    typed("Date", st.dates(dt.date(1970, 1, 1), dt.date(2149, 6, 6))),
    typed("Date32", st.dates(dt.date(1900, 1, 1), dt.date(2299, 12, 31))),
    typed("DateTime('UTC')", moments),
    typed("DateTime64(6, 'UTC')", fine_moments, lambda m: m.strftime("%Y-%m-%d %H:%M:%S.%f")),
    typed("UUID", st.uuids()),
    typed("IPv4", st.ip_addresses(v=4)),
    typed("IPv6", st.ip_addresses(v=6), lambda address: address),
    typed("Array(String)", st.lists(texts, max_size=4), list),
    typed("Array(Array(String))", st.lists(st.lists(texts, max_size=2), max_size=2), list),
    typed("Tuple(String, String)", st.tuples(texts, texts), list),
)


def as_sent(type: str, seen: Any) -> Any:
    """What the engine answered, as the case expects it."""
    if type == "Float32":
        return struct.unpack("f", struct.pack("f", seen))[0]
    if type == "Float64":
        return float(seen)
    if type.startswith("Decimal"):
        return decimal.Decimal(seen)
    return ipaddress.IPv6Address(seen) if type == "IPv6" else seen


@pytest.mark.anyio
@FUZZ
@given(batch=st.lists(values, min_size=BATCH, max_size=BATCH))
async def test_the_engine_reads_back_what_was_printed(engine: Engine, batch: list[tuple[str, Any, Any]]) -> None:
    columns = []
    for type, value, _ in batch:
        text = print_literal(value, type)
        assert not any(token.kind in (LexerKind.ERROR, LexerKind.COMMENT) for token in tokenize(text)), text
        plain = type.startswith(("String", "LowCard", "Nullable", "FixedString", "Array", "Tuple", "Float"))
        columns.append(text if plain else f"toString({text})")
    answer: list[Any] = json.loads(
        await engine.query(f"SELECT tuple({','.join(columns)})", format="JSONCompactEachRow")
    )
    for (type, value, expected), seen in zip(batch, answer[0], strict=True):
        assert as_sent(type, seen) == expected, (type, value, print_literal(value, type))


@pytest.mark.anyio
@FUZZ
@given(batch=st.lists(texts, min_size=BATCH, max_size=BATCH))
async def test_a_text_is_one_token_anywhere(engine: Engine, batch: list[str]) -> None:
    """Among what may stand around it, and with the same syntax tree as a harmless text."""
    parts = []
    for text in batch:
        literal = quote_string(text)
        tokens = significant(tokenize(f"a = {literal} AND (b IN ({literal},{literal}))"))
        assert [t.text for t in tokens if t.kind is LexerKind.STRING] == [literal] * 3
        assert len(tokens) == 13
        parts.append(literal)
    shape = "SELECT 1 WHERE concat({}) = '' OR x IN ({})"
    sql = shape.format(",".join(parts), ",".join(parts))
    quiet = shape.format(",".join(["'a'"] * BATCH), ",".join(["'a'"] * BATCH))
    trees = []
    for statement in (sql, quiet):
        found = (await engine.query(f"EXPLAIN AST {statement}", format="LineAsString")).decode()
        trees.append(re.sub(r"Literal .*", "Literal", found))
    assert trees[0] == trees[1]


@pytest.mark.anyio
async def test_types_are_kept(engine: Engine) -> None:
    cases: list[tuple[str, object]] = [
        ("Int128", -5),
        ("UInt256", 2**256 - 1),
        ("Float32", 0.1),
        ("Decimal(9, 2)", decimal.Decimal("1.5")),
        ("Date", dt.date(2020, 1, 1)),
        ("Date32", dt.date(1900, 1, 1)),
        ("DateTime", dt.datetime(2020, 1, 1)),
        ("DateTime64(3)", dt.datetime(2020, 1, 1)),
        ("UUID", uuid.UUID(int=5)),
        ("IPv4", "1.2.3.4"),
        ("Bool", True),
        ("FixedString(4)", "abc"),
        ("Array(Int64)", []),
    ]
    for type, value in cases:
        assert (await engine.rows(f"SELECT toTypeName({print_literal(value, type)}) AS t"))[0]["t"] == type


@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        (5, "Int32", "5"),
        (-5, "Int32", "(-5)"),
        (1.5, "Float64", "1.5"),
        (-0.0, "Float64", "(-0.0)"),
        (1, "Float64", "1.0"),
        ("it's\\", "String", "'it\\'s\\\\'"),
        ("a\0b\n", "String", "'a\\0b\\n'"),
        (True, "Bool", "true"),
        (None, "Nullable(Int8)", "NULL"),
        ([1, -2], "Array(Int8)", "[1, (-2)]"),
        (2**64, "UInt128", "CAST('18446744073709551616', 'UInt128')"),
        ("x", "Enum8('x' = 1, 'y,)' = 2)", "'x'"),
    ],
)
def test_printed(value: object, type: str, text: str) -> None:
    assert print_literal(value, type) == text


@pytest.mark.parametrize(
    ("value", "type"),
    [
        ("5", "Int32"),
        (True, "Int32"),
        (5.0, "Int32"),
        (None, "Int32"),
        (128, "Int8"),
        (-129, "Int8"),
        (256, "UInt8"),
        (-1, "UInt64"),
        (2**256, "UInt256"),
        (2**255, "Int256"),
        (float("nan"), "Float64"),
        (float("inf"), "Float64"),
        (float("-inf"), "Float32"),
        (10**400, "Float64"),
        ("1", "Float64"),
        (True, "Float64"),
        (1, "Bool"),
        ("true", "Bool"),
        (5, "String"),
        (b"x", "String"),
        ("\ud800", "String"),
        ("\udfff", "FixedString(8)"),
        ("abcde", "FixedString(4)"),
        ("ééé", "FixedString(5)"),
        (decimal.Decimal("1.234"), "Decimal(9, 2)"),
        (decimal.Decimal("12345678.9"), "Decimal(9, 2)"),
        (decimal.Decimal("NaN"), "Decimal(9, 2)"),
        (decimal.Decimal("Infinity"), "Decimal(9, 2)"),
        (1.5, "Decimal(9, 2)"),
        ("1.5", "Decimal(9, 2)"),
        ("2020-01-01", "Date"),
        (dt.date(1969, 12, 31), "Date"),
        (dt.date(2149, 6, 7), "Date"),
        (dt.date(1899, 12, 31), "Date32"),
        (dt.datetime(2020, 1, 1), "Date"),
        (dt.date(2020, 1, 1), "DateTime"),
        (dt.datetime(2106, 2, 7, 6, 28, 16), "DateTime"),
        (dt.datetime(1969, 12, 31), "DateTime"),
        (dt.datetime(2020, 1, 1, 0, 0, 0, 1), "DateTime"),
        (dt.datetime(2020, 1, 1, 0, 0, 0, 1), "DateTime64(3)"),
        (dt.datetime(2020, 1, 1, tzinfo=dt.UTC), "DateTime"),
        ("x", "UUID"),
        ("1.2.3", "IPv4"),
        ("1.2.3.4' OR 1", "IPv4"),
        ("::1%eth0'", "IPv6"),
        ("a", "Array(String)"),
        ([1, "a"], "Array(Int8)"),
        ([None], "Array(Int8)"),
        ((1,), "Tuple(Int8, Int8)"),
        ({}, "JSON"),
        ("x", "Map(String, String)"),
        ("x", "String'; DROP"),
        ("x", "String)"),
        ("x", "FixedString(1); DROP"),
        ("x", "FixedString(-1)"),
        ("x", "Nullable()"),
        (dt.datetime(2020, 1, 1), "DateTime('UTC') ; DROP'"),
        (dt.datetime(2020, 1, 1), "DateTime('U'')')"),
        (1, "Int32(5)"),
        (1, "Int7"),
        (1, ""),
        ([], "Array(Evil)"),
        ([], "Array(String) , (SELECT 1)"),
    ],
)
def test_refused(value: object, type: str) -> None:
    with pytest.raises(ValueError):
        print_literal(value, type)
