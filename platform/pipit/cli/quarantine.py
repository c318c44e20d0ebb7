"""`pipit quarantine`: which rows were refused and why, and their way back once that is mended."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from pipit.cli import file_rows
from pipit.cli.commands import Commands
from pipit.cli.options import DataOption, GlobalOptions, HostOption, TokenOption, examples, resolve
from pipit.cli.output import count, line, note, out, printable, show_table
from pipit.cli.target import ask, connect, run

app = Commands(help="Quarantine: the rows that were refused, why, and their replay.")

Name = Annotated[str, typer.Argument(help="The data source.", metavar="NAME")]


@app.command("ls", epilog=examples("pipit quarantine ls"))
def list_quarantines(
    context: typer.Context, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Lists the data sources that have rows in quarantine."""
    found = ask(resolve(context, data, host, token), "GET", "/v0/quarantine")["quarantine"]
    table = Table("Data source", "Rows", "First (UTC)", "Last (UTC)")
    for item in found:
        cells = (item["datasource"]["name"], f"{item['rows']:,}", item["first_seen"], item["last_seen"])
        table.add_row(*(printable(str(cell)) for cell in cells))
    if not found:
        note("No row is in quarantine.")
        return
    show_table(table)
    note("`pipit quarantine show NAME` says why.")


@app.command("show", epilog=examples("pipit quarantine show events", "pipit quarantine show events --samples 1"))
def show(
    context: typer.Context,
    name: Name,
    samples: Annotated[int, typer.Option("--samples", help="Rows of each reason.", min=0, max=20, metavar="N")] = 2,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Shows the rows of a quarantine by reason, with some of each."""
    path = f"/v0/datasources/{quote(name, safe='')}/quarantine?samples={samples}"
    found = ask(resolve(context, data, host, token), "GET", path)
    if not found["rows"]:
        note(f"No row of {name} is in quarantine.")
        return
    line(out, (f"{count(found['rows'], 'row')} in {name}_quarantine", "bold"))
    for group in found["reasons"]:
        when = f"{group['first_seen']} to {group['last_seen']}"
        line(out, "")
        line(out, (count(group["rows"], "row"), "bold yellow"), f", {when}")
        for reason in group["reasons"]:
            line(out, f"  {reason}")
        for sample in group["samples"]:
            line(out, (f"    {_shown(sample)}", "dim"))
    line(out, "")
    note(f"Mended? `pipit quarantine replay {name}` puts the rows that fit now into {name}.")


@app.command("replay", epilog=examples("pipit quarantine replay events"))
def replay(
    context: typer.Context, name: Name, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Puts the rows of a quarantine that fit by now into their data source, once, and waits for the end.

    They leave the quarantine, and keep the values that their token fixed. The others stay.
    """
    job = run(_replayed(resolve(context, data, host, token), name))
    line(out, f"{count(int(job['replayed_rows']), 'row')} replayed into {name}")
    if job["quarantine_rows"]:
        stay = count(int(job["quarantine_rows"]), "row")
        note(f"{stay} stay in quarantine: `pipit quarantine show {name}` says why.")


async def _replayed(options: GlobalOptions, name: str) -> dict[str, Any]:
    async with connect(options) as client:
        path = f"/v0/datasources/{quote(name, safe='')}/quarantine/replay"
        return await file_rows.ended(client, await client.post(path))


def _shown(sample: dict[str, Any]) -> str:
    """One line: the values, without what Pipit adds to them."""
    record = sample.get("c__record")
    place = f"{sample['c__file']}:{sample.get('c__line', '')}: " if sample.get("c__file") else ""
    if record is not None:
        return place + str(record)
    values = (f"{name}={value}" for name, value in sample.items() if name not in _OWN)
    return place + ", ".join(values)


_OWN = frozenset(("c__error", "c__import_id", "insertion_date", "c__record", "c__file", "c__line"))
