"""One column as it comes out of a line: the SQL that reads it, checks it, and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipit.datafiles.resources import Column
from pipit.errors import BadRequest, Reason
from pipit.ingest import cast, jsonpath, shape
from pipit.ingest.jsonpath import JsonPath
from pipit.ingest.types import Type, parse, strip
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string

Scalar = str | int | float | bool
FixedValue = Scalar | Sequence[Scalar]  # what a token sets in every row; a list for an Array

LINE = "_pipit_line"
ROW = "_pipit_row"  # what JSONExtract made of the line
_LONG_INTEGERS = frozenset(f"{sign}Int{bits}" for sign in ("", "U") for bits in (64, 128, 256))
_ITEM = "an item of the array is no object, or has no value there"
_VALUE = quote_string("value '")
# All that may end in the bracket of an array that is an item of another, whatever the blanks (searching is
# three times as quick as a pattern).
_ARRAY_IN_ARRAY = ", ".join(
    quote_string(f"{before}[") for before in ("[", ",", "\t", "\r", "[ ", ", ", "  ", "\t ", "\r ")
)
SHOWN = 200  # characters of a refused value that its reason repeats


@dataclass(frozen=True, slots=True)
class Field:
    """One column of the table as it comes out of a line.

    A statement gives names to what it uses more than once: `x` is the wide value, `p` what its cast needs twice,
    `c` the typed value or NULL, `t` the text for the quarantine. Arrays, maps and tuples go from `x` alone.
    """

    column: Column
    type: Type
    path: JsonPath | None  # None: the token fixes the value
    source: str  # the expression of the wide value
    steps: tuple[str | int, ...] = ()  # arguments of the JSON functions that lead to the value
    number: int = 0
    shown: str = ""  # what the quarantine shows, of every row: of what is not read from the JSON

    @property
    def x(self) -> str:
        return f"_pipit_x{self.number}"

    @property
    def t(self) -> str:
        return f"_pipit_t{self.number}"

    @property
    def p(self) -> str | None:
        """`expression AS name`, if the cast needs one."""
        if self.compound:
            return None
        inner = strip(self.type)[0]
        text = self.x
        if inner.name.startswith("Decimal") and self.path is not None and isinstance(self.path.outer[-1], str):
            text = _exact_number(self.x, self.path.outer[-1])
        expression = cast.prepared(inner, text)
        return None if expression is None else f"{expression} AS _pipit_p{self.number}"

    @property
    def c(self) -> str | None:
        """`expression AS name` of the typed value; none where that is the wide one."""
        if self.compound:
            return None
        expression = cast.finished(strip(self.type)[0], self.x, f"_pipit_p{self.number}")
        return None if expression == self.x else f"{expression} AS {self._cast}"

    @property
    def _cast(self) -> str:
        return f"_pipit_c{self.number}" if self._has_cast else self.x

    @property
    def _has_cast(self) -> bool:
        return strip(self.type)[0].name not in ("String", "Variant")

    @property
    def _refused(self) -> str:
        """The value is none of the type; where that is not Nullable, NULL is refused too."""
        if self.compound:
            return cast.bad(self.type, self.x)
        if strip(self.type)[0].name in ("Dynamic", "Variant"):
            return "false"
        if not self.nullable:
            return f"isNull({self._cast})"
        return f"(isNotNull({self.x}) AND isNull({self._cast}))" if self._has_cast else "false"

    @property
    def nullable(self) -> bool:
        return strip(self.type)[1]

    @property
    def compound(self) -> bool:
        return cast.is_compound(self.type)

    @property
    def optional(self) -> bool:
        return self.column.default is not None or self.nullable

    @property
    def absent(self) -> str:
        """No value at the path, or null. For arrays, maps and tuples only the JSON itself can tell."""
        if self.path is None:
            return "false"
        if not self.compound:
            return f"isNull({self.x})"
        return f"({self._empty} AND {call('JSONType', self.steps)} = 'Null')"

    @property
    def wrong(self) -> str:
        """There is a value, and the type does not take it."""
        if self.path is None:
            return self._refused
        checks = [self._refused, self._doubts]
        if self.compound:
            checks.append(self._misfit)
        kept = [check for check in checks if check != "false"]
        return f"(({' OR '.join(kept)}) AND NOT {self.absent})" if kept else "false"

    @property
    def bad(self) -> str:
        """Wrong, or absent where the column needs a value; the cheapest form of it, since every row is asked."""
        if self.compound and self.path is not None:
            if self.column.default is not None:
                return self.wrong
            return " OR ".join(check for check in (self._refused, self._misfit) if check != "false")
        refused = self._refused
        if self.column.default is not None and not self.nullable:
            refused = f"(isNotNull({self.x}) AND {refused})"
        kept = [check for check in (refused, self._doubts) if check != "false"]
        return " OR ".join(kept) or "false"

    @property
    def _misfit(self) -> str:
        """Nothing, or JSON of another shape, where an array, map or tuple belongs."""
        assert self.path is not None
        if not self.path.inner:
            json = call("JSONExtractRaw", self.steps)
            return f"({shape.doubt(self.type, self.x)} AND {shape.misfit(self.type, json)})"
        return f"({self._doubtful_items} AND {self._misfit_of_items})"

    @property
    def _misfit_of_items(self) -> str:
        assert self.path is not None
        element = strip(self.type)[0].inner
        item = shape.item_misfit(element, "_pipit_i", self.path.inner)
        array = call("JSONExtractArrayRaw", self.steps)
        return f"({call('JSONType', self.steps)} != 'Array' OR arrayExists(_pipit_i -> {item}, {array}))"

    @property
    def _doubtful_items(self) -> str:
        """Items that lack the key are NULL, or none at all; an item that is an array was read by position."""
        assert self.path is not None
        element = strip(self.type)[0].inner
        checks = [shape.doubt(self.type, self.x), f"multiSearchAny({LINE}, [{_ARRAY_IN_ARRAY}])"]
        checks += [array_hint(key) for key in self.path.inner[:-1]]
        if not cast.is_compound(element):
            checks.append(f"arrayExists(_pipit_i -> isNull(_pipit_i), {self.x})")
        return f"({' OR '.join(checks)})"

    @property
    def _empty(self) -> str:
        return "true" if strip(self.type)[0].name == "Tuple" else f"empty({self.x})"

    @property
    def _doubts(self) -> str:
        """A text may read like a value of another kind; and JSON parsers hold what is no plain integer as a double,
        which may hide what was written."""
        inner = strip(self.type)[0]
        if self.path is None or self.path.is_record or self.compound:
            return "false"
        checks = []
        if text := cast.text_doubt(inner, self.x):
            checks.append(f"({text} AND {call('JSONType', self.steps)} = 'String')")
        if inner.name in cast.INTEGERS:
            checks += self._hidden_fractions(inner.name)
        return f"({' OR '.join(checks)})" if len(checks) > 1 else (checks[0] if checks else "false")

    def _hidden_fractions(self, name: str) -> list[str]:
        assert self.path is not None
        checks = []
        long = name in _LONG_INTEGERS
        if long:  # 2^64 written as 18446744073709551616.0 is printed with the digits of another number
            checks.append(f"(length({self.x}) >= 16 AND {call('JSONType', self.steps)} = 'Double')")
        key = self.path.outer[-1]
        if isinstance(key, str):  # 1.00000000000000000001 is printed as 1
            fraction = quote_string(key_regex(key) + r"[ \t\r]*:[ \t\r]*(-?[0-9]+[.][0-9]*[1-9][0-9]*)(?:[^0-9eE]|$)")
            written = f"extractAll({LINE}, {fraction})"
            same = f"JSONExtractFloat(_pipit_f) = JSONExtractFloat(assumeNotNull({self.x}))"
            # A double shows any other fraction. The hints are the same for all columns: asked once for a line.
            hint = f"position({LINE}, '.000000') > 0"
            if long:
                hint = f"({hint} OR (position({LINE}, '.0') > 0 AND length({self.x}) >= 10))"
            hidden = f"{hint} AND arrayExists(_pipit_f -> {same}, {written})"
            checks.append(f"({hidden} AND isNotNull({self.x}) AND {call('JSONType', self.steps)} = 'Double')")
        return checks

    @property
    def unshown(self) -> str:
        """Whether the row is refused for what `text` does not show: then the quarantine keeps the line."""
        if self.path is not None and self.path.inner:
            return self.bad
        return self._doubts

    @property
    def value(self) -> str:
        """NULL where the engine is to put the default."""
        default = self.column.default
        if default is None:
            return self._given
        if self.has_own_default:
            return self.given_or(f"CAST({default}, {quote_string(self.type.text)})")
        return self._cast

    @property
    def _given(self) -> str:
        """The value that was sent, where one was."""
        if self.compound:
            return self._array_of_null(cast.value(self.type, self.x))
        if self.nullable or strip(self.type)[0].name in ("Dynamic", "Variant"):
            return self._cast
        return f"assumeNotNull({self._cast})"

    @property
    def needs_default(self) -> str:
        """Whether the row gets the column's default."""
        if self.compound or not self.nullable:
            return self.absent
        missing = f"isNull({self.x}) AND {call('JSONType', self.steps)} = 'Null'"
        return f"({missing} AND NOT {call('JSONHas', self.steps)})"  # a null that was sent stays null

    def given_or(self, default: str) -> str:
        return f"if({self.needs_default}, {default}, {self._given})"

    def _array_of_null(self, value: str) -> str:
        """Items of which none has the value come out as no items; where they may be NULL, they are."""
        inner = strip(self.type)[0]
        if self.path is None or not self.path.inner or not strip(inner.inner)[1]:
            return value
        nothing = f"CAST([], {quote_string(self.type.text)})"
        return f"if(empty({self.x}), arrayResize({nothing}, {call('JSONLength', self.steps)}), {value})"

    @property
    def has_own_default(self) -> bool:
        """`value` has the default in it: the engine would put it in place of what is sent as null, or empty."""
        return self.column.default is not None and (self.compound or self.nullable)

    @property
    def filled(self) -> str:
        """As `value`, with the default in it: for expressions over the row, such as the partition key."""
        default = self.column.default
        if default is None or self.compound or self.nullable:
            return self.value
        return f"ifNull({self.value}, CAST({default}, {quote_string(self.type.text)}))"

    @property
    def text(self) -> str:
        """The value as it was sent, for the quarantine."""
        if self.shown:
            return self.shown
        if self.path is None:
            return f"CAST(toJSONString({self.x}), 'Nullable(String)')" if self.compound else self.x
        if self.path.is_record:
            return f"CAST({LINE}, 'Nullable(String)')"
        if self.path.inner:
            return f"if({self.absent}, NULL, toJSONString({self.x}))"
        return call("JSONExtract", self.steps, "'Nullable(String)'")

    @property
    def reason(self) -> str:
        """Why this column refuses the row, in the dialect's words; '' when it does not."""
        name = self.column.name
        inner = strip(self.type)[0].text
        shown = f"substringUTF8(ifNull({self.t}, 'null'), 1, {SHOWN})"
        what = quote_string(f"' on column '{name}' is not {inner}")
        wrong = f"concat({_VALUE}, {shown}, {what})"
        if self.path is not None and self.path.inner:
            text = f"{_ITEM}. While accessing jsonpath '{self.path.text}'"
            items = f"{call('JSONType', self.steps)} = 'Array' AND {self._misfit_of_items}"
            wrong = f"if({items}, {quote_string(text)}, {wrong})"
        if self.optional or self.path is None:
            return f"multiIf({self.wrong}, {wrong}, '')"
        missing = (
            f"Strict type checking failed. Object does not have column '{name}', you should send a value or "
            f"recreate the table with a Nullable column type. While accessing jsonpath '{self.path.text}'"
        )
        return f"multiIf({self.absent}, {quote_string(missing)}, {self.wrong}, {wrong}, '')"


def fixed_field(column: Column, value: FixedValue) -> Field:
    """A column that the token sets in every row, whatever the body says.

    Raises BadRequest for a value that no row of the column could have: rows under it would wait for ever.
    """
    type = parse(column.type)
    inner = strip(type)[0]
    is_list = not isinstance(value, str | int | float | bool)
    settable = inner.name not in ("", "AggregateFunction")
    if inner.name == "Array":
        settable = not cast.is_compound(inner.inner) and strip(inner.inner)[0].name not in ("", "AggregateFunction")
    elif cast.is_compound(type):
        settable = False
    if not settable or is_list != (inner.name == "Array"):
        wants = "takes a list" if inner.name == "Array" else "takes a text, a number or a boolean"
        raise BadRequest(
            f"The token fixes the column '{column.name}', which {wants if settable else 'cannot be fixed'}",
            hint=f"It is {column.type}: change 'fixed_values' of the token." if column.type else "",
            reason=Reason.FIXED_VALUE_INVALID,
            subject=column.name,
        )
    values = [value] if isinstance(value, str | int | float | bool) else value
    leaf = strip(inner.inner)[0] if is_list else inner
    for one in values:
        if isinstance(one, str) and cast.refuses_text(leaf, one):
            raise BadRequest(
                f"The token fixes the column '{column.name}' to the text '{one}': it is not {leaf.text}",
                reason=Reason.FIXED_VALUE_INVALID,
                subject=column.name,
            )
    if is_list:
        assert not isinstance(value, str | int | float | bool)
        x = f"CAST([{', '.join(_literal(item) for item in value)}], 'Array(Nullable(String))')"
    else:
        assert isinstance(value, str | int | float | bool)
        x = f"CAST({_literal(value)}, 'Nullable(String)')"
    return Field(Column(column.name, column.type), type, None, x)


def fixed_by_line(column: Column, x: str) -> Field:
    """As `fixed_field`, of a value that was checked and stands with each line, as `x`."""
    return Field(Column(column.name, column.type), parse(column.type), None, x)


def text_of(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _literal(value: Scalar) -> str:
    # The marker of the statement's source must not come a second time, whatever the token fixes.
    return quote_string(text_of(value)).replace("{source}", "{\\x73ource}")


def json_field(column: Column, tree: Tree) -> Field:
    """Puts what it reads into `tree` (the named tuple), or extracts it alone where the tree cannot hold it."""
    assert column.jsonpath is not None
    path = jsonpath.parse(column.jsonpath)
    type = parse(column.type)
    inner = strip(type)[0]
    if path.each and inner.name != "Array":
        if path.inner:
            raise ValueError(f"{path.text} yields an array, and {column.type} is not an Array")
        path = JsonPath(path.outer, (), False, path.text)  # into a String: the JSON text of the array
    steps = steps_of(path.outer)
    if path.is_record:
        return Field(column, type, path, f"CAST({LINE}, 'Nullable(String)')", steps)
    wide = cast.wide(inner.inner if path.inner else type)
    if path.outer and path.is_plain and _place(tree, path, wide):
        x = ROW
        for key in path.outer:
            x = f"tupleElement({x}, {quote_string(str(key))})"
    else:
        holder = f"Array({_nest(path.inner, wide)})" if path.inner else wide
        x = call("JSONExtract", steps, quote_string(holder))
    for key in path.inner:
        x = f"tupleElement({x}, {quote_string(key)})"
    return Field(column, type, path, x, steps)


class Tree(dict[str, "str | Tree"]):
    """What one JSONExtract reads: keys to wide types, or to objects, or to arrays of objects (`each`)."""

    def __init__(self, *, each: bool = False) -> None:
        super().__init__()
        self.each = each

    def __str__(self) -> str:
        inside = f"Tuple({', '.join(f'{quote(key)} {node}' for key, node in self.items())})"
        return f"Array({inside})" if self.each else inside


def _place(tree: Tree, path: JsonPath, type: str) -> bool:
    """Whether the tree took the path. It cannot when a key is read as a value and as an object at once."""
    keys = [str(key) for key in (*path.outer, *path.inner)]
    for depth, key in enumerate(keys[:-1], 1):
        each = bool(path.inner) and depth == len(path.outer)
        child = tree.setdefault(key, Tree(each=each))
        if not isinstance(child, Tree) or child.each != each:
            return False
        tree = child
    return tree.setdefault(keys[-1], type) == type


def _nest(keys: Sequence[str], type: str) -> str:
    for key in reversed(keys):
        type = f"Tuple({quote(key)} {type})"
    return type


def _exact_number(x: str, key: str) -> str:
    """A JSON parser holds 0.1234567890123456789 as a double: for decimals the digits are taken from the line."""
    digits = quote_string(key_regex(key) + r"[ \t]*:[ \t]*(-?[0-9][0-9.eE+-]*)")
    found = f"extract({LINE}, {digits})"
    same = f"JSONExtractFloat({found}) = JSONExtractFloat(assumeNotNull({x}))"
    return f"if(isNotNull({x}) AND {found} != '' AND {found} != {x} AND {same}, {found}, {x})"


def steps_of(path: Sequence[str | int]) -> tuple[str | int, ...]:
    """JSON functions count from 1."""
    return tuple(step + 1 if isinstance(step, int) else step for step in path)


def call(function: str, steps: Sequence[str | int], *more: str) -> str:
    arguments = [str(s) if isinstance(s, int) else quote_string(s) for s in steps]
    return f"{function}({', '.join([LINE, *arguments, *more])})"


def key_regex(key: str) -> str:
    """A JSON key in its quotes, for RE2."""
    return '"' + "".join(c if c.isalnum() else f"\\x{{{ord(c):x}}}" for c in key) + '"'


def array_hint(key: str) -> str:
    """False only where no array stands under the key, however it is written, in the line."""
    colon = r"[ \t\r]*:[ \t\r]*\["
    escaped = quote_string(r'\\u[^"]*"' + colon)
    return f"(match({LINE}, {quote_string(key_regex(key) + colon)}) OR match({LINE}, {escaped}))"
