"""Classic's targets: a materialized node may say the engine of its target, which then needs no file of its own.

The target's columns are those of the node's query, as the engine describes them in a scratch database. What comes of it
is a `.datasource` file like any other, added to the project's files and stored with the deployment. From there on
nothing tells it from a written one: a server that starts reads it back, a changed query is a changed table to the plan,
and a file of that name in the project takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from pipit.catalog.build import build_snapshot
from pipit.catalog.names import first_names
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot, Workspace
from pipit.datafiles import parse_datasource, print_datasource
from pipit.datafiles.resources import Column, DataSource, Node, NodeType, Pipe, Project, TableEngine, WarningKind
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.engine import Engine
from pipit.errors import DatafileError, PipitError, ProjectError, Unavailable
from pipit.query.compose import Composer
from pipit.query.examine import Examiner
from pipit.query.nested import described
from pipit.tables import ddl
from pipit.tables.ddl_check import checked
from pipit.tables.scratch import logical, scratch_database
from pipit.templates import Binder

Read = Callable[[Mapping[str, str]], Project]


async def with_targets(
    engine: Engine, workspace: Workspace, project: Project, read: Read, *, secrets: Mapping[str, str]
) -> tuple[Project, tuple[DatafileError, ...]]:
    """The project with a file for each such target, and what is wrong with those that cannot be made.

    `read` makes a project of files, as this one was made of its own. Raises ProjectError where the project cannot be
    built, or the files that were added do not go with the others, and Unavailable.
    """
    wanted: dict[str, tuple[Pipe, Node]] = {}
    for pipe, node in without_target(project):
        wanted.setdefault(node.datasource, (pipe, node))  # the others fill what the first one makes
    if not wanted:
        return project, ()
    async with scratch_database(engine) as database:
        making = _Making(engine, replace(workspace, database=database, environment=""), project, secrets)
        errors = await making.make(wanted)
    if not making.files:
        return project, errors
    whole = read({**project.files, **making.files})
    return replace(whole, warnings=project.warnings + tuple(making.warnings)), errors


def without_target(project: Project) -> list[tuple[Pipe, Node]]:
    """The nodes whose target has no file, in order."""
    return [
        (pipe, node)
        for pipe in project.pipes.values()
        for node in pipe.nodes
        if node.type is NodeType.MATERIALIZED and node.datasource not in project.datasources
    ]


class _Making:
    """Makes targets one after the other: one may be read by the node that fills the next."""

    def __init__(self, engine: Engine, workspace: Workspace, project: Project, secrets: Mapping[str, str]) -> None:
        self.files: dict[str, str] = {}
        self.warnings: list[ProjectWarning] = []
        self._engine = engine
        self._workspace = workspace
        self._project = project
        self._secrets = secrets
        self._made: set[str] = set()

    async def make(self, wanted: Mapping[str, tuple[Pipe, Node]]) -> tuple[DatafileError, ...]:
        """What could not be made, when nothing more can be."""
        left = dict(wanted)
        while True:
            snapshot = await self._snapshot()
            errors: list[DatafileError] = []
            for target, (pipe, node) in left.items():
                try:
                    source = await self._source(snapshot, snapshot.pipes[pipe.name], node)
                except Unavailable:
                    raise
                except PipitError as error:
                    errors.append(_error(pipe, node, error))
                    continue
                self._add(source, pipe, node)
                del left[target]
                break
            else:
                return tuple(errors)

    async def _snapshot(self) -> Snapshot:
        """The project so far, with its tables in the scratch database. One that cannot be made is for the validation
        to report: what reads it fails here, and says why there."""
        datasources = self._project.datasources
        snapshot = build_snapshot(self._workspace, self._project, first_names(datasources), secrets=self._secrets)
        for table in snapshot.tables.values():
            if table.name in self._made or ddl.problems(table.datasource):
                continue
            self._made.add(table.name)
            try:
                await self._create(table.datasource, table.physical)
            except Unavailable:
                raise
            except PipitError:
                continue
        return snapshot

    async def _create(self, source: DataSource, physical: str) -> None:
        statement = ddl.create_table(source, self._workspace.database, physical)
        await self._engine.command(await checked(self._engine, statement))

    async def _source(self, snapshot: Snapshot, pipe: CompiledPipe, node: Node) -> DataSource:
        """The target as a data source, tried in the engine."""
        columns = await self._columns(snapshot, pipe, pipe.nodes[node.name])
        file = f"datasources/{node.datasource}.datasource"
        made = DataSource(node.datasource, file, columns, node.engine or TableEngine())
        text = f"# Made from {pipe.pipe.file}: the columns of the node {node.name}.\n\n{print_datasource(made)}"
        source = parse_datasource(text, file=file)
        if refused := ddl.problems(source):
            raise ProjectError(refused)
        physical = first_names([*snapshot.tables, source.name]).datasources[source.name]
        await self._create(source, physical)
        return source

    async def _columns(self, snapshot: Snapshot, pipe: CompiledPipe, node: CompiledNode) -> tuple[Column, ...]:
        binder = Binder()
        composed = Composer().pipe(snapshot, pipe, node, {}, binder)
        await Examiner(self._engine).examine(snapshot, composed, binder)  # before anything of it is run
        database = self._workspace.database
        found = await described(
            self._engine, composed.sql, binder.params, database=database, settings=composed.settings
        )
        return tuple(Column(name, type) for name, type in found)

    def _add(self, source: DataSource, pipe: Pipe, node: Node) -> None:
        self._made.add(source.name)
        self.files[source.file] = source.text
        datasources = {**self._project.datasources, source.name: source}
        self._project = replace(self._project, datasources=datasources)
        place = node.engine.position if node.engine else node.position
        message = f"'{source.name}' has no file: it is made with this engine and the columns of node '{node.name}'"
        hint = f"Add a file {source.name}.datasource to say its columns yourself."
        kind = WarningKind.MADE_TARGET
        warning = ProjectWarning(place.file or pipe.file, message, place.line, place.column, hint, kind)
        self.warnings.append(warning)


def _error(pipe: Pipe, node: Node, error: PipitError) -> DatafileError:
    """At the node's engine, which is where the target is written."""
    place = node.engine.position if node.engine else node.position
    first = error.errors[0] if isinstance(error, ProjectError) and error.errors else error
    return DatafileError(
        f"The Data Source '{node.datasource}' cannot be made from node '{node.name}': {logical(first.message)}",
        file=place.file or pipe.file,
        line=place.line,
        column=place.column,
        hint=first.hint or f"Add a file {node.datasource}.datasource with the columns of this node.",
        reason=first.reason,
        subject=first.subject,
    )
