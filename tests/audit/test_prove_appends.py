"""What comes in as events, with tokens: the proof finds who writes in another's name, and whose bad row stops others.

Each project is tried with the defence taken out, which it must find with an example, and with it in place.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pipit.access import refusals
from pipit.access.context import SecurityContext
from pipit.audit.prove import harness as proof_harness
from pipit.audit.prove.harness import ProofHarness, open_proof_harness
from pipit.audit.prove.model import CounterExample, ProofOptions, ProofVerdict
from pipit.audit.prove.report import to_json, to_junit, to_text
from pipit.audit.prove.run import prove_in
from pipit.audit.prove.tenants import SUBJECT
from pipit.deploy.append_check import AppendCheck
from pipit.errors import PipitError, SqlError
from pipit.ingest import load
from pipit.ingest.probe import Probe

pytestmark = pytest.mark.anyio

Patch = pytest.MonkeyPatch
POLICY = "\nROW_POLICY >\n    customer_id = {{String(context.customer_id)}}\n"
LANDING = """
SCHEMA >
    `tenant` String,
    `amount` String,
    `n` UInt32

ENGINE MergeTree
ENGINE_SORTING_KEY tenant
"""
EVENTS = LANDING.replace("tenant", "customer_id") + POLICY
ROLLUP = """
SCHEMA >
    `customer_id` String,
    `n` UInt64

ENGINE SummingMergeTree
ENGINE_SORTING_KEY customer_id
"""


def endpoint(table: str) -> str:
    sql = f"SELECT customer_id, sum(n) AS n FROM {table} GROUP BY customer_id"
    return f"NODE endpoint\nSQL >\n    {sql}\n\nTYPE endpoint\n"


def view(sql: str, target: str = "rollup") -> str:
    return f"NODE mv\nSQL >\n    {sql}\nTYPE materialized\nDATASOURCE {target}\n"


def no_lineage(patch: Patch) -> None:
    async def nothing(*_: Any) -> dict[str, Any]:
        return {}

    patch.setattr(AppendCheck, "needs", nothing)


def no_isolation(patch: Patch) -> None:
    """A row that a view refuses keeps all that came with it out of the view."""
    patch.setattr(Probe, "_views", lambda *_: [])


def quoted(patch: Patch) -> None:
    """And the answer to everybody's append quotes it."""
    no_isolation(patch)

    class Quoting(load.ViewFailed):
        def __init__(self, failure: SqlError, bad: list[int]) -> None:
            super().__init__(failure, bad)
            self.message = failure.message

    patch.setattr(load, "ViewFailed", Quoting)


def told(patch: Patch) -> None:
    """The engine's words on a write are shown to everybody, and nothing else is taken out."""

    def everything(error: PipitError, _: SecurityContext | None, __: str) -> dict[str, object]:
        return error.body() | {"hint": f"{error.hint} {error.detail}"}

    patch.setattr(refusals, "shown_to", everything)


THROUGH_A_VIEW = {
    "datasources/landing.datasource": LANDING,
    "datasources/rollup.datasource": ROLLUP + POLICY,
    "pipes/flow.pipe": view("SELECT tenant AS customer_id, sum(n) AS n FROM landing GROUP BY customer_id"),
    "pipes/planted.pipe": endpoint("rollup"),
}
BAD_ROWS = {
    "datasources/events.datasource": EVENTS,
    "datasources/rollup.datasource": ROLLUP + POLICY,
    "pipes/flow.pipe": view("SELECT customer_id, sum(toUInt64(amount)) AS n FROM events GROUP BY customer_id"),
    "pipes/planted.pipe": endpoint("rollup"),
}
# Tokens that fix nothing share their segments.
ANSWERS = {
    "datasources/events.datasource": EVENTS,
    "datasources/landing.datasource": LANDING,
    "datasources/rollup.datasource": ROLLUP,
    "pipes/flow.pipe": view("SELECT tenant AS customer_id, sum(toUInt64(amount)) AS n FROM landing GROUP BY tenant"),
    "pipes/planted.pipe": endpoint("events"),
}
# The view fails on every event, also on those of a tenant alone: what differs is only what the engine quotes of the
# table that it joins.
JOINED = {
    "datasources/events.datasource": EVENTS,
    "datasources/rates.datasource": LANDING.replace("tenant", "customer_id").replace("amount", "rate") + POLICY,
    "datasources/rollup.datasource": ROLLUP + POLICY,
    "pipes/flow.pipe": view(
        "SELECT e.customer_id AS customer_id, sum(toUInt64(concat('x', r.rate, r.customer_id))) AS n "
        "FROM events AS e CROSS JOIN rates AS r GROUP BY customer_id"
    ),
    "pipes/planted.pipe": endpoint("events"),
}
LEAKS: dict[str, tuple[dict[str, str], Callable[[Patch], None], str]] = {
    "through a view": (THROUGH_A_VIEW, no_lineage, "planted"),
    "bad rows": (BAD_ROWS, no_isolation, "planted"),
    "answers": (ANSWERS, quoted, "POST /v0/events?name=landing"),
    "a joined table": (JOINED, told, "POST /v0/events?name=events"),
}


@pytest.fixture
async def harness(anyio_backend: str) -> AsyncIterator[ProofHarness]:
    """One for each: what a broken view leaves waiting is not another test's."""
    async with open_proof_harness() as opened:
        yield opened


@pytest.fixture(autouse=True)
def patience(request: pytest.FixtureRequest, monkeypatch: Patch) -> None:
    """The view of "a joined table" never takes a row: the proof would wait in vain, some seconds for each comparison."""
    if request.node.callspec.params["name"] == "a joined table":
        monkeypatch.setattr(proof_harness, "_PATIENCE", 0.05)


@pytest.mark.parametrize("name", LEAKS)
async def test_it_is_found_with_an_example(name: str, harness: ProofHarness, monkeypatch: Patch) -> None:
    files, take_out, where = LEAKS[name]
    take_out(monkeypatch)

    proof = await prove_in(harness, files, ProofOptions(rounds=1, patience=math.inf))

    leaks = {result.endpoint: result for result in proof.of(ProofVerdict.LEAK)}
    example = leaks[where].counter_example
    assert proof.exit_code == 1
    assert isinstance(example, CounterExample)
    assert example.view.tenant == SUBJECT
    assert example.own and example.others and all(row.tenant != SUBJECT for row in example.others)
    assert {one.tenant for one in example.sent} - {SUBJECT}
    assert example.alone.holds != example.with_others.holds
    text = to_text(proof)
    assert f"LEAK {where}" in text and "appended at one moment" in text and "curl" in text
    assert where in to_json(proof) and "failure" in to_junit(proof)


@pytest.mark.parametrize("name", LEAKS)
async def test_with_the_defences_in_place_it_is_proved(name: str, harness: ProofHarness) -> None:
    proof = await prove_in(harness, LEAKS[name][0], ProofOptions(rounds=1, patience=math.inf))

    assert [(result.endpoint, result.verdict, result.reason) for result in proof.results] == [
        ("planted", ProofVerdict.PROVED, "")
    ]
