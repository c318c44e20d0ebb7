"""`pipit connection`: what the project's connections lead to, whether they work, and how that is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from pipit.cli.commands import Commands
from pipit.cli.options import DataOption, HostOption, TokenOption, examples, resolve
from pipit.cli.output import count, line, note, out, printable, show_table
from pipit.cli.target import ask

app = Commands(help="Connections: which there are, whether they work, and what a topic or a store holds.")

Name = Annotated[str, typer.Argument(help="The connection.", metavar="NAME")]


@app.command("ls", epilog=examples("pipit connection ls"))
def list_connections(
    context: typer.Context, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Lists the connections, the data sources that read through each, and how that goes."""
    found = ask(resolve(context, data, host, token), "GET", "/v0/connectors")["connectors"]
    table = Table("Connection", "Type", "Data source", "Topic or bucket", "State", "Behind", "Rows", "Quarantined", "")
    for connection in found:
        for read in connection["datasources"] or [{}]:
            cells = (
                connection["name"],
                connection["service"],
                read.get("name", ""),
                read.get("topic", "") or read.get("bucket_uri", ""),
                read.get("state", ""),
                f"{read.get('lag', read.get('waiting', 0)):,}" if read else "",
                f"{read['rows']:,}" if read else "",
                f"{read['quarantined']:,}" if read else "",
                read.get("message", "") or _loaded(read),
            )
            table.add_row(*(printable(str(cell)) for cell in cells))
    show_table(table)
    for connection in found:
        for read in connection["datasources"]:
            for one in read.get("not_loaded", ()):
                attempts = count(one["attempts"], "attempt")
                note(printable(f"{one['object']}: {one['state']} after {attempts}: {one['error']}"))
    if not found:
        note("No connections: a .connection file makes one.")


def _loaded(read: Mapping[str, Any]) -> str:
    """Of a bucket, since ever."""
    if "objects" not in read:
        return ""
    parked = f", {read['parked']:,} parked" if read["parked"] else ""
    return f"{count(read['objects'], 'object')} loaded{parked}"


@app.command("test", epilog=examples("pipit connection test broker"))
def test_connection(
    context: typer.Context,
    name: Name,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Connects as the data sources do, and says what is wrong where that fails."""
    path = f"/v0/connectors/{quote(name, safe='')}/test"
    found = ask(resolve(context, data, host, token), "POST", path)
    what = count(found["buckets"], "bucket") if "buckets" in found else count(found["topics"], "topic")
    line(out, f"{name} works: {what}")


@app.command("data", epilog=examples("pipit connection data broker", "pipit connection data broker --topic orders"))
def connection_data(
    context: typer.Context,
    name: Name,
    topic: Annotated[str, typer.Option("--topic", help="Records of this topic.", metavar="TOPIC")] = "",
    limit: Annotated[int, typer.Option("--limit", help="How many records.", metavar="N", min=1, max=100)] = 12,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Lists the topics or buckets, or shows the last records of a topic. It moves no position of any group."""
    path = f"/v0/connectors/{quote(name, safe='')}/preview"
    if topic:
        path += f"?kafka_topic={quote(topic, safe='')}&max_records={limit}"
    found = ask(resolve(context, data, host, token), "GET", path)["preview"]
    if not topic:
        for one in found:
            line(out, printable(one.get("topic") or one["bucket"]))
        return
    table = Table("Partition", "Offset", "Key", "Value")
    for record in found[0]["records"]:
        cells = (record["partition"], record["offset"], record["key"] or "", record["value"] or "")
        table.add_row(*(printable(str(cell)) for cell in cells))
    show_table(table)
