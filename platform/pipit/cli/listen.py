"""The HTTP server around the application: sockets, limits on what comes before a body, a clean end.

No access log: a token in a query string is never written anywhere (ATTACKS A18). A URL up to 64 KB reaches the
application, which answers 414 in our shape from 8 KB on; what is longer, and headers that never end, are refused here.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipit.errors import Unavailable

_MAX_URL_BYTES = 64_000  # httptools itself gives up at 65,535
_MAX_HEAD_BYTES = 128 * 1024
_KEEP_ALIVE_SECONDS = 65  # longer than the usual proxy's, so that the proxy closes first
_GRACE_SECONDS = 10


def bind(host: str, port: int) -> socket.socket:
    """A socket that is ours before anything slow starts. Raises Unavailable with a sentence."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, OverflowError, UnicodeError):
        raise Unavailable(f"'{host}' is not an address of this machine", hint="Try --host 127.0.0.1.") from None
    family, kind, protocol, _, address = sorted(found, key=lambda one: one[0] != socket.AF_INET)[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(2048)  # two sockets can be bound to one port, but only one can listen
    except OSError as error:
        opened.close()
        raise _cannot_bind(host, port, error) from None
    opened.setblocking(False)
    return opened


def port_of(opened: socket.socket) -> int:
    return int(opened.getsockname()[1])


class Listener(uvicorn.Server):
    """Serves one application on one socket until `should_exit`. Leaves signals to its caller."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_BoundedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which by itself would collect a URL or a header of any length."""

    _head_bytes = 0
    _in_head = True
    _refusal: tuple[int, bytes] | None = None

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refusal = (431, b"The request's headers are too long")
            self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > _MAX_URL_BYTES:
            self._refusal = (414, b"The URL is too long")
            raise ValueError("URL too long")

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        status, message = self._refusal or (400, b"The request is not valid HTTP")
        reason = {400: b"Bad Request", 414: b"URI Too Long", 431: b"Request Header Fields Too Large"}[status]
        code = {400: b"bad_request", 414: b"uri_too_long", 431: b"bad_request"}[status]
        body = b'{"error":"%b","documentation":"/docs/errors.html#%b","code":"%b"}' % (message, code, code)
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, reason, len(body), body)
        )
        self.transport.close()


def _cannot_bind(host: str, port: int, error: OSError) -> Unavailable:
    if error.errno == errno.EADDRINUSE:
        return Unavailable(
            f"Port {port} is taken on {host}: another program listens there",
            hint="Stop it, or choose another port with --port.",
        )
    if error.errno == errno.EACCES:
        return Unavailable(f"Port {port} is not allowed for this user", hint="Choose one above 1023 with --port.")
    if error.errno == errno.EADDRNOTAVAIL:
        return Unavailable(f"'{host}' is not an address of this machine", hint="Try --host 127.0.0.1.")
    return Unavailable(f"Cannot listen on {host}:{port}: {error.strerror}")
