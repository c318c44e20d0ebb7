"""`pipit query` and `pipit sql`: rows on standard output, everything else on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table
from rich.text import Text

from pipit import jsontext
from pipit.cli import compare
from pipit.cli.client import Client
from pipit.cli.options import DataOption, GlobalOptions, HostOption, TokenOption, examples, pairs, resolve
from pipit.cli.output import count, err, line, note, out, printable, show_table, write_bytes
from pipit.cli.target import connect, run
from pipit.cli.tokens import mint
from pipit.errors import BadRequest, NotFound, PipitError, Unavailable
from pipit.suggest import did_you_mean, listed

_PANEL = "Data"
# A table on a screen is for eyes; the other formats print everything.
_SHOWN_ROWS = 1_000
_NOT_DEPLOYED = "`pipit deploy` makes the project's pipes live."
_VIEW_SECONDS = 300


class RowsFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"


_CLICKHOUSE = {
    RowsFormat.JSON: "JSON",
    RowsFormat.CSV: "CSVWithNames",
    RowsFormat.NDJSON: "JSONEachRow",
    RowsFormat.PARQUET: "Parquet",
}
FormatOption = Annotated[RowsFormat, typer.Option("--format", "-f", help="How to print the rows.")]


def add_to(app: typer.Typer) -> None:
    app.command(
        "query",
        rich_help_panel=_PANEL,
        epilog=examples(
            "pipit query top_features --param limit=5",
            "pipit query top_features --as customer_id=acme",
            "pipit query top_features --as customer_id=acme --as team=sales --show-sql",
            "pipit query top_features --as customer_id=acme --diff customer_id=globex",
            "# a tenant beside the workspace's own view",
            "pipit query top_features --as customer_id=acme --diff admin",
            "pipit query top_features --as customer_id=acme --environment acme_eu",
            "pipit query top_features --format csv > features.csv",
        ),
    )(query)
    app.command(
        "sql",
        rich_help_panel=_PANEL,
        epilog=examples(
            'pipit sql "SELECT count() FROM events"',
            'pipit sql "SELECT * FROM events_quarantine LIMIT 5" --format json',
            "pipit sql - < report.sql",
        ),
    )(sql)


def query(
    context: typer.Context,
    pipe: Annotated[str, typer.Argument(help="The endpoint's pipe.", metavar="PIPE")],
    view: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            help="See it as the tenant whose token says so: the value goes into the token's context, "
            "and fixes the parameter of that name. Repeat it.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="A request parameter. Repeat it.", metavar="KEY=VALUE")
    ] = None,
    show_sql: Annotated[
        bool, typer.Option("--show-sql", help="First print what runs: statement, values, filters, settings.")
    ] = False,
    diff: Annotated[
        list[str] | None,
        typer.Option(
            "--diff",
            help="Compare with what another tenant gets, given as for --as; 'admin': the workspace itself. Repeat it.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    environment: Annotated[
        str, typer.Option("--environment", help="With --as: the environment of the tenant's token.", metavar="NAME")
    ] = "",
    format: FormatOption = RowsFormat.TABLE,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Calls an endpoint, as yourself or as a tenant sees it."""
    _check_screen(format)
    if environment and not view:
        raise typer.BadParameter("it is the tenant's token that names one: give --as, too", param_hint="--environment")
    tenant = pairs(view or [], "--as")
    sent = [(key, _text(value)) for key, value in pairs(param or [], "--param").items()]
    options = resolve(context, data, host, token)
    if diff is None:
        run(_query(options, pipe, tenant, sent, environment, show_sql, format))
        return
    if format not in (RowsFormat.TABLE, RowsFormat.JSON):
        raise typer.BadParameter("two answers are compared as a table or as --format json", param_hint="--format")
    other = {} if diff == [compare.ADMIN] else pairs(diff, "--diff")
    run(_diff(options, pipe, (tenant, other), sent, environment, show_sql, format))


async def _query(
    options: GlobalOptions,
    pipe: str,
    tenant: dict[str, Any],
    sent: list[tuple[str, str]],
    environment: str,
    show_sql: bool,
    format: RowsFormat,
) -> None:
    async with connect(options) as client, _endpoint(client, pipe):
        token = await _tenant_token(client, pipe, tenant, environment) if tenant else ""
        asked = {"pipe": pipe, "parameters": sent, "token": token}
        if show_sql:
            plan = await client.post("/v1/explain", json=asked)
            _show_plan(plan, aside=format is not RowsFormat.TABLE)
            _warn_of_unknown(pipe, plan)
        elif sent:
            with suppress(PipitError):  # who may read need not be who may see a plan
                _warn_of_unknown(pipe, await client.post("/v1/explain", json=asked))
        path = f"/v0/pipes/{quote(pipe, safe='')}.{'json' if format is RowsFormat.TABLE else format.value}"
        started = time.monotonic()
        async with client.open("GET", path, params=sent, token=token) as response:
            if format is RowsFormat.TABLE:
                _show_rows(await response.read(), time.monotonic() - started)
            else:
                async for chunk in response.content.iter_chunked(2**20):
                    write_bytes(chunk)


def _warn_of_unknown(pipe: str, plan: Mapping[str, Any]) -> None:
    for one in plan.get("unknown_parameters", []):
        note(f"Warning: neither '{pipe}' nor what it reads has a parameter '{one['name']}'. {one['hint']}".rstrip())


async def _diff(
    options: GlobalOptions,
    pipe: str,
    tenants: tuple[dict[str, Any], dict[str, Any]],
    sent: list[tuple[str, str]],
    environment: str,
    show_sql: bool,
    format: RowsFormat,
) -> None:
    async with connect(options) as client, _endpoint(client, pipe):
        first, second = [await _view(client, pipe, tenant, sent, environment) for tenant in tenants]
    for plan in [one.plan for one in (first, second) if one.plan][:1]:
        _warn_of_unknown(pipe, plan)
    if format is RowsFormat.JSON:
        compare.as_json(pipe, first, second)
    else:
        compare.show(first, second, sql=show_sql)


async def _view(
    client: Client, pipe: str, tenant: dict[str, Any], sent: list[tuple[str, str]], environment: str
) -> compare.ViewerAnswer:
    """What one viewer gets, a refusal included. Raises NotFound, Unavailable."""
    name = compare.name_of(tenant)
    try:
        token = await _tenant_token(client, pipe, tenant, environment) if tenant else ""
        plan = await client.post("/v1/explain", json={"pipe": pipe, "parameters": sent, "token": token})
        path = f"/v0/pipes/{quote(pipe, safe='')}.json"
        async with client.open("GET", path, params=sent, token=token) as response:
            found = jsontext.exact(await response.read())
    except (NotFound, Unavailable):
        raise
    except PipitError as error:
        return compare.ViewerAnswer(name, refused=f"{error.message} ({error.status})")
    columns = tuple(str(column["name"]) for column in found["meta"])
    return compare.ViewerAnswer(name, plan, columns, tuple(found["data"]))


@asynccontextmanager
async def _endpoint(client: Client, pipe: str) -> AsyncIterator[None]:
    """Around requests for a pipe: one that is not there is said with what there is, and with what to do."""
    try:
        yield
    except NotFound as error:
        raise NotFound(
            error.message, reason=error.reason, hint=error.hint or await _what_there_is(client, pipe)
        ) from None


async def _what_there_is(client: Client, pipe: str) -> str:
    """The endpoint that may be meant, or a few that are deployed."""
    try:
        found = (await client.get("/v0/pipes"))["pipes"]
    except PipitError:
        return _NOT_DEPLOYED
    names = [str(one["name"]) for one in found if one.get("endpoint")]
    return did_you_mean(pipe, names) or f"{listed(names) or 'No endpoint is deployed.'} {_NOT_DEPLOYED}"


async def _tenant_token(client: Client, pipe: str, tenant: dict[str, Any], environment: str) -> str:
    """A JWT as the team's backend would make it: the values in its context, and fixed where the pipe has them."""
    found = await client.get(f"/v0/pipes/{quote(pipe, safe='')}")
    names = {p["name"] for node in found["nodes"] for p in node.get("params") or []}
    fixed = {k: v for k, v in tenant.items() if k in names}
    scope = {"type": "PIPES:READ", "resource": found["name"]} | ({"fixed_params": fixed} if fixed else {})
    expires = int(time.time()) + _VIEW_SECONDS
    return await mint(client, "pipit query", [scope], tenant, expires, environment=environment)


def sql(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="One SELECT; '-' reads it from standard input.", metavar="SQL")],
    format: FormatOption = RowsFormat.TABLE,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Runs a SELECT over the workspace's data sources and pipes, as an admin: no row policy applies."""
    _check_screen(format)
    if text == "-":
        text = sys.stdin.read()
    run(_sql(resolve(context, data, host, token), text, format))


async def _sql(options: GlobalOptions, text: str, format: RowsFormat) -> None:
    if format is not RowsFormat.TABLE:
        from pipit.sql.references import single_statement

        text = f"{single_statement(text)}\nFORMAT {_CLICKHOUSE[format]}"
    headers = {"Content-Type": "text/plain", "Accept": "application/json"}
    async with connect(options) as client:
        started = time.monotonic()
        async with client.open("POST", "/v0/sql", data=text.encode(), headers=headers) as response:
            if format is RowsFormat.TABLE and response.content_type == "application/json":
                _show_rows(await response.read(), time.monotonic() - started)
                return
            async for chunk in response.content.iter_chunked(2**20):
                write_bytes(chunk)


def _show_rows(body: bytes, seconds: float) -> None:
    found = jsontext.exact(body)
    table = Table()
    columns = [str(column["name"]) for column in found["meta"]]
    for column in found["meta"]:
        numeric = str(column["type"]).removeprefix("Nullable(").startswith(("Int", "UInt", "Float", "Decimal"))
        table.add_column(Text(printable(str(column["name"]))), justify="right" if numeric else "left")
    rows = found["data"]
    for row in rows[:_SHOWN_ROWS]:
        table.add_row(*(compare.cell(row.get(name)) for name in columns))
    show_table(table)
    more = f"; the first {_SHOWN_ROWS:,} are shown, --format prints all" if len(rows) > _SHOWN_ROWS else ""
    line(err, (f"{count(len(rows), 'row')} in {seconds * 1000:,.0f} ms{more}", "dim"))


def _show_plan(plan: dict[str, Any], *, aside: bool) -> None:
    """On standard output with a table; beside a machine's format, on standard error."""
    console = err if aside else out

    def section(title: str, values: dict[str, Any], nothing: str) -> None:
        line(console, (title, "bold"))
        for name, value in values.items():
            line(console, (f"  {name}", "cyan"), " = ", value if isinstance(value, str) else jsontext.text(value))
        if not values:
            line(console, (f"  {nothing}", "dim"))

    viewer = plan["as"]
    whose = "the workspace's own token" if viewer["kind"] != "jwt" else "a tenant's token"
    line(console, ("Statement", "bold"), f", for {whose}")
    for text in plan["sql"].splitlines():
        line(console, f"  {text}")
    section("Values", plan["parameters"], "none are bound")
    section("Row filters", plan["filters"], "none: every row is visible to this token")
    section("Settings", plan["settings"], "none")
    line(console, "")


def _check_screen(format: RowsFormat) -> None:
    if format is RowsFormat.PARQUET and out.is_terminal:
        raise BadRequest("Parquet is not for a screen", hint="Send it to a file: ... --format parquet > rows.parquet")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else jsontext.text(value)
