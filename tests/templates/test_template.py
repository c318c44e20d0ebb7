"""Binding, parameters, limits, and that rendering leaves no trace."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipit.errors import TemplateError
from pipit.templates import Binder, Template


def compile(source: str) -> Template:
    return Template.compile("%" + source)


def test_one_binder_for_all_nodes() -> None:
    binder = Binder()
    first = compile("SELECT 1 AS a WHERE x = {{Int32(a)}} AND y = {{String(b, 'd')}}").render({"a": "5"}, binder)
    second = compile("SELECT 2 AS a WHERE x = {{Int32(a, description='same')}} AND y = {{Int64(a)}}")
    assert first.strip() == "SELECT 1 AS a WHERE x = {p1:Int32} AND y = {p2:String}"
    assert second.render({"a": "5"}, binder).strip() == "SELECT 2 AS a WHERE x = {p1:Int32} AND y = {p3:Int64}"
    assert binder.params == {"p1": 5, "p2": "d", "p3": 5}


def test_the_same_expression_with_another_value_is_another_placeholder() -> None:
    binder = Binder()
    template = compile("WHERE x = {{Float64(a)}}")
    for value in ("0.0", "-0.0", "0.0"):
        template.render({"a": value}, binder)
    assert list(map(repr, binder.params.values())) == ["0.0", "-0.0", "0.0"]
    twice = compile("WHERE x = {{Float64(a)}} OR y = {{Float64(a)}}")
    assert twice.render({"a": "nan"}, Binder()) == twice.render({"a": "1"}, Binder())
    looped = compile("SELECT 1 AS a WHERE{% for x in Array(a) %} a = {{x}}{% end %}").render({"a": "u,u"}, binder)
    assert looped.strip() == "SELECT 1 AS a WHERE a = {p4:String} a = {p5:String}"


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": "1", "b": "x"}, {"a": "-7", "b": "'; --"}),
        ({"a": "5", "b": "5"}, {"a": "5", "b": "6"}),
        ({"a": "5", "b": "5", "c": "x"}, {"a": "5", "b": "5", "c": "5"}),
    ],
)
def test_the_text_does_not_depend_on_values(left: dict[str, str], right: dict[str, str]) -> None:
    template = compile("SELECT 1 AS x WHERE a = {{Int32(a)}} AND b = {{String(b)}} AND c = {{String(c, '5')}}")
    assert template.render(left, Binder()) == template.render(right, Binder())


def test_where_the_grammar_takes_no_parameter() -> None:
    def shown(source: str, **values: Any) -> str:
        return compile(source).render(values, Binder()).strip()

    assert (
        shown("SELECT count() AS c FROM t SAMPLE {{Float64(a)}}", a="0.1")
        == "SELECT count() AS c FROM t SAMPLE 0.100000"
    )
    assert shown("SELECT a AS c FROM t SAMPLE 1/{{Int32(a)}}", a="10") == "SELECT a AS c FROM t SAMPLE 1/10"
    assert shown("SELECT {{Int32(a)}} AS x, f({{String(b)}}) FROM t LIMIT {{Int32(a)}}", a="1", b="it's") == (
        "SELECT {p1:Int32} AS x, f('it\\'s') FROM t LIMIT {p1:Int32}"
    )
    with pytest.raises(TemplateError):
        shown("SELECT a AS c FROM t SAMPLE {{String(a)}}", a="0.1 FINAL")
    interval = "SELECT toStartOfInterval(t, INTERVAL {{String(a, '1 day')}}) AS c FROM t"
    assert shown(interval) == "SELECT toStartOfInterval(t, INTERVAL '1 day') AS c FROM t"
    assert "INTERVAL '15 minutes')" in shown(interval, a="15 minutes")
    for bad in ("day", "1", "1 day'", "1 day 2 hour", "1e3 day", "x day", "1 day\n", "１ day"):
        with pytest.raises(TemplateError, match="INTERVAL takes a whole number and a unit"):
            shown(interval, a=bad)


def test_parameters_from_the_tree() -> None:
    template = compile("""
        SELECT {{columns(cols, 'a,b')}} FROM t
        WHERE x = {{Int32(a, 5, description='An x', required=True, format='int', example=7, enum=[5, 6])}}
        {% if defined(b) and c == 'x' %} AND b = {{DateTime(b)}} {% else %} AND {{String(d)}} {% end %}
        {% set local = Int64(big, 9007199254740993) %} AND y IN {{Array(list, 'Int32', '1,2')}} AND {{local}}
        AND z = {{String(a)}} AND {{String('literal')}} AND {{Date(e, 'x', 'about e')}}
        """)
    found = {p.name: p for p in template.parameters}
    assert list(found) == ["cols", "a", "b", "c", "d", "big", "list", "e"]
    a = found["a"]
    assert (a.type, a.default, a.description, a.format, a.example, a.enum) == ("Int32", 5, "An x", "int", 7, (5, 6))
    assert a.required and a.needed  # String(a) has no default
    assert found["cols"].identifier and found["cols"].default == "a,b"
    assert found["b"].type == "DateTime" and not found["b"].required
    assert found["b"].guards == ("defined(b) and c == 'x'",)
    assert found["d"].guards == ("not (defined(b) and c == 'x')",) and found["d"].required
    assert found["c"].type == "String" and found["c"].guards == ()
    assert found["big"].default == "9007199254740993"
    assert (found["list"].type, found["list"].default) == ("Array(Int32)", "1,2")
    assert found["e"].description == "about e"
    assert [p.line for p in template.parameters] == [2, 3, 4, 4, 4, 5, 5, 6]


def test_declared_required_and_default() -> None:
    found = {p.name: p for p in compile("{{String(a, 'x', required=True)}}{{String(b, required=False)}}").parameters}
    assert (found["a"].required, found["a"].needed) == (True, False)
    assert (found["b"].required, found["b"].needed) == (False, True)


@pytest.mark.parametrize(
    "source",
    [
        "{% while True %}x{% end %}",
        "{% while True %}{% try %}x{% except %}y{% end %}{% end %}",
        "{% set a = 'x' %}{% while True %}{% set a = a + a %}{% end %}",
        "{% set a = [1] %}{% while True %}{% set a += a %}{% end %}",
        "{% set a = 9 %}{% while True %}{% set a = a * a %}{% end %}",
        "{{'x' * 1000000000}}",
        "{{1000000000 * 'x'}}",
        "{% set a = 'x' * 1000 %}{{a.replace('x', a).replace('x', a)}}",
        "{% set a = 'x' * 1000 %}{{a.join(Array(b) * 1000)}}",
        "{% for a in Array(b) * 1000 %}{% for c in Array(b) * 1000 %}" + "x" * 500 + "{% end %}{% end %}",
        "{% for a in Array(b) * 1000 %}{% for c in Array(b) * 1000 %}{{a}}{% end %}{% end %}",
    ],
)
def test_bounds(source: str) -> None:
    template = compile(source)
    start = time.thread_time()
    with pytest.raises(TemplateError) as caught:
        template.render({"b": "1,2,3"}, Binder())
    assert time.thread_time() - start < 5
    assert "The template" in caught.value.message


def test_rendering_changes_nothing_that_is_shared() -> None:
    template = compile(
        "{% set x = [] %}{% for i in Array(a) %}{% set x = x + [i] %}{% end %}{% set b = 'set' %}"
        "WHERE x IN {{x}} AND {{b}} = {{String(c, 'd')}}"
    )
    parameters = template.parameters

    def once(number: int) -> tuple[str, dict[str, Any]]:
        binder = Binder()
        text = template.render({"a": [f"v{number}"] * 3, "b": "request", "c": str(number)}, binder)
        return text, binder.params

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(once, range(400)))
    assert len({text for text, _ in results}) == 1
    for number, (_, params) in enumerate(results):
        assert params == {"p1": [f"v{number}"] * 3, "p2": "set", "p3": str(number)}
    assert template.parameters == parameters


def test_placeholders_for_validation() -> None:
    template = compile(
        "SELECT 1 AS x FROM t WHERE a = {{Int32(a)}} AND b = {{String(b)}} AND c IN {{Array(c, 'Int32')}}"
        " AND d = {{Date(d)}} AND e = {{DateTime(e, '2020-02-02 00:00:00')}} AND {{f}} = 1"
        "{% if not defined(g) %}{{error('g is needed')}}{% else %} AND g = {{column(g)}}{% end %}"
        "{% if h == 'x' %}{{custom_error({}, 404)}}{% end %} {{day_diff(i, j)}} {{columns(k)}}"
    )
    binder = Binder(placeholder=True)
    text = template.render({}, binder)
    assert "AND g = NULL" in text
    assert list(binder.params.values()) == [
        0, "__no_value__", [0, 0], "2019-01-01", "2020-02-02 00:00:00", "__no_value__", 0,
    ]  # fmt: skip
    other = template.render({}, Binder(placeholder=True, defined=False))
    assert "AND g" not in other
    given = Binder(placeholder=True)
    template.render({"a": "7"}, given)
    assert given.params["p1"] == 7


def test_errors_have_their_place() -> None:
    with pytest.raises(TemplateError) as caught:
        Template.compile("\n%\nSELECT\n  {{foo(a)}}")
    assert (caught.value.line, caught.value.column) == (4, 3)
    with pytest.raises(TemplateError) as caught:
        Template.compile("  % {{foo(a)}}")
    assert (caught.value.line, caught.value.column) == (1, 5)
    with pytest.raises(TemplateError) as caught:
        compile("a\nb {{String(x)}}\n{% if Int32(y) > 5 %}{% end %}").render({"x": "1", "y": "z"}, Binder())
    assert caught.value.line == 3


def test_hostile_names_of_columns_stay_names() -> None:
    template = compile("SELECT {{column(a)}} FROM t")
    for name in ("x` FROM secret --", "x\\", "a`b", "$$", "x'y", 'x"y', "é"):
        text = template.render({"a": name}, Binder()).strip()
        quoted = name.replace("\\", "\\\\").replace("`", "\\`")
        assert text == f"SELECT `{quoted}` FROM t"
    for name in ("", "a\nb", "a\0", "*/", "/*", "a..b", "\ud800"):
        with pytest.raises(TemplateError):
            template.render({"a": name}, Binder())
    for name in ("t; DROP", "t JOIN u", "`t`", "(SELECT 1)", "a.b.c", "numbers(1)", ""):
        with pytest.raises(TemplateError):
            compile("SELECT * FROM {{table(a)}}").render({"a": name}, Binder())


def test_text_that_cannot_be_sent_is_refused() -> None:
    for source in ("WHERE a = {{String(a)}}", "SELECT {{String(a)}}", "WHERE a IN {{Array(a)}}"):
        with pytest.raises(TemplateError):
            compile(source).render({"a": "\ud800"}, Binder())


@pytest.mark.parametrize("source", ["{{Int32(a)}}", "{{Float64(a)}}", "{{Date(a)}}", "{{DateTime64(a)}}", "{{int(a)}}"])
def test_long_values_are_refused_at_once(source: str) -> None:
    template = compile(source)
    for value in ("1" * 1_000_000 + "x", "1," * 1_000_000, " " * 1_000_000 + "x", "2020-01-01 00:00:00." + "1"):
        start = time.thread_time()
        with pytest.raises(TemplateError) as caught:
            template.render({"a": value}, Binder())
        assert time.thread_time() - start < 2
        assert len(caught.value.message) < 1000


def test_threads_that_a_parameter_asks_for_can_be_validated() -> None:
    text = compile("SELECT 1 {{max_threads(Int32(threads))}}").render({}, Binder(placeholder=True))
    assert text.strip() == "SELECT 1 -- max_threads"
