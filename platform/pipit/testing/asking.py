"""One case's request, and the order that its query leaves open.

A case asks over HTTP as anybody would: with the workspace's admin token, or with a JWT that is signed here as a backend
signs one and that the server verifies like any other. Whether two rows may change places is a question about the query
that was run: its text, bound values and filters come from the one way to read, for the same viewer and parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlencode
from urllib.parse import quote as quote_url

import yarl

from pipit.access.context import SecurityContext
from pipit.access.jwt import sign
from pipit.access.params import RequestParams, SentParameter
from pipit.api.requests import viewer_of
from pipit.catalog.lineage import parameter_names
from pipit.catalog.snapshot import CompiledPipe, Snapshot
from pipit.datafiles.resources import NodeType
from pipit.errors import PipitError, ReadRefused, SqlError
from pipit.query.compose import Composed
from pipit.query.formats import EXTENSIONS, TSV, Format
from pipit.query.limits import Purpose
from pipit.query.queries import Composing, PipeQuery, Read
from pipit.templates import is_reserved
from pipit.testing.cases import Case, Tenant
from pipit.testing.compare import RowMatch, in_order, lines_of, plain_slashes, same_rows
from pipit.testing.harness import FreshWorkspace, Reply
from pipit.testing.order import over_answer, sort_keys, with_key

_KEY = "pipit_test_sort_key"
_UNQUOTED = "!$%&'()*+,/:;=?@[]~"  # what an HTTP client leaves as it is in a query string
_CONTROLS = frozenset({"q", "format"})  # parameters of an endpoint's URL that are not its template's
_TOKEN_SECONDS = 3600


async def ask(workspace: FreshWorkspace, pipe: CompiledPipe, case: Case) -> Reply:
    """An endpoint as NDJSON; for the workspace, a pipe that is none through /v0/sql, in its default format."""
    query = quote_url(case.parameters.strip(), safe=_UNQUOTED)
    if pipe.endpoint is None and case.tenant is None:  # of a pipe that only writes, what it would write
        asked = f"/v0/sql?{urlencode({'q': 'SELECT * FROM _', 'pipeline': pipe.name})}&{query}"
    else:
        asked = f"/v0/pipes/{pipe.name}.ndjson?{query}"
    token = _token(workspace, pipe, case.tenant) if case.tenant else ""
    return await workspace.get_url(yarl.URL(workspace.url + asked, encoded=True), token=token)


def parameters_of(snapshot: Snapshot, pipe: CompiledPipe, case: Case) -> tuple[list[str], list[str]]:
    """The parameters that the pipe and what it reads have, and those that the case sends or fixes beside them."""
    known = parameter_names(snapshot, pipe)
    named = dict.fromkeys(name for name, _ in _sent(case.parameters))
    named |= dict.fromkeys(case.tenant.fixed if case.tenant else ())
    unknown = [n for n in named if n not in known and n not in _CONTROLS and not is_reserved(n)]
    return sorted(known), unknown


async def order_of(workspace: FreshWorkspace, pipe: CompiledPipe, case: Case, expected: str) -> RowMatch:
    """Whether the expected order of the rows is one that the ORDER BY of the query that was run allows."""
    try:
        return await _order_of(workspace, pipe, case, expected)
    except PipitError:  # the keys cannot be had: what stands in the file is all that is known
        return RowMatch.ORDER


async def _order_of(workspace: FreshWorkspace, pipe: CompiledPipe, case: Case, expected: str) -> RowMatch:
    token = _token(workspace, pipe, case.tenant) if case.tenant else workspace.snapshot.workspace.admin_token
    viewer, snapshot = viewer_of(workspace.server, token)
    format = EXTENSIONS["ndjson"]
    if pipe.endpoint is None:
        format = TSV
        pipe = _published(pipe)
        snapshot = replace(snapshot, pipes={**snapshot.pipes, pipe.name: pipe})
    params = RequestParams(tuple(SentParameter("query", name, value) for name, value in _sent(case.parameters)))
    query = PipeQuery(pipe.name, params, format)
    reader = workspace.server.reader
    keys = sort_keys((await reader.plan(Read(snapshot, viewer, query))).composed.sql)
    if not keys:
        return RowMatch.TIES if keys is not None else RowMatch.ORDER
    for rewrite in (over_answer, with_key):
        try:
            async with reader.open(Read(snapshot, viewer, _Keyed(query, keys, rewrite))) as answer:
                rows = b"".join([chunk async for chunk in answer.chunks])
        except (SqlError, ReadRefused):  # a key that is no column of the answer
            continue
        return _compared(expected, rows.decode("utf-8", "replace"))
    return RowMatch.ORDER


@dataclass(frozen=True, slots=True)
class _Keyed:
    """An endpoint's query with its sort keys as one more column. Read, filtered and logged as any other."""

    query: PipeQuery
    keys: Sequence[str]
    rewrite: Callable[[str, Sequence[str], str], str | None]

    @property
    def name(self) -> str:
        return self.query.name

    @property
    def sent(self) -> Iterable[tuple[str, object]]:
        return self.query.sent

    @property
    def format(self) -> Format:
        return self.query.format

    @property
    def settings(self) -> Mapping[str, str]:
        return self.query.settings

    @property
    def purpose(self) -> Purpose:
        return self.query.purpose

    @property
    def own_sql(self) -> str | None:
        return None

    @property
    def key(self) -> None:
        return None

    @property
    def narrowed(self) -> Mapping[str, str]:
        return {}

    def compose(self, by: Composing) -> tuple[Composed, Format]:
        composed, format = self.query.compose(by)
        sql = self.rewrite(composed.sql, self.keys, _KEY)
        if sql is None:
            raise SqlError("The query is not one plain SELECT")
        return replace(composed, sql=sql), format

    def is_confined(self, security: SecurityContext) -> bool:
        return self.query.is_confined(security)

    def cache_seconds(self, snapshot: Snapshot, composed: Composed) -> int:
        return 0


def _compared(expected: str, answer: str) -> RowMatch:
    found: dict[str, list[str]] = {}
    order: list[str] = []
    for line in lines_of(plain_slashes(answer)):
        row, key = _without_key(line)
        found.setdefault(row, []).append(key)
        order.append(key)
    if same_rows(expected, "\n".join(row for row, held in found.items() for _ in held)) is RowMatch.NO:
        return RowMatch.ORDER
    return in_order(expected, found, order)


def _without_key(line: str) -> tuple[str, str]:
    """A row as it would be without its last column, and that column."""
    if line.endswith("}"):
        row, _, key = line.rpartition(f',"{_KEY}":')
        return f"{row}}}", key[:-1]
    row, _, key = line.rpartition("\t")
    return row, key


def _published(pipe: CompiledPipe) -> CompiledPipe:
    """A pipe without an endpoint as if its result were one."""
    nodes = (replace(n, type=NodeType.ENDPOINT) if n.name == pipe.result.name else n for n in pipe.pipe.nodes)
    return replace(pipe, pipe=replace(pipe.pipe, nodes=tuple(nodes)))


def _sent(parameters: str) -> list[tuple[str, str]]:
    return parse_qsl(parameters.strip(), keep_blank_values=True)


def _token(workspace: FreshWorkspace, pipe: CompiledPipe, tenant: Tenant) -> str:
    """What a backend with the admin token would sign for this tenant, right or wrong: the server says which."""
    scope = {"type": "PIPES:READ", "resource": pipe.name} | ({"fixed_params": tenant.fixed} if tenant.fixed else {})
    claims = {"workspace_id": workspace.id, "name": "pipit test", "exp": int(time.time()) + _TOKEN_SECONDS}
    claims |= {"scopes": [scope]} | ({"context": tenant.context} if tenant.context else {})
    return sign(claims, workspace.snapshot.workspace.admin_token)
