"""What is kept of every read: who asked what, what came of it, and what it cost. `docs/audit-log.md` has the columns.

Made on the request's path and so small: what a record holds is masked and cut here, before it waits anywhere. It never
holds a token, SQL, a parameter's value where the name says that it is secret, or text of the engine, which may quote a
row (attacks A18, J17). Who writes the records down is not known here: an `AuditLog` takes them.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol
from urllib.parse import unquote_plus

import msgspec

from pipit import jsontext
from pipit.access.context import SecurityContext
from pipit.catalog.snapshot import Snapshot
from pipit.errors import PipitError, SqlError
from pipit.query.queries import QUERY_API, Read, ReadOrigin

log = logging.getLogger("pipit.read")

MASK = "***"

_MAX_VALUE = 1_000  # characters of one value
_MAX_PARAMETERS = 100
_MAX_TEXT = 4_000  # of a URL, an error, a security context
_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase|code)|secret|token|api.?key|access.?key|private.?key|authori[sz]ation|credential|signature"
    r"|session|cookie|bearer|^(auth|pwd|pin|otp|key|sig)$",
    re.IGNORECASE,
)
# A token under any name: a JWT's beginning, or that of a token of ours.
_TOKEN = re.compile(r"(?:p\.)?eyJ[\w-]{8,}(?:\.[\w-]+){0,2}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the logs say of a read, whatever became of it. `pipe` as it was asked for, which may not exist."""

    snapshot: Snapshot
    security: SecurityContext
    pipe: str
    sent: Iterable[tuple[str, object]] = ()
    request_id: str = ""
    origin: ReadOrigin = field(default_factory=ReadOrigin)


def asked(read: Read) -> Asked:
    return Asked(read.snapshot, read.security, read.query.name, read.query.sent, read.request_id, read.origin)


@dataclass(frozen=True, slots=True)
class ReadOutcome:
    """`status` is what the client got, `error` why: a tenant may be told less."""

    status: int
    seconds: float = 0.0
    error: BaseException | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    cached: str = ""  # hit or miss, where the pipe has cached responses


@dataclass(slots=True)
class Counts:
    """What the engine says that a run cost; zeros for a cached response."""

    found: Mapping[str, int] = field(default_factory=dict)
    cached: str = ""

    def take(self, found: Mapping[str, int]) -> None:
        self.found = found


class ReadRecord(msgspec.Struct, frozen=True):
    """One row of `tinybird.pipe_stats_rt`, and `database`, whose it is."""

    database: str
    started: float
    pipe_id: str
    pipe_name: str
    token: str
    duration: float
    read_bytes: int
    read_rows: int
    result_rows: int
    memory_usage: int
    url: str
    error_message: str | None
    status_code: int
    request_id: str
    parameters: dict[str, str]
    method: str
    release: str
    user_agent: str | None
    client_ip: str | None
    resource_tags: tuple[str, ...]
    security: SecurityContext
    cached: str = ""

    @property
    def size(self) -> int:
        """About what it takes in memory. What a token says is in memory anyway."""
        return 2_000 + len(self.url) + sum(map(len, self.parameters.values()))

    @property
    def security_context(self) -> str:
        return _security_context(self.security, self.pipe_name)

    @property
    def failed(self) -> bool:
        return self.status_code >= 400

    def stats_row(self, replica: str) -> dict[str, object]:
        """As `pipe_stats_rt` has it."""
        return {
            "start_datetime": _time(self.started),
            "pipe_id": self.pipe_id,
            "pipe_name": self.pipe_name,
            "token": self.token,
            "token_name": self.security.name,
            "duration": self.duration,
            "read_bytes": self.read_bytes,
            "read_rows": self.read_rows,
            "cpu_time": 0.0,  # the engine does not say
            "result_rows": self.result_rows,
            "url": self.url,
            "error": int(self.failed),
            "error_message": self.error_message,
            "status_code": self.status_code,
            "request_id": self.request_id,
            "parameters": self.parameters,
            "method": self.method,
            "release": self.release,
            "user_agent": self.user_agent,
            "client_ip": self.client_ip,
            "resource_tags": self.resource_tags,
            "memory_usage": self.memory_usage,
            "replica": replica,
            "security_context": self.security_context,
            "environment": self.security.environment,
        }

    def error_row(self) -> dict[str, object]:
        """As `endpoint_errors` has it."""
        return {
            "start_datetime": _time(self.started),
            "request_id": self.request_id,
            "pipe_id": self.pipe_id,
            "pipe_name": self.pipe_name,
            "params": jsontext.text(self.parameters),
            "url": self.url,
            "status_code": self.status_code,
            "error": self.error_message,
            "resource_tags": self.resource_tags,
            "security_context": self.security_context,
            "environment": self.security.environment,
        }


class AuditLog(Protocol):
    """Keeps the records. `add` must not wait: it stands in the path of every read."""

    def add(self, record: ReadRecord) -> None: ...


def record(asked: Asked, outcome: ReadOutcome, *, now: float) -> ReadRecord:
    """`now` is a Unix time."""
    snapshot, origin, counts = asked.snapshot, asked.origin, outcome.counts
    found = snapshot.pipes.get(asked.pipe)
    parameters, hidden = _parameters(asked.sent)
    return ReadRecord(
        database=snapshot.workspace.database,
        started=now - outcome.seconds,
        pipe_id=_pipe_id(snapshot, asked.pipe),
        pipe_name=_cut(asked.pipe, 200),
        token=origin.token,
        duration=round(outcome.seconds, 6),
        read_bytes=counts.get("read_bytes", 0),
        read_rows=counts.get("read_rows", 0),
        result_rows=counts.get("result_rows", 0),
        memory_usage=counts.get("memory_usage", 0),
        url=shown_url(origin.url),
        error_message=None if outcome.status < 400 else _message(outcome.error, hidden),
        status_code=outcome.status,
        request_id=asked.request_id,
        parameters=parameters,
        method=origin.method,
        release=str(snapshot.deployment),
        user_agent=None if origin.user_agent is None else _shown(origin.user_agent, 300),
        client_ip=origin.client_ip,
        resource_tags=found.pipe.tags if found else (),
        security=asked.security,
        cached=outcome.cached,
    )


def _pipe_id(snapshot: Snapshot, pipe: str) -> str:
    if pipe == QUERY_API:
        return QUERY_API
    return snapshot.workspace.resource_id("pipe", pipe) if pipe in snapshot.pipes else ""


class ClientGone(Exception):
    """Whoever takes the answer raises it inside of the read: the client left, or was left because it is too slow."""


def status_of(error: BaseException | None) -> int:
    if error is None:
        return 200
    if isinstance(error, PipitError):
        return error.status
    gone = isinstance(error, (asyncio.CancelledError, GeneratorExit, ClientGone))
    return 499 if gone else 500  # 499: the client left


def log_line(asked: Asked, outcome: ReadOutcome) -> None:
    """One line per read for the server's own log. Never a token, a parameter's value or SQL."""
    log.info(
        "read workspace=%s token=%r pipe=%s status=%d engine_code=%d seconds=%.4f request=%s",
        asked.snapshot.workspace.name,
        asked.security.name,
        asked.pipe,
        outcome.status,
        getattr(outcome.error, "engine_code", 0),
        outcome.seconds,
        asked.request_id,
    )


def shown_url(url: str) -> str:
    """The path and query, without the values of tokens, SQL and secrets."""
    path, mark, query = url.partition("?")
    if not mark:
        return _shown(path, _MAX_TEXT)
    parts: list[str] = []
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        if not equals:
            parts.append(_shown(name, _MAX_VALUE))
            continue
        plain = unquote_plus(name)
        hide = plain == "q" or _is_secret(plain)
        parts.append(f"{_shown(name, _MAX_VALUE)}={MASK if hide else _shown(value, _MAX_VALUE)}")
    return _cut(f"{_shown(path, _MAX_TEXT)}?{'&'.join(parts)}", _MAX_TEXT)


@lru_cache(maxsize=2048)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _parameters(sent: Iterable[tuple[str, object]]) -> tuple[dict[str, str], list[str]]:
    """What was sent, as text, masked and cut; and the values that were masked."""
    shown: dict[str, str] = {}
    hidden: list[str] = []
    room = _MAX_TEXT * 4
    for name, value in sent:
        if len(shown) >= _MAX_PARAMETERS or room < 0:
            break
        text = value if isinstance(value, str) else jsontext.text(value)
        if _is_secret(name):
            hidden.append(text)
            text = MASK
        name, text = _shown(name, 100), _shown(text, _MAX_VALUE)
        room -= len(name) + len(text)
        shown[name] = text
    return shown, hidden


def _security_context(security: SecurityContext, pipe: str) -> str:
    """What the token says of its holder: context, fixed parameters, and which data sources it filters (not how)."""
    found: dict[str, object] = {"kind": security.kind.value}
    if security.is_tenant:
        found["context"] = {name: _masked(name, value) for name, value in security.context.items()}
        fixed: dict[str, object] = {}
        for scope in security.scopes_for("PIPES:READ", pipe):
            fixed |= {name: _masked(name, value) for name, value in scope.fixed_params.items()}
        found["fixed_params"] = fixed
        if filtered := sorted({scope.resource for scope in security.scopes if scope.filter}):
            found["filtered"] = filtered
    text = jsontext.text(found)
    if len(text) > _MAX_TEXT:  # still JSON
        text = jsontext.text({"kind": security.kind.value, "cut": text[:_MAX_TEXT]})
    return text


def _masked(name: str, value: object) -> object:
    if _is_secret(name):
        return MASK
    return _shown(value, _MAX_VALUE) if isinstance(value, str) else value


def _message(error: BaseException | None, hidden: Iterable[str]) -> str:
    """Why it failed, in Pipit's words. The engine's own text may quote rows and SQL: of it only its name is kept."""
    if isinstance(error, SqlError) and error.is_engines:
        name = f" ({error.engine_name})" if error.engine_name else ""
        return f"The engine refused the query: code {error.engine_code}{name}"
    if isinstance(error, PipitError):
        text = error.message
    else:
        text = "The client left" if status_of(error) == 499 else "Internal error"
    for value in hidden:
        if value:
            text = text.replace(value, MASK)
    return _shown(text, _MAX_VALUE)


def _shown(text: str, most: int) -> str:
    """Cut, valid, and without anything that looks like a token."""
    if len(text) <= most and "eyJ" not in text and text.isascii():
        return text
    text = _cut(text, most)
    if "eyJ" in text:
        text = _TOKEN.sub(MASK, text)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _time(started: float) -> str:
    return datetime.fromtimestamp(int(started), UTC).replace(tzinfo=None).isoformat(" ")
