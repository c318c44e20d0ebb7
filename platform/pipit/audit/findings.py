"""What is wrong in a project, as findings: each with a stable code, its place, and what to do.

Strictness is for tenants: a finding is an error where a table with a row policy, a pipe with
FIXED_PARAMS or a parameter of `--fixed` is involved, and a warning elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from pipit.audit.column_lineage import Carry, carry, fillers
from pipit.audit.report import Finding, Severity, Unreached
from pipit.catalog.build import node_error
from pipit.catalog.policy_checks import unpoliced_tables
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, NodeTarget, Snapshot, Table
from pipit.datafiles import MERGING, key_items
from pipit.datafiles.resources import TableEngine
from pipit.deploy.append_needs import Need
from pipit.errors import DatafileError, PipitError, Reason
from pipit.sql.lexer import LexerKind, significant, tokenize
from pipit.templates.parts import PartKind, split
from pipit.templates.state import Branch

# Code -> what it means, for docs and for the JSON.
CODES: Mapping[str, str] = {
    "not_deployable": "Pipit cannot deploy this, so it was not examined",
    "policy_missing": "a table holds rows of a table with a ROW_POLICY and says nothing of its own",
    "policy_fails": "a ROW_POLICY that cannot be compiled or evaluated: every read under it would fail",
    "policy_required": "an endpoint reaches a table that has no ROW_POLICY, and policies are required",
    "merges_tenants": "an engine may make one row of two tenants' rows, for the key lacks the tenant's column",
    "mixes_tenants": "a view or copy fills a policed or confined table, and not with each row's own tenant",
    "appends_through": "a JWT that appends to a data source needs more `fixed_values`, or may not append at all: views "
    "or copies write its rows into a table with a ROW_POLICY",
    "goes_around": "a construct that row filters do not reach: a dictionary, a table function, a setting, an engine",
    "definer": "SQL that runs with its definer's rights",
    "tells_of_others": "a function, virtual column or SAMPLE that tells of rows which a filter hides",
    "quarantine": "an endpoint reads a quarantine: rows that were not parsed cannot be filtered",
    "open_table": "an endpoint reads tables with a ROW_POLICY and one about which nothing is said",
    "guarded_filter": "the condition on a fixed parameter is gone when the parameter is left out or empty",
    "fixed_default": "a fixed parameter has a default: a token that does not fix it reads the default's rows",
    "switched_off": "another parameter takes away the condition on a fixed one",
    "not_confined": "a fixed parameter does not confine a table with tenants' rows",
    "not_shown": "it could not be decided whether a fixed parameter confines the endpoint",
    "open_identifier": "a request names a table or column, and no list says which ones it may",
    "unreached_branch": "a branch of a template that no try could reach",
    "not_examined": "a statement that the engine did not take with any value that was tried",
    "refused": "a statement that Pipit refuses to run",
}

# Why an error is a finding of its own kind; all others are `not_deployable` in files, and `refused` in endpoints.
_AROUND = frozenset(
    {Reason.TABLE_FUNCTION_REFUSED, Reason.OBJECT_REFUSED, Reason.SETTING_REFUSED, Reason.CLAUSE_REFUSED}
)
_CODE_OF: Mapping[Reason, str] = {
    Reason.MERGES_TENANTS: "merges_tenants",
    Reason.TABLE_CHOSEN: "open_identifier",
    Reason.POLICY_INVALID: "policy_fails",
    **dict.fromkeys(_AROUND, "goes_around"),
}
# Engines whose tables read or feed others: a filter on the one does not reach the other.
_BYPASSING_ENGINES = frozenset(
    {"merge", "buffer", "distributed", "alias", "dictionary", "join", "set", "view", "materializedview"}
)


def of_project(error: DatafileError, *, strict: bool) -> Finding:
    """Something that stops the parse, the build or the tables of a project."""
    code = _CODE_OF.get(error.reason, "not_deployable")
    if error.reason is Reason.ENGINE_REFUSED and error.subject.lower() in _BYPASSING_ENGINES:
        code = "goes_around"
    severity = Severity.ERROR if strict or code in ("merges_tenants", "policy_fails") else Severity.WARNING
    return Finding(code, severity, error.file, error.line, error.column, error.message, error.hint)


def of_refusal(pipe: CompiledPipe, error: PipitError, *, strict: bool) -> Finding:
    """A text of an endpoint that composing or examining refuses: it would not run, for anybody."""
    code = "goes_around" if error.reason in _AROUND else "refused"
    severity = Severity.ERROR if strict and code == "goes_around" else Severity.WARNING
    if isinstance(error, DatafileError):
        file, line, column = error.file, error.line, error.column
    else:
        file, line, column = _named_in(pipe, error.names)
    return Finding(code, severity, file, line, column, error.message, error.hint, pipe.name)


def of_tables(snapshot: Snapshot) -> Iterator[Finding]:
    """What the lineage alone says: tables that are filled from policed ones."""
    for name, table in sorted(snapshot.tables.items()):
        if table.datasource.row_policy is not None:
            continue
        policed = sorted(s for s in table.sources if s in snapshot.tables and snapshot.tables[s].policy is not None)
        if policed:
            yield Finding(
                "policy_missing",
                Severity.ERROR,
                table.datasource.file,
                1,
                1,
                f"'{name}' is filled from '{policed[0]}', which has a ROW_POLICY, and has none of its own: tenants "
                "cannot read it",
                f"Add a ROW_POLICY to {table.datasource.file}, or `ROW_POLICY none REASON '...'` if every tenant may "
                "read all of its rows.",
            )


def of_fillers(snapshot: Snapshot) -> Iterator[Finding]:
    """Views and copies whose rows may be another tenant's than those that they were made of."""
    for name, table in sorted(snapshot.tables.items()):
        if table.policy is None:
            continue
        for pipe, node in fillers(snapshot, table):
            for column in sorted(table.policy.columns):
                found = carry(snapshot, table, pipe, node, column)
                if found is not Carry.CARRIED:
                    yield filler(name, pipe, node, column, "its ROW_POLICY", mixed=found is Carry.MIXED)


def filler(name: str, pipe: CompiledPipe, node: CompiledNode, column: str, by: str, *, mixed: bool) -> Finding:
    """`by`: what compares the column."""
    place = node_error(pipe.pipe, node.node, "")
    which, compared = f"'{pipe.name}.{node.name}'", f"'{column}' of '{name}', which {by} compares,"
    if mixed:
        what = f"{which} fills {compared} with something else than each row's own value: it mixes tenants' rows"
        hint = f"Select '{column}' as it is, and group by it."
    else:
        what = f"It cannot be told from the SQL of {which} whether {compared} stays each row's own value"
        hint = "`pipit audit --prove` tries it with rows."
    severity = Severity.ERROR if mixed else Severity.WARNING
    return Finding("mixes_tenants", severity, place.file, place.line, place.column, what, hint)


def of_appends(snapshot: Snapshot, needs: Mapping[str, Sequence[Need]]) -> Iterator[Finding]:
    """What a JWT that appends has to fix beyond the data source's own policy, and where none may append."""
    for name, found in sorted(needs.items()):
        table = snapshot.tables[name]
        for need in found:
            target = snapshot.tables[need.target].policy
            assert target is not None
            missing: set[str] = set()
            for key in target.guards_of(need.column):
                missing |= need.columns - (table.policy.columns_given({key}) if table.policy else frozenset())
            if need.why or missing:
                yield _append(snapshot, table, need, sorted(missing))


def _append(snapshot: Snapshot, table: Table, need: Need, columns: Sequence[str]) -> Finding:
    pipe, node = need.via[-1].split(".", 1)
    place = node_error(snapshot.pipes[pipe].pipe, snapshot.pipes[pipe].nodes[node].node, "")
    named = ", ".join(repr(column) for column in columns)
    compared = f"'{need.column}' of '{need.target}', which has a ROW_POLICY"
    open_ = snapshot.workspace.settings.unfixed_appends
    if need.why:
        what = f"{need.through} makes rows of '{table.name}' into rows of '{need.target}', which has a ROW_POLICY, and "
        what += f"nothing that a JWT fixes decides their '{need.column}': {need.why}. "
        what += "A JWT that appends writes in any tenant's name" if open_ else "No JWT may append to it"
        hint = f"Make '{need.column}' of columns of '{table.name}' alone, or append with a token of the workspace."
    else:
        what = f"{need.through} makes {named} of '{table.name}' into {compared}. "
        what += "A JWT that appends " + (
            f"without fixing {named} writes in any tenant's name" if open_ else f"must fix {named}, or is refused"
        )
        hint = f"Put {named} into the 'fixed_values' of each JWT with DATASOURCES:APPEND:{table.name}."
    static = ", ".join(f"'{t.name}'" for t in table.datasource.tokens if t.permission == "APPEND")
    hint += f" Static tokens ({static}) are the workspace's own: nothing changes for them." if static else ""
    hint += (
        "" if open_ else " For one version, `pipit workspace settings unfixed_appends=true` keeps the old behaviour."
    )
    severity = Severity.ERROR if open_ else Severity.WARNING
    return Finding("appends_through", severity, place.file, place.line, place.column, what, hint)


def of_required(snapshot: Snapshot) -> Iterator[Finding]:
    """With `--require-policies`."""
    for error in unpoliced_tables(snapshot):
        yield Finding(
            "policy_required", Severity.ERROR, error.file, error.line, error.column, error.message, error.hint
        )


def of_definers(snapshot: Snapshot) -> Iterator[Finding]:
    for pipe in snapshot.pipes.values():
        for node in pipe.nodes.values():
            tokens = significant(tokenize(node.node.sql))
            for one, two in pairwise(tokens):
                words = (one.text.upper(), two.text.upper())
                if words == ("SQL", "SECURITY") or (words[0] == "DEFINER" and two.text == "="):
                    place = _at(node.node.sql, one.start)
                    yield _placed(
                        "definer",
                        Severity.ERROR,
                        node_error(pipe.pipe, node.node, "", line=place[0], column=place[1]),
                        "SQL SECURITY and DEFINER let a view read with its definer's rights, past every row filter",
                        "Leave it out: Pipit makes the views of materialized nodes itself.",
                    )


def merges_tenants(file: str, name: str, engine: TableEngine, columns: Iterable[str]) -> Finding | None:
    """A table whose engine merges rows by a key that lacks the tenant's column."""
    if engine.name not in MERGING:
        return None
    key = {item.strip("` ") for item in key_items(engine.sorting_key)}
    missing = sorted(set(columns) - key)
    if not missing or len(missing) < len(set(columns)):
        return None
    return Finding(
        "merges_tenants",
        Severity.ERROR,
        engine.position.file or file,
        engine.position.line or 1,
        engine.position.column or 1,
        f"{engine.name} makes one row of those of '{name}' with the same key, and '{missing[0]}' is not in its sorting "
        "key: rows of different tenants",
        f"Add {missing[0]} to ENGINE_SORTING_KEY.",
    )


def of_branch(nodes: Iterable[NodeTarget], branch: Branch) -> Unreached:
    """A branch as a place in a file."""
    for target in nodes:
        if f"{target.pipe.name}.{target.node.name}" == branch.template:
            error = node_error(target.pipe.pipe, target.node.node, "", line=branch.line, column=branch.column)
            rest = error.excerpt[branch.column - 1 :]
            shown = rest.partition("}}" if rest.startswith("{{") else "%}")
            text = "".join(shown[:2]).strip() or branch.kind
            text = text if len(text) <= 80 else f"{text[:77]}..."
            how = {"skipped": "past ", "stopped": "stopped at "}.get(branch.kind.rpartition(" ")[2], "")
            return Unreached(error.file, error.line, error.column, how + text)
    return Unreached("", 0, 0, branch.kind)


def use_of_parameter(nodes: Sequence[NodeTarget], name: str, *, guards: bool) -> DatafileError | None:
    """Where a parameter is asked for (`{% if defined(x) %}`), or where it is used."""
    word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
    for target in nodes:
        if target.node.template is None:
            continue
        sql = target.node.node.sql
        start = len(sql) - len(sql.lstrip())
        try:
            parts = split(sql[:start] + " " + sql[start + 1 :], "")
        except PipitError:
            continue
        for part in parts:
            wanted = PartKind.DIRECTIVE if guards else PartKind.EXPRESSION
            if part.kind is wanted and word.search(part.text):
                return node_error(target.pipe.pipe, target.node.node, "", line=part.line, column=part.column)
    return None


def identifier_uses(nodes: Sequence[NodeTarget], name: str) -> Iterator[tuple[str, DatafileError]]:
    """The function that makes a name of a parameter, with its place, for each use."""
    call = re.compile(rf"\b(table|TABLE|columns?|symbol)\s*\(\s*{re.escape(name)}\b")
    for target in nodes:
        if target.node.template is None:
            continue
        for found in call.finditer(target.node.node.sql):
            line, column = _at(target.node.node.sql, found.start())
            yield found[1], node_error(target.pipe.pipe, target.node.node, "", line=line, column=column)


def endpoint_finding(
    code: str, severity: Severity, place: DatafileError | None, message: str, hint: str, pipe: CompiledPipe
) -> Finding:
    """A finding of an endpoint, at a place of one of its nodes; else at its own node."""
    if place is None:
        assert pipe.endpoint is not None
        place = node_error(pipe.pipe, pipe.endpoint.node, "")
    return _placed(code, severity, place, message, hint, pipe.name)


def _placed(
    code: str, severity: Severity, place: DatafileError, message: str, hint: str, endpoint: str = ""
) -> Finding:
    return Finding(code, severity, place.file, place.line, place.column, message, hint, endpoint)


def _named_in(pipe: CompiledPipe, names: Iterable[str]) -> tuple[str, int, int]:
    """Where in the pipe's own nodes stands what an error names; else its endpoint."""
    for name in names:
        for node in pipe.nodes.values():
            for token in tokenize(node.node.sql):
                if token.kind in (LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER) and token.text.strip('`"') == name:
                    line, column = _at(node.node.sql, token.start)
                    error = node_error(pipe.pipe, node.node, "", line=line, column=column)
                    return error.file, error.line, error.column
    assert pipe.endpoint is not None
    error = node_error(pipe.pipe, pipe.endpoint.node, "")
    return error.file, error.line, error.column


def _at(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
