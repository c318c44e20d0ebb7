"""What the terminal shows. Text that comes from files, rows or servers never moves the cursor and is never markup."""

from __future__ import annotations

import os
import sys
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipit.errors import DatafileError, PipitError, ProjectError

if TYPE_CHECKING:
    from pipit.datafiles.resources import Warning as ProjectWarning

out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
_READABLE = 10  # characters of a column
_BETWEEN = 3  # before, behind and between columns
_PIPED_WIDTH = 10_000  # a table that goes into a file or a program is not cut to any screen


def printable(text: str, *, keep: str = "\n\t") -> str:
    """Control characters replaced: they could rewrite what the reader sees."""
    return "".join(c if c.isprintable() or c in keep else "\ufffd" for c in text)


def line(console: Console, *parts: str | tuple[str, str]) -> None:
    """One line from texts and (text, style) pairs, never wrapped and never read as markup."""
    styled = ((part, "") if isinstance(part, str) else part for part in parts)
    console.print(Text.assemble(*((printable(text), style) for text, style in styled)))


def note(text: str) -> None:
    """Something about the work, not its result."""
    line(err, text)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """A moving sign while something slow goes on; nothing where nobody looks."""
    if not err.is_terminal:
        yield
        return
    with err.status(text):
        yield


def show_error(error: PipitError) -> None:
    """An error on standard error: all of a project's with their places, anything else as message and hint."""
    if isinstance(error, ProjectError):
        show_errors(error.errors)
        return
    if isinstance(error, DatafileError):
        show_errors([error])
        return
    line(err, ("Error: ", "bold red"), error.message)
    if error.hint:
        line(err, ("Hint:  ", "bold"), error.hint)


def show_errors(errors: Iterable[DatafileError], console: Console = err) -> None:
    """`file:line:column: message`, the lines around it, the hint; as an editor or a CI can read it."""
    for error in errors:
        line(console, (_place(error.file, error.line, error.column), "bold"), ("error: ", "bold red"), error.message)
        for excerpt in error.excerpt.splitlines():
            line(console, ("    " + excerpt, "dim"))
        if error.hint:
            line(console, ("    hint: ", "bold"), error.hint)


def show_warnings(warnings: Iterable[ProjectWarning], console: Console = err) -> None:
    """One for each kind, with the places of all of its kind."""
    kinds: dict[Hashable, list[ProjectWarning]] = {}
    for warning in warnings:
        kinds.setdefault(warning.kind or warning, []).append(warning)
    for first, *others in kinds.values():
        place = _place(first.file, first.line, first.column)
        line(console, (place, "bold"), ("warning: ", "bold yellow"), first.message)
        if others:
            places = dict.fromkeys(_place(w.file, w.line, w.column).rstrip(": ") for w in others)
            line(console, (f"    {len(others)} more: ", "bold"), ", ".join(places))
        if first.hint:
            line(console, ("    hint: ", "bold"), first.hint)


def show_table(table: Table) -> None:
    """A result of rows and columns, on standard output, as wide as the screen (or as COLUMNS says).

    What does not fit goes on in the next line and is never left out. Where the columns would be too narrow to read,
    each row is a list of its own: name and value.
    """
    table.box, table.show_edge = SIMPLE_HEAD, False
    for column in table.columns:
        column.overflow = "fold"
    width = out.width if out.is_terminal or os.environ.get("COLUMNS", "").isdecimal() else _PIPED_WIDTH
    console = out if out.is_terminal else Console(width=width, markup=False, emoji=False, highlight=False)
    if _least_width(table) <= width:
        console.print(table, soft_wrap=False)
        return
    names = [_plain(column.header) for column in table.columns]
    longest = max(map(len, names))
    for number, cells in enumerate(zip(*(column.cells for column in table.columns), strict=True), 1):
        line(out, (f"row {number}", "bold"))
        for name, cell in zip(names, cells, strict=True):
            line(out, (f"  {name:<{longest}}  ", "cyan"), _plain(cell))


def _least_width(table: Table) -> int:
    """Of a table whose columns can still be read; those that say `no_wrap`, whole."""
    least = 0
    for column in table.columns:
        width = max(cell_len(_plain(cell)) for cell in (column.header, *column.cells))
        least += _BETWEEN + (width if column.no_wrap else min(width, _READABLE))
    return least


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)


def count(number: int, noun: str) -> str:
    """`1 pipe`, `2 pipes`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def write_bytes(data: bytes) -> None:
    """Result bytes as they came."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _place(file: str, line: int, column: int) -> str:
    return f"{file}:{line}:{column}: " if line else f"{file}: "
