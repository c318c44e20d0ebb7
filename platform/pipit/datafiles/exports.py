"""EXPORT_FILE_TEMPLATE: a file's name with places for values.

`{col}` is a column's value, `{col, '%Y-%m-%d'}` a date in a form, `{8}` a number from 1 to 8: rows are dealt out to so
many files. What stands between is text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

_PLACE = re.compile(r"\{([^{}]*)\}")
_FORMATTED = re.compile(r"\s*([^,'\"]+?)\s*,\s*(?:'([^']*)'|\"([^\"]*)\")\s*\Z")
MOST_PARTS = 1000
COMPRESSIONS = {
    "csv": ("none", "gz"),
    "ndjson": ("none", "gz"),
    "parquet": ("none", "snappy", "gz", "lz4", "zstd", "brotli"),
}
_MAX_LENGTH = 500


class BadTemplate(ValueError):
    """The text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Part:
    """Text, or a place: a column, perhaps with a form for its date, or a number of files."""

    text: str = ""
    column: str = ""
    form: str = ""
    files: int = 0


def parse_template(template: str) -> tuple[Part, ...]:
    """Raises BadTemplate."""
    if len(template) > _MAX_LENGTH:
        raise BadTemplate(f"it is longer than {_MAX_LENGTH} characters")
    found: list[Part] = []
    place = 0
    for match in _PLACE.finditer(template):
        found += _text(template[place : match.start()])
        found.append(_part(match[1]))
        place = match.end()
    found += _text(template[place:])
    if any(not one.text and not two.text for one, two in pairwise(found)):
        raise BadTemplate("two places stand side by side: text between them tells their values apart")
    return tuple(found)


def _text(text: str) -> list[Part]:
    if "{" in text or "}" in text:
        raise BadTemplate("a brace is not closed")
    if any(level in (".", "..") for level in text.split("/")) or any(ord(c) < 32 for c in text):
        raise BadTemplate("a level of it is '.' or '..', or it has control characters")
    return [Part(text=text)] if text else []


def _part(inside: str) -> Part:
    formatted = _FORMATTED.match(inside)
    if formatted:
        return Part(column=formatted[1], form=formatted[2] or formatted[3] or "")
    name = inside.strip()
    if not name:
        raise BadTemplate("a place is empty: {column}, {column, '%Y-%m-%d'} or {8}")
    if name.isascii() and name.isdigit():
        if not 1 <= int(name) <= MOST_PARTS:
            raise BadTemplate(f"{{{name}}} is no number of files from 1 to {MOST_PARTS}")
        return Part(files=int(name))
    if "," in name:
        raise BadTemplate(f"'{{{inside}}}' is neither a column nor {{column, '%Y-%m-%d'}}")
    return Part(column=name)
