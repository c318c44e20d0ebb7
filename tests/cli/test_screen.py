"""What stands on the screen: help, tables as wide as it is, and the answer to a command that is not there."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from pipit.cli import app, output
from pipit.cli.commands import suggestion


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in (getattr(command, "commands", None) or {}).items():
        yield from commands(inner, (*path, name))


ALL = {" ".join(path): path for path in commands(typer.main.get_command(app))}


@pytest.mark.parametrize("name", ALL)
def test_help_shows_a_flag_as_a_flag(name: str) -> None:
    done = CliRunner().invoke(app, [*ALL[name], "--help"], env={"COLUMNS": "140"})
    assert done.exit_code == 0
    assert not [line for line in done.stdout.splitlines() if "<bool>" in line or "<int" in line]
    assert "--help" in done.stdout


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("open", ""),
        ("create", "pipit init"),
        ("new", "pipit init"),
        ("deplyo", "pipit deploy"),
        ("Deploy", "pipit deploy"),
        ("push", "pipit deploy"),
        ("start", "pipit serve"),
        ("server", "pipit serve"),
        ("tokens", "pipit token"),
        ("chek", "pipit check"),
        ("zzz", ""),
        ("login", ""),
        ("secret add", "pipit secret set"),
        ("secret list", "pipit secret ls"),
        ("secret remove", "pipit secret rm"),
        ("token create jwts", "pipit token create jwt"),
        ("token create open", ""),
    ],
)
def test_a_command_that_is_not_there_is_answered_with_the_one_that_is_meant(said: str, meant: str) -> None:
    done = CliRunner().invoke(app, said.split(), env={"COLUMNS": "140"})
    assert done.exit_code == 2
    text = " ".join(done.output.replace("│", " ").split())
    assert f"There is no command 'pipit {said}'." in text.replace("root", "pipit"), text
    assert ("Did you mean" in text) is bool(meant)
    assert not meant or f"Did you mean '{meant}'?" in text.replace("root", "pipit")


def test_no_command_is_suggested_for_itself_or_by_chance() -> None:
    known = {path[0] for path in ALL.values() if path}
    for word in ("open", "token2x", "a", "", "se", "x" * 1000, "--", "querying a pipe"):
        assert suggestion(word, known) in ("", "token")
    assert {name: suggestion(name[:-1], known) for name in known if len(name) > 4} == {n: n for n in known if len(n) > 4}


def shown(table: Table, width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    sink = io.StringIO()
    monkeypatch.setattr(
        output, "out", Console(file=sink, width=width, force_terminal=True, color_system=None, soft_wrap=True)
    )
    output.show_table(table)
    return [line.rstrip() for line in sink.getvalue().splitlines()]


def table(columns: int, cell: str = "value") -> Table:
    made = Table(*(f"column_{n}" for n in range(columns)))
    for _ in range(2):
        made.add_row(*(f"{cell}{n}" for n in range(columns)))
    return made


@pytest.mark.parametrize("width", [20, 40, 80, 160])
@pytest.mark.parametrize("columns", [1, 3, 12, 60])
@pytest.mark.parametrize("cell", ["v", "a_long_value_without_any_space_" * 3])
def test_a_table_is_as_wide_as_the_screen_and_leaves_nothing_out(
    width: int, columns: int, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown(table(columns, cell), width, monkeypatch)
    listed = lines[0].startswith("row 1")
    if not listed:
        assert max(map(len, lines)) <= width
        folded = "".join("".join(lines).split())
        assert folded.count("column_") >= columns or width < 40
    else:
        assert [line.split() for line in lines if line.startswith("  ")] == [
            [f"column_{n}", f"{cell}{n}"] for n in range(columns)
        ] * 2
    assert not any("…" in line for line in lines)


def test_into_a_file_a_table_is_whole_unless_columns_says_how_wide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    output.show_table(table(60))
    whole = capsys.readouterr().out.splitlines()
    assert len(whole) == 4 and "column_59" in whole[0]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(output, "out", Console(width=80))
    output.show_table(table(60))
    assert capsys.readouterr().out.startswith("row 1\n")


def test_what_is_to_be_copied_is_never_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    token = "p." + "x" * 90
    for width in (40, 80, 120):
        made = Table("Name", "Scopes")
        made.add_column("Token", no_wrap=True)
        made.add_row("a", "PIPES:READ:something_long, PIPES:READ:something_else, PIPES:READ:more", token)
        assert any(token in line for line in shown(made, width, monkeypatch))
