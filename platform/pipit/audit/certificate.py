"""The certificate: what confines every table and endpoint of a project, small enough to be read in a diff.

It is made from the project alone, without an engine: row policies, lineage and FIXED_PARAMS. An audit that examined the
endpoints in the engine adds which tables a fixed parameter confines. The same project gives the same bytes: sorted, no
times, no paths of a machine.

`weakenings` compares two of them, for `pipit audit --check` and for every deploy (attack J04). What cannot be shown to
be at least as strict counts as weaker: a condition is the same text (white space aside) or gone, and only adding to a
condition with AND keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from pipit.access.policy import Policy
from pipit.audit.column_lineage import Carry, filled_by
from pipit.catalog.build import build_snapshot
from pipit.catalog.lineage import tables_read
from pipit.catalog.names import first_names
from pipit.catalog.snapshot import Snapshot, Table
from pipit.datafiles.resources import Column, Project
from pipit.errors import BadRequest
from pipit.sql.lexer import LexerKind, Token, significant, tokenize

VERSION = 1
FILE = "pipit.audit.json"

POLICY, NONE, OPEN, REFUSED = "policy", "none", "open", "refused"


class TableFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a tenant's read of a table carries.

    `filter`: `policy`, `none` (a REASON says why), `open` (nothing is said of it), `refused` (made from a table with a
    policy, without one of its own). All of `conditions` hold for every token; those of `optional` for one with the key.
    """

    filter: str
    keys: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    optional: dict[str, tuple[str, ...]] = {}
    reason: str = ""
    policed: tuple[str, ...] = ()  # of `none`: the tables with a policy that its rows are made from
    columns: dict[str, str] = {}  # those that the policy compares: type, jsonpath and default
    filled_by: dict[str, str] = {}  # views and copies from tables with a policy: `carried`, or a digest of their SQL


class EndpointFilters(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an endpoint reads, table by table. `confined`: tables that these fixed parameters were shown to confine."""

    tables: dict[str, str] = {}
    fixed_params: tuple[str, ...] = ()
    confined: dict[str, tuple[str, ...]] = {}


class Certificate(msgspec.Struct, frozen=True, omit_defaults=True):
    """`fixed`: the parameters that were examined as fixed ones (`--fixed`), beside FIXED_PARAMS."""

    version: int = 0
    require_policies: bool = False
    unfixed_appends: bool = False
    fixed: tuple[str, ...] = ()
    tables: dict[str, TableFilter] = {}
    endpoints: dict[str, EndpointFilters] = {}

    def encode(self) -> bytes:
        """The bytes to commit."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=2) + b"\n"


@dataclass(frozen=True, slots=True)
class Weakening:
    """One thing that is less strict than it was. `resource`: the data source or pipe whose file says it."""

    resource: str
    sentence: str
    hint: str


def decode(text: bytes, *, name: str = FILE) -> Certificate:
    """Raises BadRequest on what is no certificate of this version."""
    try:
        found = msgspec.json.decode(text, type=Certificate)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"{name} is not a certificate: {error}", hint="Write one with --certificate.") from None
    if found.version != VERSION:
        raise BadRequest(
            f"{name} is a certificate of version {found.version}; this Pipit writes version {VERSION}",
            hint="Write it anew with --certificate, and look at what changes.",
        )
    return found


def certify(snapshot: Snapshot) -> Certificate:
    """Read from the project. Costs no query."""
    tables = {name: _table(snapshot, table) for name, table in snapshot.tables.items()}
    endpoints = {
        pipe.name: EndpointFilters(
            tables={n: tables[n].filter for n in sorted(tables_read(snapshot, pipe, pipe.endpoint)) if n in tables},
            fixed_params=tuple(sorted(pipe.fixed_params)),
        )
        for pipe in snapshot.pipes.values()
        if pipe.endpoint is not None
    }
    return Certificate(
        version=VERSION,
        require_policies=snapshot.workspace.settings.require_policies,
        unfixed_appends=snapshot.workspace.settings.unfixed_appends,
        tables=tables,
        endpoints=endpoints,
    )


def certify_project(live: Snapshot, project: Project) -> Certificate:
    """Of a project that would take the place of what is live: what fed a table once counts for it still.

    Raises ProjectError, as building it for a deploy does.
    """
    names = first_names(project.datasources, live.names)
    return certify(build_snapshot(live.workspace, project, names, secrets=live.secrets))


def weakenings(old: Certificate, new: Certificate) -> tuple[Weakening, ...]:
    """All that the new one confines less than the old one, each as a sentence."""
    return tuple(_compare(old, new))


def _compare(old: Certificate, new: Certificate) -> Iterator[Weakening]:
    if old.require_policies and not new.require_policies:
        yield Weakening("", "Row policies are no longer required of every table", "Turn require_policies on again.")
    if new.unfixed_appends and not old.unfixed_appends:
        yield Weakening("", "JWTs may append rows in another tenant's name", "Turn unfixed_appends off again.")
    for name, was in old.tables.items():
        if name in new.tables:  # a table that is gone holds no rows
            yield from _compare_tables(name, was, new.tables[name])
    for name, endpoint in old.endpoints.items():
        if name in new.endpoints:
            yield from _compare_endpoints(name, endpoint, new.endpoints[name], new.tables)


def _compare_tables(name: str, was: TableFilter, now: TableFilter) -> Iterator[Weakening]:
    hint = f"Put the condition back into the ROW_POLICY of '{name}'."
    if was.filter == POLICY and now.filter != POLICY:
        how = f"is now `none`, because '{now.reason}'" if now.filter == NONE else "is removed"
        sentence = f"The ROW_POLICY of '{name}' {how}: every tenant would see all of its rows"
        if now.filter == REFUSED:
            sentence = f"The ROW_POLICY of '{name}' {how}"
        yield Weakening(name, sentence, "Put it back.")
        return
    if was.filter == POLICY:
        yield from _compare_filling(name, was, now)
    if was.filter == REFUSED and now.filter in (NONE, OPEN):
        yield Weakening(
            name,
            f"'{name}' holds rows of a table with a ROW_POLICY and was closed to tenants; now they could read it all",
            f"Give '{name}' a ROW_POLICY of its own.",
        )
        return
    for condition in was.conditions:
        if condition in now.conditions:
            continue
        keys = [key for key, conditions in now.optional.items() if condition in conditions]
        if keys:
            yield Weakening(
                name,
                f"The ROW_POLICY of '{name}' asks for `{condition}` only of tokens with '{keys[0]}', no longer of all",
                f"Take '{keys[0]}' out of ROW_POLICY_OPTIONAL.",
            )
        else:
            yield Weakening(name, f"The ROW_POLICY of '{name}' no longer asks for `{condition}`", hint)
    for key, conditions in was.optional.items():
        for condition in conditions:
            if condition not in (*now.conditions, *now.optional.get(key, ())):
                yield Weakening(
                    name, f"The ROW_POLICY of '{name}' no longer confines tokens with '{key}' to `{condition}`", hint
                )


def _compare_filling(name: str, was: TableFilter, now: TableFilter) -> Iterator[Weakening]:
    """How the columns that decide whose a row is get their values."""
    for column, definition in was.columns.items():
        if column in now.columns and now.columns[column] != definition:
            yield Weakening(
                name,
                f"'{column}', which the ROW_POLICY of '{name}' compares, was `{definition}` and is "
                f"`{now.columns[column]}`: rows could become another tenant's",
                "Look at where its values come from now.",
            )
    for filler, how in now.filled_by.items() if was.columns else ():
        if how != Carry.CARRIED and was.filled_by.get(filler) != how:
            columns = ", ".join(f"'{column}'" for column in now.columns)
            yield Weakening(
                name,
                f"'{filler}' fills '{name}' in another way than before, and it cannot be shown that it hands {columns} "
                "on unchanged: rows could become another tenant's",
                f"Select {columns} as it is, and group by it. Or look at it, and prove it: pipit audit --prove.",
            )


def _compare_endpoints(
    name: str, was: EndpointFilters, now: EndpointFilters, tables: Mapping[str, TableFilter]
) -> Iterator[Weakening]:
    for parameter in was.fixed_params:
        if parameter not in now.fixed_params:
            yield Weakening(
                name,
                f"The endpoint '{name}' no longer has FIXED_PARAMS {parameter}: a token need not fix it",
                "Put it back.",
            )
    for table, parameters in was.confined.items():
        if table in now.tables and not set(parameters) <= set(now.confined.get(table, ())):
            lost = ", ".join(sorted(set(parameters) - set(now.confined.get(table, ()))))
            yield Weakening(
                name,
                f"The endpoint '{name}' no longer confines '{table}' by {lost}",
                f"Give every read of '{table}' its condition on {lost} again, in every branch.",
            )
    if not was.fixed_params and not was.confined and POLICY not in was.tables.values():
        return  # nothing confined it before
    for table in now.tables:
        if table in was.tables:
            continue
        if tables[table].filter == NONE and tables[table].policed:
            made_from = ", ".join(f"'{one}'" for one in tables[table].policed)
            yield Weakening(
                name,
                f"The endpoint '{name}' reads '{table}' now, which every tenant may read and which is made from "
                f"{made_from}",
                "Look at what it tells of other tenants.",
            )
        if tables[table].filter == OPEN and not now.confined.get(table):
            yield Weakening(
                name,
                f"The endpoint '{name}' reads '{table}' now, which no filter confines",
                f"Give '{table}' a ROW_POLICY, or `ROW_POLICY none REASON '...'` if every tenant may read all of it.",
            )


def _table(snapshot: Snapshot, table: Table) -> TableFilter:
    declared = table.datasource.row_policy
    if table.policy is not None:
        columns = {c.name: _definition(c) for c in table.datasource.columns if c.name in table.policy.columns}
        return msgspec.structs.replace(
            _policy(table.policy), columns=columns, filled_by=dict(sorted(filled_by(snapshot, table).items()))
        )
    policed = {name for name, other in snapshot.tables.items() if other.policy is not None}
    if declared is not None:
        return TableFilter(NONE, reason=declared.reason, policed=tuple(sorted(table.sources & policed)))
    return TableFilter(REFUSED if table.sources & policed else OPEN)


def _definition(column: Column) -> str:
    path = f" `json:{column.jsonpath}`" if column.jsonpath else ""
    return f"{column.type}{path}{f' DEFAULT {column.default}' if column.default else ''}"


def _policy(policy: Policy) -> TableFilter:
    always: list[str] = []
    optional: dict[str, tuple[str, ...]] = {}
    for conjunct in policy.conjuncts:
        texts: list[str] = []
        values: list[str] = []
        for part in conjunct.parts:
            if isinstance(part, str):
                texts.append(part)
            else:
                key = f"context.{part.key}"
                shown = f"Array({key}, '{part.type}')" if part.array else f"{part.type}({key})"
                texts.append(f" {_MARK}{len(values)} ")
                values.append(f"{{{{{shown}}}}}")
        conditions = _conditions("".join(texts), values)
        if conjunct.guard:
            optional[conjunct.guard] = (*optional.get(conjunct.guard, ()), *conditions)
        else:
            always += conditions
    return TableFilter(
        POLICY,
        keys=tuple(sorted(policy.required)),
        conditions=tuple(sorted(always)),
        optional={key: tuple(sorted(optional[key])) for key in sorted(optional)},
    )


_MARK = "value_of_the_context_"
_BINDS_LOOSER = frozenset({"OR", "BETWEEN", "CASE", "?", "->"})


def _conditions(text: str, values: list[str]) -> list[str]:
    """The conditions that AND joins, each in one spelling: white space and brackets around it do not count."""
    return [_spell(tokens, values) for tokens in _joined(significant(tokenize(text)))]


def _joined(tokens: list[Token]) -> Iterator[list[Token]]:
    depth = 0
    level: list[bool] = []
    for token in tokens:
        depth -= token.kind is LexerKind.CLOSE
        level.append(depth == 0)
        depth += token.kind is LexerKind.OPEN
    if len(tokens) > 2 and tokens[0].text == "(" and tokens[-1].text == ")" and not any(level[1:-1]):
        yield from _joined(tokens[1:-1])
        return
    outside = {t.text.upper() for t, at_top in zip(tokens, level, strict=True) if at_top}
    cuts = [i for i, t in enumerate(tokens) if level[i] and t.kind is LexerKind.WORD and t.text.upper() == "AND"]
    if outside & _BINDS_LOOSER or not cuts:
        yield tokens
        return
    for start, end in zip([-1, *cuts], [*cuts, len(tokens)], strict=True):
        yield from _joined(tokens[start + 1 : end])


def _spell(tokens: list[Token], values: list[str]) -> str:
    found = ""
    previous = ""
    for token in tokens:
        text = values[int(token.text[len(_MARK) :])] if token.text.startswith(_MARK) else token.text
        tight = previous in ("", "(", "[", ".") or text in (")", "]", ",", ".")
        call = text in ("(", "[") and (previous.isidentifier() and previous.upper() not in _BEFORE_BRACKET)
        found += text if tight or call else f" {text}"
        previous = text
    return found


_BEFORE_BRACKET = frozenset({"AND", "OR", "NOT", "IN"})
