"""Real histories of projects: each revision is deployed over the one before, with rows in it, and then back and forth.

    PYTHONPATH=tests .venv/bin/python -m conformance.histories <folder of bare repositories> [NAME ...]

A repository is a git directory, `<owner>+<name>/repo`. In each, every folder that ever held datafiles is a project, and
every commit that changed them a revision. The first one that deploys gets its fixtures, and made-up rows where the
project has no tests; each later one is deployed as `pipit deploy --allow-destructive-operations` would. A revision that
an empty workspace does not take either is its author's, and left out. Columns: revisions; those that are left out; steps that were taken, and of these
the ones that made tables anew; steps that are refused because of the rows that are there, with the reason (the message
says what to write); rollbacks that gave the rows of before, and again those of after; the last revision's own cases
that pass, and how many of them pass in a workspace that was made anew. Exit code 1 where a step, a rollback or a case
fails.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipit.datafiles import read_project
from pipit.datafiles.layout import FOLDERS, SUFFIXES
from pipit.deploy.plan import DeployRefused
from pipit.errors import PipitError, ProjectError
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string
from pipit.testing.cases import read_tests
from pipit.testing.fixtures import load_fixtures
from pipit.testing.harness import FreshWorkspace, Harness, open_harness
from pipit.testing.project import secrets_of, without_ttl
from pipit.testing.run import CaseOutcome, run_copies, run_tests

_MADE_UP = 20  # rows of a table that has no fixture


@dataclass
class History:
    name: str
    revisions: int = 0
    broken: int = 0
    steps: int = 0
    anew: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    back: tuple[int, int] = (0, 0)
    cases: tuple[int, int, int] = (0, 0, 0)  # passed here, passed in a workspace made anew, all
    seconds: float = 0.0
    misses: list[str] = field(default_factory=list)

    def row(self) -> list[str]:
        reasons = ", ".join(f"{reason} {number}" for reason, number in self.refused.items()) or "-"
        here, fresh, of = self.cases
        cases = f"{here} ({fresh} anew) of {of}" if of else "-"
        numbers = [self.revisions, self.broken, self.steps, self.anew]
        return [self.name, *map(str, numbers), reasons, "{}/{}".format(*self.back), cases, f"{self.seconds:.0f}"]


HEADER = ["project", "revisions", "broken", "steps", "anew", "refused", "back", "cases", "s"]


def git(repository: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(repository), *arguments], check=True, capture_output=True).stdout


def project_folders(repository: Path) -> list[str]:
    """Every folder of the newest revision that holds datafiles, itself or in `pipes/` and the like."""
    found: set[str] = set()
    for name in git(repository, "ls-tree", "-r", "--name-only", "HEAD").decode().splitlines():
        path = Path(name)
        if path.suffix in SUFFIXES and path.suffix != ".incl":
            parts = path.parts[:-1]
            inside = next((n for n, part in enumerate(parts) if part in FOLDERS), len(parts))
            found.add("/".join(parts[:inside]))
    return sorted(found)


def revisions(repository: Path, folder: str) -> list[str]:
    places = [f"{folder}/*{suffix}" if folder else f"*{suffix}" for suffix in SUFFIXES]
    listed = git(repository, "log", "--reverse", "--topo-order", "--no-merges", "--format=%H", "HEAD", "--", *places)
    return listed.decode().split()


def export(repository: Path, revision: str, folder: str, to: Path) -> Path:
    to.mkdir()
    packed = git(repository, "archive", revision, *([folder] if folder else []))
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(to, filter="data")
    return to / folder


async def follow(harness: Harness, repository: Path, folder: str, name: str, number: int, most: int) -> History:
    found, started = History(name), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pipit-history-") as place:
        try:
            await _follow(harness, repository, folder, found, number, most, Path(place))
        except PipitError as error:
            found.misses.append(f"{type(error).__name__}: {error.message}")
    found.seconds = time.monotonic() - started
    return found


async def _follow(
    harness: Harness, repository: Path, folder: str, found: History, number: int, most: int, place: Path
) -> None:
    listed = revisions(repository, folder)
    listed = listed[-most:]
    workspace = await harness.workspace(f"history_{number}", {})
    tested = _has_tests(repository, folder)  # their rows are the fixtures alone
    last: Mapping[str, str] = {}
    newest: Path | None = None
    for revision in listed:
        try:
            path = export(repository, revision, folder, place / revision)
            files = read_project(path)
        except (subprocess.CalledProcessError, PipitError, OSError):
            continue  # the folder is not there, or not a project yet
        files = files if "ttl" in found.name else without_ttl(files)
        if not files or files == last:
            continue
        found.revisions += 1
        for secret, value in secrets_of(path, files)[0].items():
            await harness.server.catalog.put_secret(workspace.id, secret, value)
        taken = await _step(harness, workspace, files, found, revision[:9], f"history_{number}_{found.revisions}", bool(last))
        if not taken:
            continue
        if not last:
            await _feed(workspace, path, made_up=not tested)
        last, newest = files, path
    if newest is not None:
        await _cases(harness, workspace, newest, last, found, number)


async def _step(
    harness: Harness,
    workspace: FreshWorkspace,
    files: Mapping[str, str],
    found: History,
    revision: str,
    fresh: str,
    over: bool,
) -> bool:
    """Whether it is live now."""
    before = await _rows(workspace) if over else {}
    try:
        outcome = await workspace.server.deployer.deploy(workspace.id, files, allow_destructive=True)
    except (ProjectError, PipitError) as error:
        if not await _is_sound(harness, workspace, files, fresh):
            found.broken += 1
            return False
        refusals = error.refusals if isinstance(error, DeployRefused) else ()
        for one in refusals:
            found.refused[one.reason.value] += 1
        if not refusals:
            found.refused[error.reason.value if error.reason else error.code] += 1
        said = [f"{one.error.file}: {one.error.message}" for one in refusals] or [error.message]
        found.misses.append(f"{revision} is refused: " + "; ".join(said)[:1500])
        return False
    if over and outcome.result == "success":
        found.steps += 1
        found.anew += bool(outcome.plan.rebuilds)
        await _back_and_forth(workspace, before, found, revision)
    return True


async def _is_sound(harness: Harness, workspace: FreshWorkspace, files: Mapping[str, str], name: str) -> bool:
    made = await harness.workspace(name, dict(workspace.snapshot.secrets))
    try:
        await harness.server.deployer.deploy(made.id, files)
    except (ProjectError, PipitError):
        return False
    finally:
        await harness.server.deployer.remove_workspace(made.id)
    return True


async def _back_and_forth(
    workspace: FreshWorkspace, before: Mapping[str, int], found: History, revision: str
) -> None:
    after = await _rows(workspace)
    good = True
    try:
        for expected in (before, after):
            await workspace.server.deployer.rollback(workspace.id)
            rows = await _rows(workspace)
            if rows != expected:
                good = False
                differs = {n: (expected.get(n), rows.get(n)) for n in {*rows, *expected} if rows.get(n) != expected.get(n)}
                found.misses.append(f"{revision}: rows after a rollback (expected, found): {differs}")
    except PipitError as error:
        good = False
        found.misses.append(f"{revision}: a rollback fails: {error.message}")
    found.back = (found.back[0] + good, found.back[1] + 1)


async def _rows(workspace: FreshWorkspace) -> dict[str, int]:
    """Of each data source; merged, as the number of parts is no difference."""
    counts: dict[str, int] = {}
    for name, table in workspace.snapshot.tables.items():
        if table.datasource.engine.name != "Null":
            (row,) = await workspace.server.engine.rows(
                f"SELECT count() AS n FROM `{table.database}`.`{table.physical}`"
                + (" FINAL" if "Merging" in table.datasource.engine.name or "Collapsing" in table.datasource.engine.name else "")
            )
            counts[name] = int(row["n"])
    return counts


def _has_tests(repository: Path, folder: str) -> bool:
    place = f"{folder}/tests/" if folder else "tests/"
    listed = git(repository, "ls-tree", "-r", "--name-only", "HEAD", "--", place).decode().splitlines()
    return any(name.endswith((".yaml", ".yml", ".test")) for name in listed)


async def _feed(workspace: FreshWorkspace, folder: Path, *, made_up: bool) -> None:
    """Its fixtures; tables that events may be sent to and that have none get rows that the engine makes up."""
    await load_fixtures(workspace, folder)
    counts = await _rows(workspace)
    for name, table in workspace.snapshot.tables.items() if made_up else ():
        if counts.get(name) or table.sources or any("AggregateFunction" in c.type for c in table.datasource.columns):
            continue
        place = f"`{table.database}`.`{table.physical}`"
        columns = await workspace.server.engine.rows(
            "SELECT name, type FROM system.columns WHERE database = {d:String} AND table = {t:String}",
            {"d": table.database, "t": table.physical},
        )
        structure = quote_string(", ".join(f"{quote(str(c['name']))} {c['type']}" for c in columns))
        try:
            await workspace.server.engine.command(
                f"INSERT INTO {place} SELECT * FROM generateRandom({structure}, 1, 8, 2) LIMIT {_MADE_UP}",
                settings={"max_partitions_per_insert_block": 0},
            )
        except PipitError:
            continue  # a type that is not made up


async def _cases(
    harness: Harness, workspace: FreshWorkspace, folder: Path, files: Mapping[str, str], found: History, number: int
) -> None:
    tests = read_tests(folder)
    if not tests:
        return
    passed: list[int] = []
    made = await harness.workspace(f"history_{number}_cases", dict(workspace.snapshot.secrets))
    await harness.server.deployer.deploy(made.id, files)
    await load_fixtures(made, folder)
    names: list[set[str]] = []
    for one in (workspace, made):
        await run_copies(one, folder, tests)
        results = [r for r in await run_tests(one, tests, jobs=2) if r.outcome is not CaseOutcome.SKIPPED]
        names.append({r.test.id for r in results if r.outcome is CaseOutcome.PASSED})
        passed.append(len(names[-1]))
    found.cases = (passed[0], passed[1], len(results))
    found.misses += [f"case {id}: passes in a workspace made anew, not here" for id in sorted(names[1] - names[0])]


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repositories", type=Path)
    parser.add_argument("names", nargs="*", help="only projects whose name contains one of these")
    parser.add_argument("--most", type=int, default=60, help="of each project, its newest revisions")
    asked = parser.parse_args()
    found: list[History] = []
    async with open_harness(readable=(Path(tempfile.gettempdir()),)) as harness:
        number = 0
        for git_directory in sorted(asked.repositories.glob("*/repo")):
            for folder in project_folders(git_directory):
                name = f"{git_directory.parent.name} {folder}".strip()
                if asked.names and not any(one in name for one in asked.names):
                    continue
                number += 1
                one = await follow(harness, git_directory, folder, name, number, asked.most)
                found.append(one)
                print(" | ".join(one.row()), flush=True)
    rows = [HEADER, *(one.row() for one in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for one in found:
        for miss in one.misses:
            print(f"{one.name}: {miss}")
    return 1 if any(one.misses for one in found) else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
