"""What operators watch, as Prometheus reads it: `GET /metrics`. `docs/running.md` lists the metrics.

Labels are names of the project and of Pipit: workspaces, data sources, pipes, kinds, statuses. Never a tenant's name, a
token, an environment (which may be one customer's), or a value of a request. Each set is bounded. A scrape asks the
engine nothing, so it answers while the engine is away.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pipit import __version__
from pipit.catalog.catalog import Catalog
from pipit.catalog.services import SERVICES, physical_name
from pipit.catalog.snapshot import Workspace
from pipit.connectors import Connectors
from pipit.engine import Engine
from pipit.ingest import Ingest
from pipit.ingest.counts import Happened
from pipit.jobs import Job, JobLog, Jobs
from pipit.jobs.job import DELETE
from pipit.query.log import AuditLog, ReadRecord
from pipit.tables import TableKey

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_MOST_PIPES = 500  # with series of their own; the others share one
_OTHER = "other"
_SERVICE_TABLES = {physical_name(service): service.name for service in SERVICES.values()}


@dataclass(slots=True)
class Metrics:
    """Counts reads and jobs as they end, on their way to the logs; all else is looked up when it is asked."""

    catalog: Catalog
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _workspaces: dict[str, str] = field(default_factory=dict)  # by database
    _pipes: set[tuple[str, str]] = field(default_factory=set)
    _reads: Counter = field(init=False)
    _seconds: Histogram = field(init=False)
    _rows: Counter = field(init=False)
    _bytes: Counter = field(init=False)
    _cache: Counter = field(init=False)
    _jobs: Counter = field(init=False)
    _job_rows: Counter = field(init=False)

    def __post_init__(self) -> None:
        by_pipe, registry = ("workspace", "pipe"), self.registry
        self._reads = Counter("pipit_reads", "Reads that ended.", (*by_pipe, "status"), registry=registry)
        self._seconds = Histogram(
            "pipit_read_duration_seconds", "How long reads took.", by_pipe, buckets=_SECONDS, registry=registry
        )
        self._rows = Counter("pipit_read_rows", "Rows that the engine read for them.", by_pipe, registry=registry)
        self._bytes = Counter("pipit_read_bytes", "Bytes that the engine read for them.", by_pipe, registry=registry)
        self._cache = Counter(
            "pipit_cached_reads",
            "Reads of pipes with cached responses: hit or miss.",
            (*by_pipe, "result"),
            registry=registry,
        )
        self._jobs = Counter("pipit_jobs", "Jobs that ended.", ("workspace", "kind", "status"), registry=registry)
        self._job_rows = Counter(
            "pipit_job_rows", "Rows that jobs put into tables.", ("workspace", "kind", "datasource"), registry=registry
        )
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def read(self, record: ReadRecord) -> None:
        pipe = self._pipe(record)
        self._reads.labels(*pipe, str(record.status_code)).inc()
        self._seconds.labels(*pipe).observe(record.duration)
        if record.read_rows:
            self._rows.labels(*pipe).inc(record.read_rows)
            self._bytes.labels(*pipe).inc(record.read_bytes)
        if record.cached:
            self._cache.labels(*pipe, record.cached).inc()

    def job(self, workspace: Workspace, job: Job) -> None:
        self._jobs.labels(workspace.name, job.kind, job.status).inc()
        if job.rows and job.kind != DELETE:
            self._job_rows.labels(workspace.name, job.kind, job.datasource).inc(job.rows)

    def shown(self, accept: str) -> tuple[bytes, str]:
        """The text, and its media type."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type

    def _pipe(self, record: ReadRecord) -> tuple[str, str]:
        """Workspace and pipe; what does not exist has no name here."""
        workspace = self._workspaces.get(record.database)
        if workspace is None:
            self._workspaces = names(self.catalog)
            workspace = self._workspaces.get(record.database, _OTHER)
        label = workspace, record.pipe_name if record.pipe_id else _OTHER
        if label not in self._pipes:
            if len(self._pipes) >= _MOST_PIPES:
                return workspace, _OTHER
            self._pipes.add(label)
        return label


def names(catalog: Catalog) -> dict[str, str]:
    """Of the workspaces, by database."""
    return {snapshot.workspace.database: snapshot.workspace.name for snapshot in catalog.everywhere}


class ObservedReads:
    """The audit log, with the metrics before it."""

    def __init__(self, metrics: Metrics, audit_log: AuditLog) -> None:
        self._metrics = metrics
        self._audit_log = audit_log

    def add(self, record: ReadRecord) -> None:
        self._metrics.read(record)
        self._audit_log.add(record)


class ObservedJobs:
    """The jobs' log, with the metrics before it."""

    def __init__(self, metrics: Metrics, job_log: JobLog) -> None:
        self._metrics = metrics
        self._job_log = job_log

    async def write(self, workspace: Workspace, job: Job) -> None:
        self._metrics.job(workspace, job)
        await self._job_log.write(workspace, job)


@dataclass(eq=False, slots=True)
class StateCollector(Collector):
    """What is so now, and what ingestion has counted, by data source."""

    catalog: Catalog
    engine: Engine
    ingest: Ingest
    jobs: Jobs
    connectors: Connectors
    data_dir: str
    _totals: dict[tuple[str, str], Happened] = field(default_factory=dict)

    def collect(self) -> Iterable[Metric]:
        yield _gauge("pipit_build_info", "Always 1.", {"version": __version__}, 1)
        yield _gauge("pipit_engine_up", "Whether the engine answers.", {}, float(self.engine.available))
        yield _counter("pipit_engine_restarts", "Starts of the built-in engine after the first.", self.engine.restarts)
        yield _gauge(
            "pipit_disk_refuses_events", "Whether the disk took no events the last time.", {}, bool(self._refuses)
        )
        yield from self._disk()
        yield from self._ingestion()
        yield from self._jobs()
        yield from self._topics()

    @property
    def _refuses(self) -> str:
        return self.ingest.disk_refuses

    def _disk(self) -> Iterator[Metric]:
        try:
            found = os.statvfs(self.data_dir)
        except OSError:
            return
        free = found.f_bavail * found.f_frsize
        yield _gauge("pipit_disk_free_bytes", "Free for Pipit on the disk of the data directory.", {}, free)
        yield _gauge("pipit_disk_bytes", "The size of that disk.", {}, found.f_blocks * found.f_frsize)

    def _ingestion(self) -> Iterator[Metric]:
        named = self._tables()
        for key, happened in self.ingest.counts.take().items():
            total = self._totals.setdefault(named.get(key, (_OTHER, _OTHER)), Happened())
            for part in Happened.__slots__:
                setattr(total, part, getattr(total, part) + getattr(happened, part))
        for part, name, text in _INGESTED:
            family = CounterMetricFamily(name, text, labels=_BY_SOURCE)
            for label, total in self._totals.items():
                family.add_metric(label, getattr(total, part))
            yield family
        waiting: dict[tuple[str, str], list[int]] = {}
        for key in self.ingest.tables:
            pending = self.ingest.pending(*key)
            sums = waiting.setdefault(named.get(key, (_OTHER, _OTHER)), [0, 0, 0])
            for place, number in enumerate((pending.rows, pending.bytes, pending.segments)):
                sums[place] += number
        for place, (name, text) in enumerate(_PENDING):
            gauge = GaugeMetricFamily(name, text, labels=_BY_SOURCE)
            for label, sums in waiting.items():
                gauge.add_metric(label, sums[place])
            yield gauge

    def _tables(self) -> dict[TableKey, tuple[str, str]]:
        """Workspace and data source of each table, also of those of a deployment that is kept, or waits."""
        found: dict[TableKey, tuple[str, str]] = {}
        for snapshot in self.catalog.everywhere:
            workspace = snapshot.workspace
            kept = self.catalog.kept(workspace.id, workspace.environment)
            for one in (*kept, snapshot):
                for table in one.tables.values():
                    found[table.key] = workspace.name, table.name
            for physical, name in _SERVICE_TABLES.items():
                found[workspace.database, physical] = workspace.name, name
        return found

    def _jobs(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("pipit_jobs_open", "Jobs that wait or work.", labels=("kind", "status"))
        for (kind, status), number in sorted(self.jobs.open_counts().items()):
            family.add_metric((kind, status), number)
        yield family

    def _topics(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily("pipit_kafka_lag", "Records that a topic has and its table lacks.", labels=_BY_SOURCE)
        up = GaugeMetricFamily("pipit_kafka_reading", "Whether a topic is being read.", labels=_BY_SOURCE)
        for snapshot in self.catalog.snapshots.values():
            for name, table in snapshot.tables.items():
                status = self.connectors.status(snapshot, name) if table.datasource.kafka else None
                if status is not None:
                    label = snapshot.workspace.name, name
                    lag.add_metric(label, status.lag)
                    up.add_metric(label, float(status.state == "reading"))
        yield from (lag, up)


_BY_SOURCE = ("workspace", "datasource")
_INGESTED = (
    ("requests", "pipit_ingest_requests", "Requests with events that were acknowledged."),
    ("rows", "pipit_ingest_rows", "Events that were acknowledged."),
    ("bytes", "pipit_ingest_bytes", "Their bytes, unpacked."),
    ("inserts", "pipit_ingest_inserts", "Inserts of events and of records of topics."),
    ("inserted", "pipit_ingest_inserted_rows", "Rows that these put into the table."),
    ("quarantined", "pipit_ingest_quarantined_rows", "Rows that these put into the quarantine."),
    ("failures", "pipit_ingest_failures", "Attempts to insert that failed and are made again."),
)
_PENDING = (
    ("pipit_ingest_pending_rows", "Acknowledged events that are not in the table yet."),
    ("pipit_ingest_pending_bytes", "Their bytes on the disk."),
    ("pipit_ingest_pending_segments", "The files that they are in."),
)


def _gauge(name: str, text: str, labels: dict[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(name, text, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), value)
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)
