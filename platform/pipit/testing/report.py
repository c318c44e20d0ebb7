"""What was found, as JUnit XML for a CI, and as lines for a person."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from pipit.testing.run import CaseOutcome, CaseResult, RunReport

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_junit(report: RunReport) -> str:
    """One suite for each file of tests. What does not run is `skipped`, with its reason."""
    root = ElementTree.Element("testsuites", name="pipit test", time=f"{report.seconds:.3f}")
    for file in dict.fromkeys(result.test.file for result in report.results):
        results = [result for result in report.results if result.test.file == file]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=file,
            tests=str(len(results)),
            failures=str(sum(r.outcome is CaseOutcome.FAILED for r in results)),
            skipped=str(sum(r.outcome is CaseOutcome.SKIPPED for r in results)),
            errors="0",
            time=f"{sum(r.seconds for r in results):.3f}",
        )
        for result in results:
            _add(suite, result)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _add(suite: ElementTree.Element, result: CaseResult) -> None:
    test = result.test
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=test.file.removeprefix("tests/").rpartition(".")[0],
        name=_xml(test.id),
        file=test.file,
        line=str(test.line),
        time=f"{result.seconds:.3f}",
    )
    if result.outcome is CaseOutcome.FAILED:
        shown = result.note or "the answer is another one"
        failure = ElementTree.SubElement(case, "failure", message=_xml(shown))
        failure.text = _xml("\n".join(part for part in (result.note, result.difference) if part))
    elif result.outcome is CaseOutcome.SKIPPED:
        ElementTree.SubElement(case, "skipped", message=_xml(result.note))
    if result.warnings:
        ElementTree.SubElement(case, "system-err").text = _xml("\n".join(f"warning: {w}" for w in result.warnings))


def problems(report: RunReport) -> Iterator[str]:
    """What went wrong before the tests: fixtures that did not load whole, copies that failed."""
    for loaded in report.fixtures:
        if loaded.problem:
            yield f"{loaded.file}: {loaded.problem}"
    for pipe, problem in report.copies.items():
        if problem:
            yield f"copy pipe {pipe}: {problem}"


def _xml(text: str) -> str:
    """XML has no way to write some characters."""
    return _NO_XML.sub("\ufffd", text)
