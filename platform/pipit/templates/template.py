"""`Template`: a node's SQL, compiled once, rendered for each request into SQL text and bound values.

Promises (rule 2): no character of a request's value reaches the text, except as a checked identifier of
`column`, `columns`, `symbol` and `table`, or as a literal of the one printer; a value is never rendered again;
rendering changes nothing that is shared, and is bounded in time, steps and size. What the language does not have
fails in `compile`.

A source whose first character that is not white space is `%` is a template, without that `%`. Any other is plain SQL,
and braces in it are an error.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipit.errors import PipitError, Reason, TemplateError
from pipit.sql.lexer import LexerKind, tokenize
from pipit.templates import python
from pipit.templates.binder import Binder
from pipit.templates.blocks import assigned_names, build
from pipit.templates.expressions import TemplateScope
from pipit.templates.failures import BadExpression, LimitReached, explain, syntax_error, value_error
from pipit.templates.functions import FUNCTIONS
from pipit.templates.parameters import Parameter, Use, merge
from pipit.templates.parts import PartKind, TemplatePart, split
from pipit.templates.runtime import INTERNAL, TEMPLATE_FAILURES
from pipit.templates.state import Branch, RenderState
from pipit.templates.values import RequestValue

_CALLABLE: dict[str, Callable[..., Any]] = {
    **{name: function.call for name, function in FUNCTIONS.items()},
    **INTERNAL,
    **python.FUNCTIONS,
    **python.INTERNAL,
}
_TRUSTED = frozenset(_CALLABLE.values())
_FAILURES: tuple[type[BaseException], ...] = (*TEMPLATE_FAILURES, jinja2.TemplateError, RecursionError, MemoryError)
_NO_SECRETS: Mapping[str, str] = MappingProxyType({})
_MAX_SOURCE = 1_000_000
_MAX_BLOCKS = 5_000  # each takes some time to compile
_WORD = re.compile(r"\w+")
_PLACE = "pipit"  # what stands for an expression while its place is looked at


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, closed further: our functions are all that can be called, and no attribute can be read."""

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("_loop_vars", None)
        kwargs.pop("_block_vars", None)
        if __obj not in _TRUSTED:
            raise SecurityError("not a function of the template language")
        return __obj(*args, **kwargs)

    def getattr(self, obj: Any, attribute: str) -> Any:
        raise SecurityError("templates read no attributes")

    def getitem(self, obj: Any, argument: Any) -> Any:
        raise SecurityError("templates read no items")


_ENVIRONMENT = _Environment(autoescape=False, optimized=False, undefined=jinja2.StrictUndefined)


class Template:
    """Compiled. Immutable: one instance serves all requests, from any thread."""

    __slots__ = (
        "_code", "_render", "branches", "doubts", "is_template", "name", "parameters", "problems", "secrets", "source",
        "text", "uses", "words",
    )  # fmt: skip

    name: str
    source: str
    is_template: bool
    text: str  # the SQL, when there is nothing to render
    parameters: tuple[Parameter, ...]
    secrets: tuple[str, ...]  # the names of those that it needs: used somewhere without a default
    uses: tuple[Use, ...]  # each place in which it reads a parameter
    doubts: tuple[BadExpression, ...]  # expressions that run, and are hardly what was meant
    problems: tuple[BadExpression, ...]  # expressions that would fail, in branches that a request may not take
    words: frozenset[str]  # that its author wrote, in SQL and in string literals
    branches: tuple[Branch, ...]  # all there are; only known where it was compiled with `traced`
    _render: jinja2.Template | None
    _code: str

    @classmethod
    def compile(cls, source: str, *, name: str = "<string>", traced: bool = False) -> Template:
        """Raises TemplateError with `line` and `column` within the source.

        `traced`: its renderings tell the binder which branches they took, and its SQL is the same.
        """
        self = cls.__new__(cls)
        self.name, self.source, self.text = name, source, source
        self.parameters = ()
        self.secrets = ()
        self.branches = ()
        self.uses = ()
        self.doubts = ()
        self.problems = ()
        self.words = frozenset()
        self._render, self._code = None, ""
        start = len(source) - len(source.lstrip())
        self.is_template = source.startswith("%", start)
        if not self.is_template:
            _refuse_braces(source)
            return self
        if len(source) > _MAX_SOURCE:
            raise syntax_error(f"The template is longer than {_MAX_SOURCE} characters")
        body = source[:start] + " " + source[start + 1 :]
        parts = split(body, name)
        if sum(part.kind is not PartKind.TEXT for part in parts) > _MAX_BLOCKS:
            raise syntax_error(f"The template has more than {_MAX_BLOCKS} expressions and blocks")
        _check_places(parts)
        scope = TemplateScope(name, branches=[] if traced else None)
        scope.locals = assigned_names(parts, scope)
        tree = nodes.Template(build(parts, scope), lineno=1)
        self.parameters = merge(scope.uses)
        self.secrets = tuple(dict.fromkeys(scope.secrets))
        self.branches = tuple(scope.branches or ())
        self.uses = tuple(scope.uses)
        self.doubts = tuple({(e.identity, e.line, e.column): e for e in scope.doubts}.values())
        self.problems = tuple(scope.problems)
        written = (*scope.texts, *(part.text for part in parts if part.kind is PartKind.TEXT))
        self.words = frozenset(word for text in written for word in _WORD.findall(text))
        if len(parts) == 1 and parts[0].kind is PartKind.TEXT:
            self.text = parts[0].text
            return self
        self._render, self._code = _compiled(tree, name)
        return self

    def render(
        self,
        values: Mapping[str, RequestValue],
        binder: Binder,
        *,
        secrets: Mapping[str, str] = _NO_SECRETS,
    ) -> str:
        """The SQL for these values, which go to the binder. Raises TemplateError, or CustomError (the author's)."""
        if self._render is None:
            return self.text
        required = tuple(p.name for p in self.parameters if p.needed and p.typed)
        state = RenderState(values, binder, secrets, required)
        chunks: list[str] = []
        try:
            for chunk in self._render.root_render_func(self._render.new_context({"state": state})):
                chunks.append(chunk)
            return binder.finish("".join(chunks))
        except LimitReached as error:
            failure = value_error(str(error), reason=Reason.TEMPLATE_TOO_LARGE)
            failure.line = self._line(error)
            raise failure from error
        except PipitError as error:
            if isinstance(error, TemplateError) and not error.line:
                error.line = self._line(error)
            raise
        except _FAILURES as error:
            failure = value_error(explain(error))
            failure.line = self._line(error)
            raise failure from error
        finally:
            binder.seconds += time.monotonic() - state.started

    def _line(self, error: BaseException) -> int:
        """Where in the source an error came up."""
        assert self._render is not None
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self._code:
                return int(self._render.get_corresponding_lineno(trace.tb_lineno))
            trace = trace.tb_next
        return 0


def _compiled(tree: nodes.Template, name: str) -> tuple[jinja2.Template, str]:
    tree.set_environment(_ENVIRONMENT)
    tree.set_lineno(1)
    filename = f"<template {name}>"
    try:
        code = _ENVIRONMENT.compile(tree, name, filename)
    except (SyntaxError, RecursionError, MemoryError, jinja2.TemplateError) as error:
        raise syntax_error("The template is nested too deeply", 1) from error
    return jinja2.Template.from_code(_ENVIRONMENT, code, _CALLABLE), filename


def _refuse_braces(source: str) -> None:
    at = source.find("{{")
    if at == -1:
        return
    line = source.count("\n", 0, at) + 1
    raise syntax_error(
        f"Template expression in plain SQL at line {line}",
        line,
        at - source.rfind("\n", 0, at),
        hint="Begin the SQL with a line that holds only % to make it a template.",
    )


def _check_places(parts: list[TemplatePart]) -> None:
    """Refuses expressions inside of quotes (attack C08). In a comment they are harmless: bound like all others."""
    places: list[tuple[int, TemplatePart]] = []
    pieces: list[str] = []
    length = 0
    for part in parts:
        if part.kind is PartKind.EXPRESSION:
            places.append((length, part))
        piece = part.text if part.kind is PartKind.TEXT else _PLACE if part.kind is PartKind.EXPRESSION else ""
        pieces.append(piece)
        length += len(piece)
    refused = {LexerKind.STRING, LexerKind.QUOTED_IDENTIFIER}
    tokens = iter(tokenize("".join(pieces)) if places else ())
    token = next(tokens, None)
    for start, part in places:
        while token is not None and token.end <= start:
            token = next(tokens, None)
        if token is not None and token.kind in refused:
            raise syntax_error(
                f"An expression cannot stand inside a quoted text or name, at line {part.line}",
                part.line,
                part.column,
                hint="A value is a whole operand, with its own quotes: write concat('%', {{String(x)}}, '%').",
            )


__all__ = ["Template"]
