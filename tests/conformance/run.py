"""How much of a folder of projects works here, unchanged: a table, project by project, and a reason for each miss.

    make conformance CORPUS=<folder>     (or: PYTHONPATH=tests .venv/bin/python -m conformance.run <folder> [NAME ...])

Every folder in it that holds datafiles, itself or in `pipes/` and the like, is a project. Whatever the files ask for is
counted, also what is refused. Columns: files that parse; data sources, views and copies that are live after a deploy (a
file that is refused is left out, and the rest deployed again); of the endpoints that the files declare, those that
answer without parameters, and those that refuse that and answer with them; the same of pipes without TYPE that nothing
reads, which are there to be called; further requests that take each parameter and each branch (with "?" those refused
whose values had to be made up); the project's own cases that pass. Exit code 1 if anything is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from conformance.calls import calls, is_own_error
from conformance.wanted import Wanted, wanted
from pipit.catalog.snapshot import CompiledPipe, Snapshot
from pipit.datafiles import parse_project, read_project
from pipit.datafiles.layout import FOLDERS, SKIPPED, SUFFIXES
from pipit.datafiles.resources import NodeType
from pipit.errors import PipitError, ProjectError
from pipit.testing.cases import read_tests
from pipit.testing.fixtures import load_fixtures
from pipit.testing.harness import FreshWorkspace, Harness, Reply, open_harness
from pipit.testing.project import secrets_of, without_ttl
from pipit.testing.run import CaseOutcome, run_copies, run_tests

_ATTEMPTS = 20


@dataclass
class Called:
    """Endpoints, of which kind ever: how many there should be, and how they answered."""

    answered: int = 0
    asked: int = 0
    wanted: int = 0

    def __str__(self) -> str:
        asked = f" + {self.asked} ask" if self.asked else ""
        return f"{self.answered}{asked} of {self.wanted}" if self.wanted else "-"


@dataclass
class Found:
    name: str
    files: tuple[int, int] = (0, 0)
    tables: tuple[int, int] = (0, 0)
    views: tuple[int, int] = (0, 0)
    copies: tuple[int, int] = (0, 0)
    endpoints: Called = field(default_factory=Called)
    untyped: Called = field(default_factory=Called)
    calls: tuple[int, int] = (0, 0)
    unsure: int = 0
    cases: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    misses: list[str] = field(default_factory=list)

    def row(self) -> list[str]:
        def of(pair: tuple[int, int]) -> str:
            return f"{pair[0]}/{pair[1]}" if pair[1] else "-"

        return [
            self.name,
            of(self.files),
            of(self.tables),
            of(self.views),
            of(self.copies),
            str(self.endpoints),
            str(self.untyped),
            of(self.calls) + (f" {self.unsure}?" if self.unsure else ""),
            of(self.cases),
            f"{self.seconds:.1f}",
        ]


HEADER = ["project", "parse", "tables", "views", "copies", "endpoints", "no TYPE", "calls", "cases", "s"]


async def examine(harness: Harness, folder: Path, name: str, number: int) -> Found:
    started = time.monotonic()
    found = Found(name)
    try:
        files = read_project(folder)
        await _examine(harness, folder, files, found, number)
    except PipitError as error:
        found.misses.append(f"{type(error).__name__}: {error.message}")
    found.seconds = time.monotonic() - started
    return found


async def _examine(harness: Harness, folder: Path, files: Mapping[str, str], found: Found, number: int) -> None:
    asked = wanted(files)
    found.tables, found.views, found.copies = (0, asked.tables), (0, asked.views), (0, asked.copies)
    found.endpoints.wanted, found.untyped.wanted = len(asked.endpoints), len(asked.called)
    kept, refused = _that_parse(files)
    found.files = (len(kept), len(files))
    secrets = secrets_of(folder, kept)[0]
    workspace = await harness.workspace(f"corpus_{number}", secrets)
    kept, more = await _deploy(workspace, kept)
    for file, reason in {**refused, **more}.items():
        found.misses.append(f"{file}: {reason}")
    _count_live(workspace.snapshot, asked, found)
    for loaded in await load_fixtures(workspace, folder):
        if loaded.problem:
            found.misses.append(f"{loaded.file}: {loaded.problem[:300]}")
    await _call(workspace, asked, found)
    tests = read_tests(folder)
    if not tests:
        return
    # A workspace of its own, where nothing grows old: fixtures are years old, and their cases expect the rows.
    workspace = await harness.workspace(f"corpus_{number}_cases", secrets)
    await _deploy(workspace, without_ttl(kept))
    await load_fixtures(workspace, folder)
    for pipe, problem in (await run_copies(workspace, folder, tests)).items():
        if problem:
            found.misses.append(f"copy {pipe}: {problem[:300]}")
    results = await run_tests(workspace, tests, jobs=2)
    ran = [r for r in results if r.outcome is not CaseOutcome.SKIPPED]
    found.cases = (sum(r.outcome is CaseOutcome.PASSED for r in ran), len(ran))
    for result in results:
        if result.outcome is not CaseOutcome.PASSED:
            found.misses.append(f"test {result.test.id}: {result.outcome}: {result.note}\n{result.difference[:3000]}")


def _that_parse(files: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    kept, refused = dict(files), dict[str, str]()
    for _ in range(_ATTEMPTS):
        try:
            parse_project(kept)
            return kept, refused
        except ProjectError as error:
            kept = _without(kept, refused, error)
    parse_project(kept)
    return kept, refused


async def _deploy(workspace: FreshWorkspace, files: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    kept, refused = dict(files), dict[str, str]()
    for _ in range(_ATTEMPTS):
        try:
            await workspace.server.deployer.deploy(workspace.id, kept)
            return kept, refused
        except ProjectError as error:
            kept = _without(kept, refused, error)
    refused["the project"] = f"not deployed after {_ATTEMPTS} attempts"
    return kept, refused


def _without(kept: Mapping[str, str], refused: dict[str, str], error: ProjectError) -> dict[str, str]:
    bad = {e.file: f"{e.line}:{e.column}: {e.message}" for e in reversed(error.errors) if e.file in kept}
    if not bad:
        raise error
    refused |= bad
    return {path: text for path, text in kept.items() if path not in bad}


def _count_live(snapshot: Snapshot, asked: Wanted, found: Found) -> None:
    types = [node.node.type for pipe in snapshot.pipes.values() for node in pipe.nodes.values()]
    tables = len(snapshot.tables)  # with Classic's targets, which have no file until they are deployed
    found.tables = (tables, max(tables, asked.tables))
    found.views = (types.count(NodeType.MATERIALIZED), asked.views)
    found.copies = (types.count(NodeType.COPY), asked.copies)


async def _call(workspace: FreshWorkspace, asked: Wanted, found: Found) -> None:
    snapshot = workspace.snapshot
    for names, called in ((asked.endpoints, found.endpoints), (asked.called, found.untyped)):
        for name in sorted(names):
            pipe = snapshot.pipes.get(name)
            if pipe is None:
                continue  # its file was refused, which is told
            if pipe.endpoint is None:
                found.misses.append(f"endpoint {name}: not published")
                continue
            await _call_one(workspace, pipe, called, found)


async def _call_one(workspace: FreshWorkspace, pipe: CompiledPipe, called: Called, found: Found) -> None:
    """An endpoint that refuses to answer without parameters is one that asks only if it answers with them."""
    reply = await workspace.get(f"/v0/pipes/{pipe.name}.json")
    plain = reply.status == 200
    answered, reasons = False, list[str]()
    for call in calls(workspace.snapshot, pipe):
        other = await workspace.get(f"/v0/pipes/{pipe.name}.json", dict(call.values))
        good = other.status == 200 or (other.status == 400 and is_own_error(workspace.snapshot, pipe, other.error))
        answered |= other.status == 200
        found.calls = (found.calls[0] + good, found.calls[1] + 1)
        found.unsure += not good and call.made_up
        if not good:
            reasons.append(f"{'? ' if call.made_up else ''}call {pipe.name}?{call.values}: {_told(other)}")
    if plain:
        called.answered += 1
    elif reply.status == 400 and answered:
        called.asked += 1
    else:
        found.misses.append(f"endpoint {pipe.name}: {_told(reply)}")
    found.misses += reasons


def _told(reply: Reply) -> str:
    return f"{reply.status} {reply.error[:400]}"


def projects(folder: Path) -> list[Path]:
    """This folder, if it is a project's; else the projects below it, however deep: whole repositories may lie there."""
    children = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.is_symlink() and p.name not in SKIPPED]
    if _has_datafiles(folder) or any(child.name in FOLDERS and _has_datafiles(child, deep=True) for child in children):
        return [folder]
    return [found for child in children if not child.name.startswith(".") for found in projects(child)]


def _has_datafiles(folder: Path, *, deep: bool = False) -> bool:
    return any(next(folder.glob(f"{'**/' if deep else ''}*{ending}"), None) for ending in SUFFIXES)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("names", nargs="*", help="only projects whose name contains one of these")
    parser.add_argument("--json", type=Path, help="write the findings there too")
    asked = parser.parse_args()
    corpus = asked.corpus.resolve()
    folders = {str(p.relative_to(corpus)) if p != corpus else p.name: p for p in projects(corpus)}
    if asked.names:
        folders = {name: p for name, p in folders.items() if any(n in name for n in asked.names)}
    found: list[Found] = []
    async with open_harness(readable=(corpus,)) as harness:
        for number, (name, folder) in enumerate(folders.items()):
            one = await examine(harness, folder, name, number)
            found.append(one)
            print(" | ".join(one.row()), flush=True)
    _print(found)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1, default=vars))
    return 1 if any(one.misses for one in found) else 0


def total_of(found: list[Found]) -> Found:
    total = Found(f"{len(found)} projects")
    for one in found:
        for name in ("files", "tables", "views", "copies", "calls", "cases"):
            have, more = getattr(total, name), getattr(one, name)
            setattr(total, name, (have[0] + more[0], have[1] + more[1]))
        for have, more in ((total.endpoints, one.endpoints), (total.untyped, one.untyped)):
            have.answered += more.answered
            have.asked += more.asked
            have.wanted += more.wanted
        total.unsure += one.unsure
        total.seconds += one.seconds
    return total


def _print(found: list[Found]) -> None:
    rows = [HEADER, *(one.row() for one in found), total_of(found).row()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("\nMissed:")
    for one in found:
        for miss in one.misses:
            print(f"{one.name}: {miss}")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
