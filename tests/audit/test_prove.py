"""The proof: what "equal" means, which verdict an endpoint gets, the reports, the commands that show a leak."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import anyio
import pytest

from audit.leaks import OPEN, ROOT, without_policies
from pipit.audit.prove.answers import TenantAnswer, difference, inversions
from pipit.audit.prove.harness import ProofHarness, open_proof_harness
from pipit.audit.prove.knowledge import learn
from pipit.audit.prove.model import Proof, ProofOptions, ProofVerdict
from pipit.audit.prove.report import to_json, to_junit, to_text
from pipit.audit.prove.reproduce import PORT, lines
from pipit.audit.prove.rows import Maker
from pipit.audit.prove.run import prove_in
from pipit.audit.prove.tenants import SUBJECT, Tenants
from pipit.audit.prove.values import Values
from pipit.audit.tenancy import of_params, of_policies
from pipit.catalog.build import build_snapshot
from pipit.catalog.snapshot import Snapshot, Workspace
from pipit.catalog.state import TableNames
from pipit.datafiles import parse_project, read_project
from pipit.errors import BadRequest
from ports import free_port
from waiting import wait_for

pytestmark = pytest.mark.anyio

VISITS = """
SCHEMA >
    `at` DateTime `json:$.at`,
    `org_id` String `json:$.org.id`,
    `page` String `json:$.page`,
    `ms` UInt32 `json:$.ms`

ENGINE MergeTree
ENGINE_SORTING_KEY org_id, at
"""
PRICES = """
SCHEMA >
    `page` String `json:$.page`,
    `price` UInt32 `json:$.price`

ENGINE MergeTree
ENGINE_SORTING_KEY page
"""
MINE = "WHERE org_id = {{String(org)}}"


def _endpoint(sql: str) -> str:
    return f"NODE endpoint\nSQL >\n    %\n    {sql}\n\nTYPE endpoint\n"


SMALL = {
    "datasources/visits.datasource": VISITS,
    "datasources/prices.datasource": PRICES,
    "pipes/good.pipe": _endpoint(f"SELECT page, count() AS n FROM visits {MINE} GROUP BY page"),
    "pipes/sliced.pipe": _endpoint(f"SELECT page FROM visits {MINE} LIMIT 2"),
    "pipes/ties.pipe": _endpoint(f"SELECT page, ms FROM visits {MINE} ORDER BY ms"),
    "pipes/chance.pipe": _endpoint(f"SELECT page, rand() AS r FROM visits {MINE}"),
    "pipes/nothing.pipe": _endpoint(f"SELECT page FROM visits {MINE} AND page = concat(page, 'x')"),
    "pipes/refusing.pipe": _endpoint("{{error('not today')}} SELECT 1 FROM visits WHERE org_id = {{String(org)}}"),
    "pipes/free.pipe": _endpoint("SELECT sum(price) AS total FROM prices"),
    "pipes/everybody.pipe": _endpoint("SELECT count() AS n FROM visits"),
    "pipes/failing.pipe": _endpoint(f"SELECT max(100 / (ms = ms)) AS x, throwIf(page = 'b', page) FROM visits {MINE}"),
    "pipes/broken.pipe": _endpoint("SELECT no_such_column FROM visits"),
}


@pytest.fixture(scope="module")
async def harness(anyio_backend: str) -> AsyncIterator[ProofHarness]:
    async with open_proof_harness() as opened:
        yield opened


@pytest.fixture(scope="module")
async def proof(harness: ProofHarness) -> Proof:
    return await prove_in(harness, SMALL, ProofOptions(fixed=("org",), rounds=1, patience=math.inf))


def _answer(*rows: object, status: int = 200, **more: object) -> TenantAnswer:
    tree = {"meta": [{"name": "a", "type": "Int64"}], "data": [{"a": row} for row in rows], **more}
    return TenantAnswer(status, json.dumps(tree).encode())


def _snapshot(files: dict[str, str]) -> Snapshot:
    project = parse_project(files)
    names = TableNames(
        datasources={n: f"d1_{n}" for n in project.datasources}, quarantines={n: f"q1_{n}" for n in project.datasources}
    )
    return build_snapshot(Workspace("w", "default", "pipit_default", "x" * 40), project, names)


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        (_answer(1, 2), _answer(1, 2), ""),
        (_answer(1, 2), _answer(2, 1), "order"),
        (_answer(1, 1), _answer(1), "rows"),
        (_answer(1, rows=1), _answer(1, rows=2), "counts"),
        (
            _answer(1, statistics={"elapsed": 1, "rows_read": 2}),
            _answer(1, statistics={"elapsed": 9, "rows_read": 2}),
            "",
        ),
        (_answer(1, statistics={"rows_read": 2}), _answer(1, statistics={"rows_read": 3}), "counts"),
        (_answer(1), TenantAnswer(403, b"forbidden"), "status"),
        (TenantAnswer(400, b"a"), TenantAnswer(400, b"b"), "error"),
        (TenantAnswer(400, b"a"), TenantAnswer(400, b"a"), ""),
        (TenantAnswer(408, b"late"), _answer(1), ""),
        (TenantAnswer(200, b'{"meta":[{"name":"a","type":"Int8"}],"data":[]}'), _answer(), "columns"),
    ],
)
def test_what_equal_means(one: TenantAnswer, other: TenantAnswer, kind: str) -> None:
    assert difference(one, other) == kind
    assert difference(other, one) == kind


def test_the_pairs_that_change_places_are_known() -> None:
    found = inversions(_answer(3, 1, 2), _answer(1, 2, 3))

    assert found == {('{"a":3}', '{"a":1}'), ('{"a":3}', '{"a":2}')}


def test_policies_say_which_column_holds_which_key() -> None:
    found = of_policies(_snapshot(read_project(ROOT)))

    assert found.keys == ("customer_id", "team")
    assert found.required == {"customer_id"}
    assert found.columns["events"] == {"customer_id": {("customer_id",)}, "team": {("team",)}}
    assert not found.shared


def test_a_fixed_parameter_is_followed_to_the_columns_it_is_compared_with() -> None:
    files = SMALL | {
        "datasources/logs.datasource": "SCHEMA >\n    `body` String `json:$.body`\n",
        "datasources/daily.datasource": "SCHEMA >\n    `account` String,\n    `n` UInt64\n",
        "pipes/roll.pipe": "NODE n\nSQL >\n    SELECT org_id AS account, count() AS n FROM visits GROUP BY account\n"
        "TYPE materialized\nDATASOURCE daily\n",
        "pipes/days.pipe": _endpoint("SELECT sum(n) AS n FROM daily WHERE account IN {{Array(org)}}"),
        "pipes/logged.pipe": _endpoint("SELECT body FROM logs WHERE JSONExtractString(body, 'org') = {{String(org)}}"),
    }

    found = of_params(_snapshot(files), ["org"])

    assert found.columns["visits"]["org"] == {("org_id",)}
    assert found.columns["daily"]["org"] == {("account",)}
    assert found.columns["logs"]["org"] == {("body", "org")}
    assert found.shared == {"prices"}


def test_a_tenant_has_one_value_wherever_it_stands() -> None:
    """Numbers in one table and texts in another: the token says what both hold."""
    files = {
        "datasources/a.datasource": "SCHEMA >\n    `org` Int16 `json:$.org`\n",
        "datasources/b.datasource": "SCHEMA >\n    `org` String `json:$.org`\n",
        "pipes/one.pipe": _endpoint("SELECT 1 FROM a WHERE org = {{Int16(org)}}"),
    }
    snapshot = _snapshot(files)
    tenants = Tenants(of_params(snapshot, ["org"]), snapshot)
    known = learn(snapshot, tenants.tenancy)
    maker = Maker(Values(known, random.Random(1), datetime.now(UTC)), tenants)

    (view,) = tenants.views(SUBJECT)

    assert {str(row.values["org"]) for row in maker.rows() if row.tenant == SUBJECT} == {view.fixed["org"]}
    assert {type(row.values["org"]) for row in maker.rows() if row.table == "b"} == {str}


@pytest.mark.parametrize(
    ("endpoint", "verdict", "reason"),
    [
        ("good", ProofVerdict.PROVED, ""),
        ("sliced", ProofVerdict.PROVED, ""),
        ("ties", ProofVerdict.PROVED, ""),
        ("chance", ProofVerdict.UNPROVED, "another answer each time"),
        ("nothing", ProofVerdict.UNPROVED, "no answer ever held"),
        ("refusing", ProofVerdict.UNPROVED, "always refused"),
        ("free", ProofVerdict.SHARED, "prices"),
        ("everybody", ProofVerdict.LEAK, "rows change"),
        ("broken", ProofVerdict.UNPROVED, "does not deploy"),
    ],
)
async def test_every_endpoint_gets_its_verdict(proof: Proof, endpoint: str, verdict: ProofVerdict, reason: str) -> None:
    result = next(result for result in proof.results if result.endpoint == endpoint)

    assert result.verdict is verdict, result
    assert reason in result.reason
    if verdict is ProofVerdict.PROVED:
        assert result.held


async def test_the_reports_say_the_same(proof: Proof) -> None:
    assert proof.exit_code == 1
    text, document, tree = to_text(proof), json.loads(to_json(proof)), ElementTree.fromstring(to_junit(proof))

    assert "LEAK everybody" in text
    assert "Shared, the same for every tenant: prices." in text
    by_name = {one["endpoint"]: one for one in document["endpoints"]}
    assert by_name["everybody"]["counter_example"]["answer_alone"]["rows"] == [{"n": 0}]
    assert document["summary"]["leak"] == len(proof.of(ProofVerdict.LEAK))
    suite = tree.find("testsuite")
    assert suite is not None
    assert suite.get("failures") == str(len(proof.of(ProofVerdict.LEAK)))
    assert suite.get("errors") == str(len(proof.of(ProofVerdict.UNPROVED)))
    assert [case.get("name") for case in suite if case.find("failure") is not None] == [
        result.endpoint for result in proof.of(ProofVerdict.LEAK)
    ]


async def test_a_parameter_that_nothing_is_compared_with_is_refused(harness: ProofHarness) -> None:
    with pytest.raises(BadRequest, match="No data source"):
        await prove_in(harness, SMALL, ProofOptions(fixed=("nobody_knows",), rounds=1))
    with pytest.raises(BadRequest, match="no ROW_POLICY"):
        await prove_in(harness, SMALL, ProofOptions(rounds=1))


async def test_the_commands_of_an_example_show_the_leak(harness: ProofHarness, tmp_path: Path) -> None:
    leak = next(leak for leak in OPEN if leak.name == "union")
    options = ProofOptions(fixed=("customer_id",), endpoints=(leak.endpoint,), rounds=1, patience=math.inf)
    proof = await prove_in(harness, leak.files, options)
    example = proof.of(ProofVerdict.LEAK)[0].counter_example
    assert example is not None
    # What plays no part is plain.
    assert {(row.values["session_id"], row.values["feature"]) for row in example.others} == {("x", "x")}
    project = tmp_path / "project"
    for path, text in leak.files.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
    script = "\n".join(lines(example, proof.datasources, str(project)))
    script = script.replace(f"PORT={PORT}", f"PORT={free_port()}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    done = await anyio.run_process(
        ["bash", "-m", "-c", script],
        env=os.environ | {"PATH": path, "TMPDIR": str(temporary)},
        check=False,
        stderr=subprocess.PIPE,
    )

    decoder, rest, bodies = json.JSONDecoder(), done.stdout.decode(), []
    while "{" in rest:
        body, end = decoder.raw_decode(rest[rest.index("{") :])
        bodies.append(body)
        rest = rest[rest.index("{") + end :]
    answers = [body["data"] for body in bodies if "data" in body]
    assert answers == [example.alone.table, example.with_others.table], done.stderr
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    "endpoints",
    [
        pytest.param(("usage_for_billing", "teams", "latency_percentiles"), id="three"),
        pytest.param((), id="all", marks=pytest.mark.long),
    ],
)
def test_the_demo_project_is_proved_and_nothing_is_left_behind(tmp_path: Path, endpoints: tuple[str, ...]) -> None:
    report = tmp_path / "report.json"
    only = [argument for name in endpoints for argument in ("--endpoint", name)]

    done = _prove(tmp_path, str(ROOT), "--rounds", "1", "--format", "json", "--output", str(report), *only)

    document = json.loads(report.read_text())
    assert done.wait() == 0, document
    assert {one["verdict"] for one in document["endpoints"]} == {"proved"}
    assert len(document["endpoints"]) == (len(endpoints) or 9)
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_one_that_is_stopped_leaves_nothing_behind(tmp_path: Path, sent: signal.Signals) -> None:
    running = _prove(tmp_path, str(ROOT), wait=False)
    folder = tmp_path / "tmp"
    wait_for(lambda: any(folder.glob("pipit-prove-*/*")))

    running.send_signal(sent)

    assert running.wait(180) == 130
    assert not list(folder.iterdir())


async def test_the_sizes_of_tables_do_not_move_rows(harness: ProofHarness) -> None:
    """The engine would swap and reorder joins by how many rows a table has, other tenants' rows among them."""
    found = await harness.engine.rows(
        "SELECT name, value FROM system.settings "
        "WHERE name IN ('join_algorithm', 'query_plan_join_swap_table', 'query_plan_optimize_join_order_limit')"
    )

    assert {row["name"]: row["value"] for row in found} == {
        "join_algorithm": "hash",
        "query_plan_join_swap_table": "0",
        "query_plan_optimize_join_order_limit": "0",
    }


def test_policies_are_gone_from_a_copy_that_has_none() -> None:
    for text in without_policies(read_project(ROOT)).values():
        assert "ROW_POLICY" not in text


def _prove(tmp_path: Path, *arguments: str, wait: bool = True) -> subprocess.Popen[bytes]:
    """The command, with a folder of its own for temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    command = [str(Path(sys.executable).parent / "pipit"), "audit", "--prove", *arguments]
    running = subprocess.Popen(
        command, env=os.environ | {"TMPDIR": str(folder)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if wait:
        running.wait(300)
    return running


