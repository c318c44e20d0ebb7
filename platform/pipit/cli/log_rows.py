"""`pipit logs`: what happened in a workspace, from its service data sources, the newest last."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer

from pipit.cli.commands import Commands
from pipit.cli.options import DataOption, GlobalOptions, HostOption, TokenOption, examples, resolve
from pipit.cli.output import err, line, note, out
from pipit.cli.target import connect, run
from pipit.errors import BadRequest

# Each with the column that says when.
_SOURCES = {
    "datasources_ops_log": "timestamp",
    "pipe_stats_rt": "start_datetime",
    "jobs_log": "created_at",
    "endpoint_errors": "start_datetime",
    "kafka_ops_log": "timestamp",
    "sinks_ops_log": "timestamp",
}
_USUAL = ("datasources_ops_log", "pipe_stats_rt", "jobs_log")
_SINCE = re.compile(r"([0-9]{1,5})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class _Form(StrEnum):
    TEXT = "text"
    JSON = "json"


def add_to(app: Commands) -> None:
    app.command(
        "logs",
        rich_help_panel="Data",
        epilog=examples(
            "pipit logs", "pipit logs --source endpoint_errors --since 1d", "pipit logs --since 10m --format json"
        ),
    )(logs)


def logs(
    context: typer.Context,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", help=f"One of {', '.join(_SOURCES)}; '*' for all. May be repeated.", metavar="NAME"),
    ] = None,
    since: Annotated[str, typer.Option("--since", help="How far back: 90s, 10m, 3h, 7d.", metavar="TIME")] = "1h",
    limit: Annotated[int, typer.Option("--limit", help="How many rows.", min=1, max=10_000, metavar="N")] = 100,
    format: Annotated[_Form, typer.Option("--format", help="text, or JSON lines with all columns.")] = _Form.TEXT,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Prints what happened: reads, operations on data sources, jobs. The newest comes last."""
    found = run(_read(resolve(context, data, host, token), _chosen(source), _seconds(since), limit))
    for name, row in found[-limit:]:
        if format is _Form.JSON:
            line(out, msgspec.json.encode({"source": name, **row}).decode())
            continue
        text = _shown(row)
        line(out, (str(row[_SOURCES[name]]), "dim"), " ", (name, "cyan"), f" {text}")
    if not found and err.is_terminal:
        note(f"Nothing in the last {since}.")


async def _read(
    options: GlobalOptions, names: list[str], seconds: int, limit: int
) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    async with connect(options) as client:
        for name in names:
            when = _SOURCES[name]
            query = (
                f"SELECT * FROM tinybird.{name} WHERE {when} >= now() - {seconds} "
                f"ORDER BY {when} DESC LIMIT {limit} FORMAT JSON"
            )
            answer = await client.post("/v0/sql", data=query.encode())
            found += [(name, row) for row in answer["data"]]
    return sorted(found, key=lambda one: str(one[1][_SOURCES[one[0]]]))


def _chosen(names: list[str] | None) -> list[str]:
    if not names:
        return list(_USUAL)
    if "*" in names:
        return list(_SOURCES)
    for name in names:
        if name not in _SOURCES:
            raise BadRequest(f"There is no source '{name[:80]}'", hint=f"One of {', '.join(_SOURCES)}.")
    return list(dict.fromkeys(names))


def _seconds(text: str) -> int:
    found = _SINCE.fullmatch(text)
    if found is None:
        raise BadRequest(f"'{text[:40]}' is not a time", hint="Such as 90s, 10m, 3h or 7d.")
    return int(found[1]) * _UNITS[found[2]]


def _shown(row: dict[str, Any]) -> str:
    """What says most, first; nothing that is empty."""
    if "pipe_name" in row and "status_code" in row:
        names: tuple[str, ...] = ("pipe_name", "status_code", "duration", "token_name", "read_rows", "error_message")
    elif "job_type" in row:
        names = ("job_type", "status", "job_id", "error")
    elif "topic" in row:
        names = ("topic", "partition", "msg_type", "lag", "msg")
    else:
        names = ("event_type", "datasource_name", "result", "rows", "rows_quarantine", "elapsed_time", "error")
    return " ".join(f"{name}={row[name]}" for name in names if row.get(name) not in (None, "", []))
