"""What the engine knows of all rows of a table: the proof finds it on an endpoint of each kind, once the defence is out.

Keys and types in JSON, Dynamic and Variant columns, and samples by a number of rows. The data for it: others' rows have
keys of their own and values of other kinds, so that the tenant's own queries work and only the others' could stop them.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable

import pytest

from pipit.audit.prove.harness import ProofHarness, open_proof_harness
from pipit.audit.prove.model import CounterExample, Proof, ProofOptions, ProofVerdict
from pipit.audit.prove.run import prove_in
from pipit.audit.prove.tenants import SUBJECT
from pipit.query import barriers, examine, planner

pytestmark = pytest.mark.anyio

Patch = pytest.MonkeyPatch
TABLE = """
SCHEMA >
    `customer_id` String,
    `at` DateTime,
    `user_id` UInt64,
    `data` JSON,
    `hinted` JSON(kind String, SKIP secret),
    `free` Dynamic,
    `either` Variant(String, UInt64),
    `labels` Map(String, String),
    `amount` String

ENGINE MergeTree
ENGINE_SORTING_KEY customer_id, intHash32(user_id)
ENGINE_SAMPLING_KEY intHash32(user_id)

ROW_POLICY >
    customer_id = {{String(context.customer_id)}}
"""


def project(*queries: str) -> dict[str, str]:
    """With an endpoint for each: `planted0` is the first."""
    return {"datasources/rows.datasource": TABLE} | {
        f"pipes/planted{number}.pipe": f"NODE endpoint\nSQL >\n    %\n    {sql}\n\nTYPE endpoint\n"
        for number, sql in enumerate(queries)
    }


def parts_answer(patch: Patch) -> None:
    """Functions are answered from what a part knows of a column."""
    patch.setattr(planner, "WHOLE_COLUMNS", {})


def no_barriers(patch: Patch) -> None:
    patch.setattr(barriers, "behind_barrier", lambda *_, **__: None)


def any_sample(patch: Patch) -> None:
    patch.setattr(examine, "counted_sample", lambda sql: "")


# SQL of endpoints, by what keeps it from telling of others.
TELLING: dict[Callable[[Patch], None], tuple[str, ...]] = {
    parts_answer: ("SELECT distinctJSONPaths(data) AS found FROM rows",),
    no_barriers: (
        "SELECT sum(data.amount::Float64) AS found FROM rows",
        "SELECT sum(CAST(r.data.deep.size, 'UInt32')) AS found FROM rows AS r",
        "SELECT max(toDate(data.day)) AS found FROM rows",
        "SELECT sum(toInt64(free)) AS found FROM rows",
    ),
    any_sample: (
        "SELECT count() AS found FROM rows SAMPLE 50",
        "SELECT count() AS found FROM rows SAMPLE {{Int32(k, 20)}}",
    ),
}
# Nothing of others is in these, whatever others send.
SILENT = (
    "SELECT sum(data.amount::Float64) AS found FROM rows",
    "SELECT distinctJSONPaths(data) AS found FROM rows",
    "SELECT distinctJSONPathsAndTypes(hinted) AS found FROM rows",
    "SELECT sum(either::UInt64) AS found, distinctDynamicTypes(free) AS types FROM rows",
    "SELECT count() AS found FROM rows SAMPLE 1/2",
    "SELECT arrayDistinct(arrayFlatten(groupArray(mapKeys(labels)))) AS found FROM rows",
    "SELECT sum(toUInt32(amount)) AS found FROM rows WHERE toUInt32(amount) >= 0",
)


@pytest.fixture(scope="module")
async def harness(anyio_backend: str) -> AsyncIterator[ProofHarness]:
    async with open_proof_harness() as opened:
        yield opened


@pytest.mark.parametrize("without", TELLING, ids=lambda without: without.__name__)
async def test_it_is_found_with_an_example(
    without: Callable[[Patch], None], harness: ProofHarness, monkeypatch: Patch
) -> None:
    without(monkeypatch)
    # How much is a sample depends on many rows, so a small example is not looked for long.
    probes = 10 if without is any_sample else 80
    options = ProofOptions(rounds=1, probes=probes, appends=False, plain=False, patience=math.inf)

    proof = await prove_in(harness, project(*TELLING[without]), options)

    leaks = proof.of(ProofVerdict.LEAK)
    assert [result.endpoint for result in leaks] == [f"planted{number}" for number in range(len(TELLING[without]))]
    for result in leaks:
        example = result.counter_example
        assert isinstance(example, CounterExample)
        assert example.others and all(row.tenant != SUBJECT for row in example.others)
        assert example.alone.ok and example.alone.holds != example.with_others.holds
        if without is not any_sample:
            assert len(example.others) + len(example.own) <= 4, result.endpoint


@pytest.fixture(scope="module")
async def silent(harness: ProofHarness) -> Proof:
    return await prove_in(harness, project(*SILENT), ProofOptions(rounds=1, patience=math.inf))


@pytest.mark.parametrize("number", range(len(SILENT)), ids=SILENT)
async def test_with_the_defences_in_place_it_is_proved(number: int, silent: Proof) -> None:
    (result,) = (one for one in silent.results if one.endpoint == f"planted{number}")
    assert (result.verdict, result.reason) == (ProofVerdict.PROVED, "")


@pytest.mark.parametrize(
    ("column", "policy"),
    [
        ("`data` JSON", "data.tenant = {{String(context.customer_id)}}"),
        ("`data` JSON", "data.of.tenant IN {{Array(context.customer_id, 'String')}}"),
        ("`data` JSON(tenant UInt32)", "data.tenant = {{UInt32(context.customer_id)}}"),
        ("`data` String", "JSONExtractString(data, 'tenant') = {{String(context.customer_id)}}"),
    ],
)
async def test_a_policy_on_a_key_of_json_has_rows_of_every_tenant(column: str, policy: str, harness: ProofHarness) -> None:
    """The rows of a proof hold each tenant's value where the policy looks for it: else a tenant has none."""
    schema = f"SCHEMA >\n    `id` UInt64 `json:$.id`,\n    {column} `json:$.data`\n\nENGINE MergeTree\nENGINE_SORTING_KEY id\n"
    sql = "SELECT id, count() AS found FROM keyed GROUP BY id"
    files = {
        "datasources/keyed.datasource": f"{schema}\nROW_POLICY >\n    {policy}\n",
        "pipes/planted.pipe": f"NODE endpoint\nSQL >\n    {sql}\n\nTYPE endpoint\n",
    }
    proof = await prove_in(harness, files, ProofOptions(rounds=1, plain=False, patience=math.inf))
    (result,) = proof.results
    assert (result.verdict, result.reason) == (ProofVerdict.PROVED, "")
    assert result.held > 0
