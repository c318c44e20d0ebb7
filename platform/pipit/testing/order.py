"""What a query sorts its rows by, read from its text: enough to tell ties from a wrong order."""

from __future__ import annotations

from collections.abc import Sequence

from pipit.errors import SqlError
from pipit.sql.lexer import Token, TokenKind, significant, tokenize

_ENDS = frozenset({"LIMIT", "OFFSET", "FETCH", "SETTINGS", "FORMAT", "INTO"})
_SETS = frozenset({"UNION", "INTERSECT", "EXCEPT"})
_DIRECTIONS = frozenset({"ASC", "DESC", "ASCENDING", "DESCENDING", "NULLS", "COLLATE", "WITH"})


def sort_keys(sql: str) -> list[str] | None:
    """The expressions of the outermost ORDER BY; none where it has none. None: they cannot be told from the text."""
    try:
        tokens = significant(tokenize(sql))
    except SqlError:
        return None
    depth, start, end = 0, -1, len(tokens)
    for index, token in enumerate(tokens):
        if token.kind is TokenKind.OPEN:
            depth += 1
        elif token.kind is TokenKind.CLOSE:
            depth -= 1
        if depth or token.kind is not TokenKind.WORD:
            continue
        word = token.text.upper()
        following = tokens[index + 1].text.upper() if index + 1 < len(tokens) else ""
        if word == "ORDER" and following == "BY":
            start, end = index + 2, len(tokens)
        elif word in _ENDS and start >= 0:
            end = min(end, index)
        elif word in _SETS and following in ("ALL", "DISTINCT", "SELECT", "WITH", "("):
            start = -1
    if start < 0:
        return []
    items = [_expression(sql, item) for item in _items(tokens[start:end])]
    return None if "" in items or any(item.upper() == "ALL" for item in items) else items


def with_key(sql: str, keys: Sequence[str], name: str) -> str | None:
    """The query with its sort keys as one more column, the last; None where it is not one plain SELECT."""
    try:
        tokens = significant(tokenize(sql))
    except SqlError:
        return None
    depth, place = 0, -1
    for token in tokens:
        depth += (token.kind is TokenKind.OPEN) - (token.kind is TokenKind.CLOSE)
        if depth or token.kind is not TokenKind.WORD:
            continue
        word = token.text.upper()
        if word == "DISTINCT" or word in _SETS or (word == "FROM" and place >= 0):
            return None
        if word == "FROM":
            place = token.start
    return f"{sql[:place]}, toString(tuple({', '.join(keys)})) AS {name}\n{sql[place:]}" if place >= 0 else None


def _items(tokens: Sequence[Token]) -> list[list[Token]]:
    found: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.kind is TokenKind.OPEN) - (token.kind is TokenKind.CLOSE)
        if token.kind is TokenKind.COMMA and not depth:
            found.append([])
        else:
            found[-1].append(token)
    return found


def _expression(sql: str, tokens: Sequence[Token]) -> str:
    """The item without its direction. A position (`ORDER BY 2`) is none, nor is one that a parameter stands in."""
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.kind is TokenKind.OPEN) - (token.kind is TokenKind.CLOSE)
        if not depth and index and token.kind is TokenKind.WORD and token.text.upper() in _DIRECTIONS:
            tokens = tokens[:index]
            break
    if not tokens or any(t.kind is TokenKind.PARAMETER for t in tokens):
        return ""
    if len(tokens) == 1 and tokens[0].kind is TokenKind.NUMBER:
        return ""
    return sql[tokens[0].start : tokens[-1].end]
