"""`--update`: what came becomes what is expected. Only values of failed cases change in a file, nothing else in it.

A case with a key that means nothing stays as it is: it may be `as`, misspelt, and what came is then another's answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from pipit.testing.cases import Case
from pipit.testing.run import CaseOutcome, CaseResult

_PLAIN_LINE = re.compile(
    r"[^\s\x00-\x1f\x7f-\x9f\ufeff\u2028\u2029\ufffe\uffff][^\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\u2028\u2029\ufffe\uffff]*"
)


def update(project: Path, results: Iterable[CaseResult]) -> list[Case]:
    """Writes the answers of failed cases into their files; the cases that were changed."""
    by_file: dict[str, list[tuple[Case, CaseResult]]] = {}
    for result in results:
        test = result.test
        if not isinstance(test, Case) or test.value is None or test.warnings:
            continue
        if result.outcome is CaseOutcome.FAILED:
            by_file.setdefault(test.file, []).append((test, result))
    changed: list[Case] = []
    for file, cases in by_file.items():
        path = project / file
        text = path.read_text(encoding="utf-8")
        line_end = "\r\n" if b"\r\n" in path.read_bytes() else "\n"
        for case, result in sorted(cases, key=lambda one: one[0].value or (0, 0), reverse=True):
            if case.value and text[case.value[0] : case.value[0] + 1] in ("&", "!"):
                continue  # an anchor or a tag that other cases may need
            text = _with_answer(text, case, result)
            changed.append(case)
        path.write_text(text, encoding="utf-8", newline=line_end)
    return sorted(changed, key=lambda case: (case.file, case.line))


def _with_answer(text: str, case: Case, result: CaseResult) -> str:
    assert case.value is not None
    start, end = case.value
    line_start = text.rfind("\n", 0, start) + 1
    indent = " " * (len(text[line_start:start]) - len(text[line_start:start].lstrip(" -")))
    value = (" " if text[start - 1] == ":" else "") + _scalar(result.answer, indent)
    after = text[end:]
    if text[start:end].endswith("\n"):
        after = "\n" + after
    if result.status != case.status:
        after = _with_status(after, case, result.status, indent)
    return text[:start] + value + after


def _with_status(after: str, case: Case, status: int, indent: str) -> str:
    """The rest of the file with the case's own status, which stands behind the answer or is added there."""
    found = re.match(
        rf"(?P<between>(?:\n{indent}(?!- ).*|\n\s*(?=\n))*?\n{indent}expected_http_status:[ \t]*)\d+", after
    )
    if found:
        return found["between"] + str(status) + after[found.end() :]
    return f"\n{indent}expected_http_status: {status}{after}"


def _scalar(answer: str, indent: str) -> str:
    """A block of lines where the text allows it, else a quoted scalar: what YAML reads back is the answer itself."""
    lines = answer.rstrip("\n").split("\n")
    if answer.strip("\n") and answer.endswith("\n") and all(_PLAIN_LINE.fullmatch(line) for line in lines):
        return "|\n" + "\n".join(f"{indent}  {line}" for line in lines)
    plain = _PLAIN_LINE.fullmatch(answer) is not None
    dumped = yaml.safe_dump(answer, width=10**9, allow_unicode=plain, default_style=None if plain else '"')
    return str(dumped).removesuffix("...\n").rstrip("\n")
