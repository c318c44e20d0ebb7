"""The one tree of errors. Each has a stable reason and code, an HTTP status, a message for the reader and a hint.

A class stands for an HTTP status and a code; the reason (`pipit.reasons`) says which cause it was. Code decides by
class, reason and the typed fields, never by the words of a message.

    PipitError                      internal_error          500
    ├── BadRequest                  bad_request             400  a parameter, a body, a header
    │   ├── TemplateError           template_error          400  a value that the template refuses
    │   ├── CustomError             custom_error            any  {{ error(...) }} and {{ custom_error(...) }}
    │   ├── SqlError                sql_error               400  the engine refused the statement
    │   │   └── UnknownResource     sql_error               400  a name in it is nothing of the workspace
    │   └── QueryRefused            query_refused           400  a tenant's own SQL, whatever was wrong with it
    ├── Forbidden                   forbidden               403  bad token, missing scope, missing key
    │   └── ReadRefused             read_refused            403  a filter cannot be applied, so nothing runs
    ├── NotFound                    not_found               404
    ├── MethodNotAllowed            method_not_allowed      405
    ├── QueryTimeout                query_timeout           408
    ├── Conflict                    conflict                409  a deploy in progress, a name taken
    ├── TooLarge                    too_large               413  a body, a row, a result
    ├── UriTooLong                  uri_too_long            414
    ├── UnprocessableWrite          unprocessable_write     422  rows landed, a materialized view failed
    ├── RateLimited                 rate_limited            429
    ├── Unavailable                 unavailable             503  the engine is away; try again
    │   ├── DiskFull                    unavailable             503  the disk has no room for what is to be written
    │   └── EngineStartError        engine_start_error      503  the engine process cannot start
    ├── ProjectError                project_error           400  many DatafileError at once
    └── DatafileError               datafile_error          400  file:line:column, excerpt, hint

A message never holds a stack trace, a secret, another tenant's value, or SQL that the reader did not write.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import ClassVar

from pipit.reasons import Reason as Reason


class PipitError(Exception):
    """Something went wrong inside Pipit; the request id names it in the server's log.

    `message` is for the reader, `hint` says what to do, `headers` go with the HTTP response. `reason` says which cause
    it was, `subject` what the message is about: the name of a table, a parameter, a function. `detail` is what the
    engine said of it, which may quote anybody's rows: it is never in `body()`, and `access.refusals` decides who sees
    it.
    """

    code: ClassVar[str] = "internal_error"
    status: int = 500
    documentation: ClassVar[str] = "/docs/errors.html"
    reason: Reason = Reason.INTERNAL_ERROR

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        subject: str = "",
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason
        self.subject = subject
        self.hint = hint
        self.detail = detail
        self.headers: Mapping[str, str] = headers or {}

    def __str__(self) -> str:
        return self.message

    @property
    def identity(self) -> Hashable:
        """Equal for two that say the same: a reader is told it once."""
        return type(self), self.reason, self.message, self.hint

    @property
    def names(self) -> tuple[str, ...]:
        """What it is about, as its author wrote it: where it stands in a file is found by these."""
        return (self.subject,) if self.subject else ()

    def body(self) -> dict[str, object]:
        """The JSON body of the response: `error` and `documentation` as the dialect has them, and ours."""
        body: dict[str, object] = {
            "error": self.message,
            "documentation": f"{self.documentation}#{self.code}",
            "code": self.code,
            "reason": self.reason.value,
        }
        if self.hint:
            body["hint"] = self.hint
        return body


class BadRequest(PipitError):
    """A parameter, a header or a body that cannot be used; the message names it."""

    code = "bad_request"
    reason = Reason.REQUEST_INVALID
    status = 400


class TemplateError(BadRequest):
    """A request value that the template refuses. The message has the dialect's prefix before the `problem`."""

    code = "template_error"
    reason = Reason.TEMPLATE_FAILED

    def __init__(
        self,
        problem: str,
        *,
        anchor: str = "",
        hint: str = "",
        line: int = 0,
        column: int = 0,
        parameter: str = "",
        reason: Reason | None = None,
    ) -> None:
        super().__init__(f"Template Syntax Error: {problem}", reason=reason, subject=parameter, hint=hint)
        self.problem = problem
        self.anchor = anchor
        self.parameter = parameter  # the one whose value does not do, where it is known
        self.line = line  # within the template's source, from 1; 0 is unknown
        self.column = column

    def body(self) -> dict[str, object]:
        suffix = f"#{self.anchor}" if self.anchor else ""
        body = super().body() | {"documentation": f"/cli/advanced-templates.html{suffix}"}
        return body | {"parameter": self.parameter} if self.parameter else body


class CustomError(BadRequest):
    """`{{ error('text') }}` and `{{ custom_error({...}, status) }}`: the pipe's author chose body and status."""

    code = "custom_error"
    reason = Reason.CUSTOM_ERROR

    def __init__(self, content: str | Mapping[str, object], status: int = 400) -> None:
        super().__init__(content if isinstance(content, str) else str(dict(content)))
        self.content = content
        self.status = status

    def body(self) -> dict[str, object]:
        return {"error": self.content} if isinstance(self.content, str) else dict(self.content)


class SqlError(BadRequest):
    """The engine refused a statement. `engine_code` is ClickHouse's number; the message is already scrubbed.

    With a code the message is the engine's own, and may quote rows: a tenant is never shown it (`access.refusals`).
    What else the engine said was read where it came in (`engine.failures`): its name of the error, the names that it
    quotes, and of a syntax error the byte of the statement where it stopped reading.
    """

    code = "sql_error"
    reason = Reason.STATEMENT_REFUSED

    def __init__(
        self,
        message: str,
        *,
        engine_code: int = 0,
        engine_name: str = "",
        quoted: tuple[str, ...] = (),
        unread_at: int | None = None,
        reason: Reason | None = None,
        subject: str = "",
        hint: str = "",
        detail: str = "",
    ) -> None:
        super().__init__(message, reason=reason, subject=subject, hint=hint, detail=detail)
        self.engine_code = engine_code
        self.engine_name = engine_name
        self.quoted = quoted
        self.unread_at = unread_at

    @property
    def is_engines(self) -> bool:
        """Whether the engine said it: its words may quote anybody's rows."""
        return self.engine_code != 0

    @property
    def names(self) -> tuple[str, ...]:
        return self.quoted or super().names

    def retold(self, message: str, *, hint: str = "") -> SqlError:
        """The same error in other words, for another reader."""
        return SqlError(
            message,
            engine_code=self.engine_code,
            engine_name=self.engine_name,
            quoted=self.quoted,
            unread_at=self.unread_at,
            reason=self.reason,
            subject=self.subject,
            hint=hint,
            detail=self.detail,
        )


class UnknownResource(SqlError):
    """A name in a query, the `subject`, is no data source, pipe or node of the workspace."""

    reason = Reason.RESOURCE_NOT_FOUND


class QueryRefused(BadRequest):
    """A tenant's own SQL does not run, or failed. One text for all: the reason could tell of what it may not see."""

    code = "query_refused"
    reason = Reason.QUERY_REFUSED

    def __init__(self, request_id: str) -> None:
        super().__init__(
            "The query cannot be run",
            hint=f"Plain SELECT over the token's data sources. The workspace's owner finds more under {request_id}.",
        )


class Forbidden(PipitError):
    """The token is missing, bad or expired, or it has no scope or key for this. The message says which."""

    code = "forbidden"
    reason = Reason.ACCESS_DENIED
    status = 403


class ReadRefused(Forbidden):
    """A filter cannot be applied to what this query reads, so it does not run (rule 1)."""

    code = "read_refused"
    reason = Reason.READ_REFUSED


class NotFound(PipitError):
    """No such pipe, data source, variable or path."""

    code = "not_found"
    reason = Reason.NOT_FOUND
    status = 404


class MethodNotAllowed(PipitError):
    """The path exists, but not with this method."""

    code = "method_not_allowed"
    reason = Reason.METHOD_NOT_ALLOWED
    status = 405


class QueryTimeout(PipitError):
    """The query ran longer than it may. Ask for less, or make the pipe cheaper.

    `hung`: the engine could not interrupt it, and has to be ended.
    """

    code = "query_timeout"
    reason = Reason.QUERY_TIMEOUT
    status = 408

    def __init__(self, message: str, *, hint: str = "", hung: bool = False, detail: str = "") -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.hung = hung


class Conflict(PipitError):
    """Something else is in the way: a deploy in progress, a name that is taken, a reused key."""

    code = "conflict"
    reason = Reason.CONFLICT
    status = 409


class TooLarge(PipitError):
    """A body, a row or a result is larger than it may be."""

    code = "too_large"
    reason = Reason.TOO_LARGE
    status = 413


class UriTooLong(PipitError):
    """The URL is longer than it may be: send the parameters in a POST body."""

    code = "uri_too_long"
    reason = Reason.URL_TOO_LONG
    status = 414


class UnprocessableWrite(PipitError):
    """The rows are in the landing table; a materialized view failed on them and will be repaired by replay."""

    code = "unprocessable_write"
    reason = Reason.VIEW_FAILED
    status = 422


class RateLimited(PipitError):
    """The token sends more requests than it may: wait for the seconds in `Retry-After`."""

    code = "rate_limited"
    reason = Reason.RATE_LIMITED
    status = 429


class Unavailable(PipitError):
    """The engine is away. Events are still accepted; reads should be tried again."""

    code = "unavailable"
    reason = Reason.UNAVAILABLE
    status = 503

    def __init__(
        self,
        message: str,
        *,
        retry_after: int = 1,
        reason: Reason | None = None,
        subject: str = "",
        hint: str = "",
        detail: str = "",
    ) -> None:
        headers = {"Retry-After": str(retry_after)}
        super().__init__(message, reason=reason, subject=subject, hint=hint, headers=headers, detail=detail)
        self.retry_after = retry_after


class DiskFull(Unavailable):
    """The disk has no room for what is to be written."""

    reason = Reason.DISK_FULL


class EngineStartError(Unavailable):
    """The engine process cannot start; the message is for the person who starts Pipit."""

    code = "engine_start_error"
    reason = Reason.ENGINE_START_FAILED


class DatafileError(PipitError):
    """Something wrong in a project file, with its place. Lines and columns count from 1; 0 means the whole file."""

    code = "datafile_error"
    reason = Reason.DATAFILE_INVALID
    status = 400

    def __init__(
        self,
        message: str,
        *,
        file: str,
        line: int = 0,
        column: int = 0,
        hint: str = "",
        excerpt: str = "",
        reason: Reason | None = None,
        subject: str = "",
    ) -> None:
        super().__init__(message, reason=reason, subject=subject, hint=hint)
        self.file = file
        self.line = line
        self.column = column
        self.excerpt = excerpt

    @property
    def identity(self) -> Hashable:
        return super().identity, self.file, self.line, self.column

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}"

    def body(self) -> dict[str, object]:
        extra: dict[str, object] = {"filename": self.file, "line": self.line, "column": self.column}
        return super().body() | extra


class ProjectError(PipitError):
    """All that is wrong with a project, at once."""

    code = "project_error"
    reason = Reason.PROJECT_INVALID
    status = 400

    def __init__(self, errors: Sequence[DatafileError]) -> None:
        super().__init__("\n".join(str(e) for e in errors))
        self.errors = tuple(errors)

    def body(self) -> dict[str, object]:
        listed = [
            {"error": str(e), "message": e.message, "reason": e.reason.value, "hint": e.hint, "excerpt": e.excerpt}
            | {"filename": e.file, "line": e.line, "column": e.column}
            for e in self.errors
        ]
        return super().body() | {"errors": listed}
