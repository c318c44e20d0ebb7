"""Whether a text is one boolean expression that may become a row filter. Decided on the lexer's tokens, by allow-list.

A filter's text stands between brackets in a setting that takes no parameters, and the engine's tree of a query does
not show it. So it may hold no second statement, no comment, no subquery and no name of a table: nothing of which one
would have to ask what it reads. What the check lets through and the engine does not understand ends as the engine's
error: a query without its filter never runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipit.sql.allowed import AGGREGATE_FUNCTIONS, function_verdict
from pipit.sql.lexer import Token, TokenKind, identifier_name, significant, tokenize

MAX_CHARACTERS = 16_384
MAX_DEPTH = 100

_PAIRS = {"(": ")", "[": "]"}
_NAMES = (TokenKind.WORD, TokenKind.QUOTED_IDENTIFIER)
# Words that begin or join a query, or end an expression for a clause.
_QUERY_WORDS = frozenset({"SELECT", "WITH", "UNION", "INTERSECT", "EXCEPT", "EXISTS", "EXPLAIN", "SETTINGS", "AS"})
_CONSTANTS = frozenset({"TRUE", "FALSE", "NULL"})
# Words that a bracket may follow without a call.
_OPERATOR_WORDS = frozenset(
    {"AND", "OR", "NOT", "LIKE", "ILIKE", "REGEXP", "BETWEEN", "IS", "DIV", "MOD", "CASE", "WHEN", "THEN", "ELSE"}
    | {"INTERVAL", "DISTINCT"}
)
# `in(x, t)` and its kin read the table t, as `x IN t` does; arrayJoin makes other rows.
_NOT_IN_FILTERS = frozenset(
    f"{scope}{negated}{kind}in{ignoring}"
    for scope in ("", "global")
    for negated in ("", "not")
    for kind in ("", "null")
    for ignoring in ("", "ignoreset")
) | {"arrayjoin"}


class ConditionError(ValueError):
    """Why a text is no condition. `offset` is where, in characters."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


def check_condition(text: str) -> list[Token]:
    """The tokens that mean something, if the text is one boolean expression. Raises ConditionError."""
    if len(text) > MAX_CHARACTERS:
        raise ConditionError(f"it is longer than {MAX_CHARACTERS} characters")
    all_tokens = tokenize(text)
    for token in all_tokens:
        if token.kind is TokenKind.COMMENT:
            raise ConditionError("it has a comment", token.start)
    tokens = significant(all_tokens)
    if not tokens:
        raise ConditionError("it is empty")
    _check_tokens(tokens)
    _check_brackets(tokens)
    for index, token in enumerate(tokens):
        if token.kind in _NAMES:
            _check_name(tokens, index)
    return tokens


def top_level(tokens: Sequence[Token]) -> list[Token]:
    """The tokens outside of all brackets. The brackets must match."""
    depth = 0
    found: list[Token] = []
    for token in tokens:
        if token.kind is TokenKind.CLOSE:
            depth -= 1
        if depth == 0:
            found.append(token)
        if token.kind is TokenKind.OPEN:
            depth += 1
    return found


def columns_in(tokens: Sequence[Token], columns: frozenset[str]) -> frozenset[str]:
    """The columns that any of the names may mean: `a.b` is a column, a part of `a`, or `b` of the table `a`."""
    found: set[str] = set()
    for start, token in enumerate(tokens):
        if token.text == "*" and start and tokens[start - 1].kind in (TokenKind.OPEN, TokenKind.COMMA, TokenKind.DOT):
            return columns
        path = ""
        for at in range(start, len(tokens), 2):
            following = tokens[at + 1] if at + 1 < len(tokens) else None
            if tokens[at].kind not in _NAMES or (following is not None and following.text == "("):
                break
            path = f"{path}.{identifier_name(tokens[at])}" if path else identifier_name(tokens[at])
            found.add(path)
            if following is None or following.kind is not TokenKind.DOT:
                break
    return frozenset(found & columns)


def _check_tokens(tokens: Sequence[Token]) -> None:
    for token in tokens:
        if token.kind is TokenKind.ERROR:
            raise ConditionError("it has a character or a quote that SQL does not know", token.start)
        if token.kind is TokenKind.SEMICOLON:
            raise ConditionError("it has a ';'", token.start)
        if token.kind is TokenKind.PARAMETER or token.text in ("{", "}"):
            raise ConditionError("it has a '{': a filter takes no query parameters", token.start)
        if token.kind is TokenKind.OPERATOR and token.text in ("@@", "@", "|>", "\\G"):
            raise ConditionError(f"it has '{token.text}'", token.start)


def _check_brackets(tokens: Sequence[Token]) -> None:
    waiting: list[str] = []
    for token in tokens:
        if token.kind is TokenKind.OPEN:
            waiting.append(_PAIRS[token.text])
            if len(waiting) > MAX_DEPTH:
                raise ConditionError("its brackets are nested too deeply", token.start)
        elif token.kind is TokenKind.CLOSE:
            if not waiting or waiting.pop() != token.text:
                raise ConditionError(f"its '{token.text}' closes nothing", token.start)
        elif token.kind is TokenKind.COMMA and not waiting:
            raise ConditionError("it has a ',' outside of brackets: it must be one expression", token.start)
    if waiting:
        raise ConditionError(f"a '{waiting[-1]}' is missing", tokens[-1].end)


def _check_name(tokens: Sequence[Token], index: int) -> None:
    token = tokens[index]
    word = token.text.upper() if token.kind is TokenKind.WORD else ""
    following = tokens[index + 1] if index + 1 < len(tokens) else None
    if word in _QUERY_WORDS and not (word == "AS" and _in_cast(tokens, index)):
        raise ConditionError(f"it has {word}: a filter is one expression over the table's own columns", token.start)
    if word == "IN":
        _check_in(tokens, index)
    elif following is not None and following.text == "(" and following.kind is TokenKind.OPEN:
        name = identifier_name(token)
        if word in _OPERATOR_WORDS:
            return
        refused = name.lower() in _NOT_IN_FILTERS or name in AGGREGATE_FUNCTIONS
        if refused or function_verdict(name):
            raise ConditionError(f"the function '{name[:80]}' is not allowed in a filter", token.start)


def _check_in(tokens: Sequence[Token], index: int) -> None:
    """After IN: a list of values. A bare name there could be a table, in brackets too."""
    first = tokens[index + 1] if index + 1 < len(tokens) else None
    if first is not None and first.kind is TokenKind.STRING:
        return
    if first is None or first.kind is not TokenKind.OPEN:
        raise ConditionError("IN needs a list of values: IN ('a', 'b')", tokens[index].start)
    calls: list[bool] = []  # of each open bracket: whether it holds the arguments of a call
    for at in range(index + 1, len(tokens)):
        before, token = tokens[at - 1], tokens[at]
        if token.kind is TokenKind.OPEN:
            calls.append(len(calls) > 0 and before.kind in _NAMES)
        elif token.kind is TokenKind.CLOSE:
            calls.pop()
            if not calls:
                return
        elif token.kind in _NAMES and not any(calls):
            if token.text.upper() in _CONSTANTS or tokens[at + 1].text == "(":
                continue
            raise ConditionError("the list of an IN may hold values only, no names", token.start)


def _in_cast(tokens: Sequence[Token], index: int) -> bool:
    """`AS` inside of `CAST( ... )`, at its own level."""
    depth = 0
    for at in range(index - 1, 0, -1):
        token = tokens[at]
        if token.kind is TokenKind.CLOSE:
            depth += 1
        elif token.kind is TokenKind.OPEN:
            if depth == 0:
                return token.text == "(" and tokens[at - 1].text.upper() == "CAST"
            depth -= 1
    return False
