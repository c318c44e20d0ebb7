"""A plan's operations in words and as JSON values, with the project's names only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_never

from pipit.datafiles.resources import Column
from pipit.deploy.alterations import (
    AddColumn,
    AddIndex,
    DropIndex,
    ModifyColumn,
    ModifySettings,
    ModifyTtl,
)
from pipit.deploy.plan import (
    Cause,
    CreateTable,
    CreateView,
    DropTable,
    DropView,
    EndJobs,
    Fill,
    GoLive,
    HideColumn,
    How,
    Operation,
    Plan,
    Rebuild,
)
from pipit.deploy.removals import counted
from pipit.tables.sizes import Size, Sizes


def operation_object(operation: Operation) -> dict[str, Any]:
    """`operation` says which, `resource` names the data source or the view ("pipe.node") that it is about."""
    match operation:
        case CreateTable(table):
            return {"operation": "create_table", "resource": table.name}
        case AddColumn(table, column, after, found=found):
            named = {"operation": "add_column", "resource": table.name, "column": column.name}
            return dict[str, Any](named) | {"type": column.type, "after": after, "restored": found}
        case ModifyColumn(table, before, after_):
            named = {"operation": "modify_column", "resource": table.name, "column": after_.name}
            said: dict[str, tuple[str | None, str | None]] = {
                what: (getattr(before, what), getattr(after_, what)) for what in ("type", "default", "codec")
            }
            changed = {what: {"from": old, "to": new} for what, (old, new) in said.items() if old != new}
            return dict[str, Any](named) | changed
        case AddIndex(table, index):
            return {"operation": "add_index", "resource": table.name, "index": index.name}
        case DropIndex(table, index):
            return {"operation": "drop_index", "resource": table.name, "index": index.name}
        case ModifyTtl(table, was, ttl, expired):
            named = {"operation": "modify_ttl", "resource": table.name}
            return named | {"ttl": {"from": was, "to": ttl}, "rows_deleted": expired}
        case ModifySettings(table, _, settings):
            return {"operation": "modify_settings", "resource": table.name, "settings": dict(settings)}
        case HideColumn(table, column, rows):
            named = {"operation": "hide_column", "resource": table.name, "column": column.name}
            return named | {"type": column.type, "rows": rows}
        case CreateView(view, cause=cause):
            return {"operation": "create_view", "resource": view.key, "target": view.target.name, "cause": cause.value}
        case Fill(view, source=source, size=size):
            named = {"operation": "fill", "resource": view.target.name, "view": view.key, "source": source.name}
            return named | {"rows": size.rows, "bytes": size.bytes}
        case Rebuild(table, _, how, size):
            named = {"operation": "rebuild", "resource": table.name, "from": how.value}
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


_WAIT = "writers wait for milliseconds"
_REWRITTEN = 100_000_000  # bytes in a second, in the background
_FILLED = 500_000  # rows in a second, through a view


def operation_objects(plan: Plan) -> list[dict[str, Any]]:
    """The plan's operations with what each costs: `rows` and `bytes` of its table as the engine counts them, `seconds`
    as a rough guess from those, and what readers and writers `notice`."""
    return [operation_object(operation) | _cost(operation, plan.sizes) for operation in plan.operations]


def _cost(operation: Operation, sizes: Sizes) -> dict[str, Any]:
    match operation:
        case AddColumn(table) | ModifyColumn(table) | AddIndex(table) | DropIndex(table) | ModifyTtl(table):
            size = sizes.get(table.physical, Size())
            of_type = isinstance(operation, ModifyColumn) and operation.before.type != operation.after.type
            rewrites = of_type or isinstance(operation, AddIndex | ModifyTtl)
            notice = f"{_WAIT}; the engine rewrites parts in the background" if rewrites and size.rows else _WAIT
            seconds = round(size.bytes / _REWRITTEN, 1) if rewrites else 0.0
            return {"rows": size.rows, "bytes": size.bytes, "seconds": seconds, "notice": notice}
        case ModifySettings():
            return {"seconds": 0.0, "notice": _WAIT}
        case CreateView() | DropView():
            return {"seconds": 0.0, "notice": "writers of its source wait until the deployment is live"}
        case Fill(source=source, size=size):
            notice = f"writers of {source.name} wait meanwhile"
            return {"seconds": round(size.rows / _FILLED, 1), "notice": notice}
        case Rebuild(how=how, size=size):
            notice = "events are held back for a moment, twice; inserts cost twice while the old one is kept"
            return {"seconds": 0.0 if how is How.COPY else round(size.rows / _FILLED, 1), "notice": notice}
        case HideColumn() | DropTable() | GoLive() | CreateTable() | EndJobs():
            return {"seconds": 0.0, "notice": ""}
        case _:
            assert_never(operation)


_VIEWS = {
    Cause.NEW: "new materialized view",
    Cause.CHANGED: "changed materialized view",
    Cause.CONVERSIONS: "materialized view made again with checked conversions; its rows stay",
    Cause.REBUILT: "materialized view made again for its new target",
}
_HOW = {
    How.FORWARD: "by its FORWARD_QUERY from its {}",
    How.CAST: "from its {}, each value checked",
    How.COPY: "with its {} as they are",
    How.VIEWS: "by its views from the {} of their sources",
}


def changes(plan: Plan, *, rows_known: bool = True) -> list[dict[str, str]]:
    """What changes inside a resource, for people: one line each. Without `rows_known` it tells no numbers of rows."""

    def _rows(number: int) -> str:
        return counted(number) if rows_known else "rows"

    listed: list[tuple[str, str]] = []
    for operation in plan.operations:
        match operation:
            case AddColumn(table, column, found=found):
                what = "column is back with its values:" if found else "new column"
                listed.append((table.name, f"{what} {column.name} {column.type}"))
            case ModifyColumn(table, before, after):
                listed += [(table.name, f"column {after.name}: {what}") for what in _modified(before, after)]
            case AddIndex(table, index):
                listed.append((table.name, f"new index {index.name}"))
            case DropIndex(table, index):
                listed.append((table.name, f"index {index.name} dropped"))
            case ModifyTtl(table, _, ttl, expired):
                deletes = f"; deletes {_rows(expired)} that are older" if expired else ""
                listed.append((table.name, f"TTL {ttl}{deletes}" if ttl else "no TTL"))
            case ModifySettings(table, _, settings):
                said = ", ".join(f"{n} = {v}" if v is not None else f"{n} as usual" for n, v in settings.items())
                listed.append((table.name, f"settings: {said}"))
            case HideColumn(table, column, rows):
                listed.append((table.name, f"column {column.name} removed, with its values in {_rows(rows)}"))
            case CreateView(view, cause=cause):
                listed.append((view.pipe.name, _VIEWS[cause]))
            case Fill(view, source=source, size=size):
                listed.append((view.target.name, f"filled from the {_rows(size.rows)} of {source.name}"))
            case Rebuild(table, _, how, size, why=why):
                listed += [(table.name, one) for one in why]
                listed.append((table.name, f"made anew {_HOW[how].format(_rows(size.rows))}"))
            case DropView(key, cause=Cause.DELETED):
                listed.append((key.partition(".")[0], "deleted materialized view"))
            case DropTable(table, size):
                listed.append((table.name, f"deleted with its {_rows(size.rows)}"))
            case _:
                pass  # the resource's own line says it
    return [{"resource": resource, "change": change} for resource, change in listed]


def _modified(before: Column, after: Column) -> Iterator[str]:
    if before.type != after.type:
        yield f"{before.type} becomes {after.type}"
    if before.default != after.default:
        yield f"DEFAULT {after.default}" if after.default is not None else "no DEFAULT"
    if before.codec != after.codec:
        yield after.codec or "no CODEC"

