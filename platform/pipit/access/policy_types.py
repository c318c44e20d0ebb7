"""Where a value of the context may stand in a policy: where the engine compares it as what it is, and nowhere else.

ClickHouse converts a constant to the type of what it is compared with, silently and not always to the same value: the
text '18446744073709551658' is the UInt64 42, '2' the second element of an Enum, '1.504' the Decimal 1.50; a function
like toUInt8 wraps, and LIKE reads a `%`. So a value stands beside a comparison, in a list, or in a function that gives
different results for different values. What its text cannot show (a number inside of a function, a Map or a Tuple) is
tried in the engine when the project is deployed (`deploy/policies.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pipit.sql.expressions import NAMES
from pipit.sql.lexer import LexerKind, Token, identifier_name

COMPARISONS = frozenset({"=", "==", "!=", "<>", "<", ">", "<=", ">=", "IN"})
FUNCTIONS = frozenset(
    {
        "equals",
        "notEquals",
        "less",
        "lessOrEquals",
        "greater",
        "greaterOrEquals",
        "in",
        "notIn",
        "has",
        "hasAny",
        "hasAll",
    }
    | {"tuple", "array", "lower", "upper", "lowerUTF8", "upperUTF8", "if", "multiIf", "and", "or", "not", "ifNull"}
    | {"coalesce", "arrayExists", "arrayAll"}
)
_LOGIC = frozenset({"AND", "OR", "NOT", "BETWEEN", "CASE", "WHEN", "THEN", "ELSE", "END", "->"})
_BEFORE = COMPARISONS | _LOGIC | {"(", "[", ","}
_AFTER = COMPARISONS | _LOGIC | {")", "]", ","}
_NUMBERS = re.compile(r"(?:(?:Nullable|LowCardinality)\()*(?:U?Int\d|Decimal|Float|BFloat)")
_ENUM = re.compile(r"(?:(?:Nullable|LowCardinality)\()*Enum")


class Misplaced(ValueError):
    """A value that the engine could take for another one; for the policy's author."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def check_policy_types(tokens: Sequence[Token], values: Mapping[str, str], columns: Mapping[str, str]) -> None:
    """`values`: the tokens' text that stand for values, with their types. Raises Misplaced."""
    texts = {text for text, type in values.items() if type == "String"}
    for index, token in enumerate(tokens):
        if token.text in values:
            _check_place(tokens, index)
        if token.text in texts and (number := _number_beside(tokens, index, columns)):
            raise Misplaced(
                f"The policy compares '{number}', a number, with a text: the engine would take "
                "18446744073709551658 for 42",
                f"Use the column's own type, such as {{{{UInt64(context.{number})}}}}.",
            )
        name = identifier_name(token) if token.kind in NAMES else ""
        if texts and _ENUM.match(columns.get(name, "")) and not _is_text(tokens, index):
            raise Misplaced(
                f"The policy compares '{name}', an Enum, with a text: the engine would take '2' for its second element",
                f"Write toString({name}), which compares the elements' names.",
            )


def _check_place(tokens: Sequence[Token], index: int) -> None:
    before = tokens[index - 1].text.upper() if index else "("
    after = tokens[index + 1].text.upper() if index + 1 < len(tokens) else ")"
    if before not in _BEFORE or after not in _AFTER:
        beside = before if before not in _BEFORE else after
        raise Misplaced(
            f"A value of the context cannot stand beside {beside}: what it reads is not this value alone",
            "Compare it: =, !=, <, >, IN, BETWEEN, has(column, value).",
        )
    for name in _calls(tokens, index):
        if name not in FUNCTIONS:
            raise Misplaced(
                f"A value of the context cannot stand in {name}(): it may give the same for two values",
                f"Compare the value itself; for another type write {{{{UInt64(context.key)}}}} and the like. "
                f"Allowed: {', '.join(sorted(FUNCTIONS))}.",
            )


def _calls(tokens: Sequence[Token], index: int) -> list[str]:
    """The functions around a token, inner ones first."""
    found: list[str] = []
    depth = 0
    for place in range(index - 1, -1, -1):
        kind = tokens[place].kind
        if kind is LexerKind.CLOSE:
            depth += 1
        elif kind is LexerKind.OPEN and depth:
            depth -= 1
        elif kind is LexerKind.OPEN:
            called = tokens[place - 1] if place else None
            if tokens[place].text == "(" and called is not None and called.kind in NAMES:
                name = identifier_name(called)
                if name.upper() not in _BEFORE:
                    found.append(name)
            elif tokens[place].text == "[" and called is not None and _is_subscript(called):
                found.append(f"{called.text}[]")
    return found


def _is_subscript(before: Token) -> bool:
    return before.kind in (*NAMES, LexerKind.CLOSE) and before.text.upper() not in _BEFORE


def _is_text(tokens: Sequence[Token], index: int) -> bool:
    """Whether a column is made a text right where it stands: toString(x), CAST(x AS String), x::String."""
    around = [token.text for token in tokens[max(index - 2, 0) : index + 4]]
    before, after = tokens[max(index - 2, 0) : index], [token.text for token in tokens[index + 1 : index + 4]]
    called = [token.text.upper() for token in before]
    if called == ["TOSTRING", "("] and after[:1] == [")"]:
        return True
    if called == ["CAST", "("]:
        return [a.upper() for a in after] == ["AS", "STRING", ")"] or after == [",", "'String'", ")"]
    return "::" in around and [a.upper() for a in after[:2]] == ["::", "STRING"]


def _number_beside(tokens: Sequence[Token], index: int, columns: Mapping[str, str]) -> str:
    """The column of numbers that the token is compared with, as far as it stands right beside it."""
    before = [t for t in _without_brackets(tokens[:index]) if t.text not in ("(", "[")][-4:]
    names = [t for t in before[:-1] if t.text.upper() not in ("NOT", "GLOBAL")][-1:]
    if not before or before[-1].text.upper() not in COMPARISONS:
        names = []
    if index + 2 < len(tokens) and tokens[index + 1].text in COMPARISONS:
        names.append(tokens[index + 2])
    for token in names:
        name = identifier_name(token) if token.kind in NAMES else ""
        if _NUMBERS.match(columns.get(name, "")):
            return name
    return ""


def _without_brackets(tokens: Sequence[Token]) -> list[Token]:
    """`(column)` becomes `column`; the brackets of a call stay."""
    found: list[Token] = []
    for token in tokens:
        found.append(token)
        if token.text == ")" and len(found) > 2 and found[-3].text == "(":
            called = len(found) > 3 and found[-4].kind in NAMES and found[-4].text.upper() not in ("AND", "OR", "NOT")
            if not called:
                found[-3:] = [found[-2]]
    return found
