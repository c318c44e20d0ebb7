"""`pipit datasource`: what there is, files into it, rows out of it, rows away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from pipit.cli import event_rows, file_rows
from pipit.cli.commands import Commands
from pipit.cli.file_rows import LoadedFile
from pipit.cli.options import DataOption, GlobalOptions, HostOption, TokenOption, examples, resolve
from pipit.cli.output import count, err, line, note, out, printable, show_table
from pipit.cli.target import ask, connect, run
from pipit.errors import BadRequest

app = Commands(help="Data sources: put files into them, look at them, delete rows; stop and start topics and buckets.")

Name = Annotated[str, typer.Argument(help="The data source.", metavar="NAME")]
FormatOption = Annotated[
    str, typer.Option("--format", help="csv, ndjson or parquet, where the file's name does not say it.", metavar="F")
]
DelimiterOption = Annotated[
    str, typer.Option("--delimiter", help="What separates the cells of CSV; else it is guessed.", metavar="CHAR")
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit with 1 if any row is quarantined.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_EXIT_QUARANTINED = 1


@app.command("ls", epilog=examples("pipit datasource ls"))
def list_datasources(
    context: typer.Context, data: DataOption = None, host: HostOption = None, token: TokenOption = None
) -> None:
    """Lists the data sources with their rows and size."""
    found = ask(resolve(context, data, host, token), "GET", "/v0/datasources")["datasources"]
    table = Table("Name", "Rows", "Size", "Engine", "Sorting key", "Description")
    for item in found:
        engine, statistics = item["engine"], item["statistics"]
        cells = (
            item["name"],
            f"{statistics['row_count']:,}",
            _size(statistics["bytes"]),
            engine["engine"],
            engine.get("sorting_key") or "",
            item["description"] or "",
        )
        table.add_row(*(printable(str(cell)) for cell in cells))
    show_table(table)
    if not found:
        note("No data sources: a .datasource file and `pipit deploy` make one.")


@app.command(
    "append",
    epilog=examples(
        "pipit datasource append events events.csv",
        "pipit datasource append events export.ndjson.gz --strict",
        "pipit datasource append events https://example.com/events.parquet",
        "generate-events | pipit datasource append events -",
    ),
)
def append(
    context: typer.Context,
    name: Name,
    file: Annotated[
        str,
        typer.Argument(
            help="CSV, NDJSON, Parquet or JSON, also .gz and .zst; a URL; '-' is NDJSON from standard input.",
            metavar="FILE",
        ),
    ],
    format: FormatOption = "",
    delimiter: DelimiterOption = "",
    strict: StrictOption = False,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Adds the rows of a file to a data source, and waits until they are in the table.

    Rows that do not fit the schema land in NAME_quarantine, each with its line and its reason. Exit code 1 if none of
    the rows fit; with --strict, if any did not.
    """
    options = resolve(context, data, host, token)
    if file == "-" or (file.removesuffix(".gz").endswith(".json") and not format):
        sent = run(event_rows.append(options, name, file))
        _tell(name, file, sent.successful, sent.quarantined, strict=strict)
        return
    loaded = run(file_rows.load(options, name, file, "append", _asked(file, format, delimiter)))
    _tell(name, file, loaded.rows, loaded.quarantined, strict=strict, loaded=loaded)


@app.command(
    "replace",
    epilog=examples(
        "pipit datasource replace prices prices.csv",
        'pipit datasource replace events may.parquet --condition "toYYYYMM(at) = 202605"',
    ),
)
def replace(
    context: typer.Context,
    name: Name,
    file: Annotated[str, typer.Argument(help="CSV, NDJSON or Parquet, also .gz and .zst; or a URL.", metavar="FILE")],
    condition: Annotated[
        str, typer.Option("--condition", help="Replace only the rows for which it holds.", metavar="SQL")
    ] = "",
    skip: Annotated[
        bool, typer.Option("--skip-views", help="With a condition: leave what views fill, where it cannot follow.")
    ] = False,
    format: FormatOption = "",
    delimiter: DelimiterOption = "",
    strict: StrictOption = False,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Puts the rows of a file in the place of a data source's rows, in one step, and of what views made of them."""
    asked = _asked(file, format, delimiter)
    asked |= {"replace_condition": condition} if condition else {}
    asked |= {"skip_incompatible_partition_key": "true"} if skip else {}
    loaded = run(file_rows.load(resolve(context, data, host, token), name, file, "replace", asked))
    _tell(name, file, loaded.rows, loaded.quarantined, strict=strict, loaded=loaded, did="now in")
    if left := loaded.job.get("not_replaced"):
        note(f"Not replaced along: {', '.join(map(str, left))}.")


@app.command(
    "delete",
    epilog=examples(
        "pipit datasource delete events --condition \"customer_id = 'acme'\" --dry-run",
        "pipit datasource delete events --condition \"customer_id = 'acme'\" --yes",
    ),
)
def delete(
    context: typer.Context,
    name: Name,
    condition: Annotated[str, typer.Option("--condition", help="The rows for which it holds.", metavar="SQL")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
    yes: YesOption = False,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Deletes the rows of a data source for which a condition holds. What views made of them stays."""
    options = resolve(context, data, host, token)
    path = f"/v0/datasources/{quote(name, safe='')}/delete"
    found = ask(options, "POST", path, data={"delete_condition": condition, "dry_run": "true"})
    number = int(found["rows_to_be_deleted"])
    if dry_run:
        line(out, f"{count(number, 'row')} of {name} would be deleted")
        return
    if not number:
        line(out, f"No row of {name} was deleted: the condition holds for none")
        return
    _confirm(f"Delete {count(number, 'row')} of {name}?", yes)
    job = run(_deleted(options, path, {"delete_condition": condition}))
    line(out, f"{count(int(job['rows_affected']), 'row')} of {name} deleted")


@app.command(
    "truncate", epilog=examples("pipit datasource truncate events --yes", "pipit datasource truncate events_quarantine")
)
def truncate(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The data source, or NAME_quarantine.", metavar="NAME")],
    yes: YesOption = False,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Deletes all rows of a data source, or of its quarantine. What views made of them stays."""
    _confirm(f"Delete all rows of {name}?", yes)
    ask(resolve(context, data, host, token), "POST", f"/v0/datasources/{quote(name, safe='')}/truncate")
    line(out, f"{name} is empty")


@app.command(
    "analyze", epilog=examples("pipit datasource analyze events.csv", "pipit datasource analyze events.parquet")
)
def analyze(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="CSV, NDJSON or Parquet; or a URL.", metavar="FILE")],
    format: FormatOption = "",
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Says which columns a file has, and prints a schema for it."""
    found = run(file_rows.analyzed(resolve(context, data, host, token), file, _asked(file, format, "")))
    table = Table("Column", "Type", "Path", "Present")
    for column in found["analysis"]["columns"]:
        cells = (column["name"], column["recommended_type"], column["path"], f"{column['present_pct'] * 100:.0f} %")
        table.add_row(*(printable(str(cell)) for cell in cells))
    show_table(table)


@app.command(
    "create",
    epilog=examples("pipit datasource create events --file events.csv", "pipit datasource create p --file p.parquet"),
)
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="How the data source is to be called.", metavar="NAME")],
    file: Annotated[str, typer.Option("--file", help="CSV, NDJSON or Parquet; or a URL.", metavar="FILE")],
    format: FormatOption = "",
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Writes datasources/NAME.datasource with the schema of a file. `pipit deploy` makes it live."""
    found = run(file_rows.analyzed(resolve(context, data, host, token), file, _asked(file, format, "")))
    path = Path("datasources") / f"{name}.datasource"
    if path.exists():
        raise BadRequest(f"{path} exists already", hint="Choose another name, or delete the file.")
    columns = ",\n    ".join(found["analysis"]["schema"].split(", `")).replace("\n    ", "\n    `")
    key = found["analysis"].get("sorting_key") or "tuple()"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"SCHEMA >\n    {columns}\n\nENGINE MergeTree\nENGINE_SORTING_KEY {key}\n", encoding="utf-8")
    line(out, f"{path} written: look at its types and sorting key, then `pipit deploy`")


@app.command("data", epilog=examples("pipit datasource data events --limit 5"))
def data_of(
    context: typer.Context,
    name: Name,
    limit: Annotated[int, typer.Option("--limit", help="How many rows.", min=1, metavar="N")] = 10,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Prints some rows of a data source."""
    options = resolve(context, data, host, token)
    query = f"SELECT * FROM {_identifier(name)} LIMIT {limit} FORMAT JSON"
    found = ask(options, "POST", "/v0/sql", data=query.encode())
    table = Table(*(printable(str(column["name"])) for column in found["meta"]))
    for row in found["data"]:
        table.add_row(*(printable(str(cell)) for cell in row.values()))
    show_table(table)


@app.command(
    "export",
    epilog=examples("pipit datasource export events events.parquet", "pipit datasource export events events.csv"),
)
def export(
    context: typer.Context,
    name: Name,
    file: Annotated[str, typer.Argument(help="Where to: .csv, .ndjson or .parquet.", metavar="FILE")],
    where: Annotated[str, typer.Option("--where", help="Only the rows for which it holds.", metavar="SQL")] = "",
    format: FormatOption = "",
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Writes the rows of a data source to a file."""
    chosen = file_rows.format_of(file, format)
    engine = {"csv": "CSVWithNames", "ndjson": "JSONEachRow", "parquet": "Parquet"}[chosen]
    condition = f" WHERE {where}" if where else ""
    query = f"SELECT * FROM {_identifier(name)}{condition} FORMAT {engine}"
    size = run(_exported(resolve(context, data, host, token), query, Path(file)))
    line(out, f"{_size(size)} written to {file}")


@app.command("stop", epilog=examples("pipit datasource stop orders"))
def stop(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A data source with KAFKA_* or IMPORT_* settings.", metavar="NAME")],
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Ends the reading of a data source's topic or bucket. It stays stopped until `start`, whatever is deployed."""
    ask(resolve(context, data, host, token), "POST", f"/v0/datasources/{quote(name, safe='')}/stop")
    note(f"{name} reads nothing now; where it was is kept.")


@app.command("start", epilog=examples("pipit datasource start orders"))
def start(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A data source with KAFKA_* or IMPORT_* settings.", metavar="NAME")],
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Goes on reading a data source's topic or bucket where it was stopped."""
    ask(resolve(context, data, host, token), "POST", f"/v0/datasources/{quote(name, safe='')}/start")
    note(f"{name} reads again.")


@app.command("sync", epilog=examples("pipit datasource sync orders"))
def sync(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A data source with IMPORT_* settings.", metavar="NAME")],
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Looks at a data source's bucket now, and waits until what is new there is loaded.

    What was parked is tried again. Exit code 1 if something cannot be loaded.
    """
    options = resolve(context, data, host, token)
    job = run(_synced(options, f"/v0/datasources/{quote(name, safe='')}/scheduling/runs"))
    files, rows = int(job["files"]), int(job["successful_rows"])
    line(out, f"{count(files, 'file')} loaded: {count(rows, 'row')} added to {name}")
    if bad := int(job["quarantine_rows"]):
        line(err, (f"{count(bad, 'row')} did not fit and went to {name}_quarantine", "bold yellow"))
    if failed := int(job["failed_files"]):
        line(err, (f"{count(failed, 'file')} cannot be loaded: `pipit connection ls` says why", "bold red"))
        raise typer.Exit(1)


def _asked(file: str, format: str, delimiter: str) -> dict[str, str]:
    return {"format": file_rows.format_of(file, format)} | ({"dialect_delimiter": delimiter} if delimiter else {})


def _tell(
    name: str,
    file: str,
    rows: int,
    quarantined: int,
    *,
    strict: bool,
    loaded: LoadedFile | None = None,
    did: str = "added to",
) -> None:
    """What a load came to. Raises Exit where nobody should take it for a success."""
    line(out, f"{count(rows, 'row')} {did} {name}")
    if loaded is not None and err.is_terminal:
        note(loaded.speed)
    if not quarantined:
        return
    if rows:
        line(err, (f"{count(quarantined, 'row')} did not fit and went to {name}_quarantine", "bold yellow"))
    else:
        source = "standard input" if file == "-" else file
        none = f"No row of {source} fits {name}: {count(quarantined, 'row')} went to {name}_quarantine"
        line(err, ("Error: ", "bold red"), none)
    columns = "c__error, c__record" if loaded is None else "c__line, c__error, c__record"
    line(err, f'Why: pipit sql "SELECT {columns} FROM {name}_quarantine LIMIT 10"')
    if strict or not rows:
        raise typer.Exit(_EXIT_QUARANTINED)


async def _deleted(options: GlobalOptions, path: str, asked: Mapping[str, str]) -> dict[str, Any]:
    async with connect(options) as client:
        return await file_rows.ended(client, await client.ask("POST", path, data=dict(asked)))


async def _synced(options: GlobalOptions, path: str) -> dict[str, Any]:
    async with connect(options) as client:
        return await file_rows.ended(client, (await client.ask("POST", path))["job"])


async def _exported(options: GlobalOptions, query: str, path: Path) -> int:
    size = 0
    async with connect(options) as client, client.open("POST", "/v0/sql", data=query.encode()) as response:
        with path.open("wb") as file:
            async for block in response.content.iter_any():
                file.write(block)
                size += len(block)
    return size


def _confirm(question: str, yes: bool) -> None:
    if not yes:
        if not err.is_terminal:
            raise BadRequest(question.replace("?", " needs your word"), hint="Add --yes if that is what you want.")
        typer.confirm(question, abort=True, err=True)


def _identifier(name: str) -> str:
    from pipit.sql.identifiers import quote as quoted

    return quoted(name)


def _size(number: int) -> str:
    size, units = float(number), ["B", "KB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:,.1f} {units[0]}" if size < number else f"{number} B"
