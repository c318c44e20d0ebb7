"""How large a value is with all that is in it, so that no template makes one that cannot be walked through.

A list may hold another list twice, and that one another twice: a few steps make what no walk ends. So a list that an
expression makes knows its weight (characters and items, as if nothing were shared) and its depth, both bounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipit.templates.failures import LimitReached
from pipit.templates.state import MAX_DEPTH, RenderState, limited


class Weighed(list[Any]):
    """A list that an expression made. It is never changed, so its weight stays."""

    __slots__ = ("depth", "weight")

    def __init__(self, items: Iterable[Any], weight: int, depth: int) -> None:
        super().__init__(items)
        self.weight = weight
        self.depth = depth


def weigh(value: Any) -> tuple[int, int]:
    """The weight and the depth of a value. Raises LimitReached as soon as one of them is too much."""
    total = deepest = 0
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, Weighed):
            total += one.weight
            deepest = max(deepest, depth + one.depth - 1)
        elif isinstance(one, (list, tuple, dict)):
            deepest = max(deepest, depth)
            total += len(one)
            limited(total)
            items = (*one, *one.values()) if isinstance(one, dict) else one
            for item in items:
                if isinstance(item, str):
                    total += len(item)
                elif isinstance(item, (list, tuple, dict)):
                    waiting.append((item, depth + 1))
        elif isinstance(one, str):
            total += len(one)
        limited(total)
        if deepest > MAX_DEPTH:
            raise LimitReached(f"The template makes a list nested deeper than {MAX_DEPTH} levels")
    return total, deepest


def make_list(state: RenderState, *items: Any) -> Weighed:
    """`[a, b]`."""
    weight, depth = weigh(items)
    state.made(len(items))
    return Weighed(items, weight, depth)


def make_tuple(state: RenderState, *items: Any) -> tuple[Any, ...]:
    """`(a, b)`."""
    state.made(weigh(items)[0])
    return items


def make_dict(state: RenderState, *pairs: Any) -> dict[Any, Any]:
    """`{a: b}`, its keys and values in turn."""
    state.made(weigh(pairs)[0])
    return dict(zip(pairs[::2], pairs[1::2], strict=True))
