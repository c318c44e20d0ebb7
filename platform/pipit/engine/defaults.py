"""Engine settings that every request of Pipit carries, on the embedded engine and on a server alike. The one
place.

They are what real projects of the dialect were seen to need (`ENGINE.md`). A request's own settings win over
them. Server-wide settings do not belong here: a server at PIPIT_CLICKHOUSE_URL is its owner's.
"""

from __future__ import annotations

from typing import Final

DEFAULTS: Final[dict[str, str]] = {
    # Row order of joins, as projects rely on it; parallel_hash shuffles.
    "join_algorithm": "hash",
    "joined_subquery_requires_alias": "0",
    # JSON columns' untyped subcolumns as keys.
    "allow_suspicious_types_in_group_by": "1",
    "allow_suspicious_types_in_order_by": "1",
    "allow_dynamic_type_in_join_keys": "1",
    # Dates as clients write them.
    "date_time_input_format": "best_effort",
}

# For statements that create or change tables; a SELECT never needs them.
DDL_DEFAULTS: Final[dict[str, str]] = {
    "allow_suspicious_low_cardinality_types": "1",
    "allow_suspicious_variant_types": "1",
    "allow_suspicious_ttl_expressions": "1",
    "allow_suspicious_primary_key": "1",
}
