"""Repairs the deduplication logs after a crash: the engine records a token before it publishes the part.

If the part never appeared, the engine would skip the replay of that insert, and its rows would be lost (rule 3).
No SQL shows these records. So before the engine opens the directory, records without a part are removed from
`store/*/*/deduplication_logs/*.txt`. A record is kept if its part exists, or if another part covers it (a merge).
Nothing is ever added, and a file without such records is not touched.

A line is `<operation> TAB <part> TAB <block id>`; operation 1 adds a record, 2 takes it back.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)
_ADD = "1"


class DiskPart(NamedTuple):
    """`<partition>_<first block>_<last block>_<level>[_<mutation>]`"""

    partition: str
    first: int
    last: int

    def covers(self, other: DiskPart) -> bool:
        return self.partition == other.partition and self.first <= other.first and self.last >= other.last


def parse_part(name: str) -> DiskPart | None:
    """None for a name that is not a part's: `tmp_insert_...`, `detached`, `deduplication_logs`."""
    pieces = name.split("_")
    if len(pieces) not in (4, 5) or not all(piece.isdigit() for piece in pieces[1:]):
        return None
    return DiskPart(pieces[0], int(pieces[1]), int(pieces[2]))


def repair(folder: Path) -> int:
    """Repairs all tables below the engine's folder, which nothing may have open. Returns how many records went."""
    removed = 0
    for table in sorted(folder.glob("store/*/*/deduplication_logs")):
        removed += _repair_table(table.parent)
    if removed:
        log.warning("%d deduplication records without a part were removed", removed)
    return removed


def _repair_table(table: Path) -> int:
    parts = [part for entry in os.scandir(table) if entry.is_dir() and (part := parse_part(entry.name))]
    removed = 0
    for file in sorted((table / "deduplication_logs").glob("*.txt")):
        text = file.read_bytes().decode("utf-8", "surrogateescape")
        lines = text.splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and _is_kept(line, parts)]
        if len(kept) < len(lines):
            removed += len(lines) - len(kept)
            _replace(file, "".join(kept).encode("utf-8", "surrogateescape"))
    return removed


def _is_kept(line: str, parts: list[DiskPart]) -> bool:
    pieces = line.rstrip("\n").split("\t")
    if len(pieces) != 3 or pieces[0] != _ADD:
        return True  # taken back, or a form that this version does not know
    named = parse_part(pieces[1])
    return named is None or any(part.covers(named) for part in parts)


def _replace(file: Path, content: bytes) -> None:
    """All or nothing: a crash leaves the old file or the new one."""
    fresh = file.with_suffix(".repaired")
    with open(fresh, "wb") as output:
        output.write(content)
        output.flush()
        os.fsync(output.fileno())
    os.replace(fresh, file)
    descriptor = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
