"""JSON paths of a schema: `$`, `$.a.b`, `$['a.b']`, `$.items[:].name`, `$.a[0]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_STEP = re.compile(
    r"""\.(?P<key>[^.\[\]'"]+) | \['(?P<single>(?:[^'\\]|\\.)*)'\] | \["(?P<double>(?:[^"\\]|\\.)*)"\]
      | \[(?P<index>\d+)\] | (?P<each>\[(?::|\*)\])""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class JsonPath:
    """`outer` leads to a value or, with `each`, to an array, and `inner` from each of its items to a value."""

    outer: tuple[str | int, ...] = ()
    inner: tuple[str, ...] = ()
    each: bool = False
    text: str = "$"

    @property
    def is_record(self) -> bool:
        return not self.outer and not self.each

    @property
    def is_plain(self) -> bool:
        """Keys only: readable as elements of one named tuple."""
        return all(isinstance(step, str) and step for step in (*self.outer, *self.inner))


def parse(text: str) -> JsonPath:
    """Raises ValueError with a sentence for the author."""
    text = text.strip()
    if not text.startswith("$"):
        raise ValueError(f"the JSON path {text} does not start with $")
    outer: list[str | int] = []
    inner: list[str] = []
    each = False
    place = 1
    while place < len(text):
        step = _STEP.match(text, place)
        if step is None:
            raise ValueError(f"the JSON path {text} cannot be read from character {place + 1}")
        place = step.end()
        if step["each"]:
            if each:
                raise ValueError(f"the JSON path {text} goes into two arrays; read the outer one as a String")
            each = True
            continue
        value: str | int
        if step["index"] is not None:
            value = int(step["index"])
        elif step["key"] is not None:
            value = step["key"]
        else:
            value = re.sub(r"\\(.)", r"\1", step["single"] if step["single"] is not None else step["double"])
        if not each:
            outer.append(value)
        elif isinstance(value, str):
            inner.append(value)
        else:
            raise ValueError(f"the JSON path {text} has an index after [:], which is not supported")
    if each and not outer:
        raise ValueError(f"the JSON path {text} goes into a record that is an array; a record is an object")
    return JsonPath(tuple(outer), tuple(inner), each, text)
