"""The face of ingestion for the rest of Pipit: `Ingest.append` and what deployments need.

202 when the rows are on the disk, 200 (`loaded`) when they are in the table. What was acknowledged is
loaded after any crash, once, and what cannot be acknowledged leaves nothing behind (rule 3).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from pipit.datafiles.resources import Column
from pipit.engine.client import Engine
from pipit.errors import BadRequest, NotFound, PipitError, Reason, TooLarge, Unavailable
from pipit.ingest import keys as keys_module
from pipit.ingest import limits, load, parse, probe, values
from pipit.ingest.body import to_lines
from pipit.ingest.counts import Counts
from pipit.ingest.field import FixedValue
from pipit.ingest.keys import Entry, Keys
from pipit.ingest.log import Generation, Log, Pending, Route, Stream
from pipit.ingest.segment import NOTES, THEN, Fixed, Notes, Segment
from pipit.ingest.values import ByLine, Names
from pipit.ingest.writer import Writer
from pipit.tables import Locks, TableKey

_log = logging.getLogger("pipit.ingest")
WAIT_SECONDS = 20.0  # for the insert; after it the rows are acknowledged as kept, not as loaded
_REMEMBERED = 20_000
_LOOK_SECONDS = 0.01
_K = TypeVar("_K")
_V = TypeVar("_V")
_DROP_SECONDS = 5.0  # at the start, for copies that a kill left


@dataclass(frozen=True, slots=True)
class Target:
    """A data source as the writers see it. `name` is the logical one; a rebuilt table keeps it."""

    database: str
    table: str
    quarantine_table: str
    columns: tuple[Column, ...]
    partition_key: str = ""
    name: str = ""

    @property
    def key(self) -> TableKey:
        return self.database, self.table


@dataclass(frozen=True, slots=True)
class Generations:
    """The tables of one data source that take its events: the one that is read, and `others`. Each with the columns
    that a tenant's token has to fix there."""

    live: tuple[Target, frozenset[str]]
    others: tuple[tuple[Target, frozenset[str]], ...]


@dataclass(frozen=True, slots=True)
class AppendResult:
    """Exact when `loaded`; before that `successful_rows` is the number of lines."""

    successful_rows: int
    quarantined_rows: int = 0
    loaded: bool = False


class Ingest:
    def __init__(
        self,
        engine: Engine,
        data_dir: Path,
        locks: Locks,
        *,
        log: Log | None = None,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """`locks`: those of all writers of the engine. Events are acknowledged and queue up while others hold one."""
        root = data_dir / "segments"
        self._engine = engine
        self._log = log or Log(root)
        self._keys = Keys(root / "keys")
        self._writers: dict[TableKey, Writer] = {}
        self._streams: dict[tuple[str, str, Names], tuple[Target, Stream]] = {}
        self._checked: dict[tuple[str, str, str], Target] = {}  # by the values that tokens fix
        self._wait_seconds = wait_seconds
        self._open = False
        self._discarded: set[str] = set()
        self._unsettled: dict[str, TableKey] = {}  # segments of other owners that may come again, by token
        self._locks = locks
        locks.before_alter(self._forget)

    @property
    def disk_refuses(self) -> str:
        """Why the disk did not take the last events; empty while it takes them."""
        return self._log.refused

    @property
    def counts(self) -> Counts:
        """What happened since it was last taken."""
        return self._log.counts

    @property
    def tables(self) -> tuple[TableKey, ...]:
        """Those that events wait for."""
        return self._log.tables

    async def start(self, generations: Mapping[str, Sequence[Generations]] | None = None) -> None:
        """Finds what a process before left and loads it. Raises Unavailable when the directory is taken.

        `generations`: by database, of the data sources that have several.
        """
        routes = {database: [_route(one) for one in known] for database, known in (generations or {}).items()}
        segments = await asyncio.to_thread(self._log.open, routes)
        await asyncio.to_thread(self._keys.open)
        for segment in segments:
            for index, frame in enumerate(segment.frames):
                if frame.key:
                    entry = self._keys.add(frame.key, frame.digest, frame.rows, segment.header.created)
                    entry.loaded = segment.waiters[index] = _future()
        with contextlib.suppress(PipitError, TimeoutError):  # the engine is away: each writer drops what is its table's
            async with asyncio.timeout(_DROP_SECONDS):
                await probe.drop(self._engine, await asyncio.to_thread(self._log.ever_written))
        self._open = True
        self._write_all()

    async def route(self, database: str, generations: Sequence[Generations]) -> None:
        """From now on these are the generations of the database's data sources; each event goes into each of them once,
        first into the live one. Nothing is inserted into any table of which that changes: the caller holds the locks,
        and has asked `begun`."""
        await self._log.route(database, [_route(one) for one in generations])
        self._write_all()

    def begun(self, table: TableKey) -> bool:
        """Whether a segment of the table is half stored, or may be stored and come again; its lock is held."""
        return self._log.begun(table) or self._is_unsettled(table)

    def fails(self, table: TableKey) -> bool:
        """Whether the table has rows that one of its views does not take: they are tried again until it does. Its lock
        is held."""
        return self._log.fails(table)

    async def settled(self, tables: Collection[TableKey], seconds: float) -> None:
        """Gives the owners of what is stored that time to say that it does not come again (`forget`)."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(map(self._is_unsettled, tables)):
            await asyncio.sleep(_LOOK_SECONDS)

    def snapshot_taken(self, table: TableKey, generation: str) -> None:
        """What the table holds now is put into that other generation of it; its lock is held. Raises OSError."""
        self._log.snapshot_taken(table, generation)

    async def discard_table(self, table: TableKey) -> None:
        """Of one generation that is none any more, and gone for good."""
        if table in self._writers:
            await self._writers.pop(table).stop()
        await self._log.discard_table(table)

    def _write_all(self) -> None:
        for key in (*self._log.tables, *self._log.generations):
            self._writer(key)

    async def close(self, seconds: float = 5.0) -> None:
        """Takes no more, loads what it can within that time; the rest waits for the next start."""
        opened, self._open = self._open, False
        if opened:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await asyncio.gather(*(w.drained(but_failed=True) for w in self._writers.values()))
        for writer in self._writers.values():
            await writer.stop()
        await self._log.close()

    async def append(
        self,
        target: Target,
        body: bytes,
        *,
        format: Literal["ndjson", "json"] | str = "ndjson",
        wait: bool = False,
        fixed_values: Mapping[str, FixedValue] | None = None,
        idempotency_key: str | None = None,
        scope: str = "",
    ) -> AppendResult:
        """Durable when it returns; with `wait`, in the table, and counted there.

        `scope` is who sends (the token's name): an idempotency key means something only within it.
        Raises BadRequest, TooLarge, Conflict, Unavailable, and with `wait` UnprocessableWrite and NotFound.
        """
        if not self._open:
            raise Unavailable("The server is stopping", retry_after=2, reason=Reason.SERVER_STOPPING)
        if target.database in self._discarded:  # by a request that began before it was deleted
            raise NotFound("The data source was deleted", reason=Reason.DATASOURCE_NOT_FOUND)
        if format not in ("ndjson", "json"):
            raise BadRequest(
                f"The format '{format[:40]}' is not supported",
                hint="Use ndjson or json.",
                reason=Reason.FORMAT_UNSUPPORTED,
                subject=format,
            )
        stream = self._stream(target, fixed_values or {})
        fixed = Fixed(fixed_values, values.listed(fixed_values)) if fixed_values else None
        payload, rows = to_lines(body, format)
        if rows > limits.SEAL_ROWS:
            raise TooLarge(
                f"More than {limits.SEAL_ROWS} events in one request",
                hint="Send them in several.",
                reason=Reason.BODY_TOO_LARGE,
            )
        self._writer(self._log.current(stream.table_key))
        if idempotency_key is None:
            loaded = _future() if wait else None
            await self._log.append(stream, payload, rows, urgent=wait, outcome=loaded, sender=scope, fixed=fixed)
            self._log.counts.acknowledged(target.key, rows, len(payload))
            return await self._answer(rows, loaded)
        name = target.name or target.table
        sender = f"{scope} {_canonical(fixed_values or {})}"  # tenants may share a token's name
        key = keys_module.key_hash(sender, target.database, name, idempotency_key)
        # A caller that goes away must not leave the key without its rows, or the rows without their key.
        entry = await asyncio.shield(
            asyncio.create_task(self._append_once(stream, key, payload, rows, wait, scope, fixed))
        )
        if entry.known.bad >= 0:
            return AppendResult(rows - entry.known.bad, entry.known.bad, loaded=True)
        return await self._answer(rows, entry.loaded if wait else None)

    async def insert(self, segment: Segment) -> int:
        """The number of bad rows of a segment that is not of the log, and that its owner keeps until this returns.

        Its rows are in the table once, however often it is tried. A table that is made anew from this one would have
        them, and take them again: so none is until the owner has said that the segment will not come again (`forget`).
        Raises what `load.load` raises.
        """
        if not self._open or segment.header.database in self._discarded:
            raise Unavailable("The server is stopping", retry_after=2, reason=Reason.SERVER_STOPPING)
        table = (segment.header.database, segment.header.table)
        done = None
        while done is None:  # while it waited for its table another generation may have become the live one
            live = self._log.of_live(table)
            now, key = (segment, table) if live is None else (_in(live, segment), live.table)
            done = await self._writer(key).insert(now, partial(self._begin, key, now.token))
        bad, others = done
        for other in others:
            again = _in(other, now)
            again.path = segment.path.with_name(f"{again.name}{THEN}{segment.path.suffix}")
            again.path.unlink(missing_ok=True)
            os.link(segment.path, again.path)
            try:
                await self._writer(other.table).insert(again)
            except (load.ViewFailed, NotFound) as error:  # anything else may pass: the owner tries again
                _log.error("%s lacks rows that %s has: %s", other.table[1], key[1], error)
            finally:
                again.path.unlink(missing_ok=True)
                again.path.with_suffix(NOTES).unlink(missing_ok=True)
        return sum(bad)

    def _begin(self, table: TableKey, token: str) -> bool:
        """Whether the table is the one that takes the segment now; its lock is held."""
        if self._log.of_live(table) is not None:
            return False
        self.expect(table, token)
        return True

    def expect(self, table: TableKey, token: str) -> None:
        """That table, or the generation that is live in its place, may have rows of this segment, which is not of the
        log, and its owner may insert it again."""
        self._unsettled[token] = table

    def forget(self, token: str) -> None:
        """The owner of that segment will not insert it again."""
        self._unsettled.pop(token, None)

    def _is_unsettled(self, table: TableKey) -> bool:
        live = (self._log.of_live(one) for one in self._unsettled.values())
        return any(
            table == (now.table if now else one) for now, one in zip(live, self._unsettled.values(), strict=True)
        )

    async def drain(self, database: str, table: str, seconds: float = 30.0) -> bool:
        """Whether all that was acknowledged for the table is in it."""
        try:
            async with asyncio.timeout(seconds):
                await self._writer((database, table)).drained()
        except TimeoutError:
            return False
        return True

    async def drained(self, table: TableKey, seconds: float) -> bool:
        """Whether all that waited for this very table is in it, but for what failed once."""
        writer = self._writers.get(table)
        if writer is None:
            return True
        try:
            async with asyncio.timeout(seconds):
                await writer.drained(but_failed=True)
        except TimeoutError:
            return False
        return True

    def behind(self, table: TableKey) -> int:
        """How many events wait for this very table, but for what failed once."""
        writer = self._writers.get(table)
        return writer.behind if writer is not None else 0

    async def discard(self, database: str) -> None:
        """Of a database that is gone for good: its writers end, and what waits for it is deleted, not kept aside."""
        self._discarded.add(database)
        for key in [key for key in self._writers if key[0] == database]:
            await self._writers.pop(key).stop()
        self._streams = {key: stream for key, stream in self._streams.items() if key[0] != database}
        self._checked = {key: target for key, target in self._checked.items() if key[0] != database}
        await self._log.discard(database)

    def pending(self, database: str, table: str) -> Pending:
        return self._log.pending((database, table))

    async def _append_once(
        self, stream: Stream, key: str, payload: bytes, rows: int, wait: bool, scope: str, fixed: Fixed | None
    ) -> Entry:
        digest = keys_module.content_hash(payload)
        while True:
            entry = self._keys.find(key, digest)
            if entry is None:
                break
            if entry.written is None:
                if wait:
                    self._log.hurry(self._log.current(stream.table_key))
                return entry
            await asyncio.wait([entry.written])  # the first request is still being written: it decides
        entry = self._keys.add(key, digest, rows)
        entry.written, entry.loaded = _future(), _future()
        try:
            await self._log.append(
                stream,
                payload,
                rows,
                key=key,
                digest=digest,
                urgent=wait,
                outcome=entry.loaded,
                sender=scope,
                fixed=fixed,
            )
            self._log.counts.acknowledged(stream.table_key, rows, len(payload))
        except BaseException:
            self._keys.forget(key)
            raise
        finally:
            entry.written.set_result(None)
            entry.written = None
        return entry

    async def _answer(self, rows: int, loaded: asyncio.Future[Any] | None) -> AppendResult:
        if loaded is None:
            return AppendResult(rows)
        done, _ = await asyncio.wait([loaded], timeout=self._wait_seconds)
        if not done:
            return AppendResult(rows)
        bad = loaded.result()
        return AppendResult(rows - bad, bad, loaded=True)

    def _stream(self, target: Target, fixed: Mapping[str, FixedValue]) -> Stream:
        """Checked once for each schema and set of fixed columns, and their values once for each set of values; then
        remembered."""
        names = values.names_of(fixed)
        known = self._streams.get((target.database, target.table, names))
        if known is None or not (known[0] is target or known[0] == target):
            known = target, self._new_stream(target, names)
            _remember(self._streams, (target.database, target.table, names), known)
        if fixed:
            given = (target.database, target.table, _canonical(fixed))
            checked = self._checked.get(given)
            if checked is None or not (checked is target or checked == target):
                parse.fixed_fields(target.columns, fixed)
                _remember(self._checked, given, target)
        return known[1]

    def _new_stream(self, target: Target, names: Names) -> Stream:
        if parse.is_filled_by_view(target.columns):
            raise BadRequest(
                f"The data source '{target.name or target.table}' is filled by a materialized view, not by events",
                hint="Append to the data source that the view reads.",
                reason=Reason.NOT_APPENDABLE,
            )
        parse.reader(target.columns, by_line=ByLine("", "", names, frozenset(name for name, _ in names)))
        meta = load.meta(target.columns, target.quarantine_table, target.partition_key, names)
        variant = hashlib.blake2b(msgspec.json.encode(meta), digest_size=8).hexdigest()
        return Stream(target.database, target.table, variant, meta)

    async def _forget(self, table: TableKey) -> None:
        if table in self._writers:
            await self._writers[table].forget()

    def _writer(self, key: TableKey) -> Writer:
        writer = self._writers.get(key)
        if writer is None:
            writer = self._writers[key] = Writer(self._engine, self._log, self._keys, self._locks, key)
        return writer


def _in(generation: Generation, segment: Segment) -> Segment:
    """The segment for another generation of its table."""
    again = copy.copy(segment)
    meta = {**segment.header.meta, **generation.meta}
    again.header = msgspec.structs.replace(segment.header, table=generation.table[1], meta=meta)
    again.notes, again.waiters, again.tried = Notes(), {}, False
    return again


def _route(generations: Generations) -> Route:
    def one(target: Target, needs: frozenset[str]) -> Generation:
        meta = load.generation_meta(target.columns, target.quarantine_table, target.partition_key, sorted(needs))
        return Generation(target.key, meta)

    return Route(one(*generations.live), tuple(one(*other) for other in generations.others))


def _remember(known: dict[_K, _V], key: _K, value: _V) -> None:
    while len(known) >= _REMEMBERED:
        known.pop(next(iter(known)))
    known[key] = value


def _canonical(fixed: Mapping[str, FixedValue]) -> str:
    return msgspec.json.encode(dict(fixed), order="sorted").decode()


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()
