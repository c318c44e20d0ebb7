"""`pipit copy`, `pipit populate` and `pipit job`. A command waits for the end of what it starts."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from pipit.cli.client import Client
from pipit.cli.commands import Commands
from pipit.cli.options import DataOption, GlobalOptions, HostOption, TokenOption, examples, pairs, resolve
from pipit.cli.output import count, line, note, out, printable, show_table, waiting
from pipit.cli.target import ask, connect, run
from pipit.errors import PipitError, Reason

copy = Commands(help="Copy pipes: run, paused, resumed.")
sink = Commands(help="Sinks: what a pipe writes to a bucket.")
job = Commands(help="Jobs: copies and populates of the last 96 hours.")

Pipe = Annotated[str, typer.Argument(help="The copy pipe.", metavar="PIPE")]
Id = Annotated[str, typer.Argument(help="The job's id.", metavar="ID")]
_POLL_SECONDS = 0.25
_ENDED = ("done", "error", "cancelled")


@copy.command("ls", epilog=examples("pipit copy ls"))
def list_copies(
    context: typer.Context, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Lists the copy pipes, when they run, and how it went the last time."""
    found = ask(resolve(context, data, host, token), "GET", "/v0/copies")["copies"]
    table = Table("Pipe", "Into", "Mode", "Schedule (UTC)", "Last run", "Rows")
    for item in found:
        schedule, last = item["schedule"], item["last_job"] or {}
        when = (schedule["cron"] or "on demand") + (" (paused)" if schedule["status"] == "shutdown" else "")
        ran = f"{last['status']} {last['updated_at'][:19]}" if last else ""
        rows = f"{last['statistics']['row_count']:,}" if last else ""
        cells = (item["name"], item["target_datasource"], item["mode"], when, ran, rows)
        table.add_row(*(printable(str(cell)) for cell in cells))
    show_table(table)
    if not found:
        note("No copy pipes: a node of TYPE copy makes one.")


@copy.command(
    "run", epilog=examples("pipit copy run daily_totals", "pipit copy run daily_totals --param day=2026-01-01")
)
def run_copy(
    context: typer.Context,
    pipe: Pipe,
    param: Annotated[list[str] | None, typer.Option("--param", help="A parameter.", metavar="KEY=VALUE")] = None,
    mode: Annotated[
        str, typer.Option("--mode", help="append or replace, instead of the pipe's own.", metavar="MODE")
    ] = "",
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Runs a copy now, and waits for its end."""
    sent = {key: str(value) for key, value in pairs(param or [], "--param").items()}
    asked = sent | ({"_mode": mode} if mode else {})
    ended = run(_started(resolve(context, data, host, token), f"/v0/pipes/{quote(pipe, safe='')}/copy", asked))
    _tell(ended)


@copy.command("pause", epilog=examples("pipit copy pause daily_totals"))
def pause(
    context: typer.Context, pipe: Pipe, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Stops a copy's schedule; on demand it runs all the same."""
    ask(resolve(context, data, host, token), "POST", f"/v0/pipes/{quote(pipe, safe='')}/copy/pause")
    note(f"The schedule of {pipe} is paused.")


@copy.command("resume", epilog=examples("pipit copy resume daily_totals"))
def resume(
    context: typer.Context, pipe: Pipe, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Lets a paused schedule go on."""
    ask(resolve(context, data, host, token), "POST", f"/v0/pipes/{quote(pipe, safe='')}/copy/resume")
    note(f"The schedule of {pipe} runs again.")


@sink.command("ls", epilog=examples("pipit sink ls"))
def list_sinks(
    context: typer.Context, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Lists the sinks, where they write, when, and how it went the last time."""
    found = ask(resolve(context, data, host, token), "GET", "/v0/sinks")["sinks"]
    table = Table("Pipe", "Connection", "Path", "Files", "Schedule (UTC)", "Last run", "Rows")
    for item in found:
        last = item["last_job"] or {}
        ran = f"{last['status']} {last['updated_at'][:19]}" if last else ""
        rows = f"{last['statistics']['row_count']:,}" if last else ""
        cells = (item["name"], item["connection"], item["path"], item["file_template"], item["schedule"], ran, rows)
        table.add_row(*(printable(str(cell)) for cell in cells))
    show_table(table)
    if not found:
        note("No sinks: a node of TYPE sink makes one.")


@sink.command("run", epilog=examples("pipit sink run exports", "pipit sink run exports --param day=2026-01-01"))
def run_sink(
    context: typer.Context,
    pipe: Annotated[str, typer.Argument(help="The sink's pipe.", metavar="PIPE")],
    param: Annotated[list[str] | None, typer.Option("--param", help="A parameter.", metavar="KEY=VALUE")] = None,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Runs a sink now, and waits until its files are in the bucket."""
    sent = {key: str(value) for key, value in pairs(param or [], "--param").items()}
    ended = run(_started(resolve(context, data, host, token), f"/v0/pipes/{quote(pipe, safe='')}/sink", sent))
    if ended["status"] == "done":
        files, rows = int(ended["files"]), int(ended["statistics"]["row_count"])
        line(out, f"{count(rows, 'row')} in {count(files, 'file')} of {printable(ended['bucket'])}")
        for name in ended["file_names"]:
            line(out, printable(name))
        return
    _tell(ended)


def populate(
    context: typer.Context,
    pipe: Annotated[str, typer.Argument(help="The pipe with a materialized node.", metavar="PIPE")],
    node: Annotated[str, typer.Option("--node", help="Which node, where there are several.", metavar="NODE")] = "",
    truncate: Annotated[bool, typer.Option("--truncate", help="In place of the rows that are there.")] = False,
    condition: Annotated[
        str, typer.Option("--condition", help="Only the source's rows for which it holds.", metavar="SQL")
    ] = "",
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Fills a materialized node's data source from the rows that its source holds, and waits for the end."""
    asked = {"truncate": "true" if truncate else ""} | ({"populate_condition": condition} if condition else {})
    _tell(run(_populated(resolve(context, data, host, token), pipe, node, asked)))


@job.command("ls", epilog=examples("pipit job ls", "pipit job ls --status error"))
def list_jobs(
    context: typer.Context,
    status: Annotated[str, typer.Option("--status", help="Only these.", metavar="STATUS")] = "",
    kind: Annotated[str, typer.Option("--kind", help="copy or populateview.", metavar="KIND")] = "",
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Lists jobs, the newest first."""
    path = f"/v0/jobs?kind={quote(kind, safe='')}&status={quote(status, safe='')}"
    found = ask(resolve(context, data, host, token), "GET", path)["jobs"]
    table = Table("Id", "Kind", "Pipe", "Into", "Status", "Made", "Rows")
    for item in found:
        cells = (
            item["id"],
            item["kind"],
            item["pipe"]["name"],
            item["datasource"]["name"],
            item["status"],
            item["created_at"][:19],
            f"{item['statistics']['row_count']:,}",
        )
        table.add_row(*(printable(str(cell)) for cell in cells))
    show_table(table)


@job.command("show", epilog=examples("pipit job show 1b4e28ba-2fa1-11d2-883f-0016d3cca427"))
def show(
    context: typer.Context, id: Id, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Prints all that is known of a job. Exit code 1 if it failed."""
    _tell(ask(resolve(context, data, host, token), "GET", f"/v0/jobs/{quote(id, safe='')}"))


@job.command("cancel", epilog=examples("pipit job cancel 1b4e28ba-2fa1-11d2-883f-0016d3cca427"))
def cancel(
    context: typer.Context, id: Id, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Cancels a job that waits or works."""
    ask(resolve(context, data, host, token), "POST", f"/v0/jobs/{quote(id, safe='')}/cancel")
    note(f"Job {id} is being cancelled.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(copy, name="copy", rich_help_panel="Data")
    app.add_typer(sink, name="sink", rich_help_panel="Data")
    app.command(
        "populate",
        rich_help_panel="Data",
        epilog=examples("pipit populate events_per_day", "pipit populate events_per_day --truncate"),
    )(populate)
    app.add_typer(job, name="job", rich_help_panel="Data")


async def _started(options: GlobalOptions, path: str, asked: dict[str, str]) -> dict[str, Any]:
    async with connect(options) as client:
        return await _end_of(client, path, asked)


async def _populated(options: GlobalOptions, pipe: str, node: str, asked: dict[str, str]) -> dict[str, Any]:
    async with connect(options) as client:
        path = f"/v0/pipes/{quote(pipe, safe='')}"
        if not node:
            nodes = (await client.get(path))["nodes"]
            named = [n["name"] for n in nodes if n["node_type"] == "materialized"]
            node = named[0] if named else nodes[-1]["name"]
        return await _end_of(client, f"{path}/nodes/{quote(node, safe='')}/population", asked)


async def _end_of(client: Client, path: str, asked: dict[str, str]) -> dict[str, Any]:
    """The job when it has ended. Interrupted, the command leaves it alone."""
    started: dict[str, Any] = (await client.ask("POST", path, data=asked))["job"]
    with waiting(f"{started['kind']} into {started['datasource']['name']}"):
        while started["status"] not in _ENDED:
            await asyncio.sleep(_POLL_SECONDS)
            started = await client.get(f"/v0/jobs/{started['id']}")
    return started


def _tell(found: dict[str, Any]) -> None:
    """What a job came to. Raises PipitError's text and exit code where it failed."""
    line(out, f"{found['kind']} of {found['pipe']['name']} into {found['datasource']['name']}: {found['status']}")
    line(out, f"{count(found['statistics']['row_count'], 'row')}, made {found['created_at'][:19]}, job {found['id']}")
    if found["status"] == "error":
        raise PipitError(str(found.get("error") or "The job failed"), reason=Reason.JOB_FAILED)
