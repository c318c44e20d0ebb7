"""`pipit test`: a project's own tests, in a fresh workspace of an engine of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipit.cli.options import examples
from pipit.cli.output import count, err, line, note, out, waiting
from pipit.cli.project import Folder, one_project, read_files
from pipit.cli.target import run
from pipit.errors import BadRequest

if TYPE_CHECKING:
    from datetime import datetime

    from pipit.testing.cases import Test
    from pipit.testing.run import CaseResult, RunReport

_EXIT_FAILED = 1


def add_to(app: typer.Typer) -> None:
    app.command(
        "test",
        rich_help_panel="Project",
        epilog=examples(
            "pipit test",
            "pipit test --only top_pages --update",
            "pipit test --junit report.xml",
            "# tests that were written on some day",
            "pipit test --now '2024-01-31 12:00:00'",
        ),
    )(test)


def test(
    folder: Folder = Path(),
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only tests whose file or name contains this; may be repeated.", metavar="TEXT"),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Write what came into the files, where it is not what was expected.")
    ] = False,
    now: Annotated[
        str, typer.Option(help="The time that now(), today() and their kin give (UTC).", metavar="TIME")
    ] = "",
    jobs: Annotated[int, typer.Option(help="Tests at once.", metavar="N", min=1, max=64)] = 4,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML there.", metavar="FILE")] = None,
) -> None:
    """Runs tests/*.yaml on the project's fixtures, and compares every answer with what the file expects.

    Needs no server: the project is deployed to a fresh workspace of an engine of its own, and nothing is kept.
    Exit code 1 if a test fails or the project does not deploy.
    """
    from pipit.testing.report import as_junit, problems
    from pipit.testing.update import update as write_answers

    files, moment = read_files(folder), _moment(now)
    tests = _tests(folder, only or [])
    told = _show_unless_failed if update else _show
    with one_project(folder, files):
        report = run(_run(folder.resolve(), files, tests, jobs, moment, told))
    for problem in problems(report):
        line(err, (f"Warning: {problem}", "yellow"))
    if junit is not None:
        _write(junit, as_junit(report))
    if update:
        changed = write_answers(folder, report.results)
        left = []
        for result in (r for r in report.results if r.outcome == "failed"):
            if result.test in changed:
                line(out, ("updated ", "cyan"), f"{result.test.file}:{result.test.line} {result.test.id}")
                _warn(result)
            else:
                left.append(result)
                _show(result)
        note(f"{count(len(changed), 'case')} updated.")
        _say_empty(report)
        raise typer.Exit(_EXIT_FAILED if left or report.empty_fixtures else 0)
    _sum_up(report)
    if not report.passed:
        raise typer.Exit(_EXIT_FAILED)


def _tests(folder: Path, only: list[str]) -> list[Test]:
    from pipit.testing.cases import read_tests

    found = read_tests(folder)
    if not found:
        raise BadRequest(
            f"{folder.resolve()} has no tests",
            hint="A test is a file tests/<pipe>.yaml: `- name: ...` with `parameters` and `expected_result`.",
        )
    chosen = [t for t in found if not only or any(text in t.id or text in t.file for text in only)]
    if not chosen:
        raise BadRequest(f"No test's file or name contains {' or '.join(repr(text) for text in only)}")
    return chosen


def _moment(now: str) -> datetime | None:
    from pipit.testing.clock import parse_moment

    return parse_moment(now) if now else None


async def _run(
    folder: Path,
    files: dict[str, str],
    tests: list[Test],
    jobs: int,
    moment: datetime | None,
    told: Callable[[CaseResult], None],
) -> RunReport:
    from pipit.testing.clock import stop_clock
    from pipit.testing.harness import open_harness
    from pipit.testing.run import run_project

    if moment is not None:
        stopped = stop_clock(files, moment)
        files = stopped.files
        note(f"The clock stands at {moment:%Y-%m-%d %H:%M:%S} UTC: {count(stopped.replaced, 'call')} of it replaced.")
    async with AsyncExitStack() as stack:
        with waiting("Starting the engine..."):
            harness = await stack.enter_async_context(open_harness(readable=(folder,)))
        return await run_project(harness, folder, files, tests, jobs=jobs, told=told)


def _show(result: CaseResult) -> None:
    mark, style = {"passed": ("ok  ", "green"), "failed": ("FAIL", "bold red"), "skipped": ("skip", "yellow")}[
        result.outcome
    ]
    told = f" ({result.note})" if result.note else ""
    line(out, (mark, style), f" {result.test.id}{told}")
    if result.outcome == "failed":
        line(out, (f"     {result.test.file}:{result.test.line}", "dim"))
        for shown in result.difference.splitlines():
            style = {"-": "red", "+": "green"}.get(shown[:1], "dim")
            line(out, (f"     {shown}", style))
    _warn(result)


def _warn(result: CaseResult) -> None:
    for warning in result.warnings:
        line(out, ("     warning: ", "yellow"), f"{result.test.file}:{result.test.line}: {warning}")


def _show_unless_failed(result: CaseResult) -> None:
    """With --update a failed test is one that is about to be put right; those that cannot be are shown at the end."""
    if result.outcome != "failed":
        _show(result)


def _sum_up(report: RunReport) -> None:
    from pipit.testing.run import CaseOutcome

    failed, skipped = report.count(CaseOutcome.FAILED), report.count(CaseOutcome.SKIPPED)
    parts = [f"{report.count(CaseOutcome.PASSED)} passed"]
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{skipped} skipped"] if skipped else []
    note(f"{', '.join(parts)} in {report.seconds:.1f} s")
    _say_empty(report)


def _say_empty(report: RunReport) -> None:
    for loaded in report.empty_fixtures:
        said = f"No row of {loaded.file} is in {loaded.datasource}: its tests show an empty table"
        line(err, ("Error: ", "bold red"), said)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadRequest(f"{path} cannot be written: {error.strerror}") from None
