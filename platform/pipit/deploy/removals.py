"""What a deploy takes away: rows, columns, views. Each is refused with its rows and what depends on it, unless whoever
deploys has said yes.

And new columns that the rows that are there would have no value for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pipit.catalog.lineage import tables_read
from pipit.catalog.snapshot import Snapshot
from pipit.datafiles.resources import Column, DataSource
from pipit.deploy.alterations import AddColumn, ModifyTtl
from pipit.deploy.compare import Comparison, place_of_change
from pipit.deploy.plan import Refusal
from pipit.errors import DatafileError, Reason
from pipit.sql.lexer import LexerKind, identifier_name, tokenize
from pipit.tables.sizes import Size, Sizes

_FLAG = "deploy with --allow-destructive-operations"
_NAMES = (LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER)


def removals(live: Snapshot, comparison: Comparison, views: Sequence[str], sizes: Sizes) -> Iterator[Refusal]:
    """`views`: those that go, "pipe.node"."""

    def rows(name: str) -> int:
        return sizes.get(live.tables[name].physical, Size()).rows

    for one in comparison.alterations:
        if isinstance(one, AddColumn) and one.unset and rows(one.table.name):
            yield _no_value(one.table.datasource, one.column, rows(one.table.name))
    if comparison.allowed.destructive:
        return
    for name in comparison.datasources.deleted:
        yield _deletes_rows(live, name, rows(name))
    for removed in comparison.removed:
        name = removed.table.name
        if name in comparison.rebuilds and removed.table.datasource.forward_query:
            continue  # it says what becomes of its values
        yield _deletes_column(live, removed.table.datasource, removed.column, rows(removed.table.name))
    for key in views:
        pipe, _, node = key.partition(".")
        target = live.pipes[pipe].nodes[node].node.datasource
        if target in comparison.datasources.deleted:
            continue  # said of its rows
        yield _deletes_view(live, key, target, rows(target))
    for one in (*comparison.alterations, *comparison.instead):
        if isinstance(one, ModifyTtl) and one.expired:
            yield _deletes_by_ttl(one)
        if isinstance(one, AddColumn) and one.replaces and rows(one.table.name):
            yield _replaces(one, rows(one.table.name))


def _no_value(datasource: DataSource, column: Column, rows: int) -> Refusal:
    at = column.position
    error = DatafileError(
        f"The new column '{column.name}' has no value for the rows that are there ({rows:,})",
        file=at.file or datasource.file,
        line=at.line,
        column=at.column,
        hint=f"Make it Nullable({column.type}) or give it a DEFAULT.",
    )
    return Refusal(Reason.NO_VALUE_FOR_ROWS, datasource.name, error)


def _deletes_rows(live: Snapshot, name: str, rows: int) -> Refusal:
    datasource = live.project.datasources[name]
    error = DatafileError(
        f"The data source '{name}' is deployed and is missing from the project; deleting it deletes its "
        f"{counted(rows)}{_read_by(readers(live, name))}",
        file=datasource.file,
        hint=f"Put the file back, or {_FLAG}.",
    )
    return Refusal(Reason.DELETES_ROWS, name, error)


def _deletes_column(live: Snapshot, datasource: DataSource, column: Column, rows: int) -> Refusal:
    error = DatafileError(
        f"The column '{column.name}' of '{datasource.name}' is removed, with its values in {counted(rows)}"
        f"{_read_by(readers(live, datasource.name, column.name))}",
        file=datasource.file,
        hint=f"Put it back, or {_FLAG}: nothing sees it from then on, and it comes back with its values when the files "
        "have it again.",
    )
    return Refusal(Reason.DELETES_COLUMN, datasource.name, error)


def _deletes_view(live: Snapshot, key: str, target: str, rows: int) -> Refusal:
    pipe, _, node = key.partition(".")
    place = live.pipes[pipe].nodes[node].node.position
    error = DatafileError(
        f"The materialized node '{node}' of '{pipe}' is removed: it stops filling '{target}', which keeps its "
        f"{counted(rows)}{_read_by(readers(live, target))}",
        file=place.file or live.pipes[pipe].pipe.file,
        line=place.line,
        column=place.column,
        hint=f"Put it back, or {_FLAG}. Rows that come meanwhile are not in '{target}' when the node comes back.",
    )
    return Refusal(Reason.DELETES_VIEW, key, error)


def _replaces(adding: AddColumn, rows: int) -> Refusal:
    name, column, place = adding.table.name, adding.column, place_of_change(adding)
    error = DatafileError(
        f"The column '{column.name}' of '{name}' was removed and is kept as {adding.replaces}, with its values in "
        f"{counted(rows)}; as {column.type} it takes their place",
        file=place.file,
        line=place.line,
        column=place.column,
        hint=f"Give the new column another name, or {_FLAG}: the old values go.",
    )
    return Refusal(Reason.DELETES_COLUMN, name, error)


def _deletes_by_ttl(change: ModifyTtl) -> Refusal:
    name, place = change.table.name, place_of_change(change)
    error = DatafileError(
        f"The new ENGINE_TTL of '{name}' deletes {counted(change.expired)} that are there",
        file=place.file,
        line=place.line,
        column=place.column,
        hint=f"Choose a longer one, or {_FLAG}. They do not come back.",
    )
    return Refusal(Reason.DELETES_ROWS, name, error)


def readers(live: Snapshot, datasource: str, column: str = "") -> list[str]:
    """The pipes that read the data source; with a `column`, those whose SQL names it or has a `*`."""
    found: dict[str, None] = {}
    for pipe in live.pipes.values():
        for node in pipe.nodes.values():
            if datasource in tables_read(live, pipe, node) and (not column or _names(node.node.sql, column)):
                found[pipe.name] = None
    return list(found)


def _names(sql: str, column: str) -> bool:
    tokens = tokenize(sql)
    return any(t.text == "*" or (t.kind in _NAMES and identifier_name(t) == column) for t in tokens)


def _read_by(pipes: Iterable[str]) -> str:
    listed = list(pipes)
    if not listed:
        return ""
    shown = ", ".join(f"'{name}'" for name in listed[:5])
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return f". It is read by {shown}{more}"


def counted(rows: int) -> str:
    return f"{rows:,} row{'' if rows == 1 else 's'}"
