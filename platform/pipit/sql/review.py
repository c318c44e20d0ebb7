"""`python -m pipit.sql.review`: holds the lists in `reviewed/` against the engine that is installed.

Prints what is new and what is gone; with --write it adds the new names as `unreviewed` (refused) and drops the gone
ones. A person then gives each new name its verdict. Exit code 1 when anything differed. It never allows anything.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from pipit.sql.allowed import COMBINATORS, REVIEWED, UNREVIEWED, read_reviewed

QUERIES: Mapping[str, str] = {
    "functions": "SELECT name, concat(if(is_aggregate, 'a', ''), if(case_insensitive, 'i', '')) "
    "FROM system.functions WHERE origin = 'System' ORDER BY name",
    "table_functions": "SELECT name FROM system.table_functions ORDER BY name",
    "settings": "SELECT name FROM system.settings ORDER BY name",
    "merge_tree_settings": "SELECT name FROM system.merge_tree_settings ORDER BY name",
    "types": "SELECT name FROM system.data_type_families WHERE name != '' ORDER BY name",
    "formats": "SELECT name FROM system.formats ORDER BY name",
    "combinators": "SELECT name FROM system.aggregate_function_combinators ORDER BY name",
}


def difference(listed: str, engine_rows: str) -> tuple[list[str], list[str]]:
    """New and gone names of the list, given the engine's answer (TSVRaw) to its query; changed flags count as both."""
    rows = _rows(listed, engine_rows)
    if listed == "combinators":
        known: dict[str, tuple[str, ...]] = dict.fromkeys(COMBINATORS, ())
    else:
        known = {name: columns[:-1] for name, columns in read_reviewed(listed).items()}
    new = [name for name, columns in rows.items() if known.get(name) != columns]
    gone = [name for name, columns in known.items() if rows.get(name) != columns]
    return new, gone


def rewritten(listed: str, engine_rows: str) -> str:
    """The file's new text: verdicts stay, new names are unreviewed."""
    known = read_reviewed(listed)
    lines = []
    for name, columns in _rows(listed, engine_rows).items():
        old = known.get(name)
        verdict = old[-1] if old is not None else UNREVIEWED
        lines.append("\t".join((name, *columns, verdict)))
    return "\n".join(lines) + "\n"


def _rows(listed: str, text: str) -> dict[str, tuple[str, ...]]:
    rows = [line.split("\t") for line in text.splitlines() if line]
    if listed == "functions":
        return {row[0]: (row[1] or "-",) for row in rows}
    return {row[0]: () for row in rows}


def main(arguments: list[str]) -> int:
    from chdb import query

    differs = False
    for listed, sql in QUERIES.items():
        engine_rows = str(query(sql, "TSVRaw"))
        new, gone = difference(listed, engine_rows)
        differs = differs or bool(new or gone)
        print(f"{listed}: {len(new)} new, {len(gone)} gone")
        for name in new:
            print(f"  + {name}")
        for name in gone:
            print(f"  - {name}")
        if "--write" in arguments and listed != "combinators":
            (REVIEWED / f"{listed}.txt").write_text(rewritten(listed, engine_rows), encoding="utf-8")
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
