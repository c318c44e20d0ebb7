"""`pipit plan --base`: two states of the files against each other, in a throw-away engine. For pull requests.

The first state is a git revision, or a folder. No server is asked, and no token is needed.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pipit import jsontext
from pipit.cli.changes import show_changes, summary
from pipit.cli.output import count, note, out, show_errors, waiting
from pipit.cli.target import run
from pipit.errors import BadRequest

if TYPE_CHECKING:
    from pipit.deploy.plan import Plan, Refusal


def plan_from_base(
    folder: Path, base: str, files: Mapping[str, str], *, destructive: bool, weaker: bool, as_json: bool
) -> None:
    """Prints it. Exit code 1 where a deploy would be refused."""
    from pipit.deploy.plan import DeployRefused

    before = _files_of(folder, base)
    refusals: tuple[Refusal, ...] = ()
    found: dict[str, Any] = {}
    try:
        with waiting("Trying both in the engine..."):
            plan = run(_between(before, files, destructive, weaker))
    except DeployRefused as refused:
        refusals = refused.refusals
    else:
        found, refusals = _object(plan), plan.refusals
    if as_json:
        whole = {"base": base, "possible": not refusals, **found, "refusals": [_refusal(one) for one in refusals]}
        out.file.write(jsontext.pretty(whole).decode())
    else:
        if found:
            show_changes(found)
        show_errors([one.error for one in refusals], out)
        if refusals:
            note(f"A deploy over {base} would be refused: {count(len(refusals), 'reason')}.")
        elif not found.get("operations"):
            note(f"Nothing changes against {base}.")
        else:
            note(f"A deploy over {base} would change {summary(found) or 'the project'}.")
    if refusals:
        raise typer.Exit(1)


async def _between(before: Mapping[str, str], files: Mapping[str, str], destructive: bool, weaker: bool) -> Plan:
    from pipit.deploy.between import plan_between
    from pipit.deploy.compare import Allowed
    from pipit.engine import open_engine

    with tempfile.TemporaryDirectory(prefix="pipit-plan-") as data:
        async with open_engine(Path(data)) as engine:
            return await plan_between(engine, before, files, Allowed(destructive, weaker))


def _object(plan: Plan) -> dict[str, Any]:
    """As `/v1/deploy` answers. Rows and bytes are of no table that there is, so they are left out."""
    from pipit.deploy.describe import changes, operation_object

    of_rows = ("rows", "bytes", "rows_deleted")
    named = {"datasource": plan.datasources, "pipe": plan.pipes, "data_connector": plan.connections}
    found: dict[str, Any] = {}
    for kind, difference in named.items():
        for what in ("new", "changed", "deleted"):
            found[f"{what}_{kind}_names"] = list(getattr(difference, what))
    operations = [operation_object(operation) for operation in plan.operations]
    found["operations"] = [{k: v for k, v in one.items() if k not in of_rows} for one in operations]
    found["changes"] = changes(plan, rows_known=False)
    return found


def _refusal(refusal: Refusal) -> dict[str, Any]:
    error = refusal.error
    place = {"file": error.file, "line": error.line, "column": error.column}
    return {"reason": refusal.reason.value, "subject": refusal.subject, **place} | {
        "message": error.message,
        "hint": error.hint,
    }


def _files_of(folder: Path, base: str) -> dict[str, str]:
    from pipit.datafiles import read_project

    if Path(base).is_dir():
        return read_project(Path(base))
    with tempfile.TemporaryDirectory(prefix="pipit-base-") as made:
        _check_out(folder, base, Path(made))
        return read_project(Path(made))


def _check_out(folder: Path, revision: str, into: Path) -> None:
    """The folder as it was at that revision, without its history."""
    if revision.startswith("-"):
        raise _no_revision(folder, revision, ["it is no revision"])
    command = ["git", "-C", str(folder), "archive", "--format=tar", revision, "--", "."]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise BadRequest(f"git cannot be run: {error.strerror}", hint="Give a folder to --base.") from None
    if done.returncode:
        raise _no_revision(folder, revision, done.stderr.decode("utf-8", "replace").splitlines())
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(into, filter="data")


def _no_revision(folder: Path, revision: str, said: Iterable[str]) -> BadRequest:
    why = next(iter(said), "git does not say why")
    return BadRequest(
        f"There are no files of {folder} at '{revision[:80]}': {why}",
        hint="--base takes a revision of the project's git repository (main, HEAD~1, a tag), or a folder.",
    )
