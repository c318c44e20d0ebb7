"""What a read may cost, as ClickHouse settings. The engine enforces them; Python only sets them.

`readonly=1` is on every read whose rows go to a client, set last (`planner.py`): the statement cannot change a setting,
write, or undo its filter from inside. What a job reads goes to a table, for the workspace itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    "output_format_json_validate_utf8": 1,  # formats that are not JSON: `query.utf8`
    # Another query's cached conditions or results must not be visible in this one's answer or time (attacks E13, F11).
    "use_query_cache": 0,
    "use_query_condition_cache": 0,
}

# How a query is run, so that the same rows give the same bytes: for `pipit audit --prove`. None of them decides what is
# read.
REPEATABLE: Mapping[str, int] = {
    "max_threads": 1,
    "collect_hash_table_stats_during_aggregation": 0,
    "collect_hash_table_stats_during_joins": 0,
}


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a query is read for. `writes`: its rows go to a table. Then it may take `seconds`, and waits for a slot."""

    name: str
    writes: bool = False
    seconds: int = 0  # 0: as the server's limits say


READ = Purpose("read")
COPY = Purpose("copy", writes=True, seconds=3600)
POPULATE = Purpose("populateview", writes=True, seconds=3600)
SINK = Purpose("sink", writes=True, seconds=3600)

_WRITES: SettingsDict = {
    "insert_deduplicate": 0,  # the same rows written twice are there twice
    "wait_end_of_query": 1,
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
class TenantSqlLimits:
    """Bounds of a query that a tenant wrote, tighter than those of a project's endpoints."""

    seconds: int = 5
    memory_bytes: int = 256 * 1024 * 1024
    result_bytes: int = 10 * 1024 * 1024
    result_rows: int = 100_000
    # Of the tenant's own rows, which is all that a sort, a set, a join or a GROUP BY ever sees.
    rows: int = 10_000_000
    # Of the table's rows, where no filter stands. Under a filter the number of rows read is that of all tenants: who
    # may read a table twice in one query could count them by when this bound is met.
    rows_read: int = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server; the defaults are the dialect's."""

    seconds: int = MAX_SECONDS
    result_bytes: int = MAX_RESULT_BYTES
    tenant_sql: TenantSqlLimits = field(default_factory=TenantSqlLimits)
    steady: Mapping[str, int] = field(default_factory=dict)  # for a proof: settings of REPEATABLE, and no others

    def __post_init__(self) -> None:
        if not self.steady.keys() <= REPEATABLE.keys():
            raise ValueError("only settings that say how a query is run, never what it may read")


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


# Of a table with a JSON, Dynamic or Variant column: the engine answers some functions from what a whole part knows of
# such a column, also of rows that the filter hides. Measured: `distinctJSONPaths` names keys of others otherwise.
WHOLE_COLUMNS: SettingsDict = {"optimize_functions_to_subcolumns": 0}

# What a tenant's own SQL must not ask for: places and counts of all rows. Each is off for a reason of its own, beside
# FILTER_FIRST: answers from counts and min/max of parts, from projections, from what earlier queries left behind.
_TENANT_SQL: SettingsDict = {
    "optimize_trivial_count_query": 0,
    "optimize_trivial_approximate_count_query": 0,
    "optimize_use_projections": 0,
    "optimize_use_implicit_projections": 0,
    "force_optimize_projection": 0,
    "use_statistics": 0,
    "collect_hash_table_stats_during_aggregation": 0,
    "collect_hash_table_stats_during_joins": 0,
    "max_threads": 1,
    "max_subquery_depth": 20,
    "max_ast_depth": 200,
    "max_ast_elements": 5_000,
    "max_expanded_ast_elements": 20_000,
    "max_hyperscan_regexp_length": 1_000,
    "max_hyperscan_regexp_total_length": 10_000,
    "max_bytes_before_external_group_by": 0,
    "max_bytes_before_external_sort": 0,
    "max_bytes_ratio_before_external_group_by": 0,
    "max_bytes_ratio_before_external_sort": 0,
}


def tenant_sql_settings(limits: TenantSqlLimits, *, filtered: bool) -> SettingsDict:
    """The settings of a query that a tenant wrote. `filtered`: a filter stands on a table of it."""
    settings = _BASE | STRICT | FILTER_FIRST | WHOLE_COLUMNS | _TENANT_SQL
    settings |= {
        "max_execution_time": limits.seconds,
        "max_memory_usage": limits.memory_bytes,
        "max_result_bytes": limits.result_bytes,
        "max_result_rows": limits.result_rows,
    }
    for bound in ("max_rows_in_set", "max_rows_in_join", "max_rows_to_group_by", "max_rows_to_sort"):
        settings[bound] = limits.rows
    settings["max_rows_in_distinct"] = limits.rows
    if not filtered:
        settings["max_rows_to_read"] = limits.rows_read
    return settings


def settings_for(limits: Limits, purpose: Purpose = READ) -> SettingsDict:
    """The settings of one read, before the pipe's own, the strict ones and the filters are added."""
    seconds = purpose.seconds or limits.seconds
    if purpose.writes:
        return _WRITES | {"max_execution_time": seconds} | dict(limits.steady)
    bounds: SettingsDict = {"max_execution_time": seconds, "max_result_bytes": limits.result_bytes}
    return _BASE | bounds | dict(limits.steady)
