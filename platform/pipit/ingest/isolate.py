"""Which rows of a segment the table cannot take, though they read well: a DEFAULT, a constraint or a partition
key throws on them (design, rule 3: one client's row stops nobody else's).

Nothing is stored while they are looked for: parts of the segment are inserted into an empty copy of the table,
which has no views and is dropped in the end. First requests are told apart, then the rows of those that fail. A
request that has too many such rows is refused as a whole: it delays nobody for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from pipit.engine.client import Engine
from pipit.errors import PipitError, SqlError
from pipit.ingest import limits, parse
from pipit.ingest.parse import Reader
from pipit.ingest.segment import SCRATCH, Segment
from pipit.sql.identifiers import quote

Refused = tuple[int, int, str]  # first row, end, reason

# No row is to blame: disk, memory, files, its own state, and what stands in the statement and not in the rows.
NOT_THE_ROWS = frozenset({74, 75, 76, 241, 243, 252, 1001})
_UUID = re.compile(r" \([0-9a-f]{8}-[0-9a-f-]{27}\)")
_SETTINGS = {
    "fsync_after_insert": 0,
    "fsync_part_directory": 0,
    "non_replicated_deduplication_window": 0,
    "parts_to_delay_insert": 1_000_000,
    "parts_to_throw_insert": 1_000_000,
}


def rows_of(segment: Segment) -> list[bytes]:
    """Its rows, each with its line end."""
    data = segment.path.read_bytes()[: segment.size]
    mark = segment.mark.encode()
    return [line + b"\n" for line in data.split(b"\n")[:-1] if not line.startswith(mark)]


def scratch(segment: Segment, purpose: str) -> Path:
    return segment.path.with_suffix(f".{purpose}{SCRATCH}")


async def find(engine: Engine, segment: Segment, reader: Reader) -> list[Refused]:
    """In order. None when it is not the rows: the table refuses all, even an empty insert, or none."""
    copy = _Copy(engine, segment, reader, await asyncio.to_thread(rows_of, segment))
    try:
        await copy.create()
        if await copy.refuses(0, 0) is not None:
            return []
        return await _find(copy, [*segment.starts, segment.rows])
    finally:
        await asyncio.shield(asyncio.create_task(copy.drop()))


async def _find(copy: _Copy, starts: Sequence[int]) -> list[Refused]:
    requests = deque([(0, len(starts) - 1)])
    parts: deque[Refused] = deque()
    while requests:
        first, end = requests.popleft()
        reason = await copy.refuses(starts[first], starts[end])
        if reason is not None and end - first == 1:
            parts.append((starts[first], starts[end], reason))
        elif reason is not None:
            middle = (first + end) // 2
            requests += ((first, middle), (middle, end))
    found: list[Refused] = []
    tries = limits.TRIES_TO_FIND_ROWS
    while parts:  # in turns, so that no request uses up the tries of the others
        start, stop, reason = parts.popleft()
        if stop - start == 1:
            found.append((start, stop, reason))
        elif tries <= 0:
            found.append((start, stop, f"one of {stop - start} rows that were not told apart: {reason}"))
        else:
            tries -= 2
            half = (start + stop) // 2
            for a, b in ((start, half), (half, stop)):
                inner = await copy.refuses(a, b)
                if inner is not None:
                    parts.append((a, b, inner))
    return sorted(found)


class _Copy:
    """An empty table like the segment's."""

    def __init__(self, engine: Engine, segment: Segment, reader: Reader, rows: Sequence[bytes]) -> None:
        self._engine, self._segment, self._reader, self._rows = engine, segment, reader, rows
        self._like = f"{quote(segment.header.database)}.{quote(segment.header.table)}"
        self._name = f"probe_{segment.name}"  # of no form that a project could name
        self._table = f"{quote(segment.header.database)}.{quote(self._name)}"
        self._path = scratch(segment, "probe")
        self._settings = {**segment.header.meta["settings"], "max_partitions_per_insert_block": 0}

    async def create(self) -> None:
        await self._engine.command(f"DROP TABLE IF EXISTS {self._table} SYNC")
        await self._engine.command(f"CREATE TABLE {self._table} AS {self._like}")
        with contextlib.suppress(SqlError):  # not a MergeTree
            settings = ", ".join(f"{k} = {v}" for k, v in _SETTINGS.items())
            await self._engine.command(f"ALTER TABLE {self._table} MODIFY SETTING {settings}")

    async def drop(self) -> None:
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(PipitError):  # the next attempt drops it
            await self._engine.command(f"DROP TABLE IF EXISTS {self._table} SYNC")

    async def refuses(self, start: int, stop: int) -> str | None:
        """Why it does not take these rows (those that read well)."""
        await asyncio.to_thread(self._path.write_bytes, b"".join(self._rows[start:stop]))
        try:
            await self._engine.insert_file(
                f"{self._table} ({self._reader.names})",
                self._reader.good_rows(strict=False),
                self._path,
                format=parse.FORMAT,
                structure=parse.STRUCTURE,
                settings=self._settings,
            )
        except SqlError as error:
            if error.engine_code in NOT_THE_ROWS:
                raise
            reason = _UUID.sub("", error.message.replace(self._name, self._segment.header.table))
            return f"the table does not take the row: {reason}"[:500]
        return None
