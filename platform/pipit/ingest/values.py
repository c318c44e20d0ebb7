"""The values that a token fixes, on each line of its rows.

A segment may hold rows of many tokens that fix the same columns, each to its own values. So each line begins with the
values of the request that it came with:

    \\x1f<nonce> "acme",["a","b"]\\x1f{"id": 1, ...}

The log writes them there, and no client knows the nonce of a segment. What a client sent stands behind the second
\\x1f, and in JSON that character is always escaped. So nothing in a row can pass for its values, or for the end of
them. A line that lacks them goes to the quarantine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pipit.ingest.field import LINE, FixedValue, text_of
from pipit.sql.literals import quote_string

FIXED = "_pipit_fixed"  # the values of a line, as texts
PROBLEM = "_pipit_unowned"  # why the line is refused, whatever its row is
CARRIED = (FIXED, PROBLEM)
_RAW, _END = "_pipit_raw", "_pipit_end"
Names = tuple[tuple[str, bool], ...]  # of columns, and whether the value is a list
LOST = "the token of the line is not known: the values that it fixes are lost"


@dataclass(frozen=True, slots=True)
class ByLine:
    """How the lines of a segment tell them. `names`: each column, and whether its value is a list. `here`: those that
    the table has. `refused`: lists of values that it does not take, and why."""

    mark: str  # what each line begins with
    frame: str  # what the lines begin with that are no rows
    names: Names
    here: frozenset[str]
    refused: Mapping[str, str] = field(default_factory=dict)

    def source(self, name: str) -> str:
        """The wide value of the column."""
        return f"tupleElement({FIXED}, {[known for known, _ in self.names].index(name) + 1})"

    @property
    def lines(self) -> str:
        """SQL over the marker `{source}`: the lines as they were sent, with what is `CARRIED` beside them."""
        start = len(self.mark) + 1
        types = ", ".join("Array(Nullable(String))" if listed else "Nullable(String)" for _, listed in self.names)
        whole = f"startsWith({_RAW}, {_quoted(self.mark)})"
        listed = f"substring({_RAW}, {start}, {_END} - {start})"
        problem = f"if({whole}, {self._refusal(listed)}, {quote_string(LOST)})"
        return (
            f"(SELECT if({whole}, substring({_RAW}, {_END} + 1), {_RAW}) AS {LINE}, "
            f"JSONExtract(concat('[', if({whole}, {listed}, ''), ']'), 'Tuple({types})') AS {FIXED}, "
            f"{problem} AS {PROBLEM} FROM "
            f"(SELECT {LINE} AS {_RAW}, position({LINE}, '\\x1f', {start}) AS {_END} FROM {{source}}{self._only_rows}))"
        )

    @property
    def _only_rows(self) -> str:
        return f" WHERE NOT startsWith({LINE}, {_quoted(self.frame)})" if self.frame else ""

    def _refusal(self, listed: str) -> str:
        if not self.refused:
            return "''"
        keys = ", ".join(map(_quoted, self.refused))
        reasons = ", ".join(map(_quoted, self.refused.values()))
        return f"transform({listed}, [{keys}], [{reasons}], '')"


def names_of(fixed: Mapping[str, FixedValue]) -> Names:
    return tuple((name, not isinstance(fixed[name], str | int | float | bool)) for name in sorted(fixed))


def listed(fixed: Mapping[str, Any]) -> str:
    """As the lines have them: JSON texts, in the order of the names."""
    values = [fixed[name] for name in sorted(fixed)]
    texts = [text_of(v) if isinstance(v, str | int | float | bool) else [text_of(item) for item in v] for v in values]
    return msgspec.json.encode(texts)[1:-1].decode()


def _quoted(text: str) -> str:
    """The marker of the statement's source must not come a second time, whatever the token fixes."""
    return quote_string(text).replace("{source}", "{\\x73ource}")
