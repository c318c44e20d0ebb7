"""What a query sorts its rows by, read from its rendered text: enough to tell ties from a wrong order."""

from __future__ import annotations

from collections.abc import Sequence

from pipit.errors import SqlError
from pipit.sql.lexer import LexerKind, Token, significant, tokenize

_ENDS = frozenset({"LIMIT", "OFFSET", "FETCH", "SETTINGS", "FORMAT", "INTO"})
_SETS = frozenset({"UNION", "INTERSECT", "EXCEPT"})
_DIRECTIONS = frozenset({"ASC", "DESC", "ASCENDING", "DESCENDING", "NULLS", "COLLATE", "WITH"})


def sort_keys(sql: str) -> list[str] | None:
    """The expressions of the outermost ORDER BY, as they stand; none where it has none. None: it cannot be read."""
    try:
        tokens = significant(tokenize(sql))
    except SqlError:
        return None
    depth, start, end = 0, -1, len(tokens)
    for index, token in enumerate(tokens):
        if token.kind is LexerKind.OPEN:
            depth += 1
        elif token.kind is LexerKind.CLOSE:
            depth -= 1
        if depth or token.kind is not LexerKind.WORD:
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
    return None if "" in items else items


def over_answer(sql: str, keys: Sequence[str], name: str) -> str:
    """The query's rows with their sort keys as one more column, the last. Fails where a key is no column of them."""
    columns = ", ".join(_of_columns(key) for key in keys)
    return f"SELECT *, toString(tuple({columns})) AS {name} FROM (\n{sql}\n)"


def with_key(sql: str, keys: Sequence[str], name: str) -> str | None:
    """The query itself with its sort keys as one more column, the last; None where it is not one plain SELECT."""
    if any(_of_columns(key) != key for key in keys):
        return None
    try:
        tokens = significant(tokenize(sql))
    except SqlError:
        return None
    depth, place = 0, -1
    for token in tokens:
        depth += (token.kind is LexerKind.OPEN) - (token.kind is LexerKind.CLOSE)
        if depth or token.kind is not LexerKind.WORD:
            continue
        word = token.text.upper()
        if word == "DISTINCT" or word in _SETS or (word == "FROM" and place >= 0):
            return None
        if word == "FROM":
            place = token.start
    return f"{sql[:place]}, toString(tuple({', '.join(keys)})) AS {name}\n{sql[place:]}" if place >= 0 else None


def _of_columns(key: str) -> str:
    """A key over the answer's columns: `ORDER BY 2` is the second one, ORDER BY ALL is all of them."""
    if key.isdecimal():
        return f"tupleElement(tuple(*), {key})"
    return "tuple(*)" if key.upper() == "ALL" else key


def _items(tokens: Sequence[Token]) -> list[list[Token]]:
    found: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.kind is LexerKind.OPEN) - (token.kind is LexerKind.CLOSE)
        if token.kind is LexerKind.COMMA and not depth:
            found.append([])
        else:
            found[-1].append(token)
    return found


def _expression(sql: str, tokens: Sequence[Token]) -> str:
    """The item without its direction; empty where there is none."""
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.kind is LexerKind.OPEN) - (token.kind is LexerKind.CLOSE)
        if not depth and index and token.kind is LexerKind.WORD and token.text.upper() in _DIRECTIONS:
            tokens = tokens[:index]
            break
    return sql[tokens[0].start : tokens[-1].end] if tokens else ""
