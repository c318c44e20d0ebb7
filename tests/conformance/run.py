"""How much of a folder of projects works here, unchanged: a table, project by project, and a reason for each miss.

    make conformance CORPUS=<folder>        (or: .venv/bin/python tests/conformance/run.py <folder> [NAME ...])

Every folder in it that holds datafiles, itself or in `pipes/` and the like, is a project. Columns: files that parse; data sources, views and copies that
are live after a deploy (a file that is refused is left out, and the rest deployed again); endpoints that answer without
parameters, or ask for one that they require; the project's own cases that pass. Exit code 1 if anything is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipit.catalog.snapshot import Snapshot
from pipit.datafiles import parse_project, read_project
from pipit.datafiles.layout import FOLDERS, SKIPPED, SUFFIXES
from pipit.datafiles.resources import NodeType
from pipit.errors import PipitError, ProjectError
from pipit.testing.cases import read_tests
from pipit.testing.fixtures import load_fixtures
from pipit.testing.ground import Ground, Workspace, open_ground
from pipit.testing.project import secrets_of, without_ttl
from pipit.testing.run import Outcome, run_copies, run_tests

_ATTEMPTS = 12
_ASKS = re.compile(r"Required parameter is not defined|is required|evaluated to null|[Mm]issing|[Mm]ust (?:be|supply)|provide")


@dataclass
class Found:
    name: str
    files: tuple[int, int] = (0, 0)
    tables: tuple[int, int] = (0, 0)
    views: tuple[int, int] = (0, 0)
    copies: tuple[int, int] = (0, 0)
    answered: int = 0
    asked: int = 0
    endpoints: int = 0
    cases: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    misses: list[str] = field(default_factory=list)

    def row(self) -> list[str]:
        def of(pair: tuple[int, int]) -> str:
            return f"{pair[0]}/{pair[1]}" if pair[1] else "-"

        answered = f"{self.answered} + {self.asked} ask of {self.endpoints}" if self.endpoints else "-"
        return [
            self.name,
            of(self.files),
            of(self.tables),
            of(self.views),
            of(self.copies),
            answered,
            of(self.cases),
            f"{self.seconds:.1f}",
        ]


HEADER = ["project", "parse", "tables", "views", "copies", "endpoints", "cases", "s"]


async def examine(ground: Ground, folder: Path, name: str, number: int) -> Found:
    started = time.monotonic()
    found = Found(name)
    try:
        files = read_project(folder)
        await _examine(ground, folder, files, found, number)
    except PipitError as error:
        found.misses.append(f"{type(error).__name__}: {error.message}")
    found.seconds = time.monotonic() - started
    return found


async def _examine(ground: Ground, folder: Path, files: Mapping[str, str], found: Found, number: int) -> None:
    kept, refused = _that_parse(files)
    found.files = (len(kept), len(files))
    workspace = await ground.workspace(f"corpus_{number}", secrets_of(folder, kept)[0])
    kept, more = await _deploy(workspace, without_ttl(kept))
    for file, reason in {**refused, **more}.items():
        found.misses.append(f"{file}: {reason}")
    snapshot = workspace.snapshot
    wanted = _kinds({**snapshot.project.files, **files})  # Classic's targets have no file, until they are deployed
    live = _live(snapshot)
    found.tables, found.views, found.copies = ((live[k], wanted[k]) for k in ("tables", "views", "copies"))
    for loaded in await load_fixtures(workspace, folder):
        if loaded.problem:
            found.misses.append(f"{loaded.file}: {loaded.problem[:300]}")
    tests = read_tests(folder)
    for pipe, problem in (await run_copies(workspace, folder, tests)).items():
        if problem:
            found.misses.append(f"copy {pipe}: {problem[:300]}")
    await _call(workspace, found)
    results = await run_tests(workspace, tests, jobs=2)
    ran = [r for r in results if r.outcome is not Outcome.SKIPPED]
    found.cases = (sum(r.outcome is Outcome.PASSED for r in ran), len(ran))
    for result in results:
        if result.outcome is not Outcome.PASSED:
            found.misses.append(f"test {result.test.id}: {result.outcome}: {result.note}\n{result.difference[:3000]}")


def _that_parse(files: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    kept, refused = dict(files), dict[str, str]()
    for _ in range(_ATTEMPTS):
        try:
            parse_project(kept)
            break
        except ProjectError as error:
            bad = {e.file: f"{e.line}:{e.column}: {e.message}" for e in reversed(error.errors) if e.file in kept}
            if not bad:
                raise
            refused |= bad
            kept = {path: text for path, text in kept.items() if path not in bad}
    return kept, refused


async def _deploy(workspace: Workspace, files: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    kept, refused = dict(files), dict[str, str]()
    for _ in range(_ATTEMPTS):
        try:
            await workspace.server.deployer.deploy(workspace.id, kept)
            break
        except ProjectError as error:
            bad = {e.file: f"{e.line}:{e.column}: {e.message}" for e in reversed(error.errors) if e.file in kept}
            if not bad:
                raise
            refused |= bad
            kept = {path: text for path, text in kept.items() if path not in bad}
    return kept, refused


_TYPE = re.compile(r"^\s*TYPE\s+(\w+)", re.IGNORECASE | re.MULTILINE)


def _kinds(files: Mapping[str, str]) -> dict[str, int]:
    types = [t.lower() for text in (v for k, v in files.items() if k.endswith(".pipe")) for t in _TYPE.findall(text)]
    return {
        "tables": sum(name.endswith(".datasource") for name in files),
        "views": types.count("materialized"),
        "copies": types.count("copy"),
    }


def _live(snapshot: Snapshot) -> dict[str, int]:
    types = [node.node.type for pipe in snapshot.pipes.values() for node in pipe.nodes.values()]
    return {
        "tables": len(snapshot.tables),
        "views": types.count(NodeType.MATERIALIZED),
        "copies": types.count(NodeType.COPY),
    }


async def _call(workspace: Workspace, found: Found) -> None:
    for pipe in workspace.snapshot.pipes.values():
        if pipe.endpoint is None:
            continue
        found.endpoints += 1
        reply = await workspace.get(f"/v0/pipes/{pipe.name}.json")
        if reply.status == 200:
            found.answered += 1
        elif reply.status == 400 and _ASKS.search(reply.error):
            found.asked += 1
        else:
            found.misses.append(f"endpoint {pipe.name}: {reply.status} {reply.error[:400]}")


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
    async with open_ground(readable=(corpus,)) as ground:
        for number, (name, folder) in enumerate(folders.items()):
            one = await examine(ground, folder, name, number)
            found.append(one)
            print(" | ".join(one.row()), flush=True)
    _print(found)
    if asked.json:
        asked.json.write_text(json.dumps([vars(one) for one in found], indent=1))
    return 1 if any(one.misses for one in found) else 0


def _print(found: list[Found]) -> None:
    total = Found(f"{len(found)} projects")
    for one in found:
        for name in ("files", "tables", "views", "copies", "cases"):
            have, more = getattr(total, name), getattr(one, name)
            setattr(total, name, (have[0] + more[0], have[1] + more[1]))
        total.answered += one.answered
        total.asked += one.asked
        total.endpoints += one.endpoints
        total.seconds += one.seconds
    rows = [HEADER, *(one.row() for one in found), total.row()]
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
