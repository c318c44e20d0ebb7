"""Values of tokens as they are typed on a command line: `1h`, `customer_id=acme`, `seats:=5`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from pipit.errors import BadRequest

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TTL = re.compile(r"([0-9]{1,9})([smhdw])")
MAX_TTL = 10 * 366 * 86_400


def parse_ttl(text: str) -> int:
    """`30s`, `15m`, `1h`, `7d`, `2w` -> seconds. Raises BadRequest."""
    found = _TTL.fullmatch(text.strip())
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= MAX_TTL:
        raise BadRequest(
            f"'{text[:40]}' is not a time to live", hint="Write 30s, 15m, 1h, 7d or 2w; at most ten years."
        )
    return seconds


def parse_pairs(pairs: Iterable[str]) -> dict[str, object]:
    """`k=v` is the text v; `k:=v` is JSON: a number, true, false, or an array. Raises BadRequest.

    A text is right for every type function of a template, so the second form is needed for arrays only.
    """
    found: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        typed = name.endswith(":")
        name = name.removesuffix(":")
        if not equals or not name:
            raise BadRequest(f"'{pair[:80]}' is not a pair", hint="Write name=text, or name:=5 for JSON.")
        if name in found:
            raise BadRequest(f"'{name[:80]}' is given twice")
        found[name] = _json(pair, value) if typed else value
    return found


def _json(pair: str, text: str) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if value is None or isinstance(value, dict):
        raise BadRequest(
            f"The value of '{pair[:80]}' is not a JSON number, text, boolean or array",
            hint='Such as team:=["sales","support"] or seats:=5.',
        )
    return value
