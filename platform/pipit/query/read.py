"""The one way to read (rule 4): each read is planned (`planner.py`), admitted, run, cached and logged here.

Endpoints, `/v0/sql`, jobs, `pipit test` and every later reader build a `Query` and hand it to `Reader.open`, whose rows
go to a client, or to `Reader.write`, whose rows go to a table. Result bytes pass through untouched (rule 5).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from pipit.engine.binding import fields_of
from pipit.engine.client import Engine, Settings, Statement
from pipit.engine.failures import result_too_large
from pipit.errors import PipitError, QueryTimeout, SqlError
from pipit.query.admission import Admission, name_of, unread_answers
from pipit.query.cache import Cache, Run, key_of
from pipit.query.disclosure import for_reader, quietly
from pipit.query.formats import Format
from pipit.query.hang_breaker import HangBreaker
from pipit.query.held import Held, Store
from pipit.query.limits import FILTER_FIRST, Limits, SettingsDict
from pipit.query.log import Asked, AuditLog, Counts, ReadOutcome, asked, log_line, record, status_of
from pipit.query.plan import Plan, PlanMemory
from pipit.query.planner import Draft, Planner
from pipit.query.queries import Read
from pipit.query.utf8 import repaired
from pipit.tables.services import ServiceTables


@dataclass(frozen=True, slots=True)
class Answer:
    """A running read: the engine's bytes in the asked format, as they come."""

    format: Format
    chunks: AsyncIterator[bytes]


class Destination(Protocol):
    """A table that takes the rows of a statement."""

    @property
    def settings(self) -> Settings:
        """How its values are written."""
        ...

    def insert(self, sql: str, settings: Mapping[str, str]) -> str:
        """The INSERT of what this statement gives under its settings."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    rows: int = 0
    bytes: int = 0


class Reader:
    """Holds what all reads share: the engine, admission, what is known of texts. Keeps nothing of any one request."""

    def __init__(
        self,
        engine: Engine,
        limits: Limits | None = None,
        admission: Admission | None = None,
        *,
        store: Store | None = None,
        cache: Cache | None = None,
        audit_log: AuditLog | None = None,
        service_tables: ServiceTables | None = None,
    ) -> None:
        """`store` holds answers that wait for their clients; `audit_log` takes the record of every read."""
        self._engine = engine
        self._limits = limits or Limits()
        self._admission = admission or Admission()
        self._unread = unread_answers()
        self._store = store or Store()
        self._cache = cache or Cache()
        self._audit_log = audit_log
        self._service_tables = service_tables
        self._planner = Planner(engine, self._limits)
        self._plans = PlanMemory()
        self._breaker = HangBreaker()

    @property
    def begun(self) -> int:
        """How many queries were begun in the engine."""
        return self._admission.begun

    async def plan(self, read: Read) -> Plan:
        """What would run: decided, composed, examined and filtered. Raises what a client should see.

        Nothing is made for it, so a plan over service tables is refused by the engine where they are not there yet.
        """
        return await self._plan(self._planner.draft(read))

    async def prepare(self, read: Read) -> Plan:
        """The plan of what is about to run: service tables that it reads are there."""
        known = self._plans.find(read)
        if known is not None:
            return known
        draft = self._planner.draft(read)
        service_tables = draft.reads_service_tables
        if self._service_tables is not None and service_tables:
            await self._service_tables.make(read.snapshot.workspace.database)
        plan = await self._plan(draft)
        if not service_tables:  # they may be gone by the next time
            self._plans.keep(plan)
        return plan

    async def _plan(self, draft: Draft) -> Plan:
        if not draft.read.is_tenants_sql:
            return await self._planner.plan(draft)
        async with self._admission.held(draft.read.security):  # the engine computes a text's constants already here
            return await self._planner.plan(draft)

    @asynccontextmanager
    async def open(self, read: Read) -> AsyncIterator[Answer]:
        """Runs a query as this token. Errors before the first byte raise on entering; leaving early cancels it."""
        with _Observed(self, read) as counts:
            plan = await self.prepare(read)
            run: Run = partial(self._run, plan, counts)
            running = run
            if plan.cache_seconds:
                counts.cached = "hit"  # until it runs
                hand = partial(self._store.hand, name_of(read.security))
                running = partial(self._cache.open, key_of(plan), plan.cache_seconds, run, hand)
            with quietly(plan.params):
                async with self._unread.held(read.security), running() as chunks:
                    yield Answer(plan.format, chunks)

    async def write(self, plan: Plan, into: Destination) -> Written:
        """Runs a query as an INSERT of its rows, to the end. Cancelled, it ends in the engine; some rows may be there.

        Its slot comes when there is one: who waits is a job, and no client.
        """
        read = plan.read
        with _Observed(self, read) as counts, quietly(plan.params):
            async with (
                self._admission.held(read.security, patient=True),
                self._engine.stream(
                    into.insert(plan.composed.sql, plan.composed.settings),
                    plan.params,
                    settings={**plan.settings, **into.settings},
                    database=read.snapshot.workspace.database,
                    counts=counts.take,
                ) as chunks,
            ):
                async for _ in chunks:
                    pass
        return Written(counts.found.get("written_rows", 0), counts.found.get("written_bytes", 0))

    def refused(self, asked: Asked, error: BaseException) -> None:
        """A read that never became a query, for the log: its rate, its format or its parameters were refused."""
        self._log(asked, ReadOutcome(status_of(error), error=error))

    def _log(self, asked: Asked, outcome: ReadOutcome) -> None:
        log_line(asked, outcome)
        if self._audit_log is not None:
            self._audit_log.add(record(asked, outcome, now=time.time()))

    def _run(self, plan: Plan, counts: Counts) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of a plan's answer: whole under filters, else as they come."""
        counts.cached = counts.cached and "miss"
        if plan.filters or plan.read.is_tenants_sql:
            return _Whole(self, plan, counts)
        return self._run_open(plan, counts)

    @asynccontextmanager
    async def _run_open(self, plan: Plan, counts: Counts) -> AsyncIterator[AsyncIterator[bytes]]:
        async with (
            self._admission.held(plan.read.security),
            self._stream(plan, {}, plan.read.request_id, counts, self._limits.result_bytes) as chunks,
        ):
            yield _bounded(plan.format, chunks, self._limits.result_bytes)

    async def _run_filtered(self, plan: Plan, counts: Counts) -> Held:
        """The whole answer of a read under filters, or its error.

        The engine may evaluate the pipe's conditions on rows that the filter hides, and fail on another tenant's value:
        an endpoint that anybody can break, and a way to ask for hidden values. So a failure counts only if it comes
        back when the filter is applied before everything else and the tables stand behind security barriers
        (`sql/barrier.py`). That run is slower; the first one nearly always answers.
        """
        id = plan.read.request_id
        try:
            return await self._whole(plan, {}, id, counts)
        except SqlError:
            if plan.read.is_tenants_sql:
                raise  # the filter came first already
            again = await self._planner.plan(self._planner.draft(plan.read), behind_barriers=True)
            return await self._whole(again, FILTER_FIRST, f"{id}-f" if id else "", counts)

    async def _whole(self, plan: Plan, besides: SettingsDict, query_id: str, counts: Counts) -> Held:
        """The engine holds the answer back until it is whole; here it is counted while it comes."""
        most = self._limits.tenant_sql.result_bytes if plan.read.is_tenants_sql else self._limits.result_bytes
        async with self._stream(plan, besides | {"wait_end_of_query": 1}, query_id, counts, most) as chunks:
            return await self._store.take(_bounded(plan.format, chunks, most), name_of(plan.read.security))

    def _stream(
        self, plan: Plan, besides: SettingsDict, query_id: str, counts: Counts, most: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The engine's bytes. `besides`: settings that win over the plan's."""
        key = tuple(besides.items())
        statement = plan.derived.statements.get(key)
        if statement is None:
            database, format = plan.read.snapshot.workspace.database, plan.format.name
            fields = fields_of(plan.params, {**plan.settings, **besides}, database, format)
            statement = plan.derived.statements[key] = Statement(plan.composed.sql, fields)
        return self._engine.stream(statement, query_id=query_id or None, counts=counts.take, most=most)


class _Observed:
    """Around a run: what hung is not run again at once, an error says what its reader may know, all is logged."""

    __slots__ = ("_counts", "_read", "_reader", "_started")

    def __init__(self, reader: Reader, read: Read) -> None:
        self._reader = reader
        self._read = read
        self._counts = Counts()
        self._started = time.monotonic()

    def __enter__(self) -> Counts:
        try:
            self._reader._breaker.check(self._read.security, self._read.asked)
        except PipitError as error:
            self._end(error)
            raise
        return self._counts

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """Raises what the reader is told instead of an error."""
        read, told = self._read, error
        try:
            if isinstance(error, PipitError):
                if isinstance(error, QueryTimeout) and error.hung:
                    self._reader._breaker.add(read.security, read.asked)
                told = for_reader(error, read)
        finally:
            seconds = time.monotonic() - self._started
            found, cached = self._counts.found, self._counts.cached
            self._reader._log(asked(read), ReadOutcome(status_of(told), seconds, error, found, cached))
        if told is not None and told is not error:
            raise told from None


def _bounded(format: Format, chunks: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """As the client gets them: readable text, and no more than so many bytes."""
    return _Counted(repaired(format, chunks), most)


class _Counted:
    """The engine bounds what a result takes in its memory, where a value repeated in every row takes next to nothing.
    What is handed on is counted here."""

    __slots__ = ("_chunks", "_left", "_most")

    def __init__(self, chunks: AsyncIterator[bytes], most: int) -> None:
        self._chunks = chunks
        self._left = self._most = most

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        self._left -= len(chunk)
        if self._left < 0:
            raise result_too_large(self._most)
        return chunk


class _Whole:
    """A run under filters: its slot is free, and all of its answer is held, before the first byte of it goes out."""

    __slots__ = ("_counts", "_held", "_plan", "_reader")

    def __init__(self, reader: Reader, plan: Plan, counts: Counts) -> None:
        self._reader = reader
        self._plan = plan
        self._counts = counts

    async def __aenter__(self) -> AsyncIterator[bytes]:
        async with self._reader._admission.held(self._plan.read.security):
            self._held = await self._reader._run_filtered(self._plan, self._counts)
        return self._held.pieces()

    async def __aexit__(self, *error: object) -> None:
        self._held.close()
