"""`pipit copy`, `pipit populate` and `pipit job`, with the real command against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from waiting import wait_for

from .conftest import PROJECT, Shell, write

COPIED = "SCHEMA >\n    tenant String,\n    total Int64\n\nENGINE MergeTree\nENGINE_SORTING_KEY tenant\n"
COPY = """\
NODE sums
SQL >
    %
    SELECT tenant, sum(amount) AS total FROM sales WHERE amount >= {{Int32(least, 0)}} GROUP BY tenant

TYPE copy
TARGET_DATASOURCE copied
COPY_MODE replace
COPY_SCHEDULE 0 0 1 1 *
"""
VIEW = """\
NODE seen
SQL >
    SELECT tenant, toInt64(amount) AS total FROM sales

TYPE materialized
DATASOURCE viewed
"""
BROKEN = "NODE bad\nSQL >\n    SELECT tenant, throwIf(amount > 0) AS total FROM sales\nTYPE copy\nTARGET_DATASOURCE copied\n"
BARE = PROJECT["datasources/sales.datasource"].split("\nROW_POLICY")[0]
FILES = {
    "datasources/sales.datasource": BARE,
    "datasources/copied.datasource": COPIED,
    "datasources/viewed.datasource": COPIED,
    "copies/daily.pipe": COPY,
    "copies/broken.pipe": BROKEN,
    "materializations/watching.pipe": VIEW,
}
ROWS = '{"at": "2026-01-01 00:00:00", "tenant": "a", "amount": 3}\n{"at": "2026-01-01 00:00:00", "tenant": "b", "amount": 4}\n'


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("jobs"))
    write(shell.folder, FILES | {"rows.ndjson": ROWS})
    with shell.serving():
        shell.ok("datasource", "append", "sales", "rows.ndjson")
        yield shell


def test_a_copy_is_run_and_listed(shell: Shell) -> None:
    said = shell.ok("copy", "run", "daily", "--param", "least=4")
    assert "copy of daily into copied: done" in said and "1 row, made" in said
    assert "b" in shell.ok("sql", "SELECT * FROM copied") and "2 rows" in shell.ok("copy", "run", "daily")
    listed = shell.ok("copy", "ls")
    assert "0 0 1 1 *" in listed and "done" in listed and "replace" in listed
    shell.ok("copy", "pause", "daily")
    assert "(paused)" in shell.ok("copy", "ls")
    shell.ok("copy", "resume", "daily")
    assert "(paused)" not in shell.ok("copy", "ls")


def test_a_target_is_filled_again(shell: Shell) -> None:
    assert "populateview of watching into viewed: done" in shell.ok("populate", "watching", "--truncate")
    count = "SELECT count() AS n FROM viewed FORMAT CSV"
    assert shell.ok("sql", count).strip() == "2"
    shell.ok("populate", "watching", "--node", "seen", "--condition", "tenant = 'a'")
    assert shell.ok("sql", count).strip() == "3"


def test_jobs_and_what_went_wrong(shell: Shell) -> None:
    failed = shell("copy", "run", "broken")
    assert failed.returncode == 1 and "error" in failed.stdout and "throwIf" in failed.stderr
    id = failed.stdout.split("job ")[-1].strip()
    assert id in shell.ok("job", "ls", "--status", "error")
    shown = shell("job", "show", id)
    assert shown.returncode == 1 and "throwIf" in shown.stderr
    assert shell("job", "cancel", id).returncode == 1
    assert shell("copy", "run", "nothing").returncode == 1
    assert shell("populate", "daily").returncode == 1


def test_quarantine_and_logs(shell: Shell) -> None:
    bad = '{"at": "2026-01-01 00:00:00", "tenant": "q", "amount": "x"}\n' * 2
    assert shell("datasource", "append", "sales", "-", input=bad.encode()).returncode == 1
    assert "sales" in shell.ok("quarantine", "ls")
    said = shell.ok("quarantine", "show", "sales", "--samples", "1")
    assert "2 rows in sales_quarantine" in said and "value ... on column 'amount' is not" in said and "tenant=q" in said
    done = shell("quarantine", "replay", "sales")
    assert done.returncode == 0 and "0 rows replayed into sales" in done.stdout and "2 rows stay" in done.stderr
    shell.ok("datasource", "truncate", "sales_quarantine", "--yes")
    assert "No row is in quarantine" in shell("quarantine", "ls").stderr
    wait_for(lambda: "job_type=replay_quarantine status=done" in shell.ok("logs", "--source", "jobs_log"))
    row = json.loads(shell.ok("logs", "--source", "*", "--limit", "1", "--format", "json"))
    assert row["source"] in ("pipe_stats_rt", "datasources_ops_log", "jobs_log", "endpoint_errors")
    assert shell("logs", "--source", "nope").returncode == 1 and shell("logs", "--since", "soon").returncode == 1
