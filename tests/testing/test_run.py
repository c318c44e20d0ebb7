"""A project's tests on a real server: what passes, what fails and how it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pipit.datafiles import read_project
from pipit.errors import ProjectError
from pipit.testing.cases import read_tests
from pipit.testing.harness import Harness, open_harness
from pipit.testing.report import as_junit, problems
from pipit.testing.run import CaseOutcome, RunReport, run_project

pytestmark = pytest.mark.anyio

FILES = {
    "datasources/visits.datasource": """
SCHEMA >
    `day` Date `json:$.day`,
    `page` String `json:$.page`,
    `n` UInt32 `json:$.n`
ENGINE MergeTree
ENGINE_SORTING_KEY day
ENGINE_TTL day + INTERVAL 1 DAY
""",
    "datasources/daily.datasource": """
SCHEMA >
    `day` Date,
    `total` AggregateFunction(sum, UInt32)
ENGINE AggregatingMergeTree
ENGINE_SORTING_KEY day
""",
    "datasources/prices.datasource": """
SCHEMA >
    `page` String,
    `price` Float64
ENGINE MergeTree
ENGINE_SORTING_KEY page
""",
    "datasources/made.datasource": """
SCHEMA >
    `k` UInt8 `json:$.k`
ENGINE MergeTree
ENGINE_SORTING_KEY k
""",
    "vendor/shop/coupons.datasource": """
SCHEMA >
    `code` String `json:$.code`
ENGINE MergeTree
ENGINE_SORTING_KEY code
""",
    "materializations/to_daily.pipe": """
NODE n
SQL >
    SELECT day, sumState(n) AS total FROM visits GROUP BY day
TYPE materialized
DATASOURCE daily
""",
    "endpoints/top.pipe": """
NODE n
SQL >
    %
    {% if defined(wrong) %}{{error('wrong is not allowed')}}{% end %}
    SELECT page, sum(n) AS n FROM visits
    WHERE day >= {{Date(since, '2020-01-01')}}
    GROUP BY page
    ORDER BY n DESC
TYPE endpoint
""",
    "endpoints/totals.pipe": """
NODE n
SQL >
    SELECT day, sumMerge(total) AS total FROM daily GROUP BY day ORDER BY day
TYPE endpoint
""",
    "endpoints/priced.pipe": """
NODE n
SQL >
    SELECT page, price, (SELECT sum(k) FROM made) AS made FROM prices ORDER BY page
TYPE endpoint
""",
    "pipes/plain.pipe": """
NODE n
SQL >
    SELECT page, n FROM visits WHERE n = 5
""",
    "fixtures/visits.ndjson": """{"day":"2024-01-01","page":"a","n":3}
{"day":"2024-01-01","page":"b","n":3}
{"day":"2024-01-02","page":"c","n":5}
{"day":"2024-01-02","page":"d","n":"many"}
""",
    "fixtures/daily.csv": "never loaded: its view filled it\n",
    "fixtures/prices.csv": '"page","price"\n"a",1.5\n"b",2\n',
    "fixtures/made.sql": "SELECT number + 1 AS k FROM numbers(3)\n",
    "fixtures/shop.coupons.ndjson": '{"code":"x"}\n{"code":"y"}\n',
    "fixtures/nothing.csv": "no such data source\n",
    "endpoints/hidden.pipe": "NODE n\nSQL >\n    SELECT v.page AS p FROM visits AS v ORDER BY v.n DESC\nTYPE endpoint\n",
    "tests/hidden.yaml": """
- name: right
  expected_result: |
    {"p":"c"}
    {"p":"b"}
    {"p":"a"}
- name: right_too
  expected_result: |
    {"p":"c"}
    {"p":"a"}
    {"p":"b"}
- name: wrong
  expected_result: |
    {"p":"a"}
    {"p":"c"}
    {"p":"b"}
""",
    "tests/top.yaml": """
- name: exact
  parameters: since=2024-01-02
  expected_result: |
    {"page":"c","n":5}
- name: ties
  expected_result: |
    {"page":"c","n":5}
    {"page":"b","n":3}
    {"page":"a","n":3}
- name: ties_the_other_way
  expected_result: |
    {"page":"c","n":5}
    {"page":"a","n":3}
    {"page":"b","n":3}
- name: wrong_order
  expected_result: |
    {"page":"a","n":3}
    {"page":"c","n":5}
    {"page":"b","n":3}
- name: wrong_value
  expected_result: |
    {"page":"c","n":6}
- name: an_error
  parameters: wrong=1
  expected_result: wrong is not allowed
  expected_http_status: 400
- name: an_error_that_was_not_expected
  parameters: since=x
  expected_result: |
    {"page":"c","n":5}
- name: a_success_that_was_not_expected
  expected_result: wrong is not allowed
  expected_http_status: 400
""",
    "tests/totals.yaml": """
- name: all
  expected_result: |
    {"day":"2024-01-01","total":6}
    {"day":"2024-01-02","total":5}
""",
    "tests/priced.yaml": """
- name: all
  expected_result: |
    {"page":"a","price":1.5,"made":6}
    {"page":"b","price":2,"made":6}
""",
    "tests/plain.yaml": '- name: not_published\n  expected_result: "c\\t5\\n"\n',
    "tests/gone.yaml": "- name: a\n  expected_result: x\n",
    "tests/quality.yaml": """
- nothing_below_zero:
    sql: SELECT * FROM visits WHERE n < 0
- nothing_above_four:
    sql: SELECT * FROM visits WHERE n > 4
- with_parameters:
    sql: SELECT * FROM top WHERE n < 5
    pipe:
      name: top
      params: {since: '2024-01-02'}
- reads_too_much:
    sql: SELECT * FROM visits WHERE n < 0
    max_bytes_read: 1
""",
    "tests/lines.test": "tb pipe data top --since 2024-01-02 --format CSV\n",
    "tests/lines.test.result": '"page","n"\n\n"c",5\n',
    "tests/table.test": 'tb sql "select page, n from visits where n = 5"\n',
    "tests/table.test.result": "-------------\n| page |  n |\n-------------\n| c    |  5 |\n-------------\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(scope="module")
async def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="module")
async def harness(anyio_backend: str, corpus: Path) -> AsyncIterator[Harness]:
    async with open_harness(readable=(corpus,)) as opened:
        yield opened


@pytest.fixture(scope="module")
async def report(harness: Harness, corpus: Path) -> RunReport:
    folder = write(corpus / "shop", FILES)
    return await run_project(harness, folder, read_project(folder), read_tests(folder), jobs=4)


def outcomes(report: RunReport) -> dict[str, str]:
    return {result.test.id: str(result.outcome) for result in report.results}


def test_what_passes_and_what_fails(report: RunReport) -> None:
    assert outcomes(report) == {
        "gone: a": "skipped",
        "hidden: right": "passed",
        "hidden: right_too": "passed",
        "hidden: wrong": "failed",
        "lines.test": "passed",
        "plain: not_published": "passed",
        "priced: all": "passed",
        "quality: nothing_below_zero": "passed",
        "quality: nothing_above_four": "failed",
        "quality: with_parameters": "passed",
        "quality: reads_too_much": "failed",
        "table.test": "passed",
        "top: exact": "passed",
        "top: ties": "passed",
        "top: ties_the_other_way": "passed",
        "top: wrong_order": "failed",
        "top: wrong_value": "failed",
        "top: an_error": "passed",
        "top: an_error_that_was_not_expected": "failed",
        "top: a_success_that_was_not_expected": "failed",
        "totals: all": "passed",
    }
    assert not report.passed


def test_a_failure_is_told_with_what_came(report: RunReport) -> None:
    told = {r.test.id: r for r in report.results}
    assert told["top: wrong_order"].note == "the same rows in another order"
    assert '-{"page":"c","n":6}' in told["top: wrong_value"].difference
    assert '+{"page":"c","n":5}' in told["top: wrong_value"].difference
    assert told["top: an_error_that_was_not_expected"].note == "status 400, expected 200"
    assert "Error validating 'x' to type Date" in told["top: an_error_that_was_not_expected"].difference
    assert told["quality: nothing_above_four"].note == "the query found 1 rows, and should find none"
    assert told["gone: a"].note == "the project has no pipe 'gone'"
    assert (
        "ORDER BY leaves open" in told["top: ties"].note
        or "ORDER BY leaves open" in told["top: ties_the_other_way"].note
    )


def test_fixtures_that_do_not_fit_are_told(report: RunReport) -> None:
    told, *others = problems(report)
    assert others == []
    assert told.startswith("fixtures/visits.ndjson: 1 rows do not fit the schema and are in visits_quarantine")
    assert {(f.file, f.rows) for f in report.fixtures} == {
        ("fixtures/visits.ndjson", 3),
        ("fixtures/prices.csv", 2),
        ("fixtures/made.sql", 3),
        ("fixtures/shop.coupons.ndjson", 2),
    }


FIGURES = """
SCHEMA >
    `id` UInt8,
    `day` Date,
    `at` DateTime('UTC') DEFAULT '2020-01-01 00:00:00',
    `name` String,
    `tags` Array(String)
ENGINE MergeTree
ENGINE_SORTING_KEY id
"""


async def load_figures(harness: Harness, folder: Path, csv: str, rows: str) -> RunReport:
    """The fixture in a project with one test, which expects these rows."""
    files = {
        "datasources/figures.datasource": FIGURES,
        "endpoints/loaded.pipe": "NODE n\nSQL >\n    SELECT id, day, at, name, tags FROM figures ORDER BY id\nTYPE endpoint\n",
        "fixtures/figures.csv": csv,
        "tests/loaded.yaml": f"- name: whole\n  expected_result: |\n{rows}\n",
    }
    written = write(folder, files)
    return await run_project(harness, written, read_project(written), read_tests(written), jobs=1)


@pytest.mark.parametrize("header", ["id,day,at,name,tags\n", ""])
async def test_a_bad_line_of_a_csv_fixture_is_counted_and_the_others_go_in(
    harness: Harness, corpus: Path, header: str
) -> None:
    csv = (
        header
        + "1,2024-01-01,,one,\"['a']\"\n"
        + "2,2024-01-02\n"
        + '3,20240103,1714557600,three,"[]"\n'
        + '300,2024-01-04,,overflow,"[]"\n'
        + '5,2024-13-45,,no day,"[]"\n'
        + '6,2024-01-06,2024-01-06 10:00:00,"a, ""six""","[]"\n'
    )
    expected = [
        '{"id":1,"day":"2024-01-01","at":"2020-01-01 00:00:00","name":"one","tags":["a"]}',
        '{"id":3,"day":"2024-01-03","at":"2024-05-01 10:00:00","name":"three","tags":[]}',
        '{"id":6,"day":"2024-01-06","at":"2024-01-06 10:00:00","name":"a, \\"six\\"","tags":[]}',
    ]
    folder = corpus / f"figures{len(header)}"
    report = await load_figures(harness, folder, csv, "\n".join(f"    {line}" for line in expected))
    (loaded,) = report.fixtures
    assert loaded.rows == 3
    line = 3 if header else 2
    assert loaded.problem == (
        "3 rows do not fit the schema and are in figures_quarantine, such as: "
        f"line {line}: the line has 2 cells and not 5"
    )
    assert [r.outcome for r in report.results] == [CaseOutcome.PASSED], report.results[0].difference
    assert report.passed


def test_junit_counts_and_says_why(report: RunReport) -> None:
    root = ElementTree.fromstring(as_junit(report).partition("\n")[2])
    suites = {s.get("name"): s for s in root}
    assert (suites["tests/top.yaml"].get("tests"), suites["tests/top.yaml"].get("failures")) == ("8", "4")
    assert suites["tests/gone.yaml"].get("skipped") == "1"
    failure = suites["tests/top.yaml"].find("testcase[@name='top: wrong_value']/failure")
    assert failure is not None
    assert '+{"page":"c","n":5}' in (failure.text or "")


async def test_a_project_that_does_not_deploy_has_no_results(harness: Harness, corpus: Path) -> None:
    folder = write(
        corpus / "broken", {"endpoints/p.pipe": "NODE n\nSQL >\n    SELECT nothing FROM nowhere\nTYPE endpoint\n"}
    )
    with pytest.raises(ProjectError):
        await run_project(harness, folder, read_project(folder), [], jobs=1)


async def test_secrets_come_from_env_local(harness: Harness, corpus: Path) -> None:
    folder = write(
        corpus / "secret",
        {
            "endpoints/p.pipe": "NODE n\nSQL >\n    %\n    SELECT {{tb_secret('word')}} AS w\nTYPE endpoint\n",
            ".env.local": "# c\nexport word='open sesame'\n",
            "tests/p.yaml": '- name: a\n  expected_result: |\n    {"w":"open sesame"}\n',
        },
    )
    report = await run_project(harness, folder, read_project(folder), read_tests(folder), jobs=1)
    assert [r.outcome for r in report.results] == [CaseOutcome.PASSED]


def test_a_copy_that_did_not_run_is_a_failure() -> None:
    assert RunReport(()).passed and RunReport((), copies={"daily": ""}).passed
    assert not RunReport((), copies={"daily": "it raised"}).passed


async def test_a_pipe_that_only_writes_gives_what_it_would_write(harness: Harness, tmp_path: Path) -> None:
    table = "SCHEMA >\n    page String `json:$.page`,\n    n Int32 `json:$.n`\n\nENGINE MergeTree\nENGINE_SORTING_KEY page\n"
    view = (
        "NODE some\nSQL >\n    SELECT * FROM hits WHERE n > 1\n\n"
        "NODE sums\nSQL >\n    SELECT page, toInt32(sum(n)) AS n FROM some GROUP BY page ORDER BY page\n\n"
        "TYPE materialized\nDATASOURCE summed\n"
    )
    folder = write(
        tmp_path / "writes",
        {
            "datasources/hits.datasource": table,
            "datasources/summed.datasource": table.replace(" `json:$.page`", "").replace(" `json:$.n`", ""),
            "materializations/rolling.pipe": view,
            "fixtures/hits.ndjson": '{"page": "a", "n": 1}\n{"page": "a", "n": 2}\n{"page": "b", "n": 3}\n',
            "tests/rolling.yaml": '- name: all\n  expected_result: "a\\t2\\nb\\t3\\n"\n',
        },
    )
    found = await run_project(harness, folder, read_project(folder), read_tests(folder), jobs=1)
    assert [(str(r.outcome), r.note, r.difference) for r in found.results] == [("passed", "", "")]


async def test_a_fixture_of_which_no_row_fits_is_a_failure(harness: Harness, tmp_path: Path) -> None:
    """Its test passes on an empty table; some rows that do not fit are a warning."""
    files = {
        "datasources/t.datasource": "SCHEMA >\n    n Int32 `json:$.n`\n\nENGINE MergeTree\nENGINE_SORTING_KEY n\n",
        "endpoints/p.pipe": "NODE n\nSQL >\n    SELECT n FROM t ORDER BY n\nTYPE endpoint\n",
    }
    for rows, expected, passed in (
        ('{"n":"x"}\n{"n":"y"}\n', "", False),
        ('{"n":"x"}\n{"n":1}\n', '{"n":1}', True),
        ("", "", True),
    ):
        case = {"fixtures/t.ndjson": rows, "tests/p.yaml": f"- name: a\n  expected_result: '{expected}'\n"}
        folder = write(tmp_path / str(len(rows)), files | case)
        found = await run_project(harness, folder, read_project(folder), read_tests(folder), jobs=1)
        assert found.count(CaseOutcome.PASSED) == 1 and found.passed is passed, found
        assert [loaded.file for loaded in found.empty_fixtures] == ([] if passed else ["fixtures/t.ndjson"])
