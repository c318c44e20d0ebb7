"""What a project's files ask for, by their text alone: it counts what a deploy refuses, or leaves out, too.

Read with a few patterns and not with the parser that is measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

_TYPE = re.compile(r"^\s*TYPE\s+[\"']?(\w+)", re.IGNORECASE | re.MULTILINE)
_NODE = re.compile(r"^\s*NODE\s+(\w+)", re.IGNORECASE | re.MULTILINE)
_SPECIAL = frozenset({"endpoint", "materialized", "copy", "sink"})


@dataclass(frozen=True)
class Wanted:
    """`endpoints`: pipes of TYPE endpoint. `called`: pipes without any TYPE that no other pipe reads, or with a node
    called `endpoint`: nothing is left for them but to be called."""

    tables: int
    views: int
    copies: int
    endpoints: frozenset[str]
    called: frozenset[str]


def wanted(files: Mapping[str, str]) -> Wanted:
    pipes = {PurePosixPath(name).stem: text for name, text in files.items() if name.endswith(".pipe")}
    types = {name: [t.lower() for t in _TYPE.findall(text)] for name, text in pipes.items()}
    untyped = {name for name, found in types.items() if not _SPECIAL.intersection(found)}
    everything = [found for each in types.values() for found in each]
    return Wanted(
        tables=sum(name.endswith(".datasource") for name in files),
        views=everything.count("materialized"),
        copies=everything.count("copy"),
        endpoints=frozenset(name for name, found in types.items() if "endpoint" in found),
        called=frozenset(name for name in untyped if _is_called(name, pipes)),
    )


def _is_called(name: str, pipes: Mapping[str, str]) -> bool:
    if "endpoint" in (node.lower() for node in _NODE.findall(pipes[name])):
        return True
    word = re.compile(rf"\b{re.escape(name)}\b")
    return not any(word.search(text) for other, text in pipes.items() if other != name)
