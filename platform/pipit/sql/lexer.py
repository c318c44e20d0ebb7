"""Where the tokens of an SQL text are, as ClickHouse's own lexer sees them. Everything that edits SQL text
stands on it.

Promises: the tokens' texts, joined, are the input; the boundaries are those of ClickHouse 26.9 (checked
against the engine by tests and fuzzing), in time linear in the text. Never raises on any text: what
ClickHouse's lexer would refuse comes as an ERROR token, and whoever edits text refuses a list that holds one.

What is special in ClickHouse's lexer, all measured:
- comments: `--`, `//` and `# `, `#!` to the end of line (only \\n ends it, not \\r); `/* */` nests; `#x` is
  an error;
- strings: '' and \\' both escape in '...', "..." and `...`; ‘...’ is a string and “...” an identifier,
  without escapes; x'41' and b'01' are strings; $tag$...$tag$ is a string, its tag letters, digits and _, or
  nothing;
- numbers: 1_000, 0x1F, 0b1, 0x1.8p1, 1., .5; `1abc` is a word; after a dot only plain digits are taken
  (`t.1.2`);
- a dollar is a letter inside a word (`a$b`, `$a`), and alone it is a token;
- a NUL outside of a string is an error; 27 characters beyond ASCII are white space, − is a minus.

One thing is more than the engine's lexer has: `{name:Type}` comes as one PARAMETER token (the engine has the
braces as tokens and knows the form in its parser). Braces in any other form come as OPEN and CLOSE.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum
from itertools import pairwise
from typing import NamedTuple


class LexerKind(IntEnum):
    WORD = 1
    QUOTED_IDENTIFIER = 2
    STRING = 3
    NUMBER = 4
    PARAMETER = 5
    COMMENT = 6
    WHITESPACE = 7
    OPERATOR = 8
    OPEN = 9
    CLOSE = 10
    COMMA = 11
    SEMICOLON = 12
    DOT = 13
    ERROR = 14


class Token(NamedTuple):
    kind: LexerKind
    text: str
    start: int
    end: int


_SPACES = (
    "\u0085\u00a0\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d"
    "\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
# A type inside {name:Type}: words, numbers, punctuation and quoted text. Enough for every type there is.
_TYPE = r"(?:[A-Za-z0-9_ \t\r\n,()=.\-]++|'(?:[^'\\]++|\\.|'')*+')++"

# The order matters: what has a prefix of its own first, single characters last.
_TOKEN = re.compile(
    rf"""
      (?P<WHITESPACE> [ \t\n\r\f\v]++ | [{_SPACES}][{_SPACES} \t\n\r\f\v]*+ )
    | (?P<STRING> '(?:[^'\\]++|\\.|'')*+' | [xX]'[0-9a-fA-F]*+' | [bB]'[01]*+' | ‘[^’]*+’ )
    | (?P<QUOTED_IDENTIFIER> `(?:[^`\\]++|\\.|``)*+` | "(?:[^"\\]++|\\.|"")*+" | “[^”]*+” )
    | (?P<BROKEN> ['"`‘“] | [xXbB]'. )
    | (?P<WORD> [A-Za-z_][A-Za-z0-9_$]*+ )
    | (?P<DIGIT> [0-9] )
    | (?P<COMMA> , )
    | (?P<DOT> \. )
    | (?P<PARAMETER> \{{ [ \t\r\n]*+ [A-Za-z0-9_$]++ [ \t\r\n]*+ : {_TYPE} \}} )
    | (?P<OPEN> [(\[{{] )
    | (?P<CLOSE> [)\]}}] )
    | (?P<COMMENT> (?: -- | // | \#[ !] ) [^\n]*+ )
    | (?P<NESTED> /\* )
    | (?P<SEMICOLON> ; )
    | (?P<OPERATOR> <=> | -> | == | !~\*? | ~\*? | != | <= | <> | >= | :: | \|\| | \|> | @@ | \\G | [-−+*/%=<>?^:|@] )
    | (?P<DOLLAR> \$ )
    """,
    re.VERBOSE | re.DOTALL,
)
_KIND_OF = {kind.name: kind for kind in LexerKind}

# A digit after a dot is a plain integer, so that t.1.2 is two steps; elsewhere it may be any number.
_AFTER_DOT = re.compile(r"[0-9](?:[0-9]|_(?=[0-9]))*+")
_NUMBER = re.compile(
    r"""
      0[xX](?=[0-9a-fA-F]) (?:[0-9a-fA-F]|(?<![xX])_(?=[0-9a-fA-F]))*+
          (?: \. (?:[0-9a-fA-F]|(?<!\.)_(?=[0-9a-fA-F]))*+ )?+
          (?: [pP](?!\Z) (?:[-+](?!\Z))? (?:[0-9]|(?<=[0-9])_(?=[0-9]))*+ )?+
    | (?: 0[bB](?=[01]) | [0-9] ) (?:[0-9]|(?<![bB])_(?=[0-9]))*+
          (?: \. (?:[0-9]|(?<!\.)_(?=[0-9]))*+ )?+
          (?: [eE](?!\Z) (?:[-+](?!\Z))? (?:[0-9]|(?<=[0-9])_(?=[0-9]))*+ )?+
    """,
    re.VERBOSE,
)
_FRACTION = re.compile(
    r"\.(?:[0-9]|(?<=[0-9])_(?=[0-9]))*+(?:[eE](?!\Z)(?:[-+](?!\Z))?(?:[0-9]|(?<=[0-9])_(?=[0-9]))*+)?+"
)
_MORE_OF_A_WORD = re.compile(r"[A-Za-z0-9_]++")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_$]+\Z")
_DOLLAR_WORD = re.compile(r"\$[A-Za-z0-9_$]*+")
_TAG = re.compile(r"\$[A-Za-z0-9_]*\$\Z")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
# After one of these a dot is a step into something, also before a digit.
_VALUE_ENDS = frozenset({LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER, LexerKind.NUMBER})


def tokenize(sql: str) -> list[Token]:
    """All tokens of `sql`, white space and comments too; their texts joined are `sql`."""
    tokens: list[Token] = []
    append = tokens.append
    match = _TOKEN.match
    heredoc_ends: dict[int, int] | None = None
    position, length = 0, len(sql)
    previous: Token | None = None  # the last one that is neither white space nor a comment
    while position < length:
        found = match(sql, position)
        if found is None:
            token = Token(LexerKind.ERROR, sql[position], position, position + 1)
        else:
            name = found.lastgroup or ""
            kind = _KIND_OF.get(name)
            if name == "DIGIT":
                after_dot = previous is not None and previous.kind is LexerKind.DOT
                token = _number(sql, position, after_dot)
            elif name == "DOT":
                token = _dot(sql, position, previous)
            elif kind is not None:
                token = Token(kind, found.group(), position, found.end())
            elif name == "NESTED":
                token = _nested_comment(sql, position)
            elif name == "DOLLAR":
                if heredoc_ends is None:
                    heredoc_ends = _heredocs(sql)
                token = _dollar(sql, position, heredoc_ends)
            else:  # an opening quote without its closing one: nothing after it means anything
                token = Token(LexerKind.ERROR, sql[position:], position, length)
        append(token)
        position = token.end
        if token.kind is not LexerKind.WHITESPACE and token.kind is not LexerKind.COMMENT:
            previous = token
    return tokens


def significant(tokens: Iterable[Token]) -> list[Token]:
    """Without white space and comments."""
    skipped = (LexerKind.WHITESPACE, LexerKind.COMMENT)
    return [token for token in tokens if token.kind not in skipped]


def identifier_name(token: Token) -> str:
    """The name that a WORD or QUOTED_IDENTIFIER token stands for."""
    text = token.text
    if token.kind is LexerKind.WORD:
        return text
    if text[0] == "“":
        return text[1:-1]
    return unescape(text[1:-1], text[0])


def string_value(text: str) -> str:
    """What a string token means: '...', ‘...’ or $tag$...$tag$. Those in hex and binary stay as written."""
    if text[0] == "'":
        return unescape(text[1:-1], "'")
    if text[0] == "$":
        tag = text.index("$", 1) + 1
        return text[tag:-tag]
    return text[1:-1] if text[0] == "‘" else text


_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|N|.)|(['\"`])\2", re.DOTALL)
_ESCAPED = {
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "0": "\0",
    "a": "\a",
    "v": "\v",
    "e": "\x1b",
}


def unescape(inner: str, quote: str) -> str:
    """What the inside of a quoted token means. \\xHH above 7F is a byte; it comes as a lone surrogate."""

    def one(found: re.Match[str]) -> str:
        escape = found.group(1)
        if escape is None:
            return quote if found.group(2) == quote else found.group()
        if escape == "N":
            return ""
        if len(escape) == 3:
            return bytes([int(escape[1:], 16)]).decode("utf-8", "surrogateescape")
        if escape in _ESCAPED:
            return _ESCAPED[escape]
        return escape if escape in "\\'\"`/=" else "\\" + escape

    return _ESCAPE.sub(one, inner).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _number(sql: str, position: int, after_dot: bool) -> Token:
    found = (_AFTER_DOT if after_dot else _NUMBER).match(sql, position)
    end = found.end() if found else position + 1
    more = _MORE_OF_A_WORD.match(sql, end)
    if more is None:
        return Token(LexerKind.NUMBER, sql[position:end], position, end)
    text = sql[position : more.end()]
    kind = LexerKind.WORD if _PLAIN_WORD.match(text) else LexerKind.ERROR
    return Token(kind, text, position, more.end())


def _dot(sql: str, position: int, previous: Token | None) -> Token:
    before_digit = sql[position + 1 : position + 2].isascii() and sql[position + 1 : position + 2].isdigit()
    after_value = previous is not None and (
        previous.kind in _VALUE_ENDS or (previous.kind is LexerKind.CLOSE and previous.text != "}")
    )
    if position > 0 and (not before_digit or after_value):
        return Token(LexerKind.DOT, ".", position, position + 1)
    found = _FRACTION.match(sql, position)
    end = found.end() if found else position + 1
    return Token(LexerKind.NUMBER, sql[position:end], position, end)


def _nested_comment(sql: str, position: int) -> Token:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(sql, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return Token(LexerKind.COMMENT, sql[position : edge.end()], position, edge.end())
    return Token(LexerKind.ERROR, sql[position:], position, len(sql))


def _heredocs(sql: str) -> dict[int, int]:
    """For each dollar that can open a $tag$...$tag$: where that ends.

    One pass, so that many dollars stay cheap.
    """
    dollars = [found.start() for found in re.finditer(r"\$", sql)]
    ends: dict[int, int] = {}
    latest: dict[str, int] = {}  # tag -> the nearest later dollar that opens the same tag
    tags = [sql[here : there + 1] for here, there in pairwise(dollars)]
    for index in range(len(tags) - 1, -1, -1):
        if index + 2 < len(tags):
            latest[tags[index + 2]] = dollars[index + 2]
        closing = latest.get(tags[index])
        if closing is not None and _TAG.match(tags[index]):
            ends[dollars[index]] = closing + len(tags[index])
    return ends


def _dollar(sql: str, position: int, heredoc_ends: dict[int, int]) -> Token:
    end = heredoc_ends.get(position)
    if end is not None:
        return Token(LexerKind.STRING, sql[position:end], position, end)
    found = _DOLLAR_WORD.match(sql, position)
    end = found.end() if found and found.end() > position + 1 else position + 1
    following = sql[position + 1 : position + 2]
    if following == "$":  # a word may go on with dollars, but not start with two (measured)
        end = position + 1
    kind = LexerKind.WORD if end > position + 1 else LexerKind.OPERATOR
    return Token(kind, sql[position:end], position, end)
