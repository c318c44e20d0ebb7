"""The words of ClickHouse's SELECT grammar that tell clauses, operators and aliases apart (26.9).

Upper case, but for the names of functions.
"""

from __future__ import annotations


def _words(*texts: str) -> frozenset[str]:
    return frozenset(word for text in texts for word in text.split())


SET_OPERATORS = _words("UNION INTERSECT EXCEPT")
CLAUSES = {
    "PREWHERE": "where",
    "WHERE": "where",
    "HAVING": "where",
    "QUALIFY": "where",
    "WINDOW": "window",
    "LIMIT": "limit",
    "OFFSET": "limit",
    "FETCH": "limit",
}
JOIN_WORDS = _words(
    "GLOBAL LOCAL ANY ALL ASOF SEMI ANTI ONLY INNER LEFT RIGHT FULL CROSS PASTE NATURAL OUTER JOIN ARRAY"
)
NOT_TABLE_ALIAS = (
    JOIN_WORDS
    | SET_OPERATORS
    | _words(
        "FINAL SAMPLE STREAM ON USING PREWHERE WHERE GROUP HAVING WINDOW QUALIFY ORDER LIMIT OFFSET FETCH",
        "SETTINGS FORMAT INTO WITH FROM SELECT UUID PARALLEL AS BETWEEN ILIKE LIKE NOT ELSE",
    )
)
# After an operand these ask for another one.
INFIX = _words("AND OR DIV MOD LIKE ILIKE REGEXP BETWEEN BY TO STEP STALENESS FOR PLACING WHEN THEN ELSE ON USING")
# Before an operand, or before a bracket that is not a call.
PREFIX = _words("NOT CASE WHEN THEN ELSE DISTINCT")
UNITS = _words(
    "NANOSECOND MICROSECOND MILLISECOND SECOND MINUTE HOUR DAY WEEK MONTH QUARTER YEAR",
    "NANOSECONDS MICROSECONDS MILLISECONDS SECONDS MINUTES HOURS DAYS WEEKS MONTHS QUARTERS YEARS",
    "NS US MS S M MI N SS MM HH H D DD WW W MM Q QQ YY YYYY",
)
# `in(x, t)` as a function; these names are case-sensitive.
IN_FUNCTIONS = _words(
    "in notIn nullIn notNullIn globalIn globalNotIn globalNullIn globalNotNullIn",
    "inIgnoreSet notInIgnoreSet nullInIgnoreSet notNullInIgnoreSet",
    "globalInIgnoreSet globalNotInIgnoreSet globalNullInIgnoreSet globalNotNullInIgnoreSet",
)
# Functions in which AS is followed by a type.
TYPE_AFTER_AS = _words("CAST TRY_CAST")
OPERATOR_WORDS = _words("AND OR IN IS LIKE ILIKE BETWEEN DIV MOD REGEXP GLOBAL THEN ELSE END WHEN")
# After `x IN t` these would take t as their own operand: `x IN t + 1`.
BINDS_TIGHTER = frozenset({"+", "-", "−", "*", "/", "%", "||", "::", "->"})
