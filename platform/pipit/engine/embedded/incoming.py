"""From an HTTP request to a Task: ClickHouse's rules of what stands where.

The statement is `query=` and the body, one after the other; of an INSERT with FORMAT the body is data. A multipart form
holds more of the URL's fields, and external tables as files. Everything in the URL that is not the protocol's is a
setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from urllib.parse import unquote_plus

from aiohttp import BodyPartReader, web

from pipit.engine.embedded.body import Body
from pipit.engine.embedded.execution import Task
from pipit.engine.embedded.failure import Failure
from pipit.engine.embedded.spool import Spool, read_input_from, with_table
from pipit.engine.embedded.statement import DEFAULT_FORMAT, Insert, call_span, first_word, insert_head

_PROTOCOL = frozenset(
    {
        "query",
        "query_id",
        "database",
        "default_format",
        "user",
        "password",
        "quota_key",
        "role",
        "session_id",
        "session_timeout",
        "session_check",
        "close_session",
        "stacktrace",
        "compress",
        "decompress",
        "buffer_size",
        "wait_end_of_query",
        "client_protocol_version",
        "exception_tag",  # Pipit's own: the client knows what stands behind X-ClickHouse-Exception-Tag
        # ClickHouse's own HTTP server reads these. Here no progress is sent, and a lost client always ends its query.
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
        "cancel_http_readonly_queries_on_client_close",
    }
)
_HEAD_BYTES = 1 << 16  # how much of a body is looked at for the head of an INSERT
_TEXT_BYTES = 256 << 20  # a statement with its inline values
_FIELDS = 10_000
_CHUNK_BYTES = 1 << 20
_REMEMBERED = 256  # URLs
_REMEMBERED_CHARACTERS = 16 * 1024  # of one


@dataclass(frozen=True, slots=True)
class Incoming:
    task: Task
    whole: bool  # the client wants the answer whole or an error
    tagged: bool  # it looks for an error behind the data
    insert: Insert | None  # set: an INSERT whose data are `first` and then `body`
    first: bytes
    body: Body


def url_fields(query: str) -> dict[str, str]:
    """As `parse_qsl` reads them, blank values too; most of them have nothing to decode.

    What is sent often differs in its last field only, the id: of the others it is remembered what they say.
    """
    if query.count("&") >= _FIELDS:
        raise Failure(36, "The URL holds too many fields")
    head, mark, last = query.rpartition("&")
    if not mark or len(head) > _REMEMBERED_CHARACTERS:
        return _fields(query)
    return _remembered(head) | _fields(last)


def _fields(query: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if "%" in part or "+" in part:
            name, value = _decoded(name), _decoded(value)
        if part:
            fields[name] = value
    return fields


_remembered = lru_cache(_REMEMBERED)(_fields)


def _decoded(text: str) -> str:
    return unquote_plus(text, errors="surrogateescape")


async def read_request(
    request: web.BaseRequest, url: dict[str, str], query_id: str, spool: Spool, ending: AsyncExitStack
) -> Incoming:
    """What the request asks for. Files that it needs are kept until `ending`."""
    tables: dict[str, Path] = {}
    if request.content_type == "multipart/form-data":
        url = url | await _read_form(request, tables, spool, ending)
        body = Body(None)
    else:
        body = Body(request)
    text = url.get("query", "").encode("utf-8", "surrogateescape")
    if text and await body.peek(1):
        text += b"\n"
    in_url = len(text)
    text += await body.peek(_HEAD_BYTES)
    described = {name: (url.pop(f"{name}_format", DEFAULT_FORMAT), _structure(url, name)) for name in tables}
    task = _task(request, url, query_id)
    whole = url.get("wait_end_of_query", "0") not in ("0", "false")
    tagged = url.get("exception_tag", "0") not in ("0", "false")
    insert = insert_head(text) if first_word(text) == b"insert" else None
    if insert is not None and not insert.selects:
        body.drop_peeked()
        return Incoming(task, whole, tagged, insert, text[insert.data :], body)
    if insert is not None and call_span(insert.statement.encode(), b"input"):
        body.drop_peeked()
        path = await ending.enter_async_context(spool.keep(text[insert.data :], body.chunk))
        text = read_input_from(insert.statement.encode(), path, insert.format)
    else:
        text = text[:in_url] + await body.rest(_TEXT_BYTES)
        if insert is not None and text[insert.data :].strip():
            raise Failure(48, "INSERT ... SELECT takes data only where it reads from input()")
    for name, path in tables.items():
        text = with_table(text, name, path, *described[name])
    if not text.strip():
        raise Failure(62, "Syntax error: Empty query")
    return Incoming(replace(task, text=text), whole, tagged, None, b"", body)


def _task(request: web.BaseRequest, url: Mapping[str, str], query_id: str) -> Task:
    # Only the statement may hold bytes that are no text.
    "".join(value for name, value in url.items() if name != "query").encode()
    settings = {k: v for k, v in url.items() if k not in _PROTOCOL and not k.startswith("param_")}
    if request.method == "GET" and settings.get("readonly", "0") == "0":
        settings["readonly"] = "2"
    return Task(
        b"",
        tag=query_id,
        params={k[6:]: v for k, v in url.items() if k.startswith("param_")},
        settings=settings,
        database=url.get("database") or request.headers.get("X-ClickHouse-Database") or "",
        format=url.get("default_format") or request.headers.get("X-ClickHouse-Format") or DEFAULT_FORMAT,
    )


async def _read_form(
    request: web.BaseRequest, tables: dict[str, Path], spool: Spool, ending: AsyncExitStack
) -> dict[str, str]:
    """The text fields of a form. Its files go to the spool and into `tables`."""
    fields: dict[str, str] = {}
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or not part.name:
            raise Failure(36, "The form cannot be read")
        more = partial(part.read_chunk, _CHUNK_BYTES)
        if part.filename:
            tables[part.name] = await ending.enter_async_context(spool.keep(b"", more))
            continue
        content = bytearray()
        while chunk := await more():
            content += chunk
            if len(content) > _TEXT_BYTES:
                raise Failure(168, "A field of the form is too large")
        fields[part.name] = content.decode("utf-8", "surrogateescape")
    return fields


def _structure(url: dict[str, str], name: str) -> str:
    """`<name>_structure`, or `<name>_types` with columns named `_1`, `_2`."""
    structure = url.pop(f"{name}_structure", "")
    types = url.pop(f"{name}_types", "")
    return structure or ", ".join(f"_{at} {kind}" for at, kind in enumerate(types.split(","), 1))
