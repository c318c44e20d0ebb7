"""Columns that a table has and that no statement may see: they were removed from the files, and kept with their values.

Where a text could see one, by a `*` or by its name, the table stands in a subquery without it. Other texts stay as
they are. One thing is left: a text that reads PREWHERE or a virtual column cannot have a subquery there, so its `*`
shows the column until it is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Set

from pipit.sql.identifiers import quote
from pipit.sql.lexer import LexerKind, Token, identifier_name, significant, tokenize

_NAMES = (LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER)
_BEFORE_STAR = frozenset({"SELECT", "DISTINCT", "ALL", ",", "(", "."})
_AFTER_STAR = frozenset({"FROM", "EXCEPT", "REPLACE", "APPLY", "WHERE", "UNION", "INTERSECT", ",", ")"})
_NO_SUBQUERY = re.compile(
    r"PREWHERE|_(?:part|partition|sample_factor|block|row_exists|disk|table|database)\w*", re.IGNORECASE
)


def without(table: str, hidden: Set[str]) -> tuple[str, str]:
    """What stands before and after the table's modifiers (`FINAL`) in its place. `table` as it stands in SQL."""
    return f"(SELECT * EXCEPT ({', '.join(map(quote, sorted(hidden)))}) FROM {table}", ")"


def may_see(sql: str, hidden: Set[str]) -> bool:
    """Whether the text could show one of these columns. Rather once too often than missed."""
    tokens = significant(tokenize(sql))
    names = {name.partition(".")[0] for name in hidden}
    words = [identifier_name(token) if token.kind in _NAMES else "" for token in tokens]
    if names & set(words):
        return True
    if any(_NO_SUBQUERY.fullmatch(word) for word in words):
        return False
    return any(_shows_all(tokens, index) for index in range(len(tokens)))


def _shows_all(tokens: list[Token], index: int) -> bool:
    token = tokens[index]
    before = tokens[index - 1].text.upper() if index else ""
    after = tokens[index + 1].text.upper() if index + 1 < len(tokens) else ""
    if token.kind is LexerKind.WORD:
        return token.text.upper() == "COLUMNS" and after == "("
    if token.text != "*":
        return False
    counted = before == "(" and after == ")" and index > 1 and tokens[index - 2].text.upper() == "COUNT"
    return not counted and (before in _BEFORE_STAR or after in _AFTER_STAR or not after)
