"""A plan's operations in words and as JSON values, with the project's names only."""

from __future__ import annotations

from typing import Any, assert_never

from pipit.deploy.plan import (
    AddColumn,
    Cause,
    CreateTable,
    CreateView,
    DropTable,
    DropView,
    EndJobs,
    Fill,
    GoLive,
    Operation,
    Plan,
)


def operation_object(operation: Operation) -> dict[str, Any]:
    """`operation` says which, `resource` names the data source or the view ("pipe.node") that it is about."""
    match operation:
        case CreateTable(table):
            return {"operation": "create_table", "resource": table.name}
        case AddColumn(table, column, after):
            named = {"operation": "add_column", "resource": table.name}
            return named | {"column": column.name, "type": column.type, "after": after}
        case CreateView(view, cause=cause):
            return {"operation": "create_view", "resource": view.key, "target": view.target.name, "cause": cause.value}
        case Fill(view, source=source, size=size):
            named = {"operation": "fill", "resource": view.target.name, "view": view.key, "source": source.name}
            return named | {"rows": size.rows, "bytes": size.bytes}
        case GoLive(row):
            return {"operation": "go_live", "deployment": str(row.id)}
        case DropView(key, cause=cause):
            return {"operation": "drop_view", "resource": key, "cause": cause.value}
        case EndJobs(_, pipes):
            return {"operation": "end_jobs", "pipes": sorted(pipes)}
        case DropTable(table, size):
            return {"operation": "drop_table", "resource": table.name, "rows": size.rows, "bytes": size.bytes}
        case _:
            assert_never(operation)


_VIEWS = {
    Cause.NEW: "new materialized view",
    Cause.CHANGED: "changed materialized view",
    Cause.CONVERSIONS: "materialized view made again with checked conversions; its rows stay",
}


def changes(plan: Plan) -> list[dict[str, str]]:
    """What changes inside a resource, for people: one line each."""
    listed: list[tuple[str, str]] = []
    for operation in plan.operations:
        match operation:
            case AddColumn(table, column):
                listed.append((table.name, f"new column {column.name} {column.type}"))
            case CreateView(view, cause=cause):
                listed.append((view.pipe.name, _VIEWS[cause]))
            case Fill(view, source=source, size=size):
                listed.append((view.target.name, f"filled from the {_rows(size.rows)} of {source.name}"))
            case DropView(key, cause=Cause.DELETED):
                listed.append((key.partition(".")[0], "deleted materialized view"))
            case DropTable(table, size):
                listed.append((table.name, f"deleted with its {_rows(size.rows)}"))
            case _:
                pass  # the resource's own line says it
    return [{"resource": resource, "change": change} for resource, change in listed]


def _rows(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"
