"""The one way to read (rule 4): each read is planned (`planner.py`), admitted, run, cached and logged here.

Endpoints, `/v0/sql`, jobs, `pipit test` and every later reader build a `Query` and hand it to `Reader.open`, whose rows
go to a client, or to `Reader.write`, whose rows go to a table. Result bytes pass through untouched (rule 5).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from pipit.engine.client import Engine, Settings
from pipit.engine.failures import result_too_large
from pipit.errors import PipitError, QueryTimeout, SqlError
from pipit.query.admission import Admission, name_of, unread_answers
from pipit.query.cache import Cache, Run, key_of
from pipit.query.disclosure import for_reader, no_secret_quoted
from pipit.query.formats import Format
from pipit.query.hang_breaker import HangBreaker
from pipit.query.held import Held, Store
from pipit.query.limits import FILTER_FIRST, Limits, SettingsDict
from pipit.query.log import Asked, AuditLog, Counts, ReadOutcome, asked, log_line, record, status_of
from pipit.query.plan import Plan
from pipit.query.planner import Draft, Planner
from pipit.query.queries import Read
from pipit.query.utf8 import repaired


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


class ServiceTables(Protocol):
    async def make(self, database: str) -> None:
        """Makes what is missing of a database's service tables (`catalog.services`)."""
        ...


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
        self._breaker = HangBreaker()

    async def plan(self, read: Read) -> Plan:
        """What would run: decided, composed, examined and filtered. Raises what a client should see.

        Nothing is made for it, so a plan over service tables is refused by the engine where they are not there yet.
        """
        return await self._plan(self._planner.draft(read))

    async def prepare(self, read: Read) -> Plan:
        """The plan of what is about to run: service tables that it reads are there."""
        draft = self._planner.draft(read)
        if self._service_tables is not None and draft.reads_service_tables:
            await self._service_tables.make(read.snapshot.workspace.database)
        return await self._plan(draft)

    async def _plan(self, draft: Draft) -> Plan:
        if not draft.read.is_tenants_text:
            return await self._planner.plan(draft)
        async with self._admission.held(draft.read.security):  # the engine computes a text's constants already here
            return await self._planner.plan(draft)

    @asynccontextmanager
    async def open(self, read: Read) -> AsyncIterator[Answer]:
        """Runs a query as this token. Errors before the first byte raise on entering; leaving early cancels it."""
        with self._observed(read) as counts:
            plan = await self.prepare(read)
            run: Run = partial(self._run, plan, counts)
            running = run
            if plan.cache_seconds:
                hand = partial(self._store.hand, name_of(read.security))
                running = partial(self._cache.open, key_of(plan), plan.cache_seconds, run, hand)
            with no_secret_quoted(plan.params):
                async with self._unread.held(read.security), running() as chunks:
                    yield Answer(plan.format, chunks)

    async def write(self, plan: Plan, into: Destination) -> Written:
        """Runs a query as an INSERT of its rows, to the end. Cancelled, it ends in the engine; some rows may be there.

        Its slot comes when there is one: who waits is a job, and no client.
        """
        read = plan.read
        with self._observed(read) as counts, no_secret_quoted(plan.params):
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

    @contextmanager
    def _observed(self, read: Read) -> Iterator[Counts]:
        """Around a run: what hung is not run again at once, an error says what its reader may know, all is logged."""
        started = time.monotonic()
        error: BaseException | None = None
        told: PipitError | None = None
        counts = Counts()
        try:
            self._breaker.check(read.security, read.asked)
            yield counts
        except PipitError as caught:
            error = caught
            if isinstance(caught, QueryTimeout) and caught.hung:
                self._breaker.add(read.security, read.asked)
            told = for_reader(caught, read)
            raise told from None
        except BaseException as caught:
            error = caught
            raise
        finally:
            seconds = time.monotonic() - started
            self._log(asked(read), ReadOutcome(status_of(told or error), seconds, error, counts.found))

    def _log(self, asked: Asked, outcome: ReadOutcome) -> None:
        log_line(asked, outcome)
        if self._audit_log is not None:
            self._audit_log.add(record(asked, outcome, now=time.time()))

    @asynccontextmanager
    async def _run(self, plan: Plan, counts: Counts) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a plan's answer: whole under filters, else as they come."""
        security = plan.read.security
        if plan.filters or plan.read.is_tenants_text:
            async with self._admission.held(security):
                held = await self._run_filtered(plan, counts)
            try:
                yield held.pieces()
            finally:
                held.close()
        else:
            async with (
                self._admission.held(security),
                self._engine.stream(
                    plan.composed.sql,
                    plan.params,
                    settings=plan.settings,
                    counts=counts.take,
                    most=self._limits.result_bytes,
                    **_where(plan, plan.read.request_id),
                ) as chunks,
            ):
                yield _counted(repaired(plan.format, chunks), self._limits.result_bytes)

    async def _run_filtered(self, plan: Plan, counts: Counts) -> Held:
        """The whole answer of a read under filters, or its error.

        The engine may evaluate the pipe's conditions on rows that the filter hides, and fail on another tenant's value:
        an endpoint that anybody can break, and a way to ask for hidden values. So a failure counts only if it comes
        back when the filter is applied before everything else and the tables stand behind security barriers
        (`sql/barrier.py`). That run is slower; the first one nearly always answers.
        """
        id = plan.read.request_id
        try:
            return await self._whole(plan, plan.settings, id, counts)
        except SqlError:
            if plan.read.is_tenants_text:
                raise  # the filter came first already
            again = await self._planner.plan(self._planner.draft(plan.read), behind_barriers=True)
            slow = again.settings | FILTER_FIRST
            return await self._whole(again, slow, f"{id}-f" if id else "", counts)

    async def _whole(self, plan: Plan, settings: SettingsDict, query_id: str, counts: Counts) -> Held:
        """The engine holds the answer back until it is whole; here it is counted while it comes."""
        settings = settings | {"wait_end_of_query": 1}
        most = self._limits.tenant_sql.result_bytes if plan.read.is_tenants_text else self._limits.result_bytes
        async with self._engine.stream(
            plan.composed.sql,
            plan.params,
            settings=settings,
            counts=counts.take,
            most=most,
            **_where(plan, query_id),
        ) as chunks:
            return await self._store.take(_counted(repaired(plan.format, chunks), most), name_of(plan.read.security))


async def _counted(chunks: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """The engine bounds what a result takes in its memory, where a value repeated in every row takes next to nothing.
    What is handed on is counted here."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise result_too_large(most)
        yield chunk


def _where(plan: Plan, query_id: str) -> dict[str, str | None]:
    database = plan.read.snapshot.workspace.database
    return {"database": database, "format": plan.format.name, "query_id": query_id or None}
