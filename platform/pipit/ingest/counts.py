"""What happened to the rows of each table since it was last asked: for the server's metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipit.tables import TableKey


@dataclass(slots=True)
class Happened:
    """`rows` and `bytes` were acknowledged; `inserted` and `quarantined` rows came of them, in `inserts`. `failures`:
    attempts that did not succeed."""

    requests: int = 0
    rows: int = 0
    bytes: int = 0
    inserts: int = 0
    inserted: int = 0
    quarantined: int = 0
    failures: int = 0


@dataclass(slots=True)
class Counts:
    """For one event loop."""

    _tables: dict[TableKey, Happened] = field(default_factory=dict)

    def acknowledged(self, table: TableKey, rows: int, bytes: int) -> None:
        found = self._of(table)
        found.requests += 1
        found.rows += rows
        found.bytes += bytes

    def stored(self, table: TableKey, rows: int, bad: int) -> None:
        found = self._of(table)
        found.inserts += 1
        found.inserted += rows - bad
        found.quarantined += bad

    def failed(self, table: TableKey) -> None:
        self._of(table).failures += 1

    def take(self) -> dict[TableKey, Happened]:
        taken, self._tables = self._tables, {}
        return taken

    def _of(self, table: TableKey) -> Happened:
        return self._tables.setdefault(table, Happened())
