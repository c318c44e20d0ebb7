"""Idempotency keys: a request that comes again is answered as before, and its rows are not appended again
(rule 3).

A key is known by a hash over the caller, the table and the key, never verbatim, so that one client's key
cannot drop another's rows. The same key with another content is a 409: nothing is appended and nothing is
lost. A key is on the disk with its rows, in the segment's frame; when the segment is loaded and before it
is deleted, the key moves to the index file beside the segments, with the counts. The newest keys are
remembered, for a day: what is older, or beyond the bound, would be taken as new.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from pipit.errors import BadRequest, Conflict, Reason
from pipit.ingest import limits


class Known(msgspec.Struct, rename={"digest": "d", "rows": "r", "bad": "b", "created": "t"}):
    """A key's request. `bad` is -1 until its segment is loaded; `loaded` is there while it is not."""

    digest: str
    rows: int
    created: float
    bad: int = -1


class _Line(msgspec.Struct, rename={"key": "k", "known": "v"}):
    key: str
    known: Known


class Entry:
    """A key in memory: what is known of it, and who tells when its rows are on the disk and in the table."""

    __slots__ = ("known", "loaded", "written")

    def __init__(self, known: Known) -> None:
        self.known = known
        self.written: asyncio.Future[None] | None = None
        self.loaded: asyncio.Future[Any] | None = None


def key_hash(scope: str, database: str, table: str, key: str) -> str:
    """Raises BadRequest for a key that nobody would send by intent."""
    if not key.strip() or len(key) > limits.MAX_IDEMPOTENCY_KEY:
        raise BadRequest(
            f"An Idempotency-Key has 1 to {limits.MAX_IDEMPOTENCY_KEY} characters",
            reason=Reason.IDEMPOTENCY_KEY_INVALID,
        )
    parts = (part.encode("utf-8", "surrogateescape") for part in (scope, database, table, key))
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(b"%d:%s" % (len(part), part))
    return state.hexdigest()


def content_hash(payload: bytes) -> str:
    return hashlib.blake2b(payload, digest_size=16).hexdigest()


class Keys:
    """Bounded by age and number; durable in one file, written anew when it is twice as long as needed."""

    def __init__(
        self, path: Path, *, seconds: float = limits.IDEMPOTENCY_SECONDS, most: int = limits.IDEMPOTENCY_KEYS
    ) -> None:
        self._path = path
        self._seconds, self._most = seconds, most
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lines = 0
        self._writing = threading.Lock()

    def open(self) -> None:
        """Reads the index. A line that a crash cut off is skipped: its segment was still there."""
        if self._path.exists():
            for line in self._path.read_bytes().splitlines():
                found = _parse(line)
                self._lines += 1
                if found is not None and time.time() - found.known.created < self._seconds:
                    self._put(found.key, Entry(found.known))
        self._compact()

    def find(self, key: str, digest: str) -> Entry | None:
        """Raises Conflict when the key was used for another content."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if time.time() - entry.known.created >= self._seconds and entry.loaded is None:
            del self._entries[key]
            return None
        if entry.known.digest != digest:
            raise Conflict(
                "This Idempotency-Key was used for other events",
                hint="Nothing was stored. Use a new key for each request, and the same one only to repeat it.",
                reason=Reason.IDEMPOTENCY_KEY_REUSED,
            )
        return entry

    def add(self, key: str, digest: str, rows: int, created: float | None = None) -> Entry:
        entry = Entry(Known(digest, rows, time.time() if created is None else created))
        self._put(key, entry)
        return entry

    def forget(self, key: str) -> None:
        """Its rows could not be written."""
        self._entries.pop(key, None)

    def settle(self, key: str, bad: int) -> None:
        """Its rows are in the table, but for the bad ones."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.known.bad = bad

    def remember(self, keys: Iterable[str]) -> None:
        """Puts settled keys on the disk, before their segment is deleted. Blocks: call it in a thread."""
        lines = [_print(_Line(key, self._entries[key].known)) for key in keys if key in self._entries]
        if not lines:
            return
        with self._writing:
            if self._lines > 2 * max(len(self._entries), 1000):
                self._compact()
            with self._path.open("ab") as file:
                if file.tell() and not _ends_line(self._path):
                    file.write(b"\n")
                file.write(b"".join(lines))
                file.flush()
                os.fdatasync(file.fileno())
            self._lines += len(lines)

    def _put(self, key: str, entry: Entry) -> None:
        self._entries.pop(key, None)
        self._entries[key] = entry
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def _compact(self) -> None:
        if self._lines <= len(self._entries):
            return
        kept = [_Line(k, e.known) for k, e in list(self._entries.items()) if e.known.bad >= 0]
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(b"".join(map(_print, kept)))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        fd = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self._lines = len(kept)


def _print(line: _Line) -> bytes:
    text = msgspec.json.encode(line)
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> _Line | None:
    crc, _, text = line.partition(b" ")
    if crc != b"%08x" % zlib.crc32(text):
        return None
    try:
        return msgspec.json.decode(text, type=_Line)
    except msgspec.DecodeError:
        return None


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
