"""The MergeTree settings that every table of Pipit carries.

The deduplication window is wider than all the blocks that can still be replayed (`ingest/limits.py`): a replay must
find its token in landing tables, their quarantine tables and the targets of views alike.
"""

from __future__ import annotations

from collections.abc import Mapping

DEDUPLICATION_WINDOW = 10_000  # blocks (one per partition and insert) whose tokens a table remembers


def table_settings() -> Mapping[str, str]:
    """For landing tables, quarantine tables and targets of materialized views alike."""
    return {
        "non_replicated_deduplication_window": str(DEDUPLICATION_WINDOW),
        "replicated_deduplication_window": str(DEDUPLICATION_WINDOW),
        "fsync_after_insert": "1",
        "fsync_part_directory": "1",
    }
