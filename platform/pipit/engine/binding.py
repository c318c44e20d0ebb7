"""Values become raw texts of bound parameters: clickhouse-connect's own printing, typed for Pipit's values
(rule 2).

The statement's text is not looked at and never changed. clickhouse-connect's `bind_query` does both: with
parameters and no placeholder it falls back to `%` formatting of the text, and it takes trailing semicolons
off.
"""

from __future__ import annotations

from collections.abc import Mapping

from clickhouse_connect.driver.binding import format_bind_value

from pipit.engine.client import ParamValue, Settings


def bind(params: Mapping[str, ParamValue]) -> dict[str, str]:
    """`{"n": 5}` -> `{"param_n": "5"}`, escaped as ClickHouse reads raw parameters."""
    return {f"param_{name}": _print(value) for name, value in params.items()}


def fields_of(
    params: Mapping[str, ParamValue] | None,
    settings: Settings | None,
    database: str | None,
    format: str | None,
) -> dict[str, str]:
    """The URL's fields of a request: its settings, then what no setting may replace."""
    fields: dict[str, str] = {}
    if settings:
        fields.update((name, str(int(value) if isinstance(value, bool) else value)) for name, value in settings.items())
    if params:
        fields.update(bind(params))
    if database:
        fields["database"] = database
    if format:
        fields["default_format"] = format
    return fields


def _print(value: ParamValue) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        return str(format_bind_value(value))
    return str(format_bind_value(_plain(value)))


def _plain(value: ParamValue) -> object:
    """Lists all the way down (a tuple would print as a Tuple), booleans as the numbers that every type reads."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bool):
        return int(value)
    return value
