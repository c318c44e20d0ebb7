"""The paths of ``json:...``: `$`, `$.a.b`, `$.items[:].name`, `$.a[0]`, `$['a.b']`. Text -> steps, and nothing else.

`parse_jsonpath` promises: a step is a key (str), an index (int) or EACH; EACH stands at most once. Whatever it does
not know is a ValueError whose text is for the reader.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal


class Each(Enum):
    """`[:]`, every item of an array."""

    EACH = "[:]"


EACH: Final = Each.EACH
Step = str | int | Literal[Each.EACH]


def parse_jsonpath(path: str) -> tuple[Step, ...]:
    """The steps from the record to the value; `$`, the whole record, has none."""
    if not path.startswith("$"):
        raise ValueError(f"a JSON path starts with $, such as $.{path or 'name'}")
    steps: list[Step] = []
    i = 1
    while i < len(path):
        if path[i] == ".":
            if path.startswith(".[", i):  # `$.a.[:]`, a common way to write `$.a[:]`
                i += 1
                continue
            end = i + 1
            while end < len(path) and path[end] not in ".[":
                end += 1
            key = path[i + 1 : end]
            if not key or key != key.strip():
                raise ValueError("a name is missing after a dot of the JSON path")
            if key == "*":
                raise ValueError("JSON paths know no *: use [:] for the items of an array")
            steps.append(key)
            i = end
        elif path[i] == "[":
            step, i = _bracket(path, i)
            steps.append(step)
        else:
            raise ValueError("in a JSON path a dot or a bracket follows $")
    if steps.count(EACH) > 1:
        raise ValueError("only one [:] is possible: deeper arrays go into a String column as JSON text")
    return tuple(steps)


def _bracket(path: str, i: int) -> tuple[Step, int]:
    if path.startswith("[:]", i):
        return EACH, i + 3
    if path[i + 1 : i + 2] in ("'", '"'):
        quote = path[i + 1]
        end = path.find(quote + "]", i + 2)
        if end < 0 or end == i + 2:
            raise ValueError("a quoted name in brackets is not closed, or empty")
        return path[i + 2 : end], end + 2
    end = path.find("]", i)
    inner = path[i + 1 : end] if end >= 0 else ""
    if end < 0 or not (inner.isascii() and inner.isdigit()) or len(inner) > 9:
        raise ValueError("brackets in a JSON path hold :, a number, or a quoted name")
    return int(inner), end + 1
