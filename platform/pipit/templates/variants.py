"""All texts that a template may have but for its values: each with one choice of branches, whatever the conditions say.

Some of them no request may get. Whoever holds a template to something holds it to more than its requests then, and to
nothing less.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import product

from pipit.errors import TemplateError
from pipit.templates import python
from pipit.templates.expressions import TemplateScope, parse
from pipit.templates.parts import PartKind, TemplatePart, split
from pipit.templates.template import Template
from pipit.templates.types import PARSERS

# Functions whose results are values, which are bound, or a comment. No others: those print names or make conditions.
_VALUES = frozenset(PARSERS) | frozenset(python.FUNCTIONS) | {
    "Array", "split_to_array", "defined", "day_diff", "len", "list", "int", "float", "min", "max", "tb_secret",
    "tb_var", "date_diff_in_seconds", "date_diff_in_minutes", "date_diff_in_hours", "date_diff_in_days",
    "cache_ttl", "max_threads", "backend_hint",
}  # fmt: skip
_RAISE = frozenset({"error", "custom_error"})


class _NotClear(Exception):
    pass


def variants(template: Template, most: int) -> list[Template] | None:
    """None: there are more than `most`, or the text depends on more than branches (loops, variables, printed names)."""
    source = template.source
    if not template.is_template:
        return [template]
    start = len(source) - len(source.lstrip())
    try:
        parts = split(source[:start] + " " + source[start + 1 :], template.name)
        chosen = _Choices(parts, most).all()
        bodies = dict.fromkeys(_text(choice) for choice in chosen if not any(_raises(part) for part in choice))
    except (_NotClear, TemplateError):
        return None
    return [Template.compile("%" + body, name=template.name) for body in bodies]


def _text(choice: list[TemplatePart]) -> str:
    pieces: list[str] = []
    for part in choice:
        if part.kind is PartKind.EXPRESSION:
            _check_value(part)
        pieces.append(part.text if part.kind is PartKind.TEXT else "{{ " + part.text + " }}")
    body = "".join(pieces)
    # A brace of the text could be read as one of a template, or become one where a branch went.
    if _merged(split(body, "")) != _merged(choice):
        raise _NotClear
    return body


def _merged(parts: list[TemplatePart]) -> list[tuple[PartKind, str]]:
    found: list[tuple[PartKind, str]] = []
    for part in parts:
        if part.kind is PartKind.TEXT and found and found[-1][0] is PartKind.TEXT:
            found[-1] = (PartKind.TEXT, found[-1][1] + part.text)
        else:
            found.append((part.kind, part.text))
    return found


def _tree(part: TemplatePart) -> ast.expr:
    return parse(part.text, TemplateScope(""), part.line, part.column)


def _raises(part: TemplatePart) -> bool:
    """No text comes of a rendering that gets here."""
    if part.kind is not PartKind.EXPRESSION:
        return False
    tree = _tree(part)
    return isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id in _RAISE


def _check_value(part: TemplatePart) -> None:
    for node in ast.walk(_tree(part)):
        if not isinstance(node, ast.Call) or isinstance(node.func, ast.Attribute):  # methods of values make values
            continue
        if not isinstance(node.func, ast.Name) or node.func.id not in _VALUES:
            raise _NotClear


class _Choices:
    """The text and expressions of each choice of branches."""

    def __init__(self, parts: list[TemplatePart], most: int) -> None:
        self.parts = parts
        self.most = most
        self.at = 0

    def all(self) -> list[list[TemplatePart]]:
        found = self.block()
        if self.at < len(self.parts):
            raise _NotClear
        return found

    def block(self) -> list[list[TemplatePart]]:
        """Up to the directive that ends this block, or to the end of the template."""
        found: list[list[TemplatePart]] = [[]]
        while self.at < len(self.parts):
            part = self.parts[self.at]
            if part.kind is not PartKind.DIRECTIVE:
                self.at += 1
                found = [[*one, part] for one in found]
                continue
            word = _word(part)
            if word in ("elif", "else", "end"):
                return found
            if word != "if":
                self.other_directive()
                continue
            self.at += 1
            branches = list(self.branches())
            if len(found) * len(branches) > self.most:
                raise _NotClear
            found = [[*one, *branch] for one, branch in product(found, branches)]
        return found

    def other_directive(self) -> None:
        """`set`, `for` and the like: what they make of the text is not followed."""
        raise _NotClear

    def branches(self) -> Iterator[list[TemplatePart]]:
        otherwise = False
        while True:
            yield from self.block()
            if self.at == len(self.parts):
                raise _NotClear
            word = _word(self.parts[self.at])
            self.at += 1
            if word == "end":
                break
            otherwise = otherwise or word == "else"
        if not otherwise:
            yield []


def _word(part: TemplatePart) -> str:
    """`if(x)` is one as well as `if x`."""
    length = next((i for i, character in enumerate(part.text) if not character.isalpha()), len(part.text))
    return part.text[:length]


__all__ = ["variants"]
