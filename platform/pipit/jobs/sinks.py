"""Sinks: the rows of a sink pipe's node into files of a bucket.

The node is read once, through the one way to read, into a table of its own, which is gone at the end. From there each
file is written by the engine and handed to the store, which shows it under its name only when it is whole. A job that
is run again writes files of the same names.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot
from pipit.connectors import Refused
from pipit.connectors.buckets.export import FORMATS, Export, export_of
from pipit.connectors.buckets.store import Store, StoreAway, StoreRefuses
from pipit.engine.client import Engine, Settings
from pipit.errors import BadRequest, NotFound, Reason, SqlError, Unavailable
from pipit.ingest.files.remote import AllowedHosts
from pipit.jobs.job import SINK, Job
from pipit.jobs.kinds import JobOutcome, Work, read_for
from pipit.query.disclosure import quietly
from pipit.query.nested import subquery, with_settings
from pipit.query.plan import Plan
from pipit.query.queries import sink_query
from pipit.query.read import Reader, Written
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string
from pipit.tables.scratch import logical, scratch_database

MOST_FILES = 10_000  # of a run
_SHOWN_FILES = 100  # in the job
_FILE, _NUMBER = "_pipit_parts", "_pipit_number"
_CSV: Settings = {"output_format_json_quote_64bit_integers": 0, "output_format_json_quote_denormals": 0}


class SinkJobs:
    """The job kind. A job's `options` are what its run has in the place of the node's EXPORT_ words."""

    name = SINK
    noun = "sink"
    lane = "sinks"
    alone = True

    def __init__(self, engine: Engine, reader: Reader, allowed: AllowedHosts) -> None:
        self._engine, self._reader, self._allowed = engine, reader, allowed

    async def prepare(self, snapshot: Snapshot, job: Job) -> Work:
        """Raises what is wrong with the parameters, the SQL, the connection or the names of files."""
        pipe, node = sink_node(snapshot, job.pipe)
        try:
            export = export_of(snapshot, node, job.options)
        except Refused as refused:
            raise BadRequest(f"'{pipe.name}' cannot be exported: {refused}", reason=Reason.CONNECTION_FAILED) from None
        made_at = job.made_at or job.created_at[: len("2026-01-01 00:00:00")]
        plan = await self._reader.prepare(
            read_for(snapshot, job, sink_query(pipe.name, node.name, job.parameters, job_timestamp=made_at))
        )
        suffix = f"_{datetime.fromisoformat(made_at):%Y%m%dT%H%M%S}_{job.id[:8]}"

        async def run() -> Written:
            return await self._run(snapshot, plan, export, suffix)

        return Work(run, repeatable=True)

    async def clear(self, job: Job) -> None:
        """It keeps nothing."""

    async def _run(self, snapshot: Snapshot, plan: Plan, export: Export, suffix: str) -> Written:
        async with scratch_database(self._engine) as database:
            columns = await self._make(snapshot, plan, export, database)
            rows = (await self._reader.write(plan, _Into(database, export))).rows
            table = f"{quote(database)}.rows"
            groups = await self._engine.rows(
                f"SELECT DISTINCT {_FILE} AS parts FROM {table} ORDER BY parts LIMIT {MOST_FILES + 1}"
            )
            if len(groups) > MOST_FILES:
                raise BadRequest(
                    f"The file template makes more than {MOST_FILES:,} files", reason=Reason.PARAMETER_INVALID
                )
            wanted = [tuple(map(str, group["parts"])) for group in groups]
            if not wanted and not export.has_places:
                wanted = [()]  # a file without rows
            names = {parts: export.name(parts, suffix) for parts in wanted}
            if len(set(names.values())) < len(names):
                raise BadRequest(
                    "Rows of different values would be in one file",
                    hint="Put another text between the places of the file template.",
                    reason=Reason.PARAMETER_INVALID,
                )
            size = await self._write_all(export, table, columns, names)
        shown = list(names.values())[:_SHOWN_FILES]
        result = {"service": export.place.kind, "bucket": export.bucket, "files": len(names), "file_names": shown}
        return JobOutcome(rows, size, result)

    async def _make(self, snapshot: Snapshot, plan: Plan, export: Export, database: str) -> list[str]:
        """The table that takes the rows. Its columns."""
        text = _Into(database, export).select(plan.composed.sql, plan.composed.settings)
        made = f"CREATE TABLE {quote(database)}.rows ENGINE = MergeTree ORDER BY ({_FILE}, {_NUMBER})"
        try:
            with quietly(plan.params):
                await self._engine.command(
                    f"{made} EMPTY AS {text}",
                    plan.params,
                    settings={"allow_suspicious_low_cardinality_types": 1},
                    database=snapshot.workspace.database,
                )
        except SqlError as error:
            raise BadRequest(
                "The rows of the sink cannot be written to files: "
                f"{logical(error.message, snapshot)[:300]}",
                hint="Does each place of the file template name a column of the sink's node?",
                reason=Reason.PARAMETER_INVALID,
            ) from None
        found = await self._engine.rows(
            "SELECT name FROM system.columns WHERE database = {database:String} AND table = 'rows' ORDER BY position",
            {"database": database},
        )
        return [str(row["name"]) for row in found if row["name"] not in (_FILE, _NUMBER)]

    async def _write_all(
        self, export: Export, table: str, columns: list[str], names: Mapping[tuple[str, ...], str]
    ) -> int:
        size = 0
        listed = ", ".join(map(quote, columns))
        settings = dict(_CSV)
        if export.format == "parquet":
            settings["output_format_parquet_compression_method"] = export.packing
        try:
            async with Store.opened(export.place, self._allowed) as store:
                for parts, key in names.items():
                    one = f"[{', '.join(map(quote_string, parts))}]" if parts else "emptyArrayString()"
                    sql = f"SELECT {listed} FROM {table} WHERE {_FILE} = {one} ORDER BY {_NUMBER}"
                    async with self._engine.stream(sql, settings=settings, format=FORMATS[export.format]) as chunks:
                        size += await store.upload(export.bucket, key, _packed(chunks, export))
        except StoreAway as error:
            raise Unavailable(f"The file cannot be written: {error}", retry_after=10) from None
        except StoreRefuses as error:
            raise BadRequest(f"The file cannot be written: {error}", reason=Reason.CONNECTION_FAILED) from None
        return size


@dataclass(frozen=True, slots=True)
class _Into:
    """The table of a run. It is the `Destination` of `Reader.write`."""

    database: str
    export: Export

    @property
    def settings(self) -> Settings:
        return {"max_insert_threads": 1}

    def insert(self, sql: str, settings: Mapping[str, str]) -> str:
        return f"INSERT INTO {quote(self.database)}.rows {self.select(sql, settings)}"

    def select(self, sql: str, settings: Mapping[str, str]) -> str:
        more = f"{self.export.parts} AS {_FILE}, rowNumberInAllBlocks() AS {_NUMBER}"
        return with_settings(f"SELECT *, {more} FROM {subquery(sql)}", settings)


async def _packed(chunks: AsyncIterator[bytes], export: Export) -> AsyncIterator[bytes]:
    if export.format == "parquet" or not export.packing:
        async for chunk in chunks:
            yield chunk
        return
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)  # with the head of gzip
    async for chunk in chunks:
        if packed := await asyncio.to_thread(packer.compress, chunk):
            yield packed
    yield packer.flush()


def sink_node(snapshot: Snapshot, name: str) -> tuple[CompiledPipe, CompiledNode]:
    """Raises NotFound, BadRequest."""
    pipe = snapshot.pipes.get(name)
    if pipe is None:
        raise NotFound(f"Pipe '{name[:200]}' not found", reason=Reason.PIPE_NOT_FOUND, subject=name)
    node = pipe.sink_node
    if node is None:
        raise BadRequest(
            f"'{pipe.name}' is not a sink", hint="Its node has to be of TYPE sink.", reason=Reason.NODE_NOT_FOUND
        )
    return pipe, node
