"""The claims of a JWT become a `SecurityContext`, or the token is refused. Nothing is guessed or dropped.

A scope with a field that it does not have, a value of another type, a context value that is null or empty:
each would end as "no filter" somewhere, so each is refused with a text that names it. Only who holds the
workspace's admin token gets this far, so these texts may be precise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from pipit.access.context import FixedValue, Scalar, Scope, SecurityContext, TokenKind
from pipit.errors import Forbidden, Reason
from pipit.sql.identifiers import is_resource_name

MAX_SCOPES = 100
MAX_ENTRIES = 100  # fixed parameters of a scope, keys of a context
MAX_ITEMS = 1000  # of one array in a context
MAX_NAME = 256
MAX_RPS = 1_000_000
MAX_ENVIRONMENT = 40  # characters: a database's name and its longest table's share what a file name may have
LAST_SECOND = 253_402_300_799  # 9999-12-31; a larger number is milliseconds

# What a JWT's scope may be, and the one field besides type and resource that it may have.
SCOPE_FIELDS: Mapping[str, str] = {
    "PIPES:READ": "fixed_params",
    "DATASOURCES:READ": "filter",
    "DATASOURCES:APPEND": "fixed_values",
}

T = TypeVar("T")
ContextValue = Scalar | tuple[Scalar, ...]


class DuplicateName(ValueError):
    """A name stands twice in one JSON object, so two readers could understand it differently."""


def strict_object(data: bytes) -> dict[str, Any]:
    """One JSON object without repeated names, NaN or Infinity. Raises ValueError."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            raise DuplicateName("a name stands twice in one object")
        return found

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def read_times(claims: Mapping[str, Any]) -> tuple[int, int]:
    """`nbf` (0 if absent) and `exp`, in seconds. A token without an end is refused."""
    if "exp" not in claims:
        raise _refused(
            "The token has no 'exp'", "Every JWT must expire: set 'exp' to a Unix time in seconds."
        )
    return _seconds(claims, "nbf") if "nbf" in claims else 0, _seconds(claims, "exp")


def read_claims(claims: Mapping[str, Any], workspace_id: str) -> SecurityContext:
    """The context of a JWT whose signature holds. Raises Forbidden."""
    for claim in ("aud", "iss"):
        _check_party(claims, claim, workspace_id)
    return SecurityContext(
        workspace_id=workspace_id,
        kind=TokenKind.JWT,
        name=_read_name(claims),
        scopes=read_scopes(claims.get("scopes")),
        context=read_context(claims.get("context", {})),
        rps=read_rps(claims.get("limits")),
        environment=read_environment(claims["environment"]) if "environment" in claims else "",
        staging=read_deployment(claims["deployment"]) if "deployment" in claims else False,
    )


def read_scopes(value: object) -> tuple[Scope, ...]:
    """The `scopes` of a JWT, as JSON has them. Two for one pipe that fix it differently are refused."""
    if not isinstance(value, list):
        raise _refused(
            "The token's 'scopes' must be a list",
            'Such as [{"type": "PIPES:READ", "resource": "top_pages"}].',
        )
    if len(value) > MAX_SCOPES:
        raise _refused(f"The token has more than {MAX_SCOPES} scopes", "Split it into several tokens.")
    scopes = tuple(_read_scope(item, f"scopes[{i}]") for i, item in enumerate(value))
    seen: dict[tuple[str, str], Scope] = {}
    for scope in scopes:
        if scope.type == "DATASOURCES:READ":
            continue  # several filters of one data source are combined with AND
        first = seen.setdefault((scope.type, scope.resource), scope)
        if not _same(first.fixed_params, scope.fixed_params) or not _same(
            first.fixed_values, scope.fixed_values
        ):
            raise _refused(
                f"The token has two {scope.type} scopes for '{scope.resource}' that fix different values",
                "Give each resource one scope.",
            )
    return scopes


def read_context(value: object) -> Mapping[str, ContextValue]:
    """The `context` of a JWT: names to scalars or flat arrays of scalars of one type, none of them empty."""
    if not isinstance(value, dict):
        raise _refused("The token's 'context' must be an object", 'Such as {"customer_id": "acme"}.')
    if len(value) > MAX_ENTRIES:
        raise _refused(f"The token's 'context' has more than {MAX_ENTRIES} keys")
    found: dict[str, ContextValue] = {}
    for key, item in value.items():
        where = f"context.{key[:MAX_NAME]}" if key else "context"
        if not key:
            raise _refused("A key of the token's 'context' is empty")
        _check_text(key, where)
        found[key] = _read_context_value(item, where)
    return MappingProxyType(found)


def read_rps(value: object) -> int:
    """`limits.rps`; 0 for none."""
    if value is None:
        return 0
    if not isinstance(value, dict):
        raise _refused("The token's 'limits' must be an object", 'Such as {"rps": 10}.')
    rps = value.get("rps", 0)
    if isinstance(rps, float) and rps.is_integer():
        rps = int(rps)
    if rps is None:
        return 0
    if isinstance(rps, bool) or not isinstance(rps, int):
        raise _refused("The token's 'limits.rps' must be a whole number")
    return min(max(rps, 0), MAX_RPS)


def read_environment(value: object) -> str:
    """Which environment of the workspace the token opens. One that is named emptily is no way to mean none."""
    if not isinstance(value, str) or len(value) > MAX_ENVIRONMENT or not is_resource_name(value):
        raise _refused(
            "The token's 'environment' is not an environment's name",
            f"Letters, digits and underscores, at most {MAX_ENVIRONMENT}; without the claim it is the workspace's own.",
        )
    return value


def read_deployment(value: object) -> bool:
    """Whether the token may also read the deployment that waits to be live."""
    if value not in ("live", "staging"):
        raise _refused("The token's 'deployment' is neither 'live' nor 'staging'", "Without the claim it is live.")
    return value == "staging"


def write_scopes(scopes: Sequence[Scope]) -> list[dict[str, object]]:
    """Scopes as JSON for a JWT's payload: the inverse of `read_scopes`."""
    listed: list[dict[str, object]] = []
    for scope in scopes:
        item: dict[str, object] = {"type": scope.type, "resource": scope.resource}
        if scope.fixed_params:
            item["fixed_params"] = dict(scope.fixed_params)
        if scope.filter:
            item["filter"] = scope.filter
        if scope.fixed_values:
            item["fixed_values"] = dict(scope.fixed_values)
        listed.append(item)
    return listed


def _read_context_value(item: object, where: str) -> ContextValue:
    items = item if isinstance(item, list) else [item]
    if len(items) > MAX_ITEMS:
        raise _refused(f"The token's '{where}' has more than {MAX_ITEMS} items")
    values = tuple(_read_scalar(one, where) for one in items)
    if not values or any(value == "" for value in values):
        raise _refused(
            f"The token's '{where}' is empty", "Set it to the tenant's value, or leave the key out."
        )
    if len({type(value) for value in values}) > 1:
        raise _refused(f"The items of the token's '{where}' are of different types")
    return values if isinstance(item, list) else values[0]


def _read_scope(item: object, where: str) -> Scope:
    if not isinstance(item, dict):
        raise _refused(f"The token's '{where}' must be an object")
    type = item.get("type")
    if not isinstance(type, str) or type not in SCOPE_FIELDS:
        raise _refused(
            f"The token's '{where}.type' is not a scope of a JWT",
            f"A JWT may have {', '.join(SCOPE_FIELDS)}.",
        )
    resource = item.get("resource")
    if not isinstance(resource, str) or not resource or len(resource) > MAX_NAME:
        raise _refused(f"The token's '{where}' needs a 'resource'", "The name of a pipe or data source.")
    _check_text(resource, f"{where}.resource")
    extra = SCOPE_FIELDS[type]
    for name, value in item.items():
        if name in ("type", "resource", extra) or (name in SCOPE_FIELDS.values() and value in (None, "", {})):
            continue
        raise _refused(
            f"The token's '{where}' has '{name[:MAX_NAME]}', which {type} does not take",
            f"Besides type and resource it takes '{extra}'.",
        )
    value = item.get(extra)
    if extra == "filter":
        if value is None:
            return Scope(type, resource)
        if not isinstance(value, str) or not value.strip():
            raise _refused(
                f"The token's '{where}.filter' must be a text", "Write a condition, or leave it out."
            )
        return Scope(type, resource, filter=_check_text(value, f"{where}.filter"))
    if extra == "fixed_params":
        return Scope(type, resource, fixed_params=_read_values(value, f"{where}.{extra}", _read_scalar))
    return Scope(type, resource, fixed_values=_read_values(value, f"{where}.{extra}", _read_fixed_value))


def _read_values(value: object, where: str, read: Callable[[object, str], T]) -> Mapping[str, T]:
    if value is None:
        return MappingProxyType({})
    if not isinstance(value, dict):
        raise _refused(f"The token's '{where}' must be an object")
    if len(value) > MAX_ENTRIES:
        raise _refused(f"The token's '{where}' has more than {MAX_ENTRIES} names")
    found: dict[str, T] = {}
    for name, item in value.items():
        if not name:
            raise _refused(f"A name in the token's '{where}' is empty")
        _check_text(name, where)
        found[name] = read(item, f"{where}.{name[:MAX_NAME]}")
    return MappingProxyType(found)


def _read_fixed_value(value: object, where: str) -> FixedValue:
    """A scalar, or for an array's column a list of scalars of one type."""
    if not isinstance(value, list):
        return _read_fixed_scalar(value, where)
    if len(value) > MAX_ITEMS:
        raise _refused(f"The token's '{where}' has more than {MAX_ITEMS} items")
    items = tuple(_read_fixed_scalar(item, where) for item in value)
    if len({type(item) for item in items}) > 1:
        raise _refused(f"The items of the token's '{where}' are of different types")
    return items


def _read_fixed_scalar(value: object, where: str) -> Scalar:
    """An empty text is nobody's rows: what signed it had no value."""
    if value == "":
        raise _refused(f"The token's '{where}' is empty", "Give the tenant's value, or leave the name out.")
    return _read_scalar(value, where)


def _read_scalar(value: object, where: str) -> Scalar:
    if isinstance(value, str):
        return _check_text(value, where)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise _refused(f"The token's '{where}' must be a text, a number or a boolean")


def _check_text(text: str, where: str) -> str:
    """Text that UTF-8 can hold, without NUL: a value must be the same for every program that reads it."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise _refused(f"The token's '{where}' holds a NUL or half a character")
    return text


def _read_name(claims: Mapping[str, Any]) -> str:
    name = claims.get("name", "jwt")
    if not isinstance(name, str) or not name or len(name) > MAX_NAME or not name.isprintable():
        raise _refused("The token's 'name' must be a printable text", f"At most {MAX_NAME} characters.")
    return name


def _check_party(claims: Mapping[str, Any], claim: str, workspace_id: str) -> None:
    """A token that says whom it is for, or who made it, must mean this workspace."""
    if claim not in claims:
        return
    value = claims[claim]
    named = value if claim == "aud" and isinstance(value, list) else [value]
    if not any(isinstance(one, str) and one in ("pipit", workspace_id) for one in named):
        raise _refused(
            f"The token's '{claim}' is not this workspace",
            f"Leave '{claim}' out, or set it to the workspace's id.",
        )


def _seconds(claims: Mapping[str, Any], claim: str) -> int:
    value = claims[claim]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LAST_SECOND:
        raise _refused(
            f"The token's '{claim}' is not a Unix time",
            "Give it in whole seconds, as a number: int(time.time()) + 3600.",
        )
    return value


def _same(one: Mapping[str, FixedValue], other: Mapping[str, FixedValue]) -> bool:
    """Equal with types: 1, 1.0 and true are three values."""

    def typed(values: Mapping[str, FixedValue]) -> dict[str, object]:
        return {name: (type(v), v, *map(type, v if isinstance(v, tuple) else ())) for name, v in values.items()}

    return typed(one) == typed(other)


def _refused(message: str, hint: str = "") -> Forbidden:
    return Forbidden("".join(c if c.isprintable() else "?" for c in message), hint=hint, reason=Reason.CLAIM_INVALID)
