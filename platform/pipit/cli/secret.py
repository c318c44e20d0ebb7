"""`pipit secret`: values that datafiles and pipes use as `tb_secret("name")`. A value is never printed."""

from __future__ import annotations

import sys
from typing import Annotated
from urllib.parse import quote

import typer

from pipit.cli.commands import Commands
from pipit.cli.options import DataOption, HostOption, TokenOption, examples, resolve
from pipit.cli.output import line, note, out
from pipit.cli.target import ask

app = Commands(help="Secrets of the workspace, for [bold]tb_secret()[/bold] in files.")

Name = Annotated[str, typer.Argument(help="The secret's name, as tb_secret() has it.", metavar="NAME")]
_PATH = "/v0/variables"


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
    ask(resolve(context, data, host, token), "POST", _PATH, data={"name": name, "value": value})
    note(f"Secret {name} is set.")


@app.command("ls", epilog=examples("pipit secret ls"))
def list_secrets(
    context: typer.Context, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Lists the names of the secrets, never their values."""
    found = ask(resolve(context, data, host, token), "GET", _PATH)["variables"]
    for variable in found:
        line(out, str(variable["name"]))
    if not found:
        note("No secrets. `pipit secret set NAME` makes one.")


@app.command("rm", epilog=examples("pipit secret rm kafka_password"))
def remove_secret(
    context: typer.Context, name: Name, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Removes a secret. Pipes that use it answer with an error from then on."""
    ask(resolve(context, data, host, token), "DELETE", f"{_PATH}/{quote(name, safe='')}")
    note(f"Secret {name} is removed.")
