"""Everything that a running server holds, put together once at start; routes take it from `request.app.state`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipit.access.authenticate import Authenticator
from pipit.access.limits import RateLimiter
from pipit.api.job_log import job_log
from pipit.api.read_log import ReadLog
from pipit.catalog.catalog import Catalog
from pipit.catalog.lease import only_server
from pipit.catalog.sealing import NO_SEALS, Seals
from pipit.deploy import Deployer
from pipit.deploy.populate import work_again
from pipit.deploy.services import ServiceTables
from pipit.engine import Engine, open_engine
from pipit.errors import Unavailable
from pipit.ingest import Ingest
from pipit.jobs import Jobs
from pipit.query.held import Store
from pipit.query.limits import Limits
from pipit.query.read import Reader

log = logging.getLogger("pipit.server")


@dataclass(frozen=True, slots=True)
class Config:
    """One server's settings; the CLI fills them from flags and PIPIT_* variables."""

    data_dir: Path
    admin_token: str
    clickhouse_url: str | None = None
    max_event_bytes: int = 10 * 1024 * 1024
    max_body_bytes: int = 10 * 1024 * 1024
    max_project_bytes: int = 64 * 1024 * 1024
    limits: Limits = field(default_factory=Limits)
    file_roots: tuple[Path, ...] = ()  # folders that rows may be loaded from besides the events' own
    # Writes a new admin token to where this one was found; None: it was given from outside and is changed there.
    keep_admin_token: Callable[[str], None] | None = None
    seals: Seals = NO_SEALS  # what the state's secrets are encrypted with


@dataclass(frozen=True, slots=True)
class Server:
    config: Config
    engine: Engine
    catalog: Catalog
    reader: Reader
    ingest: Ingest
    deployer: Deployer
    authenticator: Authenticator
    limiter: RateLimiter
    read_log: ReadLog
    jobs: Jobs


@asynccontextmanager
async def open_server(config: Config) -> AsyncIterator[Server]:
    """Starts or connects the engine, reads the state back, replays segments. Leaves nothing running.

    Raises Unavailable when the engine cannot be started or reached, Conflict when another server uses the same state.
    """
    config.data_dir.mkdir(parents=True, exist_ok=True)
    async with open_engine(
        config.data_dir, config.clickhouse_url, file_roots=config.file_roots
    ) as engine, only_server(engine):
        catalog = Catalog(
            engine, config.admin_token, keep_admin_token=config.keep_admin_token, seals=config.seals
        )
        await _load(catalog)
        ingest = Ingest(engine, config.data_dir)
        services = ServiceTables(engine)
        jobs = Jobs(
            engine,
            catalog,
            ingest,
            log_job=job_log(ingest, services),
            make_services=services.make,
            populates=work_again(engine, ingest),
        )
        deployer = Deployer(engine, catalog, ingest, jobs=jobs)
        await deployer.clean_up()
        await ingest.start()
        read_log = ReadLog(catalog, ingest, services)
        read_log.start()
        fetching = asyncio.create_task(catalog.credentials.fetched.run())
        try:
            await deployer.catch_up()
            await jobs.start()
            yield Server(
                config,
                engine,
                catalog,
                Reader(
                    engine,
                    config.limits,
                    store=Store(config.data_dir / "answers"),
                    sink=read_log.add,
                    make_services=services.make,
                ),
                ingest,
                deployer,
                Authenticator(),
                RateLimiter(),
                read_log,
                jobs,
            )
        finally:
            await jobs.close()
            fetching.cancel()
            await catalog.credentials.fetched.close()
            await read_log.close()
            await ingest.close()


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
