"""One sealed segment into its tables: straight from the file, once however often it is tried (design, "A
write").

Tokens are made of the segment's name and a hash over its content; good and bad rows have their own, so the
outcome of an attempt that was cut off anywhere is completed by the next one, never doubled. The first
attempt reads the file once and raises on a bad row before anything is written. Only when it fails are the
rows counted, and what the engine's tables say, not its messages, decides: bad rows go to the quarantine and
the rest is inserted; too many partitions are inserted in groups; a table that is gone is NotFound. What then
still fails is a materialized view (422: the rows are stored) if the table takes the rows without its views, else
the table or the engine.

All that an attempt needs stands in the segment's header, so that a replay after a deployment is the same
insert.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipit.datafiles.resources import Column
from pipit.engine.client import Engine
from pipit.errors import NotFound, SqlError, UnprocessableWrite
from pipit.ingest import limits, parse, quarantine
from pipit.ingest.field import Scalar
from pipit.ingest.parse import Reader
from pipit.ingest.segment import Segment
from pipit.sql.identifiers import quote

_TOO_MANY_PARTS = 252


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


@dataclass(frozen=True, slots=True)
class _Job:
    """What a segment's header says, and the SQL made of it."""

    segment: Segment
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
            parse.reader(columns, meta["fixed"], segment.mark),
            f"{database}.{quote(segment.header.table)}",
            f"{database}.{quote(meta['quarantine'])}",
            meta["partition"],
            meta["settings"],
            int(meta["settings"]["max_partitions_per_insert_block"]),
        )


def meta(
    columns: Sequence[Column], quarantine_table: str, partition_key: str, fixed: Mapping[str, Scalar]
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
    good = job.reader.good_rows(strict=True)
    try:
        await _insert(engine, job, good, segment.token)
        return [0] * len(segment.frames)
    except SqlError as error:
        failure = error
    if not await _exists(engine, segment):
        raise NotFound("The data source was deleted")
    bad = await _count_bad(engine, job)
    if any(bad):
        into = f"{job.quarantine} ({quarantine.insert_columns(job.reader)})"
        await _put(engine, job, into, job.reader.bad_rows(segment.name), f"{segment.token}-bad")
        if sum(bad) == segment.rows:
            return bad
        good = job.reader.good_rows(strict=False)
        try:
            await _insert(engine, job, good, segment.token)
            return bad
        except SqlError as error:
            failure = error
    if failure.engine_code == _TOO_MANY_PARTS and await _insert_in_groups(engine, job):
        return bad
    if await _feeds_views(engine, segment):
        # The table's own part of it, under the same token: what the table refuses raises here, and is not stored.
        await _insert(engine, job, good, segment.token, materialized_views_ignore_errors=1)
        raise ViewFailed(failure, bad)
    raise failure


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


async def _put(engine: Engine, job: _Job, into: str, select: str, token: str, **settings: int) -> None:
    await engine.insert_file(
        into,
        select,
        job.segment.path,
        format=parse.FORMAT,
        structure=parse.STRUCTURE,
        settings={**job.settings, **settings, "insert_deduplication_token": token},
    )


async def _insert_in_groups(engine: Engine, job: _Job) -> bool:
    """A segment over too many partitions: some of them at a time, each group under its own token."""
    if not job.partition:
        return False
    partition = f"({job.partition})"
    (row,) = await _select(engine, job, job.reader.partitions(partition))
    size = job.max_partitions
    if row["partitions"] <= size:
        return False  # too many parts, for another reason: the table is behind with its merges
    for group in range(-(-row["partitions"] // size)):
        select = job.reader.good_rows_of_group(partition, group, size)
        await _insert(engine, job, select, f"{job.segment.token}-{group}")
    return True


async def _count_bad(engine: Engine, job: _Job) -> list[int]:
    starts = job.segment.starts
    rows = await _select(engine, job, job.reader.counts(starts))
    counted = {row["start"]: row for row in rows}
    if [counted.get(s, {}).get("total") for s in starts] != [frame.rows for frame in job.segment.frames]:
        raise SqlError("A segment does not hold the rows that were written to it")
    return [counted[s]["bad"] for s in starts]


async def _select(engine: Engine, job: _Job, select: str) -> list[dict[str, Any]]:
    return await engine.select_file(
        select,
        job.segment.path,
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
