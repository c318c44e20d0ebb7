"""`pipit audit`: what a project's endpoints let a tenant read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipit.cli.options import examples
from pipit.cli.prove import Format, prove_project


def add_to(app: typer.Typer) -> None:
    app.command(
        "audit",
        rich_help_panel="Project",
        epilog=examples(
            "pipit audit --prove",
            "pipit audit --prove ./repo --fixed customer_id",
            "pipit audit --prove --format junit --output proof.xml",
        ),
    )(audit)


def audit(
    folder: Annotated[Path, typer.Argument(help="The project's folder.", metavar="DIR")] = Path(),
    prove: Annotated[
        bool,
        typer.Option("--prove", help="Try every endpoint on generated data of several tenants: exit 1 when one leaks."),
    ] = False,
    fixed: Annotated[
        list[str] | None,
        typer.Option(
            "--fixed",
            help="A parameter that your tokens fix, where the project has no ROW_POLICY. Repeat it.",
            metavar="NAME",
        ),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option("--endpoint", help="With --prove: only this endpoint. Repeat it.", metavar="NAME"),
    ] = None,
    rounds: Annotated[int, typer.Option(help="With --prove: how often with new data.", min=1, max=100)] = 2,
    seed: Annotated[int, typer.Option(help="With --prove: another number gives other data.")] = 1,
    format: Annotated[Format, typer.Option("--format", "-f", help="With --prove: how to report.")] = Format.TEXT,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="With --prove: a file for the report.", metavar="FILE")
    ] = None,
) -> None:
    """Checks that a tenant's token reads nothing of other tenants. Needs no server."""
    if not prove:
        raise typer.BadParameter("name what to do", param_hint="--prove")
    code = prove_project(
        folder,
        fixed=tuple(fixed or ()),
        rounds=rounds,
        seed=seed,
        endpoints=tuple(endpoint or ()),
        format=format,
        output=output,
    )
    if code:
        raise typer.Exit(code)
