"""What of an error reaches who asked: a tenant is told little, and nobody a secret or names that he did not write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from pipit.catalog.snapshot import Snapshot
from pipit.catalog.written import as_written, text_as_written
from pipit.engine.client import ParamValue
from pipit.engine.failures import without_values
from pipit.engine.syntax_errors import Unread, place_in, without_place
from pipit.errors import (
    Forbidden,
    NotFound,
    PipitError,
    QueryRefused,
    RateLimited,
    ReadRefused,
    Reason,
    SqlError,
    Unavailable,
)
from pipit.query.queries import Read
from pipit.templates.binder import holds_secret


def for_reader(error: PipitError, read: Read) -> PipitError:
    """What the reader is told of an error.

    A tenant gets one message for all errors of the engine, because the engine may quote a row (attack E04). About SQL
    of its own it is told only what its token lacks: even which limit it reached may depend on other tenants' rows.
    """
    if not read.security.is_tenant:
        if isinstance(error, SqlError) and error.is_engines:
            message = as_written(_placed(error, read.query.own_sql or "", read.snapshot), read.snapshot)
            return error.retold(message, hint=error.hint)
        return error
    if read.is_tenants_sql:
        told = isinstance(error, (Forbidden, NotFound, Unavailable, RateLimited)) and not isinstance(error, ReadRefused)
        return error if told else QueryRefused(read.request_id)
    if not isinstance(error, SqlError):
        return error
    return SqlError(
        "The query of this endpoint failed",
        hint=f"Quote the request id {read.request_id} to its owner.",
        reason=Reason.STATEMENT_REFUSED,
    )


def quietly(params: Mapping[str, ParamValue]) -> AbstractContextManager[None]:
    """The engine quotes values that it cannot convert. Where one may be a secret, its words are told to nobody, and
    are in no log: only what is wrong with the text, or the error's name."""
    return _no_secret_quoted() if holds_secret(params) else _NOTHING_HIDDEN


_NOTHING_HIDDEN: AbstractContextManager[None] = nullcontext()


@contextmanager
def _no_secret_quoted() -> Iterator[None]:
    try:
        yield
    except SqlError as error:
        code, name = error.engine_code, error.engine_name
        hint = "A secret is in this query."
        raise SqlError(without_values(error), engine_code=code, engine_name=name, hint=hint) from None


def _placed(error: SqlError, own: str, snapshot: Snapshot) -> str:
    """The message, with the place of a syntax error in the reader's own text, or with none: the engine's is in ours."""
    rest = without_place(error)
    if not own or not isinstance(error, Unread):
        return rest
    found = place_in(own, text_as_written(error.before, snapshot), text_as_written(error.here, snapshot))
    if found is None:
        return rest
    at, word = found
    where = f"at `{word}`, position {at + 1}" if word else "at the end of the query"
    return rest.replace("Syntax error", f"Syntax error: cannot be read {where}", 1)
