"""A project is tried in the engine before anything live is touched: in a scratch database, with empty tables.

Every table and view is created there, every node of every pipe is examined on the engine's tree with placeholder
values. All errors come back at once, each with its place in a file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from pipit.catalog import services
from pipit.catalog.build import build_snapshot, in_database, node_error
from pipit.catalog.lineage import nodes_read
from pipit.catalog.names import first_names
from pipit.catalog.policy_checks import removable_conditions, unpoliced_tables
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot, Workspace
from pipit.catalog.written import text_as_written
from pipit.datafiles.resources import DataSource, NodeType, Project, WarningKind
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.deploy.append_needs import needs_of
from pipit.deploy.append_warnings import unfixed_appends
from pipit.deploy.column_warnings import column_warnings
from pipit.deploy.concurrency import run_bounded
from pipit.deploy.datasource_findings import datasource_findings
from pipit.deploy.defaults import unreadable_defaults, wrong_defaults
from pipit.deploy.like_warnings import like_warnings
from pipit.deploy.name_suggestion import name_suggestion
from pipit.deploy.parameter_conflicts import parameter_conflicts
from pipit.deploy.policies import try_policies
from pipit.deploy.touched import Touched
from pipit.deploy.views import View, match_of, views_of
from pipit.engine.client import Engine
from pipit.engine.codes import Code
from pipit.engine.syntax_errors import Unread, place_in
from pipit.errors import (
    CustomError,
    DatafileError,
    PipitError,
    Reason,
    SqlError,
    TemplateError,
    Unavailable,
    UnknownResource,
)
from pipit.ingest import problems
from pipit.ingest.match import Match
from pipit.query.compose import Composed, Composer
from pipit.query.examine import Examiner
from pipit.sql.lexer import LexerKind, significant, tokenize
from pipit.sql.words import SET_OPERATORS
from pipit.tables import ddl
from pipit.tables.ddl_check import checked
from pipit.tables.quarantine import create_quarantine
from pipit.tables.scratch import logical, scratch_database
from pipit.tables.services import make_services
from pipit.templates import Binder, is_reserved
from pipit.templates.failures import BadExpression
from pipit.templates.values import NO_VALUE

# ClickHouse's codes for a value that cannot be used: parse and cast errors, bad arguments, out of range, throwIf.
VALUE_ERRORS = frozenset(
    {
        Code.CANNOT_PARSE_TEXT,
        Code.CANNOT_PARSE_QUOTED_STRING,
        Code.CANNOT_PARSE_INPUT_ASSERTION_FAILED,
        Code.BAD_ARGUMENTS,
        Code.CANNOT_PARSE_DATE,
        Code.CANNOT_PARSE_DATETIME,
        Code.ARGUMENT_OUT_OF_BOUND,
        Code.CANNOT_CONVERT_TYPE,
        Code.CANNOT_PARSE_NUMBER,
        Code.CANNOT_READ_ARRAY_FROM_TEXT,
        Code.ILLEGAL_DIVISION,
        Code.SIZES_OF_ARRAYS_DONT_MATCH,
        Code.VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE,
        Code.CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN,
        Code.CANNOT_PARSE_UUID,
        Code.FUNCTION_THROW_IF_VALUE_IS_NON_ZERO,
        Code.DECIMAL_OVERFLOW,
        Code.CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING,
        Code.CANNOT_PARSE_IPV4,
        Code.CANNOT_PARSE_IPV6,
    }
)


_UNEQUAL = frozenset(
    {Code.UNION_ALL_RESULT_STRUCTURES_MISMATCH, Code.INTERSECT_OR_EXCEPT_RESULT_STRUCTURES_MISMATCH}
)  # numbers of columns around UNION, and around INTERSECT and EXCEPT

# Nodes that are tried at the same time: while the engine looks at one, the next ones are composed.
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Findings:
    """`matches`: what each view ("pipe.node") takes of its query, checked (`ingest/match.py`)."""

    errors: tuple[DatafileError, ...]
    warnings: tuple[ProjectWarning, ...]
    matches: Mapping[str, Match] = field(default_factory=dict)


async def validate(
    engine: Engine,
    workspace: Workspace,
    project: Project,
    *,
    secrets: Mapping[str, str] | None = None,
    only: Touched | None = None,
    compiled: Snapshot | None = None,
) -> Findings:
    """Raises only what is no fault of the project: Unavailable. ProjectError comes back as findings.

    `compiled`: the project, where it is compiled already, for whichever database.
    `only`: what is tried in the engine; the rest was, when it went live.
    """
    async with scratch_database(engine) as database:
        names = first_names(project.datasources)
        here = replace(workspace, database=database)
        if compiled is not None:
            snapshot = in_database(compiled, here, names, deployment=0, created_at="")
        else:
            snapshot = build_snapshot(here, project, names, secrets=secrets)
        part = _part(snapshot, only)
        errors, bad_policies, broken = await prepare(engine, part, changed=only.changed if only else None)
        errors += bad_policies
        errors += removable_conditions(snapshot)
        warnings = _unreadable(snapshot) + _reserved(snapshot) + _bad_expressions(snapshot)
        wrong_queries, cautions = await datasource_findings(engine, snapshot, part.tables)
        errors += wrong_queries
        warnings += cautions
        warnings += parameter_conflicts(snapshot)
        if workspace.settings.unfixed_appends:
            warnings += unfixed_appends(snapshot, await needs_of(engine, snapshot))
        if workspace.settings.require_policies:
            errors += unpoliced_tables(snapshot)
        composer, examiner = Composer(), Examiner(engine, rows=False)
        missing = frozenset(f"{database}.{names.datasources[name]}" for name in broken)
        nodes = [(pipe, node) for pipe in part.pipes.values() for node in pipe.nodes.values()]
        tried = await run_bounded(
            [_try_both_sides(snapshot, pipe, node, composer, examiner, missing) for pipe, node in nodes], _AT_ONCE
        )
        for found in tried:
            warnings += found[1]
        errors += _of_their_own(snapshot, zip(nodes, (found[0] for found in tried), strict=True))
        warnings += like_warnings(snapshot)
        wrong = {error.file for error in errors}
        sound = [pipe for pipe in part.pipes.values() if pipe.pipe.file not in wrong]
        matches = await _create_views(engine, snapshot, composer, sound, broken, errors, warnings)
        warnings += await _try_copies(engine, snapshot, composer, sound, broken)
    return Findings(tuple(errors), tuple(warnings), matches)


def _part(snapshot: Snapshot, only: Touched | None) -> Snapshot:
    if only is None:
        return snapshot
    return replace(
        snapshot,
        tables={name: table for name, table in snapshot.tables.items() if name in only.tables},
        pipes={name: pipe for name, pipe in snapshot.pipes.items() if name in only.pipes},
    )


def _of_their_own(
    snapshot: Snapshot, found: Iterable[tuple[tuple[CompiledPipe, CompiledNode], list[_Placed]]]
) -> list[DatafileError]:
    """The errors of nodes, without those that a node has because another one of its file, which it reads, has them."""
    by_node = {(pipe.name, node.name): (pipe, node, errors) for (pipe, node), errors in found}
    own: list[DatafileError] = []
    for key, (pipe, node, errors) in by_node.items():
        read = [(owner.name, inner.name) for owner, inner in nodes_read(snapshot, pipe, node)] if errors else []
        inner_errors = [one for name in read if name != key and name in by_node for one in by_node[name][2]]
        known = {(one.error.file, one.problem) for one in inner_errors}
        own += [one.error for one in errors if (one.error.file, one.problem) not in known]
    return own


@dataclass(frozen=True, slots=True)
class _Placed:
    """A node's error. `problem`: what is wrong, without the name of the node, so that two nodes' can be the same."""

    problem: str
    error: DatafileError

    def warning(self, message: str) -> ProjectWarning:
        error = self.error
        kind = WarningKind.MISSING_RESOURCE if error.reason is Reason.RESOURCE_NOT_FOUND else None
        return ProjectWarning(error.file, message, error.line, error.column, error.hint, kind, error.subject)


async def prepare(
    engine: Engine, snapshot: Snapshot, *, changed: Collection[str] | None = None
) -> tuple[list[DatafileError], list[DatafileError], set[str]]:
    """Makes the tables in the snapshot's database, and tries the policies over those that changed; None: over all.

    What is wrong with tables, and with policies; the names of the tables that could not be made.
    """
    errors, broken = await _create_tables(engine, snapshot)
    if any(services.DATABASE in pipe.pipe.text for pipe in snapshot.pipes.values()):
        await make_services(engine, snapshot.workspace.database)
    skipped = set() if changed is None else snapshot.tables.keys() - changed
    return errors, await try_policies(engine, snapshot, broken | skipped), broken


async def _create_tables(engine: Engine, snapshot: Snapshot) -> tuple[list[DatafileError], set[str]]:
    errors: list[DatafileError] = []
    broken: set[str] = set()
    for table in snapshot.tables.values():
        if refused := ddl.problems(table.datasource):
            broken.add(table.name)
            errors += refused
            continue
        try:
            statement = await checked(engine, ddl.create_table(table.datasource, table.database, table.physical))
            if wrong := await wrong_defaults(engine, table.datasource):
                broken.add(table.name)
                errors += wrong
                continue
            await engine.command(statement)
            await engine.command(create_quarantine(table.datasource, table.database, table.quarantine))
        except Unavailable:
            raise
        except PipitError as error:
            broken.add(table.name)
            if unreadable := await _unreadable_defaults(engine, table.datasource, error):
                errors += unreadable
                continue
            errors.append(_of_table(error, snapshot, table.datasource, table.database, table.physical))
    return errors, broken


async def _unreadable_defaults(engine: Engine, source: DataSource, error: PipitError) -> list[DatafileError]:
    """The engine names what it did not find, and not the column whose DEFAULT reads it."""
    unknown = isinstance(error, SqlError) and error.engine_code == Code.UNKNOWN_IDENTIFIER
    return await unreadable_defaults(engine, source) if unknown else []


def _of_table(error: PipitError, snapshot: Snapshot, source: DataSource, database: str, physical: str) -> DatafileError:
    """The engine counts in a statement that nobody wrote: what it does not understand in a TTL is told of its line."""
    failed = error.unread_at if isinstance(error, SqlError) else None
    ttl = f"\nTTL {source.engine.ttl}" if source.engine.ttl else ""
    if failed is not None and ttl:
        statement = f"EXPLAIN AST {ddl.create_table(source, database, physical)}".encode()
        if failed >= statement.rfind(ttl.encode()) >= 0:  # what follows it are settings, each a checked word
            place = ddl.position_of(source, "ENGINE_TTL")
            message = f"The engine does not understand ENGINE_TTL {source.engine.ttl[:200]}"
            file = place.file or source.file
            return DatafileError(message, file=file, line=place.line or 1, column=place.column or 1)
    message = logical(error.message, snapshot)
    return DatafileError(message, file=source.file, line=1, column=1, reason=error.reason, subject=error.subject)


def _unreadable(snapshot: Snapshot) -> list[ProjectWarning]:
    """Columns that events cannot fill; the table may have other sources, so it is deployed all the same."""
    return [
        ProjectWarning(table.datasource.file, f"POST /v0/events cannot fill this data source: {problem}")
        for table in snapshot.tables.values()
        for problem in problems(table.datasource.columns)
    ]


def _reserved(snapshot: Snapshot) -> list[ProjectWarning]:
    """Parameters that a request cannot set, here or in the dialect, because their names mean something else there."""
    found: list[ProjectWarning] = []
    for pipe in snapshot.pipes.values():
        for node in pipe.nodes.values():
            for parameter in node.template.parameters if node.template else ():
                if is_reserved(parameter.name):
                    message = f"The name of the parameter '{parameter.name}' is reserved: requests may not set it"
                    hint, kind = "Give it another name.", WarningKind.RESERVED_PARAMETER
                    place = node_error(pipe.pipe, node.node, message, line=parameter.line)
                    found.append(ProjectWarning(place.file, message, place.line, place.column, hint, kind))
    return found


def _bad_expressions(snapshot: Snapshot) -> list[ProjectWarning]:
    """What the template language does not have, in branches that a request need not take, and what it reads in another
    way than it looks."""
    found: list[ProjectWarning] = []
    for pipe in snapshot.pipes.values():
        for node in pipe.nodes.values():
            template = node.template
            fails = "; a request that takes this branch fails"
            told = [(problem, fails) for problem in template.problems] if template else []
            told += [(doubt, "") for doubt in template.doubts] if template else []
            for problem, then in told:
                message = f"node '{node.name}': {problem.problem}{then}"
                place = node_error(
                    pipe.pipe, node.node, message, line=problem.line, column=problem.column, hint=problem.hint
                )
                found.append(ProjectWarning(place.file, message, place.line, place.column, place.hint))
    return found


async def _try_node(
    snapshot: Snapshot,
    pipe: CompiledPipe,
    node: CompiledNode,
    composer: Composer,
    examiner: Examiner,
    missing: frozenset[str],
    *,
    defined: bool,
) -> None:
    """What the engine says of a `missing` table, which could not be made, is that table's error."""
    binder = Binder(placeholder=True, defined=defined)
    composed = composer.pipe(snapshot, pipe, node, {}, binder)
    try:
        await examiner.examine(snapshot, composed, binder)
        await _count_columns(examiner, snapshot, composed, binder)
    except SqlError as error:
        if error.engine_code == Code.UNKNOWN_TABLE and not missing.isdisjoint(composed.tables):
            return
        # The placeholder's value, not the SQL: `toInt64('__no_value__')`. Names and types were resolved by then.
        if not (binder.params and error.engine_code in VALUE_ERRORS):
            raise


async def _count_columns(examiner: Examiner, snapshot: Snapshot, composed: Composed, binder: Binder) -> None:
    """The engine examines the parts of a UNION each for itself, and whether they go together only when it runs."""
    try:
        await examiner.describe(snapshot, composed, binder)
    except SqlError as error:
        if error.engine_code in _UNEQUAL:
            raise


async def _create_views(
    engine: Engine,
    snapshot: Snapshot,
    composer: Composer,
    pipes: Sequence[CompiledPipe],
    broken: set[str],
    errors: list[DatafileError],
    warnings: list[ProjectWarning],
) -> dict[str, Match]:
    """Creates each view and writes no row through it: that is how the engine checks names and conversions.

    What each takes of its query."""
    views: list[View] = []
    for pipe in pipes:
        try:
            views += views_of(snapshot, composer, pipes=[pipe]).values()
        except DatafileError as error:
            errors.append(error)
        except PipitError as error:  # the template asks for a value
            node = next(n for n in pipe.nodes.values() if n.node.type is NodeType.MATERIALIZED)
            errors.append(_place(pipe, node, error, snapshot).error)
    matches: dict[str, Match] = {}
    for number, view in enumerate(views):
        known = snapshot.physical_tables
        reads = {known[table].table.name for table in view.tables if table in known}
        if view.target.name in broken or not broken.isdisjoint(reads):
            continue  # that is the table's error
        try:
            matches[view.key] = await _try_view(engine, snapshot, view, f"m{number}", warnings)
        except Unavailable:
            raise
        except PipitError as error:
            errors.append(_place(view.pipe, view.node, error, snapshot).error)
    return matches


async def _try_view(
    engine: Engine, snapshot: Snapshot, view: View, physical: str, warnings: list[ProjectWarning]
) -> Match:
    """What it takes of its query."""
    columns = await match_of(engine, view)
    warnings += column_warnings(view.pipe, view.node, view.target, columns)
    await engine.command(view.create(snapshot.workspace.database, physical, columns))
    if view.target.datasource.engine.name != "Null":
        await engine.command(columns.insert(view.into, view.sql, view.settings, rows=False))
    return columns


async def _try_copies(
    engine: Engine, snapshot: Snapshot, composer: Composer, pipes: Sequence[CompiledPipe], broken: set[str]
) -> list[ProjectWarning]:
    """What each copy would write into its target. It may depend on parameters, so what is wrong is a warning."""
    found: list[ProjectWarning] = []
    for pipe in pipes:
        node = pipe.copy_node
        target = snapshot.tables.get(node.node.target_datasource) if node else None
        if node is None or target is None or target.name in broken:
            continue
        binder = Binder(placeholder=True)
        try:
            composed = composer.pipe(snapshot, pipe, node, {}, binder)
            view = View("", pipe, node, target, composed.sql, composed.tables, composed.settings)
            columns = await match_of(engine, view, binder.params)
        except Unavailable:
            raise
        except PipitError:
            continue  # said of the node already
        found += column_warnings(pipe, node, target, columns)
        try:
            if columns.columns and target.datasource.engine.name != "Null":
                text = columns.insert(view.into, view.sql, view.settings, rows=False)
                await engine.command(text, binder.params)
        except Unavailable:
            raise
        except PipitError as error:
            if isinstance(error, SqlError) and binder.params and error.engine_code in VALUE_ERRORS:
                continue
            placed = _place(pipe, node, error, snapshot)
            found.append(placed.warning(placed.error.message))
    return found


async def _try_both_sides(
    snapshot: Snapshot,
    pipe: CompiledPipe,
    node: CompiledNode,
    composer: Composer,
    examiner: Examiner,
    missing: frozenset[str],
) -> tuple[list[_Placed], list[ProjectWarning]]:
    """A node without parameters, then with all of them given: both sides of `{% if defined(x) %}`.

    What fails without parameters is an error. What fails only with placeholders is a warning: the other side may be
    fine with real values, and so is what fails in a sink, which does not run yet, or in a copy, whose job tells it. A
    copy that reads what is not in the project is an error: no job of it could end well.
    """
    only_writes = any(n.type in (NodeType.COPY, NodeType.SINK) for n in pipe.pipe.nodes)
    for defined in (False, True):
        try:
            await _try_node(snapshot, pipe, node, composer, examiner, missing, defined=defined)
        except Unavailable:
            raise
        except CustomError:
            continue  # the author's own error(): this side asks for something
        except BadExpression:
            continue  # in a branch that this side takes; it is warned of by itself
        except PipitError as error:
            if isinstance(error, TemplateError) and _needs_value(error):
                return [], []
            placed = _place(pipe, node, error, snapshot)
            wrong = not only_writes or (pipe.copy_node is not None and isinstance(error, UnknownResource))
            if not defined and wrong and not isinstance(error, TemplateError):
                return [placed], []
            side = "with its parameters given, " if defined else ""
            return [], [placed.warning(f"{side}{placed.error.message}")]
    return [], []


def _needs_value(error: TemplateError) -> bool:
    """A template that asks for a parameter even with placeholders cannot be tried; that is no fault of it."""
    return error.reason in (Reason.PARAMETER_MISSING, Reason.TEMPLATE_VALUE_MISSING)


def _place(pipe: CompiledPipe, node: CompiledNode, error: PipitError, snapshot: Snapshot) -> _Placed:
    place: tuple[int, int] | None = None
    message = logical(error.message, snapshot)
    if isinstance(error, Unread):
        message, place = _read_so_far(error, node.node.sql, snapshot)
    if isinstance(error, SqlError) and error.engine_code in _UNEQUAL:
        place = _of_operator(node.node.sql)
    message = _PLACEHOLDER.sub("a parameter's value", message)
    kind = "materialized node" if node.node.type is NodeType.MATERIALIZED else "node"
    line, column = place or _where(node.node.sql, (logical(name, snapshot) for name in error.names))
    placed = node_error(
        pipe.pipe,
        node.node,
        f"{kind} '{node.name}': {message}",
        line=line,
        column=column,
        hint=name_suggestion(error, snapshot, pipe) or error.hint,
        reason=error.reason,
        subject=error.subject,
    )
    return _Placed(message, placed)


_PLACEHOLDER = re.compile(rf"'{NO_VALUE}'|\b{NO_VALUE}\b")
_SHOWN = 60  # characters of SQL on either side of what cannot be read


def _read_so_far(error: Unread, sql: str, snapshot: Snapshot) -> tuple[str, tuple[int, int] | None]:
    """What cannot be read, with the SQL around it, which nobody sees otherwise: the template's result, with names of
    parameters in the place of their values. And line and column in the node's own text."""
    before = logical(text_as_written(error.before, snapshot), snapshot)
    here = logical(text_as_written(error.here, snapshot), snapshot)
    found = place_in(sql, before, here)
    place = (sql.count("\n", 0, found[0]) + 1, found[0] - sql.rfind("\n", 0, found[0])) if found else None
    shown = _last(before)
    if not here.strip():
        near = f"at the end of: {shown}"
    else:
        first = (here.splitlines() or [""])[0][:_SHOWN].strip()
        written = first.partition("{")[0].strip()
        near = f"at `{written}`{first[len(written) :]}" if written and "`" not in written else f"at: {first}"
        near += f" (after: {shown or 'nothing'})"
    return f"Syntax error: cannot be read {near}", place


def _last(text: str) -> str:
    """The end of the last line, from the beginning of a word on."""
    line = (text.rstrip().splitlines() or [""])[-1]
    if len(line) <= _SHOWN:
        return line.strip()
    return line[-_SHOWN - 1 :].partition(" ")[2].strip() or line[-_SHOWN:]


def _of_operator(sql: str) -> tuple[int, int] | None:
    """Line and column of the first UNION, INTERSECT or EXCEPT that joins queries, in the node's own text."""
    for before, token in pairwise(significant(tokenize(sql))):
        word = token.text.upper() if token.kind is LexerKind.WORD else ""
        if word in SET_OPERATORS and before.text != "*" and before.kind is not LexerKind.DOT:
            return sql.count("\n", 0, token.start) + 1, token.start - sql.rfind("\n", 0, token.start)
    return None


def _where(sql: str, names: Iterable[str]) -> tuple[int, int]:
    """Line and column of what an error names, in the node's own text; else of its first line of SQL.

    The engine counts in the text that it got, which has other nodes in front and values in place of templates.
    """
    for name in names:
        found = re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", sql)
        if found:
            return sql.count("\n", 0, found.start()) + 1, found.start() - sql.rfind("\n", 0, found.start())
    first = next((n for n, text in enumerate(sql.splitlines(), 1) if text.strip() not in ("", "%")), 1)
    return first, 1
