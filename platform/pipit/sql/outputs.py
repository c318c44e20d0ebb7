"""Which query parameters stand where ClickHouse's column names, or its grammar, cannot do with a bound value.

ClickHouse names an output column without alias after its expression, and a bound value changes that name:
`{p:Int32}` gives `_CAST(5, 'Int32')`, where the dialect has `5`. Such parameters are printed as literals
instead, by the one literal printer. Promises: `unaliased_parameters` reports exactly those that stand in a
SELECT item without an alias, at any depth of subqueries and CTEs; one in an aliased item, or in any other
clause, is left bound.
"""

from __future__ import annotations

from pipit.sql.lexer import LexerKind, Token
from pipit.sql.outline import Outline, SelectOutline, Union
from pipit.sql.scanner import outline


def unaliased_parameters(sql: str) -> frozenset[int]:
    """The offsets of the `{name:Type}` tokens that stand in an item of a SELECT list without an alias."""
    found: set[int] = set()
    for query in _queries(outline(sql).union):
        for item in query.items:
            if not item.aliased:
                found.update(item.parameters)
    return frozenset(found)


def sample_parameters(sql: str) -> frozenset[int]:
    """The offsets of those in SAMPLE clauses, where ClickHouse takes numbers only: to be printed."""
    return frozenset(offset for query in _queries(outline(sql).union) for offset in query.samples)


def interval_parameters(sql: str) -> frozenset[int]:
    """The offsets of those that are all of an INTERVAL (`INTERVAL {p:String}`, as '1 day'): to be printed."""
    return frozenset(offset for query in _queries(outline(sql).union) for offset in query.intervals)


def unsupported_parameters(sql: str) -> dict[int, str]:
    """Offset -> reason, for parameters that no text may have: what is read would depend on their value."""
    shape: Outline = outline(sql)
    found: dict[int, str] = {}
    for token in shape.tokens:
        if token.kind is LexerKind.PARAMETER:
            kind = token.text.partition(":")[2].strip(" \t\r\n}")
            if kind == "Identifier":
                found[token.start] = "an Identifier parameter is not allowed: names are not values"
    found.update(_disguised(shape.tokens))
    for clause in shape.clauses:
        for token in shape.tokens:
            if token.kind is LexerKind.PARAMETER and clause.start <= token.start < clause.end:
                found[token.start] = f"a parameter is not allowed in {clause.kind.upper()}"
    return found


def _disguised(tokens: list[Token]) -> dict[int, str]:
    """{name /**/ : Type}: a parameter to the engine, and not one token to our lexer."""
    found: dict[int, str] = {}
    for token, name, colon in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if token.text == "{" and name.kind in (LexerKind.WORD, LexerKind.NUMBER) and colon.text == ":":
            found[token.start] = "write a parameter as {name:Type}, without comments inside"
    return found


def _queries(union: Union) -> list[SelectOutline]:
    """Every SELECT of the text, outer ones first."""
    found: list[SelectOutline] = []
    pending: list[SelectOutline | Union] = [union]
    while pending:
        part = pending.pop()
        if isinstance(part, Union):
            pending.extend(part.parts)
            continue
        found.append(part)
        pending.extend(cte.body for cte in part.ctes)
        pending.extend(part.nested)
        pending.extend(item.body for item in part.tables if item.body is not None)
    return found
