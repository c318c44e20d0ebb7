"""A file in a request: the body as it is, a part of a form, or the URL that the form names. Streamed, never held."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from urllib.parse import parse_qsl

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from pipit.errors import BadRequest, Reason

_FORM_BYTES = 64 << 10  # of a form without a file
_FIELDS = 100
_PATIENCE_SECONDS = 30.0  # with a client that is slow to begin
_LEAST_BYTES = 1024  # a second, after that
_FIELD_BYTES = 64 << 10
_FORM_NAMES = frozenset({"url", "mode", "name", "schema", "replace_condition"})


@dataclass(frozen=True, slots=True)
class Upload:
    """`fields`: of a form, as far as they stand before the file. `content`: None where no file is sent."""

    fields: Mapping[str, str]
    content: AsyncIterator[bytes] | None
    file: str = ""


async def upload_of(request: Request) -> Upload:
    """Content-Type is not trusted but for forms: clients send files under any (curl's default is that of a form).

    Raises BadRequest.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind == b"multipart/form-data":
        return await _of_form(request, options.get(b"boundary", b""))
    stream = request.stream()
    if kind != b"application/x-www-form-urlencoded":
        return Upload({}, stream)
    head = b""
    async for chunk in stream:
        head += chunk
        if len(head) > _FORM_BYTES:
            return Upload({}, _joined(head, stream))
    fields = _fields(head)
    if _FORM_NAMES & fields.keys():
        return Upload(fields, None)
    return Upload({}, _joined(head, None))


def _fields(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=_FIELDS, strict_parsing=True, keep_blank_values=True))
    except ValueError:
        return {}


async def paced(stream: AsyncIterator[bytes], *, clock: Callable[[], float] = monotonic) -> AsyncIterator[bytes]:
    """The same, as long as it keeps a rate: a file that arrives holds a place. Only waiting for the client counts.

    Raises BadRequest.
    """
    waited, size = 0.0, 0
    while True:
        began = clock()
        try:
            chunk = await anext(stream)
        except StopAsyncIteration:
            return
        waited += clock() - began
        size += len(chunk)
        if waited > _PATIENCE_SECONDS and size < waited * _LEAST_BYTES:
            raise BadRequest(
                f"The file comes in at less than {_LEAST_BYTES} bytes a second",
                hint="Send it packed (gzip, zstd), or let the server fetch it with url=.",
                reason=Reason.BODY_TOO_SLOW,
            )
        yield chunk


async def _joined(head: bytes, rest: AsyncIterator[bytes] | None) -> AsyncIterator[bytes]:
    yield head
    if rest is not None:
        async for chunk in rest:
            yield chunk


@dataclass(slots=True)
class _Form:
    """What the parser has told so far."""

    fields: dict[str, str] = field(default_factory=dict)
    file: str | None = None
    data: deque[bytes] = field(default_factory=deque)  # of the file, not handed on yet
    over: bool = False  # the file is whole
    _header: bytearray = field(default_factory=bytearray)
    _value: bytearray = field(default_factory=bytearray)
    _disposition: bytes = b""
    _name: str = ""
    _parts: int = 0
    _text: bytearray | None = None

    def on_part_begin(self) -> None:
        self._disposition, self._text = b"", None
        self._parts += 1
        if self._parts > _FIELDS:
            raise BadRequest(
                "The form has too many parts", hint="Send the file and its options.", reason=Reason.BODY_INVALID
            )

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._check_header()

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._header) + len(self._value) > _FIELD_BYTES:
            raise BadRequest("A header of a part of the form is too long", reason=Reason.BODY_INVALID)

    def on_header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options or self._name == "csv":
            if self.file is not None:
                raise BadRequest("The form holds more than one file", hint="Send one.", reason=Reason.BODY_INVALID)
            self.file = options.get(b"filename", b"").decode("utf-8", "replace")
        else:
            self._text = bytearray()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._text is None:
            self.data.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _FIELD_BYTES:
            raise BadRequest("A field of the form is too long", reason=Reason.BODY_INVALID)

    def on_part_end(self) -> None:
        if self._text is not None:
            self.fields[self._name] = self._text.decode("utf-8", "replace")
        elif self.file is not None:
            self.over = True


async def _of_form(request: Request, boundary: bytes) -> Upload:
    if not boundary:
        raise BadRequest("The form has no boundary", reason=Reason.BODY_INVALID)
    form = _Form()
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": form.on_part_begin,
            "on_header_field": form.on_header_field,
            "on_header_value": form.on_header_value,
            "on_header_end": form.on_header_end,
            "on_headers_finished": form.on_headers_finished,
            "on_part_data": form.on_part_data,
            "on_part_end": form.on_part_end,
        },
    )
    stream = request.stream()

    async def more() -> bool:
        try:
            chunk = await anext(stream)
        except StopAsyncIteration:
            return False
        try:
            parser.write(chunk)
        except MultipartParseError:
            raise BadRequest("The form cannot be read", reason=Reason.BODY_INVALID) from None
        return True

    while form.file is None:
        if not await more():
            return Upload(form.fields, None)

    async def content() -> AsyncIterator[bytes]:
        while True:
            while form.data:
                yield form.data.popleft()
            if not await more():
                break
        if not form.over:
            raise BadRequest("The form ends in the middle of its file", reason=Reason.BODY_INVALID)

    return Upload(form.fields, content(), form.file)
