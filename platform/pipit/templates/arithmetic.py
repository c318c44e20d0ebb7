"""`+`, `-` and `*` of the template language: on numbers, texts and lists, bounded, never on SQL text."""

from __future__ import annotations

from typing import Any

from pipit.templates.failures import LimitReached, value_error
from pipit.templates.sizes import Weighed, weigh
from pipit.templates.state import RenderState, limited
from pipit.templates.values import Sql

MAX_COMPUTED_BITS = 1024


def plus(state: RenderState, left: Any, right: Any) -> Any:
    _refuse_sql("+", left, right)
    if isinstance(left, str) and isinstance(right, str):
        state.made(len(left) + len(right))
        return str(left) + str(right)
    if isinstance(left, list) and isinstance(right, list):
        one, other = weigh(left), weigh(right)
        limited(one[0] + other[0])
        state.made(len(left) + len(right))  # the items themselves are shared
        return Weighed([*left, *right], one[0] + other[0], max(one[1], other[1]))
    if isinstance(left, tuple) and isinstance(right, tuple):
        state.made(weigh(left)[0] + weigh(right)[0])
    return _number(left + right)


def minus(state: RenderState, left: Any, right: Any) -> Any:
    _refuse_sql("-", left, right)
    return _number(left - right)


def times(state: RenderState, left: Any, right: Any) -> Any:
    _refuse_sql("*", left, right)
    for one, other in ((left, right), (right, left)):
        if isinstance(one, (str, list, tuple)) and isinstance(other, int):
            weight, depth = weigh(one)
            count = max(int(other), 0)
            state.made(weight * count)
            return Weighed(list(one) * count, weight * count, depth) if isinstance(one, list) else one * count
    if (
        isinstance(left, int)
        and isinstance(right, int)
        and left.bit_length() + right.bit_length() > 2 * MAX_COMPUTED_BITS
    ):
        raise LimitReached("The template makes a number that is too large")
    return _number(left * right)


def _refuse_sql(operator: str, left: Any, right: Any) -> None:
    if type(left) is Sql or type(right) is Sql:
        raise value_error(f"'{operator}' does not work on SQL text")


def _number(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MAX_COMPUTED_BITS:
        raise LimitReached("The template makes a number that is too large")
    return value
