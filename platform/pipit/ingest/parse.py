"""From columns to the SQL that reads a segment: ClickHouse parses, never Python (rule 5).

A segment is lines. They are read with `LineAsString`, so that a line can never reach into the next one: an
unclosed object of one client cannot swallow the row of another. Each line is parsed once, by one
`JSONExtract` into a named tuple of texts (measured: faster than JSONEachRow, and it does not raise), and
each column is a checked cast out of that (`cast.py`). A line that is no JSON object, or one bad column,
makes the row bad; nothing else does.

Known, and documented for users: a number that lands in a String column is printed as JSON parsers hold it
(1.10 becomes 1.1), a numeric text such as "9" is taken by a number column, of duplicate keys the first
counts (a Map keeps every pair).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipit.datafiles.resources import Column
from pipit.errors import BadRequest, Reason
from pipit.ingest import fault, records, values
from pipit.ingest.defaults import CheckedDefault, left_out, read_by_defaults
from pipit.ingest.field import (
    LINE,
    ROW,
    SHOWN,
    Field,
    FixedValue,
    Tree,
    array_hint,
    call,
    fixed_by_line,
    fixed_field,
    json_field,
    steps_of,
)
from pipit.ingest.types import parse, strip
from pipit.ingest.values import ByLine
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string
from pipit.tables.quarantine import OWN_COLUMNS, QUARANTINE_COLUMNS

FORMAT = "LineAsString"
STRUCTURE = f"{LINE} String"
BAD = "_pipit_bad"
NUMBER = "_pipit_number"  # of a row in its segment, from 0
BAD_ROW = "pipit: a bad row"
TOKEN_REFUSED = "the token "  # what the reason begins with of a row that its token may not put there


@dataclass(frozen=True, slots=True)
class Reader:
    """SQL over the marker `{source}`, a segment's lines. `frame` is the prefix of lines that are not rows."""

    fields: tuple[Field, ...]
    row_type: str  # the tuple that a line is extracted into; '' when no column needs it
    frame: str = ""
    lines: str = "{source}"  # where they are taken from, with what is `carried` beside them
    carried: tuple[str, ...] = ()
    problem: str = ""  # what is wrong with a line before it is read, if anything is
    format: str = FORMAT
    structure: str = STRUCTURE
    filled: frozenset[str] = frozenset()  # columns whose default is put in here, since another's reads it
    others: Mapping[str, str] = field(default_factory=dict)  # columns that are not read from the JSON: their values
    stored: frozenset[str] = frozenset()  # those of the others that are put in here: the table would compute the rest
    defaults: tuple[CheckedDefault, ...] = ()  # defaults that may not fit into their columns
    raises: bool = False  # a default that does not fit raises; else the row is a bad one
    refusal: str = ""  # why no row at all is for this table

    @property
    def names(self) -> str:
        return ", ".join(map(quote, (*(f.column.name for f in self.fields), *sorted(self.stored))))

    @property
    def shown(self) -> tuple[Field, ...]:
        """The columns that the quarantine shows: not those whose names it needs itself."""
        return tuple(f for f in self.fields if f.column.name not in OWN_COLUMNS)

    @property
    def bad(self) -> str:
        """Whether a row is refused. Reads the line a second time only where that can matter."""
        if self.refusal:
            return f"(length({LINE}) >= 0)"
        checks = [f"({f.bad})" for f in self.fields if f.bad != "false"]
        checks += [f"({self.problem} != '')"] if self.problem else []
        checks.append(f"(NOT startsWith({LINE}, '{{') AND NOT {_is_object()})")
        if not any(_proves_json(f) for f in self.fields):
            nothing = [_nothing(f) for f in self.fields if f.path is not None and not f.path.is_record]
            quiet = " AND ".join(n for n in nothing if n)
            checks.append(f"({quiet + ' AND ' if quiet else ''}NOT isValidJSON({LINE}))")
        checks += [f"({guard})" for guard in self._shape_guards()]
        checks += [] if self.raises else [unfit(d) for d in self.defaults]
        return " OR ".join(checks)

    @property
    def _bad_or_raise(self) -> str:
        """As `bad`, where values are read. What raises stands in a condition: of a value the engine may think that it
        needs no check."""
        if not (self.raises and self.defaults):
            return self.bad
        messages = [(d, quote_string(f"the DEFAULT of column '{d.column}' is not {d.type}")) for d in self.defaults]
        return " OR ".join([self.bad, *(f"throwIf({unfit(d)}, {message})" for d, message in messages)])

    def good_rows(self, *, strict: bool) -> str:
        """The rows for the table. `strict`: a bad row raises, so that one pass both checks and inserts."""
        condition = f"throwIf({BAD}, {quote_string(BAD_ROW)}) = 0" if strict else f"NOT {BAD}"
        checked = f"{self._with()}SELECT {self._values}, {self._bad_or_raise} AS {BAD} FROM {self._rows()}"
        return f"SELECT {self.names} FROM ({checked}) WHERE {condition}"

    def numbered_rows(self) -> str:
        """The good rows with their numbers among all rows. Read it with one thread."""
        return self._numbered(self._values, self.names, self._bad_or_raise)

    def numbered_lines(self) -> str:
        """The lines of the good rows, with the same numbers. No default is computed."""
        return self._numbered(self.line, self.line, self.bad)

    def _numbered(self, values: str, names: str, bad: str) -> str:
        checked = f"{self._with()}SELECT {values}, {bad} AS {BAD} FROM {self._rows()}"
        numbered = f"SELECT {names}, {BAD}, rowNumberInAllBlocks() AS {NUMBER} FROM ({checked})"
        return f"SELECT {names}, {NUMBER} FROM ({numbered}) WHERE NOT {BAD}"

    def good_rows_of_group(self, partition: str, group: int, size: int) -> str:
        """The good rows whose partition is among the group-th `size` partitions of the segment."""
        ranked = (
            f"SELECT {self.names}, dense_rank() OVER (ORDER BY {partition}) - 1 AS _pipit_rank "
            f"FROM {self._filled_rows()}"
        )
        return f"SELECT {self.names} FROM ({ranked}) WHERE intDiv(_pipit_rank, {size}) = {group}"

    def partitions(self, partition: str) -> str:
        return f"SELECT uniqExact({partition}) AS partitions FROM {self._filled_rows()}"

    def counts(self, starts: Sequence[int]) -> str:
        """Rows and bad rows of each request; `starts` are the numbers of their first rows, from 0, ascending."""
        groups = ", ".join(str(s) for s in starts)
        checked = f"{self._with()}SELECT {self.bad} AS {BAD} FROM {self._rows()}"
        numbered = f"SELECT rowNumberInAllBlocks() AS {NUMBER}, {BAD} FROM ({checked})"
        return (
            f"SELECT roundDown({NUMBER}, [{groups}]) AS start, count() AS total, countIf({BAD}) AS bad "
            f"FROM ({numbered}) GROUP BY start"
        )

    def bad_rows(self, import_id: str) -> str:
        """The refused rows as the quarantine table keeps them (`quarantine.py` says its columns)."""
        return self._shown_rows(import_id, self.bad)

    def _shown_rows(self, import_id: str, condition: str, *, numbered: bool = False) -> str:
        """The rows for which the condition holds, with what is wrong with each; their numbers behind that."""
        whole = "_pipit_whole"
        named = [f"{self._whole} AS {whole}", *(f"{f.text} AS {f.t}" for f in self.fields)]
        texts = [f"{f.t if f.shown else f'if({whole}, {f.t}, NULL)'} AS {quote(f.column.name)}" for f in self.shown]
        reasons = [f"('', {quote_string(self.refusal)})"] if self.refusal else []
        reasons += [f"({quote_string(f.column.name)}, {f.reason})" for f in self.fields]
        reasons += [f"({quote_string(n)}, {r})" for n, r in (*self._shape_reasons(), *self._default_reasons())]
        listed = f"arrayFilter(_pipit_r -> _pipit_r.2 != '', [{', '.join(reasons)}])"
        unshown = " OR ".join([*(f.unshown for f in self.fields), *self._shape_guards(), "false"])
        found = f"if({whole}, {listed}, {self._broken})"
        if self.problem:
            found = f"if({self.problem} != '', [('', {self.problem})], {found})"
        own = [
            f"arrayMap(_pipit_r -> _pipit_r.1, {found} AS _pipit_reasons)",
            "arrayMap(_pipit_r -> _pipit_r.2, _pipit_reasons)",
            quote_string(import_id),
            "now()",
            f"if({whole} AND NOT ({unshown}), NULL, {self._record})",
        ]
        texts += [f"{value} AS {name}" for value, name in zip(own, QUARANTINE_COLUMNS, strict=True)]
        texts += [self._number] if numbered else []
        rows = self._rows(numbered=numbered)
        return f"{self._with(*named)}SELECT {', '.join(texts)} FROM {rows} WHERE {condition}"

    @property
    def _whole(self) -> str:
        """Whether a row can be taken apart at all."""
        return f"isValidJSON({LINE}) AND {_is_object()}"

    @property
    def _broken(self) -> str:
        """What is wrong with one that cannot: (column, reason)s."""
        return f"[('', concat('{fault.INVALID_JSON}: the line is not a JSON object: ', {fault.of_line(LINE)}))]"

    @property
    def _record(self) -> str:
        """A row as it was sent."""
        return LINE

    @property
    def _number(self) -> str:
        return NUMBER

    @property
    def _read(self) -> str:
        """The names that the fields speak of."""
        return f"{self.line}, {ROW}" if self.row_type else self.line

    def _rows(self, *, numbered: bool = False) -> str:
        """`numbered`: each with its number in the file, if that is read with one thread."""
        lines = self._lines(numbered=numbered)
        return self._with_defaults(lines, numbered=numbered) if self.defaults else lines

    def _lines(self, *, numbered: bool) -> str:
        frame = f" WHERE NOT startsWith({LINE}, {quote_string(self.frame)})" if self.frame else ""
        row = f", JSONExtract({LINE}, {quote_string(self.row_type)}) AS {ROW}" if self.row_type else ""
        number = f", rowNumberInAllBlocks() AS {NUMBER}" if numbered else ""
        return f"(SELECT {self.line}{row}{number} FROM {self.lines}{frame})"

    def _with_defaults(self, lines: str, *, numbered: bool) -> str:
        """The lines, and of each checked default whether the row needs it and it does not fit, the value that the
        column then has, and the default as text."""
        by_name = {f.column.name: f for f in self.fields}
        checked = {d.column: d for d in self.defaults}
        values = {name: by_name[name].filled if name in by_name else self.others[name] for name in self._in_line}
        checks: list[str] = []
        shown: list[str] = []
        for name, d in checked.items():
            given = by_name.get(name)
            values[name] = given.given_or(d.value) if given else d.value
            checks.append(f"{f'{given.needs_default} AND ' if given else ''}{d.bad} AS {unfit(d)}")
            shown += [unfit(d), f"{quote(name)} AS {_fitting(d)}", f"toString({d.alias}) AS {_shown(d)}"]
        named = [d.named for d in self.defaults] + [f"{value} AS {quote(name)}" for name, value in values.items()]
        read = f"{self._read}, {self._number}" if numbered else self._read
        inner = f"{self._with()}SELECT {read}, {', '.join([*named, *checks])} FROM {lines}"
        return f"(SELECT {read}, {', '.join(shown)} FROM ({inner}))"

    @property
    def line(self) -> str:
        """A line, and what is carried beside it."""
        return ", ".join((LINE, *self.carried))

    @property
    def _in_line(self) -> frozenset[str]:
        """What the checked defaults read."""
        return self.filled | self.stored

    @property
    def _values(self) -> str:
        listed = {f.column.name: f.filled if f.column.name in self.filled else f.value for f in self.fields}
        listed |= {name: self.others[name] for name in sorted(self.stored)}
        return self._listed(listed)

    def _listed(self, values: dict[str, str]) -> str:
        values |= {d.column: _fitting(d) for d in self.defaults}
        return ", ".join(f"{value} AS {quote(name)}" for name, value in values.items())

    def _with(self, *more: str) -> str:
        """Every name that a field speaks of: the statement stays short, and costs half as much to analyse."""
        named = [f"{f.source} AS {f.x}" for f in self.fields]
        named += [name for f in self.fields for name in (f.p, f.c) if name is not None]
        return f"WITH {', '.join([*named, *more])} " if named or more else ""

    def _filled_rows(self) -> str:
        values = self._listed({f.column.name: f.filled for f in self.fields} | dict(self.others))
        return f"({self._with()}SELECT {values} FROM {self._rows()} WHERE NOT ({self._bad_or_raise}))"

    def _parents(self) -> list[tuple[tuple[str | int, ...], Field]]:
        """Objects that paths lead through, each once with a column below it."""
        found: dict[tuple[str | int, ...], Field] = {}
        for f in self.fields:
            if f.path is not None and not f.path.is_record:
                for length, step in enumerate(f.path.outer[1:], 1):
                    if isinstance(step, str):
                        found.setdefault(f.path.outer[:length], f)
        return list(found.items())

    def _shape_guards(self) -> list[str]:
        """An array where an object should be is read by position: it is refused."""
        guards = []
        for path, _ in self._parents():
            key = path[-1]
            if isinstance(key, str):
                guards.append(f"{array_hint(key)} AND {call('JSONType', steps_of(path))} = 'Array'")
        return guards

    def _shape_reasons(self) -> list[tuple[str, str]]:
        reasons = []
        for path, f in self._parents():
            if isinstance(path[-1], str):
                assert f.path is not None
                text = f"an array stands where an object should. While accessing jsonpath '{f.path.text}'"
                array = f"{call('JSONType', steps_of(path))} = 'Array'"
                reasons.append((f.column.name, f"if({array}, {quote_string(text)}, '')"))
        return reasons

    def _default_reasons(self) -> list[tuple[str, str]]:
        reasons = []
        for d in () if self.raises else self.defaults:
            value = f"substringUTF8(ifNull({_shown(d)}, 'null'), 1, {SHOWN})"
            what = quote_string(f"', the DEFAULT of column '{d.column}', is not {d.type}")
            reasons.append((d.column, f"if({unfit(d)}, concat('value \\'', {value}, {what}), '')"))
        return reasons


def unfit(default: CheckedDefault) -> str:
    return f"_pipit_unfit_{default.number}"


def _fitting(default: CheckedDefault) -> str:
    return f"_pipit_fitting_{default.number}"


def _shown(default: CheckedDefault) -> str:
    return f"_pipit_shown_{default.number}"


def problems(columns: Sequence[Column]) -> list[str]:
    """What cannot be read from JSON in a schema, a sentence each: for the validation of a project."""
    found = [
        f"column {c.name}: a column that is read from JSON needs a type" for c in columns if c.jsonpath and not c.type
    ]
    paths = any(c.jsonpath for c in columns)
    for column in _readable(columns):
        try:
            json_field(column, Tree())
            if paths and _is_state(column):
                raise ValueError("an AggregateFunction is filled by a materialized view, not from JSON")
        except (ValueError, IndexError) as error:
            found.append(f"column {column.name}: {error}")
    return found


def reader(
    columns: Sequence[Column],
    fixed: Mapping[str, FixedValue] | None = None,
    frame: str = "",
    defaults: Sequence[CheckedDefault] = (),
    form: records.Form | None = None,
    by_line: ByLine | None = None,
) -> Reader:
    """Columns without a path are left to their default, unless no column has one: then each has `$.<name>`.

    `defaults`: those of the table that may not fit into their columns. `form`: the lines are records of a topic.
    `by_line`: the columns that are fixed to other values in each line.
    """
    fixed = fixed or {}
    tree = Tree()
    fields = fixed_fields(columns, fixed)
    if by_line is not None:
        fields = [fixed_by_line(c, by_line.source(c.name)) for c in columns if c.name in by_line.here]
        fixed = {f.column.name: "" for f in fields}
    given = {c.name for c in columns if records.is_given(c)} if form else set()
    fields += records.fields(columns, form) if form else []
    for column in _readable(columns):
        if column.name not in fixed and column.name not in given and not _is_state(column):
            fields.append(json_field(column, tree))
    found = assembled(fields, columns, fixed, defaults, row_type=str(tree) if tree else "", frame=frame)
    if by_line is not None:
        return replace(found, frame="", lines=by_line.lines, carried=values.CARRIED, problem=values.PROBLEM)
    if form is None:
        return found
    return replace(
        found,
        lines=records.LINES,
        carried=records.CARRIED,
        problem=records.PROBLEM,
        format=records.FORMAT,
        structure=records.STRUCTURE,
    )


def fixed_fields(columns: Sequence[Column], fixed: Mapping[str, FixedValue]) -> list[Field]:
    """Raises BadRequest for what the token may not fix."""
    known = {c.name for c in columns}
    for name in fixed:
        if name not in known:
            raise BadRequest(
                f"The token fixes the column '{name}', which the data source does not have",
                reason=Reason.FIXED_VALUE_INVALID,
                subject=name,
            )
    return [fixed_field(column, fixed[column.name]) for column in columns if column.name in fixed]


def assembled(
    fields: Sequence[Field],
    columns: Sequence[Column],
    fixed: Collection[str],
    defaults: Sequence[CheckedDefault],
    *,
    row_type: str = "",
    frame: str = "",
) -> Reader:
    """Of the fields of these columns, in the columns' order; the rest is left to the defaults."""
    known = {c.name: c for c in columns}
    order = {c.name: n for n, c in enumerate(columns)}
    numbered = sorted(fields, key=lambda f: order[f.column.name])
    numbered = [replace(f, number=n) for n, f in enumerate(numbered)]
    here = {f.column.name: f for f in numbered}
    checked = tuple(d for d in defaults if d.column in known and d.column not in fixed)
    roots = [f.column.name for f in numbered if f.has_own_default] + [d.column for d in checked]
    read = read_by_defaults(roots, {n: c.default for n, c in known.items() if c.default is not None}, known)
    unread = {name: left_out(c.type, c.default) for name, c in known.items() if name not in here}
    return Reader(
        tuple(numbered),
        row_type,
        frame,
        filled=read & here.keys(),
        others=unread,
        stored=frozenset((read | {d.column for d in checked}) & unread.keys()),
        defaults=checked,
        # Else another value would be asked about than is stored.
        raises=not all(d.steady for d in checked),
    )


def fixed_by_line_elsewhere(
    columns: Sequence[Column], given: Collection[Mapping[str, FixedValue]], needs: Sequence[str]
) -> tuple[frozenset[str], dict[str, str]]:
    """As `fixed_elsewhere`, of several tokens: the columns that they fix here, and what is refused of what they fix."""
    kept: set[str] = set()
    refused: dict[str, str] = {}
    for fixed in given:
        here, refusal = fixed_elsewhere(columns, fixed, needs)
        kept |= here.keys()
        if refusal:
            refused[values.listed(fixed)] = refusal
    return frozenset(kept), refused


def fixed_elsewhere(
    columns: Sequence[Column], fixed: Mapping[str, FixedValue], needs: Sequence[str]
) -> tuple[dict[str, FixedValue], str]:
    """What a token that was checked for another generation of the table fixes in this one, and why none of its rows may
    stand here; '' else. `needs`: the columns that a tenant's token has to fix here."""
    known = {c.name: c for c in columns}
    kept: dict[str, FixedValue] = {}
    for name, value in fixed.items():
        if name in known:
            try:
                fixed_field(known[name], value)
            except BadRequest:
                return kept, f"{TOKEN_REFUSED}fixes '{name}' to a value that the column does not take any more"
            kept[name] = value
    missing = sorted(set(needs) - kept.keys()) if fixed else []
    return kept, f"{TOKEN_REFUSED}does not fix '{missing[0]}', which decides whose a row is" if missing else ""


def is_filled_by_view(columns: Sequence[Column]) -> bool:
    """Whether an event would leave a state empty that only a materialized view can fill."""
    return any(_is_state(c) for c in _readable(columns))


def _is_state(column: Column) -> bool:
    return strip(parse(column.type))[0].name == "AggregateFunction"


def _readable(columns: Sequence[Column]) -> list[Column]:
    if any(c.jsonpath for c in columns):
        return [c for c in columns if c.jsonpath and c.type]
    return [replace(c, jsonpath=f"$['{_escape(c.name)}']") for c in columns if c.type]


def _proves_json(f: Field) -> bool:
    """Whether a row cannot be good unless its line was parsed."""
    required = f.path is not None and not f.path.is_record and not f.optional and not f.compound
    return required and strip(f.type)[0].name not in ("Dynamic", "Variant")


def _nothing(f: Field) -> str:
    if not f.compound:
        return f"isNull({f.x})"
    return "" if strip(f.type)[0].name == "Tuple" else f"empty({f.x})"


def _is_object() -> str:
    return rf"match({LINE}, '^[ \\t\\r]*[{{]')"


def _escape(name: str) -> str:
    return name.replace("\\", "\\\\").replace("'", "\\'")
