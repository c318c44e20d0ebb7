"""Which functions leave the text of a statement the same whatever a request sends."""

from __future__ import annotations

from pipit.templates import functions
from pipit.templates.variants import _RAISE, _VALUES

# They print names, make conditions, or give what a loop runs over.
MAKE_SQL = {
    "activate", "column", "columns", "disable", "enumerate_with_last", "sql_and", "sql_unescape", "symbol", "table",
    "TABLE",
}  # fmt: skip


def test_every_function_makes_a_value_or_sql() -> None:
    """A value is bound. Of a template with one that is not known here, the texts could not be told."""
    said = _VALUES | _RAISE
    missing = functions.FUNCTIONS.keys() - said - MAKE_SQL
    assert not missing, f"add {missing} to _VALUES in templates/variants.py, or to MAKE_SQL here"
    assert not MAKE_SQL & said
