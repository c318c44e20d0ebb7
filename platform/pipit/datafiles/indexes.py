"""INDEXES: one data-skipping index a line, `[INDEX] name expr TYPE type_full [GRANULARITY n]`."""

from __future__ import annotations

import re

from pipit.datafiles import values
from pipit.datafiles.resources import Index
from pipit.datafiles.source import ParseReport
from pipit.errors import Reason

SUPPORTED = ("minmax", "set", "bloom_filter", "ngrambf_v1", "tokenbf_v1", "text")
_FORM = "name expression TYPE minmax GRANULARITY 1"
_NAME = re.compile(r"(?:INDEX\s+)?(?:`([^`\n]+)`|([A-Za-z_][A-Za-z0-9_]*))\s+", re.IGNORECASE)
_TYPE = re.compile(r"([a-z_0-9]+)\s*(\(.*\))?", re.IGNORECASE)


def read_indexes(report: ParseReport, start: int, end: int) -> tuple[Index, ...]:
    """The indexes in `report.text[start:end]`; a line that is none is an error, and the others are read."""
    found: dict[str, Index] = {}
    line = report.line_at(start)
    while not report.full and line <= report.lines and report.line_start(line) < end:
        at = max(start, report.line_start(line))
        row = report.text[at : min(end, report.line_end(line))]
        at += len(row) - len(row.lstrip())
        row = row.split("--", 1)[0].strip().removesuffix(",").rstrip()
        line += 1
        if not row or row.startswith("#"):
            continue
        index = _index(report, row, at)
        if index is None:
            continue
        if index.name in found:
            report.error(f"Duplicate index '{index.name}'", at, reason=Reason.NAME_TAKEN)
        found.setdefault(index.name, index)
    return tuple(found.values())


def _index(report: ParseReport, row: str, at: int) -> Index | None:
    name = _NAME.match(row)
    words = _top_level_words(row)
    types = [start for word, start in words if word == "TYPE" and name and start > name.end()]
    if name is None or not types:
        report.error("An index is written as name, expression and TYPE", at, _FORM)
        return None
    expression = row[name.end() : types[0]].strip()
    rest = row[types[0] + 4 :].strip()
    granularity: int | None = None
    for word, start in words:
        if word == "GRANULARITY" and start > types[0]:
            number = row[start + 11 :].strip()
            if not (number.isascii() and number.isdigit() and 0 < int(number[:10]) < 1_000_000 and len(number) < 8):
                report.error("GRANULARITY needs a positive number", at + start, _FORM, reason=Reason.DIRECTIVE_INVALID)
                return None
            granularity = int(number)
            rest = row[types[0] + 4 : start].strip()
            break
    match = _TYPE.fullmatch(rest)
    if match is None or match[1].lower() not in SUPPORTED:
        known = ", ".join(SUPPORTED)
        report.error(
            f"Index type '{rest}' is not supported, supported types include: {known}",
            at + types[0],
            _FORM,
            reason=Reason.TYPE_UNSUPPORTED,
        )
        return None
    return Index(name[1] or name[2], values.one_line(expression), values.one_line(rest), granularity)


def _top_level_words(row: str) -> list[tuple[str, int]]:
    """TYPE and GRANULARITY, in capitals, where they stand outside of quotes and brackets."""
    found: list[tuple[str, int]] = []
    depth = i = 0
    while i < len(row):
        char = row[i]
        if char in "'`\"":
            end = values.skip_quoted(row, i)
            if end < 0:
                break
            i = end
            continue
        if char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif depth <= 0 and (char.isalpha() or char == "_"):
            start = i
            while i < len(row) and (row[i].isalnum() or row[i] == "_"):
                i += 1
            if row[start:i].upper() in ("TYPE", "GRANULARITY"):
                found.append((row[start:i].upper(), start))
            continue
        i += 1
    return found
