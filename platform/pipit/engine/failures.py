"""The engine's errors become Pipit's: which class a code belongs to, and what of a message a reader may see.

A message that leaves here holds no SQL text, no path, no version and no stack. `without_values` takes the
quoted values out as well, for readers who must not learn of rows (rule 1).
"""

from __future__ import annotations

import re

from pipit.engine.codes import Code
from pipit.errors import DiskFull, PipitError, QueryTimeout, SqlError, TooLarge, Unavailable

STUCK = "Pipit: the engine cannot interrupt this statement"  # what the embedded engine's process says of it
_TIMEOUTS = frozenset({Code.TIMEOUT_EXCEEDED, Code.TOO_SLOW, Code.SOCKET_TIMEOUT})
_TOO_LARGE = frozenset({Code.TOO_MANY_ROWS, Code.TOO_MANY_BYTES, Code.TOO_MANY_ROWS_OR_BYTES})
_AWAY = frozenset(
    {
        Code.TOO_MANY_SIMULTANEOUS_QUERIES,
        Code.NETWORK_ERROR,
        Code.SYSTEM_ERROR,
        Code.REQUIRED_PASSWORD,
        Code.AUTHENTICATION_FAILED,
        Code.UNKNOWN_USER,
        Code.WRONG_PASSWORD,
    }
)
# Its own bugs, in words for its developers.
_INNER = frozenset({Code.LOGICAL_ERROR, Code.STD_EXCEPTION, Code.UNKNOWN_EXCEPTION})

_BODY = re.compile(r"Code: \d+\. DB::(?:\w+)?Exception: ")
_TRAILER = re.compile(r"[\s.]*(?:\(version [^()]*(?:\([^()]*\))?[^()]*\)|\(([A-Z][A-Z0-9_]{2,})\))[\s.]*\Z")
# What the engine adds of the query's text and of its own doings; all of it stands after what is wrong.
_ECHO = re.compile(
    r"[:.,]?\s*(?:\(?[Ii]n (?:the )?(?:scope|query)\b|[Ww]hile (?:executing|processing|reading)\b|\(in file/uri"
    r"|Stack trace:|Expected one of:|Could not print diagnostic|\n\s*Row \d+:).*",
    re.DOTALL,
)
_SYNTAX = re.compile(r"(failed at (?:position \d+|end of query)).*?((?: \(line \d+, col \d+\))?):.*", re.DOTALL)
_PATH = re.compile(r"(?<![\w.\])}'`\"/])(?:/[\w.@+%~-]+){2,}/?|'(?:/[^'\s]+)+'")
_URL = re.compile(r"\b\w+://[^\s'\"]+")
_SUGGESTION = re.compile(r"\.?\s*Maybe you meant.*", re.DOTALL)
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
# Errors about the text and its types alone. All others may tell of rows, in words or in numbers.
_OF_THE_TEXT = frozenset(
    {
        "AMBIGUOUS_IDENTIFIER",
        "DATABASE_ACCESS_DENIED",
        "ILLEGAL_AGGREGATION",
        "ILLEGAL_TYPE_OF_ARGUMENT",
        "MEMORY_LIMIT_EXCEEDED",
        "NOT_AN_AGGREGATE",
        "NO_COMMON_TYPE",
        "NUMBER_OF_ARGUMENTS_DOESNT_MATCH",
        "READONLY",
        "SYNTAX_ERROR",
        "TOO_FEW_ARGUMENTS_FOR_FUNCTION",
        "TOO_MANY_ARGUMENTS_FOR_FUNCTION",
        "UNKNOWN_FUNCTION",
        "UNKNOWN_IDENTIFIER",
        "UNKNOWN_QUERY_PARAMETER",
        "UNKNOWN_SETTING",
        "UNKNOWN_TABLE",
    }
)


def scrub(text: str, name: str = "") -> str:
    """What is wrong, in the engine's words, without what it echoes; the engine's name of the error at the
    end.
    """
    bodies = _BODY.split(text)
    text = bodies[-1].strip()
    while trailer := _TRAILER.search(text):
        name = name or trailer[1] or ""
        text = text[: trailer.start()]
    if "Syntax error" in text:
        text = _SYNTAX.sub(r"\1\2", text)
    text = _ECHO.sub("", text)
    if name == "UNKNOWN_TABLE":
        text = _SUGGESTION.sub("", text)  # it knows the tables of every workspace
    text = _PATH.sub("<path>", _URL.sub("<url>", text)).strip().rstrip(".:, ")
    return f"{text} ({name})" if name else text


def code_of(text: str) -> int:
    """The code in one of the engine's messages; 0 when there is none."""
    found = re.search(r"Code: (\d+)", text)
    return int(found[1]) if found else 0


def without_values(message: str) -> str:
    """For a reader who must not learn of rows: an error about the text without quoted values, else only its
    name.
    """
    found = _TRAILER.search(message)
    name = found[1] if found else ""
    if name not in _OF_THE_TEXT:
        return f"The query failed on its data ({name})" if name else "The query failed on its data"
    return _QUOTED.sub("'...'", _SUGGESTION.sub("", message[: found.start()] if found else message)) + f" ({name})"


def engine_error(code: int | None, text: str, name: str = "") -> PipitError:
    """The error for one of the engine's codes; None when it answered without one."""
    if code is None:
        return Unavailable("The engine did not answer properly", hint="Try again in a moment")
    if code in _TIMEOUTS:
        hung = STUCK in text
        return QueryTimeout(
            "The query took longer than it may", hint="Ask for less data, or a narrower range", hung=hung
        )
    if code in _TOO_LARGE:
        return TooLarge("The query reads or returns more than it may", hint="Ask for less, for instance with LIMIT")
    if code in _AWAY:
        return Unavailable("The engine takes no queries now", hint="Try again in a moment")
    if code == Code.NOT_ENOUGH_SPACE:
        return DiskFull("The disk is full: nothing can be written", hint="Make room on the disk; reads go on.")
    if code == Code.MEMORY_LIMIT_EXCEEDED:
        return SqlError(
            "The query needs more memory than it may use (MEMORY_LIMIT_EXCEEDED)",
            engine_code=code,
            hint="Aggregate over fewer keys, or read less data",
        )
    if code in _INNER:
        return SqlError("The engine failed on this statement", engine_code=code)
    return SqlError(scrub(text, name) or "The engine refused the statement", engine_code=code)


def engine_away() -> Unavailable:
    return Unavailable("The engine is not available", hint="It is being started again; try in a moment")


def result_too_large(most: int) -> TooLarge:
    return TooLarge(f"The result is larger than {most:,} bytes", hint="Ask for fewer rows or columns.")
