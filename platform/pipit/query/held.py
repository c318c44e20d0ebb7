"""Whole answers that wait for their clients: in memory while there is room for all of them, else in a file.

An answer under a filter is complete before its first byte is sent, and its client may take as long as it likes. So what
all of them hold of this process's memory is bounded; what does not fit goes into a file without a name, which is gone
with its reader. Files are bounded as well, in all and for one token. For one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from pipit.errors import RateLimited, Reason, Unavailable
from pipit.query.admission import Name
from pipit.query.cache import once

log = logging.getLogger("pipit.query")

MEMORY_BYTES = 48 * 1024 * 1024  # of all answers together
FILE_BYTES = 8 * 1024**3
FILE_BYTES_OF_ONE = 2 * 1024**3
FREE_BYTES = 1024**3  # is left on the disk: events need it more
_PIECE = 256 * 1024  # to and from a file; smaller pieces are collected


class Store:
    def __init__(
        self,
        folder: Path | None = None,
        *,
        memory: int = MEMORY_BYTES,
        files: int = FILE_BYTES,
        files_of_one: int = FILE_BYTES_OF_ONE,
    ) -> None:
        """`folder`: where files are made, on a disk; the system's own for temporary files if there is none."""
        self._folder = folder
        self._memory = memory
        self._files = files
        self._files_of_one = files_of_one
        self.in_memory = 0
        self.in_files: dict[Name, int] = {}

    async def take(self, chunks: AsyncIterator[bytes], name: Name) -> Held:
        """All of an answer, to be closed by the caller. Raises what `chunks` raise, RateLimited, Unavailable."""
        held = Held(self, name)
        try:
            async for chunk in chunks:
                await held.add(chunk)
            await held.complete()
        except BaseException:
            held.close()
            raise
        return held

    @asynccontextmanager
    async def hand(self, name: Name, body: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        """An answer that is complete as a stream, counted until the context ends."""
        held = await self.take(once(body), name)
        try:
            yield held.pieces()
        finally:
            held.close()

    def reserve_memory(self, size: int) -> bool:
        if self.in_memory + size > self._memory:
            return False
        self.in_memory += size
        return True

    def reserve_file(self, name: Name, size: int) -> None:
        if self.in_files.get(name, 0) + size > self._files_of_one:
            raise RateLimited(
                f"The token '{name[2]}' has {self._files_of_one:,} bytes of answers waiting, as many as it may have",
                hint="Read the answers, or end their connections.",
                headers={"Retry-After": "5"},
                reason=Reason.TOO_MUCH_AT_ONCE,
            )
        if sum(self.in_files.values()) + size > self._files:
            log.warning("answers that wait for their clients fill %d bytes: another one was refused", self._files)
            raise _full()
        self.in_files[name] = self.in_files.get(name, 0) + size

    def free_file(self, name: Name, size: int) -> None:
        left = self.in_files.get(name, 0) - size
        if left > 0:
            self.in_files[name] = left
        else:
            self.in_files.pop(name, None)

    def open_file(self) -> IO[bytes]:
        try:
            if self._folder is not None:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                if shutil.disk_usage(self._folder).free < FREE_BYTES:
                    raise OSError("the disk is nearly full")
            return tempfile.TemporaryFile(dir=self._folder)
        except OSError as error:
            log.warning("no file for an answer: %s", error)
            raise _full() from None


class Held:
    """One answer: first the parts in memory, then those of the file."""

    def __init__(self, store: Store, name: Name) -> None:
        self._store = store
        self._name = name
        self._parts: deque[bytes] = deque()
        self._in_parts = 0
        self._taken = 0  # bytes of the part that was given out last
        self._file: IO[bytes] | None = None
        self._in_file = 0
        self._pending: list[bytes] = []  # for the file
        self._in_pending = 0

    async def add(self, chunk: bytes) -> None:
        if self._file is None:
            if self._store.reserve_memory(len(chunk)):
                self._parts.append(chunk)
                self._in_parts += len(chunk)
                return
            self._file = self._store.open_file()
        self._pending.append(chunk)
        self._in_pending += len(chunk)
        if self._in_pending >= _PIECE:
            await self._write()

    async def complete(self) -> None:
        if self._file is not None:
            await self._write()
            self._file.seek(0)

    async def _write(self) -> None:
        assert self._file is not None
        data, self._pending, self._in_pending = b"".join(self._pending), [], 0
        self._store.reserve_file(self._name, len(data))
        self._in_file += len(data)
        try:
            await asyncio.to_thread(self._file.write, data)
        except OSError as error:
            log.warning("an answer cannot be kept in a file: %s", error)
            raise _full() from None

    def pieces(self) -> AsyncIterator[bytes]:
        """Once, from the first to the last byte: the memory of a part is free when the next one is asked for."""
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self._free(self._taken)
        self._taken = 0
        if self._parts:
            part = self._parts.popleft()
            self._taken = len(part)
            return part
        piece = await asyncio.to_thread(self._file.read, _PIECE) if self._file is not None else b""
        if not piece:
            raise StopAsyncIteration
        return piece

    def _free(self, size: int) -> None:
        self._in_parts -= size
        self._store.in_memory -= size

    def close(self) -> None:
        self._parts.clear()
        self._free(self._in_parts)
        self._taken = 0
        if self._file is not None:
            self._store.free_file(self._name, self._in_file)
            self._file.close()


def _full() -> Unavailable:
    return Unavailable(
        "The server holds too many answers that nobody reads",
        retry_after=5,
        hint="Try again soon.",
        reason=Reason.SERVER_BUSY,
    )
