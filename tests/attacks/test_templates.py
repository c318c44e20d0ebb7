"""Attacks C: what a value, or a template's author, may do to the SQL of an endpoint that a tenant reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipit.errors import PipitError
from projects import CANARY, EVENTS, ROWS, TENANTS, column
from serving import Reply, Workspace

pytestmark = pytest.mark.anyio


def endpoint(sql: str) -> str:
    return f"NODE n\nSQL >\n    %\n    {sql}\nTYPE endpoint\n"


TYPES = (
    [f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64, 128, 256)]
    + ["Int", "Integer", "String", "Boolean", "Float32", "Float64", "Date", "DateTime", "DateTime64"]
    + ["Array_String", "Array_Int32", "Array_Float64", "JSON"]
)


def expression(type: str) -> str:
    if type.startswith("Array_"):
        return f"{{{{Array(x, '{type[6:]}')}}}}"
    return "{{JSON(x).get('k')}}" if type == "JSON" else f"{{{{{type}(x)}}}}"


# Under the policy of `events`; each takes `x` somewhere.
ENDPOINTS = {
    **{
        f"endpoints/echo_{type.lower()}.pipe": endpoint(
            f"SELECT customer_id, {expression(type)} AS x FROM events ORDER BY amount"
        )
        for type in TYPES
    },
    "endpoints/compared.pipe": endpoint("SELECT customer_id, amount FROM events WHERE action = {{String(x)}}"),
    "endpoints/printed.pipe": endpoint("SELECT customer_id, concat({{String(x)}}, '!') FROM events"),
    "endpoints/commented.pipe": endpoint("SELECT customer_id FROM events /* {{String(x)}} */ -- {{String(x)}}"),
    "endpoints/limited.pipe": endpoint("SELECT customer_id FROM events ORDER BY team LIMIT {{Int32(x)}} WITH TIES"),
    "endpoints/zoned.pipe": endpoint("SELECT customer_id, toString(timestamp, {{String(x)}}) AS t FROM events"),
    "endpoints/truncated.pipe": endpoint("SELECT customer_id, dateTrunc({{String(x)}}, timestamp) AS t FROM events"),
    "endpoints/spaced.pipe": endpoint(
        "SELECT customer_id, toStartOfInterval(timestamp, INTERVAL {{Int32(x)}} HOUR) AS t FROM events"
    ),
    "endpoints/sorted.pipe": endpoint("SELECT customer_id, amount FROM events ORDER BY {{column(x, 'amount')}} DESC"),
    "endpoints/extracted.pipe": endpoint(
        "SELECT customer_id, JSONExtractString(action, {{String(x)}}) AS v FROM events"
    ),
    "endpoints/looping.pipe": endpoint("{% while defined(x) %}{% end %} SELECT customer_id FROM events"),
}


@pytest.fixture(scope="module")
async def project(shared_workspace: Workspace) -> Workspace:
    crafted = {f"endpoints/crafted_{name}.pipe": endpoint(sql) for name, sql in CRAFTED.items()}
    await shared_workspace.deploy({"datasources/events.datasource": EVENTS} | ENDPOINTS | crafted)
    await shared_workspace.send("events", ROWS)
    return shared_workspace


async def ask(project: Workspace, pipe: str, value: Any) -> Reply:
    """As tenant a, with the value in a JSON body: every character arrives. Nothing of b may come back."""
    token = project.tenant(pipe, customer_id="a")
    body = json.dumps({"x": value}).encode()
    headers = {"Content-Type": "application/json"}
    reply = await project.post(f"/v0/pipes/{pipe}.json", token=token, headers=headers, data=body)
    assert reply.status in (200, 400), reply.text
    assert str(CANARY) not in reply.text and "canary_b" not in reply.text
    if reply.status == 200:
        assert set(column(reply.json["data"], "customer_id")) <= {"a"}
    return reply


TEXTS = [
    "{{customer_id}}",
    "{{tb_secret('k')}}",
    "{% import os %}",
    "{% end %}",
    "{# comment",
    "%",
    "% SELECT 1",
    "'",
    "\\'",
    "\\",
    "a\\",
    "'' OR 1=1 --",
    "') UNION ALL SELECT customer_id, action FROM events --",
    "'/*",
    "*/ OR 1=1 /*",
    "\\u0027 OR 1=1",
    "\n--\n",
    "\0",
    "{p1:String}",
    "$$",
    "`",
    "１",
    "\u2028",
    " FORMAT Native",
    " SETTINGS additional_table_filters = {}",
    "1; SELECT 2",
]


@pytest.mark.parametrize("value", TEXTS)
async def test_a_text_is_a_text_wherever_it_stands(project: Workspace, value: str) -> None:
    """C01, C02, C09, C11, C13: never rendered again, never a part of the statement, and whole where it is shown."""
    assert column((await ask(project, "echo_string", value)).json["data"], "x") == [value] * 3
    assert (await ask(project, "compared", value)).json["data"] == []
    printed = (await ask(project, "printed", value)).json
    assert [row[printed["meta"][1]["name"]] for row in printed["data"]] == [value + "!"] * 3
    assert len((await ask(project, "commented", value)).json["data"]) == 3
    assert column((await ask(project, "echo_json", json.dumps({"k": value}))).json["data"], "x") == [value] * 3
    assert (await ask(project, "echo_array_string", [value, value])).json["data"][0]["x"] == [value, value]


NO_NUMBERS = [
    "'",
    "1'",
    "1;",
    "1 OR 1=1",
    "1--",
    "1/**/",
    "0x1",
    "0b1",
    "1_0",
    "１",
    "1\n",
    "1\0",
    " 1 1",
    "1)",
    "[1]",
    "{}",
]
OVER = {
    **{f"Int{bits}": (str(1 << bits - 1), str(-(1 << bits - 1) - 1)) for bits in (8, 16, 32, 64, 128, 256)},
    **{f"UInt{bits}": (str(1 << bits), "-1") for bits in (8, 16, 32, 64, 128, 256)},
}
NUMBERS = [type for type in TYPES if "Int" in type or "Float" in type]


@pytest.mark.parametrize("type", NUMBERS)
async def test_what_is_no_number_is_refused(project: Workspace, type: str) -> None:
    """C11: letters, quotes, comments, other digits and notations, trailing text, overflow."""
    pipe = f"echo_{type.lower()}"
    values: list[Any] = [*NO_NUMBERS, *OVER.get(type, ()), {"a": 1}]
    if "Float" not in type:
        values += ["1e3", "1.5", "nan", "inf", 1.5]
    if "Float" in type or type.startswith("Array"):
        values.remove("1\n")  # white space around these is the dialect's
    if type.startswith("Array"):
        values.remove("[1]")  # a JSON list, with one number
        values += ["[1", "1]", "[[1]]", "[null]", '["\'"]', '[{"a": 1}]', "[1] OR 1=1", "[NaN", [None], [1, [2]]]
    if not type.startswith("Array"):
        values += [[1, 2], [["1"]], ""]
    for value in values:
        assert (await ask(project, pipe, value)).status == 400, value
    assert (await ask(project, pipe, "7")).status == 200


@pytest.mark.parametrize("type", ["Date", "DateTime", "DateTime64"])
async def test_what_is_no_date_is_refused(project: Workspace, type: str) -> None:
    """C11."""
    good = {
        "Date": "2026-11-01",
        "DateTime": "2026-11-01 10:00:00",
        "DateTime64": "2026-11-01 10:00:00.000",
    }
    for value in (*NO_NUMBERS, "2026-02-30'", "now()", "today", "' OR 1=1 --"):
        assert (await ask(project, f"echo_{type.lower()}", value)).status == 400, value
    assert (await ask(project, f"echo_{type.lower()}", good[type])).status == 200


async def test_a_boolean_is_0_or_1_whatever_it_says(project: Workspace) -> None:
    """C11: every text is a Boolean in the dialect, and none of them is more than that."""
    for value in (*TEXTS, *NO_NUMBERS, "now()", "' OR 1=1 --", "no", "", "false", True, 0, 2.5):
        expected = 0 if value in ("", "false", 0) else 1
        assert column((await ask(project, "echo_boolean", value)).json["data"], "x") == [expected] * 3, value
    for value in ([True], {"a": 1}, [[]]):
        assert (await ask(project, "echo_boolean", value)).status == 400, value


async def test_a_boolean_that_a_token_fixes_is_plain_or_nothing_is_read(workspace: Workspace) -> None:
    """K70: `no` is true in the dialect. A token that fixes it, or an empty text, opens nothing."""
    flagged = endpoint(
        "SELECT customer_id, amount FROM events WHERE {{Boolean(all_teams)}} OR team = 'red' ORDER BY amount"
    )
    for pipe in (flagged, flagged + "\nFIXED_PARAMS all_teams\n"):
        below = "NODE n\nSQL >\n    SELECT amount FROM flagged\nTYPE endpoint\n"
        await workspace.deploy(TENANTS | {"endpoints/flagged.pipe": pipe, "endpoints/above.pipe": below})
        await workspace.send("events", ROWS)
        for name in ("flagged", "above"):
            for value in ("no", "off", "", " ", "false ", "n", "nope", 2, "２"):
                scope = {"type": "PIPES:READ", "resource": name, "fixed_params": {"all_teams": value}}
                token = workspace.jwt(scope, context={"customer_id": "a"})
                for query in ("", "?all_teams=1", "?all_teams=false", "?All_Teams=0"):
                    reply = await workspace.get(f"/v0/pipes/{name}.json{query}", token=token)
                    assert reply.status in (400, 403), (value, reply.text)
            for value in ("false", "0", False, 0):
                scope = {"type": "PIPES:READ", "resource": name, "fixed_params": {"all_teams": value}}
                token = workspace.jwt(scope, context={"customer_id": "a"})
                for query in ("", "?all_teams=1"):
                    assert (await workspace.get(f"/v0/pipes/{name}.json{query}", token=token)).status == 200
    unfixed = workspace.tenant("flagged", customer_id="a")
    assert (await workspace.get("/v0/pipes/flagged.json", token=unfixed)).status == 403

async def test_a_float_that_is_no_number_is_one_everywhere(project: Workspace) -> None:
    """C11: NaN, infinities and what overflows are values of their type, never text."""
    for value in ("nan", "inf", "-inf", "1e309", "-0.0", "1e-400"):
        reply = await ask(project, "echo_float64", value)
        assert reply.status == 200 and len(reply.json["data"]) == 3


async def test_a_limit_is_a_number(project: Workspace) -> None:
    """C09: LIMIT ... WITH TIES."""
    assert len((await ask(project, "limited", "1")).json["data"]) == 1
    for value in ("1 WITH TIES", "1, 2", "1 BY customer_id", "1 UNION ALL SELECT 1", "-"):
        assert (await ask(project, "limited", value)).status == 400


async def test_time_zones_and_units_are_bound(project: Workspace) -> None:
    """C14, C15, J12: free text where Cube and others pasted it; the engine takes it as a value or fails the same way."""
    assert (await ask(project, "zoned", "Europe/Berlin")).json["data"][0]["t"] == "2026-11-01 11:00:00"
    assert (await ask(project, "truncated", "month")).json["data"][0]["t"] == "2026-11-01"
    assert (await ask(project, "spaced", "2")).status == 200
    attack = "UTC')), 'UTC') as d, (select count() from events) as n -- "
    bodies = set()
    for pipe in ("zoned", "truncated"):
        for value in (attack, "../../etc/passwd", "/etc/passwd", "no such", ""):
            reply = await ask(project, pipe, value)
            if reply.status == 400:
                bodies.add(reply.json["error"])
                assert value not in reply.text or not value
    assert bodies == {"The query of this endpoint failed"}
    for value in ("1 DAY", "1 HOUR) AS t, (SELECT 1", "1'"):
        assert (await ask(project, "spaced", value)).status == 400


async def test_a_column_to_sort_by_is_a_name(project: Workspace) -> None:
    """C16: a direction, NULLS FIRST or an expression in it is part of the name, which then no column has."""
    assert column((await ask(project, "sorted", "amount")).json["data"], "amount") == [3, 2, 1]
    for value in (
        "amount DESC",
        "amount NULLS FIRST",
        "(SELECT max(amount) FROM events)",
        "1",
        "amount, 1",
        "sleep(1)",
        "amount` --",
    ):
        assert (await ask(project, "sorted", value)).status == 400, value


@pytest.mark.parametrize("value", ["a", "a.b", "$.a", "a', 'b", "'] --", "\0", "-1", ""])
async def test_a_path_into_json_is_a_value(project: Workspace, value: str) -> None:
    """C17."""
    reply = await ask(project, "extracted", value)
    assert reply.status == 200 and column(reply.json["data"], "v") == [""] * 3


async def test_a_template_without_end_is_bounded(project: Workspace) -> None:
    """C05: at a request; `tests/templates` has the other ways."""
    reply = await ask(project, "looping", "1")
    assert reply.status == 400 and "The template" in reply.json["error"]


AUTHORS = {
    # C03, C06: attributes, formats, calls
    "attributes": "SELECT {{x.__class__.__mro__}} AS x FROM events",
    "attributes of a text": "SELECT {{''.__class__}} AS x FROM events",
    "format": "SELECT {{'{0.__class__}'.format(x)}} AS x FROM events",
    "format_map": "SELECT {{x.format_map(x)}} AS x FROM events",
    "a filter": "SELECT {{x|attr('__class__')}} AS x FROM events",
    "a builtin": "SELECT {{open('/etc/passwd')}} AS x FROM events",
    "globals": "SELECT {{globals()}} AS x FROM events",
    "state": "SELECT {{state}} AS x, {{lookup('x')}} AS y FROM events",
    "a lambda": "SELECT {{(lambda: 1)()}} AS x FROM events",
    # C04: other files
    "import": "{% import os %} SELECT 1 AS x FROM events",
    "from": "{% from os import path %} SELECT 1 AS x FROM events",
    "include": "{% include '/etc/passwd' %} SELECT 1 AS x FROM events",
    "include up": "{% include '../../secrets' %} SELECT 1 AS x FROM events",
    "extends": "{% extends 'x' %} SELECT 1 AS x FROM events",
    "module": "{% module x() %} SELECT 1 AS x FROM events",
    # C05: no end
    "a large power": "SELECT {{9 ** 9 ** 9}} AS x FROM events",
    # C07: which table, in a project with policies
    "table": "SELECT * FROM {{table(x)}}",
    "TABLE": "SELECT * FROM {{TABLE(x)}}",
    "symbol as a table": "SELECT * FROM {{symbol(x)}}",
    "column as a table": "SELECT * FROM {{column(x, 'events')}}",
    "columns as a table": "SELECT * FROM {{columns(x, 'events')}}",
    "table in an IN": "SELECT * FROM events WHERE customer_id IN {{table(x, 'events')}}",
    "symbol in a join": "SELECT * FROM events AS e JOIN {{symbol(x, 'events')}} AS f USING customer_id",
    # C08: inside of quotes
    "quotes": "SELECT * FROM events WHERE action = '{{String(x)}}'",
    "a pattern": "SELECT * FROM events WHERE action LIKE '%{{String(x)}}%'",
    "backquotes": "SELECT `{{x}}` FROM events",
    "double quotes": 'SELECT "{{x}}" FROM events',
    # C09: where the grammar has no value
    "SETTINGS": "SELECT * FROM events SETTINGS max_threads = {{Int32(x)}}",
    "a setting's name": "SELECT * FROM events SETTINGS {{String(x)}} = 1",
    "FORMAT": "SELECT * FROM events FORMAT {{String(x)}}",
    "a name": "SELECT 1 AS {{String(x)}} FROM events",
    "a function": "SELECT {{String(x)}}(1) AS x FROM events",
    # C15, C16: words of SQL from a request
    "a direction": "SELECT * FROM events ORDER BY amount {{String(x, 'DESC')}}",
    "NULLS FIRST": "SELECT * FROM events ORDER BY amount NULLS {{String(x, 'FIRST')}}",
    "a unit": "SELECT toStartOfInterval(timestamp, INTERVAL 1 {{String(x, 'HOUR')}}) AS t FROM events",
    # C10: which secret
    "a secret's name": "SELECT {{tb_secret(x)}} AS x FROM events",
    "a computed secret": "SELECT {{tb_secret('a' + x)}} AS x FROM events",
}


@pytest.mark.parametrize("name", AUTHORS)
async def test_a_template_that_would_go_too_far_does_not_deploy(project: Workspace, name: str) -> None:
    """C03, C04, C05, C06, C07, C08, C09, C10, C15, C16."""
    with pytest.raises(PipitError) as caught:
        await project.deploy(
            {"datasources/events.datasource": EVENTS, "endpoints/hostile.pipe": endpoint(AUTHORS[name])}
        )
    assert caught.value.status == 400 and "hostile.pipe" in str(caught.value)
    assert "root:" not in str(caught.value)


async def test_a_secret_is_no_ones_to_look_at(workspace: Workspace) -> None:
    """C10: bound, so in no SQL text; nothing can be done with it but to compare it in SQL."""
    await workspace.post("/v0/variables", data={"name": "key", "value": "TOPSECRET"})
    pipe = endpoint("SELECT customer_id FROM events WHERE action = {{tb_secret('key')}} OR action = {{String(x, '')}}")
    await workspace.deploy(TENANTS | {"endpoints/keyed.pipe": pipe})
    body = json.dumps({"pipe": "keyed"}).encode()
    explained = await workspace.post("/v1/explain", data=body, headers={"Content-Type": "application/json"})
    assert explained.status == 200 and "TOPSECRET" not in explained.json["sql"]
    for sql in ("{{tb_secret('key') + 'x'}}", "{{len(tb_secret('key'))}}", "{% if tb_secret('key') == x %}1{% end %}"):
        hostile = {"endpoints/keyed.pipe": endpoint(f"SELECT {sql} AS x FROM events")}
        with pytest.raises(PipitError):
            await workspace.deploy(TENANTS | hostile)
            token = workspace.tenant("keyed", customer_id="a")
            reply = await workspace.get("/v0/pipes/keyed.json?x=T", token=token)
            assert "TOPSECRET" not in reply.text and reply.status == 400, reply.text
            raise PipitError("refused at the request")


@pytest.mark.parametrize(
    "type", ["FixedString(4)", "LowCardinality(String)", "LowCardinality(FixedString(4))", "Nullable(String)"]
)
async def test_a_padded_column_separates_tenants(workspace: Workspace, type: str) -> None:
    """C12, A26: neither padding nor a dictionary makes two tenants one."""
    table = (
        f"SCHEMA >\n    `who` {type} `json:$.who`,\n    `amount` Int64 `json:$.amount`\n\nENGINE MergeTree\n"
        "ENGINE_SORTING_KEY amount\nROW_POLICY who = {{String(context.who)}}\n"
    )
    read = "NODE n\nSQL >\n    SELECT amount FROM facts ORDER BY amount\nTYPE endpoint\n"
    await workspace.deploy({"datasources/facts.datasource": table, "endpoints/facts_of.pipe": read})
    names = ["a", "b", "A", "aa", "a ", " a"]
    reply = await workspace.send("facts", [{"who": name, "amount": number} for number, name in enumerate(names)])
    assert reply.json == {"successful_rows": 6, "quarantined_rows": 0}
    for number, name in enumerate(names):
        token = workspace.tenant("facts_of", who=name)
        assert column(await workspace.rows("/v0/pipes/facts_of.json", token=token), "amount") == [number], name
    for name in ("а", "a  ", "a\t", "a.", "%", "_", "a'"):
        token = workspace.tenant("facts_of", who=name)
        assert await workspace.rows("/v0/pipes/facts_of.json", token=token) == [], name


# What a template may do to a value in `{% %}` before it uses it: whatever comes of it is a value.
CRAFTED = {
    "lowered": "{% set y = x.lower().strip() %} SELECT customer_id FROM events WHERE action = {{y}}",
    "formatted": "{% set y = \"' OR '{}' = '\".format(x) %} SELECT customer_id FROM events WHERE action = {{y}}",
    "percent": "{% set y = '%s OR 1=1' % x %} SELECT customer_id FROM events WHERE action = {{y}}",
    "interpolated": "{% set y = f'{x} OR 1=1' %} SELECT customer_id FROM events WHERE action = {{y}}",
    "joined": "{% set y = ' OR '.join([p.strip() for p in x.split(',')]) %} SELECT customer_id FROM events WHERE action = {{y}}",
    "listed": "{% set y = [p.upper() for p in x] %} SELECT customer_id FROM events WHERE action IN {{y}}",
    "keyed": "{% set y = list({p: p for p in x}.keys()) %} SELECT customer_id FROM events WHERE action IN {{y}}",
    "sorted": "SELECT customer_id FROM events ORDER BY {% set y = x.lower() %}{{column(y, 'amount')}}",
    "stringed": "SELECT customer_id FROM events WHERE {% set y = str(x) %} action = {{y}}",
    "named": "{% set y = str(column(x, 'amount')) if len(x) > 99 else str(x) %} SELECT customer_id FROM events WHERE action = {{y}}",
    "counted": "SELECT customer_id FROM events WHERE amount < {% set y = len(x) % 3 / 2 %}{{y}}",
    "chosen": "SELECT customer_id FROM events {% if any(p.startswith('b') for p in x.split()) %} WHERE team = {{x}} {% end %}",
}


@pytest.mark.parametrize("name", CRAFTED)
async def test_what_python_makes_of_a_value_is_a_value(project: Workspace, name: str) -> None:
    """K73: methods, formats and comprehensions in `{% %}` make no SQL; only `emit` writes, and it binds."""
    token = project.tenant(f"crafted_{name}", customer_id="a")
    for value in (*TEXTS, "' OR 1=1 --", "customer_id", "b", "x') OR (1=1", "{0.__class__}", "%(x)s", "a, b OR 1=1"):
        body = json.dumps({"x": value}).encode()
        headers = {"Content-Type": "application/json"}
        reply = await project.post(f"/v0/pipes/crafted_{name}.json", token=token, headers=headers, data=body)
        assert reply.status in (200, 400, 403), reply.text
        assert "canary_b" not in reply.text and str(CANARY) not in reply.text
        if reply.status == 200:
            assert set(column(reply.json["data"], "customer_id")) <= {"a"}
            if name not in ("sorted", "counted", "chosen"):
                assert reply.json["data"] == [], value


BOUNDED = {
    "range": "{% for i in range(10**9) %}x{% end %}",
    "comprehension": "{% set y = [i for i in range(100000) for j in range(100000)] %}",
    "append": "{% set y = [] %}{% while True %}{% set z = y.append('x' * 1000) %}{% end %}",
    "format": "{% set y = ('{0}' * 10000).format(x * 100) %}{% set z = y * 1000 %}",
    "justify": "{% set y = x.ljust(10**9) %}",
    "power": "{% set y = 9 ** 9 ** 9 %}",
    "digits": "{% set y = round(5, -10**9) %}",
    "hashes": "{% set y = set([n * 2305843009213693951 for n in range(1, 90000)]) %}",
}


@pytest.mark.parametrize("name", BOUNDED)
async def test_what_python_could_run_on_with_is_bounded(workspace: Workspace, name: str) -> None:
    """C05, K74: each request that comes to it is refused, at once, and the next one is answered."""
    sql = "{% if defined(x) %}" + BOUNDED[name] + "{% end %} SELECT 1 AS one FROM events"
    await workspace.deploy(TENANTS | {"endpoints/bounded.pipe": endpoint(sql)})
    token = workspace.tenant("bounded", customer_id="a")
    reply = await workspace.get("/v0/pipes/bounded.json?x=1", token=token)
    assert reply.status == 400 and reply.json["error"].startswith("Template Syntax Error: "), reply.text
    assert (await workspace.get("/v0/pipes/bounded.json", token=token)).status == 200


async def test_a_bad_branch_opens_nothing(workspace: Workspace) -> None:
    """K75: a branch with an expression that the language has not deploys with a warning; a request that takes it gets an
    error, and nothing of what it would have said."""
    for bad in ("x.__class__.__mro__", "open('/etc/passwd')", "foo(x)", "x.format_map(x)", "globals()", "loop.first"):
        sql = "SELECT customer_id FROM events WHERE {% if defined(x) %} 1 OR {{" + bad + "}} {% else %} 1 {% end %}"
        outcome = await workspace.deploy(TENANTS | {"endpoints/branched.pipe": endpoint(sql)})
        assert [w for w in outcome.warnings if "a request that takes this branch fails" in w.message]
        token = workspace.tenant("branched", customer_id="a")
        reply = await workspace.get("/v0/pipes/branched.json?x=1", token=token)
        assert reply.status == 400 and "root:" not in reply.text and "object at" not in reply.text
        assert (await workspace.get("/v0/pipes/branched.json", token=token)).status == 200


@pytest.mark.parametrize("value", [[None], ["red", None], [{"a": 1}], [["red"]], ["red", {}], '["red", null]', "[[1]]"])
async def test_an_element_that_is_no_text_leaves_no_other_filter(workspace: Workspace, value: Any) -> None:
    """K71: the text `["red", null]` cut at its comma would be two other texts, and NOT IN of those is everything."""
    sql = "SELECT customer_id FROM events WHERE team NOT IN {{Array(x, 'String')}}"
    await workspace.deploy(TENANTS | {"endpoints/others.pipe": endpoint(sql)})
    await workspace.send("events", ROWS)
    token = workspace.tenant("others", customer_id="a")
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"x": value}).encode()
    reply = await workspace.post("/v0/pipes/others.json", token=token, headers=headers, data=body)
    assert reply.status == 400 and reply.json["parameter"] == "x", reply.text
