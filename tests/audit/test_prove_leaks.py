"""Twelve ways to leak, planted in copies of the demo project: the proof finds each one, with an example."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from audit.leaks import LEAKS, Leak
from pipit.audit.prove.arena import Arena, open_arena
from pipit.audit.prove.model import CounterExample, Options, Verdict
from pipit.audit.prove.report import to_text
from pipit.audit.prove.run import prove_in
from pipit.audit.prove.tenants import SUBJECT

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def arena(anyio_backend: str) -> AsyncIterator[Arena]:
    async with open_arena() as opened:
        yield opened


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.name)
async def test_a_planted_leak_is_found_with_an_example(
    leak: Leak, arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    if leak.take_out is not None:
        leak.take_out(monkeypatch)
    options = Options(fixed=leak.fixed, endpoints=("planted",), rounds=1)

    proof = await prove_in(arena, leak.files, options)

    assert proof.exit_code == 1
    (result,) = proof.of(Verdict.LEAK)
    example = result.counter_example
    assert isinstance(example, CounterExample)
    assert example.kind in leak.kinds
    assert example.view.tenant == SUBJECT
    assert example.others or example.after_others_asked
    assert all(row.tenant != SUBJECT for row in example.others)
    assert len(example.others) + len(example.own) <= 4
    assert example.alone.holds != example.with_others.holds
    text = to_text(proof)
    assert "LEAK planted" in text
    assert "curl" in text


@pytest.mark.parametrize("leak", [leak for leak in LEAKS if leak.refused], ids=lambda leak: leak.name)
async def test_with_its_defences_the_product_refuses_the_planted_project(leak: Leak, arena: Arena) -> None:
    options = Options(fixed=leak.fixed, endpoints=("planted",), rounds=1)

    proof = await prove_in(arena, leak.files, options)

    assert proof.exit_code == 2
    (result,) = proof.of(Verdict.UNPROVED)
    assert "does not deploy" in result.reason or "always refused" in result.reason
    assert leak.refused in result.reason


@pytest.mark.parametrize("leak", [leak for leak in LEAKS if leak.name in ("cache key", "side statistics")], ids=lambda leak: leak.name)
async def test_with_its_defences_in_place_the_same_project_is_proved(leak: Leak, arena: Arena) -> None:
    proof = await prove_in(arena, leak.files, Options(endpoints=("planted",), rounds=1))

    assert [result.verdict for result in proof.results] == [Verdict.PROVED]
