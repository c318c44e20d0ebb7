"""Odd values over HTTP: refused with the dialect's text, or the very value; parameters that reach the pipes a pipe reads."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from serving import Reply, Workspace

pytestmark = pytest.mark.anyio


def node(sql: str, *, name: str = "n") -> str:
    return f"NODE {name}\nSQL >\n    %\n    {sql}\nTYPE endpoint\n"


REQUIRED = (
    "Template Syntax Error: Required parameter is not defined. Check the parameters {}. "
    "Please provide a value or set a default value in the pipe code."
)
PIPES = {
    **{
        f"endpoints/{type.lower()}.pipe": node(f"SELECT toString({{{{{type}(x)}}}}) AS v")
        for type in ("String", "Int32", "UInt64", "Int256", "Integer", "Float64", "Boolean", "Date", "DateTime")
    },
    "endpoints/listed.pipe": node("SELECT {{Array(x, 'Int32')}} AS v"),
    "endpoints/json.pipe": node("SELECT {{JSON(x).get('k')}} AS v"),
    "endpoints/untyped.pipe": node("SELECT {{x}} AS v"),
    "endpoints/converted.pipe": node("SELECT {{int(x)}} AS v"),
    "endpoints/says.pipe": node("SELECT 1 AS v {{error('no ' + JSON(x).get('k'))}}"),
    "endpoints/body.pipe": node("SELECT 1 AS v {{custom_error({'why': JSON(x).get('k'), 'n': Int32(n, 1)}, 404)}}"),
    "endpoints/column.pipe": node("SELECT {{column(x, 'a')}} FROM (SELECT 1 AS a)"),
    "endpoints/named.pipe": node("SELECT {{String(x)}}"),
    "endpoints/defaulted.pipe": node("SELECT {{String(zone, 'UTC', required=True)}} AS v"),
    # A pipe that reads a pipe.
    "endpoints/below.pipe": node(
        "{% if not defined(a) %}{{error('say a')}}{% end %} SELECT {{Int32(a)}} AS a, {{Int32(b)}} AS b"
    ),
    "endpoints/above.pipe": node("SELECT a, b, {{Int32(c)}} AS c FROM below", name="above_n"),
    "endpoints/plain_above.pipe": "NODE p\nSQL >\n    SELECT a, b FROM below\nTYPE endpoint\n",
    "endpoints/shadow.pipe": node("{% set a = 7 %}SELECT {{a}} AS mine, a FROM below", name="s"),
}


@pytest.fixture(scope="module")
async def project(shared_workspace: Workspace) -> Workspace:
    await shared_workspace.deploy(PIPES)
    return shared_workspace


async def ask(project: Workspace, pipe: str, value: Any) -> Reply:
    headers = {"Content-Type": "application/json"}
    return await project.post(f"/v0/pipes/{pipe}.json", headers=headers, data=json.dumps({"x": value}).encode())


@pytest.mark.parametrize(
    ("pipe", "value", "seen"),
    [
        ("string", "a\0b", "a\0b"),
        ("string", "１", "１"),
        ("string", " 5 ", " 5 "),
        ("string", "\u2028\ufeff", "\u2028\ufeff"),
        ("untyped", "a\0'\\", "a\0'\\"),
        ("int32", "+5", "5"),
        ("int32", "005", "5"),
        ("int32", -5, "-5"),
        ("uint64", str(2**64 - 1), str(2**64 - 1)),
        ("int256", str(-(2**255)), str(-(2**255))),
        ("integer", str(2**70), str(2**70)),
        ("float64", "1e400", "inf"),
        ("float64", "-Infinity", "-inf"),
        ("float64", "NaN", "nan"),
        ("float64", " 5 ", "5"),
        ("float64", "+5.", "5"),
        ("boolean", "YES", "1"),
        ("listed", "1, 2 ,+3", [1, 2, 3]),
        ("json", '{"k": "a\\u0000b"}', "a\0b"),
        ("converted", " 5 ", 5),
    ],
)
async def test_the_very_value(project: Workspace, pipe: str, value: Any, seen: Any) -> None:
    reply = await ask(project, pipe, value)
    assert reply.status == 200, reply.text
    assert reply.json["data"] == [{"v": seen}]


@pytest.mark.parametrize(
    ("pipe", "value", "text"),
    [
        *(("int32", value, f"Error validating '{value}' to type Int32")
          for value in ("１", "1_000", " 5 ", "1e3", "5.0", "0x5", "--5", "+", "", "5;", "5\0", "2147483648", "9" * 80)),
        ("int32", 5.5, "Error validating '5.5' to type Int32"),
        ("int32", True, "Error validating 'true' to type Int32"),
        ("integer", "9" * 80, f"Error validating '{'9' * 80}' to type Integer"),
        ("integer", "9" * 5_000, f"Error validating '{'9' * 200}...' to type Integer"),
        *(("float64", value, f"Error validating '{value}' to type Float64")
          for value in ("１", "1_000", "1e", "0x1", "", "1,5", "5\0", "infinit")),
        ("boolean", ["ja"], "Error validating '[\"ja\"]' to type Boolean"),
        ("date", "20200101", "Error validating '20200101' to type Date"),
        ("date", "２０２０-01-01", "Error validating '２０２０-01-01' to type Date"),
        ("datetime", "2020-01-01", "Error validating '2020-01-01' to type DateTime"),
        ("listed", "1,b", "Error validating [1,b][1] (b) to type Int32"),
        ("listed", "1,,2", "Error validating [1,,2][1] (empty string) to type Int32"),
        ("converted", "１", "not a number: '１'"),
        ("converted", "1_000", "not a number: '1_000'"),
        ("json", '{"k": "\\ud800"}', "A value is not valid Unicode"),
        ("json", '{"k": {}}', "An object cannot stand in SQL, only its parts"),
        ("column", "a\0", "Not the name of a column"),
    ],
)  # fmt: skip
async def test_refused_as_the_dialect_does(project: Workspace, pipe: str, value: Any, text: str) -> None:
    reply = await ask(project, pipe, value)
    assert reply.status == 400, reply.text
    assert reply.json["error"] == f"Template Syntax Error: {text}"
    assert reply.json["documentation"].startswith("/cli/advanced-templates.html")


async def test_half_characters_are_an_answer_not_a_crash(project: Workspace) -> None:
    for pipe in ("string", "int32", "untyped", "named", "column"):
        assert (await ask(project, pipe, "\ud800")).status == 400
        assert (await ask(project, pipe, ["\ud800"])).status == 400
    assert (await project.get("/v0/pipes/int32.json?x=%ED%A0%80")).status == 400
    half = '{"k": "\\ud800"}'
    assert (await ask(project, "says", half)).json == {"error": "no ?"}
    reply = await ask(project, "body", half)
    assert (reply.status, reply.json) == (404, {"why": "?", "n": 1})


async def test_nul_in_the_url(project: Workspace) -> None:
    reply = await project.get(f"/v0/pipes/string.json?x={quote('a' + chr(0) + 'b')}")
    assert reply.json["data"] == [{"v": "a\0b"}]
    assert list((await project.get("/v0/pipes/named.json?x=%27%5C%00")).json["data"][0].values()) == ["'\\\0"]


async def test_a_default_beats_required(project: Workspace) -> None:
    assert (await project.rows("/v0/pipes/defaulted.json")) == [{"v": "UTC"}]


async def test_parameters_reach_the_pipes_that_a_pipe_reads(project: Workspace) -> None:
    assert await project.rows("/v0/pipes/above.json?a=1&b=2&c=3") == [{"a": 1, "b": 2, "c": 3}]
    assert await project.rows("/v0/pipes/plain_above.json?a=1&b=2") == [{"a": 1, "b": 2}]
    # What a pipe sets is its own.
    assert await project.rows("/v0/pipes/shadow.json?a=1&b=2") == [{"mine": 7, "a": 1}]


async def test_the_outermost_template_fails_first(project: Workspace) -> None:
    """Then those that it reads, each from its beginning: an author's error() counts where it stands."""

    async def error(path: str) -> str:
        reply = await project.get(path)
        assert reply.status == 400
        text: str = reply.json["error"]
        return text

    assert await error("/v0/pipes/above.json") == REQUIRED.format("c")
    assert await error("/v0/pipes/above.json?c=1") == "say a"
    assert await error("/v0/pipes/plain_above.json") == "say a"
    assert await error("/v0/pipes/below.json") == "say a"
    assert await error("/v0/pipes/above.json?c=1&a=1") == REQUIRED.format("a and b")
    assert await error("/v0/pipes/above.json?c=x") == "Template Syntax Error: Error validating 'x' to type Int32"


async def test_what_a_node_says_of_its_parameters(project: Workspace) -> None:
    found = (await project.get("/v0/pipes/defaulted")).json["nodes"][0]["params"]
    expected = {"name": "zone", "type": "String", "default": "UTC", "required": True, "used_in": "n"}
    assert {name: found[0].get(name) for name in expected} == expected


async def test_reserved_names_are_warned_of(workspace: Workspace) -> None:
    outcome = await workspace.deploy({"endpoints/e.pipe": node("SELECT {{String(token, 'd')}} AS v, {{Int8(from, 1)}} AS w")})
    assert [w.message for w in outcome.warnings if "reserved" in w.message] == [
        "The name of the parameter 'token' is reserved: requests may not set it"
    ]
    assert await workspace.rows("/v0/pipes/e.json?from=5") == [{"v": "d", "w": 5}]
