"""Reads a statement's text before the engine does. Nothing here changes SQL.

It finds where the data of an INSERT begins, which output format the statement asks for, and whether it uses words that
reach outside the engine (OUTFILE, INFILE, table functions that read local objects). Whether the text is one statement
is for the engine's own parser to say (`classify_query`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Formats whose blocks can be written one after the other. All others have a head or a tail.
STREAMABLE = frozenset({"native", "tabseparated", "tsv", "csv", "rowbinary", "jsoneachrow", "null"})
DEFAULT_FORMAT = "TabSeparated"

_TOKEN = re.compile(
    rb"""
      (?P<skip>\s+ | --[^\n]* | \#[!\ ][^\n]* | /\*.*?(?:\*/|\Z))
    | (?P<string>'(?:[^'\\]|\\.|'')*'? | \$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<quoted>`(?:[^`\\]|\\.|``)*`? | "(?:[^"\\]|\\.|"")*"?)
    | (?P<word>[A-Za-z_][\w]*)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_AFTER_FORMAT = re.compile(rb"[ \t\f]*;?[ \t\f]*\r?\n?")
_FIRST_WORD = re.compile(rb"[\s(]*([A-Za-z]+)\b")


@dataclass(frozen=True, slots=True)
class Insert:
    """The head of `INSERT ... FORMAT X <data>`: `statement` as the engine wants it, `data` where the bytes
    begin.
    """

    statement: str
    format: str
    data: int
    selects: bool


def _tokens(text: bytes, start: int = 0) -> Iterator[tuple[str, bytes, int, int]]:
    for match in _TOKEN.finditer(text, start):
        kind = match.lastgroup or ""
        if kind == "tag":
            kind = "string"
        if kind != "skip":
            yield kind, match.group(), match.start(), match.end()


def first_word(text: bytes) -> bytes:
    """The first word in lower case, after comments and opening brackets."""
    if found := _FIRST_WORD.match(text):
        return found[1].lower()
    return next((token.lower() for kind, token, _, _ in _tokens(text) if kind == "word" or token != b"("), b"")


def insert_head(text: bytes) -> Insert | None:
    """The head of an INSERT whose data follows FORMAT; None for VALUES, and for SELECT without a FORMAT."""
    depth = 0
    selects = False
    after_into = 0  # 1: the next token begins the table's name, so it is no keyword
    previous = b""
    tokens = _tokens(text)
    for kind, token, start, _ in tokens:
        lowered = token.lower() if kind == "word" else b""
        if token == b"(":
            depth += 1
        elif token == b")":
            depth -= 1
        elif depth == 0 and lowered == b"into":
            after_into = 1
        elif after_into and lowered in (b"table", b"function"):
            pass
        elif after_into or previous == b".":
            after_into = 0
        elif depth == 0 and lowered == b"values":
            return None
        elif depth == 0 and lowered in (b"select", b"with"):
            selects = True
        elif depth == 0 and lowered == b"format":
            following = next(tokens, None)
            if following is None or following[0] != "word":
                return None
            name = following[1].decode()
            if name.lower() == "values" and not selects:
                return None
            gap = _AFTER_FORMAT.match(text, following[3])
            data = gap.end() if gap else following[3]
            return Insert(text[:start].decode(), name, data, selects)
        previous = token
    return None


def output_format(text: bytes, default: str) -> str:
    """The format that the text's own FORMAT clause names, else `default`."""
    if b"format" not in text.lower():
        return default
    found = default
    depth = 0
    pending = False
    for kind, token, _, _ in _tokens(text):
        if token == b"(":
            depth += 1
        elif token == b")":
            depth -= 1
        if pending:
            pending = False
            if kind == "word":
                found = token.decode()
                continue
        pending = depth == 0 and kind == "word" and token.lower() == b"format"
    return found


def code_tokens(text: bytes) -> list[tuple[bytes, bytes]]:
    """Tokens outside comments: words in lower case (quoted identifiers unquoted) or a mark, and the token as
    written.

    A string's word is empty, so that no string is taken for code.
    """
    found = []
    for kind, token, _, _ in _tokens(text):
        word = token if kind == "other" else b""
        if kind == "word":
            word = token.lower()
        elif kind == "quoted":
            word = token.strip(b'`"').lower()
        found.append((word, token))
    return found


def call_span(text: bytes, name: bytes) -> tuple[int, int] | None:
    """Where the first call of a function begins, and where the text goes on behind its opening bracket."""
    start = -1
    for kind, token, at, end in _tokens(text):
        if start >= 0 and token == b"(":
            return start, end
        start = at if kind == "word" and token.lower() == name else -1
    return None
