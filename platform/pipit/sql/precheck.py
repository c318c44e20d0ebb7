"""What is refused in a text before the engine sees it: whatever its tree (`sql.tree`) would not show, or
could not.

Promises, for a text that passed `check_text`: it is one SELECT; it writes no file and sets no format; its
SETTINGS are allowed ones; no parameter names an object; its functions that read a dictionary or Join table
name it by a plain string; and no name in it can pretend to be a line of the tree. With that, the tree of one
set of parameter values speaks for all values.

The engine's tree leaves out `SETTINGS x = DEFAULT` and `SETTINGS param_x = ...`, which is why settings are
checked here too; a parameter of a type String is a constant in it, like any literal, which is why objects
are.
"""

from __future__ import annotations

import re

from pipit.errors import ReadRefused
from pipit.sql.allowed import ALLOWED_SETTINGS, OBJECT_FUNCTIONS
from pipit.sql.lexer import TokenKind, identifier_name, string_value
from pipit.sql.outline import Outline
from pipit.sql.outputs import unsupported_parameters
from pipit.sql.references import single_statement
from pipit.sql.scanner import outline

# After these a string is a pattern or a table's name, which the tree prints as it is.
_PATTERN_WORDS = frozenset({"COLUMNS", "EXCEPT", "STRICT", "LIKE", "ILIKE", "FROM", "JOIN", ","})
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")


def check_text(sql: str) -> None:
    """Raises SqlError (not one SELECT) or ReadRefused. For texts that a tenant's token runs."""
    single_statement(sql)
    shape = outline(sql)
    for clause in shape.clauses:
        if clause.kind != "settings":
            raise ReadRefused(f"{clause.kind.upper()} is not allowed in a query.")
        for setting in clause.settings:
            if setting.name not in ALLOWED_SETTINGS:
                raise ReadRefused(f"The setting {_shown(setting.name)} is not allowed.")
    for reason in unsupported_parameters(sql).values():
        raise ReadRefused(f"This query cannot be examined: {reason}.")
    if not object_arguments_are_literal(shape):
        raise ReadRefused("A dictionary or Join table must be named by a plain string.")
    if hidden_line(shape) is not None:
        raise ReadRefused("A name or pattern in this query holds a line break or another control character.")


def hidden_line(shape: Outline) -> int | None:
    """The offset of the first name, pattern or setting that would break the tree's lines; None when there is none."""
    clauses = [(clause.start, clause.end) for clause in shape.clauses]
    before = previous = ""
    for token in shape.tokens:
        if token.kind is TokenKind.QUOTED_IDENTIFIER and _CONTROL.search(identifier_name(token)):
            return token.start
        if token.kind is TokenKind.STRING and _CONTROL.search(string_value(token.text)):
            as_pattern = previous in _PATTERN_WORDS or (previous == "(" and before in _PATTERN_WORDS)
            if as_pattern or any(start <= token.start < end for start, end in clauses):
                return token.start
        before, previous = previous, token.text.upper()
    return None


def object_arguments_are_literal(shape: Outline) -> bool:
    """Whether every dictGet*, joinGet* of the text names its object by a plain string, that no value can change."""
    index_of = {token.start: index for index, token in enumerate(shape.tokens)}
    for function in shape.functions:
        if identifier_name(function) not in OBJECT_FUNCTIONS:
            continue
        after = shape.tokens[index_of[function.start] + 2 : index_of[function.start] + 4]
        if len(after) < 2 or after[0].kind is not TokenKind.STRING:
            return False
        if after[1].kind not in (TokenKind.COMMA, TokenKind.CLOSE):
            return False
    return True


def _shown(name: str) -> str:
    return name if len(name) <= 60 else name[:60] + "..."
