"""A clock that stands still, for projects whose tests were written on some day.

The engine's clock cannot be set, so the calls that ask for it are replaced in the project's files before they are
deployed: `now()`, `today()` and their kin in SQL and in column defaults become the one moment that `--now` names. What
was replaced is counted and told. Nothing else knows of that moment: expiry, tokens and logs keep the real time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipit.errors import BadRequest
from pipit.sql.lexer import LexerKind, Token, significant, tokenize
from pipit.sql.literals import quote_string

_PLAIN = frozenset(
    {"NOW", "NOW64", "TODAY", "YESTERDAY", "CURDATE", "CURRENT_DATE", "CURRENT_TIMESTAMP", "UTCTIMESTAMP"}
)


_PROSE = re.compile(
    r"^DESCRIPTION\b(?:[ \t]*>[ \t]*\n(?:[ \t]+\S.*\n|[ \t]*\n)*|.*$)|^#.*$", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Stopped:
    """The files with a fixed time, and how often it stands in them."""

    files: dict[str, str]
    replaced: int


def parse_moment(text: str) -> datetime:
    """`2024-01-31`, `2024-01-31 12:00:00`, with `T` or a zone; without one it is UTC. Raises BadRequest."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadRequest(f"'{text}' is not a time", hint="Such as --now '2024-01-31 12:00:00' (UTC).") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def stop_clock(files: Mapping[str, str], moment: datetime) -> Stopped:
    """Every file with its calls of the clock replaced by that moment."""
    found: dict[str, str] = {}
    total = 0
    for name, text in files.items():
        found[name], count = _stopped(text, moment) if name.endswith((".pipe", ".datasource", ".incl")) else (text, 0)
        total += count
    return Stopped(found, total)


def _stopped(text: str, moment: datetime) -> tuple[str, int]:
    # Prose is no SQL: an apostrophe in it must not swallow what follows.
    tokens = significant(tokenize(_PROSE.sub(lambda found: " " * len(found[0]), text)))
    pieces: list[str] = []
    end = count = 0
    for index, token in enumerate(tokens):
        call = _call(tokens, index)
        if call is None:
            continue
        arguments, last = call
        value = _value(token.text.upper(), [text[a.start : a.end] for a in arguments], moment)
        if value is None:
            continue
        pieces += [text[end : token.start], value]
        end = tokens[last].end
        count += 1
    return "".join([*pieces, text[end:]]), count


def _call(tokens: list[Token], index: int) -> tuple[list[Token], int] | None:
    """The arguments of a call of the clock that begins here (literals only), and the index of its closing bracket."""
    token = tokens[index]
    if token.kind is not LexerKind.WORD or token.text.upper() not in _PLAIN:
        return None
    if index and tokens[index - 1].kind in (LexerKind.DOT,):
        return None
    if index + 1 >= len(tokens) or tokens[index + 1].text != "(":
        return None
    arguments: list[Token] = []
    for place in range(index + 2, min(index + 7, len(tokens))):
        found = tokens[place]
        if found.kind is LexerKind.CLOSE:
            return arguments, place
        if found.kind in (LexerKind.STRING, LexerKind.NUMBER):
            arguments.append(found)
        elif found.kind is not LexerKind.COMMA:
            return None
    return None


def _value(name: str, arguments: list[str], moment: datetime) -> str | None:
    """The SQL of the moment as this function would give it."""
    seconds = f"{moment.timestamp():.6f}"
    zone = next((a for a in arguments if a.startswith("'")), "")
    in_zone = f", {zone}" if zone else ""
    if name == "NOW64":
        precision = next((a for a in arguments if a.isdigit()), "3")
        return f"toDateTime64({seconds}, {precision}{in_zone})"
    if name in ("NOW", "CURRENT_TIMESTAMP", "UTCTIMESTAMP"):
        return f"toDateTime({int(moment.timestamp())}{in_zone})"
    if arguments:
        return None
    day = moment - timedelta(days=1) if name == "YESTERDAY" else moment
    return f"toDate({quote_string(day.strftime('%Y-%m-%d'))})"
