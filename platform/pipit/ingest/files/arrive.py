"""A file's bytes from wherever they come to the disk: unpacked, bounded, cut into pieces.

gzip and zstd are known by the Content-Encoding or by their first bytes, whatever the file is called. The bound counts
unpacked bytes, so that a bomb ends at it. Memory is bounded whatever comes.
"""

from __future__ import annotations

import asyncio
import os
import sys
import zlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipit.errors import BadRequest, DiskFull, Reason, TooLarge
from pipit.ingest import disk
from pipit.ingest.body import decoder_of, encoding_of
from pipit.ingest.files import dialect
from pipit.ingest.files.cut import Cutter, FilePiece, without_bom
from pipit.ingest.files.dialect import Dialect

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError
else:
    from backports.zstd import ZstdError

CSV, NDJSON, PARQUET = "csv", "ndjson", "parquet"
FORMATS = (CSV, NDJSON, PARQUET)
MAX_FILE_BYTES = 32 << 30  # unpacked
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_PARQUET_MAGIC = b"PAR1"
ROOM_BYTES = 256 << 20  # of the disk, that a file leaves free
_LOOKED_AFTER = 16 << 20
MAX_ANALYZED_BYTES = 256 << 20
_ANALYZED = 8 << 20
_HEAD = 1 << 20  # looked at, to see how a file is written
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Arrived:
    """A file that lies on the disk, synced. `set_aside`: lines that no piece has (`cut.py`)."""

    pieces: tuple[FilePiece, ...]
    set_aside: int = 0
    delimiter: str = ","
    names: tuple[str, ...] = ()
    width: int = 0
    bytes: int = 0


async def arrive(
    stream: AsyncIterator[bytes],
    folder: Path,
    format: str,
    *,
    columns: Collection[str],
    parameters: Mapping[str, str],
    encodings: Sequence[str] = (),
    limit: int = MAX_FILE_BYTES,
) -> Arrived:
    """Into a folder that is there and empty. `parameters`: of the request, those of a dialect among them.

    Raises BadRequest, TooLarge, DiskFull.
    """
    delimiter = dialect.asked(parameters) if format == CSV else ""
    try:
        unpacked = _with_room(_even(_bounded(_unpacked(_blocks(stream), encodings), limit)), folder)
        if format == PARQUET:
            arrived = await _whole(unpacked, folder)
        else:
            arrived = await _cut(unpacked, folder, format == CSV, columns, delimiter)
        await asyncio.to_thread(disk.sync_folder, folder)
    except (zlib.error, ZstdError, EOFError):
        raise BadRequest(
            "The file is damaged: it cannot be unpacked to its end",
            hint="Send it again, packed with gzip or zstd, or as it is.",
            reason=Reason.BODY_INVALID,
        ) from None
    except OSError as error:
        raise DiskFull(
            "The disk of the server has no room for the file", detail=str(error), reason=Reason.DISK_FULL
        ) from None
    return arrived


async def keep_head(stream: AsyncIterator[bytes], path: Path, encodings: Sequence[str]) -> bytes:
    """The beginning of a file, whole lines of it, or all of a file of Parquet; on the disk, and returned as far as it
    shows how the file is written. Raises BadRequest, TooLarge.
    """
    head, size = b"", 0
    try:
        with path.open("wb") as file:
            async for block in _bounded(_unpacked(_blocks(stream), encodings), MAX_ANALYZED_BYTES):
                block = block if head else without_bom(block)
                is_parquet = (head or block).startswith(_PARQUET_MAGIC)
                head += block[: max(0, _HEAD - len(head))]
                if not is_parquet and size + len(block) > _ANALYZED:
                    block = block[: block.rfind(b"\n", 0, max(_ANALYZED - size, 0)) + 1]
                    file.write(block)
                    break
                size += len(block)
                file.write(block)
    except (zlib.error, ZstdError, EOFError):
        raise BadRequest("The file is damaged: it cannot be unpacked", reason=Reason.BODY_INVALID) from None
    if not head:
        raise BadRequest("The file is empty", reason=Reason.BODY_EMPTY)
    return head


async def _cut(
    unpacked: AsyncIterator[bytes], folder: Path, csv: bool, columns: Collection[str], delimiter: str
) -> Arrived:
    head = b""
    async for block in unpacked:
        head += block
        if len(head) >= _HEAD:
            break
    head = without_bom(head)
    found = dialect.detected(head[:_HEAD], columns, delimiter) if csv else Dialect()
    cutter = Cutter(folder, csv=csv, delimiter=found.delimiter)
    try:
        if found.names:
            head = cutter.skip_first(head)
        size = len(head)
        await asyncio.to_thread(cutter.feed, head)
        async for block in unpacked:
            size += len(block)
            await asyncio.to_thread(cutter.feed, block)
        await asyncio.to_thread(cutter.finish)
    finally:
        cutter.give_up()
    return Arrived(tuple(cutter.pieces), cutter.set_aside, found.delimiter, found.names, found.width, size)


async def _whole(unpacked: AsyncIterator[bytes], folder: Path) -> Arrived:
    path = folder / "000000"
    size = 0
    with path.open("wb") as file:
        async for block in unpacked:
            if not size and not block.startswith(_PARQUET_MAGIC):
                raise BadRequest(
                    "The file is not Parquet", hint="Is the right format named?", reason=Reason.BODY_INVALID
                )
            size += len(block)
            await asyncio.to_thread(file.write, block)
        await asyncio.to_thread(disk.sync, file)
    return Arrived((FilePiece(path.name, 1, size),) if size else (), bytes=size)


async def _blocks(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Of a size that is worth a thread."""
    held: list[bytes] = []
    size = 0
    async for chunk in stream:
        held.append(chunk)
        size += len(chunk)
        if size >= _BLOCK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


async def _unpacked(blocks: AsyncIterator[bytes], encodings: Sequence[str]) -> AsyncIterator[bytes]:
    encoding = encoding_of(encodings)
    decoder = decoder_of(encoding)
    first = True
    async for block in blocks:
        if first and not encoding:
            encoding = next((name for magic, name in _MAGIC.items() if block.startswith(magic)), "")
            decoder = decoder_of(encoding)
        first = False
        if decoder is None:
            yield block
            continue
        data = block
        while True:
            if decoder.eof:  # several members in a row are one file
                data = data or decoder.unused_data
                if not data:
                    break
                decoder = decoder_of(encoding)
                assert decoder is not None
            out = await asyncio.to_thread(decoder.decompress, data, _BLOCK)
            data = decoder.unused_data if decoder.eof else b""
            if out:
                yield out
            if not out and not data:
                break
    if decoder is not None and not first and not decoder.eof:
        raise EOFError


async def _with_room(blocks: AsyncIterator[bytes], folder: Path) -> AsyncIterator[bytes]:
    """A file must not fill the disk that events and the engine need."""
    unseen = _LOOKED_AFTER
    async for block in blocks:
        unseen += len(block)
        if unseen >= _LOOKED_AFTER:
            unseen = 0
            found = os.statvfs(folder)
            if found.f_bavail * found.f_frsize < ROOM_BYTES:
                raise DiskFull(
                    "The disk of the server has no room for the file",
                    hint=f"{ROOM_BYTES >> 20} MB are kept free for events and the engine.",
                    reason=Reason.DISK_FULL,
                )
        yield block


async def _even(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """All of one size but the last: where pieces end is told by the file, and not by how its bytes came."""
    held = b""
    async for block in blocks:
        held = held + block if held else block
        place = 0
        while len(held) - place >= _BLOCK:
            yield held[place : place + _BLOCK]
            place += _BLOCK
        held = held[place:] if place else held
    if held:
        yield held


async def _bounded(blocks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    size = 0
    async for block in blocks:
        size += len(block)
        if size > limit:
            raise TooLarge(
                f"The file is larger than {limit:,} bytes (unpacked)",
                hint="Send it in parts.",
                reason=Reason.BODY_TOO_LARGE,
            )
        yield block
