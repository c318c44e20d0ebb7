"""10,000 values of every type, hostile ones included, through a template into the real engine: what the engine sees is
what was sent, and the statement's syntax tree is the same as for harmless values (rule 2; attacks C01, C11, C13).
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fuzz import examples
from pipit.engine import Engine
from pipit.sql.lexer import significant, tokenize
from pipit.templates import Binder, Template

pytestmark = pytest.mark.anyio

BATCH = 100
EXAMPLES = 100
FUZZ = settings(
    max_examples=examples(EXAMPLES),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # a failure names its case; shrinking a batch takes minutes
)

FRAGMENTS = [
    *"'\"`\\;#$%_{}()[],.\0\n\r\t\b\f\v\x1a\x7f aé１−\u2028\ufeff\U0001f600‘’“”",
    *["\\'", "\\\\", "''", "--", "/*", "*/", "//", "#!", "$$", "$a$", "{{", "}}", "{%", "%}", "{#", "${x}", "x'41'"],
    *["{p1:String}", "{s1:String}", "\\u0027", "\\x27", "\\0", "\\n", "NULL", "nan", "0x1", "1e309", "%27", "&#39;"],
    *["' OR 1=1 --", "') UNION SELECT 1 --", " FORMAT CSV", " SETTINGS readonly=0"],
]
texts = st.one_of(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join), st.text(max_size=40))
bits = st.sampled_from([8, 16, 32, 64, 128, 256])


def signed(width: int) -> st.SearchStrategy[int]:
    return st.integers(-(1 << width - 1), (1 << width - 1) - 1)


def unsigned(width: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << width) - 1)


def float32(number: float) -> float:
    return float(struct.unpack("f", struct.pack("f", number))[0])


class Case:
    """An expression over the parameter `{}`, what the request says, and what the engine must see."""

    def __init__(self, expression: str, request: Any, expected: Any, shown: str = "{}") -> None:
        self.expression, self.request, self.expected, self.shown = expression, request, expected, shown

    def __repr__(self) -> str:
        return f"{self.expression} <- {self.request!r}"


def case(expression: str, to_text: Callable[[Any], Any], expected: Callable[[Any], Any], shown: str = "{}") -> Any:
    return lambda value: Case(expression, to_text(value), expected(value), shown)


number = "toString({})"
exact = "if(isNaN({0}), 'nan', toString(reinterpretAsUInt64({0})))"
exact32 = "if(isNaN({0}), 'nan', toString(reinterpretAsUInt32({0})))"


def bits64(value: float) -> str:
    return "nan" if math.isnan(value) else str(struct.unpack("<Q", struct.pack("<d", value))[0])


def bits32(value: float) -> str:
    return "nan" if math.isnan(value) else str(struct.unpack("<I", struct.pack("<f", value))[0])


no_commas = texts.map(lambda text: text.replace(",", ""))
datetimes = st.datetimes().map(lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0"))

cases = st.one_of(
    texts.map(case("String({})", str, str)),
    texts.map(case("{}", str, str)),
    st.tuples(texts, texts).map(lambda pair: Case("String({}) + 'x'", pair[0], pair[0] + "x")),
    st.lists(texts, min_size=1, max_size=5).map(case("Array({})", list, list)),
    st.lists(no_commas, min_size=1, max_size=5).map(case("Array({})", ",".join, list)),
    st.lists(no_commas, min_size=1, max_size=5).map(
        case("split_to_array({})", ",".join, lambda items: [item.strip() for item in items])
    ),
    st.lists(unsigned(64), min_size=1, max_size=5).map(
        case("Array({}, 'UInt64')", lambda items: ",".join(map(str, items)), lambda items: list(map(str, items)),
             "arrayMap(x -> toString(x), {})")
    ),
    st.lists(signed(128), min_size=1, max_size=5).map(
        case("Array({}, 'Int128')", lambda items: ",".join(map(str, items)), lambda items: list(map(str, items)),
             "arrayMap(x -> toString(x), {})")
    ),
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=5).map(
        case("Array({}, 'Float64')", lambda items: ",".join(map(repr, items)), lambda items: list(map(bits64, items)),
             "arrayMap(x -> toString(reinterpretAsUInt64(x)), {})")
    ),
    bits.flatmap(lambda w: signed(w).map(case(f"Int{w}({{}})", str, str, number))),
    bits.flatmap(lambda w: unsigned(w).map(case(f"UInt{w}({{}})", str, str, number))),
    bits.flatmap(lambda w: signed(w).map(case("Integer({})", int, str, number))),
    signed(200).map(case("Int({}) + 1", str, lambda value: str(value + 1), number)),
    st.floats().map(case("Float64({})", repr, bits64, exact)),
    st.floats(allow_nan=False, allow_infinity=False).map(case("Float64({}) - 0", float, bits64, exact)),
    st.floats(width=32).map(case("Float32({})", repr, bits32, exact32)),
    st.booleans().map(case("Boolean({})", bool, lambda value: str(int(value)), number)),
    st.dates().map(case("Date({})", lambda day: day.isoformat(), lambda day: day.isoformat())),
    datetimes.map(case("DateTime({})", str, str)),
    st.tuples(datetimes, no_commas).map(lambda pair: "".join(pair)).filter(lambda t: "\n" not in t[:19]).map(
        case("DateTime({})", str, str)
    ),
    datetimes.map(lambda text: text + ".123").map(case("DateTime64({})", str, str)),
    texts.map(case("JSON({}).get('k')", lambda text: json.dumps({"k": text}), str)),
)  # fmt: skip

batches = st.lists(cases, min_size=BATCH, max_size=BATCH)


def harmless(value: Any) -> Any:
    """A value of the same kind that could not break anything."""
    if isinstance(value, list):
        return []
    return "a" if isinstance(value, str) else 0


async def tree(engine: Engine, sql: str, params: dict[str, Any]) -> str:
    """The statement's syntax tree with the values in place, without what the values themselves are."""
    found = (await engine.query(f"EXPLAIN AST {sql}", params, format="LineAsString")).decode()
    return re.sub(r"Literal .*", "Literal", found)


@cache
def compiled(source: str) -> Template:
    return Template.compile(source)


async def ask(engine: Engine, sql: str, params: dict[str, Any]) -> list[Any]:
    answer = await engine.query(sql, params, format="JSONCompactEachRow")
    row: list[Any] = json.loads(answer)
    return row


@FUZZ
@given(batch=batches)
async def test_the_engine_sees_what_was_sent_in_the_same_tree(engine: Engine, batch: list[Case]) -> None:
    binder = Binder()
    items: list[str] = []
    for one in batch:
        text = compiled(f"%SELECT {{{{{one.expression.format('a')}}}}} AS v").render({"a": one.request}, binder)
        value = text.strip().removeprefix("SELECT ").removesuffix(" AS v")
        assert re.fullmatch(r"\{p[0-9]+:[A-Za-z0-9()]+\}", value), one
        items.append(f"{one.shown.format(value)} AS v{len(items)}")
    sql = f"SELECT {', '.join(items)}"
    row = await ask(engine, sql, binder.params)
    for one, seen in zip(batch, row, strict=True):
        assert seen == one.expected, one
    quiet = {name: harmless(value) for name, value in binder.params.items()}
    assert await tree(engine, sql, binder.params) == await tree(engine, sql, quiet)


printable = st.one_of(
    texts.map(lambda text: ("String({})", text, text)),
    st.lists(texts, min_size=1, max_size=4).map(lambda items: ("Array({})", items, items)),
    signed(64).map(lambda value: ("Int64({})", str(value), str(value))),
    signed(256).map(lambda value: ("Int({})", str(value), str(value))),
    unsigned(256).map(lambda value: ("UInt256({})", str(value), str(value))),
    st.floats(allow_nan=False).map(lambda value: ("Float64({})", repr(value), value)),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda value: ("Float64({}) - 0", repr(value), value)),
)


# How many tokens a printed value may be, however hostile: `toInt64('-5')` is four, `['a', 'b']` is 2n + 1.
MOST_TOKENS = {"String({})": 1, "Array({})": 9, "Int({})": 6, "Float64({}) - 0": 4} | dict.fromkeys(
    ("Int64({})", "UInt256({})", "Float64({})"), 4
)


@FUZZ
@given(batch=st.lists(printable, min_size=BATCH, max_size=BATCH))
async def test_what_is_printed_is_read_back(engine: Engine, batch: list[tuple[str, Any, Any]]) -> None:
    """In columns without an alias values are printed as the dialect does; the engine reads the same values."""
    items: list[str] = []
    for expression, request, _ in batch:
        template = compiled(f"%SELECT {{{{{expression.format('a')}}}}}")
        items.append(template.render({"a": request}, Binder()).strip().removeprefix("SELECT "))
        assert "{p1:" not in items[-1] or "{p1:" in str(request)
        assert len(significant(tokenize(items[-1]))) <= MOST_TOKENS[expression], items[-1]
    sql = f"SELECT {', '.join(items)}"
    row = await ask(engine, sql, {})
    for (expression, _, expected), seen in zip(batch, row, strict=True):
        if isinstance(expected, float) and math.isinf(expected):
            assert seen is None, expression
        elif isinstance(expected, float):
            assert float(seen) == expected, expression
        else:
            assert seen == expected or str(seen) == expected, expression
