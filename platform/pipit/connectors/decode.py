"""Values and keys that name their schema, record by record, to the JSON text that the engine reads.

The one place where rows pass through Python: the engine's own reader of this form turns 300 into 44 for a UInt8, and
one unknown schema fails its whole file. A value that cannot be decoded is a bad record with its reason; a registry that
does not answer makes the topic wait.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import io
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import fastavro
import msgspec

from pipit.connectors.registry import Registry, RegistryAway, Schema, UnknownSchema

_MAGIC = b"\x00"
_HEAD = 5  # the magic byte and the schema's id
_SCHEMAS = 1000  # kept at most
_ASK_AGAIN_SECONDS = 30.0  # for a schema that the registry did not know

Decoded = tuple[bytes, str]  # the JSON text; what is wrong, if anything is
_Reader = Callable[[bytes], bytes]  # raises on a value that is none of the schema


class Decoder:
    """For the values, or the keys, of one topic."""

    def __init__(self, format: str, registry: Registry) -> None:
        self._format, self._registry = format, registry
        self._readers: dict[int, _Reader | str] = {}  # by the schema's id; a text says why there is none
        self._unknown: dict[int, float] = {}  # when the registry said that it does not know them

    async def prepare(self, values: Iterable[bytes | None]) -> None:
        """Learns the schemas that these name. Raises RegistryAway."""
        ids = {int.from_bytes(value[1:_HEAD]) for value in values if value and _names_schema(value)}
        before = time.monotonic() - _ASK_AGAIN_SECONDS
        for id in ids:
            if id in self._readers and self._unknown.get(id, time.monotonic()) > before:
                continue
            if len(self._readers) >= _SCHEMAS:
                oldest = next(iter(self._readers))
                self._readers.pop(oldest)
                self._unknown.pop(oldest, None)
            try:
                self._readers[id] = self._made(await self._registry.schema(id))
                self._unknown.pop(id, None)
            except UnknownSchema as error:
                self._readers[id] = f"the schema {id}: {error}"
                self._unknown[id] = time.monotonic()

    def decode(self, value: bytes) -> Decoded:
        if not _names_schema(value):
            return b"", "it does not begin with the id of a schema (a zero byte and four more)"
        id = int.from_bytes(value[1:_HEAD])
        reader = self._readers.get(id, f"the schema {id} is not known")
        if isinstance(reader, str):
            return b"", reader
        try:
            return reader(value[_HEAD:]), ""
        except Exception as error:  # whatever the bytes make a decoder raise
            return b"", f"it is not a value of schema {id}: {type(error).__name__}"

    def _made(self, schema: Schema) -> _Reader | str:
        wanted = "AVRO" if self._format == "avro" else "JSON"
        if schema.type != wanted:
            return f"its schema is of type {schema.type}, and {self._format} is expected"
        if wanted == "JSON":
            return _of_json
        named: dict[str, Any] = {}
        try:
            for text in schema.references:
                fastavro.parse_schema(msgspec.json.decode(text), named_schemas=named)
            parsed = fastavro.parse_schema(msgspec.json.decode(schema.text), named_schemas=named)
        except Exception as error:
            return f"its schema cannot be read: {type(error).__name__}"
        return lambda data: _of_avro(data, parsed)


def _names_schema(value: bytes) -> bool:
    return len(value) >= _HEAD and value[:1] == _MAGIC


def _of_json(data: bytes) -> bytes:
    """The engine parses it; a line break is white space in JSON."""
    msgspec.json.decode(data, type=msgspec.Raw)
    return data.replace(b"\n", b" ")


def _of_avro(data: bytes, schema: Any) -> bytes:
    source = io.BytesIO(data)
    value = fastavro.schemaless_reader(source, schema, None)
    if source.tell() != len(data):
        raise ValueError("bytes are left over")
    return msgspec.json.encode(value, enc_hook=_other) if not _has_bytes(value) else msgspec.json.encode(_texts(value))


def _other(value: Any) -> Any:
    raise NotImplementedError(type(value).__name__)


def _has_bytes(value: Any) -> bool:
    """Or another kind of value whose JSON form is ours to choose."""
    if isinstance(value, dict):
        return any(map(_has_bytes, value.values()))
    if isinstance(value, list):
        return any(map(_has_bytes, value))
    return not isinstance(value, str | int | float | None)


def _texts(value: Any) -> Any:
    """Times as texts of UTC, exact numbers with all their digits, bytes as the text that they are, else as base64."""
    if isinstance(value, dict):
        return {key: _texts(held) for key, held in value.items()}
    if isinstance(value, list):
        return [_texts(held) for held in value]
    if isinstance(value, datetime.datetime):
        moment = value.astimezone(datetime.UTC) if value.tzinfo else value
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    return value


def key_text(json: bytes) -> bytes:
    """A key that is a text alone is shown without its quotes."""
    if json[:1] == b'"':
        return msgspec.json.decode(json, type=str).encode()
    return json


__all__ = ["Decoded", "Decoder", "RegistryAway", "key_text"]
