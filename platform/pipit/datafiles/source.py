"""The text of one file, where things stand in it, and what was found wrong with it.

A `Report` collects: it never raises while a file is read, so that one run tells all errors. Every error carries
`file:line:column`, a short numbered excerpt with a caret, and, where we know one, a hint. Offsets are Python string
offsets into `text`, which has no byte order mark and only `\\n` as line end; lines and columns count from 1.
"""

from __future__ import annotations

from bisect import bisect_right

from pipit.datafiles.resources import Position, Warning
from pipit.errors import DatafileError

MAX_FILE_CHARACTERS = 1_000_000  # the largest real file we know is a hundredth of this
MAX_ERRORS_PER_FILE = 100  # past this a file is not a datafile, and nobody reads on
_BEFORE, _AFTER, _WIDTH = 2, 1, 100


class Report:
    """One file while it is parsed: its text, and the errors and warnings so far."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text.removeprefix("\ufeff").replace("\r\n", "\n")
        self.errors: list[DatafileError] = []
        self.warnings: list[Warning] = []
        self._starts = [0]
        found = self.text.find("\n")
        while found >= 0:
            self._starts.append(found + 1)
            found = self.text.find("\n", found + 1)

    @property
    def full(self) -> bool:
        """Whether there are so many errors already that reading on serves nobody."""
        return len(self.errors) >= MAX_ERRORS_PER_FILE

    @property
    def lines(self) -> int:
        return len(self._starts)

    def line_start(self, line: int) -> int:
        return self._starts[line - 1]

    def line_end(self, line: int) -> int:
        """The offset after the last character of the line, its line end not counted."""
        return self._starts[line] - 1 if line < len(self._starts) else len(self.text)

    def position(self, offset: int) -> Position:
        offset = min(max(offset, 0), len(self.text))
        line = bisect_right(self._starts, offset)
        return Position(line, offset - self._starts[line - 1] + 1)

    def excerpt(self, at: Position) -> str:
        """The lines around a place, numbered, with a caret under it. Long lines are cut around the caret."""
        first, last = max(1, at.line - _BEFORE), min(self.lines, at.line + _AFTER)
        margin = len(str(last))
        left = max(0, at.column - 1 - _WIDTH * 2 // 3)
        shown: list[str] = []
        for number in range(first, last + 1):
            start = min(self.line_start(number) + left, self.line_end(number))
            content = self.text[start : min(start + _WIDTH, self.line_end(number))]
            shown.append(f"{number:>{margin}} | {_printable(content)}".rstrip())
            if number == at.line:
                before = _printable(self.text[start : self.line_start(number) + at.column - 1])
                pad = "".join("\t" if c == "\t" else " " for c in before)
                shown.append(f"{'':>{margin}} | {pad}^")
        return "\n".join(shown)

    def error(self, message: str, at: int | None = None, hint: str = "") -> None:
        """Notes an error at an offset, or about the file as a whole."""
        if self.full:
            return
        if at is None:
            self.errors.append(DatafileError(message, file=self.file, hint=hint))
            return
        place = self.position(at)
        self.errors.append(
            DatafileError(
                message,
                file=self.file,
                line=place.line,
                column=place.column,
                hint=hint,
                excerpt=self.excerpt(place),
            )
        )

    def warn(self, message: str, at: int | None = None, hint: str = "") -> None:
        if len(self.warnings) >= MAX_ERRORS_PER_FILE:
            return
        place = Position() if at is None else self.position(at)
        self.warnings.append(Warning(self.file, message, place.line, place.column, hint))


def _printable(text: str) -> str:
    """Control characters would move the cursor of a terminal; a tab stays, the caret's line has it too."""
    return "".join(c if c == "\t" or c.isprintable() else "\ufffd" for c in text)
