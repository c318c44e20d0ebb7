"""`pipit audit` as it is called: texts, JSON, certificate, exit codes; nothing stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from projects import EVENTS

GUARDED = """
NODE endpoint
SQL >
    %
    SELECT amount FROM events
    WHERE 1 {% if defined(customer_id) %} AND customer_id = {{String(customer_id)}} {% end %}
TYPE endpoint
"""
CONFINED = """
NODE endpoint
SQL >
    %
    SELECT amount FROM events WHERE customer_id = {{String(customer_id)}}
TYPE endpoint
"""
OPEN = EVENTS[: EVENTS.index("ROW_POLICY >")]


def pipit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "pipit"), "audit", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "200", "TMPDIR": str(folder)},
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name, text in (("datasources/events.datasource", OPEN), ("endpoints/latest.pipe", CONFINED)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_certificate_is_written_and_held_against_the_project(project: Path) -> None:
    written = pipit(project, "--fixed", "customer_id", "--certificate", "pipit.audit.json")
    assert written.returncode == 0, written.stdout + written.stderr
    assert "latest" in written.stdout and "parameter: customer_id" in written.stdout
    assert "* chooses" not in written.stdout  # no mark, no legend
    text = (project / "pipit.audit.json").read_text()
    assert str(project) not in text and "pipitcheck" not in text

    (project / "endpoints" / "latest.pipe").write_text(GUARDED)
    weaker = pipit(project, "--check", "pipit.audit.json", "--format", "json")
    assert weaker.returncode == 1, weaker.stderr
    found = json.loads(weaker.stdout)
    assert [one["message"] for one in found["weaker"]] == [
        "The endpoint 'latest' no longer confines 'events' by customer_id"
    ]
    assert found["weaker"][0]["file"] == "endpoints/latest.pipe"
    assert [one["code"] for one in found["findings"]] == ["guarded_filter"]
    assert found["endpoints"][0]["verdict"] == "can be switched off"
    assert sorted(os.listdir(project)) == ["datasources", "endpoints", "pipit.audit.json"]


def test_errors_are_the_exit_code(project: Path) -> None:
    (project / "endpoints" / "latest.pipe").write_text(GUARDED)
    found = pipit(project, "--fixed", "customer_id")
    assert found.returncode == 1
    assert "endpoints/latest.pipe:6:13: error: " in found.stdout
    assert "customer_id*" in found.stdout and "\n* chooses between texts of the query" in found.stdout
    assert "[guarded_filter]" in found.stdout


def test_a_certificate_that_cannot_be_read_is_said(project: Path) -> None:
    missing = pipit(project, "--check", "nothing.json")
    assert missing.returncode == 1 and "nothing.json cannot be read" in missing.stderr
