"""`pipit token`: JWTs for tenants, the workspace's own tokens, and the keys that others sign with (`keys.py`)."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from pipit.cli import keys
from pipit.cli.client import Client
from pipit.cli.commands import Commands
from pipit.cli.options import DataOption, GlobalOptions, HostOption, TokenOption, examples, pairs, resolve
from pipit.cli.output import err, line, note, out, printable, show_table
from pipit.cli.target import ask, connect, run

app = Commands(help="Tokens: JWTs for tenants, and the workspace's own.")
create = Commands(help="Makes a token.")
app.add_typer(create, name="create")
app.add_typer(keys.app, name="keys")

NameOfToken = Annotated[str, typer.Argument(help="The token's name or id.", metavar="NAME")]
EnvironmentOption = Annotated[
    str,
    typer.Option("--environment", help="The environment whose database it opens.", metavar="NAME", show_default=False),
]

_PATH = "/v0/tokens"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


@create.command(
    "jwt",
    epilog=examples(
        "pipit token create jwt acme --ttl 1h --pipe top_features --context customer_id=acme",
        "pipit token create jwt acme --ttl 7d --pipe usage --fixed customer_id=acme --rps 10",
        "pipit token create jwt acme-web --ttl 1h --append events --fixed-value customer_id=acme",
        "pipit token create jwt acme --ttl 1h --datasource events --filter \"customer_id = 'acme'\"",
        "pipit token create jwt acme --ttl 1h --pipe usage --environment acme_eu",
        "# numbers, booleans and lists are JSON after :=",
        "pipit token create jwt acme --ttl 1h --pipe usage --context 'seats:=5'",
    ),
)
def create_jwt(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Who it is for; rate limits and logs use it.", metavar="NAME")],
    ttl: Annotated[str, typer.Option(help="How long it is good for: 30s, 15m, 1h, 7d, 2w.", metavar="TIME")],
    pipe: Annotated[
        list[str] | None, typer.Option("--pipe", help="An endpoint that it may read. Repeat it.", metavar="PIPE")
    ] = None,
    datasource: Annotated[
        list[str] | None,
        typer.Option("--datasource", help="A data source that it may read. Repeat it.", metavar="NAME"),
    ] = None,
    filter: Annotated[
        str | None,
        typer.Option(
            "--filter",
            help="A condition on the rows of each --datasource, applied wherever it is read.",
            metavar="SQL",
        ),
    ] = None,
    append: Annotated[
        list[str] | None,
        typer.Option("--append", help="A data source that it may send events to. Repeat it.", metavar="NAME"),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option("--fixed", help="A parameter that the request cannot change. Repeat it.", metavar="KEY=VALUE"),
    ] = None,
    fixed_values: Annotated[
        list[str] | None,
        typer.Option(
            "--fixed-value", help="A column that every event gets, whatever it says. Repeat it.", metavar="COLUMN=VALUE"
        ),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--context", help="A value for row policies (context.KEY). Repeat it.", metavar="KEY=VALUE"),
    ] = None,
    rps: Annotated[int, typer.Option(help="Requests per second; 0 for no limit.", metavar="N", min=0)] = 0,
    environment: EnvironmentOption = "",
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Makes a JWT for a tenant and prints it.

    Warns of what it will not open: a pipe that is not there, a policy's key that its context lacks, a parameter that is
    not fixed.

    Your backend can make the same without asking Pipit: HS256, signed with the workspace's admin token.
    """
    fixed_params = pairs(fixed or [], "--fixed")
    scopes: list[dict[str, Any]] = [
        {"type": "PIPES:READ", "resource": p} | ({"fixed_params": fixed_params} if fixed_params else {})
        for p in pipe or []
    ]
    columns = pairs(fixed_values or [], "--fixed-value")
    if columns and not append:
        raise typer.BadParameter("name the data source with --append", param_hint="--fixed-value")
    scopes += [
        {"type": "DATASOURCES:APPEND", "resource": a} | ({"fixed_values": columns} if columns else {})
        for a in append or []
    ]
    if filter and not datasource:
        raise typer.BadParameter("name the data source with --datasource", param_hint="--filter")
    scopes += [
        {"type": "DATASOURCES:READ", "resource": d} | ({"filter": filter} if filter else {}) for d in datasource or []
    ]
    if not scopes:
        raise typer.BadParameter("a token without --pipe, --datasource or --append opens nothing", param_hint="--pipe")
    expires_at = int(time.time()) + seconds(ttl)
    options = resolve(context, data, host, token)
    made, warnings = run(_mint(options, name, scopes, pairs(values or [], "--context"), expires_at, rps, environment))
    _warn(warnings)
    line(out, made)
    if out.is_terminal:
        note(f"Good until {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(expires_at))}.")


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        line(err, ("Warning: ", "bold yellow"), warning)


async def _mint(
    options: GlobalOptions,
    name: str,
    scopes: list[dict[str, Any]],
    values: dict[str, Any],
    expires_at: int,
    rps: int,
    environment: str,
) -> tuple[str, list[str]]:
    async with connect(options) as client:
        body = _body(scopes, values, rps, environment)
        asked = {"name": name, "expiration_time": str(expires_at), "check": "true"}
        made = await client.post(f"{_PATH}/", asked, json=body)
        return str(made["token"]), [str(warning) for warning in made.get("warnings", [])]


async def mint(
    client: Client,
    name: str,
    scopes: list[dict[str, Any]],
    values: dict[str, Any],
    expires_at: int,
    *,
    environment: str = "",
) -> str:
    """A JWT from the server, which alone knows how to sign it."""
    body = _body(scopes, values, 0, environment)
    made = await client.post(f"{_PATH}/", {"name": name, "expiration_time": str(expires_at)}, json=body)
    return str(made["token"])


def _body(scopes: list[dict[str, Any]], values: dict[str, Any], rps: int, environment: str) -> dict[str, Any]:
    body: dict[str, Any] = {"scopes": scopes}
    if values:
        body["context"] = values
    if rps:
        body["limits"] = {"rps": rps}
    if environment:
        body["environment"] = environment
    return body


@create.command(
    "static",
    epilog=examples(
        "pipit token create static dashboards --scope PIPES:READ:top_features",
        "pipit token create static loader --scope DATASOURCES:APPEND:events --scope DATASOURCES:READ:events",
        "pipit token create static ci --scope WORKSPACE:DEPLOY --description 'deploys from CI'",
    ),
)
def create_static(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The token's name; logs use it.", metavar="NAME")],
    scopes: Annotated[
        list[str],
        typer.Option("--scope", help="What it may do: TYPE or TYPE:RESOURCE. Repeat it.", metavar="SCOPE"),
    ],
    description: Annotated[str, typer.Option(help="What it is for.", metavar="TEXT")] = "",
    environment: EnvironmentOption = "",
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Makes a token of the workspace's own and prints it. It lives until it is deleted; row policies do not bind it.

    One with TOKENS can make a token that reads everything.

    For tenants make JWTs.
    """
    wanted = {"name": name, "scopes": scopes, "description": description, "environment": environment}
    said = {field: value for field, value in wanted.items() if value}
    made = ask(resolve(context, data, host, token), "POST", f"{_PATH}?check=true", json=said)
    _warn(made.get("warnings", []))
    line(out, str(made["token"]))
    if "TOKENS" in scopes:
        note("Its holder can make a token with WORKSPACE:READ_ALL, which reads all rows: treat it as one that does.")


@app.command(
    "refresh", epilog=examples("pipit token refresh dashboards", "pipit token refresh 'workspace admin token'")
)
def refresh_token(
    context: typer.Context,
    name: NameOfToken,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Gives a token a new secret and prints it. The old one is refused from the next request on.

    With the workspace admin token's, every JWT that it signed ends.
    """
    if not yes:
        typer.confirm(f"Everything that uses the secret of '{name}' stops working. Go on?", abort=True, err=True)
    made = ask(resolve(context, data, host, token), "POST", f"{_PATH}/{quote(name, safe='')}/refresh")
    line(out, str(made["token"]))


@app.command("rm", epilog=examples("pipit token rm dashboards"))
def remove_token(
    context: typer.Context,
    name: NameOfToken,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Deletes a token. It is refused from the next request on. Tokens that files name go with their TOKEN lines."""
    ask(resolve(context, data, host, token), "DELETE", f"{_PATH}/{quote(name, safe='')}")
    note(f"Token {name} is deleted.")


@app.command("ls", epilog=examples("pipit token ls", "pipit token ls --reveal"))
def list_tokens(
    context: typer.Context,
    reveal: Annotated[bool, typer.Option("--reveal", help="Print the tokens themselves, too.")] = False,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Lists the workspace's own tokens and what they may do. JWTs are kept nowhere, so they are not listed."""
    found = ask(resolve(context, data, host, token), "GET", _PATH)["tokens"]
    elsewhere = any(item.get("environment") for item in found)
    table = Table("Name", "Scopes", *(["Environment"] if elsewhere else []), "From")
    if reveal:
        table.add_column("Token", no_wrap=True)  # to be copied
    for item in found:
        scopes = ", ".join(_scope(s) for s in item["scopes"])
        environment = [item.get("environment") or ""] if elsewhere else []
        cells = [item["name"], scopes, *environment, item.get("origin") or "", *([item["token"]] if reveal else [])]
        table.add_row(*(printable(str(cell)) for cell in cells))
    show_table(table)


def seconds(text: str) -> int:
    """`15m` -> 900. Raises BadParameter."""
    found = re.fullmatch(r"([1-9]\d{0,8})([smhdw])", text.strip().lower())
    if not found:
        raise typer.BadParameter(f"'{text}' is not a time such as 30s, 15m, 1h, 7d", param_hint="--ttl")
    return int(found[1]) * _UNITS[found[2]]


def _scope(scope: dict[str, Any]) -> str:
    return f"{scope['type']}:{scope['resource']}" if scope.get("resource") else str(scope["type"])
