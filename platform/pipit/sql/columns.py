"""Which columns a statement reads of which table, from the engine's own trees (`sql/tree.py` says what these are)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipit.sql.tree import TreeNode, descendants, query_tree

_COLUMN = re.compile(r"column_name: (?P<name>.*), result_type: (?P<type>.*), source_id: (?P<source>\d+)\Z")
_TABLE = re.compile(r"(?:.*, )?table_name: ([A-Za-z0-9_.]+)(?:,.*)?\Z")
_COUNT = re.compile(r"function_name: count,", re.IGNORECASE)


def columns_read(raw: str, resolved: str) -> Mapping[str, Mapping[str, str]] | None:
    """Table (`database.table`) -> the columns and parts of columns that are read of it, with their types.

    None where it cannot be told, or where the text has a `*`: what that means changes with the columns that there are.
    """
    written, tree = query_tree(raw), query_tree(resolved)
    if written is None or tree is None or _has_star(written):
        return None
    tables: dict[str, str] = {}
    columns: list[re.Match[str]] = []
    for node in descendants(tree):
        if not node.is_node:
            continue
        if node.name == "TABLE":
            table = _TABLE.match(node.attributes)
            if table is None:
                return None
            tables[node.id] = table[1]
        elif node.name == "COLUMN":
            column = _COLUMN.fullmatch(node.attributes)
            if column is None or f", {node.attributes}".count(", column_name: ") != 1:
                return None
            columns.append(column)
    found: dict[str, dict[str, str]] = {table: {} for table in tables.values()}
    for column in columns:
        if column["source"] in tables:
            found[tables[column["source"]]][column["name"]] = column["type"]
    return found


def _has_star(root: TreeNode) -> bool:
    """Whether a `*` or COLUMNS(...) stands in the text, but for `count(*)`."""
    pending = [root]
    while pending:
        node = pending.pop()
        if node.is_node and node.name == "MATCHER":
            return True
        if node.name == "FUNCTION" and _COUNT.match(node.attributes):
            inside = [one for one in descendants(node) if one.is_node and one is not node and one.name != "LIST"]
            if [one.name for one in inside] == ["MATCHER"]:
                continue
        pending.extend(node.children)
    return False
