"""What a sink writes, and where: EXPORT_* words, checked once. Shows no secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipit.catalog.snapshot import CompiledNode, Snapshot
from pipit.connectors.buckets.place import TYPES, Place
from pipit.connectors.source import Refused
from pipit.datafiles.buckets import BadUri, split_uri
from pipit.datafiles.exports import COMPRESSIONS, BadTemplate, Part, parse_template
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string

FORMATS = {"csv": "CSVWithNames", "ndjson": "JSONEachRow", "parquet": "Parquet"}
OVERRIDES = ("connection", "path", "file_template", "format", "compression", "write_strategy")
_WORDS = {
    "connection": "EXPORT_CONNECTION_NAME",
    "path": "EXPORT_BUCKET_URI",
    "file_template": "EXPORT_FILE_TEMPLATE",
    "format": "EXPORT_FORMAT",
    "compression": "EXPORT_COMPRESSION",
    "write_strategy": "EXPORT_WRITE_STRATEGY",
}
_PARQUET_CODECS = {"": "zstd", "gz": "gzip"}


@dataclass(frozen=True, slots=True)
class Export:
    """`template`: of a file's name behind `prefix`. `packing`: of CSV and NDJSON gz, of Parquet its codec."""

    place: Place
    bucket: str
    prefix: str
    template: tuple[Part, ...]
    format: str
    packing: str
    new: bool

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(part.column for part in self.template if part.column)

    @property
    def has_places(self) -> bool:
        return any(not part.text for part in self.template)

    @property
    def parts(self) -> str:
        """SQL: an array of what stands in the places. No two values have the same text."""
        found = [_value(part) for part in self.template if not part.text]
        return f"[{', '.join(found)}]" if found else "emptyArrayString()"

    def name(self, parts: tuple[str, ...], suffix: str) -> str:
        """The key of the file with these in its places. `suffix`: of this run, where nothing is overwritten."""
        values = iter(parts)
        written = "".join(part.text or next(values) for part in self.template)
        ending = _ending(self.format, self.packing)
        for known in (ending, f".{self.format}"):
            written = written.removesuffix(known)
        return f"{self.prefix}{written}{suffix if self.new else ''}{ending}"


def export_of(snapshot: Snapshot, node: CompiledNode, asked: Mapping[str, str]) -> Export:
    """`asked`: what this run has in the place of the node's own words. Raises Refused."""
    given = {word: value for word, value in node.node.exports.items() if value}
    given |= {_WORDS[name]: value for name, value in asked.items() if value}
    for word, value in given.items():
        if "{{" in value:
            raise Refused(f"{word} needs a secret that is not there: set it, and deploy again")
    if given.get("EXPORT_KAFKA_TOPIC"):
        raise Refused("sinks to Kafka do not run in this version")
    name = given.get("EXPORT_CONNECTION_NAME", "")
    connection = snapshot.project.connections.get(name)
    if connection is None:
        raise Refused(f"there is no connection '{name[:80]}'")
    if connection.type not in TYPES:
        raise Refused(f"the connection '{name}' is of type {connection.type}, and not s3 or gcs")
    try:
        _, bucket, prefix = split_uri(given.get("EXPORT_BUCKET_URI", ""))
        template = parse_template(given.get("EXPORT_FILE_TEMPLATE", ""))
    except BadUri as error:
        raise Refused(f"the bucket's URI: {error}") from None
    except BadTemplate as error:
        raise Refused(f"the file template: {error}") from None
    format = given.get("EXPORT_FORMAT", "csv").lower()
    if format not in FORMATS:
        raise Refused(f"'{format[:40]}' is no format: {', '.join(FORMATS)}")
    packing = given.get("EXPORT_COMPRESSION", "").lower()
    packing = {"gzip": "gz"}.get(packing, packing)
    if packing not in ("", *COMPRESSIONS[format]):
        raise Refused(f"'{packing[:40]}' is no compression of {format}: {', '.join(COMPRESSIONS[format])}")
    strategy = (given.get("EXPORT_WRITE_STRATEGY") or given.get("EXPORT_STRATEGY") or "new").lower().lstrip("@")
    if strategy not in ("new", "truncate"):
        raise Refused(f"'{strategy[:40]}' is no write strategy: new, truncate")
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    packing = _PARQUET_CODECS.get(packing, packing) if format == "parquet" else packing.replace("none", "")
    return Export(Place.of(connection), bucket, prefix, template, format, packing, strategy == "new")


def _ending(format: str, packing: str) -> str:
    return f".{format}.{packing}" if packing and format != "parquet" else f".{format}"


def _value(part: Part) -> str:
    """Of a row, as it stands in a key. What could be read as another level, or as nothing, is written otherwise."""
    if part.files:
        return f"toString(rowNumberInAllBlocks() % {part.files} + 1)"
    column = quote(part.column)
    text = f"formatDateTime({column}, {quote_string(part.form)})" if part.form else f"toString({column})"
    text = f"ifNull(CAST({text}, 'Nullable(String)'), '\\0')"
    listed = "['\\0', '', '.', '..'], ['%null', '%empty', '%2E', '%2E%2E']"
    return f"transform({text}, {listed}, encodeURLComponent({text}))"
