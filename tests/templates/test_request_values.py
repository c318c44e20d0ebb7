"""The written rule of docs/reference/values.md, "Request values": what a request says, and what each type makes of it.

A value is never another one in silence: an element that is no value of its list's type is an error that names the
parameter and the element.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from pipit.errors import TemplateError
from pipit.templates import Binder, Template
from pipit.templates.types import PARSERS


def value(expression: str, **values: Any) -> Any:
    binder = Binder()
    Template.compile("%SELECT 1 AS a WHERE x = {{" + expression + "}}").render(values, binder)
    return binder.params["p1"]


def refusal(expression: str, **values: Any) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        value(expression, **values)
    return caught.value


NO_SCALARS: list[Any] = [None, [], ["x"], [[1]], {}, {"a": 1}, {"a": [None]}]
GOOD: list[Any] = ["a", "", "1", 1, True]


@pytest.mark.parametrize("bad", NO_SCALARS, ids=repr)
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("element", ["String", "Int32", "UInt64", "Float64", "Boolean", "Date", "DateTime64", "Unknown"])
def test_an_element_that_is_no_scalar_is_named(element: str, place: int, bad: Any) -> None:
    good = {"Date": "2026-03-09", "DateTime64": "2026-03-09 10:00:00.000"}.get(element, "1")
    items = [good, good, good]
    items[place] = bad
    for given in (items, json.dumps(items), f" {json.dumps(items)} "):
        error = refusal(f"Array(st, '{element}')", st=given)
        shown = json.dumps(bad)
        kind = element if element in PARSERS else "String"
        assert error.message.endswith(f"[{place}] ({shown}) to type {kind}"), error.message
        assert error.parameter == "st" and error.hint.startswith("'st' takes a list"), error.hint
        assert error.status == 400
    assert refusal("split_to_array(st)", st=items).parameter == "st"


@pytest.mark.parametrize("items", list(itertools.permutations(GOOD, 2)), ids=repr)
def test_numbers_and_booleans_are_texts_in_a_list_of_texts(items: tuple[Any, ...]) -> None:
    texts = ["true" if item is True else str(item) for item in items]
    assert value("Array(st, 'String')", st=list(items)) == texts
    assert value("Array(st)", st=json.dumps(items)) == texts


@pytest.mark.parametrize(
    ("given", "items"),
    [
        ("a,b", ["a", "b"]),
        ("", [""]),
        (",", ["", ""]),
        (" a , b", [" a ", " b"]),
        (["a,b", "c"], ["a,b", "c"]),
        ('["a","b"]', ["a", "b"]),
        ('["a,b", "c"]', ["a,b", "c"]),
        ("[]", []),
        ("[ ]", []),
        ("[a,b]", ["[a", "b]"]),
        ("['a','b']", ["['a'", "'b']"]),
        ('["a","b"', ['["a"', '"b"']),
        ('["a"]x', ['["a"]x']),
        ('"a","b"', ['"a"', '"b"']),
        ("[NaN]", ["[NaN]"]),
        ("[1, 2.5, true]", ["1", "2.5", "true"]),
        ('{"a": 1}', ['{"a": 1}']),
        (5, ["5"]),
        (True, ["true"]),
        ([], []),
    ],
)
def test_what_is_a_list(given: Any, items: list[str]) -> None:
    assert value("Array(st)", st=given) == items


@pytest.mark.parametrize("separator", [",", "|", "]"])
@pytest.mark.parametrize("items", [["a", "b"], ["a,b", "c|d"], [" a "], ["x", 1, True], []], ids=repr)
def test_a_list_is_the_same_list_for_every_function_that_takes_one(items: list[Any], separator: str) -> None:
    texts = value("Array(st)", st=items)
    for given in (items, json.dumps(items), f" {json.dumps(items)} "):
        assert value(f"split_to_array(st, separator='{separator}')", st=given) == texts


@pytest.mark.parametrize("given", [["a", "b.c"], '["a","b.c"]', ' ["a", "b.c"]', "a,b.c", " a , b.c"], ids=repr)
def test_columns_takes_a_list(given: Any) -> None:
    binder = Binder()
    assert Template.compile("%SELECT {{columns(c)}}").render({"c": given}, binder).strip() == "SELECT `a`,`b`.`c`"
    for bad in (["a", None], ["a", ["b"]], '["a",{}]', [""], ["a", "b */ c"]):
        with pytest.raises(TemplateError):
            Template.compile("%SELECT {{columns(c)}}").render({"c": bad}, Binder())


@pytest.mark.parametrize(
    ("expression", "several"),
    [
        ("Array(x, 'Int8')", True), ("split_to_array(x)", True), ("split_to_array(x, '', separator='|')", True),
        ("columns(x, 'a')", True), ("columns(x, 'a', fn='sum')", True), ("String(x)", False), ("column(x, 'a')", False),
        ("x", False), ("defined(x)", False),
    ],
)  # fmt: skip
def test_what_may_be_sent_several_times(expression: str, several: bool) -> None:
    (parameter,) = Template.compile("%SELECT {{" + expression + "}}").parameters
    assert parameter.is_list is several


@pytest.mark.parametrize("type", [t for t in PARSERS if t not in ("JSON", "String")])
@pytest.mark.parametrize("given", [[], ["1"], [1], [[1]], {}, {"a": 1}], ids=repr)
def test_a_scalar_is_no_list_and_no_object(type: str, given: Any) -> None:
    error = refusal(f"{type}(x)", x=given)
    assert error.message == f"Template Syntax Error: Error validating '{json.dumps(given)}' to type {type}"
    assert error.parameter == "x"


def test_what_is_deeper_is_json_text_as_a_string() -> None:
    for given in ({"a": 1}, {}, [{"a": "é"}], [[1], [2]]):
        assert json.loads(value("String(x)", x=given)) == given
        assert value("len(JSON(x))", x=given) == len(given)
    for plain in (["a"], [1, 2], [], [None]):
        assert refusal("String(x)", x=plain).parameter == "x"
    assert refusal("Array(x)", x={"a": 1}).parameter == "x"


@pytest.mark.parametrize(
    ("expression", "given", "hint"),
    [
        ("UInt16(n)", "abc", "'n' takes a whole number from 0 to 65535."),
        ("Int64(n)", "1.5", "'n' takes a whole number from -9223372036854775808 to 9223372036854775807."),
        ("UInt256(n)", "x", "'n' takes a whole number that UInt256 can hold."),
        ("Int(n)", "x", "'n' takes a whole number."),
        ("Float32(n)", "x", "'n' takes a number, such as 1.5."),
        ("Date(n)", "09/03/2026", "'n' takes a day as YYYY-MM-DD, such as 2026-03-09."),
        ("DateTime(n)", "2026-03-09", "'n' takes a time as YYYY-MM-DD hh:mm:ss, such as 2026-03-09 10:00:00."),
        ("DateTime64(n)", "2026-03-09 10:00:00",
         "'n' takes a time with three or more digits of a fraction, such as 2026-03-09 10:00:00.000."),
        ("Array(n, 'UInt8')", "1,300",
         "'n' takes a list (a,b,c, or [...] in a JSON body), each element a whole number from 0 to 255."),
        ("JSON(n)", "{", "'n' takes JSON text, such as {\"a\": 1}."),
    ],
)  # fmt: skip
def test_a_refusal_names_the_parameter_and_what_it_takes(expression: str, given: str, hint: str) -> None:
    error = refusal(expression, n=given)
    assert (error.parameter, error.hint) == ("n", hint)
    assert error.body()["parameter"] == "n"


def test_what_the_hints_say_is_taken() -> None:
    for type, text in (("Date", "2026-03-09"), ("DateTime", "2026-03-09 10:00:00"), ("DateTime64", "2026-03-09 10:00:00.000")):
        assert value(f"{type}(n)", n=text) == text


def test_a_default_that_does_not_do_is_the_authors() -> None:
    error = refusal("Int8(n, 'x')")
    assert (error.parameter, error.hint) == ("n", "The default of 'n' must be a whole number from -128 to 127.")


def test_a_missing_parameter_is_named() -> None:
    error = refusal("Int8(a) + Int8(b)", a="1")
    assert error.parameter == "b" and "Check the parameters a and b." in error.message


def test_where_there_is_no_parameter_none_is_named() -> None:
    error = refusal("Int8('x')")
    assert error.parameter == "" and "parameter" not in error.body()
