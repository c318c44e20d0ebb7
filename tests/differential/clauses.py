"""Texts of every clause, over both tables. `{t}` is the table; `{c}` is replaced by columns."""

from __future__ import annotations

from collections.abc import Iterator

from differential.columns import NAMES

_GROUPS = ("s_word", "lc_word", "lcn", "nn", "i64", "e", "day", "b", "uuid", "ip4", "a", "lca", "t", "m", "fs")
FACTS = (
    # each of these once for each of the columns above
    "SELECT {c}, count() FROM facts GROUP BY {c} ORDER BY {c}",
    "SELECT {c}, count(), sum(i64) FROM facts GROUP BY {c} WITH TOTALS ORDER BY {c}",
    "SELECT {c}, e, count() FROM facts GROUP BY ROLLUP({c}, e) ORDER BY ALL",
    "SELECT {c}, e, count() FROM facts GROUP BY CUBE({c}, e) ORDER BY ALL",
    "SELECT {c}, e, count() FROM facts GROUP BY GROUPING SETS (({c}), (e), ()) ORDER BY ALL",
    "SELECT DISTINCT {c} FROM facts ORDER BY {c}",
    "SELECT DISTINCT ON ({c}) {c}, n FROM facts ORDER BY {c}, n",
    "SELECT n, {c} FROM facts ORDER BY {c} DESC, n LIMIT 2 WITH TIES",
    "SELECT {c}, n FROM facts ORDER BY {c}, n LIMIT 1 BY {c}",
    "SELECT n, rank() OVER (PARTITION BY {c} ORDER BY n), count() OVER (PARTITION BY {c}) FROM facts ORDER BY n",
    "SELECT n, min({c}) OVER w, any({c}) OVER w FROM facts WINDOW w AS (ORDER BY n ROWS 1 PRECEDING) ORDER BY n",
    "SELECT l.n, r.n FROM facts l JOIN facts r ON l.{c} = r.{c} ORDER BY 1, 2",
    "SELECT l.n, r.n FROM facts l LEFT ANY JOIN facts r ON l.{c} = r.{c} ORDER BY 1",
    "SELECT count() FROM facts l FULL JOIN (SELECT * FROM facts WHERE n > 2) r ON l.{c} = r.{c}",
    "SELECT count() FROM facts l SEMI JOIN facts r ON l.{c} = r.{c}",
    "SELECT count() FROM facts l ANTI JOIN facts r ON l.{c} = r.{c} AND r.n > 3",
    "SELECT count() FROM facts WHERE {c} IN (SELECT {c} FROM facts WHERE n > 2)",
    "SELECT {c} FROM facts INTERSECT SELECT {c} FROM facts WHERE n > 1 ORDER BY 1",
    "SELECT {c} FROM facts EXCEPT SELECT {c} FROM facts WHERE n > 2 ORDER BY 1",
    "SELECT {c} FROM facts UNION DISTINCT SELECT {c} FROM facts ORDER BY 1",
    "SELECT uniq({c}), uniqExact({c}), groupUniqArray(3)({c}) FROM facts FORMAT JSON",
)
ONCE = (
    *(f"SELECT count(), sum(n) FROM facts SAMPLE {s}" for s in ("0.5", "1/3", "1/2 OFFSET 1/2", "1", "0.001")),
    *(f"SELECT count() FROM facts SAMPLE {s}" for s in ("10", "1000", "5/2", "0.1 OFFSET 10", "1e1")),
    "SELECT * FROM facts ORDER BY n",
    "SELECT * EXCEPT (data, d, v, dv) FROM facts ORDER BY n LIMIT 3 OFFSET 1",
    "SELECT COLUMNS('s_') APPLY (x -> length(x)) FROM facts ORDER BY n",
    "SELECT n FROM facts ORDER BY n WITH FILL FROM 0 TO 20 STEP 2",
    "SELECT day, count() AS c FROM facts GROUP BY day ORDER BY day WITH FILL STEP INTERVAL 1 DAY INTERPOLATE (c AS c + 1)",
    "SELECT n, x FROM facts ARRAY JOIN a AS x ORDER BY n, x",
    "SELECT n, x FROM facts LEFT ARRAY JOIN lca AS x ORDER BY n, x",
    "SELECT arrayJoin(a) AS x, count() FROM facts GROUP BY x ORDER BY x",
    "SELECT l.n, r.n FROM facts l ASOF JOIN facts r ON l.e = r.e AND l.n > r.n ORDER BY 1, 2",
    "SELECT l.n, r.n FROM facts l CROSS JOIN facts r ORDER BY 1, 2 LIMIT 7",
    "SELECT count() FROM facts PASTE JOIN (SELECT n AS k FROM facts) AS r",
    "SELECT n FROM facts QUALIFY row_number() OVER (ORDER BY n) < 3 ORDER BY n",
    "SELECT count() FROM facts HAVING count() > 6",
    "SELECT n FROM facts PREWHERE i64 > 1 ORDER BY n",
    "SELECT n FROM facts WHERE (SELECT max(i64) FROM facts) = 5 ORDER BY n",
    "SELECT n FROM facts f WHERE EXISTS (SELECT 1 FROM facts g WHERE g.n = f.n + 1) ORDER BY n",
    "SELECT n, (SELECT max(g.n) FROM facts g WHERE g.n < facts.n) AS x FROM facts ORDER BY n",
    "WITH x AS (SELECT data, d, n FROM facts) SELECT sum(data.num::Int64), sum(d::Int64) FROM x WHERE n > 0",
    "WITH x AS (SELECT * FROM facts) SELECT toFixedString(lc_word, 3) AS y, data.kind FROM x ORDER BY n",
    "WITH RECURSIVE r AS (SELECT toInt64(1) AS i UNION ALL SELECT i + 1 FROM r WHERE i < (SELECT count() FROM facts)) SELECT max(i) FROM r",
    "SELECT min(n), max(n), min(day), max(customer_id), count() FROM facts",
    "SELECT count(*), count(n), count(nn), count(data), count(d), count(v) FROM facts",
    "SELECT length(a), empty(sa), notEmpty(s_word), isNull(nn), mapKeys(m), mapValues(m), t.x, v.UInt64 FROM facts ORDER BY n",
    "SELECT a.size0, nn.null, m.keys, m.values, t.y, s_word.size FROM facts ORDER BY n",
    "SELECT data FROM facts ORDER BY n",
    "SELECT data.num, data.text, data.list, data.sub, data.^sub, data.list[] FROM facts ORDER BY n",
    "SELECT sumMerge(st_sum), uniqMerge(st_uniq), max(ss) FROM facts",
    "SELECT n, finalizeAggregation(st_sum), finalizeAggregation(st_uniq) FROM facts ORDER BY n",
    "SELECT groupArray(data.num), groupArray(d), groupArray(v) FROM facts",
    "SELECT toTypeName(data), toTypeName(data.num), toTypeName(d), toTypeName(v), toTypeName(lc_word) FROM facts LIMIT 1",
    "SELECT n FROM facts ORDER BY data.num::Int64, n",
    "SELECT data.num::Int64 AS x, count() FROM facts GROUP BY x ORDER BY x",
    "SELECT n FROM facts WHERE toInt64(lc_num) > 1 AND data.num::Int64 > 0 ORDER BY n",
    "SELECT n FROM facts WHERE intDiv(100, i64) > 0 AND toDate(s_date) > '2020-01-01' ORDER BY n",
    "SELECT any(n) FROM facts LIMIT 0",
    "SELECT count() FROM facts WHERE (customer_id, n) IN (SELECT customer_id, n FROM facts)",
    "SELECT n FROM facts LIMIT 0.5",
    "SELECT n FROM facts ORDER BY n LIMIT -2",
    "SELECT n FROM facts ORDER BY n LIMIT 1 FORMAT JSON",
    "SELECT n FROM facts LIMIT 1 FORMAT JSON",
)
KEYED = (
    "SELECT n, i64 FROM keyed ORDER BY n, i64, ver",
    "SELECT n, i64, ver FROM keyed FINAL ORDER BY n",
    "SELECT count() FROM keyed FINAL WHERE i64 > 1",
    "SELECT n FROM keyed WHERE i64 = 4444",
    "SELECT count() FROM keyed WHERE i64 IN (1, 2, 4444) AND intDiv(1, i64 - 4444) < 9",
    "SELECT count() FROM keyed WHERE s_word = 'zq%([' AND intDiv(1, n) < 9",
    "SELECT count() FROM keyed WHERE hasToken(lc_word, 'ab')",
    "SELECT n FROM keyed ORDER BY n DESC LIMIT 1",
    "SELECT n FROM keyed ORDER BY n LIMIT 1",
    "SELECT n, i64 FROM keyed ORDER BY i64, customer_id, n LIMIT 2",
    "SELECT i64, n FROM keyed ORDER BY i64 DESC, n LIMIT 1 BY i64",
    "SELECT DISTINCT i64 FROM keyed ORDER BY i64",
    "SELECT DISTINCT i64 FROM keyed LIMIT 3",
    "SELECT min(n), max(n), min(i64), max(i64), min(day), max(day), count() FROM keyed",
    "SELECT toYYYYMM(day) AS p, count() FROM keyed GROUP BY p ORDER BY p",
    "SELECT toYYYYMM(day) AS p, min(day), max(day), count() FROM keyed WHERE day < '2149-01-01' GROUP BY p ORDER BY p",
    "SELECT count() FROM keyed WHERE day > '2100-01-01'",
    "SELECT count() FROM keyed WHERE ignore(intDiv(1, i64)) = 0",
    "SELECT l.n FROM keyed l JOIN keyed r ON l.i64 = r.i64 AND l.n = r.n ORDER BY 1",
)
# Settings that a pipe's own SETTINGS may set; each value with texts that it could change.
SETTINGS = {
    "final": ("1",),
    "extremes": ("1",),
    "max_threads": ("1", "2"),
    "optimize_functions_to_subcolumns": ("1",),
    "optimize_move_to_prewhere": ("0", "1"),
    "optimize_read_in_order": ("1",),
    "optimize_read_in_window_order": ("1",),
    "optimize_aggregation_in_order": ("1",),
    "optimize_distinct_in_order": ("1",),
    "optimize_use_projections": ("0", "1"),
    "optimize_use_implicit_projections": ("0", "1"),
    "use_skip_indexes": ("0", "1"),
    "use_skip_indexes_if_final": ("1",),
    "do_not_merge_across_partitions_select_final": ("1",),
    "join_algorithm": ("'hash'", "'full_sorting_merge'", "'partial_merge'", "'grace_hash'"),
    "join_use_nulls": ("1",),
    "any_join_distinct_right_table_keys": ("1",),
    "query_plan_join_swap_table": ("'true'",),
    "short_circuit_function_evaluation": ("'disable'", "'force_enable'"),
    "count_distinct_implementation": ("'uniq'", "'uniqCombined'"),
    "totals_mode": ("'before_having'", "'after_having_auto'"),
    "group_by_use_nulls": ("1",),
    "cast_keep_nullable": ("1",),
    "transform_null_in": ("1",),
    "data_type_default_nullable": ("1",),
    "cast_string_to_date_time_mode": ("'best_effort'",),
    "date_time_overflow_behavior": ("'throw'", "'saturate'"),
    "allow_suspicious_types_in_group_by": ("1",),
    "allow_suspicious_types_in_order_by": ("1",),
    "function_range_max_elements_in_block": ("10",),
    "enable_lazy_columns_replication": ("1",),
    "asterisk_include_materialized_columns": ("1",),
    "aggregate_functions_null_for_empty": ("1",),
}
UNDER_SETTINGS = (
    "SELECT count(), sum(i64) FROM facts",
    "SELECT n FROM facts ORDER BY n LIMIT 1",
    "SELECT lc_word, count() FROM facts GROUP BY lc_word WITH TOTALS ORDER BY lc_word",
    "SELECT data.num, count() FROM facts GROUP BY data.num ORDER BY data.num",
    "SELECT distinctJSONPaths(data), sum(data.num::Int64), uniqExact(d), count(DISTINCT lc_word) FROM facts",
    "SELECT DISTINCT i64 FROM facts ORDER BY i64",
    "SELECT n, i64 FROM keyed ORDER BY i64, customer_id, n LIMIT 2",
    "SELECT count() FROM keyed WHERE i64 > 1 AND n > 0",
    "SELECT l.n, r.n FROM facts l JOIN facts r ON l.lc_word = r.lc_word ORDER BY 1, 2",
    "SELECT n, sum(n) OVER (ORDER BY n), length(range(toUInt64(i64))) FROM facts ORDER BY n",
    "SELECT n, lc_word IN ('ab', NULL), toDateTime(lc_time), CAST(nn AS Float64) FROM facts WHERE intDiv(10, i64) > 0 ORDER BY n",
)


def clause_texts() -> Iterator[str]:
    for text in FACTS:
        yield from (text.replace("{c}", column) for column in _GROUPS)
        if text.startswith("SELECT uniq("):
            yield from (text.replace("{c}", name) for name, _ in NAMES if name not in _GROUPS)
    yield from ONCE
    yield from KEYED


def setting_texts() -> Iterator[str]:
    for name, values in SETTINGS.items():
        for value in values:
            yield from (f"{text} SETTINGS {name} = {value}" for text in UNDER_SETTINGS)
