"""What a token may do: pure decisions over its `SecurityContext`. A no names the scope that is missing.

A scope is looked at before existence: who may not read a pipe gets the same answer whether it exists or
not. Names are compared exactly. A JWT has only what its scopes say; no scope of a JWT makes it an admin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from pipit.access.context import FixedValue, Scalar, Scope, SecurityContext, TokenKind
from pipit.errors import Forbidden, NotFound, Reason

T = TypeVar("T")
_QUARANTINE = "_quarantine"


def may_read_pipe(security: SecurityContext, pipe: str) -> bool:
    return _reads_all(security) or bool(security.scopes_for("PIPES:READ", pipe))


def may_read_datasource(security: SecurityContext, name: str) -> bool:
    """READ on a data source covers its quarantine."""
    names = {name, name.removesuffix(_QUARANTINE)}
    return _reads_all(security) or any(security.scopes_for("DATASOURCES:READ", n) for n in names)


def read_pipe(
    security: SecurityContext, pipe: str, declared: Iterable[str], *, exists: bool = True
) -> Mapping[str, Scalar]:
    """The parameters that the token fixes for this pipe. `declared` are the pipe's FIXED_PARAMS.

    Raises Forbidden without a scope, or when a JWT leaves a declared one open; NotFound to who may read.
    """
    if not may_read_pipe(security, pipe):
        raise _missing(security, "PIPES:READ", pipe)
    if not exists:
        raise NotFound(f"The pipe '{_shown(pipe)}' does not exist", reason=Reason.PIPE_NOT_FOUND, subject=pipe)
    if not security.is_tenant:
        return {}
    fixed = _fixed(security.scopes_for("PIPES:READ", pipe), lambda scope: scope.fixed_params)
    fixes(security, pipe, fixed, declared)
    return fixed


def fixes(security: SecurityContext, pipe: str, fixed: Mapping[str, Scalar], declared: Iterable[str]) -> None:
    """Raises Forbidden when a JWT leaves one of the declared parameters open."""
    if not security.is_tenant:
        return
    for name in declared:
        # An empty text would pass `defined()` and could undo a filter: it fixes nothing (attack B19).
        if fixed.get(name, "") == "":
            raise Forbidden(
                f"The token '{security.name}' does not fix the parameter '{name}' of '{pipe}'",
                hint=f"The pipe, or one that it reads, has FIXED_PARAMS {name}: set it in 'fixed_params' of the "
                "token's scope.", reason=Reason.FIXED_PARAM_MISSING, subject=name,
            )


def read_datasource(security: SecurityContext, name: str, *, exists: bool = True) -> None:
    """Raises Forbidden, or NotFound to who may read. Row filters are not decided here."""
    if not may_read_datasource(security, name):
        raise _missing(security, "DATASOURCES:READ", name)
    if not exists:
        raise _no_datasource(name)


def read_named(security: SecurityContext, name: str, *, exists: bool) -> None:
    """For a JWT's own SQL: a scope names exactly this data source. Whether another one exists is not told."""
    if not security.scopes_for("DATASOURCES:READ", name):
        raise _missing(security, "DATASOURCES:READ", name)
    if not exists:
        raise _no_datasource(name)


def read_sql(security: SecurityContext, names: Iterable[str]) -> None:
    """For a workspace token's SQL: every data source and pipe that its text names."""
    if security.is_tenant:
        raise Forbidden("A JWT cannot send SQL: only workspace tokens may", reason=Reason.SQL_NOT_FOR_TENANTS)
    for name in sorted(names):
        if not (may_read_datasource(security, name) or may_read_pipe(security, name)):
            raise Forbidden(
                f"The token '{security.name}' may not read '{_shown(name)}'",
                hint=f"It needs DATASOURCES:READ:{_shown(name)}, or PIPES:READ:{_shown(name)} for a pipe.",
                reason=Reason.SCOPE_MISSING,
                subject=name,
            )


def append(security: SecurityContext, name: str, *, exists: bool = True) -> Mapping[str, FixedValue]:
    """The columns that the token sets in every row, whatever the body says. Raises Forbidden, NotFound."""
    scopes = security.scopes_for("DATASOURCES:APPEND", name)
    if not scopes and not security.is_admin:
        raise _missing(security, "DATASOURCES:APPEND", name)
    if not exists:
        raise _no_datasource(name)
    return {} if security.is_admin else _fixed(scopes, lambda scope: scope.fixed_values)


def load(security: SecurityContext, name: str) -> Mapping[str, FixedValue]:
    """As `append`, for files: the dialect's DATASOURCES:CREATE covers them, on tokens of the workspace."""
    if _has(security, "DATASOURCES:CREATE"):
        return {}
    return append(security, name)


def may_load(security: SecurityContext, name: str) -> None:
    """Of a data source that is not there. Raises Forbidden."""
    if not (security.is_admin or _has(security, "DATASOURCES:CREATE")):
        raise _missing(security, "DATASOURCES:APPEND", name)


def rewrite(security: SecurityContext, name: str) -> None:
    """To replace, delete or truncate rows, whoever sent them: never a tenant's. Raises Forbidden."""
    may = security.is_admin or _has(security, "DATASOURCES:CREATE") or security.scopes_for("DATASOURCES:DROP", name)
    if security.kind is TokenKind.JWT:
        raise Forbidden(
            f"A JWT cannot replace or delete rows of '{_shown(name)}': they may be of any tenant",
            hint="Use a token of the workspace.",
            reason=Reason.WORKSPACE_TOKEN_REQUIRED,
        )
    if not may:
        raise _missing(security, "DATASOURCES:DROP", name)


def require_admin(security: SecurityContext) -> None:
    """To manage the workspace. A token of an environment never does."""
    if not security.manages_workspace:
        raise Forbidden(
            f"The token '{security.name}' has not enough permissions",
            hint="Use the workspace's admin token.",
            reason=Reason.ADMIN_REQUIRED,
        )


def require_tokens(security: SecurityContext) -> None:
    """To see and change static tokens."""
    if not security.manages_workspace and not _manages(security, "TOKENS"):
        raise _missing(security, "TOKENS")


def deploy(security: SecurityContext) -> None:
    if not security.manages_workspace and not _manages(security, "WORKSPACE:DEPLOY"):
        raise _missing(security, "WORKSPACE:DEPLOY")


def run_jobs(security: SecurityContext) -> None:
    """To run copies and to see jobs: in its own database, an environment's admin token too."""
    if not security.is_admin and not _manages(security, "WORKSPACE:DEPLOY"):
        raise _missing(security, "ADMIN")


def _reads_all(security: SecurityContext) -> bool:
    return security.is_admin or _has(security, "WORKSPACE:READ_ALL")


def _manages(security: SecurityContext, type: str) -> bool:
    return _has(security, type) and not security.environment


def _has(security: SecurityContext, type: str) -> bool:
    return security.kind is TokenKind.STATIC and bool(security.scopes_for(type, ""))


def _fixed(scopes: Iterable[Scope], values: Callable[[Scope], Mapping[str, T]]) -> dict[str, T]:
    """What all of these scopes fix. Two that fix one name differently never get here: `claims` refuses them.

    Should they all the same, nothing is chosen between them.
    """
    found: dict[str, T] = {}
    for scope in scopes:
        for name, value in values(scope).items():
            if name in found and (type(found[name]), found[name]) != (type(value), value):
                raise Forbidden(
                    f"The token fixes '{name}' to two values for '{scope.resource}'",
                    reason=Reason.FIXED_PARAM_AMBIGUOUS,
                    subject=name,
                )
            found[name] = value
    return found


def _missing(security: SecurityContext, type: str, resource: str = "") -> Forbidden:
    if resource:
        return Forbidden(
            f"The token '{security.name}' has no {type} for '{_shown(resource)}'",
            hint=f"Use a token with the scope {type}:{_shown(resource)}.", reason=Reason.SCOPE_MISSING, subject=type,
        )
    return Forbidden(
        f"The token '{security.name}' has no {type}",
        hint=f"Use an admin token, or one with {type}.",
        reason=Reason.SCOPE_MISSING,
        subject=type,
    )


def _no_datasource(name: str) -> NotFound:
    return NotFound(
        f'Data Source "{_shown(name)}" does not exist',
        hint="Deploy it first.",
        reason=Reason.DATASOURCE_NOT_FOUND,
        subject=name,
    )


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:200])
