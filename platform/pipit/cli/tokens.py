"""`pipit token`: JWTs for tenants, and the workspace's own tokens."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

import typer
from rich.table import Table

from pipit.cli.client import Client
from pipit.cli.options import DataOption, HostOption, Options, TokenOption, examples, pairs, resolve
from pipit.cli.output import line, note, out, printable, show_table
from pipit.cli.target import connect, run

app = typer.Typer(no_args_is_help=True, help="Tokens: JWTs for tenants, and the workspace's own.")
create = typer.Typer(no_args_is_help=True, help="Makes a token.")
app.add_typer(create, name="create")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


@create.command(
    "jwt",
    epilog=examples(
        "pipit token create jwt acme --ttl 1h --pipe top_features --context customer_id=acme",
        "pipit token create jwt acme --ttl 7d --pipe usage --fixed customer_id=acme --rps 10",
        "pipit token create jwt acme-web --ttl 1h --append events --fixed-value customer_id=acme",
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
    rps: Annotated[int, typer.Option(help="Requests per second; 0 for no limit.", min=0)] = 0,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Makes a JWT for a tenant and prints it.

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
    if not scopes:
        raise typer.BadParameter("a token without --pipe or --append opens nothing", param_hint="--pipe")
    expires_at = int(time.time()) + seconds(ttl)
    made = run(
        _mint(resolve(context, data, host, token), name, scopes, pairs(values or [], "--context"), expires_at, rps)
    )
    line(out, made)
    if out.is_terminal:
        note(f"Good until {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(expires_at))}.")


async def _mint(
    options: Options, name: str, scopes: list[dict[str, Any]], values: dict[str, Any], expires_at: int, rps: int
) -> str:
    async with connect(options) as client:
        return await mint(client, name, scopes, values, expires_at, rps)


async def mint(
    client: Client, name: str, scopes: list[dict[str, Any]], values: dict[str, Any], expires_at: int, rps: int = 0
) -> str:
    """A JWT from the server, which alone knows how to sign it."""
    body: dict[str, Any] = {"scopes": scopes}
    if values:
        body["context"] = values
    if rps:
        body["limits"] = {"rps": rps}
    made = await client.post("/v0/tokens/", {"name": name, "expiration_time": str(expires_at)}, json=body)
    return str(made["token"])


@app.command("ls", epilog=examples("pipit token ls", "pipit token ls --reveal"))
def list_tokens(
    context: typer.Context,
    reveal: Annotated[bool, typer.Option("--reveal", help="Print the tokens themselves, too.")] = False,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Lists the workspace's own tokens and what they may do. JWTs are kept nowhere, so they are not listed."""
    found = run(_list(resolve(context, data, host, token)))
    table = Table("Name", "Scopes", "From", *(["Token"] if reveal else []))
    for item in found:
        scopes = ", ".join(_scope(s) for s in item["scopes"])
        cells = [item["name"], scopes, item.get("origin") or "", *([item["token"]] if reveal else [])]
        table.add_row(*(printable(str(cell)) for cell in cells))
    show_table(table)


async def _list(options: Options) -> list[dict[str, Any]]:
    async with connect(options) as client:
        found = await client.get("/v0/tokens")
        tokens: list[dict[str, Any]] = found["tokens"]
        return tokens


def seconds(text: str) -> int:
    """`15m` -> 900. Raises BadParameter."""
    found = re.fullmatch(r"([1-9]\d{0,8})([smhdw])", text.strip().lower())
    if not found:
        raise typer.BadParameter(f"'{text}' is not a time such as 30s, 15m, 1h, 7d", param_hint="--ttl")
    return int(found[1]) * _UNITS[found[2]]


def _scope(scope: dict[str, Any]) -> str:
    return f"{scope['type']}:{scope['resource']}" if scope.get("resource") else str(scope["type"])
