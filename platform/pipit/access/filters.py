"""The `filter` of a JWT's DATASOURCES:READ scope: SQL that the holder of the workspace's key wrote and signed.

It is text, not values, so it is checked like a row policy's condition and otherwise stands as written.
"""

from __future__ import annotations

from functools import lru_cache

from pipit.errors import Forbidden, Reason
from pipit.sql.expressions import ExpressionError, check_condition, columns_in

_REMEMBERED = 4096


@lru_cache(maxsize=_REMEMBERED)
def jwt_filter(text: str) -> str:
    """The filter itself, if it is one boolean expression. Raises Forbidden with the reason.

    A refusal is not remembered; what passed depends on nothing but the text.
    """
    try:
        check_condition(text)
    except ExpressionError as error:
        raise Forbidden(
            f"The token's 'filter' cannot be applied: {error.message}",
            hint="Write one condition over the data source's columns, such as org_id = '42'.",
            reason=Reason.FILTER_INVALID,
        ) from None
    return text


def columns_of_filter(text: str, columns: frozenset[str]) -> frozenset[str]:
    """Those of the columns that decide, for this filter, who sees a row. Raises Forbidden as `jwt_filter` does."""
    return columns_in(check_condition(jwt_filter(text)), columns)
