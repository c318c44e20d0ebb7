"""`as` and `fixed`: a case that asks as a tenant gets what that tenant's token gets, a refusal included."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipit.datafiles import read_project
from pipit.testing.cases import ADMIN, Case, Skipped, Tenant, read_tests
from pipit.testing.harness import Harness, open_harness
from pipit.testing.report import as_junit
from pipit.testing.run import RunReport, run_project

pytestmark = pytest.mark.anyio

FILES = {
    "datasources/sales.datasource": """
SCHEMA >
    `tenant` String `json:$.tenant`,
    `team` String `json:$.team`,
    `item` String `json:$.item`,
    `n` UInt32 `json:$.n`
ENGINE MergeTree
ENGINE_SORTING_KEY tenant
ROW_POLICY >
    tenant = {{String(context.tenant)}}
    {% if defined(context.team) %} AND team IN {{Array(context.team, 'String')}} {% end %}
ROW_POLICY_OPTIONAL team
""",
    "datasources/open.datasource": """
SCHEMA >
    `tenant` String `json:$.tenant`,
    `n` UInt32 `json:$.n`
ENGINE MergeTree
ENGINE_SORTING_KEY tenant
""",
    "endpoints/items.pipe": """
NODE picked
SQL >
    %
    SELECT s.item AS item, s.n AS amount, s.team FROM sales AS s WHERE s.n >= {{UInt32(least, 0)}}
NODE endpoint
SQL >
    %
    SELECT item, amount FROM picked
    {% if defined(by_item) %} ORDER BY item {% else %} ORDER BY amount DESC {% end %}
TYPE endpoint
""",
    "endpoints/of_tenant.pipe": """
FIXED_PARAMS tenant
NODE endpoint
SQL >
    % SELECT sum(n) AS n FROM open WHERE tenant = {{String(tenant)}}
TYPE endpoint
""",
    "pipes/not_published.pipe": "NODE n\nSQL >\n    SELECT 1 AS one\n",
    "fixtures/sales.ndjson": """{"tenant":"a","team":"x","item":"pen","n":3}
{"tenant":"a","team":"x","item":"ink","n":3}
{"tenant":"a","team":"y","item":"cup","n":9}
{"tenant":"b","team":"x","item":"hat","n":5}
""",
    "fixtures/open.ndjson": '{"tenant":"a","n":1}\n{"tenant":"b","n":2}\n',
    "tests/items.yaml": """
- description: who asks, where a case does not say
  as: {tenant: a}
- name: of_the_file
  parameters: by_item=1
  expected_result: |
    {"item":"cup","amount":9}
    {"item":"ink","amount":3}
    {"item":"pen","amount":3}
- name: another
  as: {tenant: b}
  expected_result: |
    {"item":"hat","amount":5}
- name: the_request_cannot_say_it
  parameters: tenant=b&least=4
  expected_result: |
    {"item":"cup","amount":9}
- name: a_list
  as: {tenant: a, team: [y, z]}
  expected_result: |
    {"item":"cup","amount":9}
- name: nobody
  as: {tenant: nobody}
  expected_result: ''
- name: the_workspace
  as: admin
  parameters: least=5&by_item=1
  expected_result: |
    {"item":"cup","amount":9}
    {"item":"hat","amount":5}
- name: no_key
  as: {}
  expected_result: The token's context has no key 'tenant', which a row policy needs
  expected_http_status: 403
- name: an_empty_key
  as: {tenant: ''}
  expected_result: The token's 'context.tenant' is empty
  expected_http_status: 403
- name: an_object
  as: {tenant: {a: 1}}
  expected_result: The token's 'context.tenant' must be a text, a number or a boolean
  expected_http_status: 403
- name: an_error_of_the_template
  parameters: least=many
  expected_result: "Template Syntax Error: Error validating 'many' to type UInt32"
  expected_http_status: 400
- name: ties
  expected_result: |
    {"item":"cup","amount":9}
    {"item":"pen","amount":3}
    {"item":"ink","amount":3}
- name: ties_the_other_way
  expected_result: |
    {"item":"cup","amount":9}
    {"item":"ink","amount":3}
    {"item":"pen","amount":3}
- name: no_ties
  parameters: by_item=1
  expected_result: |
    {"item":"cup","amount":9}
    {"item":"pen","amount":3}
    {"item":"ink","amount":3}
- name: a_misspelt_parameter
  parameters: leest=5
  as: {tenant: b}
  expected_result: |
    {"item":"hat","amount":5}
- name: a_misspelt_key
  ass: {tenant: b}
  expected_http_statuss: 200
  parameters: least=9
  expected_result: |
    {"item":"cup","amount":9}
""",
    "tests/of_tenant.yaml": """
- name: fixed
  fixed: {tenant: a}
  expected_result: |
    {"n":1}
- name: the_request_cannot_change_it
  fixed: {tenant: b}
  parameters: tenant=a
  expected_result: |
    {"n":2}
- name: not_fixed
  as: {tenant: a}
  parameters: tenant=a
  expected_result: The token 'pipit test' does not fix the parameter 'tenant' of 'of_tenant'
  expected_http_status: 403
- name: as_the_workspace
  parameters: tenant=a
  expected_result: |
    {"n":1}
- name: fixes_what_is_not_there
  fixed: {tenant: a, tenent: b}
  expected_result: |
    {"n":1}
""",
    "tests/not_published.yaml": """
- name: as_a_tenant
  as: {tenant: a}
  expected_result: The pipe 'not_published' does not have an endpoint yet
  expected_http_status: 404
""",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(scope="module")
async def harness(anyio_backend: str) -> AsyncIterator[Harness]:
    async with open_harness() as opened:
        yield opened


@pytest.fixture(scope="module")
async def report(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> RunReport:
    folder = write(tmp_path_factory.mktemp("tenants"), FILES)
    return await run_project(harness, folder, read_project(folder), read_tests(folder), jobs=4)


def test_each_tenant_gets_what_its_token_gets(report: RunReport) -> None:
    failed = {r.test.id: (r.note, r.difference) for r in report.results if r.outcome != "passed"}
    assert failed.keys() == {"items: no_ties"}, failed
    assert failed["items: no_ties"][0] == "the same rows in another order"


def test_what_has_no_effect_is_told(report: RunReport) -> None:
    told = {r.test.id: r.warnings for r in report.results if r.warnings}
    assert told == {
        "items: the_request_cannot_say_it": ("neither 'items' nor what it reads has a parameter 'tenant'",),
        "items: a_misspelt_parameter": (
            "neither 'items' nor what it reads has a parameter 'leest': is 'least' meant?",
        ),
        "items: a_misspelt_key": (
            "`ass` is no key of a case and does nothing: is `as` meant?",
            "`expected_http_statuss` is no key of a case and does nothing: is `expected_http_status` meant?",
        ),
        "of_tenant: fixes_what_is_not_there": (
            "neither 'of_tenant' nor what it reads has a parameter 'tenent': is 'tenant' meant?",
        ),
    }
    assert "warning: neither 'items'" in as_junit(report)


@pytest.mark.parametrize(
    ("item", "case", "expected"),
    [
        ("", "", None),
        ("as: {a: x}", "", Tenant({"a": "x"})),
        ("as: {a: x}", "as: {b: y}", Tenant({"b": "y"})),
        ("as: {a: x}", "as: {}", Tenant()),
        ("as: {a: x}", "fixed: {p: 1}", Tenant({"a": "x"}, {"p": 1})),
        ("as: {a: x}\n  fixed: {p: 1}", "fixed: {}", Tenant({"a": "x"})),
        ("as: {a: x}\n  fixed: {p: 1}", f"as: {ADMIN}", None),
        ("fixed: {p: 1}", "", Tenant({}, {"p": 1})),
        ("as: admin", "", None),
        ("", "as: {day: 2024-01-31, at: 2024-01-31 10:00:00, n: 5, f: 1.5, b: true, l: [1, 2]}",
         Tenant({"day": "2024-01-31", "at": "2024-01-31 10:00:00", "n": 5, "f": 1.5, "b": True, "l": [1, 2]})),
    ],
)  # fmt: skip
def test_a_case_says_it_else_its_file(tmp_path: Path, item: str, case: str, expected: Tenant | None) -> None:
    text = (f"- {item}\n" if item else "") + "- name: one\n  expected_result: ''\n" + (f"  {case}\n" if case else "")
    (found,) = read_tests(write(tmp_path, {"tests/p.yaml": text}))
    assert isinstance(found, Case) and found.tenant == expected, found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- name: x\n  as: acme\n", "`as` is a mapping"),
        ("- name: x\n  as:\n", "`as` is a mapping"),
        ("- name: x\n  as: [a]\n", "`as` is a mapping"),
        ("- name: x\n  as: {1: a}\n", "the name 1 is no text"),
        ("- name: x\n  fixed: a=b\n", "`fixed` is a mapping"),
        ("- name: x\n  fixed: {a: .nan}\n", "JSON does not know"),
        ("- name: x\n  as: admin\n  fixed: {a: b}\n", "fixes nothing"),
        ("- as: acme\n- name: x\n", "no case below it is run"),
        ("- name: x\n- as: {a: b}\n- name: y\n", "no case below it is run"),
        ("- as: {a: b}\n  parameters: c=1\n", "no `name`"),
    ],
)
def test_who_asks_is_never_guessed(tmp_path: Path, text: str, reason: str) -> None:
    """Such a case is not run as somebody else: what --update wrote would be another's rows."""
    found = read_tests(write(tmp_path, {"tests/p.yaml": text}))
    broken = [t for t in found if isinstance(t, Skipped)]
    assert len(broken) == 1 and broken[0].broken and reason in broken[0].reason, found
    assert [t.name for t in found if isinstance(t, Case)] == (["x"] if text.startswith("- name: x\n- as") else [])
