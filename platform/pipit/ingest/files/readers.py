"""SQL that reads one piece of a file, by format: NDJSON as events are read, CSV and Parquet by columns.

The engine parses, and nothing is cut in silence: a row that does not fit is a bad one, whatever stands beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pipit.datafiles.resources import Column
from pipit.ingest import jsonpath, parse
from pipit.ingest.defaults import CheckedDefault
from pipit.ingest.field import LINE, ROW, Field, FixedValue
from pipit.ingest.files.cells import missing_cell, text_cell, typed_cell
from pipit.ingest.files.cut import FilePiece
from pipit.ingest.jsonpath import JsonPath
from pipit.ingest.parse import BAD, NUMBER, Reader
from pipit.ingest.types import parse as type_of
from pipit.ingest.types import strip
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string
from pipit.tables.quarantine import PLACE_COLUMNS, QUARANTINE_COLUMNS

_LINES = "_pipit_lines"  # line ends inside of the cells of all rows before
_INVALID = "_pipit_invalid"


@dataclass(frozen=True, slots=True)
class FileReader(Reader):
    """SQL over the marker `{source}`, a piece of a file. Statements that number rows are read with one thread."""

    kept: str = ""  # a condition over the typed row: others are left out, and counted

    @property
    def invalid(self) -> str:
        """Whether a row cannot be taken apart."""
        return f"NOT ({self._whole})"

    @property
    def place(self) -> str:
        """How many lines stand before a row, in its piece."""
        return NUMBER

    def wanted(self, *, strict: bool, without: Collection[int] = ()) -> str:
        """The rows for the table. `strict`: a bad row raises. `without`: the numbers of those that are left out."""
        select = self.good_rows(strict=strict)
        if without:
            listed = ", ".join(map(str, sorted(without)))
            select = f"SELECT {self.names} FROM ({self.numbered_rows()}) WHERE {NUMBER} NOT IN ({listed})"
        return f"SELECT {self.names} FROM ({select}) WHERE {self.kept}" if self.kept else select

    def numbered_rows(self) -> str:
        checked = f"{self._with()}SELECT {self._values}, {self._bad_or_raise} AS {BAD}, {NUMBER} "
        return f"SELECT {self.names}, {NUMBER} FROM ({checked}FROM {self._rows(numbered=True)}) WHERE NOT {BAD}"

    def tally(self) -> str:
        """All rows, the bad ones, and those of them that cannot be taken apart."""
        checked = f"{self._with()}SELECT {self.bad} AS {BAD}, {self.invalid} AS {_INVALID} FROM {self._rows()}"
        return f"SELECT count() AS total, countIf({BAD}) AS bad, countIf({_INVALID}) AS invalid FROM ({checked})"

    def left_out(self) -> str:
        """The good rows that are not wanted."""
        good = self.good_rows(strict=False)
        return f"SELECT count() AS n FROM (SELECT {self.names} FROM ({good}) WHERE NOT ({self.kept}))"

    def quarantined(
        self, import_id: str, file: str, piece: FilePiece, refused: Mapping[int, str] | None = None
    ) -> str:
        """The bad rows with their place. `refused`: instead of them, those of these numbers, with a reason for each."""
        condition = self.bad
        values = {}
        if refused is not None:
            condition = f"{NUMBER} IN ({', '.join(map(str, refused))})"
            # A value of a client's may stand in a reason: it must not pass for the marker of the source.
            texts = ", ".join(quote_string(text.replace("{", "(").replace("}", ")")) for text in refused.values())
            reason = f"transform({NUMBER}, [{', '.join(map(str, refused))}], [{texts}], '')"
            values = {"c__error_column": "['']", "c__error": f"[{reason}]"}
        rows = self._shown_rows(import_id, condition, numbered=True)
        names = [*(quote(f.column.name) for f in self.shown), *QUARANTINE_COLUMNS]
        listed = [f"{values[name]} AS {name}" if name in values else name for name in names]
        return f"SELECT {', '.join(listed)}, {self._where(file, piece)} FROM ({rows})"

    def _where(self, file: str, piece: FilePiece) -> str:
        """The file and the line of a row."""
        if not piece.files:
            return f"{literal(file)} AS c__file, {piece.first} + {self.place} AS c__line"
        starts = ", ".join(str(span.start) for span in piece.files)
        number = f"arrayLastIndex(_pipit_start -> _pipit_start <= {self.place}, [{starts}])"
        names = ", ".join(literal(span.file) for span in piece.files)
        before = ", ".join(f"toInt64({span.first - span.start})" for span in piece.files)
        return f"[{names}][{number}] AS c__file, {self.place} + [{before}][{number}] AS c__line"

    @property
    def quarantine_columns(self) -> str:
        names = [*(f.column.name for f in self.shown), *QUARANTINE_COLUMNS, *(name for name, _ in PLACE_COLUMNS)]
        return ", ".join(map(quote, names))


@dataclass(frozen=True, slots=True)
class LineReader(FileReader):
    """NDJSON: each line as a line of events is read. Blank lines are no rows."""

    def _lines(self, *, numbered: bool) -> str:
        row = f", JSONExtract({LINE}, {quote_string(self.row_type)}) AS {ROW}" if self.row_type else ""
        number = f", {NUMBER}" if numbered else ""
        counted = f"(SELECT {LINE}, rowNumberInAllBlocks() AS {NUMBER} FROM {{source}})" if numbered else "{source}"
        return f"(SELECT {LINE}{row}{number} FROM {counted} WHERE {LINE} != '')"


@dataclass(frozen=True, slots=True)
class CellReader(FileReader):
    """A file of columns. `cells`: name and expression of each that is read. `width`: how many cells a line of CSV has;
    one more is read, to see whether a line has more. 0: rows of Parquet, all of one width.
    """

    cells: tuple[tuple[str, str], ...] = ()
    width: int = 0
    delimiter: str = ","
    multiline: bool = False  # a cell may hold line ends

    @property
    def bad(self) -> str:
        checks = [f"({f.bad})" for f in self.fields if f.bad != "false"]
        checks += [f"({self.invalid})"] if self.width else []
        checks += [] if self.raises else [parse.unfit(d) for d in self.defaults]
        return " OR ".join(checks) or "false"

    @property
    def invalid(self) -> str:
        return f"isNull({_cell(self.width - 1)}) OR isNotNull({_cell(self.width)})" if self.width else "false"

    @property
    def place(self) -> str:
        return f"{NUMBER} + {_LINES}" if self.multiline else NUMBER

    @property
    def _whole(self) -> str:
        return f"NOT ({self.invalid})"

    @property
    def _broken(self) -> str:
        found = f"if(isNotNull({_cell(self.width)}), 'more', toString({self._count}))" if self.width else "''"
        return f"[('', concat('the line has ', {found}, {quote_string(f' cells and not {self.width}')}))]"

    @property
    def _count(self) -> str:
        return f"length(arrayFilter(_pipit_i -> isNotNull(_pipit_i), [{', '.join(map(_cell, range(self.width)))}]))"

    @property
    def _record(self) -> str:
        if not self.width:
            return "CAST(NULL, 'Nullable(String)')"
        given = f"arrayFilter(_pipit_i -> isNotNull(_pipit_i), [{', '.join(map(_cell, range(self.width + 1)))}])"
        return f"arrayStringConcat({given}, {quote_string(self.delimiter)})"

    @property
    def _number(self) -> str:
        return f"{NUMBER}, {_LINES}" if self.multiline else NUMBER

    @property
    def _read(self) -> str:
        return ", ".join(name for name, _ in self.cells) or "_pipit_none"

    def _shape_guards(self) -> list[str]:
        return []

    def _shape_reasons(self) -> list[tuple[str, str]]:
        return []

    def _lines(self, *, numbered: bool) -> str:
        listed = [f"{expression} AS {name}" for name, expression in self.cells] or ["1 AS _pipit_none"]
        more = []
        if numbered:
            more.append(f"rowNumberInAllBlocks() AS {NUMBER}")
            if self.multiline:
                ends = " + ".join(f"countSubstrings(ifNull({_cell(n)}, ''), '\\n')" for n in range(self.width))
                before = "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
                more.append(f"sum({ends}) OVER (ORDER BY {NUMBER} {before}) AS {_LINES}")
        blank = f" WHERE isNotNull({_cell(0)})" if self.width else ""  # a blank line is no row
        if not numbered:
            return f"(SELECT {', '.join(listed)} FROM {{source}}{blank})"
        all_rows = f"(SELECT {', '.join([*listed, *more])} FROM {{source}})"
        return f"(SELECT {self._read}, {self._number} FROM {all_rows}{blank})"


def literal(file: str) -> str:
    """As a literal. It is a client's text: it must not pass for the marker of the source."""
    return quote_string(file).replace("{", "\\x7b")


def line_reader(
    columns: Sequence[Column], fixed: Mapping[str, FixedValue], defaults: Sequence[CheckedDefault], kept: str
) -> LineReader:
    found = parse.reader(columns, fixed, "", defaults)
    return LineReader(**_parts(found), kept=kept)


def csv_reader(
    columns: Sequence[Column],
    fixed: Mapping[str, FixedValue],
    defaults: Sequence[CheckedDefault],
    kept: str,
    *,
    names: Sequence[str],
    delimiter: str,
    multiline: bool,
) -> CellReader:
    """`names`: the column that each cell of a line is for; what is no column is read over."""
    places = {name: n for n, name in reversed(list(enumerate(names)))}
    found = [*parse.fixed_fields(columns, fixed)]
    for column in _readable(columns, fixed):
        if column.name in places:
            found.append(text_cell(column, _cell(places[column.name]), empty=True))
        elif column.default is None and not strip(type_of(column.type))[1]:
            found.append(missing_cell(column))
    reader = parse.assembled(found, columns, fixed, defaults)
    # All cells, also those that are read over: what is wrong with a line is told by them.
    cells = tuple((_cell(n), _raw(n)) for n in range(len(names) + 1))
    return CellReader(
        **_parts(reader), kept=kept, cells=cells, width=len(names), delimiter=delimiter, multiline=multiline
    )


def csv_structure(width: int) -> str:
    return ", ".join(f"{_raw(n)} Nullable(String)" for n in range(width + 1))


def parquet_reader(
    columns: Sequence[Column],
    fixed: Mapping[str, FixedValue],
    defaults: Sequence[CheckedDefault],
    kept: str,
    *,
    types: Mapping[str, str],
) -> tuple[CellReader, str]:
    """And the structure of what is read of the file. `types`: of the file's columns, as the engine names them."""
    has_paths = any(c.jsonpath for c in columns)
    found: list[Field] = [*parse.fixed_fields(columns, fixed)]
    cells: list[tuple[str, str]] = []
    read: dict[str, str] = {}
    for column in _readable(columns, fixed):
        path = jsonpath.parse(column.jsonpath) if has_paths and column.jsonpath else None
        place = _at(path, types) if path else None
        if place is None and column.name in types:
            place = quote(column.name), types[column.name], column.name
        if place is None:
            if column.default is None and not strip(type_of(column.type))[1]:
                found.append(missing_cell(column))
            continue
        expression, type, root = place
        name = _cell(len(cells))
        cells.append((name, expression))
        read[root] = types[root]
        found.append(typed_cell(column, name, type))
    if not read and types:  # a file has its rows, whether a column is read of it or not
        root = next(iter(types))
        read[root] = types[root]
    reader = parse.assembled(found, columns, fixed, defaults)
    structure = ", ".join(f"{quote(name)} {type}" for name, type in read.items())
    return CellReader(**_parts(reader), kept=kept, cells=tuple(cells)), structure


def _readable(columns: Sequence[Column], fixed: Mapping[str, FixedValue]) -> list[Column]:
    return [c for c in columns if c.type and c.name not in fixed]


def _at(path: JsonPath, types: Mapping[str, str]) -> tuple[str, str, str] | None:
    """What a JSON path leads to in a row of Parquet: expression, type and column; None where the file has no such."""
    steps = list(path.outer)
    if not steps or not isinstance(steps[0], str) or steps[0] not in types:
        return None
    root = str(steps.pop(0))
    expression, type = quote(root), types[root]
    for step in (*steps, *path.inner):
        shape = type_of(type)
        if shape.name == "Nullable":
            shape = shape.inner
        inside = shape.inner if shape.name == "Array" and step in path.inner else shape
        if inside.name == "Tuple" and isinstance(step, str):
            elements = dict(inside.elements())
            if step not in elements:
                return None
            expression = f"tupleElement({expression}, {quote_string(step)})"
            found = elements[step].text
            type = f"Array({found})" if inside is not shape else found
        elif shape.name == "Map" and isinstance(step, str):
            key, held = f"{quote_string(step)}", shape.inner.text
            type = held if held.startswith("Nullable(") else f"Nullable({held})"
            expression = f"if(mapContains({expression}, {key}), CAST({expression}[{key}], {quote_string(type)}), NULL)"
        elif shape.name == "Array" and isinstance(step, int):
            held = shape.inner.text
            type = held if held.startswith("Nullable(") else f"Nullable({held})"
            there = f"length({expression}) > {step}"
            expression = f"if({there}, CAST({expression}[{step + 1}], {quote_string(type)}), NULL)"
        else:
            return None
    return expression, type, root


def _cell(number: int) -> str:
    return f"_pipit_f{number}"


def _raw(number: int) -> str:
    return f"_pipit_raw{number}"


def _parts(reader: Reader) -> dict[str, Any]:
    return {part.name: getattr(reader, part.name) for part in fields(Reader)}
