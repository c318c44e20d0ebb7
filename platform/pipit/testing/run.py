"""Runs a project's tests: the copies that a test needs, then every test over HTTP, several at once."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from pipit.catalog.snapshot import CompiledPipe, Snapshot
from pipit.jobs import schedule
from pipit.query.reached import tables_reached
from pipit.suggest import closest
from pipit.testing.asking import ask, order_of, parameters_of
from pipit.testing.cases import Case, Classic, ClassicCommand, Quality, Skipped, Test
from pipit.testing.compare import RowMatch, difference, plain_slashes, same_rows
from pipit.testing.fixtures import Loaded, fixture_of, load_fixtures
from pipit.testing.harness import FreshWorkspace, Harness, Reply
from pipit.testing.order import sort_keys
from pipit.testing.project import secrets_of, without_ttl

_POLL_SECONDS = 0.05
_COPY_SECONDS = 300.0


class CaseOutcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CaseResult:
    """`note`: what a reader should know, also of a test that passed. `answer`: what came, for `--update`.

    `warnings`: what the test's file says without any effect.
    """

    test: Test
    outcome: CaseOutcome
    note: str = ""
    difference: str = ""
    answer: str = ""
    status: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunReport:
    """All that one run found. `copies`: pipe -> what went wrong with it, empty where it ran."""

    results: tuple[CaseResult, ...]
    fixtures: tuple[Loaded, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def count(self, outcome: CaseOutcome) -> int:
        return sum(result.outcome is outcome for result in self.results)

    @property
    def passed(self) -> bool:
        """Whether nothing failed. A copy that did not run, or a fixture of which no row fits, leaves a table empty:
        a test may take that for right.

        Some rows of a fixture that do not fit are no failure: projects are full of them, and the dialect lets them be.
        """
        return not self.count(CaseOutcome.FAILED) and not any(self.copies.values()) and not self.empty_fixtures

    @property
    def empty_fixtures(self) -> tuple[Loaded, ...]:
        """Those that hold something, and of which nothing came into the table."""
        return tuple(loaded for loaded in self.fixtures if loaded.problem and not loaded.rows)


async def run_project(
    harness: Harness,
    folder: Path,
    files: Mapping[str, str],
    tests: Sequence[Test],
    *,
    jobs: int,
    told: Callable[[CaseResult], None] = lambda _: None,
) -> RunReport:
    """Deploys the files to a fresh workspace, loads the folder's fixtures, runs copies and tests.

    Raises ProjectError where the project does not deploy, Unavailable where the engine goes away.
    """
    started = time.monotonic()
    workspace = await harness.workspace(f"test_{secrets.token_hex(6)}", secrets_of(folder, files)[0])
    await workspace.server.deployer.deploy(workspace.id, without_ttl(files))
    fixtures = await load_fixtures(workspace, folder)
    copies = await run_copies(workspace, folder, tests)
    results = await run_tests(workspace, tests, jobs=jobs, told=told)
    return RunReport(tuple(results), tuple(fixtures), copies, time.monotonic() - started)


async def run_tests(
    workspace: FreshWorkspace, tests: Sequence[Test], *, jobs: int, told: Callable[[CaseResult], None] = lambda _: None
) -> list[CaseResult]:
    """The tests' results in the tests' order; `told` hears of each as it ends. The workspace is deployed and filled."""
    gate = asyncio.Semaphore(jobs)

    async def one(test: Test) -> CaseResult:
        async with gate:
            started = time.monotonic()
            result = replace(await _result(workspace, test), seconds=time.monotonic() - started)
        told(result)
        return result

    return list(await asyncio.gather(*map(one, tests)))


async def run_copies(workspace: FreshWorkspace, project: Path, tests: Iterable[Test]) -> dict[str, str]:
    """Runs the copies whose targets a test reads and no fixture fills, once, sources before what reads them."""
    snapshot = workspace.snapshot
    copies = {pipe.name: node.node.target_datasource for pipe, node in schedule.copies(snapshot)}
    if not copies:
        return {}
    reads = {pipe: tables_reached(snapshot, snapshot.pipes[pipe]) for pipe in copies}
    wanted = _needed(snapshot, [t for t in tests if isinstance(t, (Case, Quality, Classic))], copies, reads)
    wanted = {pipe for pipe in wanted if fixture_of(project, copies[pipe]) is None}
    done: dict[str, str] = {}
    while len(done) < len(wanted):
        waiting = {copies[pipe] for pipe in wanted - done.keys()}
        ready = sorted(p for p in wanted - done.keys() if not (reads[p] - {copies[p]}) & waiting)
        for pipe in ready or sorted(wanted - done.keys()):  # a circle: in the order of names
            done[pipe] = await _run_copy(workspace, pipe)
    return done


def _needed(
    snapshot: Snapshot, tests: Iterable[Test], copies: Mapping[str, str], reads: Mapping[str, Collection[str]]
) -> set[str]:
    """The copies whose targets the tests read, through other copies and views too."""
    named: set[str] = set()
    everything = False
    for test in tests:
        if isinstance(test, Case) and test.pipe in snapshot.pipes:
            named |= tables_reached(snapshot, snapshot.pipes[test.pipe])
        elif isinstance(test, (Quality, Classic)):
            everything = True  # free SQL
    if everything:
        return set(copies)
    feeds = {name: set(table.sources) for name, table in snapshot.tables.items()}
    for pipe, target in copies.items():
        feeds.setdefault(target, set()).update(reads[pipe])
    seen: set[str] = set()
    while named - seen:
        name = (named - seen).pop()
        seen.add(name)
        named |= feeds.get(name, set())
    return {pipe for pipe, target in copies.items() if target in named}


async def _run_copy(workspace: FreshWorkspace, pipe: str) -> str:
    reply = await workspace.post(f"/v0/pipes/{pipe}/copy")
    found = reply.json if isinstance(reply.json, dict) else {}
    job = found.get("job", found)
    if reply.status >= 300 or not isinstance(job, dict) or "job_id" not in job:
        return reply.error
    deadline = time.monotonic() + _COPY_SECONDS
    while job.get("status") not in ("done", "error", "cancelled"):
        if time.monotonic() > deadline:
            return f"it did not end within {_COPY_SECONDS:.0f} s"
        await asyncio.sleep(_POLL_SECONDS)
        answered = (await workspace.get(f"/v0/jobs/{job['job_id']}")).json
        job = answered if isinstance(answered, dict) else {}
    return "" if job.get("status") == "done" else str(job.get("error") or job.get("status"))


async def _result(workspace: FreshWorkspace, test: Test) -> CaseResult:
    match test:
        case Case():
            return await _case(workspace, test)
        case Quality():
            return await _quality(workspace, test)
        case Classic():
            return await _classic(workspace, test)
        case Skipped():
            return CaseResult(test, CaseOutcome.FAILED if test.broken else CaseOutcome.SKIPPED, test.reason)


async def _case(workspace: FreshWorkspace, case: Case) -> CaseResult:
    pipe = workspace.snapshot.pipes.get(case.pipe)
    if pipe is None:
        return CaseResult(case, CaseOutcome.SKIPPED, f"the project has no pipe '{case.pipe}'", warnings=case.warnings)
    warnings = (*case.warnings, *_unknown(workspace.snapshot, pipe, case))
    reply = await ask(workspace, pipe, case)
    answer = reply.text if reply.status < 300 else reply.error
    if reply.status != case.status:
        note = f"status {reply.status}, expected {case.status}"
        shown = difference(case.expected, answer)
        return CaseResult(case, CaseOutcome.FAILED, note, shown, answer, reply.status, warnings=warnings)
    expected, got = (plain_slashes(t) if reply.status < 300 else t for t in (case.expected, answer))
    match = same_rows(expected, got)
    if match is RowMatch.ORDER and reply.status < 300:
        match = await order_of(workspace, pipe, case, expected)
    outcome = CaseOutcome.PASSED if match in (RowMatch.EXACT, RowMatch.TIES) else CaseOutcome.FAILED
    note = {
        RowMatch.TIES: "rows that the query's ORDER BY leaves open came in another order",
        RowMatch.ORDER: "the same rows in another order",
    }.get(match, "")
    shown = difference(expected, got) if outcome is CaseOutcome.FAILED else ""
    return CaseResult(case, outcome, note, shown, answer, reply.status, warnings=warnings)


def _unknown(snapshot: Snapshot, pipe: CompiledPipe, case: Case) -> Iterator[str]:
    """A value that no template asks for changes nothing, and the test shows less than its name says."""
    known, unknown = parameters_of(snapshot, pipe, case)
    for name in unknown:
        near = closest(name, known)
        meant = f": is '{near}' meant?" if near else ""
        yield f"neither '{pipe.name}' nor what it reads has a parameter '{name}'{meant}"


async def _quality(workspace: FreshWorkspace, test: Quality) -> CaseResult:
    sql = test.sql.strip().rstrip(";")
    params = {**test.params, "q": f"{sql}\nFORMAT JSON"}
    reply = await workspace.get("/v0/sql", params)
    found = reply.json
    if reply.status != 200 or not isinstance(found, dict):
        return CaseResult(test, CaseOutcome.FAILED, reply.error, status=reply.status)
    if found["data"]:
        shown = "\n".join(f"+{row}" for row in found["data"][:5])
        return CaseResult(
            test, CaseOutcome.FAILED, f"the query found {found['rows']} rows, and should find none", shown
        )
    used = found.get("statistics", {})
    if test.max_bytes is not None and used.get("bytes_read", 0) > test.max_bytes:
        return CaseResult(
            test, CaseOutcome.FAILED, f"it read {used['bytes_read']:,} bytes, and may read {test.max_bytes:,}"
        )
    if test.max_seconds is not None and used.get("elapsed", 0) > test.max_seconds:
        return CaseResult(
            test, CaseOutcome.FAILED, f"it took {used['elapsed']:.2f} s, and may take {test.max_seconds:g}"
        )
    return CaseResult(test, CaseOutcome.PASSED)


async def _classic(workspace: FreshWorkspace, test: Classic) -> CaseResult:
    printed: list[str] = []
    for command in test.commands:
        reply = await _command(workspace, command)
        if reply.status >= 300:
            return CaseResult(test, CaseOutcome.FAILED, reply.error, status=reply.status)
        printed.append(_table(reply) if command.sql and not command.format else reply.text)
    expected, answer = _without_blanks(test.expected), _without_blanks("\n".join(printed))
    if all(c.sql and not c.format for c in test.commands):
        expected = "\n".join(" | ".join(cells) for cells in _cells(expected))
    match = same_rows(expected, answer)
    if match is RowMatch.EXACT:
        return CaseResult(test, CaseOutcome.PASSED)
    if match is RowMatch.ORDER and not any(_sorted(workspace.snapshot, command) for command in test.commands):
        return CaseResult(test, CaseOutcome.PASSED, "the query has no ORDER BY: its rows came in another order")
    return CaseResult(test, CaseOutcome.FAILED, "", difference(expected, answer))


def _sorted(snapshot: Snapshot, command: ClassicCommand) -> bool:
    pipe = snapshot.pipes.get(command.pipe)
    return sort_keys(command.sql if command.sql else pipe.result.node.sql if pipe else "") != []


async def _command(workspace: FreshWorkspace, command: ClassicCommand) -> Reply:
    if command.sql:
        sql = command.sql.strip().rstrip(";")
        format = {"csv": "CSVWithNames", "json": "JSON"}.get(command.format, "JSONCompact")
        return await workspace.get("/v0/sql", {"q": f"{sql}\nFORMAT {format}"})
    return await workspace.get(f"/v0/pipes/{command.pipe}.{command.format}", command.params)


def _table(reply: Reply) -> str:
    """The cells of a query's answer, one row a line, as `_cells` reads them from the table that a command prints."""
    found = reply.json
    rows = [[column["name"] for column in found["meta"]], *found["data"]]
    return "\n".join(" | ".join(str(cell) for cell in row) for row in rows)


def _cells(table: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in table.splitlines()
        if line.strip().startswith("|")
    ]


def _without_blanks(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())
