"""An answer's headers on their way out, as ASGI has them: pairs of bytes, names in lower case.

Each answer passes several layers that add a header; a `MutableHeaders` of each would cost more than what it does.
"""

from __future__ import annotations

from starlette.types import Message

Pairs = list[tuple[bytes, bytes]]


def headers_of(message: Message) -> Pairs:
    """Those of a `http.response.start`, to be changed in place."""
    headers: Pairs = message.setdefault("headers", [])
    return headers


def find(headers: Pairs, name: bytes) -> bytes | None:
    for known, value in headers:
        if known == name:
            return value
    return None


def put(headers: Pairs, name: bytes, value: bytes) -> None:
    """The one header of this name."""
    if find(headers, name) is not None:
        headers[:] = [pair for pair in headers if pair[0] != name]
    headers.append((name, value))


def vary(headers: Pairs, by: bytes) -> None:
    """The answer depends on this header of the request as well."""
    for at, (name, value) in enumerate(headers):
        if name == b"vary":
            headers[at] = (name, value + b", " + by)
            return
    headers.append((b"vary", by))
