"""Where a statement cannot be read, told in the text that a person wrote.

The engine counts in the text that it got, which has other names in it, other nodes in front and values in the place of
templates. What stands there and what stands before it lead back to the person's own text.
"""

from __future__ import annotations

import re

from pipit.engine.failures import END
from pipit.errors import SqlError

_AT = re.compile(r"failed at (?:position (\d+)|end of query)(?: \(line \d+, col \d+\))?")
_LEXEME = re.compile(r"\w+|[^\w\s`\"]")
_COMPARED = 200  # lexemes before the place


class Unread(SqlError):
    """A syntax error, with the text of the statement before its place and from its place on."""

    def __init__(self, error: SqlError, before: str, here: str) -> None:
        super().__init__(
            error.message, engine_code=error.engine_code, engine_name=error.engine_name, unread_at=error.unread_at
        )
        self.before = before
        self.here = here


def unread(error: SqlError, sent: str, start: int) -> SqlError:
    """The error with its place, if it is a syntax error. `start`: where in what was sent the statement begins."""
    if error.unread_at is None:
        return error
    text = sent.encode("utf-8", "replace")  # the engine counts bytes
    at = len(text) if error.unread_at == END else error.unread_at
    first = len(sent[:start].encode("utf-8", "replace"))
    if not first <= at <= len(text):
        return error
    return Unread(error, text[first:at].decode("utf-8", "ignore"), text[at:].decode("utf-8", "ignore"))


def without_place(error: SqlError) -> str:
    """A syntax error's message without the engine's place, which means nothing to a reader; others as they are."""
    if error.unread_at is None:
        return error.message
    return re.sub(rf":?\s*{_AT.pattern}", "", error.message)


def place_in(own: str, before: str, here: str) -> tuple[int, str] | None:
    """(offset, word) in a person's own text: of all places of the word, the one with most of the same before it."""
    word = _LEXEME.search(here)
    if word is None:
        return len(own.rstrip()), ""
    past = _LEXEME.findall(before[-8000:])[-_COMPARED:]
    lexemes = list(_LEXEME.finditer(own))
    best: tuple[int, int] | None = None
    for index, lexeme in enumerate(lexemes):
        if lexeme[0] == word[0]:
            same = 0
            while same < min(index, len(past)) and lexemes[index - 1 - same][0] == past[-1 - same]:
                same += 1
            if best is None or same > best[0]:
                best = (same, lexeme.start())
    return (best[1], word[0]) if best else None
