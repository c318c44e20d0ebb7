"""The command itself: its help, the options before a command, and what an exception becomes for the caller."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipit import __version__
from pipit.cli import (
    audit,
    connection,
    datasource,
    deployment,
    environment,
    formatting,
    jobs,
    log_rows,
    project,
    quarantine,
    query,
    secret,
    serve,
    testing,
    tokens,
    workspace,
)
from pipit.cli.commands import Commands
from pipit.cli.options import Given, examples
from pipit.cli.output import line, out, show_error
from pipit.errors import PipitError, Unavailable

EXIT_REFUSED = 1
EXIT_NO_SERVER = 3
_EXIT_INTERRUPTED = 130

app = Commands(
    name="pipit",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "pipit init shop && cd shop",
        "pipit serve --watch",
        "pipit query top_products --as shop_id=42",
    )
    + "\n\n[bold]Exit codes[/bold]\n\n"
    "  0  done\n"
    "  1  the project has errors, or the server refused\n"
    "  2  wrong usage\n"
    "  3  no server answers, or none can start",
)


def _print_version(asked: bool) -> None:
    if asked:
        line(out, f"pipit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(help="The data directory, for every command.", metavar="DIR")] = None,
    host: Annotated[str | None, typer.Option(help="The server's URL, for every command.", metavar="URL")] = None,
    token: Annotated[str | None, typer.Option(help="The token, for every command.", metavar="TOKEN")] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """SQL files in git become multi-tenant analytics APIs.

    Commands talk to the server of the data directory ([bold].pipit[/bold] in the current folder) if one runs,
    and start what they need if none does; with --host, to a server anywhere.
    """
    context.obj = Given(data, host, token)


project.add_to(app)
formatting.add_to(app)
testing.add_to(app)
serve.add_to(app)
query.add_to(app)
audit.add_to(app)
app.add_typer(tokens.app, name="token", rich_help_panel="Workspace")
app.add_typer(secret.app, name="secret", rich_help_panel="Workspace")
app.add_typer(deployment.app, name="deployment", rich_help_panel="Project")
app.add_typer(environment.app, name="environment", rich_help_panel="Workspace")
app.add_typer(workspace.app, name="workspace", rich_help_panel="Workspace")
app.add_typer(datasource.app, name="datasource", rich_help_panel="Data")
app.add_typer(quarantine.app, name="quarantine", rich_help_panel="Data")
app.add_typer(connection.app, name="connection", rich_help_panel="Data")
jobs.add_to(app)
log_rows.add_to(app)


def main() -> None:
    """The console script. Leaves through SystemExit, with one of the documented codes."""
    try:
        app()
    except PipitError as error:
        show_error(error)
        sys.exit(EXIT_NO_SERVER if isinstance(error, Unavailable) else EXIT_REFUSED)
    except KeyboardInterrupt:
        sys.exit(_EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_REFUSED)
    except Exception as error:
        logging.getLogger("pipit.cli").info("pipit failed", exc_info=True)  # into the file, if there is one
        if os.environ.get("PIPIT_DEBUG"):
            raise
        show_error(
            PipitError(
                f"pipit failed: {type(error).__name__}",
                hint="This is a fault of pipit. Run it again with PIPIT_DEBUG=1 and report what it prints.",
            )
        )
        sys.exit(EXIT_REFUSED)
