"""One sealed segment into its tables: straight from the file, once however often it is tried (design, "A
write").

Tokens are made of the segment's name and a hash over its content; good and bad rows have their own, so the
outcome of an attempt that was cut off anywhere is completed by the next one, never doubled. The first
attempt reads the file once and raises on a bad row before anything is written. Only when it fails are the
rows counted, and what the engine's tables say, not its messages, decides: bad rows go to the quarantine and
the rest is inserted; too many partitions are inserted in groups; a table that is gone is NotFound. What then
still fails is a materialized view (422: the rows are stored) if the table takes the rows without its views. Else
some rows are such that the table cannot take them (`isolate`): they go to the quarantine, and the rest in. A
full disk, too little memory and too many parts are nobody's rows: Unavailable or QueryTimeout.

All that an attempt needs stands in the segment's header, so that a replay after a deployment is the same
insert.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from pipit.datafiles.resources import Column
from pipit.engine.client import Engine
from pipit.errors import NotFound, QueryTimeout, SqlError, Unavailable, UnprocessableWrite
from pipit.ingest import isolate, limits, parse, quarantine
from pipit.ingest.field import FixedValue
from pipit.ingest.parse import Reader
from pipit.ingest.segment import Segment
from pipit.sql.identifiers import quote

_TOO_MANY_PARTS = 252
_LATER = frozenset({243, 74, 75, 76})  # the disk: full, or it refuses
_PERHAPS_LATER = frozenset({241, 1001})  # memory, the library's own errors (a full disk too): not for ever


# Its names are plain (catalog): the engine prints them without quotes, or with.
_TARGET = re.compile(r" TO (?:`?\w+`?\.)?`?(\w+)`? ")


class ViewFailed(UnprocessableWrite):
    """The table has the rows; `bad` are the refused ones of each request."""

    def __init__(self, failure: SqlError, bad: list[int]) -> None:
        super().__init__(
            "The events were stored, but a materialized view failed on them",
            hint="Do not send them again: the view is fed when it works again. Its error: " + failure.message[:300],
        )
        self.bad = bad


class _TableRefuses(Exception):
    """Not a view, not the engine: the table takes these rows not at all, or some of them not."""

    def __init__(self, failure: SqlError) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class _Job:
    """What a segment's header says, and the SQL made of it."""

    segment: Segment
    path: Path  # where its rows are read from
    reader: Reader
    table: str
    quarantine: str
    partition: str
    settings: Mapping[str, str | int]
    max_partitions: int

    @classmethod
    def of(cls, segment: Segment) -> _Job:
        meta = segment.header.meta
        columns = tuple(Column(name, type, path, default) for name, type, path, default in meta["columns"])
        database = quote(segment.header.database)
        return cls(
            segment,
            segment.path,
            parse.reader(columns, meta["fixed"], segment.mark),
            f"{database}.{quote(segment.header.table)}",
            f"{database}.{quote(meta['quarantine'])}",
            meta["partition"],
            meta["settings"],
            int(meta["settings"]["max_partitions_per_insert_block"]),
        )


def meta(
    columns: Sequence[Column], quarantine_table: str, partition_key: str, fixed: Mapping[str, FixedValue]
) -> dict[str, Any]:
    """For the header of a segment: all that `load` will need."""
    return {
        "columns": [[c.name, c.type, c.jsonpath, c.default] for c in columns],
        "quarantine": quarantine_table,
        "partition": partition_key,
        "fixed": dict(fixed),
        "settings": dict(limits.insert_settings()),
    }


async def load(engine: Engine, segment: Segment) -> list[int]:
    """Inserts the segment; returns the bad rows of each of its requests. After any error, try it again."""
    job = _Job.of(segment)
    failure: SqlError | None = None
    if not segment.notes.refused:
        try:
            await _insert(engine, job, job.reader.good_rows(strict=True), segment.token)
            return [0] * len(segment.frames)
        except SqlError as error:
            failure = error
    if not await _exists(engine, segment):
        raise NotFound("The data source was deleted")
    if failure is not None:
        _raise_if_short_of_means(failure)
    bad = await _count_bad(engine, job)
    if any(bad):
        failure = None
        await _quarantine(engine, job, job.reader.bad_rows(segment.name), "bad")
        if sum(bad) == segment.rows:
            return bad
    if not segment.notes.refused:
        try:
            await _store(engine, job, bad, failure)
            return bad
        except _TableRefuses as error:
            await _note_refused(engine, job, error.failure)
    return await _load_without_refused(engine, job)


async def _store(engine: Engine, job: _Job, bad: list[int], failure: SqlError | None = None) -> None:
    """The good rows, into the table for certain. `failure`: of their first attempt, when it was made."""
    token = job.segment.token
    inserts = [(job.reader.good_rows(strict=False), token)]
    try:
        if failure is None:
            await _insert(engine, job, *inserts[0])
            return
    except SqlError as error:
        failure = error
    wide: dict[str, int] = {}
    if failure.engine_code == _TOO_MANY_PARTS:
        inserts = await _groups(engine, job) or inserts
        wide = {"max_partitions_per_insert_block": limits.MAX_PARTITIONS_OF_VIEWS}  # the groups see to the table's
    views = await _feeds_views(engine, job.segment)
    failed: SqlError | None = None
    for select, token in inserts:
        try:
            await _insert(engine, job, select, token, **wide)
            continue
        except SqlError as error:
            _raise_if_short_of_means(error)
            failure = error
        try:
            if not views:
                raise failure
            # The table's own part of it, under the same token: what the table refuses raises, and is not stored.
            await _insert(engine, job, select, token, materialized_views_ignore_errors=1, **wide)
            failed = failure
        except SqlError as error:
            _raise_if_short_of_means(error)
            if error.engine_code == _TOO_MANY_PARTS:
                raise Unavailable("The table is behind with its merges", retry_after=5) from None
            if len(inserts) > 1:
                raise  # without some rows the groups would be others, under the same tokens
            raise _TableRefuses(error) from None
    if failed is not None:
        raise ViewFailed(failed, bad)


async def _note_refused(engine: Engine, job: _Job, failure: SqlError) -> None:
    """Finds what the table refuses. Once that is on the disk, it is never looked for again: every replay is the
    same, whatever the table takes by then.
    """
    notes = job.segment.notes
    try:
        refused = await isolate.find(engine, job.segment, job.reader)
    except SqlError as error:
        _raise_if_short_of_means(error)
        raise
    if not refused:
        raise failure
    notes.refused = refused
    try:
        await asyncio.to_thread(job.segment.save_notes)
    except OSError:
        notes.refused = []
        raise Unavailable("The disk of the server refuses to be written") from None


async def _load_without_refused(engine: Engine, job: _Job) -> list[int]:
    """To the quarantine with the refused rows, and the rest into the table, under the segment's own token: a
    partition that an attempt before stored held none of them.
    """
    segment = job.segment
    rows = await asyncio.to_thread(isolate.rows_of, segment)
    path = isolate.scratch(segment, "rest")
    try:
        for number, some in enumerate(_at_once(segment.notes.refused)):
            await asyncio.to_thread(path.write_bytes, b"".join(b"".join(rows[a:b]) for a, b, _ in some))
            select = quarantine.refused_rows(job.reader, segment.name, [reason for _, _, reason in some])
            await _quarantine(engine, replace(job, path=path), select, f"refused-{number}")
        for a, b, _ in segment.notes.refused:
            rows[a:b] = [b""] * (b - a)
        left = [sum(map(bool, rows[s : s + f.rows])) for s, f in zip(segment.starts, segment.frames, strict=True)]
        await asyncio.to_thread(path.write_bytes, b"".join(rows))
        rest = replace(job, path=path)
        wrong = await _count_bad(engine, rest, left)
        bad = [f.rows - n + w for f, n, w in zip(segment.frames, left, wrong, strict=True)]
        if sum(bad) < segment.rows:
            await _store(engine, rest, bad)
        return bad
    except _TableRefuses as error:
        raise error.failure from None
    except OSError:
        raise Unavailable("The disk of the server refuses to be written") from None
    finally:
        path.unlink(missing_ok=True)


def _at_once(refused: Sequence[isolate.Refused]) -> Iterator[Sequence[isolate.Refused]]:
    """Single rows together, each with its reason; a stretch of rows alone, with one reason."""
    single = [r for r in refused if r[1] - r[0] == 1]
    for start in range(0, len(single), limits.REFUSED_ROWS_AT_ONCE):
        yield single[start : start + limits.REFUSED_ROWS_AT_ONCE]
    yield from ([r] for r in refused if r[1] - r[0] > 1)


def _raise_if_short_of_means(error: SqlError) -> None:
    """Not the rows and not a view: the same insert may work later, and is told as such."""
    if error.engine_code in _LATER:
        raise Unavailable("The engine cannot store events now: " + error.message[:300], retry_after=5) from None
    if error.engine_code in _PERHAPS_LATER:
        raise QueryTimeout("The engine could not store the events: " + error.message[:300]) from None


async def blocks(engine: Engine, segment: Segment) -> dict[str, int]:
    """How many blocks each table that the segment goes to has seen: the engine numbers them. Never too few.

    The tables are its own, its quarantine and the targets of views behind it, however far.
    """
    database = {"database": segment.header.database}
    tables = await engine.rows(
        "SELECT name, create_table_query AS created, dependencies_table AS views FROM system.tables "
        "WHERE database = {database:String}",
        database,
    )
    known = {t["name"]: t for t in tables}
    reached = {segment.header.table, segment.header.meta["quarantine"]}
    todo = [segment.header.table]
    while todo:
        for view in known.get(todo.pop(), {}).get("views", ()):
            target = _TARGET.search(known[view]["created"]) if view in known else None
            for name in (view, target[1] if target else view):
                if name not in reached:
                    reached.add(name)
                    todo.append(name)
    numbers = await engine.rows(
        "SELECT table, sum(number) AS n FROM (SELECT table, max(max_block_number) AS number FROM system.parts "
        "WHERE database = {database:String} GROUP BY table, if(startsWith(engine, 'Replicated'), partition_id, '')) "
        "GROUP BY table",
        database,
    )
    counted = {row["table"]: int(row["n"]) for row in numbers}
    return {name: counted.get(name, 0) for name in sorted(reached)}


async def _insert(engine: Engine, job: _Job, select: str, token: str, **settings: int) -> None:
    await _put(engine, job, f"{job.table} ({job.reader.names})", select, token, **settings)


async def _quarantine(engine: Engine, job: _Job, select: str, what: str) -> None:
    into = f"{job.quarantine} ({quarantine.insert_columns(job.reader)})"
    try:
        await _put(engine, job, into, select, f"{job.segment.token}-{what}", max_threads=1)
    except SqlError as error:
        _raise_if_short_of_means(error)
        raise


async def _put(engine: Engine, job: _Job, into: str, select: str, token: str, **settings: int) -> None:
    await engine.insert_file(
        into,
        select,
        job.path,
        format=parse.FORMAT,
        structure=parse.STRUCTURE,
        settings={**job.settings, **settings, "insert_deduplication_token": token},
    )


async def _groups(engine: Engine, job: _Job) -> list[tuple[str, str]]:
    """Inserts for a segment over too many partitions: some of them at a time, each group under its own token.
    None when it is too many parts for another reason.
    """
    if not job.partition:
        return []
    partition = f"({job.partition})"
    try:
        (row,) = await _select(engine, job, job.reader.partitions(partition))
    except SqlError as error:  # it is over a column that only the table computes
        _raise_if_short_of_means(error)
        return []
    size = job.max_partitions
    if row["partitions"] <= size:
        return []
    groups = range(-(-row["partitions"] // size))
    return [(job.reader.good_rows_of_group(partition, g, size), f"{job.segment.token}-{g}") for g in groups]


async def _count_bad(engine: Engine, job: _Job, rows: Sequence[int] | None = None) -> list[int]:
    """Of each request; `rows`: how many it has in the file, when that is not the whole segment."""
    rows = [frame.rows for frame in job.segment.frames] if rows is None else rows
    starts = list(accumulate(rows, initial=0))[:-1]
    there = [s for s, n in zip(starts, rows, strict=True) if n]
    if not there:
        return [0] * len(rows)
    counted = {row["start"]: row for row in await _select(engine, job, job.reader.counts(there))}
    if [counted.get(s, {}).get("total", 0) if n else 0 for s, n in zip(starts, rows, strict=True)] != list(rows):
        raise SqlError("A segment does not hold the rows that were written to it")
    return [counted[s]["bad"] if n else 0 for s, n in zip(starts, rows, strict=True)]


async def _select(engine: Engine, job: _Job, select: str) -> list[dict[str, Any]]:
    return await engine.select_file(
        select,
        job.path,
        format=parse.FORMAT,
        structure=parse.STRUCTURE,
        # One thread: rows keep their order, and so their numbers.
        settings={"max_threads": 1, **limits.STATEMENT_SETTINGS},
    )


async def _exists(engine: Engine, segment: Segment) -> bool:
    return bool(await _table_rows(engine, segment, "name"))


async def _feeds_views(engine: Engine, segment: Segment) -> bool:
    rows = await _table_rows(engine, segment, "length(dependencies_table) AS views")
    return bool(rows and rows[0]["views"])


async def _table_rows(engine: Engine, segment: Segment, columns: str) -> list[dict[str, Any]]:
    return await engine.rows(
        f"SELECT {columns} FROM system.tables WHERE database = {{database:String}} AND name = {{table:String}}",
        {"database": segment.header.database, "table": segment.header.table},
    )
