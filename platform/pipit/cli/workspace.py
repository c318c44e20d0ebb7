"""`pipit workspace`: what a workspace turns on for itself."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pipit.cli.commands import Commands
from pipit.cli.options import DataOption, HostOption, TokenOption, examples, resolve
from pipit.cli.output import line, note, out
from pipit.cli.target import ask
from pipit.errors import BadRequest

app = Commands(help="The workspace's own settings.")

_PATH = "/v0/workspace/settings"
_ON_OFF = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


@app.callback()
def root() -> None:
    """The workspace's own settings."""


@app.command(
    "settings",
    epilog=examples(
        "pipit workspace settings",
        "pipit workspace settings require_policies=true",
        "pipit workspace settings tenant_sql=true require_policies=true",
    ),
)
def settings(
    context: typer.Context,
    changes: Annotated[
        list[str] | None,
        typer.Argument(help="Settings to change; the others stay.", metavar="KEY=VALUE", show_default=False),
    ] = None,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Shows the settings, after changing those that are given.

    [bold]require_policies[/bold]: every table that a tenant can reach has a ROW_POLICY, or says why not.
    [bold]tenant_sql[/bold]: JWTs with DATASOURCES:READ may send SQL of their own.
    [bold]unfixed_appends[/bold]: JWTs may append rows in another tenant's name, through views. For one version only.
    """
    wanted = dict(map(_change, changes or []))
    options = resolve(context, data, host, token)
    found = ask(options, "PUT", _PATH, json=wanted) if wanted else ask(options, "GET", _PATH)
    for key in sorted(found):
        line(out, f"{key}={str(found[key]).lower()}")
    if wanted and sys.stderr.isatty():
        note("The workspace's settings are changed; requests from now on see them.")


def _change(text: str) -> tuple[str, bool]:
    key, found, value = text.partition("=")
    if not found or not key or value.lower() not in _ON_OFF:
        raise BadRequest(f"'{text[:80]}' is not a setting and its value", hint="Such as require_policies=true.")
    return key, _ON_OFF[value.lower()]
