"""The dialect's tables, row by row: what a template gives (printed, or bound), and what it says when it cannot."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pipit.errors import CustomError, PipitError, TemplateError
from pipit.templates import Binder, Template

PREFIX = "Template Syntax Error: "


def render(source: str, secrets: dict[str, str] | None = None, **values: Any) -> tuple[str, dict[str, Any]]:
    binder = Binder()
    text = Template.compile("%" + source).render(values, binder, secrets=secrets or {})
    return text.strip(), binder.params


def bound(expression: str, **values: Any) -> tuple[str, Any]:
    """The type and the value that one expression is bound as."""
    text, params = render("SELECT 1 AS a WHERE x = {{" + expression + "}}", **values)
    match = re.fullmatch(r"SELECT 1 AS a WHERE x = \{(p1):(.*)\}", text)
    assert match, text
    return match[2], params["p1"]


def printed(expression: str, **values: Any) -> str:
    """The text in a column without an alias."""
    return render("SELECT {{" + expression + "}}", **values)[0].removeprefix("SELECT ")


def failure(source: str, **values: Any) -> str:
    with pytest.raises(TemplateError) as caught:
        render(source, **values)
    assert caught.value.message.startswith(PREFIX)
    return caught.value.message.removeprefix(PREFIX)


@pytest.mark.parametrize(
    ("expression", "values", "kind", "value", "text"),
    [
        ("Int32(a)", {"a": "5"}, "Int32", 5, "toInt32('5')"),
        ("UInt8(a)", {"a": "255"}, "UInt8", 255, "toUInt8('255')"),
        ("Int256(a)", {"a": str(-(1 << 255))}, "Int256", -(1 << 255), f"toInt256('{-(1 << 255)}')"),
        ("Float64(a)", {"a": "1"}, "Float64", 1.0, "toFloat64('1.0')"),
        ("Float64(a)", {"a": "1e3"}, "Float64", 1000.0, "toFloat64('1000.0')"),
        ("Float32(a)", {"a": "-0.5"}, "Float32", -0.5, "toFloat32('-0.5')"),
        ("Integer(a)", {"a": "5"}, "UInt8", 5, "5"),
        ("Int(a)", {"a": "-5"}, "Int8", -5, "(-5)"),
        ("Int(a)", {"a": "70000"}, "UInt32", 70000, "70000"),
        ("Int32(a)+1", {"a": "5"}, "UInt8", 6, "6"),
        ("Int32(page, 0) * Int32(size, 300)", {"page": "2"}, "UInt16", 600, "600"),
        ("Float64(a) + 1", {"a": "1"}, "Float64", 2.0, "2.0"),
        ("String(a)", {"a": "it's\\ `\"\n"}, "String", "it's\\ `\"\n", "'it\\'s\\\\ `\"\\n'"),
        ("String(a)", {"a": ""}, "String", "", "''"),
        ("String(a, 'd')", {"a": ""}, "String", "", "''"),
        ("String(a, 'd')", {}, "String", "d", "'d'"),
        ("String(a, default='d')", {}, "String", "d", "'d'"),
        ("String(a, 'd', required=True)", {}, "String", "d", "'d'"),
        ("String(a, enum=['x', 'y'])", {"a": "z"}, "String", "z", "'z'"),
        ("String(a, required=true)", {"a": "z"}, "String", "z", "'z'"),
        ("String('my_param')", {}, "String", "my_param", "'my_param'"),
        ("String(a)", {"a": 5}, "String", "5", "'5'"),
        ("a", {"a": "x"}, "String", "x", "'x'"),
        ("DateTime(a)", {"a": "2020-01-01 00:00:00"}, "String", "2020-01-01 00:00:00", "'2020-01-01 00:00:00'"),
        ("DateTime(a)", {"a": "2020-01-01T00:00:00Z"}, "String", "2020-01-01T00:00:00Z", "'2020-01-01T00:00:00Z'"),
        ("DateTime(a)", {"a": "31/12/2020 00:00:00"}, "String", "31/12/2020 00:00:00", "'31/12/2020 00:00:00'"),
        ("Date(a)", {"a": "2020-02-29"}, "String", "2020-02-29", "'2020-02-29'"),
        ("DateTime64(a)", {"a": "2020-01-01 00:00:00.123"}, "String", "2020-01-01 00:00:00.123",
         "'2020-01-01 00:00:00.123'"),
        ("Array(a,'Int32')", {"a": "1,2"}, "Array(UInt8)", [1, 2], "[1,2]"),
        ("Array(a,'Int32')", {"a": ["1", "2"]}, "Array(UInt8)", [1, 2], "[1,2]"),
        ("Array(a,'Int32')", {"a": [1, -2]}, "Array(Int16)", [1, -2], "[1,(-2)]"),
        ("Array(a,'UInt64')", {"a": "18446744073709551615"}, "Array(UInt64)", [2**64 - 1], "[18446744073709551615]"),
        ("Array(a, Int32)", {"a": "1,2"}, "Array(UInt8)", [1, 2], "[1,2]"),
        ("Array(a,'Float64')", {"a": "1,2.5"}, "Array(Float64)", [1.0, 2.5], "[1.0,2.5]"),
        ("Array(a)", {"a": "x,y'"}, "Array(String)", ["x", "y'"], "['x','y\\'']"),
        ("Array(a)", {"a": ""}, "Array(String)", [""], "['']"),
        ("Array(a)", {"a": []}, "Array(Nothing)", [], "[]"),
        ("Array(a,'Int32','7,8')", {}, "Array(UInt8)", [7, 8], "[7,8]"),
        ("Array(a,'Int32', [7, 8])", {}, "Array(UInt8)", [7, 8], "[7,8]"),
        ("Array(a, \"'a', 'b'\")", {}, "Array(String)", ["a", "b"], "['a','b']"),
        ("Array(a, \"'a', 'b'\")", {"a": "c"}, "Array(String)", ["c"], "['c']"),
        ("Boolean(a)", {"a": "true"}, "UInt8", 1, "1"),
        ("Boolean(a)", {"a": "YES"}, "UInt8", 1, "1"),
        ("Boolean(a)", {"a": "1"}, "UInt8", 1, "1"),
        ("Boolean(a)", {"a": True}, "UInt8", 1, "1"),
        ("Boolean(a)", {"a": "0"}, "UInt8", 0, "0"),
        ("Boolean(a)", {"a": "FALSE"}, "UInt8", 0, "0"),
        ("JSON(a).get('b')", {"a": '{"b":[1]}'}, "Array(UInt8)", [1], "[1]"),
        ("JSON(a).get('b')", {"a": {"b": "x"}}, "String", "x", "'x'"),
        ("JSON(a).get('c', 'd')", {"a": "{}"}, "String", "d", "'d'"),
        ("sql_unescape(String(a),'%')", {"a": "50%x"}, "String", "50%x", "'50%x'"),
        ("day_diff(a,b)", {"a": "2020-01-05", "b": "2020-01-01"}, "UInt8", 4, "4"),
        ("date_diff_in_hours(a,b)", {"a": "2020-01-01 00:00:00", "b": "2020-01-01 01:59:00"}, "UInt8", 1, "1"),
        ("date_diff_in_days(a,b)", {"a": "2020-01-01", "b": "2021-01-01"}, "UInt16", 366, "366"),
        ("date_diff_in_minutes(a,b,'%H:%M')", {"a": "10:00", "b": "11:30"}, "UInt8", 90, "90"),
        ("date_diff_in_seconds(a,b,'%H','x','%H:%M')", {"a": "10:00", "b": "10:01"}, "UInt8", 60, "60"),
        ("date_diff_in_days(a,b,none_if_error=True) is None", {"a": "x", "b": "y"}, "Bool", True, "true"),
        ("split_to_array(a,'q,w')", {}, "Array(String)", ["q", "w"], "['q','w']"),
        ("split_to_array(a)", {"a": "q , w"}, "Array(String)", ["q", "w"], "['q','w']"),
        ("split_to_array(a, separator='|')", {"a": "q|w"}, "Array(String)", ["q", "w"], "['q','w']"),
        ("split_to_array(a)[0]", {"a": "q,w"}, "String", "q", "'q'"),
        ("'-'.join(Array(a))", {"a": "q,w"}, "String", "q-w", "'q-w'"),
        ("a.replace('x', 'y')", {"a": "axa"}, "String", "aya", "'aya'"),
        ("a.split('x')[1:]", {"a": "1x2x3"}, "Array(String)", ["2", "3"], "['2','3']"),
        ("len(Array(a))", {"a": "x,y"}, "UInt8", 2, "2"),
        ("max(Int32(a), 7)", {"a": "5"}, "UInt8", 7, "7"),
        ("min(Array(a, 'Int32'))", {"a": "5,3"}, "UInt8", 3, "3"),
        ("int(a) - 1", {"a": "5"}, "UInt8", 4, "4"),
        ("float(a)", {"a": "5"}, "Float64", 5.0, "5.0"),
        ("[[1], [2, 300]]", {}, "Array(Array(UInt16))", [[1], [2, 300]], "[[1],[2,300]]"),
        ("'x' if defined(a) else 'y'", {}, "String", "y", "'y'"),
        ("columns(a, 'x') is None", {"a": "y"}, "Bool", False, "false"),
        ("JSON(a)", {"a": "[1, 2]"}, "Array(UInt8)", [1, 2], "[1,2]"),
        ("JSON(a)", {"a": "5"}, "UInt8", 5, "5"),
        ("1e999", {}, "Float64", float("inf"), "toFloat64('inf')"),
        ("[1] + [a]", {"a": 2}, "Array(UInt8)", [1, 2], "[1,2]"),
        ("'ab' * 2", {}, "String", "abab", "'abab'"),
        ("2 * 'ab'", {}, "String", "abab", "'abab'"),
        ("date_diff_in_days(a,b,default=7)", {"a": "x", "b": "y"}, "UInt8", 7, "7"),
        ("date_diff_in_days(a,b,'%Y','x',backup_date_format='%Y%m%d')", {"a": "20200101", "b": "20200103"},
         "UInt8", 2, "2"),
        ("enumerate_with_last([1, 2])[1][0]", {}, "Bool", True, "true"),
        ("list(a)", {"a": "xy"}, "Array(String)", ["x", "y"], "['x','y']"),
        ("Int128(a)", {"a": str(2**100)}, "Int128", 2**100, f"toInt128('{2**100}')"),
    ],
)  # fmt: skip
def test_values(expression: str, values: dict[str, Any], kind: str, value: Any, text: str) -> None:
    assert bound(expression, **values) == (kind, value)
    assert printed(expression, **values) == text


@pytest.mark.parametrize(
    ("expression", "values", "text"),
    [
        ("columns(a,'x,y')", {}, "`x`,`y`"),
        ("columns(a,'x,y')", {"a": "z"}, "`z`"),
        ("columns(a,'z,w',fn='sum')", {}, "sum(`z`) as `z`, sum(`w`) as `w`"),
        ("columns(a)", {"a": "z"}, "`z`"),
        ("column(a,'x')", {"a": "m.n"}, "`m`.`n`"),
        ("column(a,'x')", {}, "`x`"),
        ("symbol(a)", {"a": 'x"y`z'}, "`xy\\`z`"),
        ("table(a)", {"a": "tbl"}, "tbl"),
        ("TABLE(a)", {"a": "tbl"}, "tbl"),
        ("max_threads(4)", {}, "-- max_threads 4"),
        ("cache_ttl('1m')", {}, "-- cache_ttl 1m"),
        ("backend_hint('x')", {}, "-- backend_hint x"),
        ("activate('analyzer')", {}, "-- activate analyzer"),
        ("disable('analyzer')", {}, "-- disable analyzer"),
    ],
)
def test_identifiers_and_comments(expression: str, values: dict[str, Any], text: str) -> None:
    assert render("{{" + expression + "}}", **values) == (text, {})


def test_execution_settings() -> None:
    binder = Binder()
    source = (
        "%{{max_threads(4)}}{{activate('optimize_aggregation_in_order')}}{{disable('analyzer')}}{{cache_ttl('5s')}}"
    )
    text = Template.compile(source).render({}, binder)
    assert binder.settings == {"max_threads": "4", "optimize_aggregation_in_order": "1"}
    assert text.endswith("-- cache_ttl 5s\n")


@pytest.mark.parametrize("given", ["1", "4", "1024", "007", 4])
def test_threads_may_be_the_requests_digits(given: Any) -> None:
    binder = Binder()
    text = Template.compile("%{{max_threads(n)}}SELECT 1").render({"n": given}, binder)
    assert binder.settings == {"max_threads": str(int(given))} and text.strip() == f"-- max_threads {int(given)}\nSELECT 1"


def test_the_secrets_that_a_template_needs() -> None:
    source = (
        "%SELECT {{tb_secret('a')}}, {{Int32(tb_secret(\"b\"))}} {% if tb_var('c') == 'x' %} {{tb_secret('a')}} {% end %}"
        "{{tb_secret('d', 'default')}} 'tb_secret(\"e\")'"
    )
    assert Template.compile(source).secrets == ("a", "b", "c")
    assert Template.compile("SELECT 'tb_secret(\"a\")'").secrets == ()


def test_sql_and() -> None:
    source = "WHERE {{sql_and(a__in=Array(x,'Int32',defined=False), b=String(y,defined=False), c__gte=3)}}"
    assert render(source, x="1,2") == ("WHERE a in {p1:Array(UInt8)} and c >= {p2:UInt8}", {"p1": [1, 2], "p2": 3})
    text, params = render(source, y="o'x")
    assert (text, params) == ("WHERE b = {p1:String} and c >= {p2:UInt8}", {"p1": "o'x", "p2": 3})
    assert failure("{{sql_and(a__like='x')}}") == "operand like not supported"


def test_secrets_are_bound_and_never_printed() -> None:
    text, params = render("SELECT {{tb_secret('k')}}, {{tb_var('k')}}", {"k": "v'"})
    assert "v'" not in text
    assert text == "SELECT {s1:String}, {s2:String}"
    assert params == {"s1": "v'", "s2": "v'"}
    assert bound("tb_secret('k', 'd')") == ("String", "d")
    assert "Cannot access secret 'k'" in failure("{{tb_secret('k')}}")
    with pytest.raises(TemplateError):
        render("{% if tb_secret('k') + 'x' == 'vx' %}{% end %}", {"k": "v"})


@pytest.mark.parametrize(
    ("source", "values", "text"),
    [
        ("{% if defined(a) %}1{% else %}0{% end %}", {"a": ""}, "1"),
        ("{% if defined(a) %}1{% else %}0{% end %}", {}, "0"),
        ("{% if a %}1{% elif b %}2{% else %}3{% end %}", {"b": "x"}, "2"),
        ("{%if not defined(a) and b == 'x'%}1{%end%}", {"b": "x"}, "1"),
        ("{% if a in ['x', 'y'] and a not in ['z'] %}1{% end if %}", {"a": "x"}, "1"),
        ("{% if Int32(a) > 4 %}1{% end %}", {"a": "5"}, "1"),
        ("{% for x in ['a', 'b'] %}{% if x == 'b' %}2{% else %}1{% end %}{% end %}", {}, "12"),
        ("{% for last, x in enumerate_with_last([1, 2]) %}x{% if not last %},{% end %}{% end %}", {}, "x,x"),
        ("{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% end %}x{% if x == 3 %}{% break %}{% end %}{% end %}",
         {}, "xx"),
        ("{% set i = 0 %}{% while i < 3 %}x{% set i += 1 %}{% end %}", {}, "xxx"),
        ("{% set first = True %}{% for x in [1, 2] %}{% if not first %},{% end %}x{% set first = False %}{% end %}",
         {}, "x,x"),
        ("{% for x in [1, 2] %}{% end %}{% if x == 2 %}1{% end %}", {}, "1"),
        ("{% if not defined(a) %}{% set a = 'd' %}{% end %}{% if a == 'd' %}1{% else %}2{% end %}", {}, "1"),
        ("{% if not defined(a) %}{% set a = 'd' %}{% end %}{% if a == 'd' %}1{% else %}2{% end %}", {"a": "x"}, "2"),
        ("{% set a, b = 1, 2 %}{% if a + b == 3 %}1{% end %}", {}, "1"),
        ("{% try %}{{Int32(a)}}{% except %}bad{% finally %}.{% end %}", {"a": "x"}, "bad."),
        ("{% try %}ok{% except %}bad{% end %}", {}, "ok"),
        ("a{# {{ x #}b{% comment {{ x %}c", {}, "abc"),
        ("{{! {%! {#!", {}, "{{ {% {#"),
        ("{a: 1}", {}, "{a: 1}"),
        ("{{{table('x')}}}", {}, "{x}"),
    ],
)  # fmt: skip
def test_directives(source: str, values: dict[str, Any], text: str) -> None:
    assert render(source, **values)[0] == text


# What Tornado itself gives for these, with the values as `str()` prints them.
@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for x in [1, 2] %}{{x}}{% else %}e{% end %}", "12e"),
        ("{% for x in [] %}{{x}}{% else %}e{% end %}", "e"),
        ("{% for x in [1, 2] %}{{x}}{% break %}{% else %}e{% end %}", "1"),
        ("{% for x in [1, 2] %}{% continue %}{% else %}e{% end %}", "e"),
        ("{% for x in [1, 2] %}{% for y in [3, 4] %}{% if y == 3 + x %}{% break %}{% end %}{{y}}{% else %}e{% end %}"
         "{% else %}f{% end %}", "334ef"),
        ("{% set i = 0 %}{% while i < 2 %}{% set i += 1 %}{{i}}{% else %}e{% end %}", "12e"),
        ("{% set i = 0 %}{% while True %}{% set i += 1 %}{% if i == 2 %}{% break %}{% end %}{{i}}{% else %}e{% end %}", "1"),
        ("{% try %}a{{[][0]}}b{% except %}c{% end %}", "ac"),
        ("{% try %}a{% for x in [1, 2] %}{{x}}{% if x == 2 %}{{[][0]}}{% end %}{% end %}b{% except %}c{% end %}", "a12c"),
        ("{% try %}a{% except %}c{% else %}d{% finally %}e{% end %}", "ade"),
        ("{% try %}a{{[][0]}}{% except %}c{% else %}d{% finally %}e{% end %}", "ace"),
        ("{% try %}a{{[][0]}}{% except TypeError %}b{% except IndexError %}c{% end %}", "ac"),
        ("{% try %}a{{[][0]}}{% except (TypeError, IndexError) %}b{% except %}c{% end %}", "ab"),
        ("{% try %}a{{[][0]}}{% except LookupError %}b{% end %}", "ab"),
        ("{% try %}a{{[][0]}}{% except Exception %}b{% end %}", "ab"),
        ("{% try %}{% try %}a{{[][0]}}{% except KeyError %}b{% finally %}f{% end %}{% except %}c{% end %}d", "afcd"),
        ("{% try %}{% try %}a{{[][0]}}{% finally %}f{% end %}{% except %}c{% end %}", "afc"),
        ("{% try %}a{{[][0]}}{% except %}b{% try %}c{{[][0]}}{% except %}d{% end %}{% end %}e", "abcde"),
        ("{% for x in [1, 2, 3] %}{% try %}{% if x == 2 %}{% break %}{% end %}{{x}}{% finally %}f{% end %}{% else %}e{% end %}",
         "1ff"),
        ("{% for x in [1, 2, 3] %}{% try %}{% if x == 2 %}{% continue %}{% end %}{{x}}{% except %}{% else %}e{% end %}.{% end %}",
         "1e.3e."),
        ("{% for x in [1, 2, 3] %}{% try %}{{[][0]}}{% except %}{% try %}{% if x == 2 %}{% break %}{% end %}{% finally %}f"
         "{% end %}{{x}}{% end %}.{% end %}", "f1.f"),
        ("{% try %}{% for x in [1, 2] %}{{x}}{% break %}{% end %}{% finally %}f{% end %}", "1f"),
        ("{% set x = 1 %}{% if True %}{% set x = 2 %}{% end %}{% for y in [3] %}{% set x = x + y %}{% end %}{{x}}{{y}}", "53"),
        ("{% try %}{% set x = 1 %}{% set x = [][0] %}{% except %}{% end %}{{x}}", "1"),
    ],
)  # fmt: skip
def test_blocks_are_tornados(source: str, text: str) -> None:
    for traced in (False, True):
        binder = Binder()
        shown = Template.compile(f"%SELECT 1 AS a WHERE {source}", traced=traced).render({}, binder)
        for name, value in binder.params.items():
            shown = shown.replace(f"{{{name}:UInt8}}", str(value))
        assert shown.strip().removeprefix("SELECT 1 AS a WHERE ") == text


def test_except_names_errors() -> None:
    source = "{% try %}{{Int32(a)}}{% except ValueError as why %}{{why}}{% except %}other{% end %}"
    assert render("SELECT 1 AS a WHERE " + source, a="x")[1] == {
        "p1": "Template Syntax Error: Error validating 'x' to type Int32"
    }
    source = "{% try %}{{1 + a}}{% except ValueError %}v{% except TypeError as why %}{{why}}{% end %}"
    assert "unsupported operand" in render("SELECT 1 AS a WHERE " + source, a="x")[1]["p1"]
    assert render("{% try %}{{error('x')}}{% except KeyError %}k{% except %}all{% end %}")[0] == "all"
    with pytest.raises(CustomError):
        render("{% try %}{{error('x')}}{% except ValueError %}v{% end %}")
    assert [p.name for p in Template.compile("%{% try %}{% except KeyError as e %}{{e}}{{b}}{% end %}").parameters] == ["b"]


def test_a_traced_try_tells_where_it_stopped() -> None:
    """What was written before a failure stays, so each place that can fail after some text makes a text of its own."""
    source = "%{% try %}{{Int32(a)}}{% if Int32(b) %}x{% end %}{{Int32(c)}}{% except %}e{% end %}"
    template = Template.compile(source, traced=True)
    places = [branch.column for branch in template.branches if branch.kind == "try stopped"]
    assert places == [source.index("{% if") + 1, source.index("{{Int32(c)") + 1]

    def stopped(**values: str) -> list[int]:
        binder = Binder()
        template.render(values, binder)
        return [branch.column for branch in binder.visited if branch.kind == "try stopped"]

    assert stopped(a="1", b="0", c="3") == []
    assert stopped(a="x", b="0", c="3") == []  # nothing was written
    assert stopped(a="1", b="x", c="3") == places[:1]
    assert stopped(a="1", b="1", c="x") == places[1:]


def test_no_secret_is_in_an_answer() -> None:
    for source in (
        "{{custom_error({'a': tb_secret('k')})}}", "{{custom_error({'a': [tb_secret('k')]}, 404)}}",
        "{{error(tb_secret('k'))}}", "{{String(tb_secret('k'))}}", "{{Array(tb_secret('k'))}}", "{{column(tb_secret('k'))}}",
        "{% for x in tb_secret('k') %}{% end %}", "{{tb_secret('k').split('')}}", "{{tb_secret('k')[0]}}",
        "{{max([tb_secret('k'), 1])}}", "{{JSON(tb_secret('k')).get('x')}}",
        "{% try %}{{[][tb_secret('k')]}}{% except Exception as e %}{{error(e)}}{% end %}",
    ):  # fmt: skip
        with pytest.raises(PipitError) as caught:
            render(source, {"k": "hunter2"})
        assert "hunter2" not in str(caught.value) + str(caught.value.body())


def test_the_authors_bodies_are_json() -> None:
    with pytest.raises(CustomError) as caught:
        render("{{custom_error({'a': Int32(a), 'b': [1e999, None, True], 'c': {'d': JSON(e)}}, 404)}}", a="1",
               e='"\\ud800"')  # fmt: skip
    assert caught.value.body() == {"a": 1, "b": [None, None, True], "c": {"d": "?"}}
    assert json.dumps(caught.value.body(), allow_nan=False)


def test_set_shadows_the_request() -> None:
    assert bound("a", a="x") == ("String", "x")
    text, params = render("{% set a=1 %}WHERE x = {{a}}", a="7")
    assert (text, params) == ("WHERE x = {p1:UInt8}", {"p1": 1})


@pytest.mark.parametrize(
    "name",
    [
        "end",
        "from",
        "start",
        "keys",
        "is",
        "class",
        "def",
        "and",
        "or",
        "in",
        "not",
        "if",
        "for",
        "while",
        "import",
        "lambda",
        "as",
    ],
)
def test_parameters_may_be_called_anything(name: str) -> None:
    source = (
        f"{{% if defined({name}) and {name} == 'x' or not {name} %}}1{{% end %}} WHERE a = {{{{String({name}, 'd')}}}}"
    )
    assert render(source, **{name: "x"}) == ("1 WHERE a = {p1:String}", {"p1": "x"})
    assert render(f"WHERE a = {{{{{name}}}}}", **{name: "x"})[1] == {"p1": "x"}
    assert [p.name for p in Template.compile("%" + source).parameters] == [name]
    assert render(f"{{% set {name} = 'y' %}}{{{{{name}}}}}")[1] == {"p1": "y"}
    if name != "not":
        assert render(f"{{% for {name} in ['y'] %}}{{{{{name}}}}}{{% end %}}")[1] == {"p1": "y"}


@pytest.mark.parametrize(
    ("source", "values", "text"),
    [
        ("{{a}}", {}, 'expression "a" evaluated to null'),
        ("{{Int32(a)}}", {"a": "x"}, "Error validating 'x' to type Int32"),
        ("{{Int32(a)}}", {"a": "5.0"}, "Error validating '5.0' to type Int32"),
        ("{{Int32(a)}}", {"a": True}, "Error validating 'true' to type Int32"),
        ("{{Int32(a)}}", {"a": "１"}, "Error validating '１' to type Int32"),
        ("{{Int32(a)}}", {"a": "1;"}, "Error validating '1;' to type Int32"),
        ("{{Int32(a)}}", {"a": "0x1"}, "Error validating '0x1' to type Int32"),
        ("{{Int32(a)}}", {"a": "1\n"}, "Error validating '1\n' to type Int32"),
        ("{{UInt8(a)}}", {"a": "256"}, "Error validating '256' to type UInt8"),
        ("{{UInt8(a)}}", {"a": "-1"}, "Error validating '-1' to type UInt8"),
        ("{{Int32(a)}}", {"a": ["1", "2"]}, "Error validating '[\"1\", \"2\"]' to type Int32"),
        ("{{String(a)}}", {"a": ["x"]}, "Error validating '[\"x\"]' to type String"),
        ("{{Int32(a)}}", {"a": {"x": 1}}, "Error validating '{\"x\": 1}' to type Int32"),
        ("{{Float64(a)}}", {"a": "1_0"}, "Error validating '1_0' to type Float64"),
        ("{{Boolean(a)}}", {"a": ["x"]}, "Error validating '[\"x\"]' to type Boolean"),
        ("{{Date(a)}}", {"a": "20200101"}, "Error validating '20200101' to type Date"),
        ("{{Date(a)}}", {"a": "2020-13-01"}, "Error validating '2020-13-01' to type Date"),
        ("{{DateTime(a)}}", {"a": "2020-01-01"}, "Error validating '2020-01-01' to type DateTime"),
        ("{{DateTime64(a)}}", {"a": "2020-01-01 00:00:00"}, "Error validating '2020-01-01 00:00:00' to type DateTime64"),
        ("{{Array(a,'Int32')}}", {"a": "1,b"}, "Error validating [1,b][1] (b) to type Int32"),
        ("{{Array(a,'Int32')}}", {"a": ""}, "Error validating [][0] (empty string) to type Int32"),
        ("{{columns(a)}}", {}, "Missing columns() default value, use `columns(parameter, 'column_a,column_b')`"),
        ("{{columns(a,'x')}}", {"a": []}, "columns() needs a column, and the list is empty"),
        ("{{day_diff(a,b)}}", {"a": "x", "b": "y"}, "invalid date format in function `day_diff`: "
         "it must be ISO format date YYYY-MM-DD, for instance 2018-09-26"),
        ("{{cache_ttl('2m')}}", {}, "Invalid TTL cache expression, valid expressions are ('5s', '1m', '5m', '30m', '1h')"),
        ("{{table(a)}}", {"a": "a b"}, "The 'table' function expects the name of a Data Source or Pipe"),
        ("{{column(a)}}", {"a": "x*/"}, "Not the name of a column"),
        ("{{symbol(a)}}", {"a": ""}, "Not the name of a column"),
        ("{{[1, 'a']}}", {}, "A list in SQL needs elements of one type"),
        ("{{JSON(a)}}", {"a": '{"b":[1]}'}, "An object cannot stand in SQL, only its parts"),
        ("{{JSON(a)}}", {"a": "[" * 100_000}, f"Error parsing JSON: '{'[' * 200}...' - nested too deeply"),
        ("{{sql_and(a__like=1)}}", {}, "operand like not supported"),
        ("{{day_diff(a,b)}}", {"a": "2020-W01-1", "b": "2020-01-01"}, "invalid date format in function `day_diff`: "
         "it must be ISO format date YYYY-MM-DD, for instance 2018-09-26"),
        ("{{date_diff_in_days(a,b,c)}}", {"a": "1", "b": "2", "c": "%d%d"},
         "invalid date format in function `date_diff_in_days`: the dates must have the format %d%d"),
        ("{{date_diff_in_hours(a,b)}}", {"a": "2020-01-01", "b": "2020-01-01"},
         "invalid date format in function `date_diff_in_hours`: the dates must have the format %Y-%m-%d %H:%M:%S"),
        ("{{activate(a)}}", {"a": "readonly"}, "'activate' takes one of: analyzer, parallel_replicas, "
         "optimize_aggregation_in_order"),
        *(("{{max_threads(a)}}", {"a": a}, "max_threads() takes a number from 1 to 1024")
          for a in ("0", "1025", "99999", "-4", "+4", " 4", "4;", "４", "", "4\n", "x", "4 SETTINGS x", True, 4.0, [4])),
        ("{{int(a)}}", {"a": "１"}, "not a number: '１'"),
        ("{{custom_error({'a': tb_secret('k', a)}, a)}}", {"a": "4"},
         "The status of custom_error() is a number from 400 to 599"),
    ],
)  # fmt: skip
def test_errors_of_values(source: str, values: dict[str, Any], text: str) -> None:
    assert failure(source, **values) == text


def test_bad_json() -> None:
    assert failure("{{JSON(a).get('x')}}", a="{bad").startswith("Error parsing JSON: '{bad' - ")


@pytest.mark.parametrize(
    ("source", "values", "names"),
    [
        ("{{Int32(a)}} {{String(b)}}", {}, "a and b"),
        ("{{Int32(a)}} {{String(b)}}", {"a": "1"}, "a and b"),
        ("{{Int32(a)}}", {}, "a"),
        ("{{Int32(a)}}{{Int32(b)}}{{Int32(c)}}{{Int32(d)}}{{Int32(e, 1)}}", {"a": "1"}, "a, b, c and d"),
        ("{{Int32(a)}}{% if defined(b) %}{{Int32(b)}}{% end %}", {"b": "1"}, "a"),
        ("{{column(a)}}", {}, "a"),
        ("SELECT 1 AS x -- {{String(a)}}", {}, "a"),
        ("SELECT 1 AS x /* {{String(a)}} */", {}, "a"),
        ("{{split_to_array(a)}}", {}, "a"),
        ("{{String(a, required=True)}}", {}, "a"),
        ("{{String(a, required=True)}} {{String(b, 'd', required=True)}}", {}, "a"),
    ],
)
def test_missing_parameters(source: str, values: dict[str, Any], names: str) -> None:
    assert failure(source, **values) == (
        f"Required parameter is not defined. Check the parameters {names}. "
        "Please provide a value or set a default value in the pipe code."
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{foo(a)}}", "Invalid function name: foo"),
        ("{{Symbol(a)}}", "Invalid function name: Symbol"),
        ("{{Column(a)}}", "Invalid function name: Column"),
        ("{{range(10)}}", "Invalid function name: range"),
        ("{{a.upper()}}", "Invalid method name: upper"),
        ("{{a.format(1)}}", "Invalid method name: format"),
        ("{{a/2}}", "Invalid BinOp: Div()"),
        ("{{a % 2}}", "Invalid BinOp: Mod()"),
        ("{{2 ** 9}}", "Invalid BinOp: Pow()"),
        ("{% import os %}", "import is forbidden at <string>:1"),
        ("{% from os import path %}", "from is forbidden at <string>:1"),
        ("{% include 'x' %}", "include is forbidden at <string>:1"),
        ("{% extends 'x' %}", "extends is forbidden at <string>:1"),
        ("{% raw a %}", "raw is forbidden at <string>:1"),
        ("{% module a() %}", "module is forbidden at <string>:1"),
        ("{% apply a %}{% end %}", "apply is forbidden at <string>:1"),
        ("{% block a %}{% end %}", "block is forbidden at <string>:1"),
        ("{% autoescape None %}", "autoescape is forbidden at <string>:1"),
        ("{% if a %}", "Missing {% end %} block for if at line 1"),
        ("\n{% for a in b %}", "Missing {% end %} block for for at line 2"),
        ("\n{{ a", "Missing end expression }} at <string>:2"),
        ("{{format}}", '"format" can not be used as a variable name, line 1'),
        ("\n{{String(q)}}", '"q" can not be used as a variable name, line 2'),
    ],
)
def test_errors_of_the_source(source: str, text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template.compile("%" + source)
    assert caught.value.message == PREFIX + text
    assert caught.value.line == source.count("\n") + 1


@pytest.mark.parametrize(
    "source",
    [
        "{{x.__class__.__mro__}}",
        "{{x.y}}",
        "{{[a for a in b]}}",
        "{{lambda: 1}}",
        "{{f'{a}'}}",
        "{{a if b}}",
        "{{''.__class__()}}",
        "{{(lambda: 1)()}}",
        "{{String}}()",
        "{{String(*a)}}",
        "{{String(**a)}}",
        "{{String(a, nonsense=1)}}",
        "{{Int32()}}",
        "{{tb_secret(a)}}",
        "{{1 @ 2}}",
        "{{~1}}",
        "{{b'x'}}",
        "{{1j}}",
        "{{...}}",
        "{{(a := 1)}}",
        "{{ }}",
        "{% %}",
        "{% end %}",
        "{% else %}",
        "{% if a %}{% except %}{% end %}",
        "{% for a in b %}{% elif a %}{% end %}",
        "{% for a in b %}{% else %}{% else %}{% end %}",
        "{% while a %}{% except %}{% end %}",
        "{% if a %}{% else %}{% elif b %}{% end %}",
        "{% unknown %}",
        "{% break %}",
        "{% try %}{% break %}{% except %}{% end %}",
        "{% for x in [1] %}{% else %}{% break %}{% end %}",
        "{% try %}x{% end %}",
        "{% try %}x{% else %}y{% end %}",
        "{% try %}x{% else %}y{% except %}z{% end %}",
        "{% try %}x{% finally %}y{% except %}z{% end %}",
        "{% try %}x{% except %}y{% except KeyError %}z{% end %}",
        "{% try %}x{% except %}y{% else %}z{% else %}z{% end %}",
        "{% try %}x{% except SystemExit %}y{% end %}",
        "{% try %}x{% except String %}y{% end %}",
        "{% try %}x{% except a.b %}y{% end %}",
        "{% try %}x{% except (KeyError, foo()) %}y{% end %}",
        "{% try %}x{% except KeyError as a.b %}y{% end %}",
        "{% try %}x{% except KeyError as format %}y{% end %}",
        "{% try %}x{% except KeyError as a, b %}y{% end %}",
        "{% try %}x{% except KeyError: pass\nexcept %}y{% end %}",
        "{% try x %}x{% except %}y{% end %}",
        "{% set a.b = 1 %}",
        "{% set a[0] = 1 %}",
        "{% set import os %}",
        "{% set x = 1; y = 2 %}",
        "{% for x in y: pass\nz %}{% end %}",
        "LIKE '%{{String(a)}}%'",
        "'{{a}}'",
        "SELECT `{{a}}`",
        'SELECT "{{a}}"',
        "{{" + "(" * 300 + "1" + ")" * 300 + "}}",
        "{% if a %}" * 30 + "{% end %}" * 30,
    ],
)
def test_what_is_not_there_does_not_compile(source: str) -> None:
    with pytest.raises(TemplateError) as caught:
        # A name that is no function may compile as a parameter; then it must fail at once without a value.
        Template.compile("%" + source).render({}, Binder())
    assert "/" not in caught.value.message.replace("'/'", "")


def test_the_authors_errors() -> None:
    with pytest.raises(CustomError) as caught:
        render("{{error('no ' + a)}}", a="x")
    assert (caught.value.status, caught.value.body()) == (400, {"error": "no x"})
    with pytest.raises(CustomError) as caught:
        render("{{custom_error({'error_id': 7, 'error': 'gone'}, 410)}}")
    assert (caught.value.status, caught.value.body()) == (410, {"error_id": 7, "error": "gone"})
    with pytest.raises(CustomError) as caught:
        render("{{custom_error('text', 404)}}")
    assert (caught.value.status, caught.value.body()) == (404, {"error": "text"})


def test_plain_sql() -> None:
    plain = Template.compile("SELECT 1 -- %")
    assert not plain.is_template
    assert plain.render({}, Binder()) == "SELECT 1 -- %"
    with pytest.raises(TemplateError) as caught:
        Template.compile("SELECT 1\n, {{a}}")
    assert (caught.value.line, caught.value.column) == (2, 3)
    assert "%" in caught.value.hint


def test_values_in_comments_are_harmless() -> None:
    text, params = render("SELECT 1 AS x -- {{String(a)}}\n/* {{String(b)}} */", a="\n; DROP", b="*/ DROP")
    assert text == "SELECT 1 AS x -- {p1:String}\n/* {p2:String} */"
    assert params == {"p1": "\n; DROP", "p2": "*/ DROP"}


def test_a_value_is_never_rendered_again() -> None:
    for hostile in ("{{tb_secret('k')}}", "{% import os %}", "{#", "%{{a}}", "{p1:String}", "'{p1:String}'"):
        assert bound("String(a)", a=hostile) == ("String", hostile)
        quoted = hostile.replace("'", "\\'")
        assert printed("String(a)", a=hostile) == f"'{quoted}'"


def test_no_error_shows_the_implementation() -> None:
    for source, values in (
        ("{% if a > 5 %}{% end %}", {}),
        ("{{a + 1}}", {"a": "x"}),
        ("{{Array(a)[5]}}", {"a": "x"}),
        ("{{JSON(a)['x']}}", {"a": "{}"}),
        ("{{len(5)}}", {}),
        ("{{int(a)}}", {"a": "x"}),
        ("{% for x in a %}{% end %}", {}),
        ("{{max(1, 'a')}}", {}),
        ("{{a.join(1)}}", {"a": "x"}),
    ):
        with pytest.raises(PipitError) as caught:
            render("\n" + source, **values)
        assert isinstance(caught.value, TemplateError)
        assert caught.value.line == 2
        assert not re.search(r"jinja|python|state|object at|\.py", caught.value.message)
