"""One workspace at one moment. A snapshot is immutable, and a request uses the same one from start to end.

A deploy makes a new snapshot and swaps the reference. So no request can use new tables with old filters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from pipit.access.policy import Policy
from pipit.catalog import services
from pipit.catalog.state import TableNames, WorkspaceSettings
from pipit.datafiles.resources import DataSource, Node, NodeType, Pipe, Project, versioned
from pipit.sql.barrier import is_mixed
from pipit.sql.references import TableReference
from pipit.templates import Parameter, Template


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace as its tokens see it: in its own database, or in that of one of its environments.

    `admin_token` is also the key of the workspace's JWTs, whatever environment they name.
    """

    id: str
    name: str
    database: str
    admin_token: str = field(repr=False)
    settings: WorkspaceSettings = field(default_factory=WorkspaceSettings)
    environment: str = ""  # its name; empty: the workspace's own database
    environment_id: str = ""

    @property
    def database_id(self) -> str:
        """Tells this database from every other one, for good: an environment made again under the name of a deleted
        one has another id. What is remembered of a statement or a response is remembered under it."""
        return self.environment_id or self.id

    def resource_id(self, kind: str, name: str) -> str:
        """`t_` and 32 hex digits, the same for as long as the workspace and the name are."""
        return _resource_id(self.id, kind, name)


STAGING = "x1_"  # of a replacement's table; one that a crash left behind is dropped at the next start


def staging_of(physical: str) -> str:
    """The table beside it that takes its name, and gets its name, when all rows are replaced (`jobs/copies.py`)."""
    return STAGING + physical


@lru_cache(maxsize=8192)
def _resource_id(workspace_id: str, kind: str, name: str) -> str:
    return "t_" + hashlib.md5(f"{workspace_id}/{kind}/{name}".encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Table:
    """A data source as it stands in the engine. `physical` and `quarantine` are table names in `database`.

    `sources` are the data sources whose rows are in this one, all the way up: by views and copies, now or at any time
    since the table was made. Some may be gone from the project. `hidden` are columns that were removed from the files
    and are still in the engine's tables: no statement may see them.
    """

    datasource: DataSource
    database: str
    physical: str
    quarantine: str
    policy: Policy | None = None
    sources: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.datasource.name

    @property
    def key(self) -> tuple[str, str]:
        """By which its lock is known (`tables.locks`)."""
        return self.database, self.physical


@dataclass(frozen=True, slots=True)
class CompiledNode:
    """A node ready to render: a template, or the text itself where it is none."""

    node: Node
    template: Template | None

    @property
    def name(self) -> str:
        return self.node.name


@dataclass(frozen=True, slots=True)
class CompiledPipe:
    pipe: Pipe
    nodes: Mapping[str, CompiledNode]
    parameters: tuple[Parameter, ...] = ()  # of its own nodes, in order of appearance
    fixed_params: tuple[str, ...] = ()  # FIXED_PARAMS of its own, and of the pipes that it reads
    lists: frozenset[str] = frozenset()  # parameters that take several values, its own and of the pipes that it reads

    @property
    def name(self) -> str:
        return self.pipe.name

    @property
    def endpoint(self) -> CompiledNode | None:
        published = self.pipe.endpoint
        return self.nodes[published.name] if published else None

    @property
    def readable(self) -> CompiledNode | None:
        """What another pipe reads under this pipe's name: the endpoint, else the last plain node."""
        if self.endpoint:
            return self.endpoint
        plain = [n for n in self.pipe.nodes if n.type is NodeType.STANDARD]
        return self.nodes[plain[-1].name] if plain else None

    @property
    def result(self) -> CompiledNode:
        """What another pipe reads; of a pipe that only writes, what it would write."""
        return self.readable or list(self.nodes.values())[-1]

    @property
    def copy_node(self) -> CompiledNode | None:
        """The node of TYPE copy, of which a pipe has at most one."""
        return next((node for node in self.nodes.values() if node.node.type is NodeType.COPY), None)


    @property
    def sink_node(self) -> CompiledNode | None:
        """The node of TYPE sink."""
        return next((node for node in self.nodes.values() if node.node.type is NodeType.SINK), None)


@dataclass(frozen=True, slots=True)
class TableTarget:
    """A reference that means a table: the data source's rows, or its quarantine's."""

    table: Table
    quarantine: bool = False

    @property
    def physical(self) -> str:
        return self.table.quarantine if self.quarantine else self.table.physical


@dataclass(frozen=True, slots=True)
class NodeTarget:
    """A reference that means a node: of the same pipe, or what another pipe publishes."""

    pipe: CompiledPipe
    node: CompiledNode


Target = TableTarget | NodeTarget


def mixed_columns(datasource: DataSource) -> tuple[tuple[str, str], ...]:
    """The columns with values of several types (JSON, Dynamic, Variant), with these types."""
    return tuple((column.name, column.type) for column in datasource.columns if is_mixed(column.type))


@dataclass(frozen=True)
class Snapshot:
    workspace: Workspace
    deployment: int  # 0: nothing deployed yet
    created_at: str
    project: Project
    names: TableNames
    tables: Mapping[str, Table]
    pipes: Mapping[str, CompiledPipe]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def edition(self) -> str:
        """Tells it from every other deployment of its database, and from itself with other hidden columns: what was
        found out of a text is remembered under it."""
        hidden = {physical: sorted(columns) for physical, columns in self.names.hidden.items() if columns}
        return f"{self.deployment} {sorted(hidden.items())}" if hidden else str(self.deployment)

    def resolve(self, reference: TableReference, pipe: CompiledPipe | None) -> Target | None:
        """What a name in a pipe's SQL means: a node of that pipe, a data source, its quarantine, another pipe.

        None: no such resource. A name with a database is a resource only if the database is this workspace's name,
        that of a workspace that shares the data source with this one (all of them are tables of this one's own
        database), or `tinybird`, which has the service data sources and nothing else.
        """
        if reference.database == services.DATABASE:
            service = self.services.get(f"{services.DATABASE}.{reference.name}")
            return TableTarget(service) if service else None
        if reference.database is not None:
            shared = self._table(f"{reference.database}.{reference.name}")
            if shared is not None or reference.database != self.workspace.name:
                return shared
        name = reference.name
        if pipe is not None and reference.database is None and name in pipe.nodes:
            return NodeTarget(pipe, pipe.nodes[name])
        return self._named(name) or self._versioned(name)

    def datasource(self, name: str) -> Table | None:
        """The data source of this name, or of a versioned one: clients of Classic projects send to `events__v3`."""
        if name in self.tables:
            return self.tables[name]
        found = self._versioned(name)
        return found.table if isinstance(found, TableTarget) and not found.quarantine else None

    def _named(self, name: str) -> Target | None:
        other = self.pipes.get(name)
        readable = other.readable if other is not None else None
        return self._table(name) or (NodeTarget(other, readable) if other and readable else None)

    def _table(self, name: str) -> TableTarget | None:
        if name in self.tables:
            return TableTarget(self.tables[name])
        if name.endswith("_quarantine") and name.removesuffix("_quarantine") in self.tables:
            return TableTarget(self.tables[name.removesuffix("_quarantine")], quarantine=True)
        return None

    def _versioned(self, name: str) -> Target | None:
        """Classic's versioned names, both ways: `page_views__v3` is page_views.datasource with VERSION 3 (or with none
        in its text), and `page_views` is page_views__v3.datasource, the highest version that there is."""
        written = versioned(name)
        if written is None:
            newest = self._newest.get(name)
            return self._named(newest) if newest else None
        stem, version = written
        found = self._named(stem)
        if isinstance(found, TableTarget) and found.table.datasource.version not in (None, version):
            return None
        return found

    @cached_property
    def nodes_read(self) -> dict[tuple[int, int], tuple[tuple[CompiledPipe, CompiledNode], ...]]:
        """What `lineage.nodes_read` found, by the ids of pipe and node."""
        return {}

    @cached_property
    def _newest(self) -> Mapping[str, str]:
        """Name without its version -> the resource's name with the highest one."""
        found: dict[str, tuple[int, str]] = {}
        for name in (*self.pipes, *self.tables):
            if written := versioned(name):
                stem, version = written
                found[stem] = max(found.get(stem, (-1, "")), (version, name))
        return {stem: name for stem, (_, name) in found.items()}

    @cached_property
    def physical_tables(self) -> Mapping[str, TableTarget]:
        """`database.table` as the engine's query tree prints it -> what it is. Views' own objects are not in it."""
        found: dict[str, TableTarget] = {}
        for table in self.tables.values():
            found[f"{table.database}.{table.physical}"] = TableTarget(table)
            found[f"{table.database}.{table.quarantine}"] = TableTarget(table, quarantine=True)
        for table in self.services.values():
            found[f"{table.database}.{table.physical}"] = TableTarget(table)
        return found

    @cached_property
    def lists(self) -> frozenset[str]:
        """Parameters of any pipe that take several values: a text of its own may read all of them."""
        return frozenset(name for pipe in self.pipes.values() for name in pipe.lists)

    @cached_property
    def mixed_columns(self) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """`database.table` -> its columns with values of several types (JSON, Dynamic, Variant), with these types.

        Only tables that have one.
        """
        found = {name: mixed_columns(target.table.datasource) for name, target in self.physical_tables.items()}
        return {name: columns for name, columns in found.items() if columns}

    @cached_property
    def elsewhere(self) -> Mapping[str, tuple[str, ...]]:
        """What may stand before a dot in SQL, `tinybird` and workspaces that share data sources -> their names here."""
        found: dict[str, tuple[str, ...]] = {services.DATABASE: tuple(services.SERVICES)}
        for name in self.tables:
            workspace, dot, _ = name.partition(".")
            if dot:
                found[workspace] = (*found.get(workspace, ()), name)
        return found

    @cached_property
    def names_by_id(self) -> Mapping[tuple[str, str], str]:
        """(kind, id) -> the pipe's or data source's name. Scopes that name ids are looked up with every request."""
        found = {("pipe", self.workspace.resource_id("pipe", name)): name for name in self.pipes}
        return found | {("datasource", self.workspace.resource_id("datasource", name)): name for name in self.tables}

    @cached_property
    def hides_nothing(self) -> Snapshot:
        """The same with all columns that the tables have, also removed ones: for comparing what texts say."""
        if not any(table.hidden for table in self.tables.values()):
            return self
        return replace(self, tables={name: replace(t, hidden=frozenset()) for name, t in self.tables.items()})

    @cached_property
    def service_tables(self) -> frozenset[str]:
        """Their physical names, `database.table`."""
        return frozenset(f"{table.database}.{table.physical}" for table in self.services.values())

    @cached_property
    def services(self) -> Mapping[str, Table]:
        """The service data sources as they stand in this database: `tinybird.<name>` -> table."""
        return {
            name: Table(
                service, self.workspace.database, services.physical_name(service), services.quarantine_name(service)
            )
            for name, service in services.SERVICES.items()
        }
