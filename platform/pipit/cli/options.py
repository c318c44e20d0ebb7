"""The options that many commands share: where the data is, which server, which token; and `key=value` arguments.

An option after the command wins over one before it, that over the environment (`PIPIT_DATA`, `PIPIT_HOST`,
`PIPIT_TOKEN`). `PIPIT_ADMIN_TOKEN` and `PIPIT_CLICKHOUSE_URL` mean what they mean for the server.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pipit import jsontext

DATA_FOLDER = ".pipit"
_PANEL = "Which server"

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="The data directory. Default: .pipit in the project folder. \\[env var: PIPIT_DATA]",
        metavar="DIR",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
HostOption = Annotated[
    str | None,
    typer.Option(
        "--host",
        help="Talk to the server at this URL instead of the local one. \\[env var: PIPIT_HOST]",
        metavar="URL",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        help="The token to send; others on this machine can see arguments, so prefer \\[env var: PIPIT_TOKEN]",
        metavar="TOKEN",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """Resolved. `host` and `token` are empty where nothing was given. `project`: the folder that a command was given;
    None where it has none, and means the current one."""

    data: Path
    host: str = ""
    token: str = ""
    clickhouse_url: str = ""
    project: Path | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """What stood before the command (`pipit --data x deploy`)."""

    data: Path | None = None
    host: str | None = None
    token: str | None = None


def resolve(
    context: typer.Context,
    data: Path | None,
    host: str | None = None,
    token: str | None = None,
    *,
    project: Path | None = None,
) -> GlobalOptions:
    """`project` is the folder that holds `.pipit` when nothing says otherwise; default: the current one."""
    given: Given = context.obj or Given()
    folder = data or given.data
    if folder is None:
        named = os.environ.get("PIPIT_DATA")
        folder = Path(named) if named else (project or Path()) / DATA_FOLDER
    return GlobalOptions(
        data=folder,
        host=host or given.host or os.environ.get("PIPIT_HOST", ""),
        token=token or given.token or os.environ.get("PIPIT_TOKEN", ""),
        clickhouse_url=os.environ.get("PIPIT_CLICKHOUSE_URL", ""),
        project=project,
    )


def pairs(texts: list[str], option: str) -> dict[str, Any]:
    """`key=value` is text, `key:=json` any JSON value. Raises BadParameter."""
    found: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key.rstrip(":"):
            raise typer.BadParameter(f"'{text}' is not key=value", param_hint=option)
        if key.endswith(":"):
            key = key[:-1]
            try:
                found[key] = jsontext.exact(value)
            except ValueError:
                raise typer.BadParameter(f"'{value}' is not JSON (after '{key}:=')", param_hint=option) from None
        else:
            found[key] = value
    return found


def examples(*lines: str) -> str:
    """The end of a command's help."""
    shown = "\n".join(f"  [{'dim' if text.startswith('#') else 'cyan'}]{text}[/]" for text in lines)
    return f"[bold]Examples[/bold]\n\n{shown}"
