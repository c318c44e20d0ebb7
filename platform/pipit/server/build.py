"""Everything that a running server holds, put together once at start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from pipit.access.authenticate import Authenticator
from pipit.access.limits import RateLimiter
from pipit.catalog.catalog import Catalog
from pipit.catalog.lease import only_server
from pipit.connectors import Connectors, OpsLog
from pipit.connectors.buckets.reader import Means
from pipit.deploy import Deployer
from pipit.deploy.append_check import AppendCheck
from pipit.deploy.routes import needs_of_table
from pipit.engine import Engine, open_engine
from pipit.errors import Unavailable
from pipit.ingest import Ingest
from pipit.ingest.files.store import FileStore
from pipit.jobs import JobKind, Jobs
from pipit.jobs.copies import CopyJobs
from pipit.jobs.deletes import DeleteJobs
from pipit.jobs.kept import KeptTables
from pipit.jobs.loads import LoadJobs
from pipit.jobs.populates import PopulateJobs
from pipit.jobs.replays import ReplayJobs
from pipit.jobs.sinks import SinkJobs
from pipit.jobs.syncs import SyncJobs
from pipit.query.cache import Cache
from pipit.query.held import Store
from pipit.query.read import Reader
from pipit.server.config import Config
from pipit.server.job_log import TableJobLog
from pipit.server.metrics import Metrics, ObservedJobs, ObservedReads, StateCollector
from pipit.server.operations_log import OperationsLog
from pipit.server.read_log import ReadLog
from pipit.tables import Locks
from pipit.tables.services import ServiceTables

log = logging.getLogger("pipit.server")

_EXPIRE_SECONDS = 600.0
_BATCHES_AT_ONCE = 2  # of all buckets


@dataclass(frozen=True, slots=True)
class Server:
    config: Config
    engine: Engine
    catalog: Catalog
    reader: Reader
    locks: Locks
    ingest: Ingest
    deployer: Deployer
    authenticator: Authenticator
    limiter: RateLimiter
    read_log: ReadLog
    jobs: Jobs
    files: FileStore
    operations: OperationsLog
    connectors: Connectors
    metrics: Metrics


@asynccontextmanager
async def open_server(config: Config) -> AsyncIterator[Server]:
    """Starts or connects the engine, and a server on it. Leaves nothing running.

    Raises Unavailable when the engine cannot be started or reached, Conflict when another server uses the same state.
    """
    config.data_dir.mkdir(parents=True, exist_ok=True)
    opening = open_engine(config.data_dir, config.clickhouse_url, file_roots=config.file_roots)
    async with opening as engine, only_server(engine), running(config, engine) as server:
        yield server


@asynccontextmanager
async def running(config: Config, engine: Engine) -> AsyncIterator[Server]:
    """A server on an engine that is open: reads the state back, replays segments, starts what runs in the background.

    No other server may use the engine's state.
    """
    catalog = Catalog(engine, config.admin_token, keep_admin_token=config.keep_admin_token, seals=config.seals)
    await _load(catalog)
    locks = Locks()
    ingest = Ingest(engine, config.data_dir, locks)
    tables = ServiceTables(engine)
    read_log = ReadLog(catalog, ingest, tables)
    metrics = Metrics(catalog)
    reader = Reader(
        engine,
        config.limits,
        store=Store(config.data_dir / "answers"),
        cache=Cache(clock=config.cache_clock),
        audit_log=ObservedReads(metrics, read_log) if config.background else None,
        service_tables=tables,
    )
    files = FileStore(config.data_dir / "files")
    operations = OperationsLog(ingest, tables)
    kept = KeptTables(catalog, locks, ingest)
    needs = partial(needs_of_table, AppendCheck(engine))
    buckets = Means(
        catalog,
        lambda store: LoadJobs(engine, kept, store, config.urls, config.max_file_bytes, needs),
        config.data_dir / "segments" / "buckets",
        config.urls,
        operations,
        asyncio.Semaphore(_BATCHES_AT_ONCE),
        config.max_file_bytes,
        config.bucket_poll_seconds,
    )
    connectors = Connectors(catalog, ingest, OpsLog(ingest, tables), config.data_dir, buckets=buckets)
    kinds = job_kinds(engine, catalog, locks, ingest, reader, files, config, connectors)
    jobs = Jobs(catalog, kinds, job_log=ObservedJobs(metrics, TableJobLog(ingest, tables, operations)))
    keeps = config.keep_previous_hours > 0
    deployer = Deployer(
        engine, catalog, ingest, locks, jobs=jobs, keep_previous=keeps, reads=lambda: reader.begun
    )
    await deployer.clean_up()
    async with AsyncExitStack() as stack:  # ends in the other order: jobs first, ingest last
        await ingest.start(await deployer.generations())
        stack.push_async_callback(ingest.close)
        stack.push_async_callback(read_log.close)
        stack.push_async_callback(catalog.credentials.fetched.close)
        if config.background:
            read_log.start()
            fetching = asyncio.create_task(catalog.credentials.fetched.run())
            stack.callback(fetching.cancel)
        stack.push_async_callback(connectors.close)
        stack.push_async_callback(jobs.close)
        stack.push_async_callback(deployer.close)
        await deployer.catch_up()
        await deployer.resume()
        if config.connectors:
            await connectors.start()
        if config.background:
            await jobs.start()
            await asyncio.to_thread(files.clear, jobs.open_ids)
            expiring = asyncio.create_task(_expire(deployer, config.keep_previous_hours * 3600))
            stack.callback(expiring.cancel)
        metrics.registry.register(StateCollector(catalog, engine, ingest, jobs, connectors, str(config.data_dir)))
        yield Server(
            config,
            engine,
            catalog,
            reader,
            locks,
            ingest,
            deployer,
            Authenticator(),
            RateLimiter(),
            read_log,
            jobs,
            files,
            operations,
            connectors,
            metrics,
        )


async def _expire(deployer: Deployer, seconds: float) -> None:
    while True:
        try:
            await deployer.expire(seconds)
        except Exception:  # what it is must not end it: the next time it may work
            log.exception("previous deployments cannot be looked at")
        await asyncio.sleep(_EXPIRE_SECONDS)


def job_kinds(
    engine: Engine,
    catalog: Catalog,
    locks: Locks,
    ingest: Ingest,
    reader: Reader,
    files: FileStore,
    config: Config,
    connectors: Connectors,
) -> tuple[JobKind, ...]:
    """What jobs can be."""
    kept = KeptTables(catalog, locks, ingest)
    needs = partial(needs_of_table, AppendCheck(engine))
    return (
        CopyJobs(engine, locks, reader),
        PopulateJobs(engine, locks, reader),
        LoadJobs(engine, kept, files, config.urls, config.max_file_bytes, needs),
        DeleteJobs(engine, kept),
        ReplayJobs(engine, kept, config.data_dir / "files"),
        SyncJobs(connectors),
        SinkJobs(engine, reader, config.urls),
    )


async def _load(catalog: Catalog) -> None:
    """An engine that has just started may still refuse; a server far away may blink."""
    for attempt in range(20):
        try:
            await catalog.load()
            return
        except Unavailable:
            if attempt == 19:
                raise
            await asyncio.sleep(0.5)
