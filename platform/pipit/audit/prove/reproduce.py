"""A counter-example as commands that anybody can run: a served copy of the project, rows by the events API, curl."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlencode

from pipit import jsontext
from pipit.access.context import Scalar
from pipit.audit.prove.model import CounterExample
from pipit.audit.prove.rows import Row, event
from pipit.audit.prove.tenants import TenantView
from pipit.datafiles.resources import DataSource

PORT = 7199
_DATA = '"$LEAK"'
_URL = '"http://127.0.0.1:$PORT'  # the rest is percent-encoded: nothing in it is the shell's


def lines(example: CounterExample, datasources: Mapping[str, DataSource], folder: str) -> list[str]:
    """Shell lines; the last two answers show the leak. Run them where `pipit` is, one after the other."""
    found = [
        f"LEAK=$(mktemp -d) PORT={PORT}   # any free port",
        f"pipit serve --project {shlex.quote(folder)} --data {_DATA} --port $PORT &",
        f'until curl -sf {_URL}/v0/health" > /dev/null; do sleep 0.5; done',
        f"ADMIN=$(cat {_DATA}/admin_token)",
    ]
    if example.kind != "append":
        found.append(f"TOKEN=$(pipit --data {_DATA} {_token(example.view, example.pipe)})")
    if example.sent:
        return found + _together(example, datasources)
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


def _together(example: CounterExample, datasources: Mapping[str, DataSource]) -> list[str]:
    """What was appended at one moment, with the tokens of those who did; then the tenant's request."""
    found = _sends(example.shared, datasources)
    found.append("# What follows up to `wait` comes in together. Without the others' lines it is the tenant alone.")
    for number, one in enumerate(example.sent):
        who = '"Authorization: Bearer $ADMIN"'
        if one.tenant:
            words = ["token", "create", "jwt", one.tenant, "--ttl", "1h", "--append", one.table]
            for name, value in one.fixed.items():
                words += ["--fixed-value", _pair(name, value)]
            found.append(f"SENDER{number}=$(pipit --data {_DATA} {shlex.join(words)})")
            who = f'"Authorization: Bearer $SENDER{number}"'
        body = "\n".join(jsontext.text(event(row, datasources[one.table])) for row in one.rows)
        url = f'{_URL}/v0/events?name={one.table}&wait=true"'
        found.append(f"curl -s {url} -H {who} --data-binary {shlex.quote(body)} &")
    found.append("wait $(jobs -p | tail -n +2)")
    if example.kind != "append":
        query = urlencode(example.case.params, quote_via=quote)
        url = f"{_URL}/v0/pipes/{example.pipe}.json" + (f'?{query}"' if query else '"')
        found.append(f'curl -s {url} -H "Authorization: Bearer $TOKEN"   # {example.view.tenant} asks')
    return [*found, f"kill %1; wait; rm -r {_DATA}"]


def token_words(view: TenantView, pipe: str) -> list[str]:
    """The arguments of `pipit` that mint the token of a look at the data."""
    words = ["token", "create", "jwt", view.tenant, "--ttl", "1h", "--pipe", pipe]
    for option, values in (("--fixed", view.fixed), ("--context", view.context)):
        for key, value in values.items():
            words += [option, _pair(key, value)]
    return words


def _token(view: TenantView, pipe: str) -> str:
    return shlex.join(token_words(view, pipe))


def _pair(key: str, value: Scalar | tuple[Scalar, ...]) -> str:
    if isinstance(value, str):
        return f"{key}={value}"
    return f"{key}:={jsontext.text(list(value) if isinstance(value, tuple) else value)}"


def _sends(rows: Iterable[Row], datasources: Mapping[str, DataSource]) -> list[str]:
    by_table: dict[str, list[Row]] = {}
    for row in rows:
        by_table.setdefault(row.table, []).append(row)
    found: list[str] = []
    for name, held in by_table.items():
        body = "\n".join(jsontext.text(event(row, datasources[name])) for row in held)
        url = f'{_URL}/v0/events?name={name}&wait=true"'
        found.append(f'curl -s {url} -H "Authorization: Bearer $ADMIN" --data-binary {shlex.quote(body)}')
    return found
