"""One column as it comes out of a file that has columns: a text (a cell of CSV, a string of Parquet) or a typed value.

A text becomes what the same text would be in an event, but that `true` is 1 for a number, a date may have any form that
the engine knows, and an array, a map or a tuple is JSON, or its form in ClickHouse (`['a', 'b']`). A typed value is
converted as every INSERT ... SELECT of Pipit converts (`convert.py`): what does not fit is refused, and never cut.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipit.datafiles.resources import Column
from pipit.ingest import cast, shape
from pipit.ingest.convert import Conversion, conversion
from pipit.ingest.field import SHOWN, Field
from pipit.ingest.types import Type, parse, strip
from pipit.sql.literals import quote_string

_NULL = quote_string("\\N")
_IN_SINGLE_QUOTES = quote_string(r"'((?:[^'\\]|\\.)*)'")


@dataclass(frozen=True, slots=True)
class Cell(Field):
    """`raw`: the name of the column of the file; empty where the file does not have it."""

    raw: str = ""

    @property
    def absent(self) -> str:
        return f"isNull({self.x})"

    @property
    def needs_default(self) -> str:
        return self.absent

    @property
    def wrong(self) -> str:
        refused = self._refused
        return "false" if refused == "false" else f"({refused} AND NOT {self.absent})"

    @property
    def text(self) -> str:
        return self.raw

    @property
    def unshown(self) -> str:
        return "false"

    @property
    def reason(self) -> str:
        """In the dialect's words; '' when the row is not refused for this column."""
        name, inner = self.column.name, strip(self.type)[0].text
        shown = f"substringUTF8(ifNull({self.t}, 'null'), 1, {SHOWN})"
        what = quote_string(f"' on column '{name}' is not {inner}")
        wrong = f"concat('value \\'', {shown}, {what})"
        if self.optional:
            return f"multiIf({self.wrong}, {wrong}, '')"
        missing = (
            f"Strict type checking failed. Object does not have column '{name}', you should send a value or "
            "recreate the table with a Nullable column type."
        )
        return f"multiIf({self.absent}, {quote_string(missing)}, {self.wrong}, {wrong}, '')"


@dataclass(frozen=True, slots=True)
class TextCell(Cell):
    """A value that is no array, map or tuple, from a text."""

    @property
    def p(self) -> str | None:
        return None if self._is_moment else super(Cell, self).p

    @property
    def c(self) -> str | None:
        if not self._is_moment:
            return super(Cell, self).c
        return f"{cast.of_cell(strip(self.type)[0], self.x)} AS {self._cast}"

    @property
    def _is_moment(self) -> bool:
        return strip(self.type)[0].name in ("Date", "Date32", "DateTime", "DateTime32", "DateTime64")


@dataclass(frozen=True, slots=True)
class CompoundCell(Cell):
    """An array, a map or a tuple from a text: `given` is NULL where there is no value."""

    given: str = ""

    @property
    def absent(self) -> str:
        return f"isNull({self.given})"

    @property
    def _refused(self) -> str:
        misfit = f"({shape.doubt(self.type, self.x)} AND {shape.misfit(self.type, as_json(self.given))})"
        found = cast.bad(self.type, self.x)
        return misfit if found == "false" else f"({found} OR {misfit})"

    @property
    def bad(self) -> str:
        return self.wrong if self.column.default is not None else f"({self.absent} OR {self._refused})"


@dataclass(frozen=True, slots=True)
class TypedCell(Cell):
    """A value of one of the file's own types."""

    source_type: str = ""

    @property
    def p(self) -> str | None:
        return None

    @property
    def c(self) -> str | None:
        return None

    @property
    def _conversion(self) -> Conversion:
        default = self.column.default is not None
        return conversion(self.source_type, self.column.type, self.x, "", null_is_default=default)

    @property
    def _refused(self) -> str:
        return self._conversion.bad

    @property
    def bad(self) -> str:
        return self._conversion.bad

    @property
    def absent(self) -> str:
        return "false" if self._is_compound_source else f"isNull({self.x})"

    @property
    def _is_compound_source(self) -> bool:
        return cast.is_compound(parse(self.source_type))

    @property
    def value(self) -> str:
        if self.has_own_default:
            return self.given_or(f"CAST({self.column.default}, {quote_string(self.type.text)})")
        return self._given

    @property
    def _given(self) -> str:
        return self._conversion.value

    @property
    def has_own_default(self) -> bool:
        return self.column.default is not None and self.nullable and not self._is_compound_source

    @property
    def filled(self) -> str:
        default = self.column.default
        if default is None or self.has_own_default or self._is_compound_source:
            return self.value
        return f"ifNull({self.value}, CAST({default}, {quote_string(self.type.text)}))"

    @property
    def text(self) -> str:
        shown = f"toJSONString({self.x})" if self._is_compound_source else self.x
        return f"CAST({shown}, 'Nullable(String)')"


def text_cell(column: Column, raw: str, *, empty: bool) -> Cell:
    """`raw`: a Nullable(String). `empty`: a text without characters stands for no value where the column can do
    without one, and \\N always does.

    Raises ValueError for a type that no text can become.
    """
    type = _fillable(column)
    inner, nullable = strip(type)
    given = f"nullIf({raw}, {_NULL})" if empty else raw
    if empty and (nullable or column.default is not None):
        given = f"nullIf({given}, '')"
    if cast.is_compound(type):
        wide = f"JSONExtract(ifNull({as_json(given)}, ''), {quote_string(cast.wide(type))})"
        return CompoundCell(column, type, None, wide, raw=raw, given=given)
    if inner.name == "Variant":
        given = f"CAST({given}, {quote_string(inner.text)})"
    return TextCell(column, type, None, given, raw=raw)


def as_json(text: str) -> str:
    """ClickHouse writes texts in single quotes; what is JSON as it stands stays so."""
    escaped = f"replaceAll({text}, {quote_string(chr(34))}, {quote_string(chr(92) + chr(34))})"
    quoted = f"replaceRegexpAll({escaped}, {_IN_SINGLE_QUOTES}, {quote_string(chr(34) + chr(92) + '1' + chr(34))})"
    unescaped = f"replaceAll({quoted}, {quote_string(chr(92) + chr(39))}, {quote_string(chr(39))})"
    return f"if(isValidJSON({text}), {text}, {unescaped})"


def typed_cell(column: Column, expression: str, source: str) -> Cell:
    """`source`: the engine's name of the expression's type. A string is a text, as in `text_cell`."""
    type = _fillable(column)
    if strip(parse(source))[0].name in ("String", "FixedString") and strip(type)[0].name != "FixedString":
        return text_cell(column, f"CAST({expression}, 'Nullable(String)')", empty=False)
    return TypedCell(column, type, None, expression, raw=expression, source_type=source)


def missing_cell(column: Column) -> Cell:
    """Of a column that needs a value and that the file does not have: every row is refused for it."""
    return text_cell(column, "CAST(NULL, 'Nullable(String)')", empty=False)


def _fillable(column: Column) -> Type:
    type = parse(column.type)
    if strip(type)[0].name == "AggregateFunction":
        raise ValueError(f"the column '{column.name}' holds states, which only a materialized view can fill")
    return type
