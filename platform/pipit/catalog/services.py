"""The service data sources: tables about the workspace, which Pipit fills and its SQL reads as `tinybird.<name>`.

Each database (a workspace's own, or an environment's) has its own copy of them, so what stands in one is of that
workspace and environment alone. They are no resources of a project: no deploy makes, changes or drops them. A row
tells of all tenants of its workspace, so who may read them is decided in one place, `query.secure`. Columns, types,
keys and lifetimes are Tinybird's, and ours at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipit.datafiles import parse_datasource
from pipit.datafiles.resources import DataSource

DATABASE = "tinybird"  # as SQL names it; no workspace and no resource can be called so
_PREFIX = "s1_"  # of the physical tables; nothing of a project begins with it

_PIPE_STATS_RT = """
DESCRIPTION One row for each read: endpoints by their pipe, /v0/sql as `query_api`

SCHEMA >
    start_datetime DateTime `json:$.start_datetime`,
    pipe_id String `json:$.pipe_id`,
    pipe_name String `json:$.pipe_name`,
    token String `json:$.token`,
    token_name String `json:$.token_name`,
    duration Float32 `json:$.duration`,
    read_bytes UInt64 `json:$.read_bytes`,
    read_rows UInt64 `json:$.read_rows`,
    cpu_time Float32 `json:$.cpu_time`,
    result_rows UInt64 `json:$.result_rows`,
    url Nullable(String) `json:$.url`,
    error UInt8 `json:$.error`,
    error_message Nullable(String) `json:$.error_message`,
    status_code Int32 `json:$.status_code`,
    request_id String `json:$.request_id`,
    parameters Map(String, String) `json:$.parameters`,
    method String `json:$.method`,
    release String `json:$.release`,
    user_agent Nullable(String) `json:$.user_agent`,
    client_ip Nullable(String) `json:$.client_ip`,
    resource_tags Array(String) `json:$.resource_tags[:]`,
    memory_usage UInt64 `json:$.memory_usage`,
    replica String `json:$.replica`,
    security_context String `json:$.security_context`,
    environment String `json:$.environment`

ENGINE MergeTree
ENGINE_PARTITION_KEY toYYYYMM(start_datetime)
ENGINE_SORTING_KEY pipe_id, start_datetime
ENGINE_TTL start_datetime + toIntervalMonth(3)
"""

_PIPE_STATS = """
DESCRIPTION What pipe_stats_rt has, by day and pipe

SCHEMA >
    date Date,
    pipe_id String,
    pipe_name String,
    avg_duration_state AggregateFunction(avg, Float32),
    error_count UInt64,
    view_count UInt64,
    quantile_timing_state AggregateFunction(quantilesTiming(0.9, 0.95, 0.99), Float64),
    read_bytes_sum UInt64,
    read_rows_sum UInt64,
    cpu_time_sum Float64,
    resource_tags Array(String)

ENGINE SummingMergeTree
ENGINE_SORTING_KEY pipe_id, date
"""

_ENDPOINT_ERRORS = """
DESCRIPTION One row for each read that failed

SCHEMA >
    start_datetime DateTime `json:$.start_datetime`,
    request_id String `json:$.request_id`,
    pipe_id String `json:$.pipe_id`,
    pipe_name String `json:$.pipe_name`,
    params String `json:$.params`,
    url String `json:$.url`,
    status_code Int32 `json:$.status_code`,
    error Nullable(String) `json:$.error`,
    resource_tags Array(String) `json:$.resource_tags[:]`,
    security_context String `json:$.security_context`,
    environment String `json:$.environment`

ENGINE MergeTree
ENGINE_PARTITION_KEY toYYYYMM(start_datetime)
ENGINE_SORTING_KEY start_datetime
ENGINE_TTL start_datetime + toIntervalDay(30)
"""


_JOBS_LOG = """
DESCRIPTION One row for each job that has ended

SCHEMA >
    job_id String `json:$.job_id`,
    job_type String `json:$.job_type`,
    status String `json:$.status`,
    error Nullable(String) `json:$.error`,
    workspace_id String `json:$.workspace_id`,
    request_id String `json:$.request_id`,
    pipe_id Nullable(String) `json:$.pipe_id`,
    datasource_id Nullable(String) `json:$.datasource_id`,
    created_at DateTime64(3) `json:$.created_at`,
    started_at Nullable(DateTime64(3)) `json:$.started_at`,
    updated_at DateTime64(3) `json:$.updated_at`,
    job_metadata String `json:$.job_metadata`

ENGINE MergeTree
ENGINE_PARTITION_KEY toYYYYMM(created_at)
ENGINE_SORTING_KEY created_at, job_id
ENGINE_TTL toDateTime(created_at) + toIntervalMonth(3)
"""

_KAFKA_OPS_LOG = """
DESCRIPTION How topics are read: each partition every ten seconds while records come, and what goes wrong

SCHEMA >
    timestamp DateTime `json:$.timestamp`,
    datasource_id String `json:$.datasource_id`,
    topic String `json:$.topic`,
    partition Int16 `json:$.partition`,
    msg_type String `json:$.msg_type`,
    lag Int64 `json:$.lag`,
    processed_messages Int32 `json:$.processed_messages`,
    processed_bytes Int64 `json:$.processed_bytes`,
    committed_messages Int32 `json:$.committed_messages`,
    time_read Float32 `json:$.time_read`,
    time_process Float32 `json:$.time_process`,
    time_write Float32 `json:$.time_write`,
    msg String `json:$.msg`

ENGINE MergeTree
ENGINE_PARTITION_KEY toYYYYMM(timestamp)
ENGINE_SORTING_KEY datasource_id, topic, timestamp
ENGINE_TTL timestamp + toIntervalDay(30)
"""


_DATASOURCES_OPS_LOG = """
DESCRIPTION One row for each load of a file, copy, populate, delete and truncate of a data source

SCHEMA >
    timestamp DateTime `json:$.timestamp`,
    event_type String `json:$.event_type`,
    datasource_id String `json:$.datasource_id`,
    datasource_name String `json:$.datasource_name`,
    result String `json:$.result`,
    elapsed_time Float32 `json:$.elapsed_time`,
    error Nullable(String) `json:$.error`,
    `Options.Names` Array(String) `json:$.options_names[:]`,
    `Options.Values` Array(String) `json:$.options_values[:]`,
    request_id String `json:$.request_id`,
    import_id Nullable(String) `json:$.import_id`,
    job_id Nullable(String) `json:$.job_id`,
    rows Nullable(UInt64) `json:$.rows`,
    rows_quarantine Nullable(UInt64) `json:$.rows_quarantine`,
    blocks_ids Array(String) `json:$.blocks_ids[:]`,
    operation_id String `json:$.operation_id`,
    read_rows UInt64 `json:$.read_rows`,
    read_bytes UInt64 `json:$.read_bytes`,
    cpu_time Float32 `json:$.cpu_time`,
    memory_usage UInt64 `json:$.memory_usage`,
    written_rows UInt64 `json:$.written_rows`,
    written_bytes UInt64 `json:$.written_bytes`,
    written_rows_quarantine UInt64 `json:$.written_rows_quarantine`,
    written_bytes_quarantine UInt64 `json:$.written_bytes_quarantine`,
    pipe_id String `json:$.pipe_id`,
    pipe_name String `json:$.pipe_name`,
    release String `json:$.release`,
    resource_tags Array(String) `json:$.resource_tags[:]`

ENGINE MergeTree
ENGINE_PARTITION_KEY toYYYYMM(timestamp)
ENGINE_SORTING_KEY datasource_id, timestamp
ENGINE_TTL timestamp + toIntervalMonth(3)
"""


_SINKS_OPS_LOG = """
DESCRIPTION One row for each run of a sink that has ended

SCHEMA >
    timestamp DateTime64(3) `json:$.timestamp`,
    job_id String `json:$.job_id`,
    service String `json:$.service`,
    pipe_name String `json:$.pipe_name`,
    pipe_id String `json:$.pipe_id`,
    result String `json:$.result`,
    error Nullable(String) `json:$.error`,
    elapsed_time Float32 `json:$.elapsed_time`,
    read_rows UInt64 `json:$.read_rows`,
    read_bytes UInt64 `json:$.read_bytes`,
    written_rows UInt64 `json:$.written_rows`,
    written_bytes UInt64 `json:$.written_bytes`,
    cpu_time Float32 `json:$.cpu_time`,
    output Array(String) `json:$.output[:]`,
    parameters Map(String, String) `json:$.parameters`,
    options Map(String, String) `json:$.options`,
    token_name String `json:$.token_name`

ENGINE MergeTree
ENGINE_PARTITION_KEY toYYYYMM(timestamp)
ENGINE_SORTING_KEY pipe_id, timestamp
ENGINE_TTL toDateTime(timestamp) + toIntervalMonth(3)
"""


def _service(name: str, text: str) -> DataSource:
    parsed = parse_datasource(text, file=f"{DATABASE}/{name}.datasource")
    return replace(parsed, name=f"{DATABASE}.{name}")


PIPE_STATS_RT = _service("pipe_stats_rt", _PIPE_STATS_RT)
PIPE_STATS = _service("pipe_stats", _PIPE_STATS)
ENDPOINT_ERRORS = _service("endpoint_errors", _ENDPOINT_ERRORS)
JOBS_LOG = _service("jobs_log", _JOBS_LOG)
KAFKA_OPS_LOG = _service("kafka_ops_log", _KAFKA_OPS_LOG)
DATASOURCES_OPS_LOG = _service("datasources_ops_log", _DATASOURCES_OPS_LOG)
SINKS_OPS_LOG = _service("sinks_ops_log", _SINKS_OPS_LOG)

# By the name that SQL and scopes have for them; with its dot it is no name of a resource.
SERVICES: Mapping[str, DataSource] = {
    s.name: s
    for s in (
        PIPE_STATS_RT,
        PIPE_STATS,
        ENDPOINT_ERRORS,
        JOBS_LOG,
        KAFKA_OPS_LOG,
        DATASOURCES_OPS_LOG,
        SINKS_OPS_LOG,
    )
}

# Those that are views over others: what they select, by the table that they read. `{table}` is its place.
COMPUTED: Mapping[str, tuple[DataSource, str]] = {
    PIPE_STATS.name: (
        PIPE_STATS_RT,
        "SELECT toDate(start_datetime) AS date, pipe_id, pipe_name, avgState(duration) AS avg_duration_state, "
        "countIf(error != 0) AS error_count, count() AS view_count, "
        "quantilesTimingState(0.9, 0.95, 0.99)(toFloat64(duration)) AS quantile_timing_state, "
        "sum(read_bytes) AS read_bytes_sum, sum(read_rows) AS read_rows_sum, sum(toFloat64(cpu_time)) AS cpu_time_sum, "
        "resource_tags FROM {table} GROUP BY date, pipe_id, pipe_name, resource_tags",
    )
}


def physical_name(service: DataSource) -> str:
    return _PREFIX + service.name.removeprefix(f"{DATABASE}.")


def quarantine_name(service: DataSource) -> str:
    """Every table that events are written to has one; what Pipit writes itself should never get there."""
    return f"{physical_name(service)}__quarantine"
