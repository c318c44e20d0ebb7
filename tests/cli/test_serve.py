"""The life of a server: what starts it, what refuses to, what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from pipit.cli.serve import _is_project_here

from .conftest import EVENTS, PROJECT, TOTALS, Shell, write

BROKEN = TOTALS.replace("FROM sales", "FROM sails")


def test_watch_deploys_on_save_and_survives_errors(shell: Shell) -> None:
    write(shell.folder, PROJECT)
    pipe = shell.folder / "pipes" / "totals.pipe"
    with shell.serving("--watch") as served:
        pipe.write_text(BROKEN)
        served.wait_for_output("Not deployed; what was live stays live.")
        assert "pipes/totals.pipe:" in served.output.read_text()
        assert shell("query", "totals").returncode == 0
        write(shell.folder, {"more/pipes/one.pipe": "NODE endpoint\nSQL >\n    SELECT 1 AS one\n\nTYPE endpoint\n"})
        pipe.write_text(TOTALS)
        served.wait_for(lambda: shell("query", "one").returncode == 0)
        assert served.stop(signal.SIGINT) == 0
        assert not served.file.exists()


def test_one_server_for_a_data_directory_and_one_for_a_port(shell: Shell, tmp_path: Path) -> None:
    write(shell.folder, PROJECT)
    with shell.serving() as served:
        port = served.url.rpartition(":")[2]
        second = shell("serve", "--port", "0")
        assert second.returncode == 3
        assert f"is in use by the server at {served.url} (process {served.process.pid})" in second.stderr
        assert "--data" in second.stderr
        taken = shell("serve", "--port", port, "--data", str(tmp_path / "other"))
        assert taken.returncode == 3
        assert f"Port {port} is taken" in taken.stderr and "--port" in taken.stderr
        assert shell("query", "totals").returncode == 0  # the first one has not noticed

        # Killed: its file stays, and is not believed. A command is its own server then.
        served.stop(signal.SIGKILL)
        assert served.file.exists()
        assert shell.ok("sql", "SELECT count() AS n FROM sales", "-f", "ndjson") == '{"n":0}\n'
        assert not served.file.exists()


def test_a_file_that_names_another_process_is_not_believed(shell: Shell) -> None:
    write(shell.folder, PROJECT)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        stale = {"url": f"http://127.0.0.1:{port}", "host": "127.0.0.1", "port": port, "pid": os.getpid()}
        write(shell.folder, {".pipit/server.json": json.dumps(stale)})
        done = shell("deploy")
        assert done.returncode == 0, done.stderr
        assert "Deployment 1 is live: 1 data source and 1 pipe" in done.stderr


def test_errors_at_the_start(shell: Shell) -> None:
    write(shell.folder, PROJECT | {"pipes/totals.pipe": BROKEN})
    done = shell("serve", "--port", "0")
    assert done.returncode == 1
    assert "pipes/totals.pipe:" in done.stderr and "sails" in done.stderr
    assert "Nothing is deployed yet" in done.stderr
    write(shell.folder, PROJECT)
    shell.ok("deploy")
    write(shell.folder, {"pipes/totals.pipe": BROKEN})
    with shell.serving() as served:
        assert "Serving deployment 1 as it was." in served.output.read_text()
        assert shell("query", "totals").returncode == 0


def test_a_project_further_down_has_to_be_named(shell: Shell) -> None:
    """It may be anybody's."""
    write(shell.folder, {f"theirs/shop/{file}": text for file, text in PROJECT.items()})
    done = shell("serve", "--port", "0")
    said = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == 2 and "the current folder is no project" in said and "--project theirs" in said
    assert not (shell.folder / ".pipit").exists()
    with shell.serving("--project", "theirs/shop", "--data", ".pipit") as served:
        assert f"Project: {shell.folder.resolve() / 'theirs' / 'shop'}" in served.output.read_text()
        assert shell("query", "totals").returncode == 0


def test_the_whole_disk_is_no_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert not _is_project_here()


def test_no_server_answers(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
    done = shell("sql", "SELECT 1", "--host", f"http://127.0.0.1:{free}", "--token", "p." + "x" * 40)
    assert done.returncode == 3
    assert f"No server answers at http://127.0.0.1:{free}" in done.stderr
    usage = shell("sql", "SELECT 1", "--host", "example.com", "--token", "x")
    assert usage.returncode == 1 and "not an http or https URL" in usage.stderr


def test_more_workers_are_refused(shell: Shell) -> None:
    done = shell("serve", "--workers", "2")
    assert done.returncode == 2
    assert "one API process per data directory" in " ".join(done.stderr.replace("│", " ").split())


def test_a_restart_of_an_unchanged_project_deploys_nothing(shell: Shell) -> None:
    write(
        shell.folder,
        {
            "datasources/sales.datasource": "TOKEN zeta APPEND\nTOKEN alpha READ\n\n" + EVENTS,
            "pipes/totals.pipe": "TOKEN mid READ\nTOKEN alpha READ\n\n" + TOTALS,
        },
    )
    with shell.serving() as served:
        assert served.stop() == 0
    assert "Deployment 1 is live" in served.output.read_text()
    with shell.serving() as served:
        assert "Nothing to change" in shell("plan").stderr
        assert served.stop() == 0
    assert "Deployment 2" not in served.output.read_text()
