"""A template's source, cut into text, expressions and directives, each with its place. Knows braces, nothing else.

Follows Tornado: `{{ }}`, `{% %}`, `{# #}`, `{% comment ... %}`; `{{!`, `{%!`, `{#!` are the bare braces; of three
braces in a row the inner two count. One leniency: `}}` and `%}` inside a quoted text or a dict of the expression do not
end it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum

from pipit.templates.failures import syntax_error


class PartKind(Enum):
    TEXT = "text"
    EXPRESSION = "expression"
    DIRECTIVE = "directive"


@dataclass(frozen=True, slots=True)
class TemplatePart:
    kind: PartKind
    text: str  # the SQL text as is; the inner text of an expression or directive, stripped
    line: int
    column: int


_CLOSERS = {"{{": "}}", "{%": "%}", "{#": "#}"}


def split(source: str, name: str, *, line: int = 1, column: int = 1) -> list[TemplatePart]:
    """The parts in order; adjoining texts are one. Raises TemplateError on an unclosed brace."""
    cutter = _Cutter(source, name, line, column)
    cutter.cut()
    cutter.end_text()
    return cutter.parts


class _Cutter:
    def __init__(self, source: str, name: str, line: int, column: int) -> None:
        self.source = source
        self.name = name
        self.line = line
        self.first_column = column
        self.parts: list[TemplatePart] = []
        self.position = 0
        self.lines = [0, *(match.end() for match in re.finditer("\n", source))]  # where each begins
        self.texts: list[str] = []  # of the text part that is not ended yet
        self.text_starts_at = (line, column)
        self.looks = 10 * len(source) + 10_000  # characters that may be looked at for the ends of blocks

    def line_and_column(self, position: int) -> tuple[int, int]:
        line = bisect_right(self.lines, position) - 1
        start = self.lines[line]
        return self.line + line, position - start + 1 + (0 if line else self.first_column - 1)

    def add_text(self, text: str, position: int) -> None:
        if not text:
            return
        if not self.texts:
            self.text_starts_at = self.line_and_column(position)
        self.texts.append(text)

    def end_text(self) -> None:
        if self.texts:
            self.parts.append(TemplatePart(PartKind.TEXT, "".join(self.texts), *self.text_starts_at))
            self.texts = []

    def cut(self) -> None:
        source = self.source
        while self.position < len(source):
            opening = self._next_opening()
            self.add_text(source[self.position : opening], self.position)
            if opening == len(source):
                return
            braces = source[opening : opening + 2]
            inner = opening + 2
            if source.startswith("!", inner):
                self.add_text(braces, opening)
                self.position = inner + 1
                continue
            self._cut_block(braces, opening, inner)

    def _next_opening(self) -> int:
        source = self.source
        at = source.find("{", self.position)
        while at != -1 and at + 1 < len(source):
            following = source[at + 1]
            if following in "{%#" and not (following == "{" and source.startswith("{", at + 2)):
                return at
            at = source.find("{", at + 1)
        return len(source)

    def _cut_block(self, braces: str, opening: int, inner: int) -> None:
        line, column = self.line_and_column(opening)
        closer = _CLOSERS[braces]
        end = self.source.find(closer, inner)
        if end == -1:
            what = {"{{": "expression }}", "{%": "block %}", "{#": "comment #}"}[braces]
            raise syntax_error(f"Missing end {what} at {self.name}:{line}", line, column)
        if braces != "{#":
            end = self._end_outside_quotes(inner, closer, end)
        text = self.source[inner:end].strip()
        self.position = end + 2
        if braces == "{#" or (braces == "{%" and (text == "comment" or text.startswith("comment "))):
            return
        if not text:
            what = "expression" if braces == "{{" else "block tag"
            raise syntax_error(f"Empty {what} at {self.name}:{line}", line, column)
        kind = PartKind.EXPRESSION if braces == "{{" else PartKind.DIRECTIVE
        self.end_text()
        self.parts.append(TemplatePart(kind, text, line, column))

    def _end_outside_quotes(self, start: int, closer: str, first: int) -> int:
        """Where the block ends: the first closer outside of quotes and inner braces, else simply the first closer."""
        source, quote, depth, position = self.source, "", 0, start
        stop = min(len(source), start + self.looks)
        try:
            while position < stop:
                character = source[position]
                if quote:
                    if character == "\\":
                        position += 1
                    elif character == quote:
                        quote = ""
                elif character in "'\"":
                    quote = character
                elif depth == 0 and source.startswith(closer, position):
                    return position
                elif character == "{":
                    depth += 1
                elif character == "}":
                    depth -= 1
                    if depth < 0:
                        return first
                position += 1
            return first
        finally:
            self.looks -= position - start
