"""`pipit secret`: values that datafiles and pipes use as `tb_secret("name")`. A value is never printed."""

from __future__ import annotations

import sys
from typing import Annotated
from urllib.parse import quote

import typer

from pipit.cli.options import DataOption, HostOption, Options, TokenOption, examples, resolve
from pipit.cli.output import line, note, out
from pipit.cli.target import connect, run

app = typer.Typer(no_args_is_help=True, help="Secrets of the workspace, for [bold]tb_secret()[/bold] in files.")

Name = Annotated[str, typer.Argument(help="The secret's name, as tb_secret() has it.", metavar="NAME")]


@app.command(
    "set",
    epilog=examples(
        "pipit secret set kafka_password            # asks for it",
        "pipit secret set kafka_password < file",
        "pipit secret set region eu-west-1",
    ),
)
def set_secret(
    context: typer.Context,
    name: Name,
    value: Annotated[
        str | None,
        typer.Argument(
            help="The value. Without it: from standard input, or asked for. Others on this machine can see arguments.",
            metavar="VALUE",
            show_default=False,
        ),
    ] = None,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Sets a secret. Pipes see it at once, data sources and connections at the next deploy."""
    if value is None:
        if sys.stdin.isatty():
            value = str(typer.prompt(f"Value of {name}", hide_input=True, err=True))
        else:
            value = sys.stdin.read().removesuffix("\n")
    run(_set(resolve(context, data, host, token), name, value))
    note(f"Secret {name} is set.")


async def _set(options: Options, name: str, value: str) -> None:
    async with connect(options) as client:
        await client.post("/v0/variables", data={"name": name, "value": value})


@app.command("ls", epilog=examples("pipit secret ls"))
def list_secrets(
    context: typer.Context, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Lists the names of the secrets, never their values."""
    names = run(_list(resolve(context, data, host, token)))
    for name in names:
        line(out, name)
    if not names:
        note("No secrets. `pipit secret set NAME` makes one.")


async def _list(options: Options) -> list[str]:
    async with connect(options) as client:
        found = await client.get("/v0/variables")
        return [str(variable["name"]) for variable in found["variables"]]


@app.command("rm", epilog=examples("pipit secret rm kafka_password"))
def remove_secret(
    context: typer.Context, name: Name, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Removes a secret. Pipes that use it answer with an error from then on."""
    run(_remove(resolve(context, data, host, token), name))
    note(f"Secret {name} is removed.")


async def _remove(options: Options, name: str) -> None:
    async with connect(options) as client:
        await client.delete(f"/v0/variables/{quote(name, safe='')}")
