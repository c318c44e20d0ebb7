"""The pieces in which a new generation is filled: ranges of the parts of a table whose parts do not change.

Pure. Cut again from the same parts, the chunks are the same: so one that is done is known by its name, after a crash
too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any
from zlib import crc32

_MOST_PARTS = 100  # in one chunk: they stand in a setting, which has to fit into a line
_MOST_CHUNKS = 2000
_GRANULE = 8192  # rows that are read together


@dataclass(frozen=True, slots=True)
class Part:
    """`bytes`: of its columns, not compressed."""

    name: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Size:
    """Of a chunk, at most."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """`where` says which rows of the source; "": all."""

    rows: int
    where: str = ""

    @property
    def key(self) -> str:
        """Tells apart chunks of the same number."""
        return f"{crc32(self.where.encode()):08x}"


def cut(parts: Sequence[Part], most: Size) -> list[Chunk]:
    """All rows of these parts, each once, in an order that depends on nothing else."""
    least = ceil(sum(part.rows for part in parts) / _MOST_CHUNKS)
    found: list[Chunk] = []
    small: list[Part] = []
    rows = 0
    for part in sorted(parts, key=lambda part: part.name):
        limit = max(1, least, min(most.rows, most.bytes * part.rows // max(1, part.bytes)))
        if part.rows > limit:
            found += _ranges(part, limit)
            continue
        if small and (rows + part.rows > limit or len(small) == _MOST_PARTS):
            found.append(_together(small))
            small, rows = [], 0
        small.append(part)
        rows += part.rows
    if small:
        found.append(_together(small))
    return found


def _ranges(part: Part, limit: int) -> Iterator[Chunk]:
    pieces = ceil(part.rows / limit)
    step = ceil(part.rows / pieces)
    if step > _GRANULE:
        step = ceil(step / _GRANULE) * _GRANULE
    for first in range(0, part.rows, step):
        last = min(first + step, part.rows)
        where = f"_part = '{part.name}' AND _part_offset >= {first} AND _part_offset < {last}"
        yield Chunk(last - first, where)


def _together(parts: Iterable[Part]) -> Chunk:
    named = list(parts)
    return Chunk(sum(part.rows for part in named), f"_part IN ({', '.join(repr(part.name) for part in named)})")


# What a statement may do for its rows to be made piece by piece: each from one row of the source.
_BY_ROW = {"Expression", "Filter", "ArrayJoin", "ReadFromMergeTree"}
# And where the target brings together what it has of one group.
_BY_GROUP = {"Aggregating", "Sorting", "MergingAggregated"}


def can_be_cut(plan: str, *, groups: bool) -> bool:
    """Whether a statement can be run piece by piece, by the engine's plan of it as JSON. `groups`: whether the target
    puts rows of one group together."""
    try:
        nodes = list(_nodes(json.loads(plan)[0]["Plan"]))
    except (ValueError, KeyError, IndexError, TypeError):
        return False
    allowed = _BY_ROW | _BY_GROUP if groups else _BY_ROW
    return nodes.count("ReadFromMergeTree") == 1 and nodes.count("Aggregating") < 2 and set(nodes) <= allowed


def _nodes(plan: Mapping[str, Any]) -> Iterator[str]:
    yield str(plan["Node Type"])
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)
