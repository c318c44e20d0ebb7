"""A file on its way to the disk, cut into pieces that end where a row does: each becomes one insert under one token.

Python looks for ends of rows and at nothing else. A line of CSV whose quotes do not close, or with something behind
them, cannot be given to the engine, which would read it together with the lines around it: it is set aside with its
number, and the piece has a blank line in its place. So is a line that is too long. Memory is bounded by one such line.
"""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from pipit.errors import BadRequest, Reason
from pipit.ingest import disk

PIECE_BYTES = 64 << 20
PIECE_ROWS = 1_000_000
MAX_ROW_BYTES = 16 << 20
_SHOWN_BYTES = 64 << 10  # of a line that is set aside
_MAX_SET_ASIDE = 1_000_000
_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
TOO_LONG = f"the line is longer than {MAX_ROW_BYTES:,} bytes"
BAD_QUOTES = "the quotes of the line do not close, or something stands between a closing quote and the next cell"


class FileSpan(msgspec.Struct, frozen=True):
    """One of several small files that are a piece together. `start`: how many lines of the piece stand before it.
    `first`: the number of its first line there, in the file itself.
    """

    file: str
    start: int
    first: int


class FilePiece(msgspec.Struct, frozen=True):
    """`rows`: how many it has (of Parquet the engine counts). `first`: the number of its first line, or row."""

    name: str
    first: int
    bytes: int
    rows: int = 0
    multiline: bool = False  # a cell of CSV may hold line ends
    lines: int = 0  # with its blank ones
    files: tuple[FileSpan, ...] = ()  # none: all of it is of the load's one file


class SetAside(msgspec.Struct, frozen=True):
    line: int
    reason: str
    text: str
    file: str = ""  # where it is one of several


@dataclass(slots=True)
class Cutter:
    """`feed` all that comes, then `finish`. Both block: call them in a thread. Raises OSError when the disk is full."""

    folder: Path
    csv: bool = False
    delimiter: str = ","
    pieces: list[FilePiece] = field(default_factory=list)
    set_aside: int = 0
    _carry: bytes = b""
    _line: int = 1  # number of the first line that is not in a piece yet
    _skipping: bool = False  # the rest of a line that is too long
    _file: BinaryIO | None = None
    _aside: BinaryIO | None = None
    _first: int = 1
    _bytes: int = 0
    _rows: int = 0
    _multiline: bool = False
    _patterns: tuple[re.Pattern[bytes], re.Pattern[bytes]] | None = None
    _syncing: list[Future[None]] = field(default_factory=list)
    _syncer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "pipit-sync"))

    def feed(self, data: bytes) -> None:
        if self._skipping:
            end = data.find(b"\n")
            if end < 0:
                return
            self._skipping, data = False, data[end:]  # the line end stands for the line
        self._take(self._carry + data if self._carry else data, last=False)

    def finish(self) -> None:
        if self._carry:
            self._take(self._carry + b"\n", last=True)
        self._close()
        if self._aside is not None:
            _end(self._aside)
        for syncing in self._syncing:
            syncing.result()
        self._syncer.shutdown()

    def give_up(self) -> None:
        """Whatever it was at; twice does no harm."""
        self._syncer.shutdown(cancel_futures=True)
        for file in (self._file, self._aside):
            if file is not None:
                with suppress(OSError):
                    file.close()

    def skip_first(self, head: bytes) -> bytes:
        """Without the line that names the cells."""
        end = self._record_end(head)
        self._line += head.count(b"\n", 0, end)
        return head[end:]

    def _record_end(self, data: bytes) -> int:
        found = _record(self.delimiter).match(data)
        return found.end() if found and found.end() else data.find(b"\n") + 1 or len(data)

    def _take(self, data: bytes, *, last: bool) -> None:
        if self.csv and b'"' in data:
            self._carry = self._take_quoted(data, last=last)
            return
        end = data.rfind(b"\n") + 1
        self._carry = data[end:]
        if len(self._carry) > MAX_ROW_BYTES:
            if end:
                self._write(data[:end])
            self._put_aside(self._line, TOO_LONG, self._carry)
            self._carry, self._skipping = b"", True
        elif end:
            self._write(data[:end] if end < len(data) else data)

    def _take_quoted(self, data: bytes, *, last: bool) -> bytes:
        """The rest, which may still become a whole row."""
        if self._patterns is None:
            self._patterns = _lines(self.delimiter), _record(self.delimiter)
        lines, record = self._patterns
        place = 0
        while place < len(data):
            found = lines.match(data, place)
            end = found.end() if found else place
            if end > place:
                self._write(data[place:end] if end - place < len(data) else data)
                place = end
                continue
            if found := record.match(data, place):  # over several lines
                self._write(data[place : found.end()], rows=1)
                place = found.end()
                continue
            if not last and len(data) - place <= MAX_ROW_BYTES:
                break
            end = data.find(b"\n", place) + 1
            self._put_aside(self._line, BAD_QUOTES, data[place : end or len(data)])
            if not end:
                self._skipping = True
                return b""
            self._write(b"\n")
            place = end
        return data[place:]

    def _write(self, data: bytes, *, rows: int = -1) -> None:
        """Whole rows: as many as lines, without blank ones, if it is not said how many."""
        lines = data.count(b"\n")
        # Nearly always each line begins with its object; only else there may be a blank one.
        if not self.csv and data.count(b"\n{") + data.startswith(b"{") != lines:
            data = b"\n".join([line.strip(_BLANK) for line in data.split(b"\n")])
        if self._file is None:
            self._file = (self.folder / self._name).open("wb")
            self._first = self._line
        self._file.write(data)
        self._bytes += len(data)
        self._line += lines
        self._multiline = self._multiline or rows >= 0
        self._rows += lines - _blank_lines(data) if rows < 0 else rows
        if self._bytes >= PIECE_BYTES or self._rows >= PIECE_ROWS:
            self._close()

    @property
    def _name(self) -> str:
        return f"{len(self.pieces):06d}"

    def _close(self) -> None:
        if self._file is None:
            return
        self._syncing.append(self._syncer.submit(_end, self._file))
        # Also one of blank lines alone: the next one needs another name.
        lines = self._line - self._first
        self.pieces.append(FilePiece(self._name, self._first, self._bytes, self._rows, self._multiline, lines))
        self._file, self._bytes, self._rows, self._multiline = None, 0, 0, False

    def _put_aside(self, line: int, reason: str, text: bytes) -> None:
        if self._aside is None:
            self._aside = (self.folder / ASIDE).open("wb")
        self.set_aside += 1
        if self.set_aside > _MAX_SET_ASIDE:
            raise BadRequest(
                f"More than {_MAX_SET_ASIDE:,} lines of the file cannot be taken apart",
                hint="Is it of the format that the request names?",
                reason=Reason.BODY_INVALID,
            )
        shown = text[:_SHOWN_BYTES].decode("utf-8", "replace").rstrip("\r\n")
        self._aside.write(msgspec.json.encode(SetAside(line, reason, shown)) + b"\n")


ASIDE = "aside.ndjson"


def _end(file: BinaryIO) -> None:
    with file:
        disk.sync(file)


def without_bom(data: bytes) -> bytes:
    return data.removeprefix(_BOM)


def _blank_lines(data: bytes) -> int:
    if data[:1] not in (b"\n", b"\r") and b"\n\n" not in data and b"\n\r\n" not in data:
        return 0
    return sum(1 for line in data.split(b"\n")[:-1] if not line.strip(b"\r"))


def _cell(delimiter: str, inside: bytes = rb'[^"]') -> bytes:
    d = re.escape(delimiter.encode())
    spaces = rb"[ ]*+" if delimiter == "\t" else rb"[ \t]*+"
    quoted = spaces + rb'"(?:' + inside + rb'++|"")*+"' + spaces + rb"\r?+"
    return rb"(?:" + quoted + rb"|(?!" + spaces + rb'")[^' + d + rb"\n]*+)"


def _record(delimiter: str) -> re.Pattern[bytes]:
    d = re.escape(delimiter.encode())
    return re.compile(rb"(?:" + _cell(delimiter) + d + rb")*+" + _cell(delimiter) + rb"\n")


def _lines(delimiter: str) -> re.Pattern[bytes]:
    """Records of one line each, as many as there are."""
    d, cell = re.escape(delimiter.encode()), _cell(delimiter, rb'[^"\n]')
    return re.compile(rb"(?:(?:" + cell + d + rb")*+" + cell + rb"\n)*+")
