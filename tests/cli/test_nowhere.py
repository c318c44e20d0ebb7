"""Commands in the wrong folder: they say that there is nothing to talk to, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pipit.cli import app
from pipit.datafiles.layout import holds_project, project_roots
from pipit.errors import PipitError, Unavailable

from .conftest import PROJECT, Shell, write

# `init` and `serve` make what is not there: that is what they are for.
MAKE = {"init", "serve"}
VALUES = {"--ttl": "1h", "--pipe": "p", "--scope": "ADMIN", "--now": "2024-01-01", "--jwks": "https://x.example/jwks"}


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All of them, with the words that call them."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
    for name in inner or ():
        yield from commands(inner[name], (*path, name))


ALL = {" ".join(path): (path, command) for path, command in commands(typer.main.get_command(app)) if path[0] not in MAKE}


def arguments(command: Any, folder: Path) -> list[str]:
    """What a command needs at least."""
    found: list[str] = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            if parameter.required:
                found.append(str(folder / "given.ndjson") if parameter.name == "file" else "x")
        elif parameter.required or "--pipe" in parameter.opts:
            given = str(folder / "given.ndjson") if parameter.opts[0] == "--file" else "x"
            found += [parameter.opts[0], VALUES.get(parameter.opts[0], given)]
        if "--yes" in parameter.opts:
            found.append("--yes")
    return found


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("where", ["here", "--data", "PIPIT_DATA", "a folder of something else"])
def test_no_command_makes_a_data_directory_where_there_is_no_project(
    name: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, command = ALL[name]
    for variable in ("PIPIT_DATA", "PIPIT_HOST", "PIPIT_TOKEN", "PIPIT_ADMIN_TOKEN", "PIPIT_CLICKHOUSE_URL"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "given.ndjson").write_text('{"a": 1}\n')
    folder = tmp_path / "somewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    before: list[str] = []
    if where == "--data":
        before = ["--data", str(tmp_path / "mistyped")]
    elif where == "PIPIT_DATA":
        monkeypatch.setenv("PIPIT_DATA", str(tmp_path / "mistyped"))
    elif where == "a folder of something else":
        (folder / ".pipit").mkdir()
        (folder / ".pipit" / "notes.txt").write_text("mine")
    there = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(app, [*before, *path, *arguments(command, tmp_path)], input="y\n")
    assert done.exit_code != 0
    assert sorted(tmp_path.rglob("*")) == there
    error = done.exception
    assert isinstance(error, PipitError) and error.hint, (done.output, error)
    asks_a_server = any("--host" in parameter.opts for parameter in command.params)
    if asks_a_server and not any(parameter.name == "folder" for parameter in command.params):
        assert isinstance(error, Unavailable) and "There is no server to ask" in error.message, error
        assert "--host" in error.hint and "pipit init" in error.hint
    else:
        assert not isinstance(error, Unavailable), error


def test_where_there_is_a_project_a_command_may_come_before_the_first_start(shell: Shell) -> None:
    """A secret that a project needs to deploy is set before it does."""
    refused = shell("secret", "set", "word", "x")
    assert refused.returncode == 3 and not (shell.folder / ".pipit").exists()
    write(shell.folder, PROJECT)
    assert shell("secret", "set", "word", "x").returncode == 0
    for file in PROJECT:
        (shell.folder / file).unlink()
    assert shell.ok("secret", "ls").split() == ["word"]  # the data is there


def test_several_projects_taken_for_one_are_told_as_that(shell: Shell) -> None:
    for shop in "abcdefghijklmn":
        write(shell.folder, {f"shops/{shop}/{file}": text for file, text in PROJECT.items()})
    for command in (["check"], ["deploy"], ["plan"]):
        done = shell(*command)
        said = done.stdout + done.stderr
        assert done.returncode == 1, said
        assert "was taken for one project, and has the files of 14: shops/a, shops/b, " in said
        assert "Name the folder of one, such as shops/a" in said and "of which the first 10 are shown" in said
        assert said.count(" error: ") <= 10, said
    assert not (shell.folder / ".pipit").exists()
    assert shell("check", "shops/b").returncode == 0


def test_teams_that_sort_one_project_into_folders_still_have_one(shell: Shell) -> None:
    write(shell.folder, {f"sales/{file}": text for file, text in PROJECT.items()})
    write(shell.folder, {"costs/pipes/whole.pipe": "NODE n\nSQL >\n    SELECT count() AS n FROM sales\n\nTYPE endpoint\n"})
    assert shell.ok("check").endswith("2 endpoints: valid\n")


def test_a_folder_of_everything_is_not_searched_to_its_end(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipit.datafiles.layout.MAX_FOLDERS", 20)
    for number in range(30):
        (shell.folder / f"f{number}").mkdir()
    write(shell.folder, {"z/pipes/a.pipe": "NODE n\nSQL >\n    SELECT 1 AS n\n\nTYPE endpoint\n"})
    done = CliRunner().invoke(app, ["check", str(shell.folder)])
    assert "more than 20 folders below this one: it is no project" in str(done.exception)
    assert not holds_project(shell.folder)


@pytest.mark.parametrize(
    ("files", "roots"),
    [
        (["pipes/a.pipe", "datasources/b.datasource"], ["."]),
        (["a.pipe", "more/b.pipe"], ["."]),
        (["shop/pipes/a.pipe", "shop/queries/b.pipe"], ["shop"]),
        (["pipes/sales/pipes/a.pipe", "shop/pipes/b.pipe"], ["."]),
        (["tables/a.datasource", "queries/b.pipe"], []),
        (["x/shop/pipes/a.pipe", "y/endpoints/b.pipe"], ["x/shop", "y"]),
        (["vendor/other/a.datasource"], ["."]),
    ],
)
def test_which_folders_are_projects(files: list[str], roots: list[str]) -> None:
    assert project_roots(files) == roots
