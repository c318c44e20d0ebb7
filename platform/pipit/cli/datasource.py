"""`pipit datasource`: a file of rows into one, as any client of the events API sends them; topics stopped, started."""

from __future__ import annotations

import asyncio
import gzip
import secrets
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, cast
from urllib.parse import quote

import msgspec
import typer

from pipit.cli.client import Client
from pipit.cli.commands import Commands
from pipit.cli.options import DataOption, GlobalOptions, HostOption, TokenOption, examples, resolve
from pipit.cli.output import count, err, line, note, out
from pipit.cli.target import ask, connect, run
from pipit.errors import BadRequest, NotFound, PipitError, RateLimited, TooLarge, Unavailable
from pipit.suggest import did_you_mean, listed

app = Commands(help="Data sources: put rows into them, stop and start the reading of a topic.")

_CHUNK_BYTES = 8 * 1024 * 1024  # below the server's 10 MB a request
_JSON_BYTES = 512 * 1024 * 1024  # a JSON array is read as a whole
_ATTEMPTS = 8
_EXIT_QUARANTINED = 1
_TO_NDJSON = "Convert it to NDJSON: one JSON object a line."


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines, and how much of the file has been read after them."""

    body: bytes
    position: int


@dataclass(slots=True)
class Sent:
    successful: int = 0
    quarantined: int = 0


@app.command(
    "append",
    epilog=examples(
        "pipit datasource append events events.ndjson",
        "pipit datasource append events export.ndjson.gz --strict",
        "generate-events | pipit datasource append events -",
    ),
)
def append(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The data source.", metavar="NAME")],
    file: Annotated[
        str,
        typer.Argument(
            help="NDJSON, or a JSON object or array; .gz is unpacked; '-' is standard input.", metavar="FILE"
        ),
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any row is quarantined.")] = False,
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Adds the rows of a file to a data source, and waits until they are in the table.

    Rows that do not fit the schema land in NAME_quarantine, each with its reason. Exit code 1 if none of the rows fit;
    with --strict, if any did not.
    """
    with _opened(file) as (source, size):
        sent = run(_append(resolve(context, data, host, token), name, file, source, size))
    line(out, f"{count(sent.successful, 'row')} added to {name}")
    if sent.quarantined:
        if sent.successful:
            line(err, (f"{count(sent.quarantined, 'row')} did not fit and went to {name}_quarantine", "bold yellow"))
        else:
            source_name = "standard input" if file == "-" else file
            none = f"No row of {source_name} fits {name}: {count(sent.quarantined, 'row')} went to {name}_quarantine"
            line(err, ("Error: ", "bold red"), none)
        line(err, f'Why: pipit sql "SELECT c__error, c__record FROM {name}_quarantine LIMIT 10"')
        if strict or not sent.successful:
            raise typer.Exit(_EXIT_QUARANTINED)


@app.command("stop", epilog=examples("pipit datasource stop orders"))
def stop(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A data source with KAFKA_* settings.", metavar="NAME")],
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Ends the reading of a data source's topic. It stays stopped until `start`, whatever is deployed meanwhile."""
    ask(resolve(context, data, host, token), "POST", f"/v0/datasources/{quote(name, safe='')}/stop")
    note(f"{name} reads nothing now; its group keeps its position.")


@app.command("start", epilog=examples("pipit datasource start orders"))
def start(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A data source with KAFKA_* settings.", metavar="NAME")],
    data: DataOption = None,
    host: HostOption = None,
    token: TokenOption = None,
) -> None:
    """Goes on reading a data source's topic where it was stopped."""
    ask(resolve(context, data, host, token), "POST", f"/v0/datasources/{quote(name, safe='')}/start")
    note(f"{name} reads its topic again.")


async def _append(options: GlobalOptions, name: str, file: str, source: IO[bytes], size: int | None) -> Sent:
    sent = Sent()
    key = secrets.token_hex(16)
    async with connect(options) as client:
        try:
            with _progress(file, size) as advance:
                for number, piece in enumerate(pieces(file, source)):
                    result = await _send(client, name, piece.body, f"{key}-{number}")
                    sent.successful += int(result["successful_rows"])
                    sent.quarantined += int(result["quarantined_rows"])
                    advance(piece.position)
            if not sent.successful and not sent.quarantined:
                await _check_target(client, name)
        except NotFound as error:
            raise NotFound(
                error.message, reason=error.reason, hint=await _what_there_is(client, name) or error.hint
            ) from None
        except PipitError:
            if sent.successful or sent.quarantined:
                note(f"{count(sent.successful, 'row')} of {file} had been added to {name} before this error:")
            raise
    return sent


async def _what_there_is(client: Client, name: str) -> str:
    """The data source that may be meant, or a few that are deployed; nothing for a token that may not see them."""
    try:
        found = [str(one["name"]) for one in (await client.get("/v0/datasources"))["datasources"]]
    except PipitError:
        return ""
    return did_you_mean(name, found) or (f"{listed(found)} `pipit deploy` makes the project's live." if found else "")


async def _check_target(client: Client, name: str) -> None:
    """A file without rows is sent to nobody, and a name that does not exist is an error all the same."""
    try:
        await client.post("/v0/events", {"name": name}, data=b"")
    except PipitError as error:
        if error.status != 400:  # what is refused is that the body is empty
            raise


async def _send(client: Client, name: str, body: bytes, key: str) -> dict[str, int]:
    """One piece, tried again while the server is busy or its engine away: the key lets it count once."""
    for attempt in range(_ATTEMPTS):
        try:
            return await client.post(
                "/v0/events",
                {"name": name, "wait": "true"},
                data=body,
                headers={"Content-Type": "application/x-ndjson", "Idempotency-Key": key},
            )
        except (RateLimited, Unavailable) as error:
            after = error.headers.get("Retry-After", "")
            if attempt == _ATTEMPTS - 1 or not after:
                raise
            await asyncio.sleep(min(max(int(after) if after.isdigit() else 1, 0.2 * 2**attempt), 10))
    raise AssertionError("unreachable")


def pieces(file: str, source: IO[bytes]) -> Iterator[Piece]:
    """The file's rows as NDJSON in bounded pieces that end where a line does. Raises BadRequest, TooLarge."""
    name = file.removesuffix(".gz")
    content: IO[bytes] = cast(IO[bytes], gzip.GzipFile(fileobj=source)) if file.endswith(".gz") else source
    if name.endswith((".csv", ".parquet")):
        raise BadRequest(
            f"{name.rpartition('.')[2]} files cannot be appended yet",
            hint=_TO_NDJSON,
        )
    lines = _json_lines(content, file) if name.endswith(".json") else _lines(content, file)
    collected: list[bytes] = []
    size = 0
    for number, text in enumerate(lines, 1):
        if len(text) > _CHUNK_BYTES:
            raise TooLarge(f"{file}:{number}: the line is longer than {_CHUNK_BYTES:,} bytes")
        if size + len(text) > _CHUNK_BYTES:
            yield Piece(b"".join(collected), source.tell() if source.seekable() else 0)
            collected, size = [], 0
        if text.strip():
            collected.append(text if text.endswith(b"\n") else text + b"\n")
            size += len(text)
    if collected:
        yield Piece(b"".join(collected), source.tell() if source.seekable() else 0)


def _json_lines(content: IO[bytes], file: str) -> Iterator[bytes]:
    """A .json file: an array of objects, one object, or NDJSON under another name."""
    text = b"".join(_lines(content, file)) if file.endswith(".gz") else content.read(_JSON_BYTES + 1)
    if len(text) > _JSON_BYTES:
        raise TooLarge(f"{file} is larger than {_JSON_BYTES:,} bytes", hint=_TO_NDJSON)
    if text.lstrip()[:1] == b"[":
        try:
            rows = msgspec.json.decode(text, type=list[msgspec.Raw])
        except msgspec.MsgspecError as error:
            raise BadRequest(f"{file} is not JSON: {error}") from None
        yield from (msgspec.json.format(bytes(row), indent=-1) + b"\n" for row in rows)
        return
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.MsgspecError:
        yield from (one + b"\n" for one in text.split(b"\n"))
    else:
        yield msgspec.json.format(text, indent=-1) + b"\n"


def _lines(content: IO[bytes], file: str) -> Iterator[bytes]:
    try:
        while text := content.readline(_CHUNK_BYTES + 1):
            yield text
    except (OSError, EOFError, zlib.error):  # what gzip raises for a file that is not, or not wholly, gzip
        raise BadRequest(f"{file} cannot be read to its end: it is damaged, or not what its name says") from None


@contextmanager
def _opened(file: str) -> Iterator[tuple[IO[bytes], int | None]]:
    if file == "-":
        yield sys.stdin.buffer, None
        return
    path = Path(file)
    try:
        source = path.open("rb")
    except OSError as error:
        raise BadRequest(f"{file} cannot be read: {error.strerror}") from None
    with source:
        yield source, path.stat().st_size


@contextmanager
def _progress(file: str, size: int | None) -> Iterator[Callable[[int], None]]:
    """Called with the position in the file; a bar where somebody looks."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
    with bar:
        task = bar.add_task(Path(file).name, total=size)
        yield lambda position: bar.update(task, completed=position)
