"""A statement as the team wrote it: names of data sources, nodes and pipes in the place of those that it runs with.

For reading only. The texts come from `explained`, which has what runs, to the letter.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

_CTE = re.compile(r"`_(\d+)_([A-Za-z0-9_]+)`")
_SAME_ALIAS = re.compile(r"\b([A-Za-z_][A-Za-z0-9_]*) AS `\1`")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def readable(plan: Mapping[str, Any], pipe: str) -> dict[str, Any]:
    """The plan of an endpoint, with `sql` and `filters` in the project's own names."""
    tables: Mapping[str, str] = plan["tables"]
    sql = str(plan["sql"])
    for physical, name in tables.items():
        database, _, table = physical.partition(".")
        sql = sql.replace(f"`{database}`.`{table}`", _written(name))
    nodes = _nodes(sql, pipe)
    sql = _CTE.sub(lambda found: _written(nodes[_pair(found)]), sql)
    sql = _SAME_ALIAS.sub(r"\1", sql)
    return {**plan, "sql": sql, "filters": {tables.get(k, k): value for k, value in plan["filters"].items()}}


def _nodes(sql: str, pipe: str) -> dict[tuple[str, str], str]:
    """(pipe, node) -> what to call it: by its own name; the last node of another pipe, which is read, by that pipe's.

    One whose name another one has is called by both.
    """
    pairs = list(dict.fromkeys(_pair(found) for found in _CTE.finditer(sql)))
    last = dict(pairs)
    names = {pair: pair[1] if pair[0] == pipe or last[pair[0]] != pair[1] else pair[0] for pair in pairs}
    taken = Counter(names.values())
    return {pair: name if taken[name] == 1 else ".".join(pair) for pair, name in names.items()}


def _pair(found: re.Match[str]) -> tuple[str, str]:
    """`_3_top_node`: the number says how long the pipe's name is."""
    length = int(found[1])
    return found[2][:length], found[2][length + 1 :]


def _written(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else f"`{name}`"
