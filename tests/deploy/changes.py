"""Every kind of change of a project, each with what a deploy makes of it: on empty tables, and on tables with rows.

`BASE` is what is live. A change is files that are other files then; None: the file is gone. What is expected is the
plan's operations in order, or the reasons for which it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Files = Mapping[str, "str | None"]

EVENTS = """\
DESCRIPTION What happened
TOKEN ingest APPEND
TAGS "one"

SCHEMA >
    `at` DateTime `json:$.at`,
    `customer_id` String `json:$.customer_id`,
    `kind` LowCardinality(String) `json:$.kind` DEFAULT 'none',
    `amount` Int64 `json:$.amount` CODEC(ZSTD(1))

INDEXES >
    by_amount amount TYPE minmax GRANULARITY 1

ENGINE MergeTree
ENGINE_PARTITION_KEY toYYYYMM(at)
ENGINE_PRIMARY_KEY customer_id
ENGINE_SORTING_KEY customer_id, cityHash64(customer_id)
ENGINE_SAMPLING_KEY cityHash64(customer_id)
ENGINE_TTL at + INTERVAL 90 YEAR
ENGINE_SETTINGS index_granularity=1024

ROW_POLICY customer_id = {{String(context.customer_id)}} {% if defined(context.kind) %} AND kind = {{String(context.kind)}} {% end %}
ROW_POLICY_OPTIONAL kind
"""
EVENTS = EVENTS.replace("ENGINE_PRIMARY_KEY customer_id\n", "ENGINE_PRIMARY_KEY customer_id, cityHash64(customer_id)\n")
DAILY = """\
SCHEMA >
    day Date,
    customer_id String,
    total SimpleAggregateFunction(sum, Int64)

ENGINE AggregatingMergeTree
ENGINE_SORTING_KEY customer_id, day

ROW_POLICY customer_id = {{String(context.customer_id)}}
"""
TO_DAILY = """\
NODE roll
SQL >
    SELECT toDate(at) AS day, customer_id, sum(amount) AS total FROM events GROUP BY day, customer_id

TYPE materialized
DATASOURCE daily
"""
TO_MONTHLY = """\
NODE roll
SQL >
    SELECT toStartOfMonth(day) AS day, customer_id, sum(total) AS total FROM daily GROUP BY day, customer_id

TYPE materialized
DATASOURCE monthly
"""
ENDPOINT = """\
NODE endpoint
SQL >
    %
    SELECT customer_id, amount FROM events LIMIT {{Int32(limit, 10)}}

TYPE endpoint
"""
COPY = """\
NODE picture
SQL >
    SELECT toDate(at) AS day, customer_id, sum(amount) AS total FROM events GROUP BY day, customer_id

TYPE copy
TARGET_DATASOURCE pictures
COPY_SCHEDULE @on-demand
"""
SINK = """\
NODE out
SQL >
    SELECT customer_id, amount FROM events

TYPE sink
EXPORT_CONNECTION_NAME store
EXPORT_BUCKET_URI s3://bucket/out
EXPORT_FILE_TEMPLATE out
EXPORT_SCHEDULE @on-demand
EXPORT_FORMAT csv
"""
STORE = "TYPE s3\nS3_REGION us-east-1\nS3_ARN arn:aws:iam::123456789012:role/r\n"


def merging(engine: str) -> str:
    return (
        "SCHEMA >\n    id UInt64 `json:$.id`,\n    v UInt64 `json:$.v`,\n    w UInt64 `json:$.w`,\n"
        "    s Int8 `json:$.s`,\n    t Int8 `json:$.t`,\n    d UInt8 `json:$.d`,\n    e UInt8 `json:$.e`\n\n"
        f"ENGINE {engine}\nENGINE_SORTING_KEY id\n"
    )


REPLACING = merging("ReplacingMergeTree") + "ENGINE_VER v\nENGINE_IS_DELETED d\n"
SUMMING = merging("SummingMergeTree") + "ENGINE_COLUMNS v\n"
COLLAPSING = merging("CollapsingMergeTree") + "ENGINE_SIGN s\n"
VERSIONED = merging("VersionedCollapsingMergeTree") + "ENGINE_SIGN s\nENGINE_VERSION v\n"

_EVENTS, _DAILY, _MONTHLY = (f"datasources/{name}.datasource" for name in ("events", "daily", "monthly"))
_TO_DAILY, _TO_MONTHLY = "materializations/to_daily.pipe", "materializations/to_monthly.pipe"
_LATEST, _COPY, _SINK, _STORE = (
    "endpoints/latest.pipe",
    "copies/copy.pipe",
    "sinks/sink.pipe",
    "connections/store.connection",
)

BASE: dict[str, str] = {
    _EVENTS: EVENTS,
    _DAILY: DAILY,
    _MONTHLY: DAILY,
    _TO_DAILY: TO_DAILY,
    _TO_MONTHLY: TO_MONTHLY,
    _LATEST: ENDPOINT,
    "datasources/pictures.datasource": DAILY,
    _COPY: COPY,
    _STORE: STORE,
    _SINK: SINK,
    "datasources/replacing.datasource": REPLACING,
    "datasources/summing.datasource": SUMMING,
    "datasources/collapsing.datasource": COLLAPSING,
    "datasources/versioned.datasource": VERSIONED,
}


# Enough for changes that make or drop objects: fewer tables to make for each of them.
_ONLY_FOR_TEXTS = {_SINK, _STORE}
LEAN = {path: text for path, text in BASE.items() if path not in _ONLY_FOR_TEXTS}


@dataclass(frozen=True)
class Change:
    """`empty` and `rows`: what is expected there. `rows` "": the same."""

    files: Files
    empty: str
    rows: str = ""
    options: Mapping[str, bool] = field(default_factory=dict)

    def project(self, base: Mapping[str, str] = BASE) -> dict[str, str]:
        """All files, once `base` is changed."""
        changed = {**base, **self.files}
        return {path: text for path, text in changed.items() if text is not None}

    def expected(self, *, rows: bool) -> list[str]:
        found = self.rows if rows and self.rows else self.empty
        return [part.strip() for part in found.split(";")]


def events(old: str, new: str, expected: str) -> Change:
    assert EVENTS.count(old) == 1, old
    return Change({_EVENTS: EVENTS.replace(old, new)}, expected)


def column(line: str, expected: str) -> Change:
    return events("    `amount` Int64", f"    {line},\n    `amount` Int64", expected)


def other(name: str, old: str, new: str, expected: str = "") -> Change:
    path = f"datasources/{name}.datasource"
    expected = expected or f"rebuild {name} cast; go_live"
    assert BASE[path].count(old) == 1, old
    return Change({path: BASE[path].replace(old, new)}, expected)


def pipe(path: str, old: str, new: str, empty: str, rows: str = "") -> Change:
    assert BASE[path].count(old) == 1, old
    return Change({path: BASE[path].replace(old, new)}, empty, rows)


_VIEWS = "create_view to_daily.roll rebuilt; create_view to_monthly.roll rebuilt"
REBUILD = f"{_VIEWS}; rebuild events cast; rebuild daily copy; rebuild monthly copy; go_live"
WEEKLY = {
    "datasources/weekly.datasource": DAILY,
    "materializations/to_weekly.pipe": TO_DAILY.replace("DATASOURCE daily", "DATASOURCE weekly"),
}
YEARLY = {
    "datasources/yearly.datasource": DAILY,
    "materializations/to_yearly.pipe": TO_MONTHLY.replace("FROM daily", "FROM weekly").replace("monthly", "yearly"),
}
SKIP = DAILY + "\nBACKFILL skip\n"
SECOND_VIEW = {"materializations/more.pipe": TO_DAILY.replace("NODE roll", "NODE more")}

CHANGES: dict[str, Change] = {
    # --- a data source's directives
    "nothing": Change({}, "no changes"),
    "other words": events("INTERVAL 90 YEAR", "toIntervalYear(90)", "no changes"),
    "DESCRIPTION": events("What happened", "What went on", "go_live"),
    "TOKEN": events("TOKEN ingest APPEND", "TOKEN other APPEND", "go_live"),
    "TAGS": events('"one"', '"two"', "go_live"),
    "a Nullable column": column("`note` Nullable(String) `json:$.note`", "add_column events.note; go_live"),
    "a column with a DEFAULT": column("`n` Int8 `json:$.n` DEFAULT 1", "add_column events.n; go_live"),
    "two columns": column(
        "`a` Nullable(Int8) `json:$.a`,\n    `b` Nullable(Int8) `json:$.b`",
        "add_column events.a; add_column events.b; go_live",
    ),
    "a column before all others": events(
        "    `at` DateTime", "    `n` Nullable(Int8) `json:$.n`,\n    `at` DateTime", "add_column events.n; go_live"
    ),
    "a column with all that it may have": column(
        "`tags` Array(LowCardinality(String)) `json:$.tags[:]` DEFAULT ['x', kind] CODEC(ZSTD(3))",
        "add_column events.tags; go_live",
    ),
    "a column of aggregate states": Change(
        {_DAILY: DAILY.replace("    total", "    n AggregateFunction(uniq, String),\n    total")},
        "add_column daily.n; go_live",
    ),
    "a column without a value": Change(
        {_EVENTS: EVENTS.replace("    `amount` Int64", "    `note` String `json:$.note`,\n    `amount` Int64")},
        "add_column events.note; go_live",
        "refused: no_value_for_rows",
    ),
    "a column whose DEFAULT does not fit": column("`n` Int8 `json:$.n` DEFAULT 300", "refused: datafile_invalid"),
    "a column of an unknown type": Change(
        {_EVENTS: EVENTS.replace("    `amount` Int64", "    `n` Strnig `json:$.n`,\n    `amount` Int64")},
        "refused: datafile_invalid",
        "refused: no_value_for_rows, datafile_invalid",
    ),
    "a column that goes": other("replacing", "    w UInt64 `json:$.w`,\n", "", "refused: deletes_column"),
    "a column that goes, as allowed": Change(
        {"datasources/replacing.datasource": REPLACING.replace("    w UInt64 `json:$.w`,\n", "")},
        "hide_column replacing.w; go_live",
        options={"allow_destructive": True},
    ),
    "a column of another type": events(
        "`amount` Int64", "`amount` String", "refused: statement_refused"
    ),
    "a column of a wider type, which a view checks": events(
        "`amount` Int64",
        "`amount` Int128",
        "modify_column events.amount; create_view to_daily.roll conversions; go_live; "
        "drop_view to_daily.roll conversions",
    ),
    "a column of a wider type, where no view narrows it": other(
        "replacing", "w UInt64", "w UInt128", "modify_column replacing.w; go_live"
    ),
    "a column of a narrower type that its rows fit": events(
        "`amount` Int64", "`amount` Int32", "modify_column events.amount; go_live"
    ),
    "a column of a narrower type that some row does not fit": Change(
        {_EVENTS: EVENTS.replace("`at` DateTime", "`at` Date")}, REBUILD, "refused: values_do_not_fit"
    ),
    "a column that becomes Nullable": other(
        "replacing", "w UInt64", "w Nullable(UInt64)", "modify_column replacing.w; go_live"
    ),
    "a column that becomes LowCardinality": Change(
        {_DAILY: DAILY.replace("customer_id String", "customer_id LowCardinality(String)")},
        "go_live; modify_column daily.customer_id",
    ),
    "a column that is no longer LowCardinality": events(
        "`kind` LowCardinality(String)", "`kind` String", "modify_column events.kind; go_live"
    ),
    "a column's jsonpath": events("`json:$.amount`", "`json:$.value`", "go_live"),
    "a column's DEFAULT": events("DEFAULT 'none'", "DEFAULT 'nothing'", "modify_column events.kind; go_live"),
    "a column's CODEC": events("CODEC(ZSTD(1))", "CODEC(ZSTD(3))", "modify_column events.amount; go_live"),
    "columns in another order": other(
        "replacing",
        "    v UInt64 `json:$.v`,\n    w UInt64 `json:$.w`",
        "    w UInt64 `json:$.w`,\n    v UInt64 `json:$.v`",
        "go_live",
    ),
    "an index more": events(
        "GRANULARITY 1",
        "GRANULARITY 1\n    by_kind kind TYPE set(10) GRANULARITY 1",
        "add_index events.by_kind; go_live",
    ),
    "an index less": events(
        "INDEXES >\n    by_amount amount TYPE minmax GRANULARITY 1\n", "", "drop_index events.by_amount; go_live"
    ),
    "an index of another type": events(
        "TYPE minmax", "TYPE set(100)", "drop_index events.by_amount; add_index events.by_amount; go_live"
    ),
    "ENGINE": Change(
        {"datasources/replacing.datasource": merging("MergeTree")},
        "rebuild replacing cast; go_live",
    ),
    "ENGINE whose options stay": other("summing", "SummingMergeTree", "MergeTree", "refused: datafile_invalid"),
    "ENGINE_SORTING_KEY": events(
        "SORTING_KEY customer_id, cityHash64(customer_id)",
        "SORTING_KEY customer_id, cityHash64(customer_id), at",
        REBUILD,
    ),
    "ENGINE_PARTITION_KEY": events("toYYYYMM(at)", "toYear(at)", REBUILD),
    "ENGINE_PRIMARY_KEY": Change(
        {
            _EVENTS: EVENTS.replace(
                "SORTING_KEY customer_id, cityHash64(customer_id)",
                "SORTING_KEY customer_id, cityHash64(customer_id), at",
            ).replace(
                "PRIMARY_KEY customer_id, cityHash64(customer_id)",
                "PRIMARY_KEY customer_id, cityHash64(customer_id), at",
            )
        },
        REBUILD,
    ),
    "ENGINE_SAMPLING_KEY": events("ENGINE_SAMPLING_KEY cityHash64(customer_id)\n", "", REBUILD),
    "ENGINE_TTL": events("90 YEAR", "80 YEAR", "go_live; modify_ttl events"),
    "ENGINE_TTL that goes": events("ENGINE_TTL at + INTERVAL 90 YEAR\n", "", "go_live; modify_ttl events"),
    "ENGINE_TTL that deletes rows": Change(
        {_EVENTS: EVENTS.replace("90 YEAR", "1 MONTH")}, "go_live; modify_ttl events", "refused: deletes_rows"
    ),
    "ENGINE_SETTINGS": events(
        "index_granularity=1024",
        "index_granularity=1024, merge_with_ttl_timeout=1000",
        "modify_settings events; go_live",
    ),
    "ENGINE_SETTINGS that no table can change": events("index_granularity=1024", "index_granularity=2048", REBUILD),
    "ENGINE_VER": other("replacing", "ENGINE_VER v", "ENGINE_VER w"),
    "ENGINE_IS_DELETED": other("replacing", "ENGINE_IS_DELETED d", "ENGINE_IS_DELETED e"),
    "ENGINE_SIGN": other("collapsing", "ENGINE_SIGN s", "ENGINE_SIGN t"),
    "ENGINE_VERSION": other("versioned", "ENGINE_VERSION v", "ENGINE_VERSION w"),
    "ENGINE_COLUMNS": other("summing", "ENGINE_COLUMNS v", "ENGINE_COLUMNS w"),
    "ROW_POLICY": events(" AND kind = {{String(context.kind)}}", " AND kind != {{String(context.kind)}}", "go_live"),
    "ROW_POLICY that is not valid": events(
        "ROW_POLICY customer_id =", "ROW_POLICY custmer_id =", "refused: policy_invalid"
    ),
    "ROW_POLICY that goes": Change({_EVENTS: EVENTS.split("ROW_POLICY ")[0]}, "refused: removes_policy"),
    "ROW_POLICY that goes, as allowed": Change(
        {_EVENTS: EVENTS.split("ROW_POLICY ")[0]}, "go_live", options={"allow_weaker": True}
    ),
    "SHARED_WITH": events("TAGS", "SHARED_WITH other\nTAGS", "go_live"),
    "FORWARD_QUERY": events(
        "ENGINE MergeTree", "FORWARD_QUERY >\n    SELECT * FROM events\n\nENGINE MergeTree", "go_live"
    ),
    "FORWARD_QUERY that is no SQL": events(
        "ENGINE MergeTree", "FORWARD_QUERY >\n    SELEKT 1\n\nENGINE MergeTree", "refused: datafile_invalid"
    ),
    "BACKFILL": Change({_DAILY: SKIP}, "go_live"),
    "ROW_POLICY_OPTIONAL": events(
        " {% if defined(context.kind) %} AND kind = {{String(context.kind)}} {% end %}\nROW_POLICY_OPTIONAL kind",
        "",
        "go_live",
    ),
    "VERSION": events("DESCRIPTION", "VERSION 3\nDESCRIPTION", "go_live"),
    # --- data sources
    "a data source": Change({"datasources/more.datasource": DAILY}, "create_table more; go_live"),
    "a data source that goes": Change({"datasources/replacing.datasource": None}, "refused: deletes_rows"),
    "a data source that goes, as allowed": Change(
        {"datasources/replacing.datasource": None},
        "go_live; end_jobs; drop_table replacing 0",
        "go_live; end_jobs; drop_table replacing 1",
        options={"allow_destructive": True},
    ),
    "a data source that goes with what reads it": Change(
        {_MONTHLY: None, _TO_MONTHLY: None},
        "go_live; end_jobs; drop_table monthly 0",
        "go_live; end_jobs; drop_table monthly 1",
        options={"allow_destructive": True},
    ),
    "a data source that is read, and goes": Change(
        {"datasources/pictures.datasource": None}, "refused: resource_not_found", options={"allow_destructive": True}
    ),
    "a policed source that goes, its rows without a policy": Change(
        {_DAILY: None, _TO_DAILY: None, _TO_MONTHLY: None, _MONTHLY: DAILY.split("ROW_POLICY")[0]},
        "refused: loses_policy",
        options={"allow_destructive": True},
    ),
    # --- endpoints
    "an endpoint": Change({"endpoints/more.pipe": ENDPOINT}, "go_live"),
    "an endpoint that changes": pipe(_LATEST, "10)", "20)", "go_live"),
    "an endpoint that goes": Change({_LATEST: None}, "go_live"),
    "an endpoint that does not work": pipe(_LATEST, "FROM events", "FROM evnets", "refused: resource_not_found"),
    "an endpoint that turns into a copy": Change({_LATEST: COPY.replace("pictures", "daily")}, "go_live"),
    # --- views
    "a view and its target": Change(
        WEEKLY,
        "create_table weekly; create_view to_weekly.roll new; go_live",
        "create_table weekly; create_view to_weekly.roll new; fill weekly from events 3; go_live",
    ),
    "a chain of views and targets": Change(
        WEEKLY | YEARLY,
        "create_table weekly; create_table yearly; create_view to_weekly.roll new; create_view to_yearly.roll new; go_live",
        "create_table weekly; create_table yearly; create_view to_weekly.roll new; create_view to_yearly.roll new; "
        "fill weekly from events 3; go_live",
    ),
    "a view whose target skips the fill": Change(
        WEEKLY | {"datasources/weekly.datasource": SKIP},
        "create_table weekly; create_view to_weekly.roll new; go_live",
    ),
    "a chain of which the second target skips the fill": Change(
        WEEKLY | YEARLY | {"datasources/yearly.datasource": SKIP},
        "create_table weekly; create_table yearly; create_view to_weekly.roll new; create_view to_yearly.roll new; go_live",
        "create_table weekly; create_table yearly; create_view to_weekly.roll new; fill weekly from events 3; "
        "create_view to_yearly.roll new; go_live",
    ),
    "a chain into a live target": Change(
        WEEKLY | {"materializations/more.pipe": TO_MONTHLY.replace("FROM daily", "FROM weekly")},
        "create_table weekly; create_view to_weekly.roll new; create_view more.roll new; go_live",
        "create_view more.roll new; create_view to_weekly.roll new; create_view to_monthly.roll rebuilt; "
        "rebuild weekly views; rebuild monthly views; go_live",
    ),
    "a chain into a live target that skips the fill": Change(
        WEEKLY | {"materializations/more.pipe": TO_MONTHLY.replace("FROM daily", "FROM weekly"), _MONTHLY: SKIP},
        "create_table weekly; create_view to_weekly.roll new; create_view more.roll new; go_live",
        "create_table weekly; create_view to_weekly.roll new; fill weekly from events 3; create_view more.roll new; go_live",
    ),
    "a view that turns to a table that is filled, by alter": Change(
        WEEKLY | {_TO_MONTHLY: TO_MONTHLY.replace("FROM daily", "FROM weekly") + "DEPLOYMENT_METHOD alter\n"},
        "create_table weekly; create_view to_weekly.roll new; create_view to_monthly.roll changed; go_live; "
        "drop_view to_monthly.roll changed",
        "create_table weekly; create_view to_weekly.roll new; fill weekly from events 3; "
        "create_view to_monthly.roll changed; go_live; drop_view to_monthly.roll changed",
    ),
    "a view into a live target": Change(
        SECOND_VIEW, "create_view more.more new; go_live", "refused: loses_history"
    ),
    "a view into a live target that skips the fill": Change(
        SECOND_VIEW | {_DAILY: SKIP}, "create_view more.more new; go_live"
    ),
    "a view over a source that is new too": Change(
        {
            "datasources/fresh.datasource": EVENTS,
            "materializations/more.pipe": TO_DAILY.replace("FROM events", "FROM fresh"),
        },
        "create_table fresh; create_view more.roll new; go_live",
    ),
    "a view and a column that it reads": Change(
        WEEKLY
        | {
            _EVENTS: EVENTS.replace("    `amount` Int64", "    `n` Int64 `json:$.n` DEFAULT 1,\n    `amount` Int64"),
            "materializations/to_weekly.pipe": WEEKLY["materializations/to_weekly.pipe"].replace(
                "sum(amount)", "sum(n)"
            ),
        },
        "create_table weekly; add_column events.n; create_view to_weekly.roll new; go_live",
        "create_table weekly; add_column events.n; create_view to_weekly.roll new; fill weekly from events 3; go_live",
    ),
    "a view whose SQL changes": pipe(_TO_DAILY, "sum(amount)", "max(amount)", f"{_VIEWS}; rebuild daily views; rebuild monthly views; go_live", "refused: loses_history"),
    "a view whose SQL changes, by alter": pipe(
        _TO_DAILY,
        "FROM events GROUP BY day, customer_id\n\nTYPE materialized",
        "FROM events WHERE amount > 0 GROUP BY day, customer_id\n\nTYPE materialized\nDEPLOYMENT_METHOD alter",
        "create_view to_daily.roll changed; go_live; drop_view to_daily.roll changed",
    ),
    "a view that gets another target": Change(
        {"datasources/more.datasource": DAILY, _TO_MONTHLY: TO_MONTHLY.replace("monthly", "more")},
        "create_table more; create_view to_monthly.roll new; go_live; drop_view to_monthly.roll changed",
        "create_table more; create_view to_monthly.roll new; fill more from daily 3; go_live; "
        "drop_view to_monthly.roll changed",
    ),
    "a column more in a view's target": Change(
        {
            _DAILY: DAILY.replace("    total", "    biggest SimpleAggregateFunction(max, Int64) DEFAULT 0,\n    total"),
        },
        "add_column daily.biggest; go_live",
    ),
    "a view that goes": Change({_TO_MONTHLY: None}, "refused: deletes_view"),
    "a view that goes, as allowed": Change(
        {_TO_MONTHLY: None}, "go_live; drop_view to_monthly.roll deleted", options={"allow_destructive": True}
    ),
    "a view that turns into an endpoint": Change(
        {_TO_MONTHLY: TO_MONTHLY.replace("TYPE materialized\nDATASOURCE monthly", "TYPE endpoint")},
        "refused: deletes_view",
    ),
    "a view with parameters": pipe(
        _TO_DAILY,
        "    SELECT toDate(at)",
        "    %\n    SELECT {{Int8(n, 1)}} AS n, toDate(at)",
        "refused: datafile_invalid",
    ),
    "a view that another name makes new": Change(
        {_TO_DAILY: None, "materializations/renamed.pipe": TO_DAILY},
        "refused: deletes_view",
        "refused: deletes_view, loses_history",
    ),
    # --- copies, sinks, connections
    "a copy": Change({"copies/more.pipe": COPY}, "go_live"),
    "a copy that changes": pipe(_COPY, "sum(amount)", "max(amount)", "go_live"),
    "a copy that gets another target": Change(
        {"datasources/more.datasource": DAILY, _COPY: COPY.replace("pictures", "more")}, "create_table more; go_live"
    ),
    "a copy that goes": Change({_COPY: None}, "go_live"),
    "a copy that reads nothing there is": pipe(_COPY, "FROM events", "FROM evnets", "refused: resource_not_found"),
    "a sink that changes": pipe(_SINK, "amount FROM", "kind FROM", "go_live"),
    "a sink that goes": Change({_SINK: None}, "go_live"),
    "a connection that changes": pipe(_STORE, "us-east-1", "us-east-2", "go_live"),
    # --- at once
    "all that is refused, at once": Change(
        {
            _EVENTS: EVENTS.replace("toYYYYMM(at)", "toYear(at)").replace(
                "`amount` Int64", "`x` Int8 `json:$.x`,\n    `amount` Int64"
            ),
            _LATEST: ENDPOINT.replace("FROM events", "FROM evnets"),
            _TO_MONTHLY: TO_MONTHLY.replace("sum(total)", "max(total)"),
            "datasources/replacing.datasource": None,
        },
        "refused: deletes_rows, resource_not_found",
        "refused: deletes_rows, no_value_for_rows, resource_not_found",
    ),
}
