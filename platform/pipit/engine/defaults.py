"""Engine settings that every request of Pipit has, on the embedded engine and on a server alike. The one place.

They are what real projects of the dialect were seen to need. A request's own settings win over them. The engine
process starts its connections with them; to a server they go with each request, those that it knows. Settings of a
table (`allow_nullable_key`) are not here: they belong to its CREATE statement.
"""

from __future__ import annotations

from typing import Final

DEFAULTS: Final[dict[str, str]] = {
    # The left side's order survives a join, as projects rely on it; the engine's own choice shuffles.
    "join_algorithm": "hash",
    # Nor may it depend on how many rows a table has: those of other tenants would move a tenant's rows.
    "query_plan_join_swap_table": "false",
    "query_plan_optimize_join_order_limit": "0",
    "joined_subquery_requires_alias": "0",
    "allow_dynamic_type_in_join_keys": "1",
    "allow_suspicious_types_in_group_by": "1",
    "allow_suspicious_types_in_order_by": "1",
    # `neighbor`, `runningDifference`: projects have them from older engines (not under a policy, `query/examine.py`).
    "allow_deprecated_error_prone_window_functions": "1",
    # Dates as clients write them.
    "date_time_input_format": "best_effort",
    # What new engines refuse in CREATE TABLE and real tables have.
    "allow_suspicious_codecs": "1",
    "allow_suspicious_indices": "1",
    "allow_suspicious_low_cardinality_types": "1",
    "allow_suspicious_primary_key": "1",
    "allow_suspicious_ttl_expressions": "1",
    "allow_suspicious_variant_types": "1",
}
