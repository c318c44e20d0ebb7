"""What a request's value is as a Boolean: every text is one, nothing at all is 0, and a list or an object is none."""

from __future__ import annotations

from typing import Any

import pytest

from pipit.errors import TemplateError
from pipit.templates import Binder, Template


def value(expression: str, fixed: frozenset[str] = frozenset(), **values: Any) -> Any:
    binder = Binder(fixed=fixed)
    text = Template.compile("%SELECT 1 AS a WHERE x = {{" + expression + "}}").render(values, binder)
    assert text.strip() == "SELECT 1 AS a WHERE x = {p1:UInt8}"
    return binder.params["p1"]


FALSE: list[Any] = ["", "0", "false", "False", "FALSE", "fAlSe", False, 0, 0.0, -0.0]
TRUE: list[Any] = [
    *("1", "true", "True", "TRUE", "yes", "YES", "on", "no", "No", "off", "abc", "2", "-1", "00", "0.0", "null", "None"),
    *(" ", "\t", "\n", " false", "false ", "0 ", "fa\tlse", "n", "f", "é", "\0", "\u2028", "０", "ﬁ", "{}", "[]", "'"),
    *(True, 1, 2, -1, 0.5, float("nan"), float("inf"), 10**30),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), [*((v, 0) for v in FALSE), *((v, 1) for v in TRUE)], ids=repr)
def test_each_value(given: Any, expected: int) -> None:
    for expression in ("Boolean(a)", "Boolean(a, 1)", "Boolean(a, None)", "Boolean(a, defined=False)"):
        assert value(expression, a=given) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("Boolean(a)", 0),
        ("Boolean(a, None)", 0),
        ("Boolean(a, false)", 0),
        ("Boolean(a, true)", 0),  # a name that nothing defines, as `false` is
        ("Boolean(a, some_name)", 0),
        ("Boolean(a, default=some_name, description='x', required=True)", 0),
        ("Boolean(a, '')", 0),
        ("Boolean(a, 'false')", 0),
        ("Boolean(a, False)", 0),
        ("Boolean(a, 0)", 0),
        ("Boolean(a, 'no')", 1),
        ("Boolean(a, 1)", 1),
        ("Boolean(a, True)", 1),
        ("Boolean(a, 'true')", 1),
    ],
)
def test_without_a_value(expression: str, expected: int) -> None:
    assert value(expression) == expected


def test_not_defined_is_nothing() -> None:
    assert value("1 if Boolean(a, defined=False) is None else 2") == 1
    assert value("1 if Boolean(a, b, defined=False) is None else 2") == 1


@pytest.mark.parametrize("given", [[], ["true"], [True, False], {"a": 1}, {}], ids=repr)
def test_what_is_no_scalar_is_refused(given: Any) -> None:
    with pytest.raises(TemplateError, match=r"Error validating '.*' to type Boolean"):
        value("Boolean(a)", a=given)


def test_elements() -> None:
    binder = Binder()
    Template.compile("%{{Array(a, 'Boolean')}}").render({"a": "true,no,,0,false,x"}, binder)
    assert binder.params == {"p1": [1, 1, 0, 0, 0, 1]}


@pytest.mark.parametrize("given", ["true", "TRUE", "yes", "1", True, 1])
def test_a_token_that_fixes_a_boolean_as_true(given: Any) -> None:
    assert value("Boolean(a)", frozenset({"a"}), a=given) == 1


@pytest.mark.parametrize("given", ["false", "False", "0", False, 0])
def test_a_token_that_fixes_a_boolean_as_false(given: Any) -> None:
    assert value("Boolean(a)", frozenset({"a"}), a=given) == 0


@pytest.mark.parametrize("given", ["", "no", "off", "on", "abc", "2", " ", " true", "n", 2, -1, 0.5, [True], {}], ids=repr)
def test_a_token_that_fixes_what_is_no_plain_boolean_reads_nothing(given: Any) -> None:
    """`no` is 1 in the dialect: who signs a token with it means 0."""
    with pytest.raises(TemplateError, match=r"Error validating '.*' to type Boolean"):
        value("Boolean(a)", frozenset({"a"}), a=given)
    assert value("Boolean(b)", frozenset({"a"}), a=given, b="no") == 1


def test_a_boolean_needs_no_value() -> None:
    template = Template.compile("%{{Boolean(a)}} {{Boolean(b, true)}} {{JSON(c)}} {{Int8(d)}}")
    assert [(p.name, p.default, p.needed) for p in template.parameters] == [
        *(("a", None, False), ("b", None, False), ("c", None, False), ("d", None, True)),
    ]


@pytest.mark.parametrize("expression", ["JSON(a)", "JSON(a, None)", "JSON(a, b)", "JSON(a, '{}')"])
def test_json_without_a_value_is_an_empty_object(expression: str) -> None:
    assert value(f"1 if {expression} == {{}} else 2") == 1
    assert value(f"1 if {expression}.get('k') is None else 2") == 1
    assert value(f"{expression}.get('k', 7)") == 7


def test_json_not_defined_is_nothing() -> None:
    assert value("1 if JSON(a, defined=False) is None else 2") == 1
