"""Differences between dates given as text: `day_diff`, `date_diff_in_*`. Absolute and truncated, as in the dialect."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

from pipit.templates.failures import value_error
from pipit.templates.state import RenderState

_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_LONGEST = 200  # characters of a date or its format


def day_diff(state: RenderState, first: Any, second: Any) -> int:
    try:
        return abs((_iso(second) - _iso(first)).days)
    except (ValueError, TypeError) as error:
        if state.placeholder:
            return 0
        raise value_error(
            "invalid date format in function `day_diff`: it must be ISO format date YYYY-MM-DD, for instance 2018-09-26"
        ) from error


def _iso(value: Any) -> dt.date:
    if not isinstance(value, str) or not _ISO.match(value):
        raise ValueError("not a date")
    return dt.date.fromisoformat(value)


def difference(unit: str, seconds: int) -> Callable[..., Any]:
    usual = "%Y-%m-%d" if unit == "days" else "%Y-%m-%d %H:%M:%S"
    name = f"date_diff_in_{unit}"

    def call(
        state: RenderState,
        first: Any,
        second: Any,
        date_format: Any = usual,
        default: Any = None,
        backup_date_format: Any = None,
        none_if_error: Any = False,
    ) -> Any:
        try:
            apart = _read(first, date_format, backup_date_format) - _read(second, date_format, backup_date_format)
            return int(abs(apart.total_seconds()) // seconds)
        except (ValueError, TypeError, OverflowError) as error:
            if default is not None:
                return default
            if none_if_error:
                return None
            if state.placeholder:
                return 0
            shown = str(date_format)[:_LONGEST]
            raise value_error(
                f"invalid date format in function `{name}`: the dates must have the format {shown}"
            ) from error

    return call


def _read(value: Any, format: Any, backup: Any) -> dt.datetime:
    try:
        return _parse(value, format)
    except ValueError:
        if backup is None:
            raise
        return _parse(value, backup)


def _parse(value: Any, format: Any) -> dt.datetime:
    if isinstance(value, str) and isinstance(format, str) and max(len(value), len(format)) > _LONGEST:
        raise ValueError("too long for a date")
    try:
        return dt.datetime.strptime(value, format).replace(tzinfo=None)
    except re.error as error:  # '%d%d': Python makes a pattern of the format
        raise ValueError("not a format of dates") from error
