"""`pipit audit`: what a project's endpoints let a tenant read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipit.cli.examine import examine_project
from pipit.cli.options import examples
from pipit.cli.prove import ProofFormat, prove_project


def add_to(app: typer.Typer) -> None:
    app.command(
        "audit",
        rich_help_panel="Project",
        epilog=examples(
            "pipit audit",
            "pipit audit ./repo --fixed customer_id",
            "pipit audit --certificate pipit.audit.json",
            "pipit audit --check pipit.audit.json",
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
    require_policies: Annotated[
        bool,
        typer.Option("--require-policies", help="Every table that an endpoint reaches has a ROW_POLICY, or says why."),
    ] = False,
    unfixed_appends: Annotated[
        bool,
        typer.Option("--unfixed-appends", help="As with that setting: what it lets through is an error."),
    ] = False,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Write the certificate: what confines every table and endpoint.", metavar="FILE"),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(help="Exit 1 where the project is weaker than this certificate.", metavar="FILE"),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option("--endpoint", help="With --prove: only this endpoint. Repeat it.", metavar="NAME"),
    ] = None,
    rounds: Annotated[
        int, typer.Option(help="With --prove: how often with new data.", metavar="N", min=1, max=100)
    ] = 2,
    seed: Annotated[int, typer.Option(help="With --prove: another number gives other data.", metavar="N")] = 1,
    format: Annotated[
        ProofFormat, typer.Option("--format", "-f", help="How to report; junit with --prove.")
    ] = ProofFormat.TEXT,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file for the report, if not text.", metavar="FILE")
    ] = None,
) -> None:
    """Checks that a tenant's token reads nothing of other tenants. Needs no server.

    Examines every endpoint, in every branch that a request can reach: which tables it reads, under which filters.
    With --prove, tries it on rows.
    """
    if not prove:
        if format is ProofFormat.JUNIT:
            raise typer.BadParameter("junit is a report of --prove", param_hint="--format")
        failed = examine_project(
            folder,
            fixed=tuple(fixed or ()),
            require_policies=require_policies,
            unfixed_appends=unfixed_appends,
            as_json=format is ProofFormat.JSON,
            certificate=certificate,
            check=check,
            output=output,
        )
        if failed:
            raise typer.Exit(failed)
        return
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
