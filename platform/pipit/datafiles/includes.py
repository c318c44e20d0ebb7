"""`INCLUDE file.incl key=value ...` (Classic): the file's text stands in the place of the line.

An INCLUDE starts its line, in the first column; it ends the block above it, as any directive does. Its file is one of
the project's `.incl` files: the path is looked for from the folder of the file that includes it, then from the
project's own, then in `includes/`. No path leads out of the project, because nothing is opened here: only the
project's files are there to be found. `$key` and `${key}` become the values that the line gives, and those that its
own file was included with; any other `$` stays. Depth, number and size are limited, for one resource and for a project.
"""

from __future__ import annotations

import posixpath
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipit.datafiles import values
from pipit.datafiles.layout import INCLUDED as SUFFIX
from pipit.datafiles.resources import SourcePart, Warning, WarningKind
from pipit.datafiles.source import MAX_FILE_CHARACTERS, ParseReport, plain_text
from pipit.errors import DatafileError, Reason

MAX_DEPTH = 10
MAX_INCLUDES = 100  # of one data source or pipe, those of its included files too
MAX_INCLUDED_CHARACTERS = 16_000_000  # of all resources of a project together

# A column or an alias may be called `include`, so a line that is not in capitals has to name a file.
_LINE = re.compile(r"^(?:INCLUDE(?=\s|$)|(?i:include)(?=[ \t]+['\"]?[^\s'\"]+\.incl\b)).*$", re.MULTILINE)
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE = re.compile(r"\$\$|\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_FORM = 'INCLUDE "includes/file.incl" "KEY=value"'


class Includes:
    """The files of a project that others may include, and how much of them may still be included."""

    def __init__(self, files: Mapping[str, str] | None = None) -> None:
        self._files = {name: text for name, text in (files or {}).items() if name.endswith(SUFFIX)}
        self._left = MAX_INCLUDED_CHARACTERS

    def report(self, file: str, text: str) -> ParseReport:
        """The resource's text with everything that it includes; what cannot be included is an error of it."""
        own = ParseReport(file, text)
        if not _LINE.search(own.text):
            return own
        assembly = _Assembly(self._files, min(MAX_FILE_CHARACTERS, self._left))
        assembly.add(own, {}, (file,))
        self._left -= assembly.included
        whole = ParseReport(file, "".join(assembly.pieces), assembly.parts)
        whole.errors, whole.warnings = assembly.errors, assembly.warnings
        return whole


@dataclass(frozen=True, slots=True)
class _Line:
    """An INCLUDE line: `at` is its offset, `path_at` that of the path."""

    at: int
    end: int
    path: str
    path_at: int
    given: Mapping[str, str]


class _Assembly:
    def __init__(self, files: Mapping[str, str], limit: int) -> None:
        self.pieces: list[str] = []
        self.parts: list[SourcePart] = []
        self.errors: list[DatafileError] = []
        self.warnings: list[Warning] = []
        self.included = 0
        self._files = files
        self._limit = limit
        self._length = self._size = self._count = 0

    def add(self, frame: ParseReport, given: Mapping[str, str], path: Sequence[str]) -> None:
        """The text of a frame: a file as it is included here. `path`: the files from the resource's own to this one."""
        written = 0
        for line in _lines(frame):
            self._take(frame, written, line.at)
            written = min(line.end + 1, len(frame.text))
            inner = self._inner(frame, line, given, path)
            if inner is not None:
                self.add(inner, {**given, **line.given}, (*path, inner.file))
        self._take(frame, written, len(frame.text))
        self.errors += frame.errors
        self.warnings += frame.warnings

    def _inner(
        self, frame: ParseReport, line: _Line, given: Mapping[str, str], path: Sequence[str]
    ) -> ParseReport | None:
        """The included file as a frame of its own, its values in their places; or None, and an error."""
        if not line.path:
            return None  # it is said already
        name = self._found(frame, line, path[-1])
        if name is None:
            return None
        if name in path:
            circle = " -> ".join([*path[path.index(name) :], name])
            frame.error(
                f"INCLUDE goes in a circle: {circle}",
                line.path_at,
                "Take one of them out.",
                reason=Reason.INCLUDE_INVALID,
            )
            return None
        self._count += 1
        if len(path) > MAX_DEPTH or self._count > MAX_INCLUDES:
            what = f"deeper than {MAX_DEPTH} files" if len(path) > MAX_DEPTH else f"more than {MAX_INCLUDES} files"
            frame.error(
                f"INCLUDE brings in {what}",
                line.path_at,
                "Copy the lines that are needed.",
                reason=Reason.INCLUDE_INVALID,
            )
            return None
        filled = {**given, **line.given}
        source = plain_text(self._files[name])
        size, unused = _measure(source, filled)
        for key in unused & line.given.keys():
            frame.warn(
                f"'{key}' is given, and {name} has no ${key}",
                line.at,
                "Check how it is spelled.",
                kind=WarningKind.UNUSED_INCLUDE_VALUE,
            )
        size = max(size, len(source))
        self._size += size
        if self._size > self._limit:
            frame.error(
                "INCLUDE makes the text too large",
                line.path_at,
                f"A file with all that it includes has at most {MAX_FILE_CHARACTERS:,} characters, "
                f"and all of a project's {MAX_INCLUDED_CHARACTERS:,}.",
                reason=Reason.INCLUDE_INVALID,
            )
            self._size -= size
            return None
        self.included += size
        text, parts = _filled(name, source, filled)
        return ParseReport(name, text, parts)

    def _found(self, frame: ParseReport, line: _Line, including: str) -> str | None:
        if not line.path.endswith(SUFFIX):
            frame.error(
                f"'{line.path}' is no {SUFFIX} file",
                line.path_at,
                f"Only {SUFFIX} files can be included.",
                reason=Reason.INCLUDE_INVALID,
            )
            return None
        looked = _candidates(line.path, including)
        for name in looked:
            if name in self._files:
                return name
        if not looked:
            frame.error(
                f"'{line.path}' is outside of the project",
                line.path_at,
                "Include a file of the project.",
                reason=Reason.INCLUDE_INVALID,
            )
            return None
        frame.error(
            f"The file '{line.path}' does not exist in the project",
            line.path_at,
            f"It was looked for at {', '.join(looked)}.",
            reason=Reason.INCLUDE_INVALID,
        )
        return None

    def _take(self, frame: ParseReport, start: int, end: int) -> None:
        """A piece of a frame, with where it was written."""
        if start >= end:
            return
        text = frame.text[start:end]
        self.parts += _cut(frame, start, end, self._length)
        if not text.endswith("\n"):
            text += "\n"
        self.pieces.append(text)
        self._length += len(text)


def _lines(frame: ParseReport) -> Iterator[_Line]:
    for found in _LINE.finditer(frame.text):
        word = len("INCLUDE")
        rest = values.without_comment(found[0][word:])
        words = values.words(rest)
        at, first = found.start(), found.start() + word
        path, path_at, given = "", at, dict[str, str]()
        if words is None:
            frame.error("The quote is not closed", at, _FORM)
        elif not words:
            frame.error("INCLUDE needs a file", at, _FORM, reason=Reason.INCLUDE_INVALID)
        else:
            path, path_at = words[0][0], first + words[0][1]
            for word_text, offset in words[1:]:
                key, equals, value = word_text.partition("=")
                if not equals or not _KEY.fullmatch(key):
                    frame.error(f"'{word_text}' is not KEY=value", first + offset, _FORM, reason=Reason.INCLUDE_INVALID)
                elif key in given:
                    frame.error(
                        f"'{key}' is given twice", first + offset, "Keep one of them.", reason=Reason.INCLUDE_INVALID
                    )
                else:
                    given[key] = value
        yield _Line(at, found.end(), path, path_at, given)


def _candidates(path: str, including: str) -> list[str]:
    """Where in the project the file may be, nearest first."""
    if path.startswith("/") or "\\" in path:
        return []
    inside = [part for part in posixpath.normpath(path).split("/") if part != ".."]
    ways = [
        posixpath.normpath(posixpath.join(posixpath.dirname(including), path)),
        posixpath.normpath(path),
        "/".join(inside) if inside[0] == "includes" else "/".join(["includes", *inside]),
    ]
    return list(dict.fromkeys(way for way in ways if way.split("/")[0] != ".."))


def _measure(source: str, given: Mapping[str, str]) -> tuple[int, set[str]]:
    """How long the text will be with its values, and the keys that it does not use."""
    size, unused = len(source) + 1, set(given)
    for found in _VARIABLE.finditer(source):
        key = found[1] or found[2]
        if key in given:
            size += len(given[key]) - len(found[0])
            unused.discard(key)
    return size, unused


def _filled(name: str, source: str, given: Mapping[str, str]) -> tuple[str, list[SourcePart]]:
    """The text with its values, and where each piece of it was written."""
    pieces: list[str] = []
    parts: list[SourcePart] = [SourcePart(0, name, source)]
    position = size = 0
    for found in _VARIABLE.finditer(source):
        key = found[1] or found[2]
        if key not in given:
            continue
        pieces += [source[position : found.start()], given[key]]
        size += found.start() - position
        parts.append(SourcePart(size, name, source, found.start(), fixed=True))
        size += len(given[key])
        position = found.end()
        parts.append(SourcePart(size, name, source, position))
    return "".join([*pieces, source[position:]]), parts


def _cut(frame: ParseReport, start: int, end: int, at: int) -> list[SourcePart]:
    """The parts of a frame's text between two offsets, for a text in which that piece stands at `at`."""
    parts = frame.parts or (SourcePart(0, frame.file, frame.text),)
    first = max(0, bisect_right([part.start for part in parts], start) - 1)
    found: list[SourcePart] = []
    for part in parts[first:]:
        if part.start >= end:
            break
        skipped = max(0, start - part.start)
        offset = part.offset if part.fixed else part.offset + skipped
        found.append(SourcePart(at + part.start + skipped - start, part.file, part.source, offset, part.fixed))
    return found
