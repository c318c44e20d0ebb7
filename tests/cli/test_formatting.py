"""`pipit fmt`: in place, all files even where one is bad, and told by its exit code."""

from __future__ import annotations

from .conftest import PROJECT, Shell, write

MESSY = "node  n\nsql>\n  SELECT 1  \ntype endpoint\n"
NEAT = "NODE n\nSQL >\n    SELECT 1\n\nTYPE endpoint\n"


def test_formats_the_project_in_place(shell: Shell) -> None:
    write(shell.folder, {**PROJECT, "pipes/one.pipe": MESSY})
    path = shell.folder / "pipes/one.pipe"
    path.chmod(0o640)
    done = shell("fmt")
    assert (done.returncode, done.stdout) == (0, "pipes/one.pipe\n")
    assert done.stderr == "1 file formatted, 2 unchanged.\n"
    assert path.read_text() == NEAT and path.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in path.parent.iterdir()) == ["one.pipe", "totals.pipe"]
    assert shell.ok("fmt") == ""
    for name, text in PROJECT.items():
        assert (shell.folder / name).read_text() == text


def test_check_writes_nothing_and_lists(shell: Shell) -> None:
    write(shell.folder, {**PROJECT, "pipes/one.pipe": MESSY})
    done = shell("fmt", "--check", "pipes")
    assert (done.returncode, done.stdout) == (1, "pipes/one.pipe\n")
    assert "1 file would change" in done.stderr
    assert (shell.folder / "pipes/one.pipe").read_text() == MESSY
    assert shell("fmt", "--check", "pipes/totals.pipe").returncode == 0


def test_diff_shows_and_writes_nothing(shell: Shell) -> None:
    write(shell.folder, {"one.pipe": MESSY})
    shown = shell.ok("fmt", "--diff", "one.pipe")
    assert "-node  n\n" in shown and "+NODE n\n" in shown
    assert (shell.folder / "one.pipe").read_text() == MESSY
    assert shell("fmt", "--diff", "--check").returncode == 1


def test_a_file_that_cannot_be_read_is_left_and_the_others_are_formatted(shell: Shell) -> None:
    write(shell.folder, {"bad.pipe": "NODE n\nSQL SELECT 1\n", "one.pipe": MESSY})
    (shell.folder / "latin.pipe").write_bytes(b"NODE \xe9\n")
    done = shell("fmt", "bad.pipe", "latin.pipe", "one.pipe", "one.pipe")
    assert done.returncode == 1
    assert "bad.pipe:2:1: error: SQL must be multiline" in done.stderr
    assert "latin.pipe: error: The file is not UTF-8 text" in done.stderr
    assert (shell.folder / "bad.pipe").read_text() == "NODE n\nSQL SELECT 1\n"
    assert (shell.folder / "latin.pipe").read_bytes() == b"NODE \xe9\n"
    assert (shell.folder / "one.pipe").read_text() == NEAT


def test_files_that_others_include_are_left_as_they_are(shell: Shell) -> None:
    write(shell.folder, {"one.pipe": MESSY, "includes/more.incl": "engine  MergeTree\n"})
    assert shell.ok("fmt") == "one.pipe\n"
    assert (shell.folder / "includes/more.incl").read_text() == "engine  MergeTree\n"
    assert "is not a .datasource, .pipe or .connection file" in shell("fmt", "includes/more.incl").stderr


def test_wrong_usage(shell: Shell) -> None:
    write(shell.folder, {"notes.txt": "x", "empty/.keep": ""})
    assert shell("fmt", "notes.txt").returncode == 2
    assert shell("fmt", "nowhere").returncode == 2
    assert shell("fmt", "empty").returncode == 1
