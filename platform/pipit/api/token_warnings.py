"""What a token that was just made cannot do: warnings for its issuer, who can still correct it.

The decisions are those of reads and appends (`grants.read_pipe`, `filters_for`, `appends.check`), asked beforehand.
Nothing is refused here: what a token names may be deployed later, and a branch that nobody asks for may be all that is
wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipit.access import grants
from pipit.access.context import Scope, SecurityContext
from pipit.api.requests import viewer_of
from pipit.catalog.lineage import nodes_read
from pipit.catalog.snapshot import CompiledPipe, Snapshot
from pipit.errors import Forbidden, PipitError
from pipit.query.reached import tables_reached
from pipit.query.secure import filters_for
from pipit.server import Server
from pipit.suggest import closest


async def warnings_of(server: Server, token: str) -> list[str]:
    """One text for each thing that the token's requests will be refused, or that its scopes say in vain."""
    try:
        security, snapshot = viewer_of(server, token)
    except Forbidden as refused:  # its environment is not there
        return [_sentence(refused)]
    found: dict[str, None] = {}
    for scope in security.scopes:
        found |= dict.fromkeys(_of_scope(snapshot, security, scope))
        found |= dict.fromkeys(await _of_append(server, snapshot, security, scope))
    return list(found)


async def _of_append(server: Server, snapshot: Snapshot, security: SecurityContext, scope: Scope) -> list[str]:
    table = snapshot.datasource(scope.resource) if scope.type == "DATASOURCES:APPEND" else None
    try:
        if table is not None:
            await server.deployer.appends.check(snapshot, table, security, scope.fixed_values)
    except Forbidden as refused:
        return [f"Events for '{scope.resource}' will be refused: {_sentence(refused)}"]
    return []


def _of_scope(snapshot: Snapshot, security: SecurityContext, scope: Scope) -> Iterator[str]:
    name = scope.resource
    if scope.type == "PIPES:READ":
        pipe = snapshot.pipes.get(name)
        if pipe is None:
            yield f"There is no pipe '{name}'{_meant(name, snapshot.pipes)}: the token opens nothing there"
        elif pipe.endpoint is None:
            yield f"The pipe '{name}' is no endpoint: the token opens nothing there"
        else:
            yield from _of_pipe(snapshot, security, scope, pipe)
        return
    if scope.type not in ("DATASOURCES:READ", "DATASOURCES:APPEND"):
        return
    table = snapshot.datasource(name)
    if table is None:
        yield f"There is no data source '{name}'{_meant(name, snapshot.tables)}: the token opens nothing there"
        return
    if scope.type == "DATASOURCES:READ":
        for reason in _refusals(snapshot, security, [table.name]):
            yield f"'{name}' will be refused: {reason}"
    columns = [column.name for column in table.datasource.columns]
    for column in scope.fixed_values:
        if column not in columns:
            yield f"'{name}' has no column '{column}'{_meant(column, columns)}: events are refused"


def _of_pipe(snapshot: Snapshot, security: SecurityContext, scope: Scope, pipe: CompiledPipe) -> Iterator[str]:
    try:
        grants.read_pipe(security, pipe.name, pipe.fixed_params)
    except Forbidden as refused:
        yield f"'{pipe.name}' will be refused: {_sentence(refused)}"
    for reason, names in _refusals(snapshot, security, sorted(tables_reached(snapshot, pipe))).items():
        yield f"'{pipe.name}' will be refused, as it reads {', '.join(names)}: {reason}"
    nodes = [node for _, node in nodes_read(snapshot, pipe, pipe.result)]
    known = {parameter.name for node in nodes if node.template for parameter in node.template.parameters}
    for name in scope.fixed_params:
        if name not in known:
            yield f"'{pipe.name}' has no parameter '{name}'{_meant(name, known)}: fixing it confines nothing"


def _refusals(snapshot: Snapshot, security: SecurityContext, names: Iterable[str]) -> dict[str, list[str]]:
    """Why a read of these tables is refused -> those that it is refused for."""
    found: dict[str, list[str]] = {}
    for name in names:
        table = snapshot.tables.get(name)
        try:
            if table is not None:
                filters_for(snapshot, security, [f"{table.database}.{table.physical}"])
        except PipitError as refused:
            found.setdefault(_sentence(refused), []).append(f"'{name}'")
    return found


def _sentence(error: PipitError) -> str:
    return f"{error.message}. {error.hint}" if error.hint else error.message


def _meant(name: str, known: Iterable[str]) -> str:
    near = closest(name, known)
    return f" (is '{near}' meant?)" if near else ""
