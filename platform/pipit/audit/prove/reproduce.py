"""A counter-example as commands that anybody can run: a served copy of the project, rows by the events API, curl."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from pipit.access.context import Scalar
from pipit.audit.prove.model import CounterExample
from pipit.audit.prove.rows import Row
from pipit.audit.prove.tenants import View
from pipit.audit.prove.values import put
from pipit.datafiles.resources import DataSource

PORT = 7199
_DATA = '"$LEAK"'
_URL = '"http://127.0.0.1:$PORT'  # the rest is percent-encoded: nothing in it is the shell's


def event(row: Row, datasource: DataSource) -> dict[str, Any]:
    """The row as the events API takes it: every value at its column's jsonpath."""
    found: dict[str, Any] = {}
    with_paths = any(c.jsonpath for c in datasource.columns)
    for column in datasource.columns:
        if column.name not in row.values or (with_paths and not column.jsonpath):
            continue
        path = (column.jsonpath or f"$.{column.name}").removeprefix("$").strip(".")
        value = row.values[column.name]
        if not path:
            found |= value if isinstance(value, dict) else _tree(value)
        elif "[:]" in path:
            before, _, after = path.partition("[:]")
            _put_each(found, before.split("."), [s for s in after.split(".") if s], value)
        else:
            put(found, [_plain(step) for step in path.split(".")], value)
    return found


def lines(example: CounterExample, datasources: Mapping[str, DataSource], folder: str) -> list[str]:
    """Shell lines; the last two answers show the leak. Run them where `pipit` is, one after the other."""
    found = [
        f"LEAK=$(mktemp -d) PORT={PORT}   # any free port",
        f"pipit serve --project {shlex.quote(folder)} --data {_DATA} --port $PORT &",
        f'until curl -sf {_URL}/v0/health" > /dev/null; do sleep 0.5; done',
        f"ADMIN=$(cat {_DATA}/admin_token)",
        f"TOKEN=$(pipit --data {_DATA} {_token(example.view, example.pipe)})",
    ]
    query = urlencode(example.case.params, quote_via=quote)
    url = f"{_URL}/v0/pipes/{example.pipe}.json" + (f'?{query}"' if query else '"')
    ask = f'curl -s {url} -H "Authorization: Bearer $TOKEN"'
    found += _sends((*example.shared, *example.own), datasources)
    found += [f"{ask}   # {example.view.tenant} alone"]
    found += _sends(example.others, datasources)
    if example.other is not None:
        found += [
            f"OTHER=$(pipit --data {_DATA} {_token(example.other, example.pipe)})",
            f'curl -s {url} -H "Authorization: Bearer $OTHER"   # {example.other.tenant} asks the same',
        ]
    found += [f"{ask}   # the same request, with the others' rows there", f"kill %1; wait; rm -r {_DATA}"]
    return found


def token_words(view: View, pipe: str) -> list[str]:
    """The arguments of `pipit` that mint the token of a look at the data."""
    words = ["token", "create", "jwt", view.tenant, "--ttl", "1h", "--pipe", pipe]
    for option, values in (("--fixed", view.fixed), ("--context", view.context)):
        for key, value in values.items():
            words += [option, _pair(key, value)]
    return words


def _token(view: View, pipe: str) -> str:
    return shlex.join(token_words(view, pipe))


def _pair(key: str, value: Scalar | tuple[Scalar, ...]) -> str:
    if isinstance(value, str):
        return f"{key}={value}"
    return f"{key}:={json.dumps(list(value) if isinstance(value, tuple) else value)}"


def _sends(rows: Iterable[Row], datasources: Mapping[str, DataSource]) -> list[str]:
    by_table: dict[str, list[Row]] = {}
    for row in rows:
        by_table.setdefault(row.table, []).append(row)
    found: list[str] = []
    for name, held in by_table.items():
        body = "\n".join(json.dumps(event(row, datasources[name]), ensure_ascii=False) for row in held)
        url = f'{_URL}/v0/events?name={name}&wait=true"'
        found.append(f'curl -s {url} -H "Authorization: Bearer $ADMIN" --data-binary {shlex.quote(body)}')
    return found


def _plain(step: str) -> str:
    return step.removeprefix("['").removesuffix("']")


def _tree(value: object) -> dict[str, Any]:
    try:
        tree = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return {}
    return tree if isinstance(tree, dict) else {}


def _put_each(into: dict[str, Any], before: Sequence[str], after: Sequence[str], values: object) -> None:
    """`$.items[:].name`: a list of objects, one for each value."""
    items = values if isinstance(values, list) else []
    for step in before[:-1]:
        into = into.setdefault(step, {})
    listed = into.setdefault(before[-1], [{} for _ in items] if after else [])
    if not after:
        listed.extend(items)
        return
    for item, value in zip(listed, items, strict=False):
        put(item, after, value)
