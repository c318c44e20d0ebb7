"""What a read may cost, as ClickHouse settings. The engine enforces them; Python only sets them.

`readonly=1` is on every read, set last (`read.py`): the statement cannot change a setting, write, or undo its
filter from inside.
"""

from __future__ import annotations

from dataclasses import dataclass

SettingsDict = dict[str, str | int | float]

# Endpoints and /v0/sql: the dialect's own bounds (10 s, 100 MB).
MAX_SQL_BYTES = 8 * 1024
MAX_SECONDS = 10
MAX_RESULT_BYTES = 100 * 1024 * 1024

_BASE: SettingsDict = {
    "max_execution_time": MAX_SECONDS,
    "timeout_overflow_mode": "throw",
    "max_result_bytes": MAX_RESULT_BYTES,
    "result_overflow_mode": "throw",
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_denormals": 0,
    # Another query's cached conditions or results must not be visible in this one's answer or time (ATTACKS E13, F11).
    "use_query_cache": 0,
    "use_query_condition_cache": 0,
}

# Making the tree runs scalar subqueries: over no rows, but bounded all the same.
EXAMINE_SETTINGS: SettingsDict = {
    "readonly": 1,
    "max_execution_time": 2,
    "timeout_overflow_mode": "throw",
    "max_memory_usage": 512 * 1024 * 1024,
    "max_rows_to_read": 10_000_000,
    "use_query_cache": 0,
    "use_query_condition_cache": 0,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server; the defaults are the dialect's."""

    seconds: int = MAX_SECONDS
    result_bytes: int = MAX_RESULT_BYTES


# A tenant under a policy. No statistics: they count other tenants' rows. `rows_before_limit_at_least` is exact: "at
# least" depends on where other tenants' rows lie, and reading in order does not count at all.
STRICT: SettingsDict = {
    "output_format_write_statistics": 0,
    "exact_rows_before_limit": 1,
    "optimize_read_in_order": 0,
}

# The filter first, and nothing else before it: no index, partition or PREWHERE may look at a row that it hides.
# Measured: each of these lets `intDiv(1, x)` meet another tenant's value otherwise.
FILTER_FIRST: SettingsDict = {
    "query_plan_enable_optimizations": 0,
    "optimize_move_to_prewhere": 0,
    "use_primary_key": 0,
    "use_skip_indexes": 0,
    "use_partition_pruning": 0,
}


def settings_for(limits: Limits) -> SettingsDict:
    """The settings of one read, before the pipe's own, the strict ones and the filters are added."""
    return _BASE | {"max_execution_time": limits.seconds, "max_result_bytes": limits.result_bytes}
