"""A file into a data source: sent as it is, and waited for until its rows are in the table."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipit.cli.client import Client, Json
from pipit.cli.event_rows import progress, what_there_is
from pipit.cli.options import GlobalOptions
from pipit.cli.output import waiting
from pipit.cli.target import connect
from pipit.errors import BadRequest, NotFound, PipitError, Reason, Unavailable

FORMATS = {"csv": "csv", "tsv": "csv", "ndjson": "ndjson", "jsonl": "ndjson", "parquet": "parquet"}
_TYPES = {"csv": "text/csv", "ndjson": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}
_PACKED = (".gz", ".zst")
_BLOCK = 1 << 20
_HEAD = 8 << 20
_ATTEMPTS = 5
_POLL_SECONDS = 0.1
_POLL_MOST = 1.0
ENDED = ("done", "error", "cancelled")


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """What a load came to. `seconds` from the first byte to the last row."""

    job: Json
    bytes: int
    seconds: float

    @property
    def rows(self) -> int:
        return int(self.job["statistics"]["row_count"])

    @property
    def quarantined(self) -> int:
        return int(self.job.get("quarantine_rows", 0))

    @property
    def speed(self) -> str:
        if not self.bytes or self.seconds <= 0:
            return f"{self.seconds:.1f} s"
        return f"{self.bytes / 1e6:,.1f} MB in {self.seconds:.1f} s, {self.bytes / 1e6 / self.seconds:,.1f} MB/s"


def format_of(file: str, asked: str) -> str:
    """As asked for, or by the file's ending. Raises BadRequest."""
    if asked:
        if asked not in _TYPES:
            raise BadRequest(f"'{asked}' is not a format of files", hint=f"One of {', '.join(_TYPES)}.")
        return asked
    name = file.split("?")[0].lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    found = FORMATS.get(name.rpartition(".")[2])
    if found is None:
        raise BadRequest(f"{file}: its name does not say what is in it", hint="Add --format csv, ndjson or parquet.")
    return found


def is_url(file: str) -> bool:
    return file.startswith(("http://", "https://"))


async def load(options: GlobalOptions, name: str, file: str, mode: str, params: Mapping[str, str]) -> LoadedFile:
    """Raises what the server says, and PipitError where the job failed."""
    started = time.monotonic()
    path = f"/v1/datasources/{quote(name, safe='')}/{mode}"
    async with connect(options) as client:
        try:
            job = await _sent(client, path, file, params)
        except PipitError as error:
            if error.reason is not Reason.FOLLOWS_FILES:
                raise
            hint = await what_there_is(client, name) or error.hint
            raise NotFound(
                f'Data Source "{name}" does not exist', reason=Reason.DATASOURCE_NOT_FOUND, hint=hint
            ) from None
        job = await ended(client, job)
    size = int(job["statistics"]["bytes"]) if is_url(file) else _size_of(file)
    return LoadedFile(job, size, time.monotonic() - started)


async def ended(client: Client, job: Json) -> Json:
    """The job when it has ended. Raises PipitError for one that failed."""
    pause = _POLL_SECONDS
    with waiting(f"{job['kind']} into {job['datasource']['name']}"):
        while job["status"] not in ENDED:
            await asyncio.sleep(pause)
            pause = min(pause * 1.3, _POLL_MOST)
            job = await client.get(f"/v0/jobs/{job['id']}")
    if job["status"] != "done":
        raise PipitError(
            str(job.get("error") or f"The job is {job['status']}"),
            hint=f"`pipit job show {job['id']}` says more.",
            reason=Reason.JOB_FAILED,
        )
    return job


async def _sent(client: Client, path: str, file: str, params: Mapping[str, str]) -> Json:
    """The job. Under its key it is one however often it is sent."""
    if is_url(file):
        return await client.post(path, {**params, "url": file})
    source = Path(file)
    headers = {"Content-Type": _TYPES[params["format"]], "Idempotency-Key": secrets.token_hex(16)}
    size = _size_of(file)
    for attempt in range(_ATTEMPTS):
        try:
            with progress(file, size) as advance:
                return await client.post(path, params, data=_blocks(source, advance), headers=headers)
        except Unavailable as error:
            after = error.headers.get("Retry-After", "")
            if attempt == _ATTEMPTS - 1 or not after:
                raise
            await asyncio.sleep(min(int(after) if after.isdigit() else 1, 10))
    raise AssertionError("unreachable")


async def _blocks(path: Path, advance: Callable[[int], None]) -> AsyncIterator[bytes]:
    sent = 0
    with path.open("rb") as file:
        while block := await asyncio.to_thread(file.read, _BLOCK):
            yield block
            sent += len(block)
            advance(sent)


async def analyzed(options: GlobalOptions, file: str, params: Mapping[str, str]) -> dict[str, Any]:
    async with connect(options) as client:
        if is_url(file):
            return await client.post("/v0/analyze", {**params, "url": file})
        return await client.post("/v0/analyze", params, data=_head(file, whole=params.get("format") == "parquet"))


def _head(name: str, *, whole: bool) -> bytes:
    """As much as is looked at."""
    _size_of(name)
    with Path(name).open("rb") as file:
        return file.read(-1 if whole else _HEAD)


def _size_of(name: str) -> int:
    """Raises BadRequest where it cannot be read."""
    try:
        with Path(name).open("rb") as file:
            return os.fstat(file.fileno()).st_size
    except OSError as error:
        raise BadRequest(f"{name} cannot be read: {error.strerror}") from None
