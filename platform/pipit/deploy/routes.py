"""Which tables take the events of a data source, beside the one that is read: of the deployment before, and of the one
that waits to be live.

What a tenant's token has to fix may be another thing there: the columns go with the table, so that what was checked for
one generation never says in another one whose a row is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipit.catalog.snapshot import Snapshot, Table
from pipit.deploy.append_check import AppendCheck
from pipit.ingest import Generations, Target, target_of
from pipit.ingest.parse import is_filled_by_view


async def generations_of(appends: AppendCheck, live: Snapshot, others: Iterable[Snapshot]) -> list[Generations]:
    """Of one database, where a data source has several tables."""
    beside = list(others)
    found: list[Generations] = []
    for name, table in live.tables.items():
        tables: dict[str, tuple[Snapshot, Table]] = {}
        for other in beside:
            theirs = other.tables.get(name)
            if theirs is not None and theirs.physical != table.physical:
                tables.setdefault(theirs.physical, (other, theirs))
        if not tables or is_filled_by_view(table.datasource.columns):
            continue
        own = await needs_of_table(appends, live, table)
        rest: list[tuple[Target, frozenset[str]]] = []
        for snapshot, theirs in tables.values():
            if not is_filled_by_view(theirs.datasource.columns):
                needs = await needs_of_table(appends, snapshot, theirs)
                # What was sent to the live one has passed the same check: a policy with optional keys asks for fewer.
                rest.append((target_of(theirs), needs if needs != own else frozenset()))
        differs = any(needs for _, needs in rest)
        found.append(Generations((target_of(table), own if differs else frozenset()), tuple(rest)))
    return found


async def needs_of_table(appends: AppendCheck, snapshot: Snapshot, table: Table) -> frozenset[str]:
    """The columns that decide whose a row is, here and in what is filled from here. "": no token can fix that."""
    found = set(table.policy.columns) if table.policy is not None else set()
    for need in (await appends.needs(snapshot)).get(table.name, ()):
        found |= need.columns
        if need.why:
            found.add("")
    return frozenset(found)


def changes(before: Sequence[Generations], after: Sequence[Generations]) -> set[tuple[str, str]]:
    """The tables whose place among the generations is another one."""

    def told(generations: Sequence[Generations]) -> dict[tuple[str, str], object]:
        return {t.key: one for one in generations for t, _ in (one.live, *one.others)}

    old, new = told(before), told(after)
    return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
