"""Warnings about data sources for the author of a project. Only a FORWARD_QUERY that is no SQL is an error."""

from __future__ import annotations

from collections.abc import Container

from pipit.catalog.snapshot import Snapshot, Table
from pipit.datafiles.resources import NodeType, WarningKind
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.deploy.defaults import doubtful_defaults
from pipit.engine.client import Engine
from pipit.errors import DatafileError, PipitError, SqlError, Unavailable
from pipit.ingest.defaults import checked_defaults
from pipit.sql.references import single_statement, trailing_clauses
from pipit.tables.ddl import position_of


async def datasource_findings(
    engine: Engine, snapshot: Snapshot, made: Container[str]
) -> tuple[list[DatafileError], list[ProjectWarning]]:
    """`made`: the data sources whose tables the engine has. Raises Unavailable."""
    errors: list[DatafileError] = []
    warnings: list[ProjectWarning] = []
    written = {
        node.node.datasource if node.node.type is NodeType.MATERIALIZED else node.node.target_datasource
        for pipe in snapshot.pipes.values()
        for node in pipe.nodes.values()
        if node.node.type in (NodeType.MATERIALIZED, NodeType.COPY)
    }
    for table in snapshot.tables.values():
        if table.datasource.forward_query and table.name in made:
            errors += await _forward_query(engine, table)
        if any(c.default for c in table.datasource.columns) and table.name in made:
            defaults = await checked_defaults(engine, table.database, table.physical)
            warnings += doubtful_defaults(table.datasource, defaults)
        warnings += _unsorted(table)
        warnings += _unfilled(table, written)
        warnings += _unreadable_for_tenants(snapshot, table)
    return errors, warnings


def _warn(kind: WarningKind, table: Table, word: str, message: str, hint: str) -> ProjectWarning:
    place = position_of(table.datasource, word)
    file = place.file or table.datasource.file
    return ProjectWarning(file, message, place.line or 1, place.column or 1, hint, kind)


async def _forward_query(engine: Engine, table: Table) -> list[DatafileError]:
    source = table.datasource
    place = position_of(source, "FORWARD_QUERY")

    def refuse(message: str, hint: str) -> list[DatafileError]:
        return [
            DatafileError(
                f"FORWARD_QUERY: {message}",
                file=place.file or source.file,
                line=place.line or 1,
                column=place.column or 1,
                hint=hint,
            )
        ]

    hint = "A SELECT that gives the new columns from the old ones, such as SELECT id, toString(code) AS code."
    try:
        sql = single_statement(source.forward_query)
        if sql.split(None, 1)[0].upper() not in ("SELECT", "WITH") or trailing_clauses(sql):
            return refuse("it is not a SELECT", hint)
        await engine.query(f"EXPLAIN AST {sql}", settings={"readonly": 1})
    except Unavailable:
        raise
    except (SqlError, IndexError) as error:
        return refuse(error.message if isinstance(error, PipitError) else "it is empty", hint)
    return []


def _unsorted(table: Table) -> list[ProjectWarning]:
    engine = table.datasource.engine
    if not engine.name.endswith("MergeTree") or engine.sorting_key.replace(" ", "") not in ("", "tuple()", "()"):
        return []
    message = f"'{table.name}' has no sorting key: every read scans all of its rows"
    hint = "ENGINE_SORTING_KEY customer_id, timestamp: the columns by which it is read, those with few values first."
    return [_warn(WarningKind.NO_SORTING_KEY, table, "ENGINE", message, hint)]


def _unfilled(table: Table, written: set[str]) -> list[ProjectWarning]:
    if table.name in written or not any("AggregateFunction(" in c.type for c in table.datasource.columns):
        return []
    if any(c.jsonpath is not None for c in table.datasource.columns) or table.datasource.vendor:
        return []
    message = f"Nothing fills '{table.name}': no materialized node and no copy writes it, and events cannot"
    hint = "If a view was deleted: its rows stay as they are, and no new ones come."
    return [_warn(WarningKind.NOT_FILLED, table, "SCHEMA", message, hint)]


def _unreadable_for_tenants(snapshot: Snapshot, table: Table) -> list[ProjectWarning]:
    """A read by a tenant of what derives from a policed table and has no policy is refused."""
    policed = sorted(s for s in table.sources if (t := snapshot.tables.get(s)) is not None and t.policy is not None)
    if table.policy is not None or not policed:
        return []
    message = (
        f"Tenants cannot read '{table.name}': it is made from '{policed[0]}', which has a ROW_POLICY, and it has no "
        "ROW_POLICY of its own"
    )
    hint = f"Give '{table.name}' a ROW_POLICY over a column that it has."
    return [_warn(WarningKind.UNREADABLE_BY_TENANTS, table, "SCHEMA", message, hint)]
