"""How a template fails: always a TemplateError with the dialect's prefix, or one that names a missing context key."""

from __future__ import annotations

import re

from pipit.errors import Forbidden, Reason, TemplateError


def syntax_error(text: str, line: int = 0, column: int = 0, *, hint: str = "") -> TemplateError:
    """What `Template.compile` raises: found in the source, before any request."""
    return TemplateError(text, hint=hint, line=line, column=column, reason=Reason.TEMPLATE_INVALID)


def value_error(
    text: str,
    *,
    anchor: str = "",
    hint: str = "",
    parameter: str = "",
    reason: Reason = Reason.TEMPLATE_FAILED,
) -> TemplateError:
    """What `Template.render` raises: this request's values do not do."""
    return TemplateError(text, anchor=anchor, hint=hint, parameter=parameter, reason=reason)


def explain(error: BaseException) -> str:
    """A short reason for an error of Python's, without anything of the implementation."""
    if isinstance(error, LookupError):
        return "there is no such item"
    if not isinstance(error, (TypeError, ValueError)):
        return "the expression cannot be evaluated"
    text = str(error)
    if isinstance(error, TypeError):
        text = re.sub(r"<[^>]*>|[A-Za-z_.]*\.[A-Za-z_<>]*\(\)", "", text).strip()
    text = text.partition("; use sys.")[0]
    return (text if len(text) <= 200 else f"{text[:200]}...") or "the operation does not fit these values"


class BadExpression(TemplateError):
    """What the language does not have. The rest of the template may do without: in a branch that no request takes it is
    a warning of the deploy, and an error of the requests that take it."""


def bad_expression(text: str, line: int, column: int, *, hint: str = "") -> BadExpression:
    return BadExpression(text, hint=hint, line=line, column=column, reason=Reason.TEMPLATE_INVALID)


class LimitReached(Exception):
    """A template ran too long or grew too large. No `{% except %}` catches it."""


class MissingContextKey(Forbidden):
    """A row policy needs a key that the token's context does not carry: the read is refused."""

    reason = Reason.CONTEXT_KEY_MISSING

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The token's context has no key '{key}', which a row policy needs",
            subject=key,
            hint=f"Sign the token with context.{key}.",
        )
        self.key = key


class InvalidContextKey(Forbidden):
    """The key is there and its value is not of the type that the policy declares. The value is not repeated."""

    reason = Reason.CONTEXT_KEY_INVALID

    def __init__(self, key: str, expected: str) -> None:
        super().__init__(f"The token's context key '{key}' is not a value of type {expected}", subject=key)
        self.key = key
