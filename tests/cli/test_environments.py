"""`pipit environment`, and docs/environments.md as it stands: its `sh` blocks, in an empty folder, on a free port."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pages import ROOT, blocks, run_blocks

from .conftest import PROJECT, Shell, write


def test_the_page_s_example(tmp_path: Path) -> None:
    answers = run_blocks(blocks(ROOT / "docs" / "environments.md", "sh"), tmp_path)
    assert "initech" in answers[1] and "live" in answers[1]
    acme, initech = answers[3].split('"feature","uses","users"')[1:]
    assert acme.strip() and initech.split() == ['"exports",1,1', '"reports",1,1']
    assert "1 environment got the same" in answers[4]
    assert answers[5].split()[-1] == "2"
    assert "is deleted" in answers[6]


def test_a_deploy_that_one_environment_cannot_follow(shell: Shell) -> None:
    folder = shell.folder
    write(folder, PROJECT)
    with shell.serving():
        shell.ok("deploy")
        for name in ("north", "south"):
            assert f"{name} is live, with deployment 1" in shell("environment", "add", name).stderr
        assert shell("environment", "add", "north").returncode == 1
        token = shell.ok(
            "token", "create", "static", "in", "--scope", "DATASOURCES:APPEND:sales", "--environment", "south"
        ).strip()
        write(folder, {"one.ndjson": json.dumps({"at": "2026-01-01 00:00:00", "tenant": "a", "amount": 1000}) + "\n"})
        shell.ok("datasource", "append", "sales", "one.ndjson", PIPIT_TOKEN=token)
        narrow = PROJECT["datasources/sales.datasource"].replace("Int32", "Int8")  # too narrow for what south has
        write(folder, {"datasources/sales.datasource": narrow})
        assert "would get the same" in shell("plan").stderr
        deployed = shell("deploy")
        assert deployed.returncode == 1
        assert "Deployment 2 is live" in deployed.stderr and "1 environment got the same" in deployed.stderr
        assert "south stays on deployment 1: datasources/sales.datasource:" in deployed.stderr
        listed = shell.ok("environment", "ls")
        assert re.search(r"north\s+live\s+2\s", listed) and re.search(r"south\s+behind\s+1\s", listed)
        # What is asked for must be said twice.
        refused = shell("environment", "rm", "south")
        assert refused.returncode == 1 and "--yes" in refused.stderr
        shell.ok("environment", "rm", "south", "--yes")
        assert "south" not in shell.ok("environment", "ls")
        assert shell("deploy").returncode == 0
