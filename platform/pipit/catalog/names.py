"""Physical names of data sources' tables, such as `d1_events`: a letter, a generation, the logical name.

The name of a shared data source has a dot (`sales.orders`). Its table's name has none: in SQL, the part before a dot
would be another database. Two logical names never get the same physical name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipit.catalog.state import TableNames


def fresh(letter: str, name: str, taken: set[str]) -> str:
    """The first name that is not taken; from then on it is."""
    stem = name.replace(".", "__")
    generation = 1
    while f"{letter}{generation}_{stem}" in taken:
        generation += 1
    found = f"{letter}{generation}_{stem}"
    taken.add(found)
    return found


def mapped(letter: str, names: Iterable[str], have: Mapping[str, str], taken: set[str]) -> dict[str, str]:
    """A physical name for each: the one that it has, else a fresh one."""
    return {name: have.get(name) or fresh(letter, name, taken) for name in names}


def first_names(datasources: Iterable[str], kept: TableNames | None = None) -> TableNames:
    """Names for a project that is looked at, in a database of its own or in none; those that are kept stay."""
    names, kept = list(datasources), kept or TableNames()
    taken = {*kept.datasources.values(), *kept.quarantines.values()}
    return TableNames(
        datasources=mapped("d", names, kept.datasources, taken),
        quarantines=mapped("q", names, kept.quarantines, taken),
        sources=kept.sources,
    )
