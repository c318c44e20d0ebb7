"""`pipit init` and `pipit check`: no server, nothing left behind."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from pipit.cli import app

from .conftest import PROJECT, TOTALS, Shell, write


def test_init_makes_a_project_that_is_valid(shell: Shell) -> None:
    said = shell.ok("init", "shop")
    assert "pipit serve --watch" in said
    folder = shell.folder / "shop"
    assert ".pipit/" in (folder / ".gitignore").read_text().splitlines()
    done = shell("check", "shop")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(": valid\n") and "1 data source" in done.stdout
    assert not (folder / ".pipit").exists()


def test_init_writes_over_nothing(shell: Shell) -> None:
    shell.ok("init")
    before = {path: path.read_bytes() for path in shell.folder.rglob("*") if path.is_file()}
    done = shell("init")
    assert done.returncode == 1 and "nothing was written" in done.stderr
    assert {path: path.read_bytes() for path in shell.folder.rglob("*") if path.is_file()} == before
    assert shell("init", "--template", "nothing").returncode == 2


def test_check_prints_every_error_with_its_place(shell: Shell) -> None:
    write(
        shell.folder,
        {
            "datasources/sales.datasource": "SCHEMA >\n    `at` DateTime `json:$.at`,\n    `at` Int32 `json:$.x`\nENGIN MergeTree\n",
            "pipes/broken.pipe": "NODE endpoint\nSQL >\n    SELECT 1\n\nTYPE endpiont\n",
        },
    )
    done = shell("check")
    assert done.returncode == 1
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert any(line.startswith("datasources/sales.datasource:4:1: ") for line in lines), done.stdout
    assert any(line.startswith("pipes/broken.pipe:5:") for line in lines), done.stdout
    assert "ENGIN MergeTree" in done.stdout  # the excerpt
    assert "Traceback" not in done.stderr


def test_check_finds_an_error_of_a_template(shell: Shell) -> None:
    write(shell.folder, PROJECT | {"pipes/totals.pipe": TOTALS.replace("Int32(least, 0)", "Int32(least, 0")})
    done = shell("check")
    assert done.returncode == 1
    assert done.stdout.startswith("pipes/totals.pipe:6:"), done.stdout


def test_check_finds_what_only_the_engine_sees(shell: Shell) -> None:
    write(shell.folder, PROJECT)
    assert shell.ok("check") == "1 data source, 1 pipe, 1 endpoint: valid\n"
    write(shell.folder, {"pipes/totals.pipe": TOTALS.replace("sum(amount)", "sum(amonut)")})
    done = shell("check")
    assert done.returncode == 1
    (found,) = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert found.startswith("pipes/totals.pipe:4:24: ") and "amonut" in found
    assert "pipit_check" not in done.stdout and "d1_" not in done.stdout


def test_check_of_a_classic_project(shell: Shell) -> None:
    rollup = "NODE roll\nSQL >\n    SELECT count() AS n FROM sales\nTYPE materialized\nDATASOURCE counted\nENGINE MergeTree\n"
    write(shell.folder, PROJECT | {"pipes/rollup.pipe": rollup})
    write(shell.folder, {"pipes/more.pipe": "INCLUDE n.incl\n", "includes/n.incl": "NODE n\nSQL >\n    SELECT n FROM counted\n"})
    done = shell("check")
    assert done.returncode == 0, done.stdout
    assert "pipes/rollup.pipe:6:1: warning: 'counted' has no file" in done.stdout
    write(shell.folder, {"includes/n.incl": "NODE n\nSQL >\n    SELECT m FROM counted\n"})
    done = shell("check")
    assert done.returncode == 1
    assert "includes/n.incl:3:12: error: node 'n'" in done.stdout


def test_check_as_json_for_editors(shell: Shell) -> None:
    write(shell.folder, {f"shop/{name}": text for name, text in PROJECT.items()})
    found = json.loads(shell.ok("check", "shop", "--format", "json"))
    assert found == {"valid": True, "errors": [], "warnings": [], "datasources": 1, "pipes": 1, "endpoints": 1}
    broken = TOTALS.replace("sum(amount)", "sum(amonut)").replace("AND tenant =", "AND tenant LIKE")
    write(shell.folder, {"shop/pipes/totals.pipe": broken, "shop/pipes/bad.pipe": "TOKEN t APPEND\n" + TOTALS})
    done = shell("check", "shop", "--format", "json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert not found["valid"]
    assert [(e["severity"], e["path"], e["line"], e["column"], e["reason"]) for e in found["errors"]] == [
        ("error", "shop/pipes/bad.pipe", 1, 9, "directive_invalid"),
        ("error", "shop/pipes/totals.pipe", 4, 24, "statement_refused"),
    ]
    (warning,) = found["warnings"]
    assert (warning["severity"], warning["file"], warning["line"]) == ("warning", "pipes/totals.pipe", 7)
    assert "LIKE" in warning["message"] and warning["hint"]
    assert shell("check", "--format", "xml").returncode == 2


def test_check_needs_no_secret(shell: Shell) -> None:
    pipe = "NODE endpoint\nSQL >\n    %\n    SELECT {{tb_secret('region')}} AS region, "
    pipe += "toInt32({{tb_secret('number')}}) AS number, toDate({{tb_secret('day', '2026-01-01')}}) AS day\n\nTYPE endpoint\n"
    write(shell.folder, PROJECT | {"pipes/secret.pipe": pipe})
    done = shell("check")
    assert done.returncode == 0, done.stdout


def test_a_folder_without_a_project(shell: Shell) -> None:
    for command in ("check", "deploy", "plan"):
        done = shell(command)
        assert done.returncode == 1 and "holds no .datasource" in done.stderr
    assert shell("check", "missing").returncode == 1
    assert not (shell.folder / ".pipit").exists()


def test_help_of_every_command_has_examples_and_the_exit_codes_are_documented(shell: Shell) -> None:
    def help_of(*command: str) -> str:
        done = CliRunner().invoke(app, [*command, "--help"])
        assert done.exit_code == 0, done.output
        return done.output

    top = help_of()
    assert all(f"  {code}  " in top for code in range(4))
    for command in (
        "init", "check", "plan", "deploy", "serve", "query", "sql",
        "token create jwt", "token ls", "secret set", "secret ls", "secret rm", "datasource append",
    ):  # fmt: skip
        text = help_of(*command.split())
        assert "Examples" in text and f"pipit {command}" in text, command
    assert shell.ok("--version").startswith("pipit ")
    assert shell("nonsense").returncode == 2


def test_init_where_nothing_can_be_written_says_so(shell: Shell) -> None:
    (shell.folder / "file").touch()
    for folder in ("file", "file/below", "/proc/x"):
        done = shell("init", folder)
        assert done.returncode == 1, done.stderr
        assert folder in done.stderr and "fault of pipit" not in done.stderr


def test_names_that_are_not_deployed(shell: Shell) -> None:
    write(shell.folder, PROJECT | {"some.ndjson": '{"tenant":"a"}\n', "none.ndjson": ""})
    for file in ("some.ndjson", "none.ndjson"):
        done = shell("datasource", "append", "sales", file)
        assert done.returncode == 1 and '"sales" does not exist' in done.stderr, done.stderr + done.stdout
    done = shell("query", "totals")
    assert done.returncode == 1 and "'totals' does not exist" in done.stderr and "pipit deploy" in done.stderr
    assert "'q' is missing" in shell("sql", "").stderr


def test_a_clickhouse_server_that_is_not_there_is_named(shell: Shell) -> None:
    write(shell.folder, PROJECT)
    url = "http://somebody:the-password@127.0.0.1:1/"
    for command in (["serve", "--port", "0"], ["sql", "SELECT 1"]):
        done = shell(*command, PIPIT_CLICKHOUSE_URL=url)
        assert done.returncode == 3, done.stderr
        assert "127.0.0.1:1 cannot be used: it does not answer" in done.stderr
        assert "started again" not in done.stderr and "the-password" not in done.stderr
        assert len(done.stderr.splitlines()) < 5, done.stderr
    done = shell("sql", "SELECT 1", PIPIT_CLICKHOUSE_URL="http://localhost:port/")
    assert done.returncode == 3 and "must look like" in done.stderr


def test_update_shows_what_it_changes_and_fails_nothing_first(shell: Shell) -> None:
    shell.ok("init")
    (shell.folder / "tests" / "daily_usage.yaml").write_text(
        "- as: {customer_id: acme}\n- name: new\n  parameters: feature=exports\n  expected_result: ''\n"
        "- name: misspelt\n  ass: {customer_id: globex}\n  expected_result: ''\n"
    )
    done = shell("test", "--update", "--only", "daily_usage")
    assert "updated tests/daily_usage.yaml:2 daily_usage: new" in done.stdout
    assert "FAIL daily_usage: misspelt" in done.stdout and "daily_usage: new" not in done.stdout.partition("FAIL")[2]
    assert "`ass` is no key of a case and does nothing: is `as` meant?" in done.stdout
    assert done.returncode == 1  # whose rows they are is not known: the file keeps what it says
    written = (shell.folder / "tests" / "daily_usage.yaml").read_text()
    assert written.count('{"day":') > 1 and written.endswith("expected_result: ''\n")
