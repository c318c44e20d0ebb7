"""`pipit environment`: a workspace's other databases, each with the same project and rows of its own."""

from __future__ import annotations

import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from pipit.cli.changes import show_environment
from pipit.cli.commands import Commands
from pipit.cli.options import DataOption, GlobalOptions, HostOption, TokenOption, examples, resolve
from pipit.cli.output import note, printable, show_table, waiting
from pipit.cli.target import ask, connect, run
from pipit.errors import BadRequest

app = Commands(
    help="Environments: databases of their own for some customers, with the same project deployed.",
)

Name = Annotated[str, typer.Argument(help="The environment's name, as tokens have it.", metavar="NAME")]
_PATH = "/v0/workspace/environments"


@app.command("add", epilog=examples("pipit environment add acme"))
def add(
    context: typer.Context, name: Name, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Makes an environment and deploys what is live into it."""
    made = run(_add(resolve(context, data, host, token), name))
    if made["result"] == "failed":
        note(f"The environment {name} is made, and empty:")
        show_environment(made)
        raise typer.Exit(1)
    held = f"with deployment {made['deployment']}" if made["deployment"] != "0" else "with nothing deployed yet"
    note(f"The environment {name} is live, {held}.")


async def _add(options: GlobalOptions, name: str) -> dict[str, Any]:
    async with connect(options) as client:
        with waiting("Deploying..."):
            return await client.post(_PATH, data={"name": name})


@app.command("ls", epilog=examples("pipit environment ls"))
def list_environments(
    context: typer.Context, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Lists the environments, and whether they have what is live."""
    found = ask(resolve(context, data, host, token), "GET", _PATH)["environments"]
    if not found:
        note("No environments. `pipit environment add NAME` makes one.")
        return
    table = Table("Name", "Status", "Deployment", "Database", "Created")
    for one in found:
        created = str(one["created_at"]).partition(".")[0]
        table.add_row(*(printable(str(one[k])) for k in ("name", "status", "deployment", "database")), created)
    show_table(table)


@app.command("rm", epilog=examples("pipit environment rm acme         # asks", "pipit environment rm acme --yes"))
def remove(
    context: typer.Context,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Deletes an environment with all of its rows. They cannot be brought back."""
    if not yes:
        if not sys.stdin.isatty():
            raise BadRequest(
                f"This deletes the environment {name} with all of its rows", hint="Add --yes if that is what you want."
            )
        typer.confirm(f"Delete the environment {name} with all of its rows?", abort=True, err=True)
    ask(resolve(context, data, host, token), "DELETE", f"{_PATH}/{quote(name, safe='')}?confirm=true")
    note(f"The environment {name} is deleted.")
