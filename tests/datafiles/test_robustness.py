"""No text crashes or hangs the parser: it gives resources, or errors with places inside of the text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import examples
from pipit.datafiles import parse_jsonpath, parse_project, print_datasource, render_secrets
from pipit.datafiles.vocabulary import KNOWN
from pipit.errors import ProjectError

FILES = ("f.datasource", "f.pipe", "f.connection")
VALID = (
    "DESCRIPTION >\n    d\nTOKEN t READ\nSCHEMA >\n    `a` Array(String) `json:$.a[:]` DEFAULT ['x'],\n"
    "    b Enum8('x' = 1) CODEC(ZSTD(1)) -- c\nENGINE \"MergeTree\"\nENGINE_SORTING_KEY \"b, toDate('x')\"\n"
    "ENGINE_SETTINGS a=1\nINDEXES >\n    i b TYPE set(1) GRANULARITY 2\nROW_POLICY b = {{String(context.b)}}\n",
    "TOKEN 't' READ\nNODE n\nSQL >\n    %\n    SELECT {{String(a)}} -- x\nTYPE copy\nTARGET_DATASOURCE t\n"
    "COPY_SCHEDULE 0 * * * *\nNODE m\nDESCRIPTION x # y\nSQL >\nSELECT 1\n",
    'TYPE kafka\nKAFKA_BOOTSTRAP_SERVERS a:1\nKAFKA_KEY {{ tb_secret("k") }}\nKAFKA_SSL_CA_PEM >\n    x\n',
)
PIECES = [
    *sorted(KNOWN),
    ">",
    "\n",
    "    ",
    "'",
    '"',
    "`",
    "{{",
    "}}",
    "(",
    ")",
    "[",
    "]",
    ",",
    "--",
    "#",
    "`json:$.",
    "\\",
]
PIECES += [
    "a",
    " ",
    "$",
    ".",
    "[:]",
    "DEFAULT",
    "CODEC(",
    "TYPE",
    "tb_secret(",
    "\t",
    "\r\n",
    "é",
    "\u2028",
    "\x00",
    "1",
]


def parse(file: str, text: str) -> None:
    """Parses; whatever is wrong must be told as the contract says."""
    try:
        project = parse_project({file: text})
    except ProjectError as problem:
        lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
        assert problem.errors
        for error in problem.errors:
            assert error.message and error.file == file
            if error.line:
                assert 1 <= error.line <= len(lines)
                assert 1 <= error.column <= len(lines[error.line - 1]) + 1
                assert "^" in error.excerpt
    else:
        for source in project.datasources.values():
            printed = print_datasource(source)
            assert parse_project({file: printed}).datasources.keys() == project.datasources.keys(), printed


@pytest.mark.parametrize("file", FILES)
@settings(max_examples=examples(300))
@given(text=st.text() | st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_any_text(file: str, text: str) -> None:
    parse(file, text)


@pytest.mark.parametrize("kind", range(3))
@settings(max_examples=examples(400))
@given(data=st.data())
def test_a_valid_file_with_something_changed(kind: int, data: st.DataObject) -> None:
    text = VALID[kind]
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        text = text[:start] + data.draw(st.sampled_from(PIECES) | st.text(max_size=4)) + text[end:]
    parse(FILES[kind], text)


@given(text=st.lists(st.sampled_from(PIECES), max_size=40).map("".join), value=st.text(max_size=20))
def test_secrets_in_any_text(text: str, value: str) -> None:
    for file in FILES[::2]:
        try:
            render_secrets(text + '\nKAFKA_KEY {{ tb_secret("k") }}\n', {"k": value}, file=file)
        except ProjectError as problem:
            assert problem.errors


@given(st.text(alphabet="$.[]:'\"ab0*", max_size=30))
def test_any_json_path(path: str) -> None:
    try:
        steps = parse_jsonpath(path)
    except ValueError as problem:
        assert str(problem)
    else:
        assert path.startswith("$") and (steps or set(path) <= set("$."))


SIZE = 100_000
LONG = {
    "brackets": "SCHEMA >\n    a " + "(" * SIZE,
    "type": "SCHEMA >\n    a " + "Array(" * SIZE + "Int32" + ")" * SIZE,
    "quotes": 'ENGINE_TTL "' + '\\"' * SIZE,
    "apostrophes": "TAGS " + "'" * (SIZE | 1),
    "templates": "TAGS " + "{{" * SIZE,
    "quoted templates": 'TAGS "' + "{{" * SIZE,
    "backticks": "SCHEMA >\n" + "    `a\n" * SIZE,
    "commas": "SCHEMA >\n    " + "," * SIZE,
    "columns": "SCHEMA >\n" + "".join(f"    c{i} String,\n" for i in range(SIZE // 10)),
    "one line of columns": "SCHEMA >\n" + "".join(f"`c{i}` String `json:$.c`, " for i in range(SIZE // 20)),
    "comments": "SCHEMA >\n" + "--\n" * SIZE + "# x\n" * SIZE,
    "default": "SCHEMA >\n    a DEFAULT " + "x " * SIZE,
    "indexes": "INDEXES >\n    i " + "TYPE GRANULARITY " * (SIZE // 10),
    "unknown words": "NOPE\n" * SIZE,
    "blocks": "DESCRIPTION >\n" * SIZE,
    "spaces": "ENGINE " + " " * SIZE + "x\nENGINE_SORTING_KEY a" + " " * SIZE + "(",
    "secret": 'KAFKA_KEY {{ tb_secret("' + " " * SIZE + "{{ tb_secret(" * (SIZE // 10),
    "path": "SCHEMA >\n    a String `json:$" + ".a" * SIZE + "`",
    "swallowed": "SCHEMA >\n" + "    TYPE x\n" * (SIZE // 10),
    "nodes": "NODE n\nSQL >\n SELECT 1\n" * (SIZE // 20),
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
def test_long_texts_take_time_in_proportion(text: str) -> None:
    """Anything quadratic would take minutes here; the bound is wide because the machine is shared."""
    for file in FILES:
        started = time.thread_time()
        parse(file, text)
        assert time.thread_time() - started < 10
