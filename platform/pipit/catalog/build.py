"""A project's resources become a snapshot: templates compiled, policies compiled, lineage closed.

Needs no engine. Raises ProjectError with everything that is wrong, each with its place in a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from pipit.access.policy import Policy
from pipit.catalog.lineage import derived, fixed_params, lists, references
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, NodeTarget, Snapshot, Table, Workspace
from pipit.catalog.state import TableNames
from pipit.datafiles import MERGING, key_items
from pipit.datafiles.resources import DataSource, Node, NodeType, Pipe, Position, Project
from pipit.errors import DatafileError, ProjectError, Reason, SqlError, TemplateError
from pipit.templates import Parameter, Template


def build_snapshot(
    workspace: Workspace,
    project: Project,
    names: TableNames,
    *,
    deployment: int = 0,
    created_at: str = "",
    secrets: Mapping[str, str] | None = None,
) -> Snapshot:
    """Compiles a parsed project. `names` must hold a physical name for every data source."""
    errors: list[DatafileError] = []
    tables: dict[str, Table] = {}
    for datasource in project.datasources.values():
        policy = None
        if datasource.policed:
            try:
                policy = Policy.compile(datasource)
            except DatafileError as error:
                errors.append(error)
            else:
                errors.extend(_merged_away(datasource, policy))
        tables[datasource.name] = Table(
            datasource,
            workspace.database,
            names.datasources[datasource.name],
            names.quarantines[datasource.name],
            policy,
            hidden=_hidden(names, datasource.name),
        )
    pipes = {pipe.name: _compile_pipe(pipe, errors) for pipe in project.pipes.values()}
    snapshot = Snapshot(workspace, deployment, created_at, project, names, tables, pipes, dict(secrets or {}))
    if any(table.policy for table in tables.values()):
        errors.extend(_tables_by_request(pipes.values()))
    if not errors:  # a template that does not compile cannot be looked into
        errors.extend(_cycles(snapshot))
    if errors:
        raise ProjectError(errors)
    sources = derived(snapshot)
    return replace(
        snapshot,
        tables={n: replace(t, sources=sources[n]) for n, t in tables.items()},
        pipes={
            n: replace(p, fixed_params=fixed_params(snapshot, p), lists=lists(snapshot, p)) for n, p in pipes.items()
        },
    )


def _hidden(names: TableNames, datasource: str) -> frozenset[str]:
    return frozenset(names.hidden.get(names.datasources[datasource], ()))


def in_database(
    snapshot: Snapshot, workspace: Workspace, names: TableNames, *, deployment: int, created_at: str
) -> Snapshot:
    """The same project in another database of the workspace: only the names of its tables differ.

    What was compiled is shared, so that fifty environments take the memory of one.
    """
    tables = {
        name: replace(
            table,
            database=workspace.database,
            physical=names.datasources[name],
            quarantine=names.quarantines[name],
            sources=frozenset(),
            hidden=_hidden(names, name),
        )
        for name, table in snapshot.tables.items()
    }
    moved = replace(
        snapshot, workspace=workspace, deployment=deployment, created_at=created_at, names=names, tables=tables
    )
    sources = derived(moved)  # not shared: a table may remember rows that the other database never had
    return replace(moved, tables={n: replace(t, sources=sources[n]) for n, t in tables.items()})


def _merged_away(datasource: DataSource, policy: Policy) -> list[DatafileError]:
    """Rows of two tenants must never be merged into one: every column of the policy stands in the sorting key."""
    if datasource.engine.name not in MERGING:
        return []
    key = {item.strip("` ") for item in key_items(datasource.engine.sorting_key)}
    place = datasource.row_policy.position if datasource.row_policy else Position()
    return [
        DatafileError(
            f"The row policy compares '{column}', which is not in the sorting key: "
            f"{datasource.engine.name} would merge rows of different tenants",
            file=place.file or datasource.file,
            line=place.line,
            column=place.column,
            hint=f"Add {column} to ENGINE_SORTING_KEY.",
            reason=Reason.MERGES_TENANTS,
            subject=datasource.name,
        )
        for column in sorted(policy.columns - key)
    ]


# `column` and `columns` are for columns; where a table stands they name one.
_TABLE_OF = re.compile(
    r"(?:\b(?:table|TABLE|symbol)|\b(?i:FROM|JOIN|IN)\s*\(?\s*\{\{\s*columns?)\s*\(\s*([A-Za-z_]\w*)\s*[,)]"
)


def _tables_by_request(pipes: Iterable[CompiledPipe]) -> list[DatafileError]:
    """Where there are row policies, which table is read is the author's to say (attack C07)."""
    errors: list[DatafileError] = []
    for pipe in pipes:
        for node in pipe.nodes.values():
            if node.template is None or node.node.type not in (NodeType.STANDARD, NodeType.ENDPOINT):
                continue  # copies and views are not run by a tenant's request
            chosen = {p.name for p in node.template.parameters if p.identifier}
            for found in _TABLE_OF.finditer(node.node.sql):
                if found[1] in chosen:
                    before = node.node.sql[: found.start()]
                    errors.append(
                        node_error(
                            pipe.pipe,
                            node.node,
                            f"The parameter '{found[1]}' chooses a table, in a project with row policies",
                            line=before.count("\n") + 1,
                            column=len(before) - before.rfind("\n"),
                            hint="Name the tables: {% if x == 'a' %} a {% else %} b {% end %}.",
                            reason=Reason.TABLE_CHOSEN,
                            subject=found[1],
                        )
                    )
    return errors


def node_error(
    pipe: Pipe,
    node: Node,
    message: str,
    *,
    line: int = 1,
    column: int = 0,
    hint: str = "",
    reason: Reason = Reason.DATAFILE_INVALID,
    subject: str = "",
) -> DatafileError:
    """An error at a line of a node's SQL (lines of the SQL text count from 1), placed in the file."""
    start = node.sql_position if node.sql_position.line else replace(node.position, column=1)
    column = column or 1
    lines = node.sql.splitlines()
    excerpt = lines[line - 1] if 0 < line <= len(lines) else ""
    return DatafileError(
        message,
        file=start.file or pipe.file,
        line=start.line + line - 1,
        column=start.column + column - 1,
        hint=hint,
        excerpt=excerpt,
        reason=reason,
        subject=subject,
    )


@lru_cache(maxsize=8192)
def compiled(sql: str, name: str) -> Template:
    """A node's template; raises TemplateError. Kept: templates are immutable, and a deploy builds snapshots more than
    once, mostly of texts that did not change."""
    return Template.compile(sql, name=name)


def _compile_pipe(pipe: Pipe, errors: list[DatafileError]) -> CompiledPipe:
    nodes: dict[str, CompiledNode] = {}
    parameters: dict[str, Parameter] = {}
    for node in pipe.nodes:
        template: Template | None = None
        try:
            found = compiled(node.sql, f"{pipe.name}.{node.name}")
            template = found if node.is_template else None
        except TemplateError as error:
            place = {"line": error.line or 1, "column": error.column}
            errors.append(
                node_error(
                    pipe, node, error.message, **place, hint=error.hint, reason=error.reason, subject=error.subject
                )
            )
        if template is not None:
            for parameter in template.parameters:
                parameters.setdefault(parameter.name, parameter)
        nodes[node.name] = CompiledNode(node, template)
    return CompiledPipe(pipe, nodes, tuple(parameters.values()))


def _cycles(snapshot: Snapshot) -> list[DatafileError]:
    """A node that reads itself through other nodes or pipes can not be rendered."""
    errors: list[DatafileError] = []
    done: set[tuple[str, str]] = set()

    def visit(pipe: CompiledPipe, node: CompiledNode, path: tuple[tuple[str, str], ...]) -> None:
        here = (pipe.name, node.name)
        if here in path:
            circle = " -> ".join(f"{p}.{n}" for p, n in (*path[path.index(here) :], here))
            message = f"Recursive reference: {circle}"
            errors.append(node_error(pipe.pipe, node.node, message, reason=Reason.RECURSIVE_REFERENCE))
            return
        if here in done:
            return
        if node.template is None:  # a template's references are only possible ones; rendering refuses real circles
            try:
                found = references(node)
            except SqlError as error:
                errors.append(
                    node_error(
                        pipe.pipe, node.node, error.message, hint=error.hint, reason=error.reason, subject=error.subject
                    )
                )
                found = ()
            for reference in found:
                target = snapshot.resolve(reference, pipe)
                if isinstance(target, NodeTarget):
                    visit(target.pipe, target.node, (*path, here))
        done.add(here)

    for pipe in snapshot.pipes.values():
        for node in pipe.nodes.values():
            visit(pipe, node, ())
    return errors
