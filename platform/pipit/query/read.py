"""The one way to read (rule 4): resolve -> render -> secure -> limit -> run -> stream -> log.

Endpoints, `/v0/sql` and every later reader build a `Query` and hand it to `Reader.open`. There is no second place
where a filter is applied. Result bytes pass through untouched (rule 5).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial

from pipit.access import grants
from pipit.access.context import SecurityContext
from pipit.access.params import RequestParams, merge
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot
from pipit.catalog.written import as_written, text_as_written
from pipit.engine.client import Engine, ParamValue
from pipit.engine.failures import result_too_large, without_values
from pipit.engine.syntax_errors import Unread, place_in, without_place
from pipit.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    PipitError,
    QueryRefused,
    QueryTimeout,
    RateLimited,
    ReadRefused,
    SqlError,
    Unavailable,
)
from pipit.query import tenant_sql
from pipit.query.admission import Admission, name_of, unread_answers
from pipit.query.barriers import NO_BARRIERS, Barriers, Used, barriers_for
from pipit.query.cache import Cache, Run, key_of
from pipit.query.compose import Composed, Composer
from pipit.query.examine import Examined, Examiner, check_confined, check_strict
from pipit.query.formats import Format, split_format
from pipit.query.hang_breaker import HangBreaker
from pipit.query.held import Held, Store
from pipit.query.limits import (
    FILTER_FIRST,
    MAX_SQL_BYTES,
    STRICT,
    WHOLE_COLUMNS,
    Limits,
    SettingsDict,
    settings_for,
    tenant_sql_settings,
)
from pipit.query.log import QUERY_API, Counts, Origin, Sink, log_line, record, status_of
from pipit.query.plan import Plan
from pipit.query.secure import check_chosen, check_filters, check_scopes, filter_setting, filters_for
from pipit.query.utf8 import repaired
from pipit.templates import Binder, RequestValue, Template
from pipit.templates.binder import holds_secret


@dataclass(frozen=True, slots=True)
class PipeQuery:
    """An endpoint read. `over` is SQL over `_` (the dialect's `q`), for workspace tokens only."""

    pipe: str
    params: RequestParams
    format: Format
    over: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)  # of the output


@dataclass(frozen=True, slots=True)
class SqlQuery:
    """A workspace token's own SELECT. `format` counts where the text has no FORMAT; `_` means the pipe `pipeline`."""

    sql: str
    params: RequestParams
    format: Format
    pipeline: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


Query = PipeQuery | SqlQuery
MakeServices = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A running read: the engine's bytes in the asked format, as they come."""

    format: Format
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class _Written:
    """A statement with the values that it binds, before the engine has seen it."""

    composed: Composed
    binder: Binder
    format: Format


@dataclass(frozen=True, slots=True)
class _Statement:
    """A statement that passed the examination."""

    composed: Composed
    params: Mapping[str, ParamValue]
    format: Format
    examined: Examined


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
        sink: Sink | None = None,
        make_services: MakeServices | None = None,
    ) -> None:
        """`store` holds answers that wait for their clients; `sink` takes the record of every read; `make_services`
        makes a database's service tables if need be.
        """
        self._engine = engine
        self._limits = limits or Limits()
        self._admission = admission or Admission()
        self._unread = unread_answers()
        self._store = store or Store()
        self._cache = cache or Cache()
        self._sink = sink
        self._make_services = make_services
        self._composer = Composer()
        self._examiner = Examiner(engine)
        self._breaker = HangBreaker()

    @asynccontextmanager
    async def open(
        self,
        snapshot: Snapshot,
        security: SecurityContext,
        query: Query,
        *,
        request_id: str = "",
        origin: Origin | None = None,
    ) -> AsyncIterator[Answer]:
        """Runs a query as this token. Errors before the first byte raise on entering; leaving early cancels it."""
        started = time.monotonic()
        error: BaseException | None = None
        told: PipitError | None = None
        counts = Counts()
        asked = query.pipe if isinstance(query, PipeQuery) else QUERY_API if security.is_tenant else query.sql
        try:
            self._breaker.check(security, asked)
            plan = await self.plan(snapshot, security, query)
            run: Run = partial(self._run, snapshot, security, query, plan, request_id, counts)
            running = run
            if plan.cache_seconds and isinstance(query, PipeQuery):
                key = key_of(snapshot, security, plan, query.pipe)
                hand = partial(self._store.hand, name_of(security))
                running = partial(self._cache.open, key, plan.cache_seconds, run, hand)
            with _no_secret_quoted(plan.params):
                async with self._unread.held(security), running() as chunks:
                    yield Answer(plan.format, chunks)
        except PipitError as caught:
            error = caught
            if isinstance(caught, QueryTimeout) and caught.hung:
                self._breaker.add(security, asked)
            told = _for_reader(caught, snapshot, security, query, request_id)
            raise told from None
        except BaseException as caught:
            error = caught
            raise
        finally:
            pipe = query.pipe if isinstance(query, PipeQuery) else QUERY_API
            sent = ((p.name, p.value) for p in query.params.sent)
            seconds = time.monotonic() - started
            status = status_of(told or error)
            self._log(snapshot, security, pipe, sent, origin, request_id, seconds, status, error, counts.found)

    def refused(
        self,
        snapshot: Snapshot,
        security: SecurityContext,
        pipe: str,
        sent: Iterable[tuple[str, object]],
        error: BaseException,
        *,
        request_id: str = "",
        origin: Origin | None = None,
    ) -> None:
        """A read that never became a query, for the log: its rate, its format or its parameters were refused."""
        self._log(snapshot, security, pipe, sent, origin, request_id, 0.0, status_of(error), error, {})

    def _log(
        self,
        snapshot: Snapshot,
        security: SecurityContext,
        pipe: str,
        sent: Iterable[tuple[str, object]],
        origin: Origin | None,
        request_id: str,
        seconds: float,
        status: int,
        error: BaseException | None,
        counts: Mapping[str, int],
    ) -> None:
        log_line(snapshot, security, pipe, request_id, seconds, status, error)
        if self._sink is not None:
            self._sink(
                record(
                    snapshot,
                    security,
                    pipe,
                    sent,
                    origin or Origin(),
                    request_id=request_id,
                    started=time.time() - seconds,
                    duration=seconds,
                    status=status,
                    error=error,
                    counts=counts,
                )
            )

    @asynccontextmanager
    async def _run(
        self,
        snapshot: Snapshot,
        security: SecurityContext,
        query: Query,
        plan: Plan,
        request_id: str,
        counts: Counts,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a plan's answer: whole under filters, else as they come."""
        if plan.filters or plan.tenants_text:
            async with self._admission.held(security):
                held = await self._run_filtered(snapshot, security, query, plan, request_id, counts)
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
                    **_where(snapshot, plan, request_id),
                ) as chunks,
            ):
                yield _counted(repaired(plan.format, chunks), self._limits.result_bytes)

    async def _run_filtered(
        self,
        snapshot: Snapshot,
        security: SecurityContext,
        query: Query,
        plan: Plan,
        request_id: str,
        counts: Counts,
    ) -> Held:
        """The whole answer of a read under filters, or its error.

        The engine may evaluate the pipe's conditions on rows that the filter hides, and fail on another tenant's value:
        an endpoint that anybody can break, and a way to ask for hidden values. So a failure counts only if it comes
        back when the filter is applied before everything else and the tables stand behind a barrier (`sql/barrier.py`).
        That run is slower; the first one nearly always answers.
        """
        try:
            return await self._whole(snapshot, security, plan, plan.settings, request_id, counts)
        except SqlError:
            if plan.tenants_text:
                raise  # the filter came first already
            again = await self.plan(snapshot, security, query, barred=True)
            slow = again.settings | FILTER_FIRST
            id = f"{request_id}-f" if request_id else ""
            return await self._whole(snapshot, security, again, slow, id, counts)

    async def _whole(
        self,
        snapshot: Snapshot,
        security: SecurityContext,
        plan: Plan,
        settings: SettingsDict,
        request_id: str,
        counts: Counts,
    ) -> Held:
        """The engine holds the answer back until it is whole; here it is counted while it comes."""
        settings = settings | {"wait_end_of_query": 1}
        most = self._limits.tenant_sql.result_bytes if plan.tenants_text else self._limits.result_bytes
        async with self._engine.stream(
            plan.composed.sql,
            plan.params,
            settings=settings,
            counts=counts.take,
            most=most,
            **_where(snapshot, plan, request_id),
        ) as chunks:
            return await self._store.take(_counted(repaired(plan.format, chunks), most), name_of(security))

    async def plan(self, snapshot: Snapshot, security: SecurityContext, query: Query, *, barred: bool = False) -> Plan:
        """Everything up to running: decides, composes, examines, filters. Raises what a client should see."""
        if security.workspace_id != snapshot.workspace.id:
            raise Forbidden("The token belongs to another workspace")
        if security.environment != snapshot.workspace.environment:
            raise Forbidden("The token belongs to another environment")
        if isinstance(query, SqlQuery) and security.is_tenant:
            return await self._plan_tenants_text(snapshot, security, query)
        check_scopes(snapshot, security)
        statement = await self._examined(snapshot, security, query, barred=barred)
        composed, examined = statement.composed, statement.examined
        reads = examined.tables | composed.tables
        filters = filters_for(snapshot, security, reads)
        check_filters(snapshot, security, reads, filters)
        settings = settings_for(self._limits)
        settings |= composed.settings
        settings |= query.settings
        # Confined by a filter or by parameters that the token fixes: statistics would count others' rows.
        confined = self._is_confined(security, query)
        if confined:
            check_confined(examined)
        if filters or confined:
            settings |= STRICT
            if not reads.isdisjoint(snapshot.mixed_columns):
                settings |= WHOLE_COLUMNS
        settings["readonly"] = 1
        if filters:
            check_strict(examined)
            settings["additional_table_filters"] = filter_setting(filters)
        keep = _cache_seconds(snapshot, query, composed)
        return Plan(composed, statement.params, filters, settings, reads, statement.format, keep)

    async def _examined(
        self, snapshot: Snapshot, security: SecurityContext, query: PipeQuery | SqlQuery, *, barred: bool
    ) -> _Statement:
        """The statement, composed and examined. `barred`: its tables stand behind a barrier."""
        plain = self._statement(snapshot, security, query, NO_BARRIERS)
        tables = plain.composed.tables
        if self._make_services is not None and not snapshot.service_tables.isdisjoint(tables):
            await self._make_services(snapshot.workspace.database)
        with _no_secret_quoted(plain.binder.params):
            examined = await self._examiner.examine(snapshot, plain.composed, plain.binder)
        if not barred:
            return _Statement(plain.composed, plain.binder.params, plain.format, examined)
        behind = self._statement(snapshot, security, query, barriers_for(snapshot, tables, examined.columns))
        with _no_secret_quoted(behind.binder.params):
            examined = await self._examiner.examine(snapshot, behind.composed, behind.binder)
        return _Statement(behind.composed, behind.binder.params, behind.format, examined)

    def _statement(
        self, snapshot: Snapshot, security: SecurityContext, query: PipeQuery | SqlQuery, barriers: Barriers
    ) -> _Written:
        binder = Binder()
        if isinstance(query, PipeQuery):
            return _Written(self._compose_pipe(snapshot, security, query, binder, barriers), binder, query.format)
        return _Written(*self._compose_sql(snapshot, security, query, binder, barriers))

    async def _plan_tenants_text(self, snapshot: Snapshot, security: SecurityContext, query: SqlQuery) -> Plan:
        """What the token may read is decided before the engine sees the text; what the text may do is decided after."""
        tenant_sql.require(snapshot, security)
        if query.pipeline:
            raise Forbidden("A JWT cannot use 'pipeline': its SQL reads data sources only")
        composed, format = tenant_sql.compose(snapshot, security, query.sql, query.format)
        filters = tenant_sql.filters(snapshot, security, composed)
        limits = tenant_sql_settings(self._limits.tenant_sql, filtered=bool(filters))
        columns = tenant_sql.columns_of(snapshot, composed)
        async with self._admission.held(security):  # the engine computes what is constant in a text already here
            used: Used | None = None
            if not composed.tables.isdisjoint(snapshot.mixed_columns):
                used = (await self._examiner.examine_tenants(snapshot, composed, columns, limits)).columns
            barriers = barriers_for(snapshot, composed.tables, used)
            composed, _ = tenant_sql.compose(snapshot, security, query.sql, query.format, barriers)
            examined = await self._examiner.examine_tenants(snapshot, composed, columns, limits, behind_barrier=True)
        reads = examined.tables | composed.tables
        check_filters(snapshot, security, reads, filters)
        settings = limits | dict(query.settings) | {"readonly": 1}
        if filters:
            settings["additional_table_filters"] = filter_setting(filters)
        return Plan(composed, {}, filters, settings, reads, format, tenants_text=True)

    def _is_confined(self, security: SecurityContext, query: Query) -> bool:
        """By parameters that the token fixes: as by a filter, rows that it cannot see are others'."""
        scopes = security.scopes_for("PIPES:READ", query.pipe) if isinstance(query, PipeQuery) else ()
        return security.is_tenant and any(scope.fixed_params for scope in scopes)

    def _compose_pipe(
        self, snapshot: Snapshot, security: SecurityContext, query: PipeQuery, binder: Binder, barriers: Barriers
    ) -> Composed:
        pipe = snapshot.pipes.get(query.pipe)
        declared = pipe.fixed_params if pipe else ()
        fixed = grants.read_pipe(security, query.pipe, declared, exists=pipe is not None)
        if pipe is None or pipe.endpoint is None:
            raise NotFound(
                f"The pipe '{query.pipe}' does not exist"
                if pipe is None
                else f"The pipe '{query.pipe}' does not have an endpoint yet"
            )
        binder.fixed = frozenset(fixed)
        values = merge(query.params, fixed, pipe.lists)
        if query.over:
            if security.is_tenant:
                raise Forbidden("A JWT cannot use 'q': only workspace tokens may send SQL")
            _check_sql_size(query.over)
        over = query.over or None
        composed = self._composer.pipe(snapshot, pipe, pipe.endpoint, values, binder, over=over, barriers=barriers)
        check_chosen(snapshot, security, composed.chosen)
        # Also of pipes that a template named only now.
        grants.fixes(security, query.pipe, fixed, (n for p in composed.pipes for n in snapshot.pipes[p].fixed_params))
        if query.over and not security.is_admin:
            grants.read_sql(security, composed.names)
        return composed

    def _compose_sql(
        self, snapshot: Snapshot, security: SecurityContext, query: SqlQuery, binder: Binder, barriers: Barriers
    ) -> tuple[Composed, Binder, Format]:
        _check_sql_size(query.sql)
        values = merge(query.params, {}, snapshot.lists | _lists_of(query.sql))
        pipeline: tuple[CompiledPipe, CompiledNode] | None = None
        if query.pipeline:
            pipe = snapshot.pipes.get(query.pipeline)
            if pipe is None:
                raise NotFound(f"The pipe '{query.pipeline}' does not exist")
            pipeline = (pipe, pipe.result)
        # A token that sits in somebody's browser may send SQL; the workspace's secrets are not its to read.
        secrets = snapshot.secrets if security.manages_workspace else {}
        text, format = split_format(render_text(query.sql, values, binder, secrets), query.format)
        composed = self._composer.sql(snapshot, text, values, binder, pipeline=pipeline, barriers=barriers)
        if not security.is_admin:
            grants.read_sql(security, composed.names)
        return composed, binder, format


@contextmanager
def _no_secret_quoted(params: Mapping[str, ParamValue]) -> Iterator[None]:
    """The engine quotes values that it cannot convert. Where one may be a secret, its words are told to nobody, and
    are in no log: only what is wrong with the text, or the error's name."""
    try:
        yield
    except SqlError as error:
        if not holds_secret(params):
            raise
        text = without_values(error.message)
        raise SqlError(text, engine_code=error.engine_code, hint="A secret is in this query.") from None


async def _counted(chunks: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """The engine bounds what a result takes in its memory, where a value repeated in every row takes next to nothing.
    What is handed on is counted here."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise result_too_large(most)
        yield chunk


def _lists_of(text: str) -> frozenset[str]:
    if not text.lstrip().startswith("%"):
        return frozenset()
    return frozenset(p.name for p in Template.compile(text, name="q").parameters if p.is_list)


def render_text(text: str, values: Mapping[str, RequestValue], binder: Binder, secrets: Mapping[str, str]) -> str:
    """A workspace's own SQL text: a template if it begins with `%`."""
    if not text.lstrip().startswith("%"):
        return text
    return Template.compile(text, name="q").render(values, binder, secrets=secrets)


def _where(snapshot: Snapshot, plan: Plan, request_id: str) -> dict[str, str | None]:
    return {"database": snapshot.workspace.database, "format": plan.format.name, "query_id": request_id or None}


def _cache_seconds(snapshot: Snapshot, query: Query, composed: Composed) -> int:
    """What the endpoint says of its answers: the template's `cache_ttl`, else the pipe's CACHE."""
    if not isinstance(query, PipeQuery) or query.over:
        return 0
    return composed.cache_seconds or snapshot.pipes[query.pipe].pipe.cache or 0


def _for_reader(
    error: PipitError, snapshot: Snapshot, security: SecurityContext, query: Query, request_id: str
) -> PipitError:
    """A tenant gets one text for all that the engine says, which may quote a row (attack E04). Of a text of its own it
    is told what its token lacks, and else nothing: bounds that it met, too, depend on rows that are not its own."""
    if not security.is_tenant:
        if isinstance(error, SqlError) and error.is_engines:
            own = query.sql if isinstance(query, SqlQuery) else ""
            message = as_written(_placed(error, own, snapshot), snapshot)
            return SqlError(message, hint=error.hint, engine_code=error.engine_code)
        return error
    if isinstance(query, SqlQuery):
        told = isinstance(error, (Forbidden, NotFound, Unavailable, RateLimited)) and not isinstance(error, ReadRefused)
        return error if told else QueryRefused(request_id)
    if not isinstance(error, SqlError):
        return error
    return SqlError("The query of this endpoint failed", hint=f"Quote the request id {request_id} to its owner.")


def _placed(error: SqlError, own: str, snapshot: Snapshot) -> str:
    """The message, with the place of a syntax error in the reader's own text, or with none: the engine's is in ours."""
    rest = without_place(error)
    if not own or not isinstance(error, Unread):
        return rest
    found = place_in(own, text_as_written(error.before, snapshot), text_as_written(error.here, snapshot))
    if found is None:
        return rest
    at, word = found
    where = f"at `{word}`, position {at + 1}" if word else "at the end of the query"
    return rest.replace("Syntax error", f"Syntax error: cannot be read {where}", 1)


def _check_sql_size(sql: str) -> None:
    if len(sql.encode()) > MAX_SQL_BYTES:
        raise BadRequest(f"The SQL text is longer than {MAX_SQL_BYTES} bytes", hint="Put it into a pipe.")
    if not sql.strip():
        raise SqlError("The query is empty")
