"""The engine's own names of types: `INT`, `int` and `Int32` are one type, and so are `LowCardinality (String)` and
`LowCardinality(String)`.

What becomes of a value, which columns stand behind a barrier and what a policy compares hang on a column's type. All of
them read its name, so a type has one name from the moment at which its file is read.
"""

from __future__ import annotations

from itertools import pairwise

from pipit.sql.lexer import LexerKind, Token, significant, tokenize

# Other names -> the engine's own. A test holds this against the engine.
_ALIASES = {
    "Bool": ("boolean",),
    "DateTime": ("timestamp",),
    "Decimal": ("dec", "fixed", "numeric"),
    "FixedString": ("binary",),
    "Float32": ("float", "real", "single"),
    "Float64": ("double", "double precision"),
    "IPv4": ("inet4",),
    "IPv6": ("inet6",),
    "Int8": ("byte", "int1", "int1 signed", "tinyint", "tinyint signed"),
    "Int16": ("smallint", "smallint signed"),
    "Int32": ("int", "int signed", "integer", "integer signed", "mediumint", "mediumint signed"),
    "Int64": ("bigint", "bigint signed", "signed"),
    "UInt8": ("int1 unsigned", "tinyint unsigned"),
    "UInt16": ("smallint unsigned", "year"),
    "UInt32": ("int unsigned", "integer unsigned", "mediumint unsigned"),
    "UInt64": ("bigint unsigned", "bit", "set", "unsigned"),
    "String": (
        *("binary large object", "binary varying", "blob", "bytea", "char", "char large object", "char varying"),
        *("character", "character large object", "character varying", "clob", "longblob", "longtext", "mediumblob"),
        *("mediumtext", "national char", "national char varying", "national character"),
        *("national character large object", "national character varying", "nchar", "nchar large object"),
        *("nchar varying", "nvarchar", "text", "tinyblob", "tinytext", "varbinary", "varchar", "varchar2"),
    ),
}
# Names that the engine takes in any case.
_ANY_CASE = (
    *(
        "Bool",
        "Date",
        "Date32",
        "DateTime",
        "DateTime32",
        "DateTime64",
        "Decimal",
        "Decimal32",
        "Decimal64",
        "Decimal128",
    ),
    *("Decimal256", "Enum", "JSON", "Time", "Time64"),
)
OWN_NAMES = (
    {other: own for own, others in _ALIASES.items() for other in others}
    | {own.lower(): own for own in _ANY_CASE}
    | {"GEOMETRY": "Geometry"}  # this one only in capitals
)
_MOST_WORDS = max(len(name.split()) for name in OWN_NAMES)
_NAMES = (LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER)
_WITH_NAMED_ELEMENTS = frozenset({"Tuple", "Nested", "JSON"})


def own_type(text: str) -> str:
    """The type under the engine's own names, without blanks at its brackets. What is no type stays as it is."""
    tokens = significant(tokenize(text))
    edits = _blanks_at_brackets(tokens)
    containers: list[str] = []  # the types whose brackets are open
    name, begins = "", True  # the type that was read last; whether an argument begins here
    at = 0
    while at < len(tokens):
        if begins and tokens[at].kind in _NAMES:
            container = containers[-1] if containers else ""
            at = _type_at(tokens, at, container)
            if at < len(tokens) and (words := _words(tokens, at)):
                name = _known(words)
                edits.append((tokens[at].start, tokens[at + len(words) - 1].end, name))
                at += len(words)
            elif at < len(tokens) and tokens[at].kind in _NAMES:
                name = tokens[at].text
                at += 1
            begins = False
            continue
        kind = tokens[at].kind
        if kind is LexerKind.OPEN:
            containers.append(name)
        elif kind is LexerKind.CLOSE and containers:
            containers.pop()
        begins = kind in (LexerKind.OPEN, LexerKind.COMMA)
        at += 1
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _type_at(tokens: list[Token], at: int, container: str) -> int:
    """Where the type of an argument begins, behind its name; where the argument ends, if it has no type."""
    if container.endswith("AggregateFunction"):
        return _end_of_argument(tokens, at) if tokens[at - 1].kind is LexerKind.OPEN else at
    if container not in _WITH_NAMED_ELEMENTS:
        return at
    end = at + 1
    if container == "JSON":
        while end + 1 < len(tokens) and tokens[end].kind is LexerKind.DOT:
            end += 2
        if tokens[at].text.upper() == "SKIP" or (end < len(tokens) and tokens[end].text == "="):
            return _end_of_argument(tokens, at)
    return end if end < len(tokens) and tokens[end].kind in _NAMES else at


def _end_of_argument(tokens: list[Token], at: int) -> int:
    """The place of its comma or closing bracket."""
    depth = 0
    while at < len(tokens):
        kind = tokens[at].kind
        if depth == 0 and kind in (LexerKind.COMMA, LexerKind.CLOSE):
            break
        depth += (kind is LexerKind.OPEN) - (kind is LexerKind.CLOSE)
        at += 1
    return at


def _words(tokens: list[Token], at: int) -> list[str]:
    """The words of the longest known name that begins here; none, if there is none."""
    words: list[str] = []
    for token in tokens[at : at + _MOST_WORDS]:
        if token.kind is not LexerKind.WORD:
            break
        words.append(token.text)
    while words and not _known(words):
        words.pop()
    return words


def _known(words: list[str]) -> str:
    name = " ".join(words)
    return OWN_NAMES.get(name.lower()) or OWN_NAMES.get(name, "")


def _blanks_at_brackets(tokens: list[Token]) -> list[tuple[int, int, str]]:
    """What stands between a name and its bracket, and inside of it."""
    found = []
    for before, after in pairwise(tokens):
        at_bracket = before.kind is LexerKind.OPEN or after.kind in (LexerKind.OPEN, LexerKind.CLOSE)
        if at_bracket and before.end < after.start:
            found.append((before.end, after.start, ""))
    return found
