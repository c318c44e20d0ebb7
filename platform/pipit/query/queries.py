"""What can be asked. Each kind of query composes its own statement, and says what it is and for what it is read.

No kind decides who may see which rows: `planner.py` does, for all of them. A new kind (a sink, a metric) is a class
with these members, here or in the package that needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pipit.access import grants
from pipit.access.context import SecurityContext
from pipit.access.params import RequestParams, merge
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot
from pipit.errors import BadRequest, Forbidden, NotFound, Reason, SqlError
from pipit.query import tenant_sql
from pipit.query.barriers import NO_BARRIERS, Barriers
from pipit.query.compose import Composed, Composer
from pipit.query.formats import NDJSON, Format, split_format
from pipit.query.limits import COPY, MAX_SQL_BYTES, POPULATE, READ, SINK, Purpose
from pipit.query.secure import check_chosen
from pipit.templates import Binder, RequestValue, Template

QUERY_API = "query_api"  # the dialect's name for reads without a pipe


@dataclass(frozen=True, slots=True)
class Composing:
    """What a query is composed with: for whom, of which snapshot, and where its values are bound."""

    snapshot: Snapshot
    security: SecurityContext
    composer: Composer
    binder: Binder
    barriers: Barriers = NO_BARRIERS


class Query(Protocol):
    @property
    def name(self) -> str:
        """For the logs: the pipe, or QUERY_API."""
        ...

    @property
    def sent(self) -> Iterable[tuple[str, object]]:
        """The values that came with it, for the logs."""
        ...

    @property
    def format(self) -> Format: ...

    @property
    def settings(self) -> Mapping[str, str]:
        """Of the output: how a value is written, never which."""
        ...

    @property
    def purpose(self) -> Purpose:
        """Its limits, and whether its rows are written to a table."""
        ...

    @property
    def own_sql(self) -> str | None:
        """SQL that the token's holder wrote; None: the project's own."""
        ...

    @property
    def key(self) -> tuple[object, ...] | None:
        """What tells it from every query that could have another plan; None: its plan is not remembered."""
        ...

    @property
    def narrowed(self) -> Mapping[str, str]:
        """Conditions on tables (`database.table`) besides those that the token is held to: fewer rows, never more."""
        ...

    def compose(self, by: Composing) -> tuple[Composed, Format]:
        """The statement and its format. Raises Forbidden, NotFound, BadRequest, SqlError."""
        ...

    def is_confined(self, security: SecurityContext) -> bool:
        """By parameters that the token fixes: as by a filter, rows that it cannot see are others'."""
        ...

    def cache_seconds(self, snapshot: Snapshot, composed: Composed) -> int:
        """How long a response may be cached; 0: not at all."""
        ...


@dataclass(frozen=True, slots=True)
class ReadOrigin:
    """Where a read came from. `token` is a digest; `url` is as it was sent, and is masked before it is kept."""

    method: str = ""
    url: str = ""
    user_agent: str | None = None
    client_ip: str | None = None
    token: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """One read: who asks what, of which snapshot. `request_id` may be empty."""

    snapshot: Snapshot
    security: SecurityContext
    query: Query
    request_id: str = ""
    origin: ReadOrigin = field(default_factory=ReadOrigin)

    @property
    def is_tenants_sql(self) -> bool:
        return self.security.is_tenant and self.query.own_sql is not None

    @property
    def asked(self) -> str:
        """What is remembered of a statement that hangs: the endpoint, the SQL API, a workspace's own SQL."""
        return self.query.name if self.security.is_tenant or self.query.own_sql is None else self.query.own_sql


class _Plain:
    """What most queries have in common: SQL of the project's, nothing confined by parameters, no cached response."""

    __slots__ = ()

    @property
    def own_sql(self) -> str | None:
        return None

    def is_confined(self, security: SecurityContext) -> bool:
        return False

    def cache_seconds(self, snapshot: Snapshot, composed: Composed) -> int:
        return 0


class _OfRequest(_Plain):
    """A request asks for rows."""

    __slots__ = ()
    params: RequestParams

    @property
    def sent(self) -> Iterable[tuple[str, object]]:
        return ((p.name, p.value) for p in self.params.sent)

    @property
    def purpose(self) -> Purpose:
        return READ

    @property
    def narrowed(self) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class PipeQuery(_OfRequest):
    """An endpoint read. `over` is SQL over `_` (the dialect's `q`), for workspace tokens only."""

    pipe: str
    params: RequestParams
    format: Format
    over: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[object, ...] | None:
        """Only of texts: 1, 1.0 and true are equal, and mean something else."""
        if self.over:
            return None
        sent: list[tuple[str, str]] = []
        for parameter in self.params.sent:
            if type(parameter.value) is not str:
                return None
            sent.append((parameter.name, parameter.value))
        return self.pipe, self.format.name, tuple(self.settings.items()), tuple(sent)

    @property
    def name(self) -> str:
        return self.pipe

    def compose(self, by: Composing) -> tuple[Composed, Format]:
        snapshot, security = by.snapshot, by.security
        pipe = snapshot.pipes.get(self.pipe)
        declared = pipe.fixed_params if pipe else ()
        fixed = grants.read_pipe(security, self.pipe, declared, exists=pipe is not None)
        if pipe is None:
            raise NotFound(
                f"The pipe '{self.pipe}' does not exist", reason=Reason.PIPE_NOT_FOUND, subject=self.pipe
            )
        if pipe.endpoint is None:
            raise NotFound(
                f"The pipe '{self.pipe}' does not have an endpoint yet",
                reason=Reason.ENDPOINT_NOT_FOUND,
                subject=self.pipe,
            )
        by.binder.fixed = frozenset(fixed)
        values = merge(self.params, fixed, pipe.lists)
        if self.over:
            if security.is_tenant:
                raise Forbidden(
                    "A JWT cannot use 'q': only workspace tokens may send SQL", reason=Reason.SQL_NOT_FOR_TENANTS
                )
            _check_sql_size(self.over)
        over = self.over or None
        composed = by.composer.pipe(
            snapshot, pipe, pipe.endpoint, values, by.binder, over=over, barriers=by.barriers
        )
        check_chosen(snapshot, security, composed.chosen)
        # Also of pipes that a template named only now.
        grants.fixes(security, self.pipe, fixed, (n for p in composed.pipes for n in snapshot.pipes[p].fixed_params))
        if self.over and not security.is_admin:
            grants.read_sql(security, composed.names)
        return composed, self.format

    def is_confined(self, security: SecurityContext) -> bool:
        scopes = security.scopes_for("PIPES:READ", self.pipe)
        return security.is_tenant and any(scope.fixed_params for scope in scopes)

    def cache_seconds(self, snapshot: Snapshot, composed: Composed) -> int:
        """The template's `cache_ttl`, else the pipe's CACHE."""
        if self.over:
            return 0
        return composed.cache_seconds or snapshot.pipes[self.pipe].pipe.cache or 0


@dataclass(frozen=True, slots=True)
class SqlQuery(_OfRequest):
    """A SELECT that the token's holder wrote: a workspace's, or a tenant's where the workspace allows it.

    `format` counts where the text has no FORMAT; `_` means the pipe `pipeline`.
    """

    sql: str
    params: RequestParams
    format: Format
    pipeline: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> None:
        return None

    @property
    def name(self) -> str:
        return QUERY_API

    @property
    def own_sql(self) -> str | None:
        return self.sql

    def compose(self, by: Composing) -> tuple[Composed, Format]:
        snapshot, security = by.snapshot, by.security
        if security.is_tenant:
            tenant_sql.require(snapshot, security)
            if self.pipeline:
                raise Forbidden(
                    "A JWT cannot use 'pipeline': its SQL reads data sources only", reason=Reason.SQL_NOT_FOR_TENANTS
                )
            return tenant_sql.compose(snapshot, security, self.sql, self.format, by.barriers)
        _check_sql_size(self.sql)
        values = merge(self.params, {}, snapshot.lists | _lists_of(self.sql))
        pipeline: tuple[CompiledPipe, CompiledNode] | None = None
        if self.pipeline:
            pipe = snapshot.pipes.get(self.pipeline)
            if pipe is None:
                raise NotFound(
                    f"The pipe '{self.pipeline}' does not exist", reason=Reason.PIPE_NOT_FOUND, subject=self.pipeline
                )
            pipeline = (pipe, pipe.result)
        # A token that sits in somebody's browser may send SQL; the workspace's secrets are not its to read.
        secrets = snapshot.secrets if security.manages_workspace else {}
        text, format = split_format(render_text(self.sql, values, by.binder, secrets), self.format)
        composed = by.composer.sql(snapshot, text, values, by.binder, pipeline=pipeline, barriers=by.barriers)
        if not security.is_admin:
            grants.read_sql(security, composed.names)
        return composed, format


@dataclass(frozen=True, slots=True)
class NodeQuery(_Plain):
    """The rows of a pipe's node, for who may run jobs: what a copy or a populate writes to a table."""

    pipe: str
    node: str
    purpose: Purpose
    values: Mapping[str, RequestValue] = field(default_factory=dict)
    given: Mapping[str, RequestValue] = field(default_factory=dict)  # by Pipit, whatever the values say
    narrowed: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> None:
        return None

    @property
    def name(self) -> str:
        return self.pipe

    @property
    def sent(self) -> Iterable[tuple[str, object]]:
        return self.values.items()

    @property
    def format(self) -> Format:
        return NDJSON  # of no rows: they go to a table

    def compose(self, by: Composing) -> tuple[Composed, Format]:
        grants.run_jobs(by.security)
        pipe = by.snapshot.pipes[self.pipe]
        values = {**self.values, **self.given}
        composed = by.composer.pipe(by.snapshot, pipe, pipe.nodes[self.node], values, by.binder, barriers=by.barriers)
        return composed, self.format


def copy_query(pipe: str, node: str, values: Mapping[str, RequestValue], *, job_timestamp: str) -> NodeQuery:
    return NodeQuery(pipe, node, COPY, values, {"job_timestamp": job_timestamp})


def sink_query(pipe: str, node: str, values: Mapping[str, RequestValue], *, job_timestamp: str) -> NodeQuery:
    return NodeQuery(pipe, node, SINK, values, {"job_timestamp": job_timestamp})


def populate_query(
    pipe: str, node: str, asked: Mapping[str, RequestValue], *, narrowed: Mapping[str, str]
) -> NodeQuery:
    """A materialized node takes no parameters; `asked` is how the populate was asked for."""
    return NodeQuery(pipe, node, POPULATE, asked, narrowed=narrowed)


def render_text(text: str, values: Mapping[str, RequestValue], binder: Binder, secrets: Mapping[str, str]) -> str:
    """A workspace's own SQL text: a template if it begins with `%`."""
    if not text.lstrip().startswith("%"):
        return text
    return Template.compile(text, name="q").render(values, binder, secrets=secrets)


def _lists_of(text: str) -> frozenset[str]:
    if not text.lstrip().startswith("%"):
        return frozenset()
    return frozenset(p.name for p in Template.compile(text, name="q").parameters if p.is_list)


def _check_sql_size(sql: str) -> None:
    if len(sql.encode()) > MAX_SQL_BYTES:
        raise BadRequest(
            f"The SQL text is longer than {MAX_SQL_BYTES} bytes", hint="Put it into a pipe.", reason=Reason.SQL_TOO_LONG
        )
    if not sql.strip():
        raise SqlError("The query is empty", reason=Reason.SQL_INVALID)
