"""`pipit init`, `check`, `plan`, `deploy`: a folder of files becomes, or would become, what is live."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from importlib.resources import files as package_files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pipit import jsontext
from pipit.cli.changes import live, show_changes, show_costs, show_environments, summary
from pipit.cli.options import DATA_FOLDER, DataOption, GlobalOptions, HostOption, TokenOption, examples, resolve
from pipit.cli.output import count, err, line, note, out, show_errors, show_warnings, waiting
from pipit.cli.plan import plan_from_base
from pipit.cli.progress import shown
from pipit.cli.target import connect, run
from pipit.errors import BadRequest, DatafileError, ProjectError

if TYPE_CHECKING:
    from pipit.datafiles.resources import Warning as ProjectWarning
    from pipit.deploy.check import Checked

_PANEL = "Project"
_SHOWN = 10  # errors, and projects, where several were taken for one

Folder = Annotated[Path, typer.Argument(help="The project folder.", metavar="DIR", show_default=False)]


def add_to(app: typer.Typer) -> None:
    app.command(
        "init",
        rich_help_panel=_PANEL,
        epilog=examples("pipit init", "pipit init shop && cd shop && pipit serve --watch"),
    )(init)
    app.command(
        "check",
        rich_help_panel=_PANEL,
        epilog=examples("pipit check", "pipit check path/to/project", "pipit check --format json"),
    )(check)
    app.command(
        "plan",
        rich_help_panel=_PANEL,
        epilog=examples("pipit plan", "pipit plan --host https://...", "pipit plan --base main --format json"),
    )(plan)
    app.command(
        "deploy",
        rich_help_panel=_PANEL,
        epilog=examples(
            "pipit deploy",
            "pipit deploy --check",
            "PIPIT_TOKEN=... pipit deploy --host https://pipit.example.com",
        ),
    )(deploy)


def init(
    folder: Annotated[
        Path, typer.Argument(help="Where; made if it is not there.", metavar="DIR", show_default=False)
    ] = Path(),
    template: Annotated[str, typer.Option(help="What to start from.", metavar="NAME")] = "saas",
) -> None:
    """Makes a new project that works: data sources, pipes, endpoints, sample events.

    Nothing that is there already is written over.
    """
    known = sorted(entry.name for entry in _templates().iterdir() if entry.is_dir() and entry.name[0] not in "._")
    if template not in known:
        raise typer.BadParameter(f"'{template}' is not one of {', '.join(known)}", param_hint="--template")
    content = dict(_content(_templates() / template))
    try:
        _write(folder, content)
    except OSError as error:
        raise BadRequest(
            f"The project cannot be written to {folder}: {error.strerror}", hint="Choose another folder."
        ) from None
    _show_next(folder, content)


def _write(folder: Path, content: Mapping[str, bytes]) -> None:
    if folder.exists() and not folder.is_dir():
        raise BadRequest(f"{folder} is a file, not a folder", hint="Choose another folder.")
    taken = sorted(name for name in content if (folder / name).exists())
    if taken:
        shown = ", ".join(taken[:5]) + (" and more" if len(taken) > 5 else "")
        raise BadRequest(
            f"{folder} already holds {shown}: nothing was written",
            hint="Choose another folder: pipit init my_project",
        )
    for name, text in sorted(content.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        line(out, ("  + ", "green"), str(path))
    _ignore_data(folder)


def _show_next(folder: Path, content: Mapping[str, bytes]) -> None:
    """The commands that a newcomer wants now."""
    from pipit.datafiles import parse_project, read_project

    project = parse_project(read_project(folder))
    steps = [] if folder == Path() else [f"cd {folder}"]
    line(out, "\nNext:")
    for step in [*steps, "pipit serve --watch"]:
        line(out, (f"  {step}", "cyan"))
    line(out, "\nand in another terminal:")
    for step in steps:
        line(out, (f"  {step}", "cyan"))
    for name in project.datasources:
        if f"fixtures/{name}.ndjson" in content:
            line(out, (f"  pipit datasource append {name} fixtures/{name}.ndjson", "cyan"))
    endpoints = [pipe.name for pipe in project.pipes.values() if pipe.endpoint is not None]
    for name in endpoints[-1:]:
        line(out, (f"  pipit query {name}", "cyan"))
    if any(name.startswith("tests/") for name in content):
        line(out, ("  pipit test", "cyan"))


def _templates() -> Traversable:
    return package_files("pipit.cli") / "templates"


def _content(folder: Traversable, prefix: str = "") -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.name in ("__pycache__", "__init__.py"):
            continue
        if entry.is_dir():
            found += _content(entry, f"{prefix}{entry.name}/")
        else:
            found.append((prefix + entry.name, entry.read_bytes()))
    return found


def _ignore_data(folder: Path) -> None:
    """Data and tokens do not belong into git."""
    path = folder / ".gitignore"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    wanted = f"{DATA_FOLDER}/"
    if wanted not in text.splitlines():
        path.write_text(text + ("\n" if text and not text.endswith("\n") else "") + wanted + "\n", encoding="utf-8")


def read_files(folder: Path) -> dict[str, str]:
    """The project's files. Raises BadRequest where there are none, ProjectError for one that is not text."""
    from pipit.datafiles import read_project

    if not folder.is_dir():
        raise BadRequest(f"{folder} is not a folder", hint="pipit init makes a new project.")
    files = read_project(folder)
    if not files:
        raise BadRequest(
            f"{folder.resolve()} holds no .datasource, .pipe or .connection files",
            hint="pipit init makes a new project; pipit deploy DIR takes one from elsewhere.",
        )
    return files


def several_projects(
    folder: Path, files: Iterable[str], errors: Sequence[DatafileError], console: Console = err
) -> BadRequest | None:
    """Prints the first errors of several projects that were taken for one, and says that they were. None: it is one.

    They deploy together as long as they have no errors: a project's folders may be sorted by teams.
    """
    from pipit.datafiles.layout import project_roots

    roots = project_roots(files)
    if len(roots) < 2:
        return None
    show_errors(errors[:_SHOWN], console)
    shown = ", ".join(roots[:_SHOWN]) + (" and more" if len(roots) > _SHOWN else "")
    first = f"{count(len(errors), 'error')}, of which the first {_SHOWN} are shown. " if len(errors) > _SHOWN else ""
    return BadRequest(
        f"{first}{folder.resolve()} was taken for one project, and has the files of {len(roots)}: {shown}",
        hint=f"Name the folder of one, such as {(folder / roots[0]).as_posix()}",
    )


@contextmanager
def one_project(folder: Path, files: Iterable[str]) -> Iterator[None]:
    """Around work with a project's files: its errors, as `several_projects` tells them."""
    try:
        yield
    except ProjectError as error:
        several = several_projects(folder, files, error.errors)
        if several is not None:
            raise several from None
        raise


class ReportFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


def check(
    folder: Folder = Path(),
    format: Annotated[
        ReportFormat, typer.Option("--format", help="What to print: lines for people, or JSON for editors and CI.")
    ] = ReportFormat.TEXT,
) -> None:
    """Parses a project and tries it in a throw-away engine. Needs no server and changes nothing.

    Prints every error as file:line:column: message, in the order of the files, and each kind of warning once with all
    its places (--format json: each for itself, errors with their reason). Exit code 1 if there is an error; warnings
    alone are 0.
    """
    files = read_files(folder)
    with waiting("Trying it in the engine..."):
        found = run(_check(files))
    if format is ReportFormat.JSON:
        out.file.write(_as_json(folder, found))
    else:
        several = several_projects(folder, files, found.errors, out) if found.errors else None
        if several is not None:
            raise several
        show_warnings(found.warnings, out)
        show_errors(found.errors, out)
        counted = f"{count(found.datasources, 'data source')}, {count(found.pipes, 'pipe')}, "
        counted += count(found.endpoints, "endpoint")
        if found.errors:
            note(f"{count(len(found.errors), 'error')}.")
        else:
            line(out, f"{counted}: valid")
    if found.errors:
        raise typer.Exit(1)


async def _check(files: Mapping[str, str]) -> Checked:
    from pipit.deploy.check import check_files
    from pipit.engine import open_engine

    with tempfile.TemporaryDirectory(prefix="pipit-check-") as data:
        async with open_engine(Path(data)) as engine:
            return await check_files(engine, files)


def _as_json(folder: Path, found: Checked) -> str:
    """`path` is from the current folder, for annotations; `file` from the project's. Errors have a `reason`."""

    def listed(severity: str, items: Iterable[DatafileError | ProjectWarning]) -> list[dict[str, object]]:
        return [
            {"severity": severity, "file": item.file, "path": str(folder / item.file), "line": item.line}
            | {"column": item.column, "message": item.message, "hint": item.hint}
            | ({"reason": item.reason.value} if isinstance(item, DatafileError) else {})
            for item in items
        ]

    whole = {
        "valid": not found.errors,
        "errors": listed("error", found.errors),
        "warnings": listed("warning", found.warnings),
        "datasources": found.datasources,
        "pipes": found.pipes,
        "endpoints": found.endpoints,
    }
    return jsontext.pretty(whole).decode()


Destructive = Annotated[
    bool,
    typer.Option("--allow-destructive-operations", help="Also delete data sources that are gone, with their rows."),
]
Weaker = Annotated[
    bool,
    typer.Option("--allow-weaker", help="Also where it confines tenants less than what is live (docs/audit.md)."),
]


def plan(
    context: typer.Context,
    folder: Folder = Path(),
    base: Annotated[
        str,
        typer.Option(
            "--base", metavar="REV", help="A git revision or a folder to compare with, in place of what is live."
        ),
    ] = "",
    format: Annotated[
        ReportFormat, typer.Option("--format", help="What to print: lines for people, or JSON for CI.")
    ] = ReportFormat.TEXT,
    destructive: Destructive = False,
    weaker: Weaker = False,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Says what a deploy with the same flags would change, or why it would be refused. Changes nothing.

    With --base it compares two states of the files and asks no server: every table is taken to have rows. Exit code 1
    where a deploy would be refused.
    """
    if base:
        files = read_files(folder)
        with one_project(folder, files):
            as_json = format is ReportFormat.JSON
            plan_from_base(folder, base, files, destructive=destructive, weaker=weaker, as_json=as_json)
        return
    options = resolve(context, data, host, token, project=folder)
    _deploy(options, folder, check=True, destructive=destructive, weaker=weaker, as_json=format is ReportFormat.JSON)


def deploy(
    context: typer.Context,
    folder: Folder = Path(),
    check_only: Annotated[bool, typer.Option("--check", help="Only say what would change, as pipit plan.")] = False,
    destructive: Destructive = False,
    weaker: Weaker = False,
    unthrottled: Annotated[
        bool,
        typer.Option(
            "--unthrottled", envvar="PIPIT_UNTHROTTLED", help="Fill new tables with all processors; queries get slower."
        ),
    ] = False,
    wait: Annotated[
        bool, typer.Option("--no-promote", help="Make and fill it, and let it wait: nothing is live of it.")
    ] = False,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Makes the project live: all of it, or nothing of it. Events are taken in meanwhile.

    Where tables are made anew it shows how far that is. Ctrl-C leaves it running on the server.
    """
    options = resolve(context, data, host, token, project=folder)
    _deploy(
        options,
        folder,
        check=check_only,
        destructive=destructive,
        weaker=weaker,
        promote=not wait,
        unthrottled=unthrottled,
    )


def _deploy(
    options: GlobalOptions,
    folder: Path,
    *,
    check: bool,
    destructive: bool,
    weaker: bool,
    promote: bool = True,
    unthrottled: bool = False,
    as_json: bool = False,
) -> None:
    from pipit.datafiles import parse_project

    files = read_files(folder)
    with one_project(folder, files):
        parse_project(files)  # what can be seen here is said at once
        flags = {"check": check, "auto_promote": promote, "unthrottled": unthrottled}
        flags |= {"allow_destructive_operations": destructive, "allow_weaker": weaker}
        found = run(_send(options, files, flags))
    deployment = found["deployment"]
    if as_json:
        out.file.write(jsontext.pretty(found).decode())
        return
    show_changes(deployment)
    if found["result"] == "no_changes":
        note("Nothing to change: the project is live as it is.")
    elif check:
        show_costs(deployment)
        note(f"A deploy would change {summary(deployment) or 'the project'}. Nothing was changed.")
    elif not deployment["live"]:
        note(f"Deployment {deployment['id']} waits: `pipit deployment promote {deployment['id']}` makes it live.")
    else:
        note(live(deployment))
    if not show_environments(deployment, check=check):
        raise typer.Exit(1)


async def _send(options: GlobalOptions, files: Mapping[str, str], flags: Mapping[str, bool]) -> dict[str, Any]:
    import aiohttp

    async with connect(options) as client:
        form = aiohttp.FormData()
        for name, text in files.items():
            form.add_field(
                "data_project://", text.encode(), filename=name.replace(os.sep, "/"), content_type="text/plain"
            )
        async with shown(client, "Deploying..."):
            return await client.post("/v1/deploy", {k: "true" for k, v in flags.items() if v}, data=form)
