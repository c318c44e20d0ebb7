"""The project's names in place of those of the engine: nobody wrote `d1_events` or `_5_pages_daily`."""

from __future__ import annotations

import re

from pipit.catalog.snapshot import Snapshot

_SUGGESTED = re.compile(r"\.?\s*Maybe you meant: \[([^\]]*)\]")
_CTE = re.compile(r"\b_(\d{1,3})_(\w+)\b")


def cte_name(pipe: str, node: str) -> str:
    """One name for each pair: the length keeps pipe `a` node `b_c` and pipe `a_b` node `c` apart."""
    return f"_{len(pipe)}_{pipe}_{node}"


def as_written(message: str, snapshot: Snapshot) -> str:
    """The engine's message with names of data sources, pipes and nodes as people wrote them."""
    for table in (*snapshot.tables.values(), *snapshot.services.values()):
        for physical, name in ((table.physical, table.name), (table.quarantine, f"{table.name}_quarantine")):
            if physical and physical in message:
                message = re.sub(rf"(?:`?\b{table.database}`?\.)?(?<!\w)`?{physical}`?(?!\w)", name, message)
    return _without_same(_CTE.sub(lambda found: _node(found, snapshot), message))


def _without_same(message: str) -> str:
    """Without suggestions of the name that is not found: with the project's names in them, two can be the same."""
    found = _SUGGESTED.search(message)
    if found is None:
        return message
    before = message[: found.start()]
    names = re.findall(r"'([^']+)'", found[1])
    others = [name for name in names if not re.search(rf"[`']{re.escape(name)}[`']", before)]
    if others == names:
        return message
    shown = f". Maybe you meant: [{', '.join(repr(name) for name in others)}]" if others else ""
    return f"{before}{shown}{message[found.end() :]}"


_SAME = re.compile(r"`?\b([A-Za-z_]\w*)`? AS `\1`")


def text_as_written(sql: str, snapshot: Snapshot) -> str:
    """A statement's text so, without the aliases that only say a table's name again."""
    return _SAME.sub(r"\1", as_written(sql, snapshot))


def _node(found: re.Match[str], snapshot: Snapshot) -> str:
    length, names = int(found[1]), found[2]
    pipe = snapshot.pipes.get(names[:length])
    node = pipe.nodes.get(names[length + 1 :]) if pipe else None
    if pipe is None or node is None:
        return found[0]
    return pipe.name if node is pipe.readable else node.name
