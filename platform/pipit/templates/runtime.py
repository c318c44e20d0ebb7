"""What a compiled template calls besides the functions that its author names: reads, assignments, loops, output.

`emit` is the one door from an expression into the statement: `Sql` passes, every other value is bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pipit.errors import CustomError, TemplateError
from pipit.templates.failures import value_error
from pipit.templates.state import Branch, State, limited
from pipit.templates.types import text_of
from pipit.templates.values import Sql

TEMPLATE_FAILURES: tuple[type[Exception], ...] = (
    CustomError,
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
)


def as_list(items: Any) -> list[Any]:
    if not isinstance(items, (list, tuple, str, dict)):
        raise value_error("A list is needed here")
    limited(len(items))
    return list(items)


def as_text(value: Any) -> str:
    try:
        return text_of(value)
    except ValueError as caught:
        raise value_error("A text is needed here, not a list or an object") from caught


def lookup(state: State, name: str) -> Any:
    """A bare name that no `set` touches: the request's value, or None."""
    value = state.values.get(name)
    return "__no_value__" if value is None and state.placeholder and state.binder.defined else value


def lookup_local(state: State, name: str) -> Any:
    """A name that the template sets somewhere: what was set, else the request's value."""
    return state.locals[name] if name in state.locals else lookup(state, name)


def argument(state: State, name: str) -> Any:
    """A bare name as a type function's first argument: None when absent."""
    return state.locals[name] if name in state.locals else state.values.get(name)


def assign(state: State, name: str, value: Any) -> None:
    state.locals[name] = value


def assign_all(state: State, names: list[str], values: Any) -> None:
    listed = as_list(values)
    if len(listed) != len(names):
        raise value_error(f"Cannot set {len(names)} names from {len(listed)} values")
    state.locals.update(zip(names, listed, strict=True))


def iterate(state: State, items: Any, size: int) -> Iterator[Any]:
    """`size`: how much fixed text one turn writes, so that a loop over nothing but text is bounded too."""
    if items is None and state.placeholder:
        return
    for item in as_list(items):
        state.step()
        state.wrote(size)
        yield item


def endless(state: State, size: int) -> Iterator[None]:
    while True:
        state.step()
        state.wrote(size)
        yield None


def visit(state: State, template: str, kind: str, line: int, column: int) -> None:
    """Only in a template that was compiled with `traced`: this branch is being rendered."""
    state.binder.visited.add(Branch(template, kind, line, column))


def emit(state: State, value: Any, source: str, key: str | None) -> str:
    """The text that an expression leaves in the SQL: checked SQL as is, every value through the binder."""
    if type(value) is Sql:
        state.wrote(len(value))
        return value
    if value is None:
        if not state.placeholder:
            raise value_error(f'expression "{source}" evaluated to null')
        value = "__no_value__"
    text = state.binder.bind(value, key)
    state.wrote(len(text))
    return text


def attempt(state: State, body: Callable[[], str], *others: Callable[[], str] | None) -> Sql:
    """`{% try %}`: the body's text, or the except block's if the body fails; the finally block's after either."""
    handler, final = others
    try:
        text = str(body())
    except TEMPLATE_FAILURES:
        if handler is None:
            raise
        text = str(handler())
    return Sql(text + (str(final()) if final else ""))


def method(state: State, name: str, target: Any, *arguments: Any) -> Any:
    """split, get, join, replace: on text and objects only."""
    if name == "get":
        if target is None and state.placeholder:
            return None
        if not isinstance(target, dict):
            raise value_error("'get' needs an object, such as JSON() gives")
        return target.get(*arguments)
    if not isinstance(target, str) or type(target) is Sql:
        raise value_error(f"'{name}' needs a text")
    if name == "split":
        return str(target).split(*arguments)
    if name == "join":
        items = [as_text(item) for item in as_list(*arguments)]
        limited(sum(map(len, items)) + len(target) * len(items))
        return str(target).join(items)
    old, new, *count = arguments
    limited(len(target) + target.count(old) * len(new) if old else (len(target) + 1) * (len(new) + 1))
    return str(target).replace(old, new, *count)


def index(state: State, target: Any, key: Any) -> Any:
    if target is None and state.placeholder:
        return None
    if not isinstance(target, (list, tuple, str, dict)) or type(target) is Sql:
        raise value_error("Only a list, a text or an object can be indexed")
    return target[key]


def cut(state: State, target: Any, lower: Any, upper: Any, step: Any) -> Any:
    if not isinstance(target, (list, tuple, str)) or type(target) is Sql:
        raise value_error("Only a list or a text can be cut")
    return target[lower:upper:step]


def same(state: State, left: Any, right: Any) -> bool:
    return left is right if right is None or isinstance(right, bool) else bool(left == right)


_INTERNAL = (
    *(lookup, lookup_local, argument, assign, assign_all, iterate, endless, visit, emit),
    *(attempt, method, index, cut, same),
)
INTERNAL: dict[str, Callable[..., Any]] = {function.__name__: function for function in _INTERNAL}
