"""Schedules of copies, sinks and imports: five cron fields in UTC, or a word such as `@on-demand`. Checked, not run."""

from __future__ import annotations

import re

_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_NAMES: tuple[dict[str, int], ...] = (
    {},
    {},
    {},
    {name: i for i, name in enumerate(_MONTHS, 1)},
    {name: i for i, name in enumerate(_DAYS)},
)
_PART = re.compile(r"(\*|[0-9A-Za-z]{1,3}(?:-[0-9A-Za-z]{1,3})?)(?:/([0-9]{1,3}))?\Z")


def is_cron(text: str) -> bool:
    """Whether the text is a cron expression of five fields."""
    fields = text.split()
    return len(fields) == 5 and all(
        all(_part(part, *limits, names) for part in field.split(","))
        for field, limits, names in zip(fields, _RANGES, _NAMES, strict=True)
    )


def _part(part: str, low: int, high: int, names: dict[str, int]) -> bool:
    match = _PART.match(part)
    if match is None or (match[2] is not None and int(match[2]) == 0):
        return False
    if match[1] == "*":
        return True
    numbers = []
    for end in match[1].split("-"):
        number = names.get(end.upper()) if not (end.isascii() and end.isdigit()) else int(end)
        if number is None or not low <= number <= high:
            return False
        numbers.append(number)
    return numbers == sorted(numbers)
