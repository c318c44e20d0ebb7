"""Which tables of a statement stand behind a barrier (`sql/barrier.py`), and what takes their places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipit.catalog.snapshot import Snapshot, TableTarget
from pipit.sql.barrier import behind_barrier
from pipit.sql.hidden import may_see, without
from pipit.sql.identifiers import quote

# Table (`database.table`) -> the columns and parts of columns that a statement reads of it, with their types.
Used = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Barriers:
    """What stands before and after each table that needs it, by its full physical name.

    `whole` is for a place where the table's columns are counted, not named: `x IN table`.
    """

    named: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    whole: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for equal barriers."""
        return (*sorted(self.named.items()), *sorted(self.whole.items()))

    def replacement_of(self, target: TableTarget, kind: str, sql: str) -> str | tuple[str, str]:
        """What takes the place of a data source's name in `sql`: for `rename`."""
        database, physical, hidden = target.table.database, target.physical, target.table.hidden
        barriers = self.whole if kind == "in" else self.named
        barrier = barriers.get(f"{database}.{physical}")
        if barrier is not None:
            return barrier
        place = f"{quote(database)}.{quote(physical)}"
        return without(place, hidden) if hidden and (kind == "in" or may_see(sql, hidden)) else place


NO_BARRIERS = Barriers()


def barriers_for(snapshot: Snapshot, tables: Iterable[str], used: Used | None) -> Barriers:
    """Barriers for those of the tables that need one. `used`: what the statement reads, where that is known."""
    named, whole = {}, {}
    for physical in tables:
        columns = columns_of(snapshot, physical)
        database, _, name = physical.partition(".")
        place = f"{quote(database)}.{quote(name)}"
        target = snapshot.physical_tables.get(physical)
        hidden = target.table.hidden if target is not None else frozenset()
        all_of_it = behind_barrier(place, columns, hidden=hidden)
        if all_of_it is not None:
            whole[physical] = all_of_it
            part = behind_barrier(place, columns, used[physical], hidden=hidden) if used and physical in used else None
            named[physical] = part or all_of_it
    return Barriers(named, whole)


def columns_of(snapshot: Snapshot, physical: str) -> Mapping[str, str]:
    """The declared columns of a table with their types; none of a quarantine or of a table that is not ours."""
    target = snapshot.physical_tables.get(physical)
    if target is None or target.quarantine:
        return {}
    return {column.name: column.type for column in target.table.datasource.columns}
