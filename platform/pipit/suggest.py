"""What may be meant by a word that nothing has: one rule for tables, functions, types, engines and commands."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_CUTOFF = 0.75  # `open` is not `copy`, and `sum2` is no `min2`
_LONGEST = 64
_MOST = 20_000
_LISTED = 8


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that is most alike, but for case and sign; '' where none is alike enough."""
    asked = word[:_LONGEST]
    plain: dict[str, str] = {}
    for one in sorted(known)[:_MOST]:
        plain.setdefault(one.lower(), one)
    same = plain.get(asked.lower())
    if same is not None and same != word:
        return same
    found = difflib.get_close_matches(asked.lower(), plain, n=1, cutoff=_CUTOFF)
    return plain[found[0]] if found and plain[found[0]] != word else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`Did you mean X?`, or ''."""
    found = closest(word, known)
    return f"Did you mean {found}?" if found else ""


def listed(known: Iterable[str]) -> str:
    """`There are X, Y and more.`; '' where there is none."""
    names = sorted(known)
    if not names:
        return ""
    shown = ", ".join(names[:_LISTED]) + (" and more" if len(names) > _LISTED else "")
    return f"There {'is' if len(names) == 1 else 'are'} {shown}."
