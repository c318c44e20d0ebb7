"""How a CSV file is written: what separates its cells, and whether its first line names them."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pipit.errors import BadRequest, Reason

_DELIMITERS = (",", ";", "\t", "|")
_LINES = 20  # of which the delimiter is guessed
NAMES = ("dialect_delimiter", "dialect_new_line", "dialect_escapechar")


@dataclass(frozen=True, slots=True)
class Dialect:
    """`names`: of the cells, as the first line has them; empty where that is a row."""

    delimiter: str = ","
    names: tuple[str, ...] = ()
    width: int = 0  # cells of the first line


def asked(parameters: Mapping[str, str]) -> str:
    """The delimiter that the request names, or none. Raises BadRequest for what is not supported."""
    delimiter = _character(parameters.get("dialect_delimiter", ""))
    if delimiter and (len(delimiter.encode()) != 1 or delimiter in '"\r\n\0' or delimiter.isalnum()):
        raise _refused(
            "dialect_delimiter", "is one character that separates cells", "dialect_delimiter=; for instance."
        )
    if _character(parameters.get("dialect_new_line", "")) not in ("", "\n", "\r\n"):
        raise _refused("dialect_new_line", "is \\n or \\r\\n", "Both are read without it.")
    if parameters.get("dialect_escapechar", "") not in ("", '"'):
        raise _refused(
            "dialect_escapechar", 'can only be "', 'Write a quote inside of quotes as "", as RFC 4180 has it.'
        )
    return delimiter


def detected(head: bytes, columns: Collection[str], delimiter: str) -> Dialect:
    """`head`: the beginning of the file, whole lines of it where there is one. `delimiter`: the one that was asked for.

    The first line names the cells where at least half of its cells are names of columns. `columns`: in their order.
    """
    text = head.decode("utf-8", "replace")
    chosen = delimiter or _guessed(text, columns)
    first = next((row for row in _rows(text, chosen) if row), [])
    known = {name.lower(): name for name in columns}
    names = [cell if cell in columns else known.get(cell.lower(), cell) for cell in (c.strip() for c in first)]
    matching = [name for name in names if name in columns]
    is_header = bool(matching) and len(set(matching)) == len(matching) and 2 * len(matching) >= len(names)
    return Dialect(chosen, _in_place(names, columns) if is_header else (), len(first))


def _in_place(names: Sequence[str], columns: Collection[str]) -> tuple[str, ...]:
    """A header that is the columns in their order, some of them under other names, names these."""
    same = [name for name, column in zip(names, columns, strict=False) if name == column]
    others = [name for name in names if name not in columns]
    return tuple(columns if len(names) == len(columns) == len(same) + len(others) else names)


def _guessed(text: str, columns: Collection[str]) -> str:
    """The one that cuts most lines into the same number of cells, more than one; first of all, the columns' number."""

    def fitness(delimiter: str) -> tuple[int, int, int]:
        widths = [len(row) for row in _rows(text, delimiter) if row][:_LINES]
        first = widths[0] if widths else 0
        alike = sum(width == first for width in widths)
        return (first > 1, first == len(columns), alike * 100 // max(len(widths), 1)) if first else (0, 0, 0)

    return max(_DELIMITERS, key=fitness)


def _rows(text: str, delimiter: str) -> Sequence[list[str]]:
    found: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            found.append(row)
            if len(found) > _LINES:
                break
    except csv.Error:  # a line that is too long, or holds NUL: what came before it tells enough
        pass
    return found


def _character(text: str) -> str:
    return text.replace("\\t", "\t").replace("\\n", "\n").replace("\\r", "\r")


def _refused(name: str, what: str, hint: str) -> BadRequest:
    return BadRequest(f"The parameter '{name}' {what}", hint=hint, reason=Reason.PARAMETER_INVALID, subject=name)
