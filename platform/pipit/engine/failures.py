"""The engine's errors become Pipit's: which class a code belongs to, and what of a message a reader may see.

What the engine says is read here, once, into the typed fields of the error; nobody reads it again.

A message that leaves here holds no SQL text, no path, no version and no stack. `without_values` takes the
quoted values out as well, for readers who must not learn of rows (rule 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipit.engine.codes import Code
from pipit.errors import DiskFull, PipitError, QueryTimeout, Reason, SqlError, TooLarge, Unavailable

HUNG = "Pipit: the engine cannot interrupt this statement"  # what the embedded engine's process says of it
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
# What it names, as it quotes it; the place where it stopped reading a statement; what it does not know.
_NAMED = re.compile(r"`([^`\n]+)`|'([^'\n]+)'|\bfunction (\w+)", re.IGNORECASE)
_UNREAD = re.compile(r"failed at (?:position (\d+)|end of query)")
_UNKNOWN: Mapping[int, re.Pattern[str]] = {
    Code.UNKNOWN_FUNCTION: re.compile(r"[Ff]unction(?: with name)? [`']?(\w+)"),
    Code.UNKNOWN_TYPE: re.compile(r"data type family: [`']?(\w+)"),
}
END = -1  # of `unread_at`: the engine read to the end of the statement
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
    return _with_name(*_scrubbed(code_of(text), text, name))


def _with_name(text: str, name: str) -> str:
    return f"{text} ({name})" if name else text


def _scrubbed(code: int, text: str, name: str) -> tuple[str, str]:
    """What is wrong, and the engine's name of it."""
    bodies = _BODY.split(text)
    text = bodies[-1].strip()
    while trailer := _TRAILER.search(text):
        name = name or trailer[1] or ""
        text = text[: trailer.start()]
    if code == Code.SYNTAX_ERROR:
        text = _SYNTAX.sub(r"\1\2", text)
    text = _ECHO.sub("", text)
    if name == "UNKNOWN_TABLE":
        text = _SUGGESTION.sub("", text)  # it knows the tables of every workspace
    return _PATH.sub("<path>", _URL.sub("<url>", text)).strip().rstrip(".:, "), name


def code_of(text: str) -> int:
    """The code in one of the engine's messages; 0 when there is none."""
    found = re.search(r"Code: (\d+)", text)
    return int(found[1]) if found else 0


def without_values(error: SqlError) -> str:
    """For a reader who must not learn of rows: an error about the text without quoted values, else only its
    name.
    """
    name = error.engine_name
    if name not in _OF_THE_TEXT:
        return f"The query failed on its data ({name})" if name else "The query failed on its data"
    text = error.message.removesuffix(f" ({name})")
    return _QUOTED.sub("'...'", _SUGGESTION.sub("", text)) + f" ({name})"


def engine_error(code: int | None, text: str, name: str = "") -> PipitError:
    """The error for one of the engine's codes; None when it answered without one."""
    if code is None:
        return Unavailable(
            "The engine did not answer properly", hint="Try again in a moment"
        )
    if code in _TIMEOUTS:
        # Only as the whole of what it says: the text of a query may hold these words too.
        hung = text.partition("DB::Exception: ")[2].startswith(HUNG)
        return QueryTimeout(
            "The query took longer than it may", hint="Ask for less data, or a narrower range", hung=hung
        )
    if code in _TOO_LARGE:
        return TooLarge(
            "The query reads or returns more than it may",
            hint="Ask for less, for instance with LIMIT",
            reason=Reason.RESULT_TOO_LARGE,
        )
    if code in _AWAY:
        return Unavailable("The engine takes no queries now", hint="Try again in a moment", reason=Reason.ENGINE_BUSY)
    if code == Code.NOT_ENOUGH_SPACE:
        return DiskFull("The disk is full: nothing can be written", hint="Make room on the disk; reads go on.")
    if code == Code.MEMORY_LIMIT_EXCEEDED:
        return SqlError(
            "The query needs more memory than it may use (MEMORY_LIMIT_EXCEEDED)",
            engine_code=code,
            engine_name=Code.MEMORY_LIMIT_EXCEEDED.name,
            hint="Aggregate over fewer keys, or read less data",
            reason=Reason.MEMORY_EXCEEDED,
        )
    if code in _INNER:
        return SqlError("The engine failed on this statement", engine_code=code)
    return _refusal(code, *_scrubbed(code, text, name))


def _refusal(code: int, text: str, name: str) -> SqlError:
    """`text`: what is wrong, without the engine's name of it."""
    unread = _UNREAD.search(text) if code == Code.SYNTAX_ERROR else None
    unknown = _UNKNOWN[code].search(text) if code in _UNKNOWN else None
    return SqlError(
        _with_name(text, name) or "The engine refused the statement",
        engine_code=code,
        engine_name=name,
        quoted=tuple("".join(found) for found in _NAMED.findall(text)),
        unread_at=None if unread is None else int(unread[1]) - 1 if unread[1] else END,
        subject=unknown[1] if unknown else "",
    )


def engine_away() -> Unavailable:
    return Unavailable(
        "The engine is not available",
        hint="It is being started again; try in a moment",
        reason=Reason.ENGINE_UNAVAILABLE,
    )


def result_too_large(most: int) -> TooLarge:
    return TooLarge(
        f"The result is larger than {most:,} bytes",
        hint="Ask for fewer rows or columns.",
        reason=Reason.RESULT_TOO_LARGE,
    )
