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

from pipit.errors import ReadRefused, Reason
from pipit.sql.allowed import ALLOWED_SETTINGS, OBJECT_FUNCTIONS
from pipit.sql.lexer import LexerKind, Token, identifier_name, string_value
from pipit.sql.outline import Outline, all_tables
from pipit.sql.outputs import unsupported_parameters
from pipit.sql.references import single_statement
from pipit.sql.scanner import outline

# What chooses columns by a pattern, or names them anew by a prefix: the tree prints the string as it is. Elsewhere a
# string is a value, which the tree prints with its control characters escaped.
_CHOOSES_COLUMNS = frozenset({"COLUMNS", "EXCEPT", "STRICT", "APPLY"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")


def check_text(sql: str) -> None:
    """Raises SqlError (not one SELECT) or ReadRefused. For texts that a tenant's token runs."""
    single_statement(sql)
    shape = outline(sql)
    for clause in shape.clauses:
        if clause.kind != "settings":
            raise ReadRefused(f"{clause.kind.upper()} is not allowed in a query.", reason=Reason.CLAUSE_REFUSED)
        for setting in clause.settings:
            if setting.name not in ALLOWED_SETTINGS:
                raise ReadRefused(
                    f"The setting {_shown(setting.name)} is not allowed.",
                    reason=Reason.SETTING_REFUSED,
                    subject=setting.name,
                )
    for reason in unsupported_parameters(sql).values():
        raise ReadRefused(f"This query cannot be examined: {reason}.", reason=Reason.NOT_EXAMINABLE)
    if not object_arguments_are_literal(shape):
        raise ReadRefused("A dictionary or Join table must be named by a plain string.", reason=Reason.OBJECT_REFUSED)
    at = hidden_line(shape)
    if at is not None:
        token = next(token for token in shape.tokens if token.start == at)
        raise ReadRefused(
            f"The {_what(token)} {_visible(token.text)} at character {at + 1} holds a line break or another control "
            "character, which a name of a table or column and a pattern for columns cannot.",
            reason=Reason.NOT_EXAMINABLE,
        )


def hidden_line(shape: Outline) -> int | None:
    """The offset of the first name, pattern or setting that would break the tree's lines; None when there is none.

    A string is one only where it names a table, chooses columns, or stands in a clause like SETTINGS.
    """
    clauses = [(clause.start, clause.end) for clause in shape.clauses]
    tables = {item.start for item in all_tables(shape.union)}
    brackets: list[bool] = []  # whether what stands in the bracket chooses columns
    previous = before = ""
    for token in shape.tokens:
        chooses = previous in _CHOOSES_COLUMNS
        if token.kind is LexerKind.OPEN:
            brackets.append(chooses or (previous == "(" and bool(brackets) and brackets[-1]))
        elif token.kind is LexerKind.CLOSE:
            brackets.pop()
        elif token.kind is LexerKind.QUOTED_IDENTIFIER and _CONTROL.search(identifier_name(token)):
            return token.start
        elif token.kind is LexerKind.STRING and _CONTROL.search(string_value(token.text)):
            in_list = bool(brackets) and brackets[-1]
            like_all = previous in ("LIKE", "ILIKE") and before == "*"  # `* LIKE 'a%'`
            in_clause = any(start <= token.start < end for start, end in clauses)
            if chooses or in_list or like_all or in_clause or token.start in tables:
                return token.start
        if token.text.upper() != "NOT":
            before, previous = previous, token.text.upper()
    return None


def _what(token: Token) -> str:
    return "text" if token.kind is LexerKind.STRING else "name"


def _visible(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\u{{{ord(found[0]):x}}}", _shown(text))


def object_arguments_are_literal(shape: Outline) -> bool:
    """Whether every dictGet*, joinGet* of the text names its object by a plain string, that no value can change."""
    index_of = {token.start: index for index, token in enumerate(shape.tokens)}
    for function in shape.functions:
        if identifier_name(function) not in OBJECT_FUNCTIONS:
            continue
        after = shape.tokens[index_of[function.start] + 2 : index_of[function.start] + 4]
        if len(after) < 2 or after[0].kind is not LexerKind.STRING:
            return False
        if after[1].kind not in (LexerKind.COMMA, LexerKind.CLOSE):
            return False
    return True


def _shown(name: str) -> str:
    return name if len(name) <= 60 else name[:60] + "..."
