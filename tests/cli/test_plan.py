"""`pipit plan --base`: a pull request's files against those of a revision, without a server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from cli.conftest import Shell, write
from deploy.changes import DAILY, EVENTS, TO_DAILY

FILES = {
    "shop/datasources/events.datasource": EVENTS,
    "shop/datasources/daily.datasource": DAILY,
    "shop/materializations/to_daily.pipe": TO_DAILY,
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """The project stands in a folder of a repository, at two revisions: `main`, and what is not committed."""
    folder = tmp_path_factory.mktemp("repository")
    write(folder, FILES)

    def git(*arguments: str) -> None:
        named = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        subprocess.run(["git", *named, *arguments], cwd=folder, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    return Shell(folder / "shop")


def events(shell: Shell, text: str) -> None:
    (Path(shell.folder) / "datasources" / "events.datasource").write_text(text)


def test_what_changes_against_a_revision(repository: Shell) -> None:
    events(repository, EVENTS.replace("90 YEAR", "80 YEAR").replace("DEFAULT 'none'", "DEFAULT 'nothing'"))
    done = repository("plan", "--base", "main")
    assert done.returncode == 0, done.stderr
    assert "DEFAULT 'nothing'" in done.stderr and "TTL at + INTERVAL 80 YEAR" in done.stderr
    assert "1 row" not in done.stderr
    assert not (Path(repository.folder) / ".pipit").exists()
    events(repository, EVENTS)
    same = repository("plan", "--base", "main")
    assert same.returncode == 0 and "Nothing changes against main" in same.stderr


def test_what_a_deploy_would_refuse(repository: Shell) -> None:
    """As JSON: what needs a rebuilt table, with file and line, and a removed column."""
    changed = EVENTS.replace("    `kind` LowCardinality(String) `json:$.kind` DEFAULT 'none',\n", "")
    changed = changed.split("ROW_POLICY")[0] + "ROW_POLICY customer_id = {{String(context.customer_id)}}\n"
    events(repository, changed)
    done = repository("plan", "--base", "HEAD", "--format", "json")
    found = json.loads(done.stdout)
    assert done.returncode == 1 and not found["possible"]
    (refusal,) = found["refusals"]
    assert (refusal["reason"], refusal["subject"]) == ("deletes_column", "events")
    allowed = repository("plan", "--base", "HEAD", "--format", "json", "--allow-destructive-operations")
    assert allowed.returncode == 0, allowed.stdout
    operations = json.loads(allowed.stdout)["operations"]
    assert {"operation": "hide_column", "resource": "events", "column": "kind"}.items() <= operations[0].items()
    assert "rows" not in operations[0]
    events(repository, EVENTS.replace("`at` DateTime", "`at` Date"))
    done = repository("plan", "--base", "HEAD", "--format", "json")
    rebuilt = [one["resource"] for one in json.loads(done.stdout)["operations"] if one["operation"] == "rebuild"]
    assert rebuilt[0] == "events"
    events(repository, EVENTS)


def test_a_folder_is_a_base_too(repository: Shell, tmp_path: Path) -> None:
    write(tmp_path, {"datasources/other.datasource": DAILY})
    done = repository("plan", "--base", str(tmp_path), "--allow-destructive-operations")
    assert done.returncode == 0, done.stderr
    assert "- other" in done.stderr and "+ events" in done.stderr


@pytest.mark.parametrize("revision", ["nowhere", "--output=/tmp/x"])
def test_no_such_revision(repository: Shell, revision: str) -> None:
    done = repository("plan", f"--base={revision}")
    assert done.returncode == 1
    assert "There are no files of" in done.stderr and "--base takes a revision" in done.stderr
