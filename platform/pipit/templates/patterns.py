"""Where a template uses a text parameter as a pattern of LIKE: the one known place where a value means something else.

The dialect prints a `String` with a backslash before each `%` (and so before LIKE sees it); here the value is bound as
it is, and its `%` is a wildcard. Found in the source, without rendering: the operand after LIKE, ILIKE and their NOT
forms, however many calls and `||` are around the parameter, and the pattern of the functions of these names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pipit.errors import TemplateError
from pipit.sql.lexer import LexerKind, Token, significant, tokenize
from pipit.templates import keywords
from pipit.templates.expressions import TemplateScope, parse
from pipit.templates.parts import PartKind, TemplatePart, split

_OPERATORS = frozenset({"LIKE", "ILIKE"})
_FUNCTIONS = frozenset({"like", "notlike", "ilike", "notilike"})
_BEFORE_OPERAND = frozenset(
    {"AND", "OR", "NOT", "WHERE", "PREWHERE", "HAVING", "QUALIFY", "ON", "SELECT", "DISTINCT", "BY"}
    | {"CASE", "WHEN", "THEN", "ELSE"}
)
_MARK = "pipit_pattern_"


class Pattern(NamedTuple):
    """A parameter in a pattern. The place is the expression's, within the source."""

    parameter: str
    line: int
    column: int


def patterns(source: str) -> tuple[Pattern, ...]:
    """The places in the order of the source. `source` compiles as a template; else there are none."""
    start = len(source) - len(source.lstrip())
    if not source.startswith("%", start) or "like" not in source.lower():
        return ()
    try:
        parts = split(source[:start] + " " + source[start + 1 :], "")
    except TemplateError:
        return ()
    pieces: list[str] = []
    expressions: list[TemplatePart] = []
    for part in parts:
        if part.kind is PartKind.TEXT:
            pieces.append(part.text)
        elif part.kind is PartKind.EXPRESSION:
            pieces.append(f" {_MARK}{len(expressions)} ")
            expressions.append(part)
        else:
            pieces.append(" ")
    tokens = significant(tokenize("".join(pieces)))
    numbers = sorted({number for place in _operands(tokens) for number in _marks(tokens[place])})
    found: list[Pattern] = []
    for number in numbers:
        part = expressions[number]
        found += [Pattern(name, part.line, part.column) for name in _texts(part)]
    return tuple(found)


def _operands(tokens: Sequence[Token]) -> Iterator[slice]:
    """The tokens of each pattern; one that stands in another is part of that."""
    closing = _closing(tokens)
    begin = end = 0  # of the last one
    for i, token in enumerate(tokens):
        if begin <= i < end or token.kind is not LexerKind.WORD:
            continue
        called = i + 1 in closing and tokens[i + 1].text == "("
        if called and token.text.lower() in _FUNCTIONS and not _after_operand(tokens, i):
            begin, end = _comma(tokens, i + 2, closing[i + 1], closing), closing[i + 1]
            yield slice(begin, end)
        elif token.text.upper() in _OPERATORS:
            begin, end = i + 1, _operand_end(tokens, i + 1, closing)
            yield slice(begin, end)


def _after_operand(tokens: Sequence[Token], i: int) -> bool:
    """Whether a value stands before, or a value and NOT: then `LIKE (` is the operator, not a call."""
    if i and tokens[i - 1].text.upper() == "NOT":
        i -= 1
    if not i:
        return False
    before = tokens[i - 1]
    if before.kind is LexerKind.WORD:
        return before.text.upper() not in _BEFORE_OPERAND
    return before.kind in (LexerKind.QUOTED_IDENTIFIER, LexerKind.STRING, LexerKind.NUMBER, LexerKind.CLOSE)


def _operand_end(tokens: Sequence[Token], i: int, closing: dict[int, int]) -> int:
    """After the operand at `i`: a name, a text, a call, something in brackets; and what `||` joins to it."""
    while i < len(tokens):
        i = closing[i] + 1 if i in closing else i + 1
        while i in closing:  # the arguments of a call, the index of an array
            i = closing[i] + 1
        if i >= len(tokens) or tokens[i].text != "||":
            return i
        i += 1
    return len(tokens)


def _comma(tokens: Sequence[Token], i: int, end: int, closing: dict[int, int]) -> int:
    """The offset after the first comma between these, outside of inner brackets."""
    while i < end:
        if tokens[i].kind is LexerKind.COMMA:
            return i + 1
        i = closing[i] + 1 if i in closing else i + 1
    return end


def _closing(tokens: Sequence[Token]) -> dict[int, int]:
    """Each opening bracket's closing one."""
    found: dict[int, int] = {}
    opened: list[int] = []
    for i, token in enumerate(tokens):
        if token.kind is LexerKind.OPEN:
            opened.append(i)
        elif token.kind is LexerKind.CLOSE and opened:
            found[opened.pop()] = i
    return found


def _marks(tokens: Sequence[Token]) -> Iterator[int]:
    for token in tokens:
        number = token.text.removeprefix(_MARK)
        if token.kind is LexerKind.WORD and number != token.text and number.isdigit():
            yield int(number)


def _texts(part: TemplatePart) -> Iterator[str]:
    """The parameters that the expression reads with `String`, unless `sql_unescape` says that wildcards are meant."""
    try:
        todo: list[ast.AST] = [parse(part.text, TemplateScope(""), part.line, part.column)]
    except TemplateError:
        return
    while todo:
        tree = todo.pop()
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
            name = keywords.show(tree.func.id)
            if name == "sql_unescape":
                continue
            if name == "String" and tree.args and isinstance(tree.args[0], ast.Name):
                yield keywords.show(tree.args[0].id)
                continue
        todo += reversed(list(ast.iter_child_nodes(tree)))
