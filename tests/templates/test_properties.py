"""What holds for every template and every value: rendering is a function of both, it fails only as a template fails, and
a value changes nothing of the statement but itself (rule 2; attacks C)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from fuzz import examples
from pipit.engine import Engine
from pipit.errors import PipitError, TemplateError
from pipit.sql.lexer import significant, tokenize
from pipit.templates import Binder, Template, python, state

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", autouse=True)
def slow_machines_do_not_matter() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "MAX_STEPS", 2_000)
        patch.setattr(state, "MAX_SECONDS", 30.0)
        patch.setattr(state, "MAX_REQUEST_SECONDS", 60.0)
        yield


FUZZ = settings(
    max_examples=examples(300),
    phases=(Phase.explicit, Phase.generate),  # shrinking takes minutes
)
NAMES = ("a", "b", "c", "from", "x")

hostile = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["'", "\\", "\\'", "`", '"', "--", "/*", "*/", ";", "\0", "\n", "{{a}}", "{% end %}", "{#", "{p1:String}", "}}",
         "' OR 1=1 --", "') UNION ALL SELECT 1 --", "１", "1_000", " 5 ", "+5", "1e400", "nan", "-inf", "\ud800", ""]
    ),
)  # fmt: skip
numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.booleans())
json_values = st.recursive(
    st.one_of(st.none(), numbers, hostile),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(hostile, inner, max_size=3)),
    max_leaves=8,
)
any_values = st.dictionaries(
    st.sampled_from(NAMES), st.one_of(hostile, numbers.map(str), numbers, st.lists(hostile, max_size=4), json_values)
)

# Expressions and blocks of every kind, sensible or not.
names = st.sampled_from(NAMES)
constants = st.one_of(
    st.sampled_from(["'x'", "''", "'x,y'", "1", "0", "-1", "2.5", "1e999", "True", "None", "[]", "{}", "[1, 'a']", "'%'"]),
    st.integers(0, 300).map(str),
)
types = st.sampled_from(["String", "Int8", "UInt256", "Float32", "Boolean", "Date", "DateTime", "DateTime64", "JSON", "Int"])


def calls(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    three = st.tuples(inner, inner, inner)
    return st.one_of(
        inner.map("({})".format),
        st.tuples(types, names, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
        st.tuples(types, inner).map(lambda t: f"{t[0]}({t[1]}, defined=False)"),
        st.tuples(names, types, inner).map(lambda t: f"Array({t[0]}, '{t[1]}', {t[2]})"),
        st.tuples(st.sampled_from(["+", "-", "*", "<", "==", "!=", ">=", "in", "not in", "and", "or", "is", "is not"]),
                  inner, inner).map(lambda t: f"({t[1]} {t[0]} {t[2]})"),
        three.map(lambda t: "({} if {} else {})".format(*t)),
        two.map(lambda t: "{}[{}]".format(*t)),
        three.map(lambda t: "{}[{}:{}]".format(*t)),
        st.tuples(st.sampled_from(["split", "join", "get", "replace"]), three).map(
            lambda t: f"{t[1][0]}.{t[0]}({t[1][1]}{', ' + t[1][2] if t[0] in ('get', 'replace') else ''})"),
        st.tuples(st.sampled_from(["not ", "-", "+"]), inner).map(lambda t: f"{t[0]}{t[1]}"),
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(inner, max_size=3).map(lambda items: f"({', '.join(items)})"),
        two.map(lambda t: f"{{{t[0]}: {t[1]}}}"),
        st.tuples(st.sampled_from(["len", "list", "min", "max", "int", "float", "defined", "column", "columns", "symbol",
                                   "table", "split_to_array", "enumerate_with_last", "error", "max_threads", "cache_ttl",
                                   "activate", "backend_hint", "custom_error", "sql_unescape"]), inner).map(
            lambda t: f"{t[0]}({t[1]})"),
        st.tuples(st.sampled_from(["day_diff", "date_diff_in_days", "date_diff_in_seconds", "custom_error", "columns",
                                   "split_to_array", "column", "int", "max"]), inner, inner).map(
            lambda t: f"{t[0]}({t[1]}, {t[2]})"),
        three.map(lambda t: "sql_and(a={}, b__in={}, c__gte={})".format(*t)),
        three.map(lambda t: "date_diff_in_hours({}, {}, {}, none_if_error=True)".format(*t)),
        st.sampled_from(["tb_secret('k')", "tb_var('missing')", "tb_secret('missing', 'd')"]),
    )  # fmt: skip


def python_calls(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """What directives take besides."""
    methods = sorted(python.METHODS)
    formats = ["'{}'", "'{0}{a}'", "'{:>5}'", "'%s'", "'%(a)s'", "'%5d'", "'{0.__class__}'", "'%'"]
    return st.one_of(
        calls(inner),
        st.tuples(st.sampled_from([*python.FUNCTIONS, "isinstance", "map", "filter"]), st.lists(inner, max_size=3)).map(
            lambda t: f"{t[0]}({', '.join(t[1])})"),
        st.tuples(names, st.sampled_from(methods), st.lists(inner, max_size=2)).map(
            lambda t: f"{t[0]}.{t[1]}({', '.join(t[2])})"),
        st.tuples(inner, st.sampled_from(methods), st.lists(inner, max_size=2)).map(
            lambda t: f"({t[0]}).{t[1]}({', '.join(t[2])})"),
        st.tuples(st.sampled_from(["/", "//", "%", "**", "|", "&", "^"]), inner, inner).map(lambda t: f"({t[1]} {t[0]} {t[2]})"),
        st.tuples(st.sampled_from(formats), inner, st.sampled_from(["{}.format({})", "{} % {}"])).map(
            lambda t: t[2].format(t[0].replace("{", "{{").replace("}", "}}"), t[1]).replace("{{", "{").replace("}}", "}")),
        st.tuples(st.sampled_from(["[{0} for {1} in {2}]", "{{{0} for {1} in {2}}}", "{{{0}: {1} for {1} in {2} if {0}}}",
                                   "any({0} for {1} in {2})", "[{0} for {1} in {2} for c in {1}]"]), inner, names, inner).map(
            lambda t: t[0].format(*t[1:])),
        st.tuples(inner, inner).map(lambda t: f"isinstance({t[0]}, (str, int, list)) and {t[1]}"),
    )  # fmt: skip


expressions = st.recursive(st.one_of(names, constants), calls, max_leaves=6)
wide = st.recursive(st.one_of(names, constants), python_calls, max_leaves=6)
texts = st.sampled_from(["x ", ", ", " AND ", "'", "`", "-- ", "/* ", "*/", "\n", "{", "}", "SELECT 1 AS a ", "SAMPLE ", "%"])


def blocks(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def block(opening: str, *dividers: str) -> st.SearchStrategy[str]:
        parts = st.tuples(inner, *[st.one_of(st.none(), inner) for _ in dividers], wide)
        return parts.map(
            lambda t: "{% " + opening.replace("@", t[-1]) + " %}" + t[0]
            + "".join("{% " + d.replace("@", t[-1]) + " %}" + one for d, one in zip(dividers, t[1:-1], strict=True)
                      if one is not None) + "{% end %}")  # fmt: skip

    return st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        block("if @", "elif @", "else"),
        block("for a in @", "else"),
        block("for a, b in enumerate_with_last(@)"),
        block("while @", "else"),
        block("try", "except KeyError", "except ValueError as x", "except", "else", "finally"),
        st.tuples(names, st.sampled_from(["=", "+=", "*=", "/=", "%="]), wide).map(lambda t: f"{{% set {t[0]} {t[1]} {t[2]} %}}"),
    )


templates = st.recursive(
    st.one_of(texts, expressions.map("{{{{{}}}}}".format), st.sampled_from(["{% break %}", "{% continue %}", "{# c #}"])),
    blocks,
    max_leaves=10,
)
garbage = st.lists(
    st.one_of(
        st.sampled_from(["{{", "}}", "{%", "%}", "{#", "#}", "!", "end", "if", "for", "in", "set", "try", "except", "as",
                         "else", "while", "comment", "(", ")", "[", "]", "'", '"', "\\", ",", "=", " ", "\n", "\x0b", "\0",
                         "a", "String", "lambda", "*", "**", ":", ";", ".", "@", "\u2028", "é", "\ud800", "1_0", "0x", "f'"]),
        st.text(max_size=3),
    ),
    max_size=25,
).map("".join)  # fmt: skip


def rendered(source: str, values: dict[str, Any], *, traced: bool = False, placeholder: bool = False) -> Any:
    """The text and all that goes with it, or the error's text."""
    binder = Binder(placeholder=placeholder)
    try:
        text = Template.compile(source, traced=traced).render(values, binder, secrets={"k": "hunter2"})
    except PipitError as error:
        assert "hunter2" not in str(error.body())
        # Which limit is reached first depends on the machine's speed.
        return type(error), "a limit" if "Error: The template" in error.message else error.message
    assert "hunter2" not in text
    return text, repr(binder.params), binder.settings, binder.cache_seconds


@FUZZ
@given(source=st.one_of(templates, garbage), values=any_values)
@example(source="{{1e999}}", values={})
@example(source="{% for a in [] %}{% try %}x{% end %}{% end %}", values={})
@example(source="'pipit_place_5_' {{a}}", values={"a": "x"})
@example(source="{% try %}{{a}}{% except KeyError as a, b %}{% end %}", values={})
@example(source="{{\x0bfrom\r+ from}}", values={})
@example(source="{{date_diff_in_days(a, b, c)}}", values={"a": "1", "b": "1", "c": "%d%d"})
@example(source="{{custom_error({'x': tb_secret('k')})}}", values={})
def test_rendering_is_a_function_and_fails_as_a_template_fails(source: str, values: dict[str, Any]) -> None:
    """Twice the same; the same where it is traced; nothing but errors of Pipit's tree, in compiling and rendering."""
    first = rendered("%" + source, values)
    assert not isinstance(first[0], type) or issubclass(first[0], PipitError)
    assert rendered("%" + source, values) == first
    traced = rendered("%" + source, values, traced=True)
    assert traced == first or issubclass(first[0], TemplateError)
    rendered("%" + source, values, placeholder=True)
    rendered(source, values)


# A statement with a place of every kind: what may take a parameter, and what is printed.
SKELETON = (
    "%SELECT {{{0}}} {% if defined(b) %}, count() AS n, f({{{1}}}){% end %}"
    "{% for one in Array(l) %}, {{one}}{% end %} FROM t WHERE x = {{{0}}} AND y IN {{Array(l)}} "
    "AND {{sql_and(z=String(c), w__in=Array(l))}} {% if defined(b) %}{% try %}AND v = {{{1}}}{% except %}{% end %}{% end %} "
    "{% if defined(c) %}AND u LIKE concat('%', {{{2}}}){% end %} -- {{{2}}}\nGROUP BY x ORDER BY {{{2}}} LIMIT 1 BY {{{0}}}"
)
typed = st.sampled_from(
    [
        ("String({})", hostile),
        ("{}", hostile),
        ("Int64({})", st.integers(-(2**63), 2**63 - 1).map(str)),
        ("UInt256({})", st.integers(0, 2**256 - 1).map(str)),
        ("Float64({})", st.floats().map(repr)),
        ("Float32({})", st.floats(width=32).map(repr)),
        ("Date({})", st.dates().map(str)),
        ("DateTime({})", st.datetimes().map(lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}".rjust(19, "0"))),
        ("Boolean({})", st.sampled_from(["1", "0", "true", "no"])),
    ]
)


@st.composite
def two_requests(draw: st.DrawFn) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A template, and two requests with values of the same types."""
    chosen = [draw(typed) for _ in range(3)]
    source = SKELETON
    for index, (expression, _) in enumerate(chosen):
        source = source.replace(f"{{{{{{{index}}}}}}}", f"{{{{{expression.format('abc'[index])}}}}}")
    given_names = [n for n in "abc" if n != "b" or draw(st.booleans())]
    length = draw(st.integers(1, 3))

    def request() -> dict[str, Any]:
        values: dict[str, Any] = {n: draw(chosen["abc".index(n)][1]) for n in given_names}
        return {**values, "l": [draw(hostile) for _ in range(length)]}

    return source, request(), request()


def shape(text: str) -> list[tuple[str, str]]:
    """The statement's tokens without what texts and numbers say."""
    found = []
    for token in significant(tokenize(text)):
        literal = token.kind.name in ("STRING", "NUMBER")
        found.append((token.kind.name, "" if literal else re.sub(r"\{(p[0-9]+:)U?Int[0-9]+\}", r"{\1Int}", token.text)))
    return found


@FUZZ
@given(case=two_requests())
async def test_a_value_changes_nothing_but_itself(
    engine: Engine, case: tuple[str, dict[str, Any], dict[str, Any]]
) -> None:
    source, left, right = case
    template = Template.compile(source)
    texts, trees = [], []
    for values in (left, right):
        binder = Binder()
        try:
            text = template.render(values, binder)
        except TemplateError as error:
            assert "not valid Unicode" in error.message or "evaluated to null" in error.message or "Required" in error.message
            return
        texts.append(text)
        tree = (await engine.query(f"EXPLAIN AST {text}", dict(binder.params), format="LineAsString")).decode()
        trees.append(re.sub(r"Literal .*|alias .*", "Literal", tree))
    assert shape(texts[0]) == shape(texts[1])
    assert trees[0] == trees[1]
    where = [text[text.index(" FROM t WHERE") :] for text in texts]
    assert where[0] == where[1]  # all bound: the very same text
