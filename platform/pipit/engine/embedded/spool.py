"""Data of a request that embedded chDB can read only from a file: `input()` and external tables.

The bytes are written to a file, which is deleted after the request. The reference to them in the statement becomes
`file(...)`, with the format and the structure that the client gave. Nothing else of the statement changes.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from pipit.engine.embedded.failure import Failure
from pipit.engine.embedded.statement import call_span, first_word
from pipit.sql.literals import quote_string

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class Spool:
    def __init__(self, folder: Path) -> None:
        """Deletes the files of earlier processes."""
        folder.mkdir(exist_ok=True)
        for left in folder.iterdir():
            left.unlink()
        self.folder = folder

    @asynccontextmanager
    async def keep(self, first: bytes, more: Callable[[], Awaitable[bytes]]) -> AsyncIterator[Path]:
        """Writes `first` and all that `more` returns to a file, and deletes it afterwards."""
        path = self.folder / uuid.uuid4().hex
        try:
            with path.open("wb") as file:  # a page cache's work: not worth a thread for each chunk
                file.write(first)
                while chunk := await more():
                    file.write(chunk)
            yield path
        finally:
            path.unlink(missing_ok=True)


def read_input_from(statement: bytes, path: Path, format: str) -> bytes:
    """`... FROM input('a Int8')` -> `... FROM file('path', 'format', 'a Int8')`."""
    span = call_span(statement, b"input")
    if span is None:
        raise Failure(48, "INSERT ... SELECT takes data only where it reads from input()")
    start, opened = span
    head = f"file({quote_string(str(path))}, {quote_string(format)}, ".encode()
    return statement[:start] + head + statement[opened:]


def with_table(statement: bytes, name: str, path: Path, format: str, structure: str) -> bytes:
    """`SELECT ... FROM name` with `name` as a common table expression over the file."""
    if not _NAME.match(name):
        raise Failure(36, "The name of an external table must be an identifier")
    source = f"file({quote_string(str(path))}, {quote_string(format)}, {quote_string(structure)})"
    expression = f"{name} AS (SELECT * FROM {source})".encode()
    word = first_word(statement)
    if word == b"select":
        return b"WITH " + expression + b" " + statement
    if word == b"with":
        at = statement.lower().index(b"with") + len(b"with")
        return statement[:at] + b" " + expression + b"," + statement[at:]
    raise Failure(48, "External tables are for SELECT")
