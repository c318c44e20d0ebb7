"""How far the proof's data and requests reach: leaks that only one value, one pair, one name or many rows show."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest

from pipit.audit.prove.harness import ProofHarness, open_proof_harness
from pipit.audit.prove.model import Proof, ProofOptions, ProofVerdict
from pipit.audit.prove.run import prove_in
from pipit.audit.prove.tenants import SUBJECT

pytestmark = pytest.mark.anyio

VISITS = """
SCHEMA >
    `at` DateTime `json:$.at`,
    `org_id` String `json:$.org_id`,
    `page` String `json:$.page`,
    `ms` UInt32 `json:$.ms`

ENGINE MergeTree
ENGINE_SORTING_KEY org_id, at
"""
MINE = "org_id = {{String(org)}}"
MODES = "".join(
    f"{{% {'if' if number == 0 else 'elif'} mode == 'mode{number:02d}' %}} AND ms >= {number}\n    "
    for number in range(14)
)


def endpoint(sql: str) -> str:
    return f"NODE endpoint\nSQL >\n    %\n    {sql}\n\nTYPE endpoint\n"


LEAKS = {
    "the_fifteenth_branch": f"SELECT page FROM visits WHERE 1 {MODES} {{% elif mode == 'mode14' %}} AND 1 "
    f"{{% else %}} AND {MINE} {{% end %}} AND {{{{String(mode, 'none')}}}} != '' AND ({MINE} OR {{{{String(mode)}}}} = 'mode14')",
    "a_pair": f"SELECT page FROM visits WHERE 1 {{% if not (String(a, 'n') == 'x' and String(b, 'n') == 'y') %}} AND {MINE} "
    "{% end %}",
    "past_a_number": f"SELECT page FROM visits WHERE 1 {{% if Int32(days, 1) <= 365 %}} AND {MINE} {{% end %}}",
    "a_name_with_wildcards": "SELECT page FROM visits WHERE org_id LIKE {{String(org)}}",
    "the_end_of_a_name": "SELECT page FROM visits WHERE endsWith(org_id, {{String(org)}})",
    "public_rows": f"SELECT page FROM visits WHERE {MINE} OR org_id = 'public'",
    "rows_of_nobody": f"SELECT page FROM visits WHERE {MINE} OR org_id = ''",
    "many_rows": f"SELECT page, (SELECT count() FROM visits) > 300 AS busy FROM visits WHERE {MINE}",
    "old_rows": f"SELECT page FROM visits WHERE {MINE} OR at < now() - INTERVAL 2 YEAR",
    "rows_to_come": f"SELECT page FROM visits WHERE {MINE} OR at > now() + INTERVAL 10 MINUTE",
}


@pytest.fixture(scope="module")
async def harness(anyio_backend: str) -> AsyncIterator[ProofHarness]:
    async with open_proof_harness() as opened:
        yield opened


@pytest.fixture(scope="module")
async def proof(harness: ProofHarness) -> Proof:
    files = {f"pipes/{name}.pipe": endpoint(sql) for name, sql in LEAKS.items()}
    options = ProofOptions(fixed=("org",), plain=False, patience=math.inf)
    return await prove_in(harness, {"datasources/visits.datasource": VISITS, **files}, options)


@pytest.mark.parametrize("name", LEAKS)
async def test_a_leak_behind_a_rare_value_is_found(proof: Proof, name: str) -> None:
    (result,) = [r for r in proof.results if r.endpoint == name]
    assert result.verdict is ProofVerdict.LEAK, result
    assert result.counter_example is not None and result.counter_example.others


KEYS = [
    # the column's type, the condition of the policy
    ("UUID", "k = {{String(context.k)}}"),
    ("UUID", "k IN {{Array(context.k)}}"),
    ("Date", "k = {{Date(context.k)}}"),
    ("DateTime", "k = {{DateTime(context.k)}}"),
    ("DateTime64(3)", "k = {{DateTime64(context.k)}}"),
    ("DateTime64(3)", "k IN {{Array(context.k, 'DateTime64')}}"),
    ("FixedString(6)", "k = {{String(context.k)}}"),
    ("Enum8('one' = 1, 'two' = 2, 'three' = 3)", "toString(k) = {{String(context.k)}}"),
    ("Int8", "k = {{Int8(context.k)}}"),
    ("UInt256", "k IN {{Array(context.k, 'UInt256')}}"),
    ("Decimal(18, 2)", "k = {{Int64(context.k)}}"),
    ("Float64", "k = {{Float64(context.k)}}"),
    ("Bool", "k = {{Boolean(context.k)}}"),
    ("LowCardinality(Nullable(String))", "k = {{String(context.k)}}"),
    ("Array(String)", "has(k, {{String(context.k)}})"),
    ("IPv4", "toString(k) = {{String(context.k)}}"),
]


async def test_a_key_of_every_type_is_proved(harness: ProofHarness) -> None:
    """One table for each: with its own policy each, and one key each."""
    files: dict[str, str] = {}
    for number, (type, condition) in enumerate(KEYS):
        key = f"key{number}"
        files[f"datasources/t{number}.datasource"] = (
            f"SCHEMA >\n    `k` {type} `json:$.k`,\n    `x` String `json:$.x`\n\n"
            f"ENGINE MergeTree\nENGINE_SORTING_KEY x\n\nROW_POLICY >\n    {condition.replace('context.k', 'context.' + key)}\n"
        )
        files[f"pipes/p{number}.pipe"] = endpoint(f"SELECT toString(k) AS k, x FROM t{number}")
    found = await prove_in(harness, files, ProofOptions(rounds=1, patience=math.inf))
    assert {(r.endpoint, r.verdict, r.reason) for r in found.results} == {
        (f"p{number}", ProofVerdict.PROVED, "") for number in range(len(KEYS))
    }
    assert SUBJECT == "ac_me"
