"""`pipit deployment`: what is live, what waits to be live, and the way back."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from pipit.cli.changes import show_environments
from pipit.cli.commands import Commands
from pipit.cli.options import DataOption, GlobalOptions, HostOption, TokenOption, examples, resolve
from pipit.cli.output import line, note, out, printable, show_table, waiting
from pipit.cli.progress import progress_lines
from pipit.cli.target import ask, connect, run

app = Commands(help="Deployments: look at one before it is live, promote it, and go back.")

Number = Annotated[str, typer.Argument(help="The deployment's number, as `ls` shows it.", metavar="NUMBER")]
Weaker = Annotated[
    bool,
    typer.Option("--allow-weaker", help="Also where the previous one confines tenants less than what is live."),
]
Force = Annotated[
    bool, typer.Option("--force", help="Also where it lacks what a job wrote: `show` names the job.")
]
_PATH = "/v1/deployments"


@app.command("ls", epilog=examples("pipit deployment ls", "pipit deployment ls --all   # those that are gone, too"))
def list_deployments(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Also failed and discarded ones.")] = False,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Lists the deployments that are kept."""
    flag = "include_deleted" if everything else "kept"
    found = ask(resolve(context, data, host, token), "GET", f"{_PATH}?{flag}=true")["deployments"]
    if not found:
        note("Nothing is deployed yet.")
        return
    table = Table("Number", "State", "Created")
    for one in reversed(found):
        table.add_row(str(one["id"]), printable(str(one["state"])), str(one["created_at"]).partition(".")[0])
    show_table(table)


@app.command("show", epilog=examples("pipit deployment show 7"))
def show(
    context: typer.Context, number: Number, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Says how a deployment stands."""
    found = ask(resolve(context, data, host, token), "GET", _path(number))["deployment"]
    created = str(found["created_at"]).partition(".")[0]
    line(out, f"Deployment {found['id']}: {printable(str(found['state']))}, created {created}")
    for error in found["errors"]:
        line(out, f"  {printable(str(error['error']))}")
    for told in progress_lines(found):
        line(out, f"  {printable(told)}")


@app.command("promote", epilog=examples("pipit deployment promote 7"))
def promote(
    context: typer.Context,
    number: Number,
    weaker: Weaker = False,
    force: Force = False,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Makes the deployment live that waits to be, in every environment."""
    _switch(resolve(context, data, host, token), f"{_path(number)}/set-live", weaker, force)


@app.command("rollback", epilog=examples("pipit deployment rollback"))
def rollback(
    context: typer.Context,
    weaker: Weaker = False,
    force: Force = False,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Makes the previous deployment live again, with every event that came since. What is live now is then the previous
    one: a second rollback undoes the first."""
    _switch(resolve(context, data, host, token), f"{_PATH}/rollback", weaker, force)


@app.command("discard", epilog=examples("pipit deployment discard 7"))
def discard(
    context: typer.Context, number: Number, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Drops a deployment that waits to be live, or the previous one, with the tables that only it has. One that is
    being made is made no further."""
    ask(resolve(context, data, host, token), "DELETE", f"{_path(number)}?previous=true")
    note(f"Deployment {number} is discarded.")


def _path(number: str) -> str:
    return f"{_PATH}/{quote(number, safe='')}"


def _switch(options: GlobalOptions, path: str, weaker: bool, force: bool) -> None:
    flags = {name: "true" for name, given in {"allow_weaker": weaker, "force": force}.items() if given}
    found = run(_posted(options, path, flags))["deployment"]
    note(f"Deployment {found['id']} is live.")
    for one in found["feedback"]:
        note(printable(f"{one['text']}. {one['hint']}"))
    if not show_environments(found):
        raise typer.Exit(1)


async def _posted(options: GlobalOptions, path: str, flags: dict[str, str]) -> dict[str, Any]:
    async with connect(options) as client:
        with waiting("Switching..."):
            return await client.post(path, flags)
