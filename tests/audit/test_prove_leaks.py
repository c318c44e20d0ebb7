"""Twelve ways to leak, planted in copies of the demo project: the proof finds each one, with an example."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from audit.leaks import LEAKS, OPEN, Leak
from pipit.audit.prove.harness import ProofHarness, open_proof_harness
from pipit.audit.prove.model import CounterExample, Proof, ProofOptions, ProofVerdict
from pipit.audit.prove.report import to_text
from pipit.audit.prove.run import prove_in
from pipit.audit.prove.tenants import SUBJECT

pytestmark = pytest.mark.anyio

# No clock decides what a test finds. Plain values are tested in test_prove.py, events that come in in
# test_prove_appends.py.
LONG = pytest.mark.long  # these are only in make faults; make test plants one of each kind
DOSE = {"view", "merge", "cache key", "guarded filter", "union"}
FEW, OTHERS = [[leak for leak in OPEN if (leak.name in DOSE) is few] for few in (True, False)]
OPTIONS = ProofOptions(endpoints=("planted",), rounds=1, appends=False, plain=False, patience=math.inf)


@pytest.fixture(scope="module")
async def harness(anyio_backend: str) -> AsyncIterator[ProofHarness]:
    async with open_proof_harness() as opened:
        yield opened


def doses(leaks: Sequence[Leak]) -> list[Any]:
    return [pytest.param(leak, id=leak.name, marks=() if leak.name in DOSE else LONG) for leak in leaks]


async def proof_of(harness: ProofHarness, leaks: Sequence[Leak]) -> Proof:
    """One project for leaks that are nothing but an endpoint's SQL."""
    files = {path: text for leak in leaks for path, text in leak.files.items()}
    names = tuple(leak.endpoint for leak in leaks)
    return await prove_in(
        harness, files, ProofOptions(("customer_id",), 1, endpoints=names, appends=False, plain=False, patience=math.inf)
    )


@pytest.fixture(scope="module")
async def few_open(harness: ProofHarness) -> Proof:
    return await proof_of(harness, FEW)


@pytest.fixture(scope="module")
async def other_open(harness: ProofHarness) -> Proof:
    return await proof_of(harness, OTHERS)


def shows(proof: Proof, leak: Leak) -> None:
    (result,) = (one for one in proof.results if one.endpoint == leak.endpoint)
    assert result.verdict is ProofVerdict.LEAK, result
    example = result.counter_example
    assert isinstance(example, CounterExample)
    assert example.kind in leak.kinds
    assert example.view.tenant == SUBJECT
    assert example.others or example.after_others_asked
    assert all(row.tenant != SUBJECT for row in example.others)
    assert len(example.others) + len(example.own) <= 4
    assert example.alone.holds != example.with_others.holds
    assert proof.exit_code == 1
    text = to_text(proof)
    assert f"LEAK {leak.endpoint}" in text
    assert "curl" in text


@pytest.mark.parametrize("leak", doses(LEAKS))
async def test_a_planted_leak_is_found_with_an_example(
    leak: Leak, harness: ProofHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    if leak.take_out is not None:
        leak.take_out(monkeypatch)

    proof = await prove_in(harness, leak.files, OPTIONS)

    assert len(proof.of(ProofVerdict.LEAK)) == 1
    shows(proof, leak)


@pytest.mark.parametrize("leak", FEW, ids=lambda leak: leak.name)
async def test_a_leak_of_an_endpoint_without_policies_is_found_with_an_example(leak: Leak, few_open: Proof) -> None:
    shows(few_open, leak)


@LONG
@pytest.mark.parametrize("leak", OTHERS, ids=lambda leak: leak.name)
async def test_another_leak_of_an_endpoint_without_policies_is_found(leak: Leak, other_open: Proof) -> None:
    shows(other_open, leak)


@pytest.mark.parametrize("leak", [leak for leak in LEAKS if leak.refused], ids=lambda leak: leak.name)
async def test_with_its_defences_the_product_refuses_the_planted_project(leak: Leak, harness: ProofHarness) -> None:
    proof = await prove_in(harness, leak.files, OPTIONS)

    assert proof.exit_code == 2
    (result,) = proof.of(ProofVerdict.UNPROVED)
    assert "does not deploy" in result.reason or "always refused" in result.reason
    assert leak.refused in result.reason


@pytest.mark.parametrize("name", ["cache key", pytest.param("side statistics", marks=LONG)])
async def test_with_its_defences_in_place_the_same_project_is_proved(name: str, harness: ProofHarness) -> None:
    (leak,) = (leak for leak in LEAKS if leak.name == name)

    proof = await prove_in(harness, leak.files, OPTIONS)

    assert [result.verdict for result in proof.results] == [ProofVerdict.PROVED]
