"""`pipit query --diff`: two viewers' answers to one request, and what differs in what ran for them.

A viewer is a tenant, as the team's backend would make its token, or the workspace itself. Nothing is decided here: each
view is what `/v1/explain` and the endpoint answered for that viewer's token. A refusal is an answer too.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

from pipit import jsontext
from pipit.cli.output import count, err, line, out, printable, show_table, write_bytes

Row = Mapping[str, Any]
ADMIN = "admin"
_SHOWN_ROWS = 1_000
_FIRST, _SECOND, _BOTH = ("-", "red"), ("+", "green"), (" ", "")


@dataclass(frozen=True, slots=True)
class ViewerAnswer:
    """What one viewer gets: `plan` as /v1/explain says it, `columns` and `rows` of the answer; or why there is none."""

    name: str
    plan: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    refused: str = ""


@dataclass(frozen=True, slots=True)
class RowsDiff:
    """Rows are compared whole, every column; a row that occurs twice counts twice."""

    first: tuple[Row, ...]
    second: tuple[Row, ...]
    both: tuple[Row, ...]


def name_of(tenant: Mapping[str, Any]) -> str:
    """`customer_id=acme, team=sales`; the workspace itself has no tenant."""
    texts = (f"{k}={v if isinstance(v, str) else jsontext.text(v)}" for k, v in tenant.items())
    return ", ".join(texts) or ADMIN


def diff_rows(first: Sequence[Row], second: Sequence[Row]) -> RowsDiff:
    """In linear time, whatever the order: each row is in one of the two answers only, or in both."""
    left = Counter(map(_key, second))
    both: list[Row] = []
    only_first: list[Row] = []
    for row in first:
        key = _key(row)
        if left[key]:
            left[key] -= 1
            both.append(row)
        else:
            only_first.append(row)
    only_second: list[Row] = []
    for row in second:
        key = _key(row)
        if left[key]:
            left[key] -= 1
            only_second.append(row)
    return RowsDiff(tuple(only_first), tuple(only_second), tuple(both))


def show(first: ViewerAnswer, second: ViewerAnswer, *, sql: bool) -> None:
    """For eyes, on standard output. `sql`: with the whole statement and all settings, where they are the same too."""
    for (sign, style), view in ((_FIRST, first), (_SECOND, second)):
        whose = " (the workspace itself)" if view.name == ADMIN else ""
        line(out, (f"{sign} ", style), (view.name, "bold"), (whose, "dim"))
    line(out, "")
    if not first.refused and not second.refused:
        _show_statement(first.plan["sql"], second.plan["sql"], sql)
        for title, key, nothing in (
            ("Values", "parameters", "none are bound"),
            ("Row filters", "filters", "none: every row is visible to both"),
            ("Settings", "settings", "none"),
        ):
            one, other = (filters(view.plan) if key == "filters" else view.plan[key] for view in (first, second))
            _show_values(title, one, other, nothing, all=sql or key != "settings")
        line(out, "")
    _show_rows(first, second)


def filters(plan: Mapping[str, Any]) -> dict[str, Any]:
    """A plan's row filters under the names of the project's data sources."""
    names = plan.get("tables", {})
    return {names.get(table, table): value for table, value in plan["filters"].items()}


def as_json(pipe: str, first: ViewerAnswer, second: ViewerAnswer) -> None:
    found = diff_rows(first.rows, second.rows)
    body = {
        "pipe": pipe,
        "viewers": [
            {"as": view.name, "refused": view.refused or None, "plan": view.plan or None, "rows": view.rows}
            for view in (first, second)
        ],
        "same_statement": bool(first.plan) and first.plan["sql"] == second.plan.get("sql"),
        "rows": {"first_only": found.first, "second_only": found.second, "both": found.both},
    }
    write_bytes(jsontext.pretty(body))


def _show_statement(first: str, second: str, whole: bool) -> None:
    if first == second:
        line(out, ("Statement", "bold"), ": the same text for both")
        for text in first.splitlines() if whole else ():
            line(out, f"    {text}")
        return
    line(out, ("Statement", "bold"), ": the template gives them different texts")
    for text in difflib.ndiff(first.splitlines(), second.splitlines()):
        if not text.startswith("?"):
            line(out, ("  " + text, {"-": "red", "+": "green"}.get(text[0], "")))


def _show_values(title: str, first: Mapping[str, Any], second: Mapping[str, Any], nothing: str, *, all: bool) -> None:
    if first == second and not all:
        line(out, (title, "bold"), f": the same {len(first)} for both")
        return
    line(out, (title, "bold"))
    for name in dict.fromkeys([*first, *second]):
        one, other = _value(first, name), _value(second, name)
        if one == other:
            if all:
                _show_value(_BOTH, name, one)
            continue
        _show_value(_FIRST, name, one)
        _show_value(_SECOND, name, other)
    if not first and not second:
        line(out, (f"    {nothing}", "dim"))


def _show_value(sign: tuple[str, str], name: str, value: str) -> None:
    line(out, ("  " + sign[0] + " ", sign[1]), (name, "cyan"), " = ", (value, sign[1] if value else "dim"))


def _value(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "(none)"
    value = values[name]
    return value if isinstance(value, str) else jsontext.text(value)


def _show_rows(first: ViewerAnswer, second: ViewerAnswer) -> None:
    for (sign, style), view in ((_FIRST, first), (_SECOND, second)):
        if view.refused:
            line(out, (f"{sign} ", style), (view.name, "bold"), " is refused: ", view.refused)
    found = diff_rows(first.rows, second.rows)
    columns = tuple(dict.fromkeys(first.columns + second.columns))
    marked = [
        *((_FIRST, row) for row in found.first),
        *((_SECOND, row) for row in found.second),
        *((_BOTH, row) for row in found.both),
    ]
    if columns:
        table = Table("")
        for name in columns:
            table.add_column(Text(printable(name)), justify="right" if _is_number(found, name) else "left")
        for (mark, style), row in marked[:_SHOWN_ROWS]:
            table.add_row(Text(mark, style=style), *(cell(row[c], style) if c in row else Text("") for c in columns))
        show_table(table)
    said = [
        f"{count(len(found.first), 'row')} only for {first.name}",
        f"{len(found.second):,} only for {second.name}",
        f"{len(found.both):,} the same for both",
    ]
    if not found.first and not found.second and [*map(_key, first.rows)] != [*map(_key, second.rows)]:
        said.append("in another order")
    more = f"; the first {_SHOWN_ROWS:,} are shown, --format json prints all" if len(marked) > _SHOWN_ROWS else ""
    line(err, (", ".join(said) + more, "dim"))


def cell(value: Any, style: str = "") -> Text:
    if value is None:
        return Text("NULL", style="dim")
    text = value if isinstance(value, str) else jsontext.text(value)
    return Text(printable(text, keep=""), style=style)


def _is_number(found: RowsDiff, name: str) -> bool:
    values = [row.get(name) for rows in (found.first, found.second, found.both) for row in rows[:1]]
    return any(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _key(row: Row) -> str:
    return jsontext.text(row)
