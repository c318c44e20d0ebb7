"""JSON as Pipit writes and reads it. orjson does the work.

orjson knows whole numbers of 64 bits: it refuses to write larger ones, and reads them as floats. The values of users
(ids of 128 bits, a token's claims, a request's parameters) keep every digit, so the standard library writes what
orjson refuses, and `exact` reads what somebody else wrote. Where a repeated name or NaN has to be seen, the reader
stands where that is decided (`access.claims`, `api.requests`, `templates.types`). msgspec reads and writes typed
structures: the state, segments, certificates, and the engine's rows, whose numbers it keeps too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson

_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS  # `default` says what these become

def encode(value: object, default: Callable[[Any], Any] | None = None) -> bytes:
    """The value's JSON in UTF-8, without spaces. Raises TypeError, ValueError or RecursionError for what has none."""
    try:
        return orjson.dumps(value, default, _OPTIONS)
    except orjson.JSONEncodeError:
        text = json.dumps(value, default=default, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass")


def text(value: object, default: Callable[[Any], Any] | None = None) -> str:
    """As `encode`. Half characters stay what they are."""
    return encode(value, default).decode("utf-8", "surrogatepass")


def pretty(value: object) -> bytes:
    """For people and for files under review: one member a line, and a line break at the end."""
    try:
        return orjson.dumps(value, option=_OPTIONS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "surrogatepass")


def exact(content: bytes | str) -> Any:
    """The value, with every digit of its whole numbers. Raises ValueError, RecursionError."""
    return json.loads(content)
