"""OpenAPI 3 of the endpoints that a token may call: names and parameters, never rows or SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipit.access.context import SecurityContext
from pipit.api.objects import open_parameters
from pipit.catalog.snapshot import CompiledPipe, Snapshot
from pipit.query.formats import EXTENSIONS
from pipit.templates import Parameter

_SCHEMAS = {
    "Boolean": {"type": "boolean"},
    "Date": {"type": "string", "format": "date"},
    "DateTime": {"type": "string", "format": "date-time"},
    "DateTime64": {"type": "string", "format": "date-time"},
    "Array": {"type": "string", "description": "Comma-separated"},
}


def document(
    snapshot: Snapshot, pipes: Sequence[CompiledPipe], security: SecurityContext, base_url: str
) -> dict[str, Any]:
    """The whole document. Parameters that the token fixes are left out: sending them changes nothing."""
    return {
        "openapi": "3.0.3",
        "info": {"title": f"{snapshot.workspace.name} endpoints", "version": str(snapshot.deployment)},
        "servers": [{"url": base_url.rstrip("/")}],
        "security": [{"bearer": []}, {"token": []}],
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "token": {"type": "apiKey", "in": "query", "name": "token"},
            },
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {
                        "error": {"type": "string"},
                        "code": {"type": "string"},
                        "reason": {"type": "string"},
                        "documentation": {"type": "string"},
                        "hint": {"type": "string"},
                        "parameter": {"type": "string"},
                    },
                }
            },
        },
        "paths": {
            f"/v0/pipes/{pipe.name}.{extension}": {"get": _operation(snapshot, pipe, extension, security)}
            for pipe in pipes
            for extension in EXTENSIONS
            if extension != "csvwithnames"
        },
    }


def _operation(snapshot: Snapshot, pipe: CompiledPipe, extension: str, security: SecurityContext) -> dict[str, Any]:
    content = EXTENSIONS[extension].content_type.split(";")[0]
    errors = {"description": "What was wrong", "content": {"application/json": {"schema": _ref("Error")}}}
    return {
        "operationId": f"{pipe.name}_{extension}",
        "summary": pipe.pipe.description.strip().split("\n")[0],
        "parameters": [_parameter(p) for p in open_parameters(pipe, security)],
        "responses": {
            "200": {"description": "The rows", "content": {content: {}}},
            "400": errors,
            "403": errors,
            "429": errors,
            "503": errors,
        },
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema = dict(_SCHEMAS.get(parameter.type.partition("(")[0], {"type": "string"}))
    if parameter.type.startswith(("Int", "UInt")):
        schema = {"type": "integer"}
    elif parameter.type.startswith("Float"):
        schema = {"type": "number"}
    if parameter.default is not None:
        schema["default"] = parameter.default  # type: ignore[assignment]
    if parameter.enum:
        schema["enum"] = parameter.enum  # type: ignore[assignment]
    found: dict[str, Any] = {
        "name": parameter.name,
        "in": "query",
        "required": bool(parameter.required) and parameter.default is None,
        "schema": schema,
    }
    if parameter.description:
        found["description"] = parameter.description
    return found


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
