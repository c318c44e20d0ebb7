"""Where a template's values go: bound as parameters of the request.

One Binder serves all nodes and pipes of one request. Its placeholders are numbered in the order of appearance and never
after a value, so that requests which take the same branches have the same text: texts are cache keys. The same pure
expression in two nodes is one placeholder.

`finish` looks at the rendered text as the engine's lexer does. A placeholder in a quoted text is refused; one where the
grammar takes no parameter (SAMPLE, an INTERVAL with its unit), or where it would change a column's name, is replaced by
the value, printed by the one printer (rule 2). A secret is never printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, NamedTuple

from pipit.sql.lexer import LexerKind, tokenize
from pipit.sql.outputs import interval_parameters, sample_parameters, unaliased_parameters
from pipit.templates.failures import LimitReached, value_error
from pipit.templates.state import Branch
from pipit.templates.values import ParamValue, Secret, dialect_text, interval_text, plain, plain_number, type_of

_PLACEHOLDER = re.compile(r"\{(p[0-9]+):")
_CACHED_TEXT = 20_000
MAX_BOUND = 16_000_000  # characters and items of all values of one request
MAX_PRINTED = 8_000_000  # characters of those that are printed
_How = Literal["text", "number", "interval", "quoted"]
_QUOTED = (LexerKind.STRING, LexerKind.QUOTED_IDENTIFIER, LexerKind.ERROR)


class _Entry(NamedTuple):
    type: str
    value: object


def holds_secret(params: Iterable[str]) -> bool:
    """Whether a secret is among these bound values: what the engine says of the statement may quote it."""
    return any(name.startswith("s") for name in params)


class Binder:
    """The values of one request. `params` and `settings` go to the engine."""

    def __init__(
        self, *, placeholder: bool = False, defined: bool = True, fixed: frozenset[str] = frozenset()
    ) -> None:
        """`placeholder`: render for validation, with stand-ins for absent values; `defined` is then what
        `defined(x)` says of them, so that both sides of such a branch can be tried.

        `fixed`: the parameters that the request's token fixes. What one of them is must be beyond doubt."""
        self.placeholder = placeholder
        self.defined = defined
        self.fixed = fixed
        self.params: dict[str, ParamValue] = {}
        self.settings: dict[str, str] = {}
        self.identifiers: set[str] = set()  # that table(), symbol(), column() and columns() printed in one rendering
        self.visited: set[Branch] = set()  # filled by traced templates only
        self.seconds = 0.0  # that renderings with this binder took
        self.cache_seconds = 0  # the shortest `cache_ttl` that was rendered; 0: none
        self._bound = 0  # characters and items bound
        self._printed = 0  # characters of values printed
        self._entries: dict[str, _Entry] = {}
        self._names: dict[str, str] = {}

    def bind(self, value: object, key: str | None = None) -> str:
        """The text that stands for the value. `key` names a pure expression: one value in the whole request."""
        if isinstance(value, Secret):
            return self._bind_secret(value)
        if isinstance(value, tuple) or (isinstance(value, list) and any(isinstance(item, tuple) for item in value)):
            return self._bind_parts(value)
        kind = type_of(value)
        if key is not None:
            known = self._names.get(key)
            if known is not None and _same(self._entries[known], kind, value):
                return f"{{{known}:{kind}}}"
        name = f"p{len(self.params) + 1}"
        self._entries[name] = _Entry(kind, value)
        self.params[name] = self._checked(plain(value))
        if key is not None:
            self._names[key] = name
        return f"{{{name}:{kind}}}"

    def _bind_secret(self, secret: Secret) -> str:
        """Bound even where other values are printed: a secret is in no text."""
        name = f"s{len(self.params) + 1}"
        self.params[name] = self._checked(secret.text)
        return f"{{{name}:String}}"

    def _bind_parts(self, value: tuple[object, ...] | list[object]) -> str:
        """A tuple is no value of a parameter, its parts are."""
        type_of(value)  # refuses parts that do not fit together
        parts = ", ".join(self.bind(part) for part in value)
        return f"tuple({parts})" if isinstance(value, tuple) else f"[{parts}]"

    def _checked(self, value: ParamValue) -> ParamValue:
        """Refuses text that has no UTF-8 form, since it could not be sent, and more than fits into one request."""
        self._bound += 1
        if isinstance(value, str):
            self._bound += len(value)
            if not value.isascii():
                try:
                    value.encode("utf-8")
                except UnicodeEncodeError as error:
                    raise value_error("A value is not valid Unicode") from error
        elif isinstance(value, (list, tuple)):
            for item in value:
                self._checked(item)
        if self._bound > MAX_BOUND:
            raise LimitReached(f"The template binds more than {MAX_BOUND} characters of values")
        return value

    def finish(self, text: str) -> str:
        """The text of one node, with values printed where they must be. Call it once on each rendered text."""
        if not self._entries:
            return text
        places = _places(text) if len(text) <= _CACHED_TEXT else _find_places(text)
        parts: list[str] = []
        done = 0
        for place in places:
            entry = self._entries.get(place.name)
            if entry is None:
                continue
            if place.how == "quoted":
                raise value_error(
                    "A value cannot stand inside a quoted text or name",
                    hint="Let the value stand alone: concat('%', {{String(x)}}, '%').",
                )
            shown = _printed(entry, place.how)
            self._printed += len(shown)
            if self._printed > MAX_PRINTED:
                raise LimitReached(f"The template prints more than {MAX_PRINTED} characters of values")
            parts.append(text[done : place.start])
            parts.append(f" {shown}" if parts[-1][-1:].isalnum() or parts[-1].endswith("_") else shown)
            done = place.end
        if not parts:
            return text
        parts.append(text[done:])
        return "".join(parts)


def _printed(entry: _Entry, how: _How) -> str:
    match how:
        case "number":
            return plain_number(entry.value)
        case "interval":
            return interval_text(entry.value)
        case _:
            return dialect_text(entry.value, entry.type)


class _Place(NamedTuple):
    start: int
    end: int
    name: str
    how: _How


@lru_cache(maxsize=2048)
def _places(text: str) -> tuple[_Place, ...]:
    return _find_places(text)


def _find_places(text: str) -> tuple[_Place, ...]:
    """The placeholders of a text that cannot stay as they are. Those in comments do no harm and stay."""
    unnamed = unaliased_parameters(text)
    samples, intervals = sample_parameters(text), interval_parameters(text)
    wanted = samples | intervals | unnamed
    found: list[_Place] = []
    for token in tokenize(text):
        if token.kind is LexerKind.PARAMETER:
            match = _PLACEHOLDER.match(token.text)
            if match and token.start in wanted:
                how: _How = "number" if token.start in samples else "interval" if token.start in intervals else "text"
                found.append(_Place(token.start, token.end, match[1], how))
        elif token.kind in _QUOTED:
            found.extend(
                _Place(token.start, token.end, match[1], "quoted") for match in _PLACEHOLDER.finditer(token.text)
            )
    return tuple(found)


def _same(entry: _Entry, kind: str, value: object) -> bool:
    if entry.type != kind:
        return False
    if kind in ("String", "Array(String)"):
        return entry.value == value
    return repr(entry.value) == repr(value)  # 0.0 equals -0.0 and is not it; NaN is the same NaN and equals nothing
