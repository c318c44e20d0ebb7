"""The HTTP server around the application: sockets, limits on what comes before a body, a clean end.

No access log: a token in a query string is never written anywhere (attack A18). A URL up to 64 KB reaches the
application, which answers 414 in our shape from 8 KB on; what is longer, and headers that never end, are refused here.

A client that sends nothing holds no connection for long: it has a time for its headers and one for each piece of its
body, and where all connections are taken one that has nothing under way gives room to the next.

A client that does not read holds little memory, and not for long. One request of a connection is parsed at a time: what
is pipelined behind it stays as bytes, and the connection is not read, until its answer is written and mostly taken. The
bytes that wait so are bounded in all. Who takes nothing of an answer for a while is cut off.

A request that two programs could cut at different places is refused, or cut as every proxy does (attacks I01 to I03,
I07): one Host, one Transfer-Encoding and that `chunked`, no HTTP/0.9, trailers are no headers, and an Upgrade, of which
there is none to offer, changes nothing: not where the request's body ends either.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
from collections.abc import AsyncIterator, Generator
from functools import partial
from itertools import islice
from typing import Any, cast

import httptools
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from pipit.api.broken import BrokenOff
from pipit.errors import Reason, Unavailable

_BODYLESS = (b"GET", b"HEAD", b"OPTIONS", b"DELETE")  # no route asks for a body of theirs
_MAX_URL_BYTES = 64_000  # httptools itself gives up at 65,535
_MAX_HEAD_BYTES = 128 * 1024
_MAX_HEADERS = 1000
_KEEP_ALIVE_SECONDS = 65  # longer than the usual proxy's, so that the proxy closes first
_GRACE_SECONDS = 10
_HEAD_SECONDS = 15.0  # from a request's first byte, or the connection's begin, to the end of its headers
_BODY_SECONDS = 30.0  # from one piece of a body to the next
_WRITE_SECONDS = 30.0  # for an answer of which the client takes nothing
_SWEEP_TICKS = 20  # of a tenth of a second: how often that is looked at
_MAX_HELD_BYTES = 32 * 1024 * 1024  # pipelined and not parsed yet, of all connections together
_UNSENT_BYTES = 16 * 1024  # of one connection: more is not written before some of it is gone
_CONTINUE = b"HTTP/1.1 100 "
_HEAD_END = b"\n\r\n"  # a piece for the parser ends there, so it holds no more than one request
_MAX_CONNECTIONS = 8192
_LOOKED_AT = 64  # for one to close: a new connection costs little also when there are too many
_FILES = 65_536
_OTHER_FILES = 512  # what the process opens besides: to the engine, segments, logs

log = logging.getLogger("pipit.http")


def raise_file_limit() -> int:
    """A connection is an open file, and a shell grants few. The limit in force afterwards; the system's own stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _FILES if soft == resource.RLIM_INFINITY else soft


def most_connections(files: int) -> int:
    return min(_MAX_CONNECTIONS, max(files // 2, files - _OTHER_FILES))


def bind(host: str, port: int) -> socket.socket:
    """A socket that is ours before anything slow starts. Raises Unavailable with a sentence."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, OverflowError, UnicodeError):
        raise Unavailable(
            f"'{host}' is not an address of this machine", hint="Try --host 127.0.0.1.", reason=Reason.PORT_UNUSABLE
        ) from None
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
    """Serves one application on one socket until `should_exit`. Leaves signals to its caller.

    Raises the process's limit of open files.
    """

    def __init__(self, app: ASGIApp) -> None:
        _BoundedProtocol.most = most_connections(raise_file_limit())
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

    async def on_tick(self, counter: int) -> bool:
        if counter % _SWEEP_TICKS == 0:
            for connection in list(self.server_state.connections):
                cast(_BoundedProtocol, connection).cut_if_unread()
        return await super().on_tick(counter)


class _Flow(FlowControl):
    """Whoever waits for a message resumes reading: not while pipelined bytes are held."""

    holding = False

    def resume_reading(self) -> None:
        if not self.holding:
            super().resume_reading()


class _Joined:
    """A connection for one answer: its head waits for its first bytes of body, so that both are one packet.

    It waits no longer than what the application does now: an answer whose body comes later begins without it.
    """

    __slots__ = ("_begun", "_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._begun = False

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines([head, data])
        elif self._begun or data.startswith(_CONTINUE):
            self._transport.write(data)
        else:
            self._begun, self._head = True, data
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


class _BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which by itself would collect a URL or a header of any length, and wait for them for ever.

    It would also make a task's worth of objects of each pipelined request at once. While bytes are held here, the
    connection is not read, so that a client which leaves is noticed only when its answer cannot be written.
    """

    most = _MAX_CONNECTIONS
    _reading: _Flow
    held_bytes = 0  # of all connections
    _held: tuple[bytes, int] | None = None  # what is not parsed yet, and from where on
    _between = False  # a request is complete, and the next one has not begun
    _fed = b""  # the last bytes that the parser got: the end of a head may come in two pieces
    _body_left = 0  # of a body whose length is known
    _unsent = (0, 0.0)  # bytes that wait to be written, and since when it is that number
    _head_bytes = 0
    _in_head = True
    _upgrading = False
    _refusal: tuple[int, bytes] | None = None
    _deadline: float | None = None  # for what the client owes; None: nothing
    _timer: asyncio.TimerHandle | None = None
    _since = 0.0  # when the client was last heard

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self.transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        self.flow = self._reading = _Flow(self.transport)
        self._since = self.loop.time()
        self._expect(_HEAD_SECONDS)
        if len(self.connections) > self.most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._let_go()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._since = self.loop.time()
        if self._held is not None:  # read before the pause took hold
            held, at = self._let_go()
            self._hold(held[at:] + data, 0)
        else:
            self._take(data, 0)

    def _take(self, data: bytes, at: int) -> None:
        """Gives the parser what it may have now, and holds the rest."""
        self._unset_keepalive_if_required()
        view = memoryview(data)
        while at < len(data) and not self.transport.is_closing():
            if self._is_busy():
                self._hold(data, at)
                return
            end = self._piece(data, at)
            if self._deadline is None:
                self._expect(_HEAD_SECONDS)
            if self._in_head:
                self._head_bytes += end - at
            self._feed(view[at:end])
            self._fed = data[max(end - 2, at) : end] if end - at > 1 else self._fed[-1:] + data[at:end]
            at = end
            if self._in_head and self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refusal = (431, b"The request's headers are too long")
                self.send_400_response("")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.transport = cast(asyncio.Transport, _Joined(self.transport, self.loop))
        super()._start_asgi_task(cycle, cast(Any, partial(_break_off, cycle, app)))

    def _is_busy(self) -> bool:
        """The next request has to wait: another one is not answered yet, or the client does not take its answer."""
        if not self._between:
            return False
        answered = self.cycle is None or self.cycle.response_complete
        return not answered or bool(self.pipeline) or self.flow.write_paused

    def _piece(self, data: bytes, at: int) -> int:
        """The end of the next piece: it holds the end of one head, or of one body, and nothing of the next request."""
        if self._body_left > 0:
            return min(len(data), at + self._body_left)
        joint = (self._fed + data[at : at + 2]).find(_HEAD_END)
        if joint >= 0:
            return at + joint + len(_HEAD_END) - len(self._fed)
        place = data.find(_HEAD_END, at)
        return len(data) if place < 0 else place + len(_HEAD_END)

    def _hold(self, data: bytes, at: int) -> None:
        if _BoundedProtocol.held_bytes + len(data) > _MAX_HELD_BYTES:
            log.warning("too many pipelined requests wait: a connection is closed after its answer")
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()
            else:
                self.cycle.keep_alive = False
            data, at = b"", 0
        self._held = (data, at)
        _BoundedProtocol.held_bytes += len(data)
        self._reading.holding = True
        self.flow.pause_reading()

    def _let_go(self) -> tuple[bytes, int]:
        held, self._held = self._held or (b"", 0), None
        _BoundedProtocol.held_bytes -= len(held[0])
        self._reading.holding = False
        return held

    def _go_on(self) -> None:
        """The answer is out, or the client has taken some of it: on with what waited."""
        if self._held is None or self._is_busy() or self.transport.is_closing():
            return
        self._take(*self._let_go())
        self.flow.resume_reading()  # unless something is held again

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._go_on()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._go_on()

    def cut_if_unread(self) -> None:
        """Ends the connection if nothing of an answer went out for long, whatever state it is in."""
        waiting, now = self.transport.get_write_buffer_size(), self.loop.time()
        if waiting != self._unsent[0]:
            self._unsent = (waiting, now)
        elif waiting and now - self._unsent[1] > _WRITE_SECONDS:
            log.info("a client took nothing of its answer for %d s: its connection is cut", _WRITE_SECONDS)
            self.transport.abort()

    def _feed(self, data: bytes | memoryview) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            # The parser takes all that follows for another protocol, a body too: it would be read as the next request.
            # So it reads the request again, without the Upgrade.
            head, self._upgrading = self._head_without_upgrade(), False
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
            self._feed(head + bytes(data[stopped.args[0] :]))
        except httptools.HttpParserError:
            if not self.transport.is_closing():
                log.info("a request that is not valid HTTP was refused")
                self.send_400_response("")

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                value = b", ".join(one for one in value.split(b",") if one.strip().lower() != b"upgrade")
            if name != b"upgrade" and (name != b"connection" or value):
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._between = False
        self._body_left = 0
        self._expect(_HEAD_SECONDS)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._body_left -= len(body)
        self._expect(_BODY_SECONDS)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        super().on_message_complete()
        self._between = True
        self._body_left = 0
        self._deadline = None

    def _expect(self, seconds: float) -> None:
        self._deadline = self.loop.time() + seconds
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """One timer for a connection: it is not set anew with every piece, it looks again when it was too early."""
        self._timer = None
        if self._deadline is None or self.transport.is_closing():
            return
        left = self._deadline - self.loop.time()
        if left <= 0:
            if not self._is_answering():
                self._give_up()
                return
            left = 1.0
        self._timer = self.loop.call_later(left, self._look)

    def _is_answering(self) -> bool:
        """It is our turn: an answer is on its way, or the body is not taken as fast as it comes."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        return cycle.response_started or self.flow.read_paused or not cycle.more_body

    def _give_up(self) -> None:
        nothing_asked = self.cycle is None and not self._head_bytes
        answered = self.cycle is not None and self.cycle.response_complete and not self._in_head
        if nothing_asked or answered:
            self.transport.close()
            return
        self._refusal = (408, b"The request's %b did not come in time" % (b"headers" if self._in_head else b"body"))
        self.send_400_response("")

    def _make_room(self) -> None:
        """Too many: of some that have nothing under way the one goes that has been silent longest, if there is one."""
        others = cast("set[_BoundedProtocol]", self.connections)
        idle = (one for one in others if one is not self and not one.transport.is_closing() and one._is_idle())
        oldest = min(islice(idle, _LOOKED_AT), key=lambda one: one._since, default=None)
        if oldest is not None:
            oldest.transport.close()
            log.debug("all %d connections are taken: one that asked nothing was closed", self.most)
            return
        log.warning("all %d connections are taken: another one was refused", self.most)
        self._refusal = (503, b"The server has too many connections")
        self.send_400_response("")

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > _MAX_URL_BYTES:
            self._refusal = (414, b"The URL is too long")
            raise ValueError("URL too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: the request has been authenticated and decoded by then
        if len(self.headers) >= _MAX_HEADERS:
            self._refusal = (431, b"The request has too many headers")
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        length = self._check_head()
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("no proxy")
            self._upgrading = True  # `_feed` goes on
            return
        self._in_head = False
        self._head_bytes = 0
        self._body_left = int(length)
        self._expect(_BODY_SECONDS)
        super().on_headers_complete()
        if self.parser.get_method() in _BODYLESS:
            self.cycle.waiting_for_100_continue = False  # else it is sent where the application waits for anything

    def _check_head(self) -> bytes:
        """The length of the body, if the head says it."""
        version = self.parser.get_http_version()
        hosts, codings, length = 0, [], b""
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                codings.append(value.strip().lower())
            elif name == b"content-length":
                length = length or value
        if version not in ("1.0", "1.1") or hosts > 1 or (version == "1.1" and not hosts):
            raise ValueError("not HTTP/1.1 with one Host")
        if codings not in ([], [b"chunked"]):
            raise ValueError("a Transfer-Encoding besides chunked")
        return length or b"0"

    def send_400_response(self, msg: str) -> None:
        status, message = self._refusal or (400, b"The request is not valid HTTP")
        phrase, code, reason = _REFUSALS[status]
        body = b'{"error":"%b","documentation":"/docs/errors.html#%b","code":"%b","reason":"%b"}' % (
            message,
            code,
            code,
            reason.value.encode(),
        )
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, phrase, len(body), body)
        )
        self.transport.close()


async def _break_off(
    cycle: RequestResponseCycle, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    """The application; an answer that cannot be completed ends with its connection, and is no fault to report here."""
    try:
        await app(scope, receive, send)
    except BrokenOff as broken:
        cycle.disconnected = True
        if broken.at_once:
            cycle.transport.abort()
        else:
            cycle.transport.close()  # what is written is sent; the last chunk is not


_REFUSALS = {
    400: (b"Bad Request", b"bad_request", Reason.REQUEST_NOT_HTTP),
    408: (b"Request Timeout", b"bad_request", Reason.REQUEST_TOO_SLOW),
    414: (b"URI Too Long", b"uri_too_long", Reason.URL_TOO_LONG),
    431: (b"Request Header Fields Too Large", b"bad_request", Reason.HEADERS_TOO_LARGE),
    503: (b"Service Unavailable", b"unavailable", Reason.SERVER_BUSY),
}


def _cannot_bind(host: str, port: int, error: OSError) -> Unavailable:
    if error.errno == errno.EADDRINUSE:
        return Unavailable(
            f"Port {port} is taken on {host}: another program listens there",
            hint="Stop it, or choose another port with --port.", reason=Reason.PORT_UNUSABLE,
        )
    if error.errno == errno.EACCES:
        return Unavailable(
            f"Port {port} is not allowed for this user",
            hint="Choose one above 1023 with --port.",
            reason=Reason.PORT_UNUSABLE,
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return Unavailable(
            f"'{host}' is not an address of this machine", hint="Try --host 127.0.0.1.", reason=Reason.PORT_UNUSABLE
        )
    return Unavailable(f"Cannot listen on {host}:{port}: {error.strerror}", reason=Reason.PORT_UNUSABLE)


@contextlib.asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    """The application on a free loopback port, for as long as the context; its base URL."""
    socket = bind("127.0.0.1", 0)
    listener = Listener(app)
    serving = asyncio.create_task(listener.serve(sockets=[socket]))
    try:
        yield f"http://127.0.0.1:{port_of(socket)}"
    finally:
        listener.should_exit = True
        await serving
