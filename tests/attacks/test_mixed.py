"""What columns and clauses know of all rows: the keys of JSON (K01), the types of hidden values (K02, K03), the size of a
table (K04). A's answers over A's rows alone, then with B's rows in the same part: equal in status and bytes."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from pipit.sql.barrier import behind_barrier
from pipit.sql.mixed import settled
from pipit.sql.samples import counted_sample
from pipit.sql.tenant import check_tenant_text
from serving import Reply, Workspace

pytestmark = pytest.mark.anyio

JS = """
SCHEMA >
    customer_id String `json:$.customer_id`,
    n Int64 `json:$.n`,
    data JSON(max_dynamic_paths=8, typed UInt32, kind LowCardinality(String)) `json:$.data`,
    d Dynamic `json:$.d`

ENGINE MergeTree
ENGINE_SORTING_KEY customer_id, n
ROW_POLICY customer_id = {{String(context.customer_id)}}
"""
OWN = [
    {"customer_id": "a", "n": n, "d": n, "data": {"amount": n, "plan": f"p{n}", "sub": {"x": n}, "typed": n, "kind": "k"}}
    for n in range(5)
]
OTHERS = [
    {"customer_id": "b", "n": n, "d": d, "data": data}
    for n, (d, data) in enumerate(
        [
            ("text", {"zqcanary2": 1, "amount": [1], "kind": "A_VERY%LONG"}),
            ([1], {"amount": "zqtext", "plan": {"z": [1]}, "sub": 7}),
            (True, {"amount": {"zqdeep": [{"q": 1}]}, "plan": [1, 2], "sub": {"x": [["y"]]}}),
            (1.5, {"amount": True, "plan": 1.5, "sub": {"x": "2026-01-01"}}),
            (None, {f"zqkey{k}": k for k in range(12)}),
        ]
    )
]
TEXTS = [
    # keys: rewritten to what the part knows
    "SELECT distinctJSONPaths(data) AS x FROM js",
    "SELECT distinctJSONPathsAndTypes(data) AS x FROM js",
    "SELECT distinctJSONPathsIf(data, n > 1) AS x FROM js",
    "SELECT distinctDynamicTypes(d) AS x FROM js",
    "SELECT arraySort(groupUniqArrayArray(JSONAllPaths(data))) AS x FROM js",
    "SELECT n, distinctJSONPaths(data) AS x FROM js GROUP BY n ORDER BY n",
    "SELECT distinctJSONPaths(j) AS x FROM (SELECT data AS j FROM js)",
    "SELECT (SELECT length(distinctJSONPaths(data)) FROM js) AS x FROM js LIMIT 1",
    "WITH w AS (SELECT distinctJSONPaths(data) AS x FROM js) SELECT x FROM w",
    # types: casts are prepared for each type that the part knows
    "SELECT sum(data.amount::Float64) AS x FROM js",
    "SELECT sum(CAST(data.amount AS Int64)) AS x FROM js",
    "SELECT sum(CAST(data.amount, 'UInt8')), any(data.plan.:String), max(data.amount.:Int64) FROM js FORMAT JSON",
    "SELECT sum(toUInt32(data.amount)) AS x, sum(toFloat32(j.data.amount)) AS y FROM js AS j",
    "SELECT sum(toInt64(data.amount)), max(toDate(data.amount)), max(toBool(data.amount)) FROM js",
    "SELECT n, data.amount + 1 AS x FROM js ORDER BY n",
    "SELECT n, toIntervalDay(data.amount) AS x FROM js ORDER BY n",
    "SELECT n, data.amount, toTypeName(data.amount), dynamicType(data.amount) FROM js ORDER BY n",
    "SELECT n, upper(data.plan), data.plan = 'p1' AS x FROM js ORDER BY n",
    "SELECT sum(d::Float64) AS x, sum(toInt32(d)) AS y FROM js",
    "SELECT sum(toInt64(d.Int64)), any(dynamicElement(d, 'Int64')), any(toTypeName(d)) FROM js",
    "SELECT sum(data.sub.x::Int64) AS x, any(data.^sub) AS y FROM js",
    "SELECT * FROM (SELECT data.amount::Int64 AS x, * FROM js) ORDER BY n",
    "SELECT * EXCEPT (data), data.amount::Int64 AS x FROM js ORDER BY n",
    "SELECT count(*), sum(data.amount::Int64) AS x FROM js",
    "WITH w AS (SELECT data, n FROM js WHERE n > 1) SELECT sum(w.data.amount::Int64) AS x, count() FROM w",
    "SELECT (SELECT sum(data.amount::Float64) FROM js) AS x, n FROM js ORDER BY n",
    "SELECT n FROM js WHERE data.amount::Int64 > 2 ORDER BY n",
    "SELECT l.n, l.data.amount::Int64 + r.data.amount::Int64 AS x FROM js l JOIN js AS r ON l.n = r.n ORDER BY n",
    "SELECT toFixedString(data.kind, 1) AS x, data.typed FROM js ORDER BY n",
    "SELECT data::String AS x, toString(data.amount) FROM js ORDER BY n",
    "SELECT n, sum(data.amount::Int64) OVER (ORDER BY n) AS x FROM js ORDER BY n",
]


async def opened(workspace: Workspace, files: dict[str, str]) -> Workspace:
    await workspace.deploy(files)
    await workspace.request("PUT", "/v0/workspace/settings", json={"tenant_sql": True})
    return workspace


async def fill(workspace: Workspace, name: str, rows: list[dict[str, Any]]) -> None:
    reply = await workspace.send(name, rows)
    assert reply.json["quarantined_rows"] == 0, reply.text
    physical = workspace.server.catalog.snapshot(workspace.id).tables[name].physical
    await workspace.server.engine.command(f"OPTIMIZE TABLE `{workspace.database}`.`{physical}` FINAL")


def bare(reply: Reply) -> tuple[int, bytes]:
    return reply.status, reply.body.replace(reply.headers["X-Request-Id"].encode(), b"")


def endpoints(texts: list[str]) -> dict[str, str]:
    bare = [text.removesuffix(" FORMAT JSON") for text in texts]
    return {f"endpoints/e{n}.pipe": f"NODE n\nSQL >\n    {text}\nTYPE endpoint\n" for n, text in enumerate(bare)}


async def answers(workspace: Workspace, texts: list[str], name: str, **context: str) -> list[tuple[int, bytes]]:
    """Of each text, as tenant SQL and as an endpoint."""
    sql = workspace.jwt({"type": "DATASOURCES:READ", "resource": name}, context=context)
    pipe = workspace.tenant(*(f"e{n}" for n in range(len(texts))), **context)
    found = []
    for number, text in enumerate(texts):
        found.append(bare(await workspace.get(f"/v0/sql?q={quote(text)}", token=sql)))
        found.append(bare(await workspace.get(f"/v0/pipes/e{number}.json", token=pipe)))
    return found


async def test_no_key_and_no_type_of_a_hidden_value_shows(workspace: Workspace) -> None:
    """K01, K02: JSON and Dynamic columns."""
    await opened(workspace, {"datasources/js.datasource": JS} | endpoints(TEXTS))
    await fill(workspace, "js", OWN)
    alone = await answers(workspace, TEXTS, "js", customer_id="a")
    assert [(TEXTS[n // 2], a) for n, a in enumerate(alone) if a[0] != 200] == []
    await fill(workspace, "js", OTHERS)
    full = await answers(workspace, TEXTS, "js", customer_id="a")
    for number, (before, after) in enumerate(zip(alone, full, strict=True)):
        assert before == after, (TEXTS[number // 2], "endpoint" if number % 2 else "SQL")
    assert not [text for _, text in full if b"zq" in text]


async def test_the_workspaces_own_token_reads_as_before(workspace: Workspace) -> None:
    await opened(workspace, {"datasources/js.datasource": JS} | endpoints(TEXTS[:1] + TEXTS[9:10]))
    await fill(workspace, "js", OWN + OTHERS[:1])
    reply = await workspace.get("/v0/pipes/e0.json")
    assert "zqcanary2" in reply.text and reply.json["statistics"]
    assert (await workspace.get("/v0/pipes/e1.json")).status == 400  # `[1]` is no Float64, and the owner is told


POLICIES = {
    "data.tenant = {{String(context.tenant)}}": "a",
    "data.tenant IN {{Array(context.tenants)}}": ["a", "c"],
    "lower(data.tenant) = {{String(context.tenant)}}": "a",
    "data.tenant.:String = {{String(context.tenant)}}": "a",
    "data.tenant::String = {{String(context.tenant)}}": "a",
    "data.number = {{Int64(context.number)}}": 1,
    "d = {{String(context.tenant)}}": "a",
    "has({{Array(context.tenants)}}, d)": ["a", "c"],
    "data.day = {{Date(context.day)}}": "2026-01-01",
}
BY_PATH = """
SCHEMA >
    n Int64 `json:$.n`,
    data JSON `json:$.data`,
    d Dynamic `json:$.d`

ENGINE MergeTree
ENGINE_SORTING_KEY n
ROW_POLICY """


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_policy_on_a_json_key_or_a_dynamic_column(workspace: Workspace, policy: str) -> None:
    """K03: it holds, and no value of another tenant makes it fail for everybody."""
    await opened(workspace, {"datasources/js.datasource": f"{BY_PATH}{policy}\n"} | endpoints(["SELECT n FROM js ORDER BY n"]))
    mine = {"tenant": "a", "number": 1, "day": "2026-01-01"}
    await fill(workspace, "js", [{"n": 1, "data": mine, "d": "a"}, {"n": 2, "data": mine, "d": "a"}])
    strange = [5, [1], {"x": [1]}, True, 1.5, None, [{"q": 1}], "2026-02-02", "ab", 2**64, -1, "[1]"]
    others = [{"n": 100 + n, "data": dict.fromkeys(mine, v), "d": v} for n, v in enumerate(strange)]
    await fill(workspace, "js", others)
    context = {policy.partition("context.")[2].partition(")")[0]: POLICIES[policy]}
    reply = await workspace.get("/v0/pipes/e0.json", token=workspace.tenant("e0", **context))
    assert (reply.status, [row["n"] for row in reply.json.get("data", [])]) == (200, [1, 2]), reply.text
    sql = workspace.jwt({"type": "DATASOURCES:READ", "resource": "js"}, context=context)
    reply = await workspace.get(f"/v0/sql?q={quote('SELECT n FROM js ORDER BY n FORMAT CSV')}", token=sql)
    assert (reply.status, reply.text) == (200, "1\n2\n")


@pytest.mark.parametrize("type", ["json", "Json (max_dynamic_paths=4)"])
async def test_another_name_of_a_type_is_that_type(workspace: Workspace, type: str) -> None:
    """K03: the engine takes `json` as well."""
    table = BY_PATH.replace("data JSON", f"data {type}") + "data.tenant = {{String(context.tenant)}}\n"
    await opened(workspace, {"datasources/js.datasource": table} | endpoints(["SELECT n FROM js ORDER BY n"]))
    await fill(workspace, "js", [{"n": 1, "data": {"tenant": "a"}}, {"n": 2, "data": {"tenant": [1]}}])
    reply = await workspace.get("/v0/pipes/e0.json", token=workspace.tenant("e0", tenant="a"))
    assert (reply.status, [row["n"] for row in reply.json.get("data", [])]) == (200, [1]), reply.text


async def test_a_tokens_filter_on_a_json_key(workspace: Workspace) -> None:
    """K03, by a JWT's own filter."""
    table = BY_PATH.removesuffix("ROW_POLICY ")
    await opened(workspace, {"datasources/js.datasource": table} | endpoints(["SELECT n FROM js ORDER BY n"]))
    await fill(workspace, "js", [{"n": 1, "data": {"tenant": "a"}}, {"n": 2, "data": {"tenant": [1]}}, {"n": 3, "data": {"tenant": 5}}])
    for condition, rows in {"data.tenant = 'a'": [1], "data.tenant IN ('a', 'c')": [1], "data.tenant = 5": [3]}.items():
        scope = {"type": "DATASOURCES:READ", "resource": "js", "filter": condition}
        reply = await workspace.get("/v0/pipes/e0.json", token=workspace.jwt({"type": "PIPES:READ", "resource": "e0"}, scope))
        assert (reply.status, [row["n"] for row in reply.json.get("data", [])]) == (200, rows), reply.text


SAMPLED = """
SCHEMA >
    customer_id String `json:$.customer_id`,
    n UInt64 `json:$.n`

ENGINE MergeTree
ENGINE_SORTING_KEY customer_id, sipHash64(n)
ENGINE_SAMPLING_KEY sipHash64(n)
ROW_POLICY customer_id = {{String(context.customer_id)}}
"""
FRACTIONS = ["0.5", "1/2", "1 / 10", "0.1 OFFSET 0.5", "1", "5e-1"]
COUNTED = ["50", "{{Int32(k, 50)}}", "1000/10", "1.5", "0.1 OFFSET 20", "1e2"]


async def test_sample_by_a_number_of_rows_would_count_the_others(workspace: Workspace) -> None:
    """K04."""
    texts = [f"SELECT count() AS x FROM js SAMPLE {sample}" for sample in FRACTIONS + COUNTED]
    texts.append("SELECT x FROM (SELECT count() AS x FROM js AS t FINAL SAMPLE 50)".replace("FINAL ", ""))
    files = {name: text.replace("SQL >\n    ", "SQL >\n    %\n    ") for name, text in endpoints(texts).items()}
    await opened(workspace, {"datasources/js.datasource": SAMPLED} | files)
    await fill(workspace, "js", [{"customer_id": "a", "n": n} for n in range(100)])
    jwt = workspace.tenant(*(f"e{n}" for n in range(len(texts))), customer_id="a")
    paths = [f"/v0/pipes/e{n}.json" for n in range(len(texts))]
    alone = [bare(await workspace.get(path, token=jwt)) for path in paths]
    await fill(workspace, "js", [{"customer_id": "b", "n": n} for n in range(3000)])
    full = [bare(await workspace.get(path, token=jwt)) for path in paths]
    for text, before, after in zip(texts, alone, full, strict=True):
        assert before == after, text
    assert [status for status, _ in full] == [200] * len(FRACTIONS) + [403] * (len(COUNTED) + 1)
    assert "SAMPLE by a number of rows" in json.loads(full[-1][1])["error"]
    assert (await workspace.get(f"{paths[-1]}")).status == 200  # the workspace's own token
    for k, status in {"0": 200, "1": 200, "2": 403}.items():
        assert (await workspace.get(f"{paths[len(FRACTIONS) + 1]}?k={k}", token=jwt)).status == status
    sql = workspace.jwt({"type": "DATASOURCES:READ", "resource": "js"}, context={"customer_id": "a"})
    for text in texts:
        assert (await workspace.get(f"/v0/sql?q={quote(text)}", token=sql)).status == 400


def test_what_a_barrier_is_made_of() -> None:
    made = "initializeAggregation('groupArray', tuple({}))[1].1 AS {}"
    columns = {"a": "Int8", "j": "JSON(k LowCardinality(String))", "d": "Dynamic"}
    whole = f"(SELECT * REPLACE ({made.format('`j`', '`j`')}, {made.format('`d`', '`d`')}) FROM t"
    assert behind_barrier("t", columns) == (whole, ")")
    assert behind_barrier("t", columns, {"j": "JSON", "j.x": "Dynamic"}) == (whole, ")")
    assert behind_barrier("t", columns, {"j.x[].y": "Array(Dynamic)"}) == (whole, ")")
    used = {"a": "Int8", "j.x.y": "Dynamic", "j.x.:`Int64`": "Nullable(Int64)", "j.k": "LowCardinality(String)"}
    assert behind_barrier("t", columns, used) == (
        f"(SELECT * EXCEPT (`j`) REPLACE ({made.format('`d`', '`d`')}), "
        "CAST(CAST(`j`.`k`, 'String'), 'LowCardinality(String)') AS `j.k`, `j`.`x`.:`Int64` AS `j.x.:\\`Int64\\``, "
        f"{made.format('`j`.`x`.`y`', '`j.x.y`')} FROM t",
        ")",
    )


def test_a_tenant_does_not_call_what_barriers_call() -> None:
    with pytest.raises(Exception, match="initializeAggregation"):
        check_tenant_text("SELECT initializeAggregation('groupArray', 1)")


@pytest.mark.parametrize(
    ("condition", "made"),
    {
        "data.t = 'x'": "CAST(data.t, 'Nullable(String)') = 'x'",
        "(data.`a b`.c IN ['x'])": "(CAST(data.`a b`.c, 'Nullable(String)') IN ['x'])",
        "5 < data.t": "5 < accurateCastOrNull(CAST(data.t, 'Nullable(String)'), 'Int256')",
        "data.t = CAST('1', 'UUID')": "accurateCastOrNull(CAST(data.t, 'Nullable(String)'), 'UUID') = CAST('1', 'UUID')",
        "d != (-1.5)": "accurateCastOrNull(CAST(d, 'Nullable(String)'), 'Float64') != (-1.5)",
        "typed.data.t = 'x'": "typed.data.t = 'x'",
        "data.typed = 'x'": "data.typed = 'x'",
        "data.typed.x = 5": "data.typed.x = 5",
        "data.t.:String = 'x' AND data.t::String = 'x' AND toString(d) = 'x'": "",
        "data.a = data.b": "",
        "c = 'data.t'": "",
    }.items(),
)
def test_a_filters_columns_are_converted(condition: str, made: str) -> None:
    columns = (("data", "JSON(typed String, max_dynamic_paths=8)"), ("d", "Dynamic"))
    assert settled(condition, columns) == (made or condition)


@pytest.mark.parametrize("sample", FRACTIONS)
def test_fractions_of_a_sample(sample: str) -> None:
    assert counted_sample(f"SELECT 1 FROM t SAMPLE {sample} WHERE sample > 5 LIMIT 5 OFFSET 7") == ""
    assert counted_sample(f"SELECT sample FROM t SAMPLE {sample}, t SAMPLE 2") != ""
