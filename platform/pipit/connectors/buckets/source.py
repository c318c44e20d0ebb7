"""What a data source loads from a bucket, with every IMPORT_* setting checked once. Shows no secret."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from pipit.catalog.snapshot import Snapshot
from pipit.connectors.buckets.place import TYPES, Place
from pipit.connectors.source import Refused
from pipit.datafiles.buckets import BadUri, BucketUri, parse_uri
from pipit.datafiles.resources import DataSource

AUTO, ON_DEMAND, ONCE = "@auto", "@on-demand", "@once"


@dataclass(frozen=True, slots=True)
class BucketSource:
    """Equal where nothing of it changed, so that a deploy does not disturb its reader."""

    workspace: str  # its id
    database: str
    database_id: str
    name: str
    connection: str
    place: Place
    text: str  # the URI as it is written
    uri: BucketUri
    schedule: str
    format: str = ""  # empty: each object's name says it
    since: datetime | None = None

    @property
    def identity(self) -> tuple[str, str]:
        return self.database, self.name

    @property
    def bucket_id(self) -> str:
        """The bucket, wherever its name means another one elsewhere. What is loaded is remembered under it."""
        return hashlib.sha256(f"{self.place.kind} {self.place.name} {self.uri.bucket}".encode()).hexdigest()[:32]

    def name_of(self, key: str) -> str:
        """An object's, for people."""
        scheme = "gs" if self.place.kind == "gcs" else "s3"
        return f"{scheme}://{self.uri.bucket}/{key}"


def is_bucket(datasource: DataSource) -> bool:
    """Whether it names a bucket; other IMPORT_* words are of connectors that there are none of."""
    return bool(datasource.imports.get("IMPORT_BUCKET_URI")) and not datasource.vendor


def bucket_sources(snapshot: Snapshot) -> dict[str, BucketSource | Refused]:
    """Of each data source with a bucket what it loads, or why it cannot."""
    found: dict[str, BucketSource | Refused] = {}
    for name, table in snapshot.tables.items():
        if is_bucket(table.datasource):
            try:
                found[name] = _source(snapshot, table.datasource)
            except Refused as refused:
                found[name] = refused
    return found


def _source(snapshot: Snapshot, datasource: DataSource) -> BucketSource:
    given = datasource.imports
    for word, value in given.items():
        if "{{" in value:
            raise Refused(f"{word} needs a secret that is not there: set it, and deploy again")
    name = given.get("IMPORT_CONNECTION_NAME", "")
    connection = snapshot.project.connections.get(name)
    if connection is None:
        raise Refused(f"there is no connection '{name}'")
    if connection.type not in TYPES:
        raise Refused(f"the connection '{name}' is of type {connection.type}, and not s3 or gcs")
    text = given["IMPORT_BUCKET_URI"]
    try:
        uri = parse_uri(text)
    except BadUri as error:
        raise Refused(f"IMPORT_BUCKET_URI: {error}") from None
    place = Place.of(connection)
    since = given.get("IMPORT_FROM_TIMESTAMP", "")
    return BucketSource(
        workspace=snapshot.workspace.id,
        database=snapshot.workspace.database,
        database_id=snapshot.workspace.database_id,
        name=datasource.name,
        connection=name,
        place=place,
        text=text,
        uri=uri,
        schedule=given.get("IMPORT_SCHEDULE", "") or ON_DEMAND,
        format=given.get("IMPORT_FORMAT", ""),
        since=moment(since) if since else None,
    )


def moment(text: str) -> datetime:
    """Of IMPORT_FROM_TIMESTAMP; without a time zone it is UTC. Raises Refused."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"IMPORT_FROM_TIMESTAMP '{text[:60]}' is no time such as 2026-01-31T00:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
