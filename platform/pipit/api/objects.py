"""The JSON objects of pipes, nodes and data sources (shapes: Tinybird's HTTP API)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from pipit.access.context import SecurityContext
from pipit.catalog.lineage import dependencies
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot, Table
from pipit.datafiles import column_object, datasource_type, engine_object, index_object, sql_schema
from pipit.templates import Parameter


def is_resource_id(text: str) -> bool:
    return text.startswith("t_") and len(text) == 34


def pipe_of(snapshot: Snapshot, name_or_id: str) -> str:
    """The pipe's name; an id is looked up, anything else is returned as it is."""
    if is_resource_id(name_or_id) and name_or_id not in snapshot.pipes:
        return snapshot.names_by_id.get(("pipe", name_or_id), name_or_id)
    return name_or_id


def datasource_of(snapshot: Snapshot, name_or_id: str) -> str:
    if is_resource_id(name_or_id) and name_or_id not in snapshot.tables:
        return snapshot.names_by_id.get(("datasource", name_or_id), name_or_id)
    return name_or_id


def attributes(request: Request, parameter: str) -> frozenset[str]:
    """`attrs=a,b`: the attributes asked for; empty: all."""
    return frozenset(a.strip() for a in request.query_params.get(parameter, "").split(",") if a.strip())


def pipe_object(snapshot: Snapshot, pipe: CompiledPipe, request: Request, wanted: frozenset[str]) -> dict[str, Any]:
    endpoint = pipe.endpoint
    whole: dict[str, Any] = {
        "id": snapshot.workspace.resource_id("pipe", pipe.name),
        "name": pipe.name,
        "description": pipe.pipe.description,
        "content": pipe.pipe.text,
        "path": pipe.pipe.file,
        "type": _pipe_type(pipe),
        "endpoint": snapshot.workspace.resource_id(f"node/{pipe.name}", endpoint.name) if endpoint else None,
        "url": _url(request, pipe),
        "parent": None,
        "edited_by": None,
        "workspace_id": snapshot.workspace.id,
        "created_at": _timestamp(snapshot.created_at),
        "updated_at": _timestamp(snapshot.created_at),
        "last_commit": {"content_sha": "", "path": pipe.pipe.file, "status": "ok"},
        "nodes": [_node_object(snapshot, pipe, node) for node in pipe.nodes.values()],
    }
    return _only(whole, wanted, always="url")


def tenant_pipe_object(
    snapshot: Snapshot, pipe: CompiledPipe, security: SecurityContext, request: Request, wanted: frozenset[str]
) -> dict[str, Any]:
    """A pipe as the holder of a JWT sees it: how to call it. Its SQL, its files and what they read are the team's."""
    whole: dict[str, Any] = {
        "id": snapshot.workspace.resource_id("pipe", pipe.name),
        "name": pipe.name,
        "description": pipe.pipe.description,
        "type": _pipe_type(pipe),
        "url": _url(request, pipe),
        "parameters": [parameter_object(p) for p in open_parameters(pipe, security)],
    }
    return _only(whole, wanted, always="url")


def open_parameters(pipe: CompiledPipe, security: SecurityContext) -> list[Parameter]:
    """Those that the token does not fix: sending a fixed one changes nothing."""
    fixed = {name for scope in security.scopes_for("PIPES:READ", pipe.name) for name in scope.fixed_params}
    return [p for p in pipe.parameters if p.name not in fixed]


def datasource_object(
    snapshot: Snapshot, table: Table, statistics: Mapping[str, int], wanted: frozenset[str]
) -> dict[str, Any]:
    datasource = table.datasource
    whole: dict[str, Any] = {
        "id": snapshot.workspace.resource_id("datasource", table.name),
        "name": table.name,
        "description": datasource.description,
        "type": datasource_type(datasource),
        "cluster": "pipit",
        "version": 0,
        "replicated": False,
        "project": None,
        "tags": {"tags": list(datasource.tags)} if datasource.tags else {},
        "headers": {},
        "created_at": _timestamp(snapshot.created_at),
        "updated_at": _timestamp(snapshot.created_at),
        "errors_discarded_at": None,
        "new_columns_detected": {},
        "indexes": [index_object(i) for i in datasource.indexes],
        "last_commit": {"content_sha": "", "path": datasource.file, "status": "ok"},
        "shared_with": list(datasource.shared_with),
        "used_by": [
            {"id": snapshot.workspace.resource_id("pipe", p.name), "name": p.name}
            for p in snapshot.pipes.values()
            if any(table.name in dependencies(snapshot, p, n) for n in p.nodes.values())
        ],
        "statistics": {"bytes": statistics.get("bytes", 0), "row_count": statistics.get("rows", 0)},
        "engine": engine_object(datasource.engine),
        "schema": {
            "columns": [column_object(c) for c in datasource.columns],
            "sql_schema": sql_schema(datasource.columns),
        },
    }
    return _only(whole, wanted)


def parameter_object(parameter: Parameter, used_in: str = "") -> dict[str, Any]:
    """A pipe's parameter as the dialect lists it."""
    found: dict[str, Any] = {"name": parameter.name, "type": parameter.type}
    for key in ("default", "description", "required", "format", "enum", "example"):
        value = getattr(parameter, key, None)
        if value is not None and value != "":
            found[key] = value
    if used_in:
        found["used_in"] = used_in
    return found


def _node_object(snapshot: Snapshot, pipe: CompiledPipe, node: CompiledNode) -> dict[str, Any]:
    target = snapshot.tables.get(node.node.datasource)
    materialized = snapshot.workspace.resource_id("datasource", target.name) if target else None
    return {
        "id": snapshot.workspace.resource_id(f"node/{pipe.name}", node.name),
        "name": node.name,
        "sql": node.node.sql,
        "description": node.node.description,
        "node_type": node.node.type.value,
        "materialized": materialized,
        "cluster": None,
        "tags": {},
        "dependencies": dependencies(snapshot, pipe, node),
        "params": [parameter_object(p, node.name) for p in node.template.parameters] if node.template else [],
        "deployment_suffix": "",
        "project": None,
        "result": None,
        "ignore_sql_errors": False,
        "version": 0,
        "created_at": _timestamp(snapshot.created_at),
        "updated_at": _timestamp(snapshot.created_at),
    }


def _only(whole: dict[str, Any], wanted: frozenset[str], always: str = "") -> dict[str, Any]:
    return {k: v for k, v in whole.items() if k in wanted or k == always} if wanted else whole


def _url(request: Request, pipe: CompiledPipe) -> str:
    return f"{request.base_url}v0/pipes/{pipe.name}.json"


def _pipe_type(pipe: CompiledPipe) -> str:
    special = [n.type.value for n in pipe.pipe.nodes if n.type.value != "standard"]
    return special[0] if special else "default"


def _timestamp(text: str) -> str:
    """`YYYY-MM-DD hh:mm:ss.ffffff`, UTC without a zone."""
    return text if "." in text or not text else f"{text}.000000"
