"""The text of one resource, where things stand in it, and what was found wrong with it.

A `ParseReport` collects: it never raises while a file is read, so that one run tells all errors. Every error carries
`file:line:column`, a short numbered excerpt with a caret, and, where we know one, a hint. Offsets are Python string
offsets into `text`, which has no byte order mark and only `\\n` as line end; lines and columns count from 1.

A text may be put together of several files (`includes`). Offsets and `lines` are those of the whole; a `Position`, and
so every error, names the file in which the place was written, and its line there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from pipit.datafiles.resources import Position, SourcePart, Warning, WarningKind
from pipit.errors import DatafileError, Reason

MAX_FILE_CHARACTERS = 1_000_000  # the largest real file we know is a hundredth of this
MAX_ERRORS_PER_FILE = 100  # past this a file is not a datafile, and nobody reads on
_BEFORE, _AFTER, _WIDTH = 2, 1, 100


def plain_text(text: str) -> str:
    """A file's text as offsets count in it."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


class Lines:
    """Where the lines of a text begin and end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0]
        found = text.find("\n")
        while found >= 0:
            self._starts.append(found + 1)
            found = text.find("\n", found + 1)

    @property
    def count(self) -> int:
        return len(self._starts)

    def start(self, line: int) -> int:
        return self._starts[line - 1]

    def end(self, line: int) -> int:
        """The offset after the last character of the line, its line end not counted."""
        return self._starts[line] - 1 if line < len(self._starts) else len(self.text)

    def at(self, offset: int) -> int:
        return bisect_right(self._starts, min(max(offset, 0), len(self.text)))

    def excerpt(self, line: int, column: int) -> str:
        """The lines around a place, numbered, with a caret under it. Long lines are cut around the caret."""
        first, last = max(1, line - _BEFORE), min(self.count, line + _AFTER)
        margin = len(str(last))
        left = max(0, column - 1 - _WIDTH * 2 // 3)
        shown: list[str] = []
        for number in range(first, last + 1):
            start = min(self.start(number) + left, self.end(number))
            content = self.text[start : min(start + _WIDTH, self.end(number))]
            shown.append(f"{number:>{margin}} | {_printable(content)}".rstrip())
            if number == line:
                before = _printable(self.text[start : self.start(number) + column - 1])
                pad = "".join("\t" if c == "\t" else " " for c in before)
                shown.append(f"{'':>{margin}} | {pad}^")
        return "\n".join(shown)


class ParseReport:
    """One resource's text while it is parsed, and the errors and warnings so far."""

    def __init__(self, file: str, text: str, parts: Sequence[SourcePart] = ()) -> None:
        """`parts`: where the pieces of the text were written, in order; none: all of it in `file`."""
        self.file = file
        self.text = plain_text(text)
        self.parts = tuple(parts)
        self.errors: list[DatafileError] = []
        self.warnings: list[Warning] = []
        self._lines = Lines(self.text)
        self._starts = [part.start for part in self.parts]
        self._written = {} if self.parts else {file: self._lines}
        for part in self.parts:
            if part.file not in self._written:
                self._written[part.file] = Lines(part.source)

    @property
    def full(self) -> bool:
        """Whether there are so many errors already that reading on serves nobody."""
        return len(self.errors) >= MAX_ERRORS_PER_FILE

    @property
    def lines(self) -> int:
        return self._lines.count

    def line_start(self, line: int) -> int:
        return self._lines.start(line)

    def line_end(self, line: int) -> int:
        """The offset after the last character of the line, its line end not counted."""
        return self._lines.end(line)

    def line_at(self, offset: int) -> int:
        """The line of the whole text that the offset is in."""
        return self._lines.at(offset)

    def position(self, offset: int) -> Position:
        """Where it was written."""
        offset = min(max(offset, 0), len(self.text))
        file = self.file
        if self.parts:
            part = self.parts[max(0, bisect_right(self._starts, offset) - 1)]
            file = part.file
            offset = part.offset + (0 if part.fixed else offset - part.start)
        lines = self._written[file]
        line = lines.at(offset)
        return Position(line, offset - lines.start(line) + 1, "" if file == self.file else file)

    def offset(self, place: Position) -> int:
        """Where a position is in the whole text; of a file that is included twice, the first time."""
        file = place.file or self.file
        if file not in self._written or not 0 < place.line <= self._written[file].count:
            return 0
        offset = self._written[file].start(place.line) + place.column - 1
        if not self.parts:
            return offset
        for part, end in zip(self.parts, [*self._starts[1:], len(self.text) + 1], strict=True):
            length = 1 if part.fixed else end - part.start
            if part.file == file and 0 <= offset - part.offset < length:
                return part.start + offset - part.offset
        return 0

    def excerpt(self, at: Position) -> str:
        return self._written[at.file or self.file].excerpt(at.line, at.column)

    def error(
        self,
        message: str,
        at: int | None = None,
        hint: str = "",
        *,
        reason: Reason = Reason.DATAFILE_INVALID,
        subject: str = "",
    ) -> None:
        """Notes an error at an offset, or about the file as a whole."""
        if self.full:
            return
        if at is None:
            self.errors.append(DatafileError(message, file=self.file, hint=hint, reason=reason, subject=subject))
            return
        place = self.position(at)
        self.errors.append(
            DatafileError(
                message,
                file=place.file or self.file,
                line=place.line,
                column=place.column,
                hint=hint,
                excerpt=self.excerpt(place),
                reason=reason,
                subject=subject,
            )
        )

    def warn(
        self, message: str, at: int | None = None, hint: str = "", *, kind: WarningKind, subject: str = ""
    ) -> None:
        if len(self.warnings) >= MAX_ERRORS_PER_FILE:
            return
        place = Position() if at is None else self.position(at)
        self.warnings.append(
            Warning(place.file or self.file, message, place.line, place.column, hint, kind, subject)
        )


def _printable(text: str) -> str:
    """Control characters would move the cursor of a terminal; a tab stays, the caret's line has it too."""
    return "".join(c if c == "\t" or c.isprintable() else "\ufffd" for c in text)
