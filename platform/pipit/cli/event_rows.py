"""Rows from standard input, and JSON, into a data source: through the events API, as they come."""

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
from typing import IO, cast

import msgspec

from pipit.cli.client import Client
from pipit.cli.options import GlobalOptions
from pipit.cli.output import count, err, note
from pipit.cli.target import connect
from pipit.errors import BadRequest, NotFound, PipitError, RateLimited, TooLarge, Unavailable
from pipit.suggest import did_you_mean, listed

_CHUNK_BYTES = 8 * 1024 * 1024  # below the server's 10 MB a request
_JSON_BYTES = 512 * 1024 * 1024  # a JSON array is read as a whole
_ATTEMPTS = 8
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


async def append(options: GlobalOptions, name: str, file: str) -> Sent:
    with _opened(file) as (source, size):
        return await _append(options, name, file, source, size)


async def _append(options: GlobalOptions, name: str, file: str, source: IO[bytes], size: int | None) -> Sent:
    sent = Sent()
    key = secrets.token_hex(16)
    async with connect(options) as client:
        try:
            with progress(file, size) as advance:
                for number, piece in enumerate(pieces(file, source)):
                    result = await _send(client, name, piece.body, f"{key}-{number}")
                    sent.successful += int(result["successful_rows"])
                    sent.quarantined += int(result["quarantined_rows"])
                    advance(piece.position)
            if not sent.successful and not sent.quarantined:
                await _check_target(client, name)
        except NotFound as error:
            raise NotFound(
                error.message, reason=error.reason, hint=await what_there_is(client, name) or error.hint
            ) from None
        except PipitError:
            if sent.successful or sent.quarantined:
                note(f"{count(sent.successful, 'row')} of {file} had been added to {name} before this error:")
            raise
    return sent


async def what_there_is(client: Client, name: str) -> str:
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
def progress(file: str, size: int | None) -> Iterator[Callable[[int], None]]:
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
