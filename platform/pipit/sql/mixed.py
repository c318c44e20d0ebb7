"""A filter over a column with values of several types: each row is compared as what the filter compares it with.

`data.tenant = 'a'` over a JSON column compares every row's value in that value's own type, also the rows of others that
the filter is there to hide. One row with a number or a list in its place would be an error, for everybody. So the
value is converted first, by a conversion that never fails: to its text, and from there to the type of a number or
date that it is compared with, or NULL. A part with a type of its own (`data.tenant.:String`, `data.tenant::String`, a
typed path of the column) stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from pipit.sql.expressions import NAMES
from pipit.sql.lexer import LexerKind, Token, identifier_name, significant, string_value, tokenize
from pipit.sql.literals import quote_string

_COMPARISONS = frozenset({"=", "==", "!=", "<>", "<", ">", "<=", ">=", "IN", "BETWEEN"})
# Calls that compare what they are given, and calls that take a text.
_COMPARING = frozenset(
    {"equals", "notEquals", "less", "lessOrEquals", "greater", "greaterOrEquals", "in", "notIn", "has", "hasAny"}
    | {"hasAll", "if", "multiIf", "ifNull", "coalesce", "tuple", "array"}
)
_OF_TEXT = frozenset({"lower", "upper", "lowerUTF8", "upperUTF8"})
_WHOLE = re.compile(r"(?:Dynamic|Variant)\b")
_REMEMBERED = 4096


@lru_cache(maxsize=_REMEMBERED)
def settled(condition: str, columns: tuple[tuple[str, str], ...]) -> str:
    """The condition with such columns converted. `columns`: the table's mixed ones, with their types."""
    types = dict(columns)
    tokens = significant(tokenize(condition))
    pieces: list[str] = []
    position = at = 0
    while at < len(tokens):
        end = _chain(tokens, at)
        if end == at:
            at += 1
            continue
        names = [identifier_name(token) for token in tokens[at:end:2]]
        starts = at == 0 or tokens[at - 1].kind is not LexerKind.DOT
        type = types.get(names[0], "") if starts else ""
        if type and _is_mixed_part(type, names) and not _is_typed(tokens, at, end):
            target = _target(tokens, at, end)
            if target:
                text = condition[tokens[at].start : tokens[end - 1].end]
                pieces += [condition[position : tokens[at].start], _converted(text, target)]
                position = tokens[end - 1].end
        at = end
    return "".join((*pieces, condition[position:]))


def _chain(tokens: Sequence[Token], at: int) -> int:
    """Where `a.b.c` ends that begins here; here, where no name stands. A call is no name."""
    end = at
    while end < len(tokens) and tokens[end].kind in NAMES:
        end += 1
        if end + 1 >= len(tokens) or tokens[end].kind is not LexerKind.DOT or tokens[end + 1].kind not in NAMES:
            break
        end += 1
    return end


def _is_mixed_part(type: str, names: Sequence[str]) -> bool:
    if _WHOLE.match(type):
        return len(names) == 1
    return type.startswith("JSON") and len(names) > 1 and not _has_type(type, ".".join(names[1:]))


def _has_type(type: str, path: str) -> bool:
    """Whether the JSON type gives the path, or an object above it, a type: JSON(tenant String, max_dynamic_paths=8)."""
    tokens = significant(tokenize(type))
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token.kind is LexerKind.OPEN) - (token.kind is LexerKind.CLOSE)
        if depth == 1 and token.kind in (LexerKind.OPEN, LexerKind.COMMA) and tokens[at + 1].kind in NAMES:
            end = _chain(tokens, at + 1)
            named = ".".join(identifier_name(one) for one in tokens[at + 1 : end : 2])
            if tokens[end].text != "=" and named.upper() != "SKIP" and f"{path}.".startswith(f"{named}."):
                return True
    return False


def _is_typed(tokens: Sequence[Token], start: int, end: int) -> bool:
    """Whether what stands there says its type or goes on: x.:String, x::String, x[1], CAST(x ...), f(x)."""
    after = tokens[end] if end < len(tokens) else None
    if after is not None and (after.kind is LexerKind.DOT or after.text in ("::", "[", "(")):
        return True
    call = _call(tokens, start)
    return bool(call) and call not in _COMPARING | _OF_TEXT


def _call(tokens: Sequence[Token], at: int) -> str:
    """The function right around a token; empty: none."""
    depth = 0
    for place in range(at - 1, -1, -1):
        depth += (tokens[place].kind is LexerKind.CLOSE) - (tokens[place].kind is LexerKind.OPEN)
        if depth < 0:
            named = place and tokens[place].text == "(" and tokens[place - 1].kind in NAMES
            name = identifier_name(tokens[place - 1]) if named else ""
            if name.upper() in ("AND", "OR", "NOT", "IN", "WHEN", "THEN", "ELSE", "BETWEEN", ""):
                depth = 0
                continue
            return name
    return ""


def _target(tokens: Sequence[Token], start: int, end: int) -> str:
    """The type that the value there is compared with; empty where the text does not say."""
    after = [token.text.upper() for token in tokens[end : end + 2]]
    if after and (after[0] in _COMPARISONS or after in (["NOT", "IN"], ["NOT", "BETWEEN"], ["GLOBAL", "IN"])):
        for at in range(end + 1, min(end + 6, len(tokens))):
            if found := _type_of(tokens, at):
                return found
    if start and tokens[start - 1].text.upper() in _COMPARISONS:
        for at in range(start - 2, max(start - 6, -1), -1):
            if found := _type_of(tokens, at):
                return found
    call = _call(tokens, start)
    if call in _OF_TEXT:
        return "String"
    if call:
        return next((found for at in range(start, -1, -1) if (found := _type_of(tokens, at))), "") or next(
            (found for at in range(end, len(tokens)) if (found := _type_of(tokens, at))), ""
        )
    return ""


def _type_of(tokens: Sequence[Token], at: int) -> str:
    """The type of the literal at this place; empty: no literal."""
    token = tokens[at]
    if token.kind is LexerKind.NUMBER:
        return "Int256" if token.text.isdigit() else "Float64"
    if token.text.upper() in ("TRUE", "FALSE"):
        return "Bool"
    if token.kind is not LexerKind.STRING:
        return ""
    following = tokens[at + 1 : at + 3]
    before = [one.text.upper() for one in tokens[max(at - 2, 0) : at]]
    if before == ["CAST", "("] and len(following) == 2 and following[1].kind is LexerKind.STRING:
        return string_value(following[1].text)
    if before[-1:] == [","] and at >= 4 and tokens[at - 4].text.upper() == "CAST":
        return string_value(token.text)
    return "String"


def _converted(text: str, type: str) -> str:
    as_text = f"CAST({text}, 'Nullable(String)')"
    # By way of its text: `true` is not the number 1, and a date not the number of its day.
    return as_text if type == "String" else f"accurateCastOrNull({as_text}, {quote_string(type)})"
