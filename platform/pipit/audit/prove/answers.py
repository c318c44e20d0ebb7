"""An answer, and what "equal" means between two of them.

Two answers are equal when their bytes are, the time that the query took left out. A request that runs into the time
limit is compared with nothing. If two answers are not equal, the difference has a
kind: the status or the text of an error; names and types of columns; counts beside the rows; the rows as a multiset;
their order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipit import jsontext


@dataclass(frozen=True)
class TenantAnswer:
    status: int
    body: bytes

    @cached_property
    def _tree(self) -> Any:
        try:
            return jsontext.exact(self.body)
        except ValueError:
            return None

    @property
    def _table(self) -> dict[str, Any] | None:
        """Of an answer with rows; None of an error, and of the answer to an append."""
        tree = self._tree
        return tree if self.ok and isinstance(tree, dict) and "data" in tree else None

    @property
    def late(self) -> bool:
        """It took too long: a matter of the machine, not of rows."""
        return self.status == 408

    @property
    def ok(self) -> bool:
        return self.status == 200

    @cached_property
    def columns(self) -> tuple[tuple[str, str], ...]:
        tree = self._table
        return tuple((c["name"], c["type"]) for c in tree["meta"]) if tree else ()

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """Each row as JSON text."""
        tree = self._table
        return tuple(map(_text, tree["data"])) if tree else ()

    @cached_property
    def beside(self) -> str:
        """All that stands beside columns and rows, without the time that it took."""
        tree = self._table
        if tree is None:
            return self.body.decode("utf-8", "replace")
        rest = {k: v for k, v in tree.items() if k not in ("meta", "data")}
        if isinstance(rest.get("statistics"), dict):
            rest["statistics"] = {k: v for k, v in rest["statistics"].items() if k != "elapsed"}
        return _text(rest)

    @cached_property
    def table(self) -> list[dict[str, Any]]:
        tree = self._table
        return list(tree["data"]) if tree else []

    @property
    def holds(self) -> str:
        """All of it, in one text: to see whether it is another one."""
        return f"{self.status} {self.columns} {self.rows} {self.beside}"

    def counted(self) -> Counter[str]:
        return Counter(self.rows)


def difference(one: TenantAnswer, other: TenantAnswer) -> str:
    """Empty when they are equal; else the kind: status, error, columns, rows, counts, order."""
    if (one.body == other.body and one.status == other.status) or one.late or other.late:
        return ""
    if one.status != other.status:
        return "status"
    if not one.ok:
        return "error" if one.beside != other.beside else ""
    if one.columns != other.columns:
        return "columns"
    if one.counted() != other.counted():
        return "rows"
    if one.beside != other.beside:
        return "counts"
    return "order" if one.rows != other.rows else ""


def inversions(one: TenantAnswer, other: TenantAnswer) -> set[tuple[str, str]]:
    """The pairs of rows that stand in `one` the other way round than in `other`. Same rows in both."""
    place = {row: at for at, row in enumerate(other.rows)}
    order = list(dict.fromkeys(one.rows))
    return {
        (before, after) for at, before in enumerate(order) for after in order[at + 1 :] if place[before] > place[after]
    }


def _text(value: Any) -> str:
    return jsontext.text(value)
