"""Hostile and huge texts: whatever is read, printed or compiled ends with resources or our errors, and in time that
grows as the text does.

Growth is measured in the process's own CPU time at n and 4n, which a busy machine does not stretch: four times is
linear, sixteen quadratic. The best of a few tries counts.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import examples
from pipit.datafiles import format_text, parse_project, render_secrets
from pipit.errors import CustomError, DatafileError, ProjectError, SqlError, TemplateError
from pipit.templates import Binder, Template, patterns

ROOT = Path(__file__).parents[2]
FILES = ("f.datasource", "f.pipe", "f.connection")
REAL = sorted(p for folder in ("datasources", "pipes", "connectors") for p in (ROOT / folder).glob("*.*") if p.suffix != ".py")
HOSTILE = ["\0", "\ufeff", "\r\n", "\r", "\ud800", "\udfff", "\u2028", "\x1b[2J", "\U0001f600", "\t", "`", "'", '"', "\\", "#", "--"]
HOSTILE += ["{{", "}}", "{%", "%}", "{#", "(", ")", "[", "]", ">", ",", "\n", "\n\n", "SQL >", "NODE", "SCHEMA >", "INCLUDE x\n", "{% if a %}", "{% end %}"]


def read(file: str, text: str) -> None:
    """All that `pipit check` and `pipit fmt` do without an engine. Nothing but our own errors may come out."""
    try:
        project = parse_project({file: text})
    except ProjectError as problem:
        assert all(type(error) is DatafileError and error.message for error in problem.errors)
    else:
        for pipe in project.pipes.values():
            for node in pipe.nodes:
                compile_(node.sql)
    try:
        printed = format_text(text, file=file)
    except ProjectError as problem:
        assert not any("without changing" in error.message for error in problem.errors), problem
    else:
        assert format_text(printed, file=file) == printed


def compile_(source: str) -> None:
    patterns(source)
    try:
        template = Template.compile(source)
        template.render({}, Binder(placeholder=True))
    except TemplateError as error:
        assert error.message.startswith("Template Syntax Error: ")
    except (SqlError, CustomError):
        pass  # what the engine would refuse too, and what the template itself asks for


@settings(max_examples=examples(200))
@given(data=st.data())
def test_real_files_with_something_changed(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(REAL))
    text = path.read_text()
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.sampled_from([0, 0, 1, 5, 40]))
        copied = data.draw(st.integers(0, len(text)))
        piece = data.draw(st.sampled_from(HOSTILE) | st.just(text[copied : copied + 30]) | st.text(max_size=3))
        text = text[:start] + piece + text[end:]
    read(f"f{path.suffix}", text)


@settings(max_examples=examples(300))
@given(st.lists(st.sampled_from([*HOSTILE, "a", " ", "x LIKE ", "String(a)", "= 1", "for i in a", "set "]), max_size=40))
def test_any_template(pieces: list[str]) -> None:
    compile_("%" + "".join(pieces))


FILES_OF = {
    "columns": ("f.datasource", lambda n: "SCHEMA >\n" + "".join(f"    c{i} String, -- c\n" for i in range(n))),
    "columns in one line": ("f.datasource", lambda n: "SCHEMA >\n " + ", ".join(f"c{i} DEFAULT (1)" for i in range(n))),
    "duplicates": ("f.datasource", lambda n: "SCHEMA >\n" + "    c String,\n" * n),
    "comments in a column": ("f.datasource", lambda n: "SCHEMA >\n a Array(\n" + " -- x\n # y\n" * n + "String)\n"),
    "a long tuple": ("f.datasource", lambda n: "SCHEMA >\n a Tuple(" + ", ".join(f"x{i} Int8" for i in range(n)) + ")\n"),
    "a deep type": ("f.datasource", lambda n: "SCHEMA >\n a " + "Array(" * n + "Int8" + ")" * n + "\n"),
    "a deep default": ("f.datasource", lambda n: "SCHEMA >\n a DEFAULT " + "([" * n + "])" * n + "\n"),
    "backticks": ("f.datasource", lambda n: "SCHEMA >\n" + " `" * n + "\n"),
    "quotes": ("f.datasource", lambda n: "ENGINE_TTL " + "' \" " * n),
    "settings": ("f.datasource", lambda n: "SCHEMA >\n a Int8\nENGINE_SETTINGS " + ",".join(f"a{i}=1" for i in range(n))),
    "keys": ("f.datasource", lambda n: "SCHEMA >\n a Int8\nENGINE_SORTING_KEY " + ",".join(["f(a)"] * n)),
    "indexes": ("f.datasource", lambda n: "SCHEMA >\n a Int8\nINDEXES >\n" + "".join(f" i{i} a TYPE minmax\n" for i in range(n))),
    "tokens": ("f.datasource", lambda n: "SCHEMA >\n a Int8\n" + "".join(f"TOKEN t{i} READ\n" for i in range(n))),
    "nodes": ("f.pipe", lambda n: "".join(f"NODE n{i}\nSQL >\n SELECT 1\n" for i in range(n))),
    "one node again and again": ("f.pipe", lambda n: "NODE n\nSQL >\n SELECT 1\n" * n),
    "includes": ("f.pipe", lambda n: "INCLUDE a.incl\n" * n + "NODE n\nSQL >\n SELECT 1\n"),
    "lines": ("f.pipe", lambda n: "NODE n\nSQL >\n" + "    SELECT\n# x\n\n" * n),
    "a long line": ("f.pipe", lambda n: "NODE n\nSQL >\n    SELECT " + "1 " * n),
    "blank lines": ("f.pipe", lambda n: "\n" * n + "NODE n\nSQL >\n" + "\n" * n + " SELECT 1\n" + "\n# x\n" * n),
    "swallowed": ("f.pipe", lambda n: "NODE n\nSQL >\n" + "    TYPE endpoint\n" * n),
    "brackets of SQL": ("f.pipe", lambda n: "NODE n\nSQL >\n    SELECT " + "(" * n + "1" + ")" * n),
    "a certificate": ("f.connection", lambda n: "TYPE kafka\nKAFKA_BOOTSTRAP_SERVERS a\nKAFKA_SSL_CA_PEM >\n" + "  abc=\n" * n),
}  # fmt: skip
TEMPLATES: dict[str, Callable[[int], str]] = {
    "expressions": lambda n: "%SELECT " + "{{String(a)}}," * (n // 10),
    "names": lambda n: "%SELECT " + "".join(f"{{{{String(a{i})}}}}," for i in range(n // 10)),
    "braces in blocks": lambda n: "%" + "{% { %}" * n,
    "quotes in blocks": lambda n: "%" + "{% set a = ' %}" * (n | 1),
    "escaped braces": lambda n: "%" + "{{!" * n,
    "comments": lambda n: "%" + "{# \n #}x" * n,
    "ifs in a row": lambda n: "%" + "{% if a %}x{% end %}" * (n // 10),
    "elifs": lambda n: "%{% if a %}" + "".join(f"{{% elif defined(b{i}) %}}" for i in range(n // 10)) + "{% end %}",
    "unclosed ifs": lambda n: "%" + "{% if a %}\n" * n,
    "deep ifs": lambda n: "%" + "{% if a %}" * n + "{% end %}" * n,
    "deep brackets": lambda n: "%{{" + "(" * n + ")" * n + "}}",
    "deep lists": lambda n: "%{{" + "[" * n + "]" * n + "}}",
    "minuses": lambda n: "%{{" + "-" * n + "1}}",
    "conditions": lambda n: "%{{" + "1 if a else " * (n // 10) + "1}}",
    "a sum": lambda n: "%{{" + "1+" * n + "1}}",
    "ors": lambda n: "%{% if " + "a or " * n + "a %}{% end %}",
    "calls": lambda n: "%{{a" + ".get('a')" * n + "}}",
    "patterns": lambda n: "%SELECT " + "x LIKE ({{String(a)}} || " * (n // 10) + ")" * n,
    "likes": lambda n: "%SELECT " + "like(" * n + "{{String(a)}}",
    "quotes": lambda n: "%" + "'" * (n | 1) + "{{a}}",
    "braces": lambda n: "%" + "{" * n,
    "percents": lambda n: "%" * n,
}


def seconds(run: Callable[[], object]) -> float:
    gc.collect()
    gc.disable()  # a collection costs what all tests before left behind
    try:
        started = time.process_time()
        run()
        return time.process_time() - started
    finally:
        gc.enable()


def assert_grows_in_proportion(run: Callable[[int], object], n: int) -> None:
    """Processor time, of the best of some tries: quadratic would be 16 times as long in each of them."""
    ratios = []
    for _ in range(8):
        small, large = seconds(lambda: run(n)), seconds(lambda: run(4 * n))
        if large < 0.05:
            return  # quadratic would be nothing like this
        ratios.append(large / max(small, 1e-6))
        if ratios[-1] < 10:
            return
    raise AssertionError(f"four times the text took {min(ratios):.0f} times as long")


SIZES = [pytest.param(500, id="short"), pytest.param(1_500, id="long", marks=pytest.mark.long)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", FILES_OF)
def test_a_file_takes_time_in_proportion(case: str, size: int) -> None:
    file, make = FILES_OF[case]
    assert_grows_in_proportion(lambda n: read(file, make(n)), size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", TEMPLATES)
def test_a_template_takes_time_in_proportion(case: str, size: int) -> None:
    assert_grows_in_proportion(lambda n: compile_(TEMPLATES[case](n)), 2 * size)


@pytest.mark.parametrize("directive", ["KAFKA_KEY ", "KAFKA_SSL_CA_PEM >\n    ", "KAFKA_KEY '"])
def test_secrets_take_time_in_proportion(directive: str) -> None:
    secrets = {"k": "v"}
    assert_grows_in_proportion(
        lambda n: render_secrets(f"TYPE kafka\n{directive}" + '{{ tb_secret("k") }}' * n, secrets, file="f.connection"), 2_000
    )


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("text", ["{}" * 600_000, "\n" * 1_000_001, "NODE n\n" * 150_000], ids=["long", "lines", "nodes"])
def test_a_file_that_is_too_large_is_refused(file: str, text: str) -> None:
    with pytest.raises(ProjectError) as caught:
        parse_project({file: text})
    assert "too large" in str(caught.value)


def test_half_a_character_is_refused_with_its_place() -> None:
    with pytest.raises(ProjectError) as caught:
        parse_project({"f.pipe": "NODE n\nSQL >\n    SELECT '\ud800'\n"})
    (error,) = [error for error in caught.value.errors if error.line]
    assert str(error) == "f.pipe:3:13: The file holds half a character"
    error.excerpt.encode()


def test_a_template_of_too_many_parts_is_refused() -> None:
    with pytest.raises(TemplateError, match="more than 5000 expressions and blocks"):
        Template.compile("%\n" + "{{a}}" * 10_001)
