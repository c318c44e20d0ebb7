"""What the text of a project becomes: typed, frozen resources. Parsed here, given meaning elsewhere.

Every resource remembers its file (relative path) and where things stand in it, so that later errors can say
`file:line:column`. Lines and columns count from 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

_VERSION = re.compile(r"__v([0-9]{1,9})\Z")


def versioned(name: str) -> tuple[str, int] | None:
    """Classic's `events__v3` as `events` and 3; None for a name without a version."""
    found = _VERSION.search(name)
    return (name[: found.start()], int(found[1])) if found else None


@dataclass(frozen=True, slots=True)
class Position:
    line: int = 0
    column: int = 0
    file: str = ""  # the included file it is in; empty: the resource's own

    def __str__(self) -> str:
        return f"line {self.line} of {self.file}" if self.file else f"line {self.line}"


@dataclass(frozen=True, slots=True)
class SourcePart:
    """Where a piece of a resource's text was written: `text[start:]`, up to the next part, is `source[offset:]` of
    `file`. With `fixed`, all of the piece stands for the `$key` that is there."""

    start: int
    file: str
    source: str = field(repr=False)
    offset: int = 0
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a SCHEMA. `type` is the full ClickHouse type under the engine's own names (`Nullable(String)` stays
    whole); it is empty where DEFAULT alone says it. A column that a connector adds has no position."""

    name: str
    type: str
    jsonpath: str | None = None  # "$.a.b", "$.items[:].name", "$"; None: by position (CSV) or filled by a view
    default: str | None = None  # the expression of DEFAULT, without the word
    codec: str | None = None  # "CODEC(ZSTD(1))"
    position: Position = Position()

    @property
    def nullable(self) -> bool:
        return self.type.startswith(("Nullable(", "LowCardinality(Nullable("))


@dataclass(frozen=True, slots=True)
class Index:
    name: str
    expression: str
    type: str
    granularity: int | None = None


@dataclass(frozen=True, slots=True)
class TableEngine:
    """`ENGINE*` lines. `name` is one of the MergeTree family or Null; expressions are kept as written."""

    name: str = "MergeTree"
    sorting_key: str = ""
    partition_key: str = ""
    primary_key: str = ""
    sampling_key: str = ""
    ttl: str = ""
    ver: str = ""
    is_deleted: str = ""
    sign: str = ""
    version: str = ""
    columns: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    position: Position = Position()


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """`TOKEN name READ|APPEND`."""

    name: str
    permission: str


@dataclass(frozen=True, slots=True)
class RowPolicy:
    """`ROW_POLICY >`: a condition over the token's security context, and the keys that may be absent.

    `ROW_POLICY none REASON '...'` has a `reason` and no condition: its author says that every tenant may read all rows.
    """

    condition: str
    optional: frozenset[str] = frozenset()
    position: Position = Position()
    reason: str = ""

    @property
    def filters(self) -> bool:
        """Whether reads carry a condition; false for `none REASON`."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class DataSource:
    name: str
    file: str
    columns: tuple[Column, ...]
    engine: TableEngine = TableEngine()
    description: str = ""
    tokens: tuple[TokenGrant, ...] = ()
    tags: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()
    row_policy: RowPolicy | None = None
    shared_with: tuple[str, ...] = ()
    forward_query: str = ""
    backfill_skip: bool = False
    kafka: Mapping[str, str] = field(default_factory=dict)  # KAFKA_* as written, upper-case keys
    imports: Mapping[str, str] = field(default_factory=dict)  # IMPORT_*
    postgres: Mapping[str, str] = field(default_factory=dict)  # PG_*
    vendor: str = ""  # the workspace that shares it with us, and whose name is before the dot of this one's
    version: int | None = None  # VERSION: SQL may also say `<name>__v<version>`
    text: str = ""  # with what its INCLUDEs brought in their places
    parts: tuple[SourcePart, ...] = ()  # where the text was written; none: all of it in `file`

    @property
    def files(self) -> frozenset[str]:
        """Its own file and those that it includes."""
        return frozenset([self.file, *(part.file for part in self.parts)])

    def placeless(self) -> DataSource:
        """The same without the places of its pieces: for comparing what two texts say."""
        policy = self.row_policy
        return replace(
            self,
            columns=tuple(replace(column, position=Position()) for column in self.columns),
            engine=replace(self.engine, position=Position()),
            row_policy=replace(policy, position=Position()) if policy else None,
        )

    @property
    def policed(self) -> bool:
        """Whether a tenant's reads carry a condition of the table's own."""
        return self.row_policy is not None and self.row_policy.filters


class NodeType(StrEnum):
    STANDARD = "standard"
    ENDPOINT = "endpoint"
    MATERIALIZED = "materialized"
    COPY = "copy"
    SINK = "sink"


@dataclass(frozen=True, slots=True)
class Node:
    """One SQL node. `sql` is dedented; `sql_position` is where its first line stands in the file."""

    name: str
    sql: str
    type: NodeType = NodeType.STANDARD
    description: str = ""
    position: Position = Position()
    sql_position: Position = Position()
    datasource: str = ""  # materialized: the target
    engine: TableEngine | None = None  # that of a target which has no file: Classic wrote it into the node
    deployment_method: str = ""
    target_datasource: str = ""  # copy
    copy_schedule: str = "@on-demand"
    copy_mode: str = "append"
    exports: Mapping[str, str] = field(default_factory=dict)  # sink: EXPORT_*

    @property
    def is_template(self) -> bool:
        return self.sql.lstrip().startswith("%")


@dataclass(frozen=True, slots=True)
class Pipe:
    name: str
    file: str
    nodes: tuple[Node, ...]
    description: str = ""
    tokens: tuple[TokenGrant, ...] = ()
    tags: tuple[str, ...] = ()
    fixed_params: tuple[str, ...] = ()  # FIXED_PARAMS: a JWT that does not fix these is refused
    cache: int | None = None
    text: str = ""  # with what its INCLUDEs brought in their places
    parts: tuple[SourcePart, ...] = ()  # as a data source's

    @property
    def files(self) -> frozenset[str]:
        """Its own file and those that it includes."""
        return frozenset([self.file, *(part.file for part in self.parts)])

    @property
    def endpoint(self) -> Node | None:
        """The node that is published, if one is."""
        return next((n for n in self.nodes if n.type is NodeType.ENDPOINT), None)


@dataclass(frozen=True, slots=True)
class Connection:
    name: str
    file: str
    type: str  # kafka s3 gcs dynamodb postgres
    settings: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    text: str = ""


class WarningKind(StrEnum):
    """Warnings of one kind differ by names and numbers only: a list of them is told once, with all places."""

    # of files
    CANNOT_CONNECT = "cannot_connect"
    CLASSIC_IGNORED = "classic_ignored"
    CLASSIC_BROKER = "classic_broker"
    GIVEN_TWICE = "given_twice"
    INDENTED_DIRECTIVE = "indented_directive"
    INERT_CONNECTION = "inert_connection"
    INERT_FORWARD_QUERY = "inert_forward_query"
    INERT_IMPORT = "inert_import"
    INERT_POSTGRES = "inert_postgres"
    INERT_SHARING = "inert_sharing"
    INERT_SINK = "inert_sink"
    MISSING_RESOURCE = "missing_resource"  # the `subject`: a data source, pipe, node or connection
    NOT_PUBLISHED = "not_published"
    NULLABLE_KEY = "nullable_key"
    ODD_TOKEN_NAME = "odd_token_name"
    OTHER_TYPE_IGNORED = "other_type_ignored"
    PUBLISHED = "published"
    SHARED_TABLE = "shared_table"
    TAKEN_AS_NULLABLE = "taken_as_nullable"
    TAKEN_AS_VER = "taken_as_ver"
    UNKNOWN_VALUE = "unknown_value"
    UNUSED_INCLUDE_VALUE = "unused_include_value"
    VENDOR_IGNORED = "vendor_ignored"
    VERSION_IGNORED = "version_ignored"
    # of what they mean together
    COLUMN_NARROWED = "column_narrowed"
    COLUMN_UNKNOWN = "column_unknown"
    COLUMN_WITHOUT_VALUE = "column_without_value"
    LIKE_PATTERN = "like_pattern"
    MADE_TARGET = "made_target"
    NO_SORTING_KEY = "no_sorting_key"
    NOT_FILLED = "not_filled"
    PARAMETER_CONFLICT = "parameter_conflict"
    RESERVED_PARAMETER = "reserved_parameter"
    STOPS_FILLING = "stops_filling"
    UNFIXED_APPENDS = "unfixed_appends"
    UNREADABLE_BY_TENANTS = "unreadable_by_tenants"


@dataclass(frozen=True, slots=True)
class Warning:
    """Something that a reader should know and that does not stop a deploy. Without a `kind` it is like no other."""

    file: str
    message: str
    line: int = 0
    column: int = 0
    hint: str = ""
    kind: WarningKind | None = None
    subject: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}"


@dataclass(frozen=True, slots=True)
class Project:
    """All files of a project, parsed. Names are unique across data sources and pipes. The name of a data source that
    another workspace shares has its workspace before a dot."""

    datasources: Mapping[str, DataSource] = field(default_factory=dict)
    pipes: Mapping[str, Pipe] = field(default_factory=dict)
    connections: Mapping[str, Connection] = field(default_factory=dict)
    warnings: tuple[Warning, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)  # relative path -> text, as deployed
