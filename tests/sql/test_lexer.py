"""The lexer against the engine's own: `tokenizeQuery` returns ClickHouse's tokens."""

from __future__ import annotations

import itertools
import json
import random
import time

import pytest

from pipit.engine import Engine
from pipit.sql.lexer import LexerKind, Token, identifier_name, string_value, tokenize

K = LexerKind
KIND_OF = {
    "Whitespace": K.WHITESPACE,
    "Comment": K.COMMENT,
    "BareWord": K.WORD,
    "Number": K.NUMBER,
    "StringLiteral": K.STRING,
    "HereDoc": K.STRING,
    "QuotedIdentifier": K.QUOTED_IDENTIFIER,
    "OpeningRoundBracket": K.OPEN,
    "OpeningSquareBracket": K.OPEN,
    "OpeningCurlyBrace": K.OPEN,
    "ClosingRoundBracket": K.CLOSE,
    "ClosingSquareBracket": K.CLOSE,
    "ClosingCurlyBrace": K.CLOSE,
    "Comma": K.COMMA,
    "Semicolon": K.SEMICOLON,
    "Dot": K.DOT,
}

TEXTS = [
    "select a.b, 'x''y\\'z' from `t` -- c\n where 1",
    "select 1e 1e+ 1.5abc 1abc 1_000 1_ 0x1F 0x 0b11 0b2 0x1.8p1 1. .5 1.e5 t.1a a.1.1 f(.5).1 .1.1",
    "$$a$$ $x$ b $x$ $a b$x$a b$ $a a$b a$$ $ $$$ x $$$ $a-b$x$a-b$ $1$x$1$",
    "x'41' X'4 b'01' b'2'",
    "x''",
    "/*a/*b*/c*/d /*/ */ e",
    "/* not closed",
    "'not closed",
    "1 # comment\n2 #! too\n3 #not",
    "1 // comment\r still\n2",
    "‘x’ “y” − ‘open",
    "a <=> b -> c |> d || e @@f ~ g !~* h != i !",
    "{a:Int32} { b : Array(DateTime64(3, 'UTC')) } {c:Enum8('}'=1)} {'k':1} {d /**/:Int8}",
    "select\u00a01\u200b+\u3000\t2\x85\x1c\x7f\x00",
    "\\G \\",
    "",
]
FRAGMENTS = [
    "select",
    "a",
    "t",
    "$",
    "$$",
    "$x$",
    "'",
    "''",
    "\\",
    '"',
    "`",
    "/*",
    "*/",
    "--",
    "//",
    "#",
    "#!",
    "1",
    "0x",
    "0b1",
    "1e",
    "e5",
    ".",
    "..",
    "1.5",
    "_",
    "x'",
    "41'",
    "b'01'",
    "{",
    "}",
    "{a:Int32}",
    "{a:Array(String)}",
    ":",
    "::",
    "‘",
    "’",
    "“",
    "”",
    "−",
    "-",
    ">",
    "<=",
    "<=>",
    "|",
    "||",
    "|>",
    "!",
    "!=",
    "~",
    "~*",
    "!~",
    "@",
    "@@",
    "é",
    "\\G",
    "?",
    "^",
    "%",
    "*",
    "(",
    ")",
    "[",
    "]",
    ",",
    ";",
    "0",
    "9",
    "E",
    "p1",
    "X'",
    "日本",
    "🙂",
    "&",
    "=",
    "==",
    "+",
    "0x1.8p1",
    "1_0",
    "_1",
    "$1",
    "a$b",
    "$a-b$",
    " ",
    "\n",
    "# ",
    "\r",
    "\t",
    "\x0b",
    "\x00",
    "\x7f",
    "\x85",
    "\x1c",
    "\u200b",
    "\xa0",
    "\u2028",
]


def in_bytes(tokens: list[Token]) -> list[tuple[int, int, LexerKind]]:
    ends = list(itertools.accumulate(len(token.text.encode()) for token in tokens))
    return [(end - len(t.text.encode()), end, t.kind) for t, end in zip(tokens, ends, strict=True)]


def disagreement(text: str, engine_tokens: list[tuple[int, int, str]]) -> str:
    """Empty when both cut `text` alike, up to the first token that the engine refuses."""
    theirs = [token for token in engine_tokens if token[2] != "EndOfStream"]
    at = 0
    for start, end, kind in in_bytes(tokenize(text)):
        if at >= len(theirs):
            return f"{text!r}: more tokens than the engine has, from {start}"
        their_start, their_end, their_kind = theirs[at]
        if start != their_start or (kind is K.ERROR) != their_kind.startswith("Error"):
            return f"{text!r}: {kind.name} at {start}, the engine has {their_kind} at {their_start}"
        if kind is K.ERROR:
            return ""
        if kind is K.PARAMETER:  # one token here, several there
            while at < len(theirs) and theirs[at][1] < end:
                at += 1
            if theirs[at][1:] != (end, "ClosingCurlyBrace"):
                return f"{text!r}: a parameter ends at {end}"
        elif end != their_end or KIND_OF.get(their_kind, K.OPERATOR) is not kind:
            return f"{text!r}: {kind.name} to {end}, the engine has {their_kind} to {their_end}"
        at += 1
    return "" if at == len(theirs) else f"{text!r}: fewer tokens than the engine has"


async def engine_tokens(engine: Engine, texts: list[str]) -> list[list[tuple[int, int, str]]]:
    literals = ", ".join(f"unhex('{text.encode().hex()}')" for text in texts)
    sql = (
        "SELECT arrayMap(t -> (t.1, t.2, toString(t.3)), tokenizeQuery(text)) "
        f"FROM (SELECT arrayJoin([{literals}]) AS text)"
    )
    answer = await engine.query(sql, format="JSONCompactEachRow", settings={"max_query_size": 10_000_000})
    return [[(int(a), int(b), kind) for a, b, kind in json.loads(row)[0]] for row in answer.splitlines()]


@pytest.mark.anyio
async def test_the_engine_cuts_these_texts_alike(engine: Engine) -> None:
    for text, theirs in zip(TEXTS, await engine_tokens(engine, TEXTS), strict=True):
        assert disagreement(text, theirs) == ""


@pytest.mark.anyio
async def test_the_engine_cuts_random_texts_alike(engine: Engine) -> None:
    chance = random.Random(20260)
    for _ in range(10):
        texts = ["".join(chance.choices(FRAGMENTS, k=chance.randint(1, 14))) for _ in range(500)]
        for text, theirs in zip(texts, await engine_tokens(engine, texts), strict=True):
            assert disagreement(text, theirs) == ""


@pytest.mark.anyio
async def test_every_single_character_is_what_the_engine_says(engine: Engine) -> None:
    characters = [chr(code) for code in range(0x11000) if not 0xD800 <= code <= 0xDFFF]
    for start in range(0, len(characters), 10_000):
        texts = [f"a{character}b" for character in characters[start : start + 10_000]]
        for text, theirs in zip(texts, await engine_tokens(engine, texts), strict=True):
            assert disagreement(text, theirs) == ""


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_is_lost(text: str) -> None:
    tokens = tokenize(text)
    assert "".join(token.text for token in tokens) == text
    assert all(text[token.start : token.end] == token.text for token in tokens)


@pytest.mark.parametrize("piece", ["$ ", "$a", "/*", "'", "{a:", "1_", "`\\", "x'", "0x1.", "$a$b", "{a:'", "‘", "a."])
def test_time_is_linear(piece: str) -> None:
    text = piece * 100_000
    began = time.thread_time()
    tokenize(text)
    assert time.thread_time() - began < 5  # quadratic would be hours


def test_names_and_strings_mean_what_the_engine_reads() -> None:
    assert [identifier_name(t) for t in tokenize('a`b\\`c``d`"e\\x41"“f”') if t.kind is not K.WHITESPACE] == [
        "a",
        "b`c`d",
        "eA",
        "f",
    ]
    assert string_value(r"'a\x41\N\q\/\'''\n'") == "aA\\q/''\n"
    assert string_value("$tag$ x $tag$") == " x "
