"""The tests of a project as its files have them: read, placed, and told where they cannot be run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipit.testing.cases import Case, Classic, ClassicCommand, Quality, Skipped, read_tests


def project(folder: Path, **files: str) -> Path:
    (folder / "tests").mkdir()
    for name, text in files.items():
        (folder / "tests" / name.replace("__", ".")).write_text(text)
    return folder


def test_a_case_with_everything_and_one_with_little(tmp_path: Path) -> None:
    text = (
        '\n- name: all\n  description: d\n  parameters: a=1&b=x%20y\n  expected_result: |\n    {"a":1}\n    {"a":2}\n'
        "- name: bad\n  parameters: ''\n  expected_result: 'no such thing'\n  expected_http_status: 400\n"
        "- name: none\n  expected_result: ''\n"
    )
    cases = read_tests(project(tmp_path, top__yaml=text))
    assert [(c.name, c.line, c.parameters, c.expected, c.status) for c in cases if isinstance(c, Case)] == [
        ("all", 2, "a=1&b=x%20y", '{"a":1}\n{"a":2}\n', 200),
        ("bad", 8, "", "no such thing", 400),
        ("none", 12, "", "", 200),
    ]
    assert {c.pipe for c in cases if isinstance(c, Case)} == {"top"}


def test_a_quality_test_of_a_classic_project(tmp_path: Path) -> None:
    text = "- no-debts:\n    max_bytes_read: 1000\n    max_time: null\n    sql: SELECT * FROM t WHERE a < 0\n    pipe:\n      name: t\n      params: {day: 2024-01-01, n: 5}\n"
    (found,) = read_tests(project(tmp_path, default__yaml=text))
    assert found == Quality(
        "tests/default.yaml", 1, "no-debts", "SELECT * FROM t WHERE a < 0", "t", {"day": "2024-01-01", "n": "5"}, 1000
    )


def test_command_lines_of_a_classic_project(tmp_path: Path) -> None:
    lines = '# hits\ntb --semver $V pipe data kpis --from 2024-01-01 \\\n  --to=2024-01-02 --format CSV\ntb sql "select 1"\n'
    (found,) = read_tests(project(tmp_path, kpis__test=lines, kpis__test__result="x\n"))
    assert isinstance(found, Classic)
    assert found.expected == "x\n"
    assert found.commands == (
        ClassicCommand(pipe="kpis", params={"from": "2024-01-01", "to": "2024-01-02"}, format="csv"),
        ClassicCommand(sql="select 1"),
    )


@pytest.mark.parametrize(
    ("file", "text", "line", "reason"),
    [
        ("a__yaml", "name: x\n", 1, "a list"),
        ("a__yaml", "- name: [\n", 2, "no YAML"),
        ("a__yaml", "- name: x\n  expected_result: {a: 1}\n", 1, "no text"),
        ("a__yaml", "- name: ok\n- pipe: '.*'\n  tests: [{coverage: }]\n", 2, "two releases"),
        ("a__yaml", "- expected_result: x\n", 1, "no `name`"),
        ("a__yaml", "- name: x\n  expected_http_status: many\n", 1, "no number"),
        ("a__yaml", "- 5\n", 1, "a mapping"),
        ("a__test", "tb pipe data x\n", 1, "a.test.result"),
    ],
)
def test_what_cannot_be_run_is_told_with_its_place(
    tmp_path: Path, file: str, text: str, line: int, reason: str
) -> None:
    skipped = [t for t in read_tests(project(tmp_path, **{file: text})) if isinstance(t, Skipped)]
    assert len(skipped) == 1
    assert skipped[0].line == line
    assert reason in skipped[0].reason


@pytest.mark.parametrize(
    "command", ["rm -rf /", "tb push x.pipe", "tb pipe data", "tb pipe data x --a", "tb sql", "tb 'x"]
)
def test_no_other_command_is_run(tmp_path: Path, command: str) -> None:
    (found,) = read_tests(project(tmp_path, a__test=command + "\n", a__test__result=""))
    assert isinstance(found, Skipped)
    assert command in found.reason


def test_a_project_without_tests(tmp_path: Path) -> None:
    assert read_tests(tmp_path) == []


def test_a_test_that_cannot_be_read_is_broken_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    for name, text in {"a": '- name: "', "b": "name: x", "c": "- expected_result: x"}.items():
        (tmp_path / "tests" / f"{name}.yaml").write_text(text)
    assert [isinstance(test, Skipped) and test.broken for test in read_tests(tmp_path)] == [True] * 3
