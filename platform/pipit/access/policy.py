"""`ROW_POLICY`: a condition over a table's columns and the token's security context, declared once with the table.

The text takes `{{Type(context.key)}}` and nothing else of the template language: values are typed strictly (a number
is no String), printed by the one literal printer, and stand where SQL has a value. `{% if defined(context.key) %} AND
... {% end %}` is the only optional form, for keys that ROW_POLICY_OPTIONAL names; each such part becomes a conjunct of
its own, so that it can only narrow. A token that lacks a key, or has a value of another type, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace

from pipit.access.context import SecurityContext
from pipit.access.policy_types import Misplaced, check_policy_types
from pipit.access.values import DATES, digits_of, typed
from pipit.datafiles.resources import DataSource, RowPolicy
from pipit.errors import DatafileError, Reason, TemplateError
from pipit.sql.expressions import ExpressionError, check_condition, columns_in, top_level
from pipit.sql.lexer import LexerKind, Token
from pipit.sql.literals import print_literal
from pipit.templates.failures import InvalidContextKey, MissingContextKey
from pipit.templates.parts import PartKind, TemplatePart, split
from pipit.templates.types import PARSERS
from pipit.templates.values import type_of

_HINT = "customer_id = {{String(context.customer_id)}} {% if defined(context.team) %} AND team = ... {% end %}"
_VALUE = re.compile(r"(\w+)\(\s*context\.([A-Za-z_]\w*)\s*(?:,\s*(?:'(\w+)'|\"(\w+)\")\s*)?\)", re.ASCII)
_IF = re.compile(r"if\s+defined\(\s*context\.([A-Za-z_]\w*)\s*\)", re.ASCII)
_AND = re.compile(r"\A\s*AND\b", re.IGNORECASE)
_MARKER = "_value_of_the_context_"
_TYPES = frozenset(PARSERS) - {"JSON"}
# What a value may be in the context, per type: a text of digits is a UInt64, a number is never a String.
_EXAMPLES: Mapping[str, object] = {
    "Boolean": True,
    "Date": "2019-01-01",
    "DateTime": "2019-01-01 00:00:00",
    "DateTime64": "2019-01-01 00:00:00.000",
}
_EXAMPLE, _EXAMPLE_UUID = "a", "00000000-0000-0000-0000-000000000000"
MAX_OPTIONAL = 8


@dataclass(frozen=True, slots=True)
class _Value:
    key: str
    type: str  # of the value, or of an array's elements
    array: bool = False
    digits: int = 9  # of a DateTime64's fraction: more than its column has would be cut

    @property
    def shown(self) -> str:
        return f"Array({self.type})" if self.array else self.type


@dataclass(frozen=True, slots=True)
class _Conjunct:
    """`guard`: the optional key without which this part does not count; empty for the part that always does.

    `columns`: the table's columns that it reads.
    """

    guard: str
    parts: tuple[str | _Value, ...]
    columns: frozenset[str] = frozenset()

    def counts_for(self, security: SecurityContext) -> bool:
        return not self.guard or self.guard in security.context

    def print(self, context: Mapping[str, object], literal: Callable[[_Value, Mapping[str, object]], str]) -> str:
        return "".join(part if isinstance(part, str) else f" {literal(part, context)} " for part in self.parts).strip()


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled row policy. Immutable; shared by all requests."""

    conjuncts: tuple[_Conjunct, ...]
    optional: frozenset[str] = frozenset()
    example_text: str = _EXAMPLE  # a text that the columns can be compared with

    @classmethod
    def compile(cls, datasource: DataSource) -> Policy:
        """Raises DatafileError with the place, when the policy is not exactly of the form above."""
        policy = datasource.row_policy
        if policy is None or not policy.filters:
            raise ValueError(f"{datasource.name} has no ROW_POLICY with a condition")
        return _Compiler(policy, datasource.file, {c.name: c.type for c in datasource.columns}).compile()

    @property
    def keys(self) -> frozenset[str]:
        """All keys of the context that the policy looks at."""
        return frozenset(p.key for c in self.conjuncts for p in c.parts if isinstance(p, _Value)) | self.optional

    @property
    def required(self) -> frozenset[str]:
        """The keys without which a token is refused."""
        return self.keys - self.optional

    def filter_for(self, security: SecurityContext) -> str:
        """The condition for this token. Raises Forbidden, naming the key that is missing or of another type."""
        return combine(c.print(security.context, _literal) for c in self.conjuncts if c.counts_for(security))

    @property
    def columns(self) -> frozenset[str]:
        """All columns that the condition reads, optional parts included."""
        return frozenset().union(*(c.columns for c in self.conjuncts))

    def columns_for(self, security: SecurityContext) -> frozenset[str]:
        """The columns that decide who sees a row, as far as this token is concerned: what it may not choose freely
        in the rows that it writes. Rather one too many than one too few."""
        return self.columns_given(security.context)

    def columns_given(self, keys: Container[str]) -> frozenset[str]:
        """The same for a token with these keys."""
        return frozenset().union(*(c.columns for c in self.conjuncts if not c.guard or c.guard in keys))

    def guards_of(self, column: str) -> frozenset[str]:
        """The optional keys with which it reads the column; an empty one where it always does."""
        return frozenset(c.guard for c in self.conjuncts if column in c.columns)

    def example(self, *, converted: bool = True) -> str:
        """The condition with stand-in values, all optional parts included: for validation in the engine.

        `converted=False`: texts are no constants there, so that the engine converts none and must take them as texts.
        """
        values: dict[str, object] = {}
        for value in (p for c in self.conjuncts for p in c.parts if isinstance(p, _Value)):
            one = self.example_text if value.type == "String" else _EXAMPLES.get(value.type, 0)
            values[value.key] = (one,) if value.array else one
        return combine(conjunct.print(values, _literal if converted else _unconverted) for conjunct in self.conjuncts)


def combine(filters: Iterable[str]) -> str:
    """All of them must hold. Raises ValueError on an empty list or filter: no filter is not a filter."""
    listed = list(filters)
    if not listed or not all(one.strip() for one in listed):
        raise ValueError("nothing to combine")
    return " AND ".join(f"({one})" for one in listed)


def _literal(value: _Value, context: Mapping[str, object]) -> str:
    """The key's value as a literal. The value never shows in an error."""
    given = _given(value.key, context)
    try:
        if not value.array:
            one, name = typed(value.type, given, value.digits)
            return print_literal(one, name)
        if not isinstance(given, tuple) or not given:
            raise ValueError("not an array")
        typed_items = [typed(value.type, item, value.digits) for item in given]
        items = [item for item, _ in typed_items]
        name = type_of(items)[len("Array(") : -1] if value.type in ("Int", "Integer") else typed_items[0][1]
        return print_literal(items, f"Array({name})")
    except (ValueError, TemplateError):
        raise InvalidContextKey(value.key, value.shown) from None


def _given(key: str, context: Mapping[str, object]) -> object:
    if key not in context:
        raise MissingContextKey(key)
    return context[key]


def _unconverted(value: _Value, context: Mapping[str, object]) -> str:
    literal = _literal(value, context)
    return f"materialize({literal})" if value.type == "String" else literal


class _Compiler:
    """Reads one policy's text; every error has its place in the file."""

    def __init__(self, policy: RowPolicy, file: str, columns: Mapping[str, str]) -> None:
        self.policy = policy
        self.file = file
        self.columns = columns
        self.lines = policy.condition.split("\n")

    def compile(self) -> Policy:
        conjuncts = self._read()
        base = conjuncts[0]
        if len(conjuncts) > 1 and self._has_or(base):
            raise self._error("Put the OR of a policy with optional parts into brackets", 1, 1)
        for key in sorted(self.policy.optional - {c.guard for c in conjuncts[1:]}):
            raise self._error(
                f"'{key}' is named by ROW_POLICY_OPTIONAL, but no {{% if defined(context.{key}) %}} asks for it", 1, 1
            )
        compared = frozenset[str]().union(*(c.columns for c in conjuncts))
        has_uuid = any("UUID" in self.columns[name] for name in compared)
        return Policy(tuple(conjuncts), self.policy.optional, _EXAMPLE_UUID if has_uuid else _EXAMPLE)

    def _read(self) -> list[_Conjunct]:
        base: list[str | _Value] = []
        blocks: list[_Conjunct] = []
        guard, block, opened, after_block = "", base, (1, 1), False
        try:
            parts = split(self.policy.condition, "ROW_POLICY")
        except TemplateError as error:
            raise self._error(error.message, error.line or 1, error.column or 1) from None
        for part in parts:
            if after_block and part.kind is not PartKind.DIRECTIVE:
                after_block = self._check_after(part)
            if part.kind is PartKind.TEXT:
                block.append(part.text)
            elif part.kind is PartKind.EXPRESSION:
                block.append(self._value(part.text, guard, part.line, part.column))
            elif part.text == "end" and guard:
                blocks.append(self._block(guard, block, *opened))
                guard, block, after_block = "", base, True
            else:
                guard = self._guard(part.text, guard, blocks, part.line, part.column)
                self._check_outside(base, part.line, part.column)
                block, opened, after_block = [], (part.line, part.column), False
        if guard:
            raise self._error("This {% if %} has no {% end %}", *opened)
        return [self._conjunct("", tuple(base), 1, 1), *blocks]

    def _value(self, text: str, guard: str, line: int, column: int) -> _Value:
        found = _VALUE.fullmatch(text)
        if not found:
            raise self._error(
                f"A ROW_POLICY takes {{{{Type(context.key)}}}} only, not {{{{{text[:80]}}}}}", line, column, _HINT
            )
        type, key, element = found[1], found[2], found[3] or found[4]
        array = type == "Array"
        if array:
            type = element or "String"
        elif element:
            raise self._error("A ROW_POLICY has no defaults: a token without the key is refused", line, column)
        if type not in _TYPES:
            raise self._error(
                f"'{type}' is not a type of a policy's value", line, column, f"One of {', '.join(sorted(_TYPES))}."
            )
        if key in self.policy.optional and key != guard:
            raise self._error(
                f"context.{key} is optional: it may stand only inside {{% if defined(context.{key}) %}}", line, column
            )
        return _Value(key, type, array)

    def _guard(self, text: str, open: str, blocks: list[_Conjunct], line: int, column: int) -> str:
        found = _IF.fullmatch(text)
        if not found:
            raise self._error(f"A ROW_POLICY does not take {{% {text[:80]} %}}", line, column, _HINT)
        key = found[1]
        if open:
            raise self._error("Optional parts of a ROW_POLICY cannot be nested", line, column)
        if key not in self.policy.optional:
            raise self._error(
                f"context.{key} is not optional", line, column, f"Add ROW_POLICY_OPTIONAL {key}, or drop the condition."
            )
        if len(blocks) >= MAX_OPTIONAL:
            raise self._error(f"A ROW_POLICY has at most {MAX_OPTIONAL} optional parts", line, column)
        return key

    def _block(self, guard: str, parts: list[str | _Value], line: int, column: int) -> _Conjunct:
        """`AND <condition>`: the AND becomes ours, the condition a conjunct."""
        first = parts[0] if parts and isinstance(parts[0], str) else ""
        if not _AND.match(first):
            raise self._error("An optional part must begin with AND: it can only narrow", line, column, _HINT)
        return self._conjunct(guard, (_AND.sub("", first, count=1), *parts[1:]), line, column)

    def _check_outside(self, base: list[str | _Value], line: int, column: int) -> None:
        text, _ = _marked(base)
        if not text.strip():
            raise self._error("A ROW_POLICY cannot begin with an optional part", line, column, _HINT)
        try:
            check_condition(text)
        except ExpressionError:
            raise self._error(
                "An optional part must follow a whole condition, outside of brackets", line, column, _HINT
            ) from None

    def _check_after(self, part: TemplatePart) -> bool:
        """What follows an optional part must not go on in the middle of the condition before it.

        True while only white space has followed.
        """
        if part.kind is PartKind.TEXT and not part.text.strip():
            return True
        if part.kind is PartKind.TEXT and _AND.match(part.text):
            return False
        raise self._error("What follows an optional part must begin with AND", part.line, part.column, _HINT)

    def _conjunct(self, guard: str, parts: tuple[str | _Value, ...], line: int, column: int) -> _Conjunct:
        """One boolean expression, in which each value is an operand of its own."""
        text, markers = _marked(parts)
        try:
            tokens = check_condition(text)
        except ExpressionError as error:
            raise self._error(f"The condition of the ROW_POLICY is refused: {error.message}", line, column) from None
        standing = [t.text for i, t in enumerate(tokens) if t.text in markers and _is_operand(tokens, i)]
        if standing != markers or text.count(_MARKER) != len(markers):
            raise self._error(
                "A value cannot stand inside quotes, in a name or in the place of a function", line, column, _HINT
            )
        values = [part for part in parts if not isinstance(part, str)]
        types = {marker: value.type for marker, value in zip(markers, values, strict=True)}
        try:
            check_policy_types(tokens, types, self.columns)
        except Misplaced as error:
            raise self._error(error.message, line, column, error.hint) from None
        columns = columns_in(tokens, frozenset(self.columns))
        return _Conjunct(guard, self._dated(parts, columns, line, column), columns)

    def _dated(
        self, parts: tuple[str | _Value, ...], columns: frozenset[str], line: int, column: int
    ) -> tuple[str | _Value, ...]:
        """A time that its column would cut is another time: how many digits of a second the columns beside it hold."""
        types = [self.columns[name] for name in sorted(columns)]
        found: list[str | _Value] = []
        for part in parts:
            if isinstance(part, _Value) and part.type in DATES and types:
                digits = digits_of(part.type, types)
                if digits is None:
                    raise self._error(
                        f"The policy compares a {part.type} with columns that hold none: the engine would cut it",
                        line,
                        column,
                        f"Use the column's own type in {{{{{part.type}(context.{part.key})}}}}.",
                    )
                part = replace(part, digits=digits)
            found.append(part)
        return tuple(found)

    def _has_or(self, conjunct: _Conjunct) -> bool:
        words = {t.text.upper() for t in top_level(check_condition(_marked(conjunct.parts)[0]))}
        return bool(words & {"OR", "?", "->"})

    def _error(self, message: str, line: int, column: int, hint: str = "") -> DatafileError:
        place = self.policy.position
        return DatafileError(
            message,
            file=place.file or self.file,
            line=place.line + line - 1,
            column=max(place.column, 1) + column - 1,
            hint=hint,
            excerpt=self.lines[line - 1] if 0 < line <= len(self.lines) else "",
            reason=Reason.POLICY_INVALID,
        )


def _marked(parts: Iterable[str | _Value]) -> tuple[str, list[str]]:
    """The text with a string literal of its own in the place of each value, and those literals in order."""
    texts: list[str] = []
    markers: list[str] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        else:
            markers.append(f"'{_MARKER}{len(markers)}'")
            texts.append(f" {markers[-1]} ")
    return "".join(texts), markers


def _is_operand(tokens: list[Token], index: int) -> bool:
    """Whether the token stands where a value may: not after a dot or AS, not as the name of a call."""
    before = tokens[index - 1] if index else None
    after = tokens[index + 1] if index + 1 < len(tokens) else None
    if before is not None and (
        before.kind in (LexerKind.DOT, LexerKind.STRING, LexerKind.NUMBER, LexerKind.CLOSE)
        or before.text.upper() in ("AS", "::")
    ):
        return False
    return after is None or after.kind in (LexerKind.OPERATOR, LexerKind.CLOSE, LexerKind.COMMA, LexerKind.WORD)
