"""`--update` writes answers into files, and nothing else changes in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import examples
from pipit.testing.cases import Case, read_tests
from pipit.testing.run import CaseOutcome, CaseResult
from pipit.testing.update import update

TEXT = """# what is shown first
- name: first  # a remark
  description: d
  parameters: a=1
  expected_result: |
    {"a":1}
  expected_http_status: 200

- name: second
  expected_result: 'x'
  parameters: b=2
# the end
"""


def written(folder: Path, text: str) -> list[Case]:
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "tests" / "p.yaml").write_text(text)
    return [test for test in read_tests(folder) if isinstance(test, Case)]


def failed(case: Case, answer: str, status: int = 200) -> CaseResult:
    return CaseResult(case, CaseOutcome.FAILED, answer=answer, status=status)


def test_only_the_answers_change(tmp_path: Path) -> None:
    first, second = written(tmp_path, TEXT)
    changed = update(tmp_path, [failed(second, "no such thing", 404), failed(first, '{"a":2}\n{"a":3}\n')])
    assert changed == [first, second]
    assert (tmp_path / "tests" / "p.yaml").read_text() == TEXT.replace(
        '    {"a":1}\n', '    {"a":2}\n    {"a":3}\n'
    ).replace("'x'\n", "no such thing\n  expected_http_status: 404\n")


def test_a_status_that_is_there_is_changed(tmp_path: Path) -> None:
    first, _ = written(tmp_path, TEXT)
    update(tmp_path, [failed(first, "wrong", 400)])
    again = written(tmp_path, (tmp_path / "tests" / "p.yaml").read_text())[0]
    assert (again.expected, again.status) == ("wrong", 400)


def test_what_passed_is_left_alone(tmp_path: Path) -> None:
    first, second = written(tmp_path, TEXT)
    assert update(tmp_path, [CaseResult(first, CaseOutcome.PASSED, answer="z"), CaseResult(second, CaseOutcome.SKIPPED)]) == []
    assert (tmp_path / "tests" / "p.yaml").read_text() == TEXT


@settings(max_examples=examples(150))
@given(
    st.text(st.characters(codec="utf-8"), max_size=60),
    st.booleans(),
    st.sampled_from(["|\n    old\n", "'old'\n", "old\n", '"o\\nld"\n']),
)
def test_any_answer_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, answer: str, lines: bool, before: str
) -> None:
    folder = tmp_path_factory.mktemp("update")
    answer = answer + "\n" if lines else answer
    text = f"- name: a\n  expected_result: {before}- name: b\n  expected_result: other\n"
    case, other = written(folder, text)
    update(folder, [failed(case, answer)])
    again = yaml.safe_load((folder / "tests" / "p.yaml").read_bytes())
    assert again[0]["expected_result"].rstrip("\n") == answer.rstrip("\n")
    assert again[1] == {"name": "b", "expected_result": other.expected}


def test_line_ends_stay(tmp_path: Path) -> None:
    first, second = written(tmp_path, TEXT)
    path = tmp_path / "tests" / "p.yaml"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    update(tmp_path, [failed(first, '{"a":2}\n'), failed(second, "y")])
    assert path.read_bytes() == TEXT.replace('{"a":1}', '{"a":2}').replace("'x'", "y").replace("\n", "\r\n").encode()


def test_a_shared_answer_is_not_written_over(tmp_path: Path) -> None:
    text = "- name: a\n  expected_result: &one |\n    1\n- name: b\n  expected_result: *one\n- {name: c, expected_result: x}\n"
    cases = written(tmp_path, text)
    assert update(tmp_path, [failed(case, "2\n") for case in cases]) == []
    assert (tmp_path / "tests" / "p.yaml").read_text() == text


def test_an_empty_answer_is_filled(tmp_path: Path) -> None:
    (case,) = written(tmp_path, "- name: a\n  expected_result:\n  parameters: x=1\n")
    update(tmp_path, [failed(case, "1\n2\n")])
    (again,) = written(tmp_path, (tmp_path / "tests" / "p.yaml").read_text())
    assert (again.expected.strip("\n"), again.parameters) == ("1\n2", "x=1")
