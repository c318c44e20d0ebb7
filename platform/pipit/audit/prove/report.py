"""A proof for a person (text), for programs (JSON) and for a CI's list of tests (JUnit XML)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from pipit import jsontext
from pipit.audit.prove.answers import TenantAnswer
from pipit.audit.prove.appends import Append
from pipit.audit.prove.model import CounterExample, EndpointResult, Proof, ProofVerdict
from pipit.audit.prove.reproduce import lines
from pipit.audit.prove.rows import Row

_SHOWN_ROWS = 8
_SHOWN_CELL = 40
_ORDER = (ProofVerdict.PROVED, ProofVerdict.SHARED, ProofVerdict.UNPROVED, ProofVerdict.LEAK)


def to_text(proof: Proof, folder: str = ".") -> str:
    width = max((len(result.endpoint) for result in proof.results), default=8)
    found: list[str] = []
    for verdict in _ORDER:
        for result in proof.of(verdict):
            shown = (
                f"{result.requests} answers compared, {result.held} requests met the tenant's rows"
                if verdict is ProofVerdict.PROVED
                else result.reason
            )
            found.append(f"{verdict.value:<9} {result.endpoint:<{width}}  {shown}")
    for result in proof.of(ProofVerdict.LEAK):
        if result.counter_example is not None:
            found += ["", *_example(result, result.counter_example, proof, folder)]
    counts = ", ".join(f"{len(proof.of(v))} {v.value}" for v in _ORDER if proof.of(v)) or "no endpoint"
    whose = "row policies over" if proof.policies else "parameters that tokens fix:"
    found += ["", f"{counts}. Tenants by {whose} {', '.join(proof.keys)}; looks: {' | '.join(proof.scopes)}."]
    if proof.shared:
        found.append(f"Shared, the same for every tenant: {', '.join(proof.shared)}.")
    for file, why in sorted(proof.refused.items()):
        found.append(f"Not deployed, so not tried: {file}: {_line(why)}")
    found.append(f"Seed {proof.seed}, {proof.rounds} rounds, {proof.seconds:.1f} s.")
    return "\n".join(found) + "\n"


def to_json(proof: Proof, folder: str = ".") -> str:
    document: dict[str, Any] = {
        "version": 1,
        "exit_code": proof.exit_code,
        "tenants_by": {"policies": proof.policies, "keys": list(proof.keys), "looks": list(proof.scopes)},
        "shared": list(proof.shared),
        "not_deployed": dict(proof.refused),
        "seed": proof.seed,
        "rounds": proof.rounds,
        "seconds": round(proof.seconds, 3),
        "summary": {verdict.value: len(proof.of(verdict)) for verdict in _ORDER},
        "endpoints": [_result(result, proof, folder) for result in proof.results],
    }
    return jsontext.pretty(document).decode()


def to_junit(proof: Proof, folder: str = ".") -> str:
    """A leak is a failure, an unproved endpoint an error, one that reads no tenant's rows is skipped."""
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": "pipit audit --prove",
            "tests": str(len(proof.results)),
            "failures": str(len(proof.of(ProofVerdict.LEAK))),
            "errors": str(len(proof.of(ProofVerdict.UNPROVED))),
            "skipped": str(len(proof.of(ProofVerdict.SHARED))),
            "time": f"{proof.seconds:.3f}",
        },
    )
    for result in proof.results:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "isolation", "name": result.endpoint})
        if result.verdict is ProofVerdict.LEAK:
            failure = ElementTree.SubElement(case, "failure", {"message": _xml(result.reason)})
            if result.counter_example is not None:
                failure.text = _xml("\n".join(_example(result, result.counter_example, proof, folder)))
        elif result.verdict is ProofVerdict.UNPROVED:
            ElementTree.SubElement(case, "error", {"message": _xml(result.reason)})
        elif result.verdict is ProofVerdict.SHARED:
            ElementTree.SubElement(case, "skipped", {"message": _xml(result.reason)})
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _result(result: EndpointResult, proof: Proof, folder: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "endpoint": result.endpoint,
        "verdict": result.verdict.value,
        "reason": result.reason,
        "reads": list(result.tables),
        "requests": result.requests,
        "answers_with_rows": result.held,
    }
    example = result.counter_example
    if example is not None:
        found["counter_example"] = {
            "kind": example.kind,
            "request": {"pipe": example.pipe, "parameters": dict(example.case.params)},
            "token": {
                "name": example.view.tenant,
                "context": _plain(example.view.context),
                "fixed_params": _plain(example.view.fixed),
            },
            "own_rows": [_row(row) for row in example.own],
            "other_rows": [_row(row) for row in example.others],
            "shared_rows": [_row(row) for row in example.shared],
            "answer_alone": _answer(example.alone),
            "answer_with_others": _answer(example.with_others),
            "after_others_asked": example.after_others_asked,
            "appended": [_sent(one) for one in example.sent],
            "commands": lines(example, proof.datasources, folder),
        }
    return found


def _plain(values: Any) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _row(row: Row) -> dict[str, Any]:
    return {"datasource": row.table, "tenant": row.tenant, "row": dict(row.values)}


def _answer(answer: TenantAnswer) -> dict[str, Any]:
    if not answer.ok:
        return {"status": answer.status, "error": answer.beside}
    return {"status": 200, "columns": dict(answer.columns), "rows": answer.table[:100]}


def _example(result: EndpointResult, example: CounterExample, proof: Proof, folder: str) -> list[str]:
    tenant = example.view.tenant
    query = "&".join(f"{name}={value}" for name, value in example.case.params)
    claims = [f"context {jsontext.text(_plain(example.view.context))}"] if example.view.context else []
    claims += [f"fixed_params {jsontext.text(_plain(example.view.fixed))}"] if example.view.fixed else []
    asked = example.pipe if example.kind == "append" else f"GET /v0/pipes/{example.pipe}.json"
    found = [
        f"LEAK {result.endpoint}: {result.reason}",
        f"  request  {asked}" + (f"?{query}" if query else ""),
        f"  token    {tenant}'s, {', '.join(claims)}",
    ]
    if example.sent:
        found.append("  appended at one moment")
        found += [f"    {_sent(one)}" for one in example.sent]
    for title, rows in (
        ("rows that are shared", example.shared),
        (f"rows of {tenant}", example.own),
        ("rows of others", example.others),
    ):
        if rows:
            found.append(f"  {title}")
            found += [f"    {row.table}: {_cut(row)}" for row in rows[:_SHOWN_ROWS]]
            if len(rows) > _SHOWN_ROWS:
                found.append(f"    ... and {len(rows) - _SHOWN_ROWS} more")
    note = ", after they asked the same" if example.after_others_asked else ""
    found += [f"  {tenant}'s answer with its own rows only", *_table(example.alone)]
    found += [f"  {tenant}'s answer with the others' rows there{note}", *_table(example.with_others)]
    if example.kind == "counts":
        found += [f"  beside the rows: {example.alone.beside}", f"  and then:        {example.with_others.beside}"]
    found.append("  to see it")
    found += [f"    {line}" for line in lines(example, proof.datasources, folder)]
    return found


def _sent(one: Append) -> str:
    if not one.tenant:
        return f"{one.table}: {len(one.rows)} rows, by a token of the workspace"
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in one.fixed.items()}
    return f"{one.table}: {len(one.rows)} rows, by {one.tenant}'s token, fixed_values {jsontext.text(values)}"


def _cut(row: Row) -> str:
    return jsontext.text(dict(row.values))


def _table(answer: TenantAnswer) -> list[str]:
    if not answer.ok:
        return [f"    {answer.status} {_line(answer.beside)}"]
    names = [name for name, _ in answer.columns]
    rows = [[_cell(row.get(name)) for name in names] for row in answer.table[:_SHOWN_ROWS]]
    if not rows:
        return [f"    {'  '.join(names)}", "    (no rows)"]
    widths = [max(len(name), *(len(row[at]) for row in rows)) for at, name in enumerate(names)]

    def line(cells: Sequence[str]) -> str:
        return "    " + "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()

    more = [f"    ... {len(answer.table)} rows"] if len(answer.table) > _SHOWN_ROWS else []
    return [line(names), *map(line, rows), *more]


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else jsontext.text(value)
    return text if len(text) <= _SHOWN_CELL else text[: _SHOWN_CELL - 1] + "…"


def _line(text: str) -> str:
    return text.splitlines()[0] if text else ""


def _xml(text: str) -> str:
    """Without characters that XML cannot hold."""
    return "".join(c if c in "\n\t" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" else "\ufffd" for c in text)
