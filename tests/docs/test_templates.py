"""docs/reference/templates.md, and values.md of requests, against the template language: nothing is missing, nothing is made up, examples run."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from pages import DOCS, code, datafiles, same, section, tables
from pipit.errors import TemplateError
from pipit.templates import Template, blocks, expressions, functions, python, runtime, state, template, types
from pipit.templates.types import PARSERS
from serving import Workspace

PAGE = DOCS / "reference" / "templates.md"
TEXT = PAGE.read_text()
VALUES = DOCS / "reference" / "values.md"
EXAMPLES = [
    tuple(code(cell)[0] if code(cell) else "" for cell in row)
    for table in (*tables(PAGE), *tables(VALUES, "## Request values"))
    if table.header == ("written", "request", "answer")
    for row in table.rows
]
VISITS = {
    "datasources/visits.datasource": "SCHEMA >\n    `page` String `json:$.page`,\n    `country` String `json:$.country`\n"
}


def _names(heading: str, header: str) -> list[str]:
    (table,) = [table for table in tables(PAGE, heading) if table.header[0] == header]
    return table.names()


def test_every_type_is_there() -> None:
    documented = _names("## Types", "type")
    same(documented, [*PARSERS, "Array"], PAGE)
    stand_ins = {
        name: code(row[2])[0] for row in tables(PAGE, "## Types")[0].rows for name in code(row[0]) if name != "Array"
    }
    assert stand_ins == {name: types.stand_in(name) for name in PARSERS}


def test_every_type_has_a_rule_of_what_a_requests_value_becomes() -> None:
    (table,) = [table for table in tables(VALUES, "## Request values") if table.header[0] == "type"]
    ruled = {name.partition("(")[0] for name in table.names()}
    missing = {name for name in PARSERS if name not in ruled and not name.startswith(("Int", "UInt"))}
    assert not missing and {"Array", "Int", "Int8", "Int256", "UInt8", "UInt256"} <= ruled
    assert not ruled - {*PARSERS, "Array"}


def test_every_function_is_there() -> None:
    documented = [text.partition("(")[0] for text in _names("## Functions", "function")]
    same(documented, functions.FUNCTIONS.keys() - {*PARSERS, "Array"}, PAGE)


def test_what_functions_take_is_there() -> None:
    text = section(PAGE, "## Functions") + section(PAGE, "## Types")
    words = {word for span in code(text) for word in re.findall(r"\w+", span)}
    assert {*functions._OPERATORS, *functions._CACHE_SECONDS, *functions._FEATURES, *functions.DESCRIBING} <= words


def test_every_statement_is_there() -> None:
    written = [re.search(r"\{% (\w+)", text) for text in _names("## Statements", "statement")]
    documented = {found[1] for found in written if found}
    assert documented == {*blocks._OPENING, *blocks._BETWEEN, "set", "break", "continue", "end"}
    (named,) = re.findall(r"may name (.+?) \(a value", section(PAGE, "## Statements"), re.DOTALL)
    same(code(named), runtime.CATCHABLE, PAGE)
    (forbidden,) = re.findall(r"Not allowed are these: (.+?)\.$", section(PAGE, "## Statements"), re.DOTALL | re.MULTILINE)
    same(code(forbidden), blocks._FORBIDDEN, PAGE)


def test_every_method_is_there() -> None:
    (methods,) = re.findall(r"Methods are (.+?)\. ", section(PAGE, "## Expressions"), re.DOTALL)
    same(code(methods), expressions.METHODS, PAGE)


def test_what_statements_have_of_python_is_there() -> None:
    page = tables(PAGE, "## Python in statements")
    (calls,) = [table for table in page if table.header[0] == "function"]
    documented = {name.partition("(")[0] for name in calls.names()}
    assert documented == {*python.FUNCTIONS, "isinstance", "map", "filter"}
    (methods,) = [table for table in page if table.header[0] == "of"]
    assert {name for row in methods.rows for name in code(row[1])} == python.METHODS
    kinds, mapped = ({*code(row[1])} for row in calls.rows if row[0].startswith(("`isinstance", "`map")))
    assert kinds - {"kind"} == {*python.KINDS, "list", "set"} and mapped - {"f"} == python.MAPPED
    assert f"{python._FEW:,} tuples" in section(PAGE, "## Limits")


def test_the_limits_are_those_of_the_code() -> None:
    text = section(PAGE, "## Limits")
    steps, output = f"{state.MAX_STEPS:,} turns", f"{state.MAX_OUTPUT:,} characters"
    assert f"{state.MAX_SECONDS:g} second" in text and steps in text and output in text
    assert f"{types.MAX_ITEMS:,} elements" not in text and f"at most {types.MAX_ITEMS:,}" in section(PAGE, "## Types")
    assert f"{state.MAX_WORK:,} characters" in text and f"lists {state.MAX_DEPTH} deep" in text
    assert f"together may take {state.MAX_REQUEST_SECONDS:g} seconds" in text
    assert f"{template._MAX_BLOCKS:,} expressions and blocks" in text
    assert f"nested at most {blocks._MAX_DEPTH} deep" in text and f"{expressions._MAX_EXPRESSION:,}" in text


@pytest.mark.anyio
async def test_the_examples_give_what_they_say(workspace: Workspace) -> None:
    """Each through /v0/sql, on the engine. All that differ are told at once."""
    await workspace.deploy(VISITS | datafiles(PAGE))
    assert len(EXAMPLES) > 40
    wrong = []
    for written, request, expected in EXAMPLES:
        sql = f"%\n{written if written.startswith('SELECT') else f'SELECT {written} AS x'}"
        reply = await workspace.post(
            f"/v0/sql?{quote(request, safe='=&%')}", data=sql.encode(), headers={"Content-Type": "text/plain"}
        )
        answer = reply.text.strip("\n").replace("\n", ", ").replace("\\'", "'")  # as TSV has it
        found = answer if reply.status == 200 else str(reply.json["error"])
        if found.strip() != expected and not (reply.status != 200 and expected in found):
            wrong.append(f"{written} with {request!r}: {found}, not {expected}")
    assert not wrong, "\n".join(wrong)


def test_an_error_of_a_template_begins_as_the_page_says() -> None:
    with pytest.raises(TemplateError) as caught:
        Template.compile("%{% if 1 %}")
    assert caught.value.message.startswith("Template Syntax Error: ")
