"""Attacks E01, by dictionaries: a LowCardinality column keeps the words of rows that a filter removed, and functions run
over all of them. What a tenant gets must not depend on words that only others have."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from pipit.sql.barrier import behind_barrier, full_type
from serving import Workspace

pytestmark = pytest.mark.anyio

TABLE = """
SCHEMA >
    customer_id LowCardinality(String) `json:$.customer_id`,
    team LowCardinality(String) `json:$.team`,
    maybe LowCardinality(Nullable(String)) `json:$.maybe`,
    tags Array(LowCardinality(String)) `json:$.tags[:]`,
    amount Int64 `json:$.amount`

ENGINE ReplacingMergeTree
ENGINE_SORTING_KEY customer_id, amount
ROW_POLICY customer_id = {{String(context.customer_id)}}
"""
OWN = [{"customer_id": "a", "team": "ab", "maybe": None if n else "ab", "tags": ["ab"], "amount": n} for n in range(3)]
OTHERS = [{"customer_id": "bbb", "team": "A_VERY%LONG(TEAM", "maybe": "A(%LONG", "tags": ["A(VERY%LONG"], "amount": 1}]

# Each fails on a word of the other tenant, and on none of the tenant's own.
EXPRESSIONS = [
    "toFixedString({}, 3)",
    "toFixedString(extract({}, '^A_V'), 1)",
    "base58Decode({})",
    "base64URLDecode({})",
    "javaHashUTF16LE({})",
    "REGEXP_MATCHES('b', {})",
    "toFixedString(concat({}, ''), 4)",
]
COLUMNS = ["customer_id || team", "team", "maybe", "tags[1]", "arrayMap(x -> x, tags)[1]", "ifNull(maybe, team)"]
FROM = ["facts", "facts AS f FINAL", "facts f", "(SELECT * FROM facts) AS g", "facts JOIN facts AS o USING amount"]


async def answers(workspace: Workspace, paths: list[tuple[str, str]]) -> list[tuple[int, bytes]]:
    found = []
    for path, token in paths:
        reply = await workspace.get(path, token=token)
        found.append((reply.status, reply.body.replace(reply.headers["X-Request-Id"].encode(), b"")))
    return found


async def before_and_after(workspace: Workspace, paths: list[tuple[str, str]]) -> list[tuple[Any, Any]]:
    assert (await workspace.send("facts", OWN)).json["successful_rows"] == 3
    alone = await answers(workspace, paths)
    assert (await workspace.send("facts", OTHERS)).json["successful_rows"] == 1
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    physical = f"`{workspace.database}`.`{snapshot.tables['facts'].physical}`"
    await workspace.server.engine.command(f"OPTIMIZE TABLE {physical} FINAL")  # one part, one dictionary
    return list(zip(alone, await answers(workspace, paths), strict=True))


async def test_tenant_sql_meets_no_word_of_another_tenant(workspace: Workspace) -> None:
    await workspace.deploy({"datasources/facts.datasource": TABLE})
    await workspace.request("PUT", "/v0/workspace/settings", json={"tenant_sql": True})
    token = workspace.jwt({"type": "DATASOURCES:READ", "resource": "facts"}, context={"customer_id": "a"})
    texts = [f"SELECT {e.format(c)} AS x FROM facts" for e in EXPRESSIONS for c in COLUMNS]
    texts += [f"SELECT toFixedString(team, 3) AS x FROM {place}".replace("(team", "(f.team" if " f" in place[5:9] else "(team") for place in FROM]
    texts += ["SELECT count() FROM facts WHERE toFixedString(team, 3) != ''", "SELECT toFixedString(team, 3) AS t, count() FROM facts GROUP BY t"]
    pairs = await before_and_after(workspace, [(f"/v0/sql?q={quote(text)}", token) for text in texts])
    for text, (alone, full) in zip(texts, pairs, strict=True):
        assert alone == full, text
    assert sum(status == 200 for (status, _), _ in pairs) > len(texts) // 2


async def test_an_endpoint_meets_no_word_of_another_tenant(workspace: Workspace) -> None:
    texts = [f"SELECT {e.format(c)} AS x, count() AS c FROM {place} GROUP BY x ORDER BY x" for e in EXPRESSIONS for c in COLUMNS[:3] for place in FROM[:1]]
    texts += [f"SELECT toFixedString({'f.' if ' f' in place[5:9] else ''}team, 3) AS x FROM {place}" for place in FROM[:4]]
    texts.append("SELECT toFixedString(team, 3) AS x FROM facts WHERE amount IN (SELECT amount FROM facts)")
    files = {f"endpoints/e{n}.pipe": f"NODE n\nSQL >\n    {text}\nTYPE endpoint\n" for n, text in enumerate(texts)}
    await workspace.deploy({"datasources/facts.datasource": TABLE} | files)
    token = workspace.tenant(*(f"e{n}" for n in range(len(texts))), customer_id="a")
    pairs = await before_and_after(workspace, [(f"/v0/pipes/e{n}.json", token) for n in range(len(texts))])
    for text, (alone, full) in zip(texts, pairs, strict=True):
        assert alone == full, text
    assert sum(status == 200 for (status, _), _ in pairs) > len(texts) // 2


def test_a_barrier() -> None:
    assert full_type("Map(LowCardinality(String), Array(LowCardinality(Nullable(FixedString(3)))))") == (
        "Map(String, Array(Nullable(FixedString(3))))"
    )
    assert behind_barrier("t", {"a": "String", "b": "AggregateFunction(count)"}) is None
    assert behind_barrier("t", {"a": "Int8", "b": "LowCardinality(String)"}) == (
        "(SELECT * REPLACE (CAST(CAST(`b`, 'String'), 'LowCardinality(String)') AS `b`) FROM t",
        ")",
    )
