"""Which pipes without a TYPE are endpoints: those of a project in the form of Tinybird Classic.

Tinybird Classic had no TYPE endpoint: such a pipe is called by its name. A project is Classic in form when nothing in
it is newer, and something is Classic's alone or no pipe is an endpoint otherwise; then its pipes are published, by the
node called `endpoint`, else by the last one. In any other project nothing is published that was private: one warning
names the pipes that nothing reads.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from pipit.datafiles.resources import Node, NodeType, Pipe

_NEWER_FOLDERS = frozenset({"endpoints", "materializations", "copies", "sinks", "connections", "connectors"})
_NEWER = re.compile(
    r"^[ \t]*(?:TYPE[ \t]+[\"']?endpoint|FORWARD_QUERY|BACKFILL|ROW_POLICY|FIXED_PARAMS)\b", re.I | re.M
)
_CLASSIC = re.compile(
    r"^[ \t]*(?:VERSION[ \t]+\d|INCLUDE[ \t]|IMPORT_SERVICE|IMPORT_EXTERNAL_DATASOURCE|EXPORT_SERVICE"
    r"|KAFKA_TARGET_PARTITIONS|KAFKA_STORE_BINARY_HEADERS|NODE[ \t]+endpoint[ \t]*$)",
    re.I | re.M,
)
_ENGINE = re.compile(r"^[ \t]*ENGINE\b", re.I | re.M)
_WORD = re.compile(r"\w+")


def is_classic(files: Mapping[str, str], pipes: Iterable[Pipe]) -> bool:
    classic = not any(pipe.endpoint for pipe in pipes)
    for file, text in files.items():
        path = PurePosixPath(file)
        if path.suffix == ".connection" or _NEWER_FOLDERS.intersection(path.parts[:-1]) or _NEWER.search(text):
            return False
        classic |= bool(_CLASSIC.search(text)) or (path.suffix == ".pipe" and bool(_ENGINE.search(text)))
    return classic


def callable_pipes(pipes: Iterable[Pipe]) -> list[Pipe]:
    """Those that can only be there to be called: nothing in them has a TYPE, and no other pipe names them; or they have
    a node called `endpoint`."""
    every = list(pipes)
    words = Counter(word for pipe in every for word in set(_WORD.findall(pipe.text)))
    found = []
    for pipe in every:
        own = pipe.name in _WORD.findall(pipe.text)
        typed = any(node.type is not NodeType.STANDARD for node in pipe.nodes)
        if pipe.nodes and not typed and (words[pipe.name] == own or _called_endpoint(pipe)):
            found.append(pipe)
    return found


def published(pipe: Pipe) -> Pipe:
    chosen = _called_endpoint(pipe) or pipe.nodes[-1]
    return replace(pipe, nodes=tuple(replace(n, type=NodeType.ENDPOINT) if n is chosen else n for n in pipe.nodes))


def _called_endpoint(pipe: Pipe) -> Node | None:
    return next((node for node in pipe.nodes if node.name == "endpoint"), None)
