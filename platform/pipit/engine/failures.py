"""The engine's errors become Pipit's: which class a code belongs to, and what of a message a reader may see.

A message that leaves here holds no SQL text, no path, no version and no stack. `without_values` takes the quoted
values out as well, for readers who must not learn of rows (design, rule 1).
"""

from __future__ import annotations

import re

from pipit.errors import PipitError, QueryTimeout, SqlError, TooLarge, Unavailable

_TIMEOUTS = frozenset({159, 160, 209})
_TOO_LARGE = frozenset({158, 307, 396})
_AWAY = frozenset({202, 210, 425, 194, 516, 192, 193})
MEMORY_LIMIT = 241

_BODY = re.compile(r"Code: (\d+)\. DB::(?:\w+)?Exception: (.*)", re.DOTALL)
_NESTED = re.compile(r"Code: \d+\. DB::(?:\w+)?Exception: ")
_VERSION = re.compile(r"\s*\(version [^()]*(?:\([^()]*\))?[^()]*\)")
_NAME = re.compile(r"[\s.]*\(([A-Z][A-Z0-9_]{2,})\)\s*$")
# What the engine adds of the query's text and of its own doings; all of it stands after what is wrong.
_ECHO = re.compile(
    r"[:.,]?\s*(?:\(?[Ii]n (?:the )?scope\b|[Ww]hile (?:executing|processing|reading)\b|\(in query:|\(in file/uri"
    r"|Stack trace:|Expected one of:|Could not print diagnostic|\n\s*Row \d+:).*",
    re.DOTALL,
)
_SYNTAX = re.compile(r"(failed at (?:position \d+|end of query))\s*\(.*?\)?(\s*\(line \d+, col \d+\))?:.*", re.DOTALL)
_PATH = re.compile(r"(?<![\w.\])}'`\"/])(?:/[\w.@+%~-]+){2,}/?|'(?:/[^'\s]+)+'")
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)


def scrub(text: str) -> str:
    """What is wrong, in the engine's words, without what it echoes."""
    text = _VERSION.sub("", text)
    found = _BODY.search(text)
    if found:
        text = found[2]
    text = text.strip()
    name = _NAME.search(text)
    if name:
        text = text[: name.start()]
    text = _NESTED.sub("", text)
    text = _SYNTAX.sub(r"\1\2", text)
    text = _ECHO.sub("", text)
    text = _PATH.sub("<path>", text).strip().rstrip(".:, ")
    return f"{text} ({name[1]})" if name else text


def without_values(message: str) -> str:
    """The message with every quoted value taken out."""
    return _QUOTED.sub("'...'", message)


def engine_error(code: int | None, text: str) -> PipitError:
    """The error for one of the engine's codes; None when it answered without one."""
    if code is None:
        return Unavailable("The engine did not answer properly", hint="Try again in a moment")
    if code in _TIMEOUTS:
        return QueryTimeout("The query took longer than it may", hint="Ask for less data, or a narrower range")
    if code in _TOO_LARGE:
        return TooLarge("The query reads or returns more than it may", hint="Ask for less, for instance with LIMIT")
    if code in _AWAY:
        return Unavailable("The engine takes no queries now", hint="Try again in a moment")
    if code == MEMORY_LIMIT:
        return SqlError(
            "The query needs more memory than it may use (MEMORY_LIMIT_EXCEEDED)",
            engine_code=code,
            hint="Aggregate over fewer keys, or read less data",
        )
    return SqlError(scrub(text) or "The engine refused the statement", engine_code=code)


def engine_away() -> Unavailable:
    return Unavailable("The engine is not available", hint="It is being started again; try in a moment")
