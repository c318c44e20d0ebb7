"""SAMPLE by a number of rows: how many of a tenant's rows it takes depends on how many rows the others have.

A fraction (`SAMPLE 0.1`, `SAMPLE 1/10 OFFSET 1/2`) takes each row or not by its own sampling key. A number above 1
(`SAMPLE 1000`) becomes a fraction of all rows of the table, those that a filter hides too.
"""

from __future__ import annotations

from fractions import Fraction

from pipit.sql.lexer import LexerKind, Token, significant, tokenize

_BEFORE = frozenset({"SAMPLE", "OFFSET"})


def counted_sample(sql: str) -> str:
    """What in the text samples by a number of rows; empty: nothing does."""
    tokens = significant(tokenize(sql))
    inside = False
    for at, token in enumerate(tokens):
        if token.kind is not LexerKind.WORD:
            continue
        word = token.text.upper()
        if word == "SAMPLE":
            inside = _begins(tokens, at)
            if not inside:
                continue
        elif word != "OFFSET" or not inside:
            inside = False
            continue
        if not _is_fraction(tokens, at + 1):
            return "SAMPLE by a number of rows (a fraction such as SAMPLE 0.1 is possible)"
    return ""


def _begins(tokens: list[Token], at: int) -> bool:
    """Whether SAMPLE is the clause here, and not a name: a number follows it, or a parameter."""
    return at + 1 < len(tokens) and tokens[at + 1].kind in (LexerKind.NUMBER, LexerKind.PARAMETER)


def _is_fraction(tokens: list[Token], at: int) -> bool:
    """Whether the number there, or the ratio of two, is 1 at most."""
    try:
        value = Fraction(tokens[at].text)
        if at + 2 < len(tokens) and tokens[at + 1].text == "/":
            value /= Fraction(tokens[at + 2].text)
    except (ValueError, ZeroDivisionError, IndexError):
        return False
    return value <= 1
