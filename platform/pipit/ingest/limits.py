"""The numbers of ingestion in one place.

They belong together: a segment is capped so that it is one insert of one block per partition, and the deduplication
window of every table (`tables/settings.py`) is wider than all the blocks that can still be replayed.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipit.tables.settings import DEDUPLICATION_WINDOW

SEAL_BYTES = 32 << 20  # a segment is closed beyond this many bytes,
SEAL_ROWS = 1_000_000  # this many rows,
SEAL_REQUESTS = 10_000  # this many requests,
SEAL_SECONDS = (
    0.5  # or this age: sooner where an insert takes little, so that inserts are at most a quarter of the time
)
# (without what refused rows cost),
SEAL_SECONDS_LEAST = 0.2  # but not below this one
SEAL_INSERTS = 3  # times as long as the last insert took
# One that is larger waits for nothing but the insert before it: most of what it costs is its rows.
SEAL_AT_ONCE_BYTES = 4 << 20
MAX_PENDING_BYTES = 1 << 30  # per table, on disk and waiting for the engine; beyond it a request gets 503

# A request of at most SEAL_ROWS may still be added to a segment just below the cap.
MAX_INSERT_ROWS = 2 * SEAL_ROWS
MAX_PARTITIONS = 100  # of one insert; a segment that touches more is inserted in several, each with its own token

# Blocks that may follow a failed segment in any table that it goes to, until it is never replayed again: its
# tokens could leave the window. The other half is for what comes while an attempt runs.
MAX_BLOCKS_BEHIND_FAILED = DEDUPLICATION_WINDOW // 2

# Of one block, for the targets of views: another partition key than the table's. Their tokens fit the window.
MAX_PARTITIONS_OF_VIEWS = DEDUPLICATION_WINDOW // 2

# Inserts into a copy of a table or view, to tell the rows that it refuses from the others in the same requests
TRIES_TO_FIND_ROWS = 200
# and to see whether a view takes any row at all, when those that the table has do not show it.
TRIES_TO_SEE_A_VIEW_WORK = 8
# A segment up to here is read as one piece. The engine's token of an insert holds the number of the first piece with a
# row in it, so a larger one could be stored twice if rows were left out at its beginning, or it was read another way.
ONE_PIECE_ROWS = 65_536  # max_block_size
ONE_PIECE_BYTES = 8 << 20  # the engine cuts files at 10 MiB, to parse them in parallel
# After a row was refused, its sender's next requests are asked about first, for this long. So long copies of a table
# stay after it was written to.
WATCH_SECONDS = 60.0
KEPT_STAGES = 4  # empty tables of one that is written to, for the rows of its next segment
WATCHED_SENDERS = 10_000  # of a table at most, the oldest go first
QUESTIONS_AT_ONCE = 4  # about the requests of a segment
QUESTIONS_ABOUT_REQUESTS = 64  # then those that were not told apart wait together
REFUSED_ROWS_AT_ONCE = 500  # into the quarantine, each with its reason

# Attempts of a segment that ran out of time, until later segments go on without it,
TIMEOUTS_TO_BESIDE = 5
TIMEOUTS_TO_ASIDE = 20  # and, pauses between them, until its file is left to a person

IDEMPOTENCY_SECONDS = 24 * 3600
IDEMPOTENCY_KEYS = 200_000  # remembered at most, the oldest go first
MAX_IDEMPOTENCY_KEY = 255  # characters


# The statements that read a segment name every column several times; and all of them read it in one way.
STATEMENT_SETTINGS: Mapping[str, str | int] = {
    "max_query_size": 32 << 20,
    "max_ast_elements": 2_000_000,
    "max_expanded_ast_elements": 10_000_000,
    "max_ast_depth": 10_000,
    "type_json_skip_duplicated_paths": 1,  # of duplicate keys the first counts, in a JSON column too
}


# A text in a JSON column stays a text. Left to itself, the engine makes a date of one that looks like it, and reads
# the texts of other rows at the same key as dates too (measured: "2.5" became 2026-05-02 00:00:00).
JSON_SETTINGS: Mapping[str, str | int] = {"input_format_try_infer_dates": 0, "input_format_try_infer_datetimes": 0}
# Each value of a JSON column gets a type of its own. Left to itself, the engine gives a list the type of other rows'
# lists at the same key where it fits (`[null]` became `[[]]`). Parsing takes three times as long this way, and reads
# of a key are slower until the part is merged, so it is for rows with lists only.
JSON_LIST_SETTINGS: Mapping[str, str | int] = {"max_dynamic_subcolumns_in_json_type_parsing": 0}


def insert_settings() -> Mapping[str, str | int]:
    """What makes a segment one block per partition. Written into its header and replayed verbatim."""
    return {
        "max_block_size": 65_536,  # of reading and casting, on all threads; then squashed into one
        "max_insert_block_size": MAX_INSERT_ROWS,
        "min_insert_block_size_rows": MAX_INSERT_ROWS,
        "min_insert_block_size_bytes": 0,
        "max_insert_threads": 1,
        "max_partitions_per_insert_block": MAX_PARTITIONS,
        "throw_on_max_partitions_per_insert_block": 1,
        "insert_deduplicate": 1,
        "deduplicate_blocks_in_dependent_materialized_views": 1,
        "materialized_views_ignore_errors": 0,
        "insert_null_as_default": 1,
        "async_insert": 0,
        **JSON_SETTINGS,
        **STATEMENT_SETTINGS,
    }
