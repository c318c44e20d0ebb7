"""What a compiled template calls besides the functions that its author names: reads, assignments, loops, output, try.

`emit` is the one door from an expression into the statement: `Sql` passes, every other value is bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pipit.errors import CustomError, PipitError, Reason, TemplateError
from pipit.templates.arithmetic import minus, plus, times
from pipit.templates.failures import bad_expression, explain, value_error
from pipit.templates.sizes import make_dict, make_list, make_tuple
from pipit.templates.state import Branch, RenderState, limited
from pipit.templates.types import text_of
from pipit.templates.values import NO_VALUE, Sql

TEMPLATE_FAILURES: tuple[type[Exception], ...] = (
    CustomError,
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
)


# The errors of Python that `{% except %}` may name. Those of the dialect itself are ValueErrors to it.
CATCHABLE: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (
        *(Exception, ArithmeticError, AttributeError, IndexError, KeyError, LookupError, OverflowError, TypeError),
        ValueError,
    )
}


class Leave(BaseException):
    """A `break` or `continue` on its way out of a `try` block, to the loop around it. No `except` catches it."""


def as_list(items: Any) -> list[Any]:
    if not isinstance(items, (list, tuple, str, dict)) or type(items) is Sql:
        raise value_error("A list is needed here")
    limited(len(items))
    return list(items)


def as_text(value: Any) -> str:
    try:
        return text_of(value)
    except ValueError as caught:
        raise value_error("A text is needed here, not a list or an object") from caught


def lookup(state: RenderState, name: str) -> Any:
    """A bare name that no `set` touches: the request's value, or None."""
    state.tick()
    value = state.values.get(name)
    return NO_VALUE if value is None and state.placeholder and state.binder.defined else value


def lookup_local(state: RenderState, name: str) -> Any:
    """A name that the template sets somewhere: what was set, else the request's value."""
    state.tick()
    return state.locals[name] if name in state.locals else lookup(state, name)


def argument(state: RenderState, name: str) -> Any:
    """A bare name as a type function's first argument: None when absent."""
    state.tick()
    return state.locals[name] if name in state.locals else state.values.get(name)


def assign(state: RenderState, name: str, value: Any) -> None:
    state.locals[name] = value


def assign_all(state: RenderState, names: list[str], values: Any) -> None:
    listed = as_list(values)
    if len(listed) != len(names):
        raise value_error(f"Cannot set {len(names)} names from {len(listed)} values")
    state.locals.update(zip(names, listed, strict=True))


def iterate(state: RenderState, items: Any, size: int) -> Iterator[Any]:
    """`size`: how much fixed text one turn writes, so that a loop over nothing but text is bounded too."""
    if items is None and state.placeholder:
        return
    for item in as_list(items):
        state.step()
        state.wrote(size)
        yield item


def endless(state: RenderState, size: int) -> Iterator[None]:
    while True:
        state.step()
        state.wrote(size)
        yield None


def visit(state: RenderState, template: str, kind: str, line: int, column: int) -> None:
    """Only in a template that was compiled with `traced`: this branch is being rendered."""
    state.binder.visited.add(Branch(template, kind, line, column))


def emit(state: RenderState, value: Any, source: str, key: str | None) -> str:
    """The text that an expression leaves in the SQL: checked SQL as is, every value through the binder."""
    if state.placeholder and isinstance(value, dict):
        value = None
    if type(value) is Sql:
        state.wrote(len(value))
        return value
    if value is None:
        if not state.placeholder:
            raise value_error(f'expression "{source}" evaluated to null', reason=Reason.TEMPLATE_VALUE_MISSING)
        value = NO_VALUE
    text = state.binder.bind(value, key)
    state.wrote(len(text))
    return text


def bad(state: RenderState, message: str, hint: str, line: int, column: int) -> None:
    """Stands for an expression that the language does not have, where a request may do without it."""
    raise bad_expression(message, line, column, hint=hint)


def write(state: RenderState, text: str) -> None:
    """Output inside of a `try`: it stays, whatever fails after it, and stands where the `try` stands."""
    assert state.written is not None
    state.written.append(text)


_OUTCOMES: tuple[type[BaseException], ...] = (Leave, *TEMPLATE_FAILURES)
Block = Callable[[], object]
Handler = tuple[tuple[str, ...], str, Block]  # the errors it names (none: all), the variable it sets, what it does


def attempt(
    state: RenderState, body: Block, handlers: list[Handler], otherwise: Block | None, final: Block | None
) -> Sql:
    """`{% try %}`, as Python has it: what was written before the failure stays. One inside writes into this one's."""
    outermost = state.written is None
    written = state.written = [] if state.written is None else state.written
    outcome: BaseException | None = None
    try:
        try:
            _attempt(state, body, handlers, otherwise)
        except _OUTCOMES as caught:
            outcome = caught
        if final is not None:
            final()
    except Leave as caught:
        outcome = caught
    finally:
        if outermost:
            state.written = None
    if isinstance(outcome, Leave):
        state.left = str(outcome)
    elif outcome is not None:
        raise outcome
    return Sql("".join(written) if outermost else "")


def _attempt(state: RenderState, body: Block, handlers: list[Handler], otherwise: Block | None) -> None:
    try:
        body()
    except TEMPLATE_FAILURES as error:
        if state.point is not None:
            state.binder.visited.add(state.point)
        for names, variable, handler in handlers:
            if not names or any(_is_a(error, CATCHABLE[name]) for name in names):
                if variable:
                    state.locals[variable] = error.message if isinstance(error, PipitError) else explain(error)
                handler()
                return
        raise
    if otherwise is not None:
        otherwise()


def _is_a(error: Exception, kind: type[Exception]) -> bool:
    return isinstance(error, kind) or (kind is ValueError and isinstance(error, TemplateError))


def leave(state: RenderState, how: str) -> None:
    """`break` or `continue` inside of a `try`, for a loop outside of it."""
    raise Leave(how)


def left(state: RenderState, how: str) -> bool:
    """Whether the `try` before this was left so. Asked once, where it can be done."""
    if state.left != how:
        return False
    state.left = ""
    return True


def point(state: RenderState, template: str, kind: str, line: int, column: int) -> None:
    """Only in a traced template: if this expression of a `try` block fails, something was written before it."""
    state.point = Branch(template, kind, line, column)


def no_point(state: RenderState) -> None:
    state.point = None


def unbroken(state: RenderState, loop: int) -> None:
    """A loop with an `else` begins."""
    state.broken.discard(loop)


def broke(state: RenderState, loop: int) -> None:
    state.broken.add(loop)


def was_broken(state: RenderState, loop: int) -> bool:
    return loop in state.broken


def method(state: RenderState, name: str, target: Any, *arguments: Any) -> Any:
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
        state.made(len(target))
        return str(target).split(*arguments)
    if name == "join":
        items = [as_text(item) for item in as_list(*arguments)]
        state.made(sum(map(len, items)) + len(target) * len(items))
        return str(target).join(items)
    old, new, *count = arguments
    if not isinstance(old, str) or not isinstance(new, str):
        raise value_error("'replace' needs texts")
    state.made(len(target) + target.count(old) * len(new) if old else (len(target) + 1) * (len(new) + 1))
    return str(target).replace(old, new, *count)


def index(state: RenderState, target: Any, key: Any) -> Any:
    if target is None and state.placeholder:
        return None
    if not isinstance(target, (list, tuple, str, dict)) or type(target) is Sql:
        raise value_error("Only a list, a text or an object can be indexed")
    return target[key]


def cut(state: RenderState, target: Any, lower: Any, upper: Any, step: Any) -> Any:
    if not isinstance(target, (list, tuple, str)) or type(target) is Sql:
        raise value_error("Only a list or a text can be cut")
    state.made(len(target))
    return target[lower:upper:step]


def same(state: RenderState, left: Any, right: Any) -> bool:
    return left is right if right is None or isinstance(right, bool) else bool(left == right)


_INTERNAL = (
    *(lookup, lookup_local, argument, assign, assign_all, iterate, endless, visit, emit),
    *(bad, write, attempt, leave, left, point, no_point, unbroken, broke, was_broken),
    *(method, index, cut, same, make_list, make_tuple, make_dict, plus, minus, times),
)
INTERNAL: dict[str, Callable[..., Any]] = {function.__name__: function for function in _INTERNAL}
