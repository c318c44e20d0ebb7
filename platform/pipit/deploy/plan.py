"""A deploy's plan: every operation in its order, and every refusal. It is complete before anything is touched.

`planner.py` decides and makes it; `execute.py` carries it out, and decides nothing. What `pipit plan` shows is what
`pipit deploy` does, or why it does nothing.

Its parts, in the order in which they happen:

    waiting    the tables whose writers wait until `retire` is done; where there are rebuilds, only for `prepare` and
               the last three
    prepare    made beside what is live: tables, columns, views, their fills; and what of live tables is altered in
               place, which no reader notices. Taken back if one of them fails
    rebuilds   new generations of tables, filled while events go on
    switch     views into tables that the live deployment uses too: they are made when they are to be live
    go_live    the deployment's one row. From here on nothing is taken back
    settle     what of the tables may only be altered now, while the writers still wait
    retire     views that are no longer live, while the writers still wait
    delete     what is gone from the project, with its rows: once no deployment is kept that has it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath

from pipit.catalog.snapshot import Snapshot, Table
from pipit.catalog.state import DeploymentRow
from pipit.datafiles.resources import Column
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.deploy.alterations import Alteration, ModifyColumn, ModifyTtl
from pipit.deploy.views import View
from pipit.errors import DatafileError, ProjectError, Reason
from pipit.ingest.match import Match
from pipit.tables.sizes import Size, Sizes


@dataclass(frozen=True, slots=True)
class Difference:
    """The names of one kind of resource that are new, changed or gone in the project, against what is live."""

    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.deleted)


class Cause(StrEnum):
    """Why a view is made, or goes."""

    NEW = "new"
    CHANGED = "changed"  # another query or target: DEPLOYMENT_METHOD alter says that the rows stay
    CONVERSIONS = "conversions"  # the same query, with other conversions into its target; the rows stay
    DELETED = "deleted"
    REBUILT = "rebuilt"  # its target gets a new generation


class How(StrEnum):
    """Where the rows of a new generation come from."""

    FORWARD = "forward_query"
    CAST = "cast"  # the old rows, each value checked
    COPY = "copy"  # the old rows as they are
    VIEWS = "views"  # what its views make of the rows of their sources


@dataclass(frozen=True, slots=True)
class CreateTable:
    """A data source's table and its quarantine."""

    table: Table


@dataclass(frozen=True, slots=True)
class CreateView:
    """`match` is what the view takes of its query."""

    view: View
    physical: str
    match: Match
    cause: Cause

    @property
    def database(self) -> str:
        return self.view.target.database


@dataclass(frozen=True, slots=True)
class Fill:
    """Writes what the view would have written for the rows that its `source` holds: so many, when it was planned."""

    view: View
    match: Match
    source: Table
    size: Size


@dataclass(frozen=True, slots=True)
class Select:
    """Rows for a new generation. `source`: the table whose rows it turns into them; "": it is not known."""

    sql: str
    match: Match
    settings: Mapping[str, str]
    source: str = ""


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A new generation of a data source's table, with its quarantine. `old`: the live one; None: there is none.

    `size`: what is read, as it was when it was planned. `selects`: what is written; none: the rows are linked.
    """

    table: Table
    old: Table | None
    how: How
    size: Size
    selects: tuple[Select, ...] = ()
    views: tuple[str, ...] = ()  # those that it is recalculated from
    why: tuple[str, ...] = ()  # it cannot be altered in place


@dataclass(frozen=True, slots=True)
class Frozen:
    """An image of a live table's rows at one moment."""

    table: Table
    image: str


@dataclass(frozen=True, slots=True)
class GoLive:
    """The one row that makes the deployment live: resources, policies, tokens and names of tables at one moment."""

    row: DeploymentRow


@dataclass(frozen=True, slots=True)
class DropView:
    key: str
    database: str
    physical: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class EndJobs:
    """Jobs of pipes that may read or write what is deleted: they would keep it there."""

    database_id: str
    pipes: frozenset[str]


@dataclass(frozen=True, slots=True)
class DropTable:
    """A data source's table and its quarantine, with their rows: so many in the table, when it was planned."""

    table: Table
    size: Size


@dataclass(frozen=True, slots=True)
class HideColumn:
    """A removed column: nothing sees it from the row on, and it stays in the table with its values. `rows` hold it."""

    table: Table
    column: Column
    rows: int


Prepare = CreateTable | Alteration | CreateView | Fill
Settle = ModifyColumn | ModifyTtl
Delete = EndJobs | DropTable
Operation = Prepare | Rebuild | HideColumn | GoLive | DropView | Delete


@dataclass(frozen=True, slots=True)
class Refusal:
    """`subject` is the resource, or "pipe.node" of a view."""

    reason: Reason
    subject: str
    error: DatafileError


def refusals_of(errors: Iterable[DatafileError], reason: Reason | None = None) -> list[Refusal]:
    """What is wrong with files, each for the resource of its file, and for its own reason where none is given."""
    return [Refusal(reason or error.reason, PurePosixPath(error.file).stem, error) for error in errors]


class DeployRefused(ProjectError):
    """The plan has refusals, so nothing was touched."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__([refusal.error for refusal in refusals])
        self.refusals = tuple(refusals)

    def body(self) -> dict[str, object]:
        body = super().body()
        listed = body["errors"]
        assert isinstance(listed, list)
        named = [
            item | {"reason": refusal.reason.value, "subject": refusal.subject}
            for item, refusal in zip(listed, self.refusals, strict=True)
        ]
        return body | {"errors": named}


@dataclass(frozen=True, slots=True)
class Plan:
    """`snapshot` is what is live afterwards; without `go_live` that is what is live already."""

    snapshot: Snapshot
    datasources: Difference = Difference()
    pipes: Difference = Difference()
    connections: Difference = Difference()
    waiting: tuple[Table, ...] = ()
    prepare: tuple[Prepare, ...] = ()
    frozen: tuple[Frozen, ...] = ()
    rebuilds: tuple[Rebuild, ...] = ()
    switch: tuple[CreateView, ...] = ()
    hide: tuple[HideColumn, ...] = ()
    go_live: GoLive | None = None
    settle: tuple[Settle, ...] = ()
    retire: tuple[DropView, ...] = ()
    delete: tuple[Delete, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[ProjectWarning, ...] = ()
    sizes: Sizes = field(default_factory=dict)  # what the live tables held when it was made

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All of them, in their order."""
        live = (self.go_live,) if self.go_live else ()
        made = (*self.prepare, *self.rebuilds, *self.switch, *self.hide)
        return (*made, *live, *self.settle, *self.retire, *self.delete)

    @property
    def views_made(self) -> tuple[CreateView, ...]:
        made = (*self.prepare, *self.switch)
        return tuple(operation for operation in made if isinstance(operation, CreateView))

    def check(self) -> None:
        """Raises DeployRefused with every refusal."""
        if self.refusals:
            raise DeployRefused(self.refusals)
