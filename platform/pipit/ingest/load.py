"""One sealed segment into its tables: once however often it is tried.

Tokens are made of the segment's name and a hash over its content; good and bad rows have their own, so the
outcome of an attempt that was cut off anywhere is completed by the next one, never doubled. In the embedded engine the
rows are parsed once, into a table in memory (`probe`), and all else is a cheap statement on it. Where several requests
stand in a segment whose table feeds views, copies of these are asked first whether they take the rows. Those of the
requests that they refuse wait: all others go in and are answered, then single rows of the held ones are looked for, and
the rest of them goes in under tokens of its own. Rows that do not read well, by the engine's tables and not by its
messages, go to the quarantine, after the others were answered.

Elsewhere (a server may be several, and one does not see the other's memory) the first attempt reads the file once and
raises on a bad row before anything is written. Only when it fails is it told which rows are bad. If the rest fails
too, there or from memory, the rows that the table or one of its views refuses are looked for (`isolate`) and written
down: they go to the quarantine, and the rest in, under the same token. Each table then has each row that it takes,
once: what has the token already, from an attempt before, keeps what it has; so the table may hold a row that its view
refuses. Where a table has one simple view, the requests that it refuses rows of are held back first: the others' rows
go into the view's target directly, under a token of their own, and are answered; then the rows of the held ones are
looked at. What fails without any row being to blame is a broken view (422: the rows are stored) if the table takes
them without its views. A full disk, too little memory and too many parts are nobody's rows: Unavailable or
QueryTimeout. Too many partitions are inserted in groups; a table that is gone is NotFound.

All that an attempt needs stands in the segment's header, so that a replay after a deployment is the same
insert.
"""

from __future__ import annotations

import asyncio
import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from pipit.datafiles.resources import Column
from pipit.engine.client import Engine
from pipit.engine.codes import Code
from pipit.errors import NotFound, QueryTimeout, Reason, SqlError, Unavailable, UnprocessableWrite
from pipit.ingest import isolate, limits, parse, probe, quarantine, values
from pipit.ingest.altered import Altered, as_now
from pipit.ingest.defaults import CheckedDefault
from pipit.ingest.parse import Reader
from pipit.ingest.probe import Empty, Probe
from pipit.ingest.records import Form
from pipit.ingest.segment import Notes, Segment
from pipit.ingest.values import ByLine
from pipit.ingest.watch import Watch
from pipit.sql.identifiers import quote

# The disk: full, or it refuses.
_LATER = frozenset(
    {
        Code.NOT_ENOUGH_SPACE,
        Code.CANNOT_READ_FROM_FILE_DESCRIPTOR,
        Code.CANNOT_WRITE_TO_FILE_DESCRIPTOR,
        Code.CANNOT_OPEN_FILE,
    }
)
# Memory, and the library's own errors (a full disk too): not for ever.
_PERHAPS_LATER = frozenset({Code.MEMORY_LIMIT_EXCEEDED, Code.STD_EXCEPTION})


# Which large segments are read from the copy: by a header of an older version those without JSON or Dynamic columns.
_COPIED, _COPIED_WITH_JSON = 1, 2

VIEW_FAILED = "The events were stored, but a materialized view failed on them"


class ViewFailed(UnprocessableWrite):
    """The table has the rows; `bad` are the refused ones of each request."""

    def __init__(self, failure: SqlError, bad: list[int]) -> None:
        super().__init__(
            VIEW_FAILED,
            hint="Do not send them again: the view is fed when it works again.",
            detail=failure.message[:300],
        )
        self.bad = bad


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
    token: str
    requests: Sequence[isolate.Request]  # that are stored now, under this token
    embedded: bool = False  # the engine is the one that is built in
    copied: bool = False  # it is read from the copy in memory, however large it is

    @property
    def others(self) -> list[isolate.Refused]:
        """The rows of all other requests, as what a question leaves out."""
        return isolate.others(self.segment.rows, isolate.joined([r for r in self.requests if r[0] < r[1]]))

    @property
    def indexes(self) -> list[int]:
        starts = {a for a, _ in self.requests}
        return [n for n, (a, _) in enumerate(self.segment.requests) if a in starts]

    @classmethod
    def of(cls, segment: Segment, defaults: Sequence[CheckedDefault], altered: Altered) -> _Job:
        meta = segment.header.meta
        written = [Column(name, type, path, default) for name, type, path, default in meta["columns"]]
        columns = as_now(written, altered)
        fixed = {name: value for name, value in meta["fixed"].items() if altered.get(name, "") is not None}
        database = quote(segment.header.database)
        form = Form(**meta["records"]) if "records" in meta else None
        by_line = _by_line(segment, columns, altered) if meta.get("fixes") else None
        refusal = ""
        if "needs" in meta and by_line is None:  # it was sent to another generation of the table
            fixed, refusal = parse.fixed_elsewhere(columns, fixed, meta["needs"])
        return cls(
            segment,
            segment.path,
            replace(parse.reader(columns, fixed, segment.mark, defaults, form, by_line), refusal=refusal),
            f"{database}.{quote(segment.header.table)}",
            f"{database}.{quote(meta['quarantine'])}",
            meta["partition"],
            meta["settings"],
            int(meta["settings"]["max_partitions_per_insert_block"]),
            segment.token,
            segment.requests,
        )


def _by_line(segment: Segment, columns: Sequence[Column], altered: Altered) -> ByLine:
    meta = segment.header.meta
    names = tuple((name, is_list) for name, is_list in meta["fixes"])
    known = {column.name for column in columns}
    here = frozenset(name for name, _ in names if name in known and altered.get(name, "") is not None)
    refused: Mapping[str, str] = {}
    if "needs" in meta:
        given = {values.listed(frame.fixed): frame.fixed for frame in segment.frames}
        kept, refused = parse.fixed_by_line_elsewhere(columns, given.values(), meta["needs"])
        here &= kept
    return ByLine(segment.value_mark, segment.mark, names, here, refused)


def meta(
    columns: Sequence[Column],
    quarantine_table: str,
    partition_key: str,
    fixes: Sequence[tuple[str, bool]] = (),
) -> dict[str, Any]:
    """For the header of a segment: all that `load` will need. `fixes`: the columns whose values stand in each line."""
    return {
        "columns": [[c.name, c.type, c.jsonpath, c.default] for c in columns],
        "quarantine": quarantine_table,
        "partition": partition_key,
        "fixed": {},  # segments of earlier versions have values here, of all their rows
        "fixes": [list(one) for one in fixes],
        "settings": dict(limits.insert_settings()),
        "copied": _COPIED_WITH_JSON,
    }


def generation_meta(
    columns: Sequence[Column], quarantine_table: str, partition_key: str, needs: Sequence[str]
) -> dict[str, Any]:
    """What a segment has in place of its header's when it goes to another generation of its table. `needs`: the columns
    that a tenant's token has to fix there."""
    own = meta(columns, quarantine_table, partition_key)
    return {name: own[name] for name in ("columns", "quarantine", "partition")} | {"needs": sorted(needs)}


def _has_json(segment: Segment) -> bool:
    return any("JSON" in (type or "") for _, type, _, _ in segment.header.meta["columns"])


async def load(
    engine: Engine,
    segment: Segment,
    watch: Watch,
    defaults: Sequence[CheckedDefault] = (),
    between: Callable[[], Awaitable[None]] | None = None,
    altered: Altered | None = None,
) -> list[int] | None:
    """Inserts the segment; returns the bad rows of each of its requests. After any error, try it again.

    None: who sent none of the rows that are refused is answered, and the rest takes long. Call it again for that, with
    what to do `between` two steps of it. `defaults`: those of the table that may not fit into their columns
    (`defaults.py`). `altered`: what of its columns is not as it was (`altered.py`).
    """
    job = _Job.of(segment, defaults, altered or {})
    # Only JSON columns of its own cost something. What a view parses may be decoded or put together there.
    if not _has_json(segment) or await asyncio.to_thread(segment.may_hold_lists):
        job = replace(job, settings={**job.settings, **limits.JSON_LIST_SETTINGS})
    # Once one attempt reads a large segment from the copy, all do: the token means something else in the file.
    least = _COPIED_WITH_JSON if _is_mixed(job) else _COPIED
    copied = engine.embedded and segment.header.meta.get("copied", 0) >= least
    job = replace(job, embedded=engine.embedded, copied=copied)
    notes, first_time, segment.tried = segment.notes, not segment.tried, True
    segment.storing = 0.0
    if notes.done and between is None:
        return None
    async with probe.opened(engine, segment, job.reader, job.settings, watch.kept, between) as copies:
        if notes.parts:
            if not notes.done:  # perhaps the attempt before could not write them down
                await _save_notes(segment)
            return await _in_parts(engine, job, copies, await _bad_of_copy(job, copies))
        return await _load(engine, job, copies, watch, first_time)


async def _load(engine: Engine, job: _Job, copies: Probe, watch: Watch, first_time: bool) -> list[int] | None:
    segment, notes = job.segment, job.segment.notes
    bad: list[int] | None = None
    failure: SqlError | None = None
    if not (notes.refused or notes.held):
        attempt = await _from_copy(engine, job, copies, watch, first_time)
        if attempt.ended:
            return attempt.bad
        bad, failure = attempt.bad, attempt.failure
        if not attempt.made:
            failure = await _try(engine, job, job.reader.good_rows(strict=True), job.token)
            if failure is None:
                return [0] * len(segment.frames)
            if failure.engine_code == Code.FUNCTION_THROW_IF_VALUE_IS_NON_ZERO:  # most often it is a bad row
                failure = await _try(engine, job, job.reader.good_rows(strict=False), job.token)
                if failure is None:
                    _, bad = await _counted(engine, job, copies)
                    return await _quarantined(engine, job, bad)
    views = await _views(engine, segment)
    if views is None:
        raise NotFound("The data source was deleted", reason=Reason.DATASOURCE_NOT_FOUND)
    if failure is not None:
        _raise_if_short_of_means(failure)
    if bad is None:
        job, bad = await _counted(engine, job, copies)
        if any(bad):
            failure = None  # it may have been of these
    if any(bad):
        await _quarantine(engine, job, job.reader.bad_rows(segment.name), "bad")
        if sum(bad) == segment.rows:
            return bad
    if not (notes.refused or notes.held) and await _stored(engine, job, copies, bad, failure, first_time):
        return bad
    _watch_refused(job, watch)
    between = copies.between
    if notes.held:
        if not notes.done:
            await _feed_others(job, copies, bad)
            notes.blocks = notes.blocks or await blocks(engine, segment)
            notes.done = 1
            await _save_notes(segment)
        if between is None:
            return None
        job = replace(job, requests=notes.held)
        if not notes.refused:
            await _note_refused(job, copies)
        copies.between = None
    while (found := await _load_without_refused(engine, job, copies, bad)) is None:
        pass  # more are refused: each time there are fewer left
    return found


@dataclass(frozen=True, slots=True)
class _Attempt:
    """From the copy in memory. `made`: else it could not be. `ended`: that is all, and where the bad rows of each
    request are not known, all for now.
    """

    made: bool = False
    ended: bool = False
    bad: list[int] | None = None
    failure: SqlError | None = None


async def _from_copy(engine: Engine, job: _Job, copies: Probe, watch: Watch, first_time: bool) -> _Attempt:
    """Parses the rows into memory and stores them from there, at most those of requests that the views take.

    What is asked here is asked before anything is stored. Elsewhere than in the embedded engine only where there is a
    reason to.
    """
    segment = job.segment
    suspects = watch.suspects(segment) if first_time else []
    ask = first_time and bool(suspects or len(segment.frames) > 1)
    if not suspects and not (engine.embedded and _may_be_read_from_copy(job)):
        return _Attempt()
    watch.use()
    try:
        await _all(copies.stage(), copies.all_views() if ask else _nothing())
        if copies.as_lines:
            return _Attempt()
        held, good = await _all(_held(job, copies, suspects) if ask else _nothing(), copies.good())
    except SqlError as error:
        if job.segment.notes.parts:  # written down: it goes on with these
            raise _of_table(error) from None
        return _Attempt()  # the file tells what it is, and needs less memory
    bad = [frame.rows - n for frame, n in zip(segment.frames, good, strict=True)]
    if held:
        _watch_refused(job, watch)
        return _Attempt(made=True, ended=True, bad=await _in_parts(engine, job, copies, bad))
    if not _may_be_read_from_copy(job):
        return _Attempt()
    if not any(good):  # or the engine was started again meanwhile
        return _Attempt(made=True)
    try:
        failure = await _put_from_copy(job, copies)
    except Empty:
        return _Attempt(made=True)
    if failure is not None and failure.engine_code == Code.MEMORY_LIMIT_EXCEEDED:
        return _Attempt()
    if failure is not None:
        return _Attempt(made=True, bad=bad, failure=failure)
    return _Attempt(made=True, ended=True, bad=await _quarantined(engine, job, bad))


async def _held(job: _Job, copies: Probe, suspects: Sequence[int]) -> list[isolate.Request] | None:
    """The requests that the views refuse rows of, if they take those of others. They are noted then: the others are the
    first part.
    """
    segment, notes = job.segment, job.segment.notes
    requests = segment.requests

    async def note(held: Sequence[isolate.Request]) -> None:
        waiting = set(held)
        notes.parts = [[request for request in requests if request not in waiting], list(held)]
        await _save_notes(segment)

    senders: dict[str, list[isolate.Request]] = {}
    for request, sender in zip(requests, segment.senders, strict=True):
        senders.setdefault(sender, []).append(request)
    groups = list(senders.values())
    return await isolate.together(copies, requests, "", [requests[n] for n in suspects], note, groups)


async def _quarantined(engine: Engine, job: _Job, bad: list[int]) -> list[int]:
    """All other rows are stored: who sent none of the bad ones is answered first."""
    if any(bad):
        job.segment.answer({index: 0 for index, number in enumerate(bad) if not number})
        await _quarantine(engine, job, job.reader.bad_rows(job.segment.name), "bad")
    return bad


async def _counted(engine: Engine, job: _Job, copies: Probe) -> tuple[_Job, list[int]]:
    """The bad rows of each request, by the file."""
    try:
        return job, await _count_bad(engine, job)
    except SqlError as error:
        # A checked default throws by itself on some row. Then it does so where a row does not fit, too: who it is shows
        # in the search for rows that the table refuses, as with every default that throws.
        if not job.reader.defaults or error.engine_code in probe.NOT_THE_ROWS:
            raise
    job = replace(job, reader=replace(job.reader, raises=True))
    copies.reader = job.reader
    return job, await _count_bad(engine, job)


def _watch_refused(job: _Job, watch: Watch) -> None:
    """Who sent a row that was refused may soon send another."""
    notes, senders = job.segment.notes, job.segment.senders
    stretches = [*((a, b) for a, b, _ in notes.refused), *notes.held, *(r for part in notes.parts[1:] for r in part)]
    found = {bisect_right(job.segment.starts, a) - 1 for a, _ in stretches}
    watch.note(senders[n] for n in sorted(found) if n < len(senders))


async def _bad_of_copy(job: _Job, copies: Probe) -> list[int]:
    """Of each request, the rows that do not read well."""
    await copies.stage()
    _, good = await asyncio.gather(copies.look(), copies.good())
    return [frame.rows - n for frame, n in zip(job.segment.frames, good, strict=True)]


async def _in_parts(engine: Engine, job: _Job, copies: Probe, bad: list[int]) -> list[int] | None:
    """Each part of the requests into the tables, once, and who sent them is answered. None: the rest comes later."""
    segment, notes, between = job.segment, job.segment.notes, copies.between
    good = [frame.rows - n for frame, n in zip(segment.frames, bad, strict=True)]
    while not notes.done or notes.parts[notes.done]:  # the first may be empty, then all must wait
        requests = notes.parts[notes.done]
        if notes.done and between is None:
            return None
        token = f"{segment.token}-part-{notes.done}" if notes.done else segment.token
        part = replace(job, requests=requests, token=token)
        if notes.done == len(notes.parts) - 1:
            await _divide(part, copies, works=any(good[n] for n in job.indexes if n not in part.indexes))
            part = replace(part, requests=notes.parts[notes.done])
        copies.between = None  # not between two attempts under one token
        if requests:
            await _store_part(engine, part, copies, bad)
        refused = {bisect_right(segment.starts, a) - 1 for a, _, _ in notes.refused}
        answered = [index for index in part.indexes if index not in refused]
        segment.answer({index: 0 for index in answered if not bad[index]})
        if not notes.done and any(bad):
            await _quarantine(engine, job, job.reader.bad_rows(segment.name), "bad")
        segment.answer({index: bad[index] for index in answered})
        notes.done += 1
        await _save_notes(segment)
        copies.between = between
    good = await copies.good(isolate.without(notes.refused))
    return [frame.rows - n for frame, n in zip(segment.frames, good, strict=True)]


async def _divide(part: _Job, copies: Probe, *, works: bool) -> None:
    """Writes down which of the requests that are left go in together, and without which rows; the others wait."""
    notes = part.segment.notes
    try:
        while True:
            left_out = isolate.without([*notes.refused, *part.others])
            found = await isolate.together(copies, part.requests, left_out)
            held = list(part.requests) if found is None else found
            alone = isolate.without([(a, b, "") for a, b in isolate.joined(held)])
            if not held or any(await copies.good(left_out + alone)):
                break
            if not await _note_refused(part, copies, works=works):
                held = []  # no row is to blame
                break
    except SqlError as error:
        raise _of_table(error) from None
    before = notes.parts
    notes.parts = [*before[:-1], [request for request in part.requests if request not in set(held)], held]
    try:
        await _save_notes(part.segment)
    except Unavailable:
        notes.parts = before
        raise


async def _store_part(engine: Engine, part: _Job, copies: Probe, bad: list[int]) -> None:
    mine = [(a, b, reason) for a, b, reason in part.segment.notes.refused if any(s <= a < e for s, e in part.requests)]
    if not mine:
        if await _insert_from_copy(part, copies):
            return
        path = part.segment.scratch("part")
        try:
            await asyncio.to_thread(path.write_bytes, b"".join(await _lines_of(part, part.others)))
            if await _stored(engine, replace(part, path=path), copies, [], None):
                return
        except OSError:
            raise Unavailable("The disk of the server refuses to be written", reason=Reason.DISK_FULL) from None
        finally:
            path.unlink(missing_ok=True)
    while await _load_without_refused(engine, part, copies, bad) is None:
        pass


async def _lines_of(job: _Job, left_out: Sequence[isolate.Refused]) -> list[bytes]:
    """The rows of the segment; those that are left out are empty."""
    rows = await asyncio.to_thread(job.segment.lines)
    for a, b, _ in left_out:
        rows[a:b] = [b""] * (b - a)
    return rows


async def _stored(
    engine: Engine, job: _Job, copies: Probe, bad: list[int], failure: SqlError | None, first_time: bool = False
) -> bool:
    """Puts the good rows into the table and its views. False: some are to blame, and that is written down now.

    `failure`: of their first attempt, when it was made.
    """
    select, token = job.reader.good_rows(strict=False), job.token
    notes = job.segment.notes
    failure = failure or await _try_all(engine, job, copies)
    if failure is None:
        return True
    _raise_if_short_of_means(failure)
    inserts, wide = [(select, token)], {}
    if failure.engine_code == Code.TOO_MANY_PARTS:
        inserts = await _groups(engine, job) or inserts
        wide = {"max_partitions_per_insert_block": limits.MAX_PARTITIONS_OF_VIEWS}  # the groups see to the table's
        if len(inserts) == 1:
            failure = await _try_all(engine, job, copies, **wide)
            if failure is None:
                return True
    views = await _views(engine, job.segment)
    # Without some rows the groups would be others under the same tokens: it is asked before any of them is stored.
    if not notes.whole and (len(inserts) == 1 or views):
        if first_time and views == 1 and len(inserts) == 1 and await _hold_back(job, copies):
            return False
        if await _note_refused(job, copies):
            return False
        if len(inserts) > 1:
            notes.whole = True
            await _save_notes(job.segment)
    failed: SqlError | None = None
    for select, token in inserts:
        if len(inserts) > 1:
            failure = await _try(engine, job, select, token, **wide)
            if failure is None:
                continue
        assert failure is not None
        if not views:
            raise _of_table(failure)
        # The table's own part of it, under the same token, and that of the views that work.
        only_table = {**wide, "materialized_views_ignore_errors": 1}
        if len(inserts) == 1:
            of_table = await _try_all(engine, job, copies, **only_table)
        else:
            of_table = await _try(engine, job, select, token, **only_table)
        if of_table is not None:
            raise _of_table(of_table)
        failed = failure
    if failed is not None:
        raise ViewFailed(failed, bad)
    return True


async def _try_all(engine: Engine, job: _Job, copies: Probe, **settings: int) -> SqlError | None:
    """All good rows under the token, in the way in which they were tried before. The failure, if there is one."""
    if _is_in_copy(job, copies):
        return await _from_memory(job, copies, **settings)
    return await _try(engine, job, job.reader.good_rows(strict=False), job.token, **settings)


async def _from_memory(job: _Job, copies: Probe, **settings: int) -> SqlError | None:
    try:
        return await _put_from_copy(job, copies, **settings)
    except Empty:
        raise Unavailable(
            "The engine was started again, and lost rows that it held in memory", reason=Reason.ENGINE_UNAVAILABLE
        ) from None


async def _try(engine: Engine, job: _Job, select: str, token: str, **settings: int) -> SqlError | None:
    """The failure, if there is one."""
    began = time.monotonic()
    try:
        await _put(engine, job, f"{job.table} ({job.reader.names})", select, token, **settings)
    except SqlError as error:
        return error
    job.segment.storing += time.monotonic() - began
    return None


def _of_table(failure: SqlError) -> SqlError | Unavailable:
    """Not a view, and no row that could be found."""
    _raise_if_short_of_means(failure)
    if failure.engine_code == Code.TOO_MANY_PARTS:
        return Unavailable("The table is behind with its merges", retry_after=5, reason=Reason.ENGINE_BUSY)
    return failure


async def _note_refused(job: _Job, copies: Probe, *, works: bool = False) -> bool:
    """Finds what the table or a view refuses. Once that is on the disk, it stays refused: every replay is the same,
    whatever they take by then. False where no row is to blame, or no more than those that are known.
    """
    notes = job.segment.notes
    known = len(notes.refused)
    try:
        known_rows = [*notes.refused, *job.others]
        refused = await isolate.find(copies, known_rows, job.requests, works=works or bool(notes.held))
    except SqlError as error:
        raise _of_table(error) from None
    if refused:
        notes.found = [*(notes.found or ([known] if known else [])), len(refused)]
        notes.refused = [*notes.refused, *refused]
        try:
            await _save_notes(job.segment)
        except Unavailable:
            notes.refused, notes.found = notes.refused[:known], notes.found[:-1]
            raise
    return bool(refused)


async def _hold_back(job: _Job, copies: Probe) -> bool:
    """Whether the requests that the table's only view refuses rows of are told apart and written down, so that the
    others need not wait until single rows are. The table has all rows then, under the segment's token, and the view
    none: that is sure only in the first attempt, where the view refused all of them before and after, and hangs on
    nothing else.
    """
    segment, settings = job.segment, {**job.settings, "insert_deduplication_token": job.token}
    if len(segment.frames) == 1 or not _may_be_read_from_copy(job):
        return False
    try:
        found = await isolate.requests(copies)
        if found is None:
            return False
        await copies.insert(job.table, "", {**settings, "materialized_views_ignore_errors": 1})
        view, held = found
        if await copies.refuses(view, 0, segment.rows) is None:
            return False
    except SqlError:
        return False  # the usual way will tell
    notes = segment.notes
    notes.fed, notes.held = view.name, held
    try:
        await _save_notes(segment)
    except Unavailable:
        notes.fed, notes.held = "", []
        raise
    return True


async def _feed_others(job: _Job, copies: Probe, bad: list[int]) -> None:
    """Their rows into the view, once; they are answered. `bad`: the rows of each request that do not read well."""
    segment, notes = job.segment, job.segment.notes
    if not copies.prepared:
        held = [(a, b, "") for a, b in notes.held]
        await copies.stage()
        if not await copies.prepare(notes.fed, isolate.without(held), again=True):
            raise ViewFailed(SqlError("The view's rows cannot be prepared"), bad)
    failure = await copies.feed(notes.fed, f"{segment.token}-others")
    if failure is not None:
        _raise_if_short_of_means(failure)
        raise ViewFailed(failure, bad)
    held_starts = {a for a, _ in notes.held}
    segment.answer({i: bad[i] for i, start in enumerate(segment.starts) if start not in held_starts})


def _may_be_read_from_copy(job: _Job) -> bool:
    """Whether the rows are the same from there, under the same token. What is stored of a JSON value could hang on the
    way that it takes: in the engine that is built in it does not, as a test of both ways shows.
    """
    segment = job.segment
    one_piece = segment.rows <= limits.ONE_PIECE_ROWS and segment.size <= limits.ONE_PIECE_BYTES
    return (one_piece or job.copied) and (job.embedded or not _is_mixed(job))


def _is_mixed(job: _Job) -> bool:
    return any(re.search("JSON|Dynamic", field.column.type) for field in job.reader.fields)


async def _save_notes(segment: Segment) -> None:
    try:
        await asyncio.to_thread(segment.save_notes)
    except OSError:
        raise Unavailable("The disk of the server refuses to be written", reason=Reason.DISK_FULL) from None


async def _load_without_refused(engine: Engine, job: _Job, copies: Probe, read: list[int]) -> list[int] | None:
    """The rest into the tables, under the segment's own token: what has it already keeps what it has. Then who sent
    none of the refused rows is answered, and these go into the quarantine. None when more of them were found.

    `read`: the rows of each request that do not read well, in all of it.
    """
    segment = job.segment
    path = segment.scratch("rest")
    rest = replace(job, path=path)
    failed: ViewFailed | None = None
    others = job.others
    try:
        bad = await _rest_from_copy(job, copies, read)
        if bad is None:
            left = await _lines_of(job, [*segment.notes.refused, *others])
            counts = [sum(map(bool, left[s : s + f.rows])) for s, f in zip(segment.starts, segment.frames, strict=True)]
            await asyncio.to_thread(path.write_bytes, b"".join(left))
            wrong = await _count_bad(engine, rest, counts)
            bad = [f.rows - n + w for f, n, w in zip(segment.frames, counts, wrong, strict=True)]
            for a, b, _ in others:  # in the tables already, or later
                for index in range(bisect_left(segment.starts, a), bisect_left(segment.starts, b)):
                    bad[index] = read[index]
            if sum(counts) > sum(wrong):
                try:
                    if not await _stored(engine, rest, copies, bad, None):
                        return None
                except ViewFailed as error:
                    failed = error
        if failed is None:
            segment.answer({index: 0 for index in job.indexes if not bad[index]})
        rows = await asyncio.to_thread(segment.lines)
        for number, some in enumerate(_at_once(segment.notes)):
            await asyncio.to_thread(path.write_bytes, b"".join(b"".join(rows[a:b]) for a, b, _ in some))
            select = quarantine.refused_rows(job.reader, segment.name, [reason for _, _, reason in some])
            await _quarantine(engine, rest, select, f"refused-{number}")
        if failed is not None:
            raise failed
        return bad
    except OSError:
        raise Unavailable("The disk of the server refuses to be written", reason=Reason.DISK_FULL) from None
    finally:
        path.unlink(missing_ok=True)


async def _rest_from_copy(job: _Job, copies: Probe, read: list[int]) -> list[int] | None:
    """The rest is inserted from the rows that were parsed for the search: the same rows, and cheaper. Returns the bad
    rows of each request. None: nothing was parsed, or it failed in any way, and the file is asked.
    """
    refused = isolate.without(job.segment.notes.refused)
    if not await _is_copied(job, copies):
        return None
    good = await copies.good(refused)
    bad = read.copy()
    for index in job.indexes:
        bad[index] = job.segment.frames[index].rows - good[index]
    if any(good[index] for index in job.indexes) and not await _insert_from_copy(job, copies):
        return None
    return bad


async def _insert_from_copy(job: _Job, copies: Probe) -> bool:
    """The rows of these requests that are not refused; whether that was possible."""
    return await _is_copied(job, copies) and await _from_memory(job, copies) is None


async def _is_copied(job: _Job, copies: Probe) -> bool:
    """Whether the rows can be read from the copy; a large segment's are, if that was its way from the start."""
    if job.copied and not copies.staged and not job.segment.notes.whole and _may_be_read_from_copy(job):
        await copies.stage()
    return _is_in_copy(job, copies)


def _is_in_copy(job: _Job, copies: Probe) -> bool:
    return copies.staged and not copies.as_lines and not job.segment.notes.whole and _may_be_read_from_copy(job)


async def _put_from_copy(job: _Job, copies: Probe, **settings: int) -> SqlError | None:
    """The rows of these requests that are not refused, under the token. The failure, if there is one."""
    left_out = isolate.without([*job.segment.notes.refused, *job.others])
    began = time.monotonic()
    try:
        await copies.insert(job.table, left_out, {**job.settings, **settings, "insert_deduplication_token": job.token})
    except SqlError as error:
        return error
    job.segment.storing += copies.parsing + time.monotonic() - began
    return None


def _at_once(notes: Notes) -> Iterator[Sequence[isolate.Refused]]:
    """Single rows together, each with its reason; a stretch of rows alone, with one reason. What was found first comes
    first, in the same portions however much was found later: each portion has a token.
    """
    start = 0
    for found in notes.found or [len(notes.refused)]:
        refused = notes.refused[start : start + found]
        start += found
        single = [r for r in refused if r[1] - r[0] == 1]
        for first in range(0, len(single), limits.REFUSED_ROWS_AT_ONCE):
            yield single[first : first + limits.REFUSED_ROWS_AT_ONCE]
        yield from ([r] for r in refused if r[1] - r[0] > 1)


def _raise_if_short_of_means(error: SqlError) -> None:
    """Not the rows and not a view: the same insert may work later, and is told as such."""
    if error.engine_code in _LATER:
        raise Unavailable(
            "The engine cannot store events now",
            retry_after=5,
            detail=error.message[:300],
            reason=Reason.ENGINE_UNAVAILABLE,
        ) from None
    if error.engine_code in _PERHAPS_LATER:
        raise QueryTimeout("The engine could not store the events", detail=error.message[:300]) from None


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
            target = probe.target_of(known[view]["created"]) if view in known else None
            for name in (view, target or view):
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
        format=job.reader.format,
        structure=job.reader.structure,
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
    return [(job.reader.good_rows_of_group(partition, g, size), f"{job.token}-{g}") for g in groups]


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
        format=job.reader.format,
        structure=job.reader.structure,
        # One thread: rows keep their order, and so their numbers. A row is read as the insert reads it.
        settings={"max_threads": 1, **{k: v for k, v in job.settings.items() if k in limits.STATEMENT_SETTINGS}},
    )


async def _views(engine: Engine, segment: Segment) -> int | None:
    """How many the table feeds. None: there is no such table."""
    rows = await engine.rows(
        "SELECT length(dependencies_table) AS views FROM system.tables "
        "WHERE database = {database:String} AND name = {table:String}",
        {"database": segment.header.database, "table": segment.header.table},
    )
    return int(rows[0]["views"]) if rows else None


async def _all(*ways: Awaitable[Any]) -> list[Any]:
    """At once. None goes on when another has failed."""
    found = await asyncio.gather(*ways, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


async def _nothing() -> None:
    pass
