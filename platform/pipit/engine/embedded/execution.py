"""One request's work on the engine, in a worker thread: a connection of its own, its settings, one statement.

Rule 1 of the design rests on it: nothing of a request (database, settings, `readonly`) outlives its
connection. Order matters: database and settings, `readonly` as the last of them, then the check, then the
statement.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from pipit.engine.embedded.connections import Connections
from pipit.engine.embedded.failure import Failure
from pipit.engine.embedded.guard import Guard
from pipit.engine.embedded.statement import STREAMABLE, Insert, first_word, output_format
from pipit.sql.literals import quote_string

_KILL = re.compile(rb"\s*kill\s+query\b", re.IGNORECASE)
_STREAMED = (b"select", b"with")
LARGE = 1024 * 1024  # of an answer that comes in one piece
_IN_MEMORY = 8 * 1024 * 1024  # of an answer that is held back
_QUERY_ID = re.compile(rb"\bquery_id\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Task:
    """What one request asks for. `settings` may hold `readonly`; values are raw texts."""

    text: bytes
    tag: str
    params: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    database: str = ""
    format: str = "TabSeparated"

    @property
    def readonly(self) -> bool:
        return self.settings.get("readonly", "0") != "0"

    @property
    def seconds(self) -> float:
        """How long it may run; 0: as long as it takes."""
        try:
            return float(self.settings.get("max_execution_time", "0"))
        except ValueError:
            return 0.0  # the engine says what is wrong with it


@dataclass(slots=True)
class Summary:
    """The counters of X-ClickHouse-Summary."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0
    elapsed_ns: int = 0

    def add(self, result: Any) -> None:
        self.read_rows = max(self.read_rows, result.storage_rows_read())
        self.read_bytes = max(self.read_bytes, result.storage_bytes_read())
        self.written_rows = max(self.written_rows, result.rows_written())
        self.written_bytes = max(self.written_bytes, result.bytes_written())
        self.result_rows += result.rows_read()
        self.result_bytes += result.size()
        self.elapsed_ns = max(self.elapsed_ns, int(result.elapsed() * 1e9))

    def header(self) -> str:
        counters = ",".join(f'"{name}":"{getattr(self, name)}"' for name in self.__slots__)
        return f'{{{counters},"total_rows_to_read":"{self.read_rows}"}}'


@dataclass(slots=True)
class StatementResult:
    """The first part of an answer. `more` says that `Execution.next` has the rest.

    `owner` has the memory that a view shows: what is sent of the view must be copied before the owner goes.
    """

    body: bytes | memoryview
    more: bool
    format: str = ""  # empty: the statement has no result
    owner: object = None


class Execution:
    """Runs a task. Methods are called one after the other, from any thread; `abandon` may come at any time."""

    def __init__(self, connections: Connections, guard: Guard, task: Task) -> None:
        self.task = task
        self.summary = Summary()
        self._connections = connections
        self._guard = guard
        self._connection: Any = None
        self._stream: Any = None
        self._insert: Any = None
        self._abandoned = threading.Event()

    def run(self) -> StatementResult:
        """Runs the statement: the whole response, or its first block and `more`."""
        task = self.task
        try:
            connection = self._open()
            reads = self._guard.check(connection, task.text, readonly=task.readonly)
            text = task.text
            if not reads:
                self._guard.check_room(text)
            if not reads and _KILL.match(text):
                # The engine gives ids of its own; ours is in the comment.
                text = _QUERY_ID.sub(b"Settings['log_comment']", text)
            format = output_format(text, task.format)
            if (
                reads
                and first_word(text) in _STREAMED
                and format.lower() in STREAMABLE
                and task.format.lower() in STREAMABLE  # in case `format` was read from the text wrongly
            ):
                return self._run_stream(text, format)
            result = connection.query(text, task.format, params=task.params)
            self.summary.add(result)
            body, owner = _body_of(result)
            self.close()
            return StatementResult(body, False, format if reads or body else "", owner)
        except RuntimeError as error:
            self.close()
            raise Failure.of(error) from None
        except Failure:
            self.close()
            raise

    def _run_stream(self, text: bytes, format: str) -> StatementResult:
        self._stream = self._connection.send_query(text, self.task.format, params=self.task.params)
        first = self._fetch()
        if first is None:
            self.close()
            return StatementResult(b"", False, format)
        second = self._fetch()
        if second is None:
            self.close()
            return StatementResult(first, False, format)
        return StatementResult(first + second, True, format)

    def next(self) -> bytes | None:
        """The next block; None at the end."""
        try:
            return self._fetch()
        except RuntimeError as error:
            raise Failure.of(error) from None

    def rest(self, folder: Path) -> IO[bytes]:
        """All blocks that are left, for a client that wants the answer whole or not at all; a large one is in a file.

        The file has no name, and is gone with its reader.
        """
        kept: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(_IN_MEMORY, dir=str(folder))  # noqa: SIM115
        try:
            while (block := self._fetch()) is not None:
                kept.write(block)
            self.close()
            kept.seek(0)
        except RuntimeError as error:
            kept.close()
            raise Failure.of(error) from None
        except BaseException:
            kept.close()
            raise
        return cast(IO[bytes], kept)

    def _fetch(self) -> bytes | None:
        if self._stream is None:
            return None
        if self._abandoned.is_set():
            raise Failure(394, "Query was cancelled")
        block = self._connection.streaming_fetch_result(self._stream)
        if block is None or (block.rows_read() == 0 and block.size() == 0):
            self._stream = None
            return None
        self.summary.add(block)
        return bytes(block.bytes())

    def begin_insert(self, insert: Insert) -> None:
        """Starts an INSERT whose data follows by `append` and `finish`."""
        head = insert.statement.encode()
        try:
            connection = self._open()
            self._guard.check(connection, head + b" FORMAT " + insert.format.encode(), readonly=self.task.readonly)
            self._insert = connection.send_insert(head, insert.format)
        except RuntimeError as error:
            raise Failure.of(error) from None

    def append(self, data: bytes) -> None:
        try:
            self._connection.insert_append(self._insert, data)
        except RuntimeError as error:
            raise Failure.of(error) from None

    def finish(self) -> None:
        try:
            insert, self._insert = self._insert, None
            self.summary.add(self._connection.insert_done(insert))
            self.close()
        except RuntimeError as error:
            raise Failure.of(error) from None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def abandon(self) -> None:
        """The client is gone. The query itself is killed from another connection."""
        self._abandoned.set()

    def close(self) -> None:
        """Ends what is left of the statement and closes the connection. No other call may be running."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if self._stream is not None:
                connection.streaming_cancel_query(self._stream)
            if self._insert is not None:
                connection.insert_cancel(self._insert)
        except RuntimeError:
            pass  # it had ended by itself
        finally:
            self._stream = self._insert = None
            connection.close()

    def _open(self) -> Any:
        if self._abandoned.is_set():
            raise Failure(394, "Query was cancelled")
        task = self.task
        url, later = self._connections.start(task.database, task.settings, task.tag)
        self._connection = connection = self._connections.open(task.database, url)
        if later:
            listed = ", ".join(f"{name}={quote_string(value)}" for name, value in later.items())
            connection.query("SET " + listed, "Null")
        return connection


def _body_of(result: Any) -> tuple[bytes | memoryview, object]:
    """A copy of a large answer would hold the interpreter's lock: a few at once, and nothing else goes on, not even the
    heartbeat. So it is shown where the engine has it, and what has it is kept."""
    if result.size() < LARGE:
        return result.bytes(), None
    wrapper = result.get_memview()
    return wrapper.view(), (result, wrapper)
