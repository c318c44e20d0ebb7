"""Tenant SQL under attack (attacks D, E01, E02, E04, E05): the holder of a JWT for A writes the text, B has the canary."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from pipit.catalog.state import WorkspaceSettings
from pipit.errors import PipitError, SqlError
from pipit.sql.allowed import TENANT_FORMATS, TENANT_TABLE_FUNCTIONS, function_verdict
from pipit.sql.tenant import check_tenant_text, check_tenant_trees
from pipit.sql.tree import EXPLAIN_RAW, parse_query_tree
from projects import CANARY, DAILY, ROWS, TENANTS
from serving import Reply, Workspace

pytestmark = pytest.mark.anyio

SECRET = "SCHEMA >\n    customer_id String `json:$.customer_id`,\n    x String `json:$.x`\n\nENGINE MergeTree\n" + (
    "ENGINE_SORTING_KEY customer_id\nROW_POLICY customer_id = {{String(context.customer_id)}}\n"
)
COUNTRIES = (
    "SCHEMA >\n    code String `json:$.code`\n\nENGINE MergeTree\nENGINE_SORTING_KEY code\n"
    "ROW_POLICY none REASON 'the same list for everybody'\n"
)
BARE = "SCHEMA >\n    customer_id String `json:$.customer_id`\n\nENGINE MergeTree\nENGINE_SORTING_KEY customer_id\n"
FILES = TENANTS | {
    "datasources/sec.datasource": SECRET,
    "datasources/countries.datasource": COUNTRIES,
    "datasources/bare.datasource": BARE,
}
SCOPES = [{"type": "DATASOURCES:READ", "resource": name} for name in ("events", "daily", "countries", "bare")]


async def opened(workspace: Workspace, files: dict[str, str] | None = None) -> Workspace:
    await workspace.deploy(FILES | (files or {}))
    await workspace.server.catalog.put_settings(workspace.id, WorkspaceSettings(tenant_sql=True))
    await workspace.send("events", ROWS)
    await workspace.send("sec", [{"customer_id": "a", "x": "mine"}, {"customer_id": "b", "x": "canary_b_sec"}])
    await workspace.send("countries", [{"code": "de"}, {"code": "fr"}])
    return workspace


def token(workspace: Workspace, *scopes: dict[str, Any], **context: Any) -> str:
    return workspace.jwt(*(scopes or SCOPES), context=context or {"customer_id": "a"})


async def ask(workspace: Workspace, sql: str, *, jwt: str = "", url: str = "") -> Reply:
    reply = await workspace.post(f"/v0/sql{url}", token=jwt or token(workspace), data=sql.encode("utf-8", "surrogateescape"))
    for canary in (str(CANARY), str(CANARY + 1), "canary", "d1_", "pipit_", "DB::Exception", "ClickHouse", workspace.database):
        assert canary in sql or canary not in reply.body.decode("utf-8", "replace"), (sql, reply.body)
    return reply


def is_refused(reply: Reply) -> bool:
    """The one answer: the same for all but the request's id."""
    if reply.status != 400:
        return False
    body = {k: v for k, v in reply.json.items() if k != "hint"}
    assert body == {
        "error": "The query cannot be run",
        "code": "query_refused",
        "reason": "query_refused",
        "documentation": "/docs/errors.html#query_refused",
    }, reply.text
    assert reply.headers["X-Request-Id"] in reply.json["hint"]
    return True


async def test_plain_sql_works(workspace: Workspace) -> None:
    await opened(workspace)
    cases = {
        "SELECT customer_id, amount FROM events ORDER BY amount FORMAT CSV": '"a",1\n"a",2\n"a",3\n',
        "SELECT count() FROM events": "3\n",
        "WITH x AS (SELECT sum(amount) AS s FROM events) SELECT s FROM x;": "6\n",
        "SELECT countMerge(events) FROM daily": "3\n",
        "SELECT action, count() FROM events AS e GROUP BY action ORDER BY action": "click\t2\nview\t1\n",
        "SELECT code FROM countries ORDER BY code": "de\nfr\n",
        "SELECT e.amount, c.code FROM events e CROSS JOIN countries c ORDER BY 1, 2 LIMIT 1": "1\tde\n",
        "SELECT number, toDate('2026-01-01') + number FROM numbers(2)": "0\t2026-01-01\n1\t2026-01-02\n",
        "SELECT 1": "1\n",
        "(SELECT 1) UNION ALL (SELECT 1)": "1\n1\n",
        "SELECT amount FROM events WHERE action IN ('view')": "3\n",
        "SELECT amount FROM events WHERE amount IN (SELECT max(amount) FROM events)": "3\n",
        "SELECT quantile(0.5)(amount), uniq(team), groupArray(amount) FROM events": "2\t2\t[1,2,3]\n",
        "SELECT row_number() OVER (ORDER BY amount) AS n, amount FROM events ORDER BY n": "1\t1\n2\t2\n3\t3\n",
        "SELECT * FROM values('a Int8', 1)": "1\n",
    }
    for sql, answer in cases.items():
        reply = await ask(workspace, sql)
        assert (reply.status, reply.text) == (200, answer), (sql, reply.text)
    reply = await workspace.get(f"/v0/sql?q={quote('SELECT count() AS n FROM events FORMAT JSON')}", token=token(workspace))
    assert reply.json["data"] == [{"n": 3}]


async def test_off_unless_the_workspace_turns_it_on(workspace: Workspace) -> None:
    await workspace.deploy(FILES)
    reply = await ask(workspace, "SELECT 1")
    assert (reply.status, reply.json["code"]) == (403, "forbidden")


# --- what another tenant's rows must not decide: the same bytes without B's rows and with them

FACTS = (
    "SCHEMA >\n    customer_id String `json:$.customer_id`,\n    n Int64 `json:$.n`,\n    name String `json:$.name`,\n"
    "    day Date `json:$.day`,\n    price Nullable(Decimal(18, 4)) `json:$.price`,\n    tags Array(String) `json:$.tags[:]`,\n"
    "    kind LowCardinality(String) `json:$.kind`\n\n"
)
POLICY = "ROW_POLICY customer_id = {{String(context.customer_id)}}\n"
LAYOUTS = {
    "key": "ENGINE MergeTree\nENGINE_SORTING_KEY customer_id, n\n",
    "other_key": "ENGINE MergeTree\nENGINE_SORTING_KEY n\n",
    "partition": "ENGINE MergeTree\nENGINE_PARTITION_KEY n % 10\nENGINE_SORTING_KEY customer_id\n",
    "minmax": "ENGINE MergeTree\nENGINE_SORTING_KEY customer_id\nINDEXES >\n    INDEX i n TYPE minmax GRANULARITY 1\n",
    "set": "ENGINE MergeTree\nENGINE_SORTING_KEY customer_id\nINDEXES >\n    INDEX i n TYPE set(100) GRANULARITY 1\n",
    "bloom": "ENGINE MergeTree\nENGINE_SORTING_KEY customer_id\nINDEXES >\n    INDEX i name TYPE bloom_filter GRANULARITY 1\n",
    "replacing": "ENGINE ReplacingMergeTree\nENGINE_SORTING_KEY n, customer_id\n",
    "summing": "ENGINE SummingMergeTree\nENGINE_SORTING_KEY customer_id, n, name\n",
}
GUESS = 4444  # B has it, A does not
MINE = [
    {"customer_id": "a", "n": n, "name": f"a{n}", "day": "2026-01-01", "price": n, "tags": ["x"], "kind": "k"}
    for n in (1, 2, 2, 30)
]
THEIRS = [
    {"customer_id": c, "n": n, "name": f"canary_{c}{n}", "day": "2026-02-01", "price": 9, "tags": ["canary"], "kind": f"canary{n}"}
    for c in ("", "A", "a ", "b", "zz")
    for n in (1, 2, 30, GUESS, GUESS + 1, -5, 2**62)
]
QUESTIONS = [
    "SELECT count() FROM facts",
    "SELECT count(*), count(n), min(n), max(n), min(day), max(customer_id) FROM facts",
    "SELECT count() FROM facts WHERE n > 1",
    "SELECT count() FROM (SELECT 1 FROM facts)",
    "SELECT uniq(name), uniqExact(kind), any(name), anyLast(name), topK(3)(kind), quantile(0.5)(n) FROM facts",
    "SELECT * FROM facts ORDER BY ALL",
    "SELECT n FROM facts ORDER BY n DESC LIMIT 1",
    "SELECT n FROM facts ORDER BY n, customer_id LIMIT 2 FORMAT JSON",
    "SELECT n FROM facts LIMIT 1 FORMAT JSON",
    "SELECT n, count() FROM facts GROUP BY n WITH TOTALS ORDER BY n FORMAT JSON",
    "SELECT n, count() FROM facts GROUP BY ROLLUP(n) ORDER BY n",
    "SELECT kind, count() FROM facts GROUP BY kind ORDER BY kind",
    "SELECT DISTINCT customer_id FROM facts",
    "SELECT customer_id, n FROM facts ORDER BY n LIMIT 1 BY customer_id",
    "SELECT n, sum(n) OVER (), count() OVER (), max(n) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING) "
    "FROM facts ORDER BY n",
    "SELECT n, lagInFrame(name) OVER (ORDER BY n), rank() OVER (ORDER BY customer_id, n) FROM facts ORDER BY n, 2",
    "SELECT l.n, r.n FROM facts l ASOF LEFT JOIN facts r ON l.kind = r.kind AND l.n > r.n ORDER BY 1, 2",
    "SELECT l.n, r.n FROM facts l ANY LEFT JOIN facts r ON l.n + 1 = r.n ORDER BY 1, 2",
    "SELECT count() FROM facts l FULL JOIN facts r ON l.n = r.n + 1",
    "SELECT count() FROM facts l GLOBAL JOIN facts r USING (n)",
    "SELECT count() FROM facts l, facts r",
    "SELECT count() FROM facts WHERE n IN (SELECT n FROM facts)",
    "SELECT count() FROM facts WHERE n GLOBAL NOT IN (SELECT n FROM facts WHERE n > 2)",
    "SELECT count() FROM facts WHERE (n, name) IN facts",
    "SELECT count() FROM facts WHERE EXISTS (SELECT 1 FROM facts f WHERE f.n > 100)",
    "SELECT n, (SELECT max(f.n) FROM facts f WHERE f.n < facts.n) FROM facts ORDER BY n",
    "SELECT (SELECT count() FROM facts), (SELECT max(n) FROM facts), (SELECT groupArray(n) FROM (SELECT n FROM facts ORDER BY n))",
    "WITH facts AS (SELECT * FROM facts) SELECT count() FROM facts",
    "WITH RECURSIVE r AS (SELECT toInt64(1) AS i UNION ALL SELECT i + 1 FROM r WHERE i < (SELECT count() FROM facts)) "
    "SELECT max(i) FROM r",
    "SELECT count() FROM facts UNION ALL SELECT max(n) FROM facts ORDER BY 1",
    "SELECT n FROM facts INTERSECT SELECT n FROM facts ORDER BY n",
    "SELECT t, count() FROM facts ARRAY JOIN tags AS t GROUP BY t",
    "SELECT n FROM facts ORDER BY n WITH FILL LIMIT 40",
    "SELECT tags.size0, price.null FROM facts ORDER BY n",
    # Those that raise: on a row that is not A's, they must not.
    f"SELECT count() FROM facts WHERE intDiv(1, n - {GUESS}) >= 0",
    f"SELECT count() FROM (SELECT * FROM facts WHERE customer_id = 'a') WHERE intDiv(1, n - {GUESS}) >= 0",
    f"SELECT count() FROM facts WHERE n > 0 AND intDiv(1, n - {GUESS}) >= 0 OR intDiv(1, n - {GUESS}) = 3",
    f"SELECT count() FROM facts HAVING countIf(intDiv(1, n - {GUESS}) >= 0) > 0",
    f"SELECT count() FROM facts WHERE n % (n - {GUESS}) >= 0 AND n = {GUESS}",
    f"SELECT count() FROM facts WHERE n = {GUESS} OR modulo(7, n - {GUESS}) > 0 ORDER BY 1",
    f"SELECT count() FROM facts WHERE indexOf([1], 1) = 1 AND intDiv(1, n - {GUESS}) IN (SELECT 1)",
    "SELECT count() FROM facts WHERE toUInt8(substring(name, 2)) > 0",
    "SELECT sum(toInt64(substring(name, 2))) FROM facts",
    "SELECT count() FROM facts WHERE toInt64(replaceOne(name, 'a', '')) > 0",
    "SELECT count() FROM facts WHERE toDecimal32(n, 8) > 0 OR n > 100",
    "SELECT count() FROM facts WHERE accurateCast(n, 'Int16') > 0",
    "SELECT count() FROM facts WHERE name LIKE 'canary%' AND toInt64(name) = 1",
    "SELECT count() FROM facts WHERE length(substring(name, toUInt64(abs(n)) + 1)) >= 0",
    "SELECT max(length(concat(name, toString(n)))), max(length(bin(n))) FROM facts",
    "SELECT count() FROM facts l JOIN facts r ON l.n = r.n AND toInt64(substring(r.name, 2)) > 0",
    "SELECT n FROM facts ORDER BY intDiv(100, n - 4444), n",
    "SELECT intDiv(1, n - 4444) AS x, count() FROM facts GROUP BY x ORDER BY x",
    "SELECT count() FROM facts WHERE toInt64(kind) = 1",
    "SELECT sumIf(n, toInt64(substring(name, 2)) > 0) FROM facts",
    "SELECT arrayMap(x -> intDiv(1, n - 4444), tags) FROM facts ORDER BY n",
    "SELECT if(n = 4444, intDiv(1, n - 4444), 0) AS x FROM facts ORDER BY x",
]
FINALS = ["SELECT * FROM facts FINAL ORDER BY n", "SELECT count(), max(name) FROM facts AS f FINAL WHERE n < 100"]


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_e01_e02_d27_no_answer_depends_on_others(workspace: Workspace, layout: str) -> None:
    """Every question twice: over A's rows alone, then with B's among them. Statuses, bodies and sizes are the same."""
    await opened(workspace, {"datasources/facts.datasource": FACTS + LAYOUTS[layout] + POLICY})
    jwt = token(workspace, {"type": "DATASOURCES:READ", "resource": "facts"})
    questions = QUESTIONS + (FINALS if layout in ("replacing", "summing") else [])
    answers = []
    for rows in (MINE, THEIRS):
        reply = await workspace.send("facts", rows)
        assert reply.json["quarantined_rows"] == 0, reply.text
        found = []
        for sql in questions:
            reply = await ask(workspace, sql, jwt=jwt)
            found.append((reply.status, "refused" if is_refused(reply) else reply.text))
        answers.append(found)
    for sql, before, after in zip(questions, *answers, strict=True):
        assert before == after, (layout, sql)
    ran = sum(1 for status, _ in answers[0] if status == 200)
    assert ran > len(questions) * 0.9, [q for q, (s, _) in zip(questions, answers[0], strict=True) if s != 200]


# --- D: what a text may not be

REFUSED = {
    # a name that no scope has: 403, and it is not told whether there is such a table
    "d01_other_table": ("SELECT * FROM sec", 403),
    "d01_no_table": ("SELECT * FROM no_such_table", 403),
    "d02_union": ("SELECT amount FROM events UNION ALL SELECT 1 FROM sec", 403),
    "d02_except": ("SELECT x FROM countries EXCEPT SELECT x FROM sec", 403),
    "d03_cte_of_the_name": ("WITH sec AS (SELECT * FROM sec) SELECT * FROM sec", 403),
    "d03_shadowed": ("WITH events AS (SELECT * FROM sec) SELECT * FROM events", 403),
    "d04_alias": ("SELECT * FROM (SELECT * FROM sec) AS events", 403),
    "d05_join": ("SELECT * FROM events e JOIN sec s ON e.customer_id = s.customer_id", 403),
    "d05_asof": ("SELECT * FROM events e ASOF JOIN sec s ON e.customer_id = s.customer_id AND e.team > s.x", 403),
    "d05_any": ("SELECT * FROM events ANY LEFT JOIN sec USING (customer_id)", 403),
    "d05_global": ("SELECT * FROM events GLOBAL ANY INNER JOIN sec USING (customer_id)", 403),
    "d05_comma": ("SELECT * FROM events, sec", 403),
    "d06_in_subquery": ("SELECT count() FROM events WHERE customer_id IN (SELECT customer_id FROM sec)", 403),
    "d06_in": ("SELECT count() FROM events WHERE (customer_id, action) IN sec", 400),
    "d06_in_no_table": ("SELECT count() FROM events WHERE (customer_id, action) IN no_such", 400),
    "d06_global_not_in": ("SELECT count() FROM events WHERE (customer_id, action) GLOBAL NOT IN sec", 400),
    "d06_in_database": ("SELECT count() FROM events WHERE customer_id IN pipit.workspaces", 400),
    "d06_in_physical": ("SELECT count() FROM events WHERE (customer_id, action) IN d1_sec", 400),
    "d06_in_call": ("SELECT in(customer_id, sec) FROM events", 400),
    "d06_in_if": ("SELECT if(1 IN sec, 1, 0) FROM events", 400),
    "d07_scalar": ("SELECT (SELECT max(x) FROM sec) FROM events", 403),
    "d07_exists": ("SELECT count() FROM events WHERE EXISTS (SELECT 1 FROM sec)", 403),
    "d07_correlated": ("SELECT (SELECT max(x) FROM sec s WHERE s.customer_id = e.customer_id) FROM events e", 403),
    "d08_join_get": ("SELECT joinGet('d1_sec', 'x', customer_id) FROM events", 400),
    "d08_dict_get": ("SELECT dictGet('x', 'y', toUInt64(1)) FROM events", 400),
    "d08_dict_folded": ("SELECT if(1, 1, dictHas('x', toUInt64(1))) FROM events", 400),
    "d08_dictionary": ("SELECT * FROM dictionary('x')", 400),
    "d09_merge": ("SELECT * FROM merge(currentDatabase(), '.*')", 400),
    "d10_target": ("SELECT * FROM m1_daily_view__roll", 403),
    "d10_inner": ("SELECT * FROM `.inner_id.00000000-0000-0000-0000-000000000000`", 400),
    "d11_loop": ("SELECT * FROM loop(events)", 400),
    "d11_view": ("SELECT * FROM view(SELECT * FROM events)", 400),
    "d11_view_explain": ("SELECT * FROM (EXPLAIN SELECT * FROM events)", 400),
    "d11_eval": ("SELECT * FROM eval('SELECT 1')", 400),
    "d11_fuzz": ("SELECT * FROM fuzzQuery('SELECT 1')", 400),
    "d12_index": ("SELECT * FROM mergeTreeIndex(currentDatabase(), 'd1_events')", 400),
    "d14_setting": ("SELECT getSetting('additional_table_filters')", 400),
    "d14_user": ("SELECT currentUser(), hostName(), version()", 400),
    "d14_version": ("SELECT version()", 400),
    "d14_no_brackets": ("SELECT current_user", 400),
    "d14_sleep": ("SELECT sleep(1)", 400),
    "d14_column_in_table": ("SELECT hasColumnInTable('pipit', 'workspaces', 'id')", 400),
    "d14_file": ("SELECT file('/etc/passwd')", 400),
    "d14_query_id": ("SELECT initialQueryID()", 400),
    "d14_by_text": ("SELECT arrayReduce('max', [1, 2])", 400),
    "d15_comment_split": ("SELECT * FROM url/**/('http://127.0.0.1:1/', 'LineAsString')", 400),
    "d15_keyword": ("SEL/**/ECT 1", 400),
    "d16_bom": ("\ufeffSELECT 1", 400),
    "d16_zero_width": ("SELECT\u200b1", 400),
    "d16_full_width": ("ＳＥＬＥＣＴ 1", 400),
    "d16_nul": ("SELECT 1\x00", 400),
    "d16_vertical_tab": ("SELECT\x0b1", 400),
    "d16_case": ("sElEcT * fRoM sEc", 403),
    "d17_settings": ("SELECT count() FROM events SETTINGS additional_table_filters = {}", 400),
    "d17_inner": ("SELECT * FROM (SELECT * FROM events SETTINGS additional_table_filters = {})", 400),
    "d17_in_cte": ("WITH x AS (SELECT * FROM events SETTINGS readonly = 0) SELECT * FROM x", 400),
    "d17_in_in": ("SELECT 1 WHERE 1 IN (SELECT 1 SETTINGS max_execution_time = 0)", 400),
    "d17_harmless": ("SELECT 1 SETTINGS max_threads = 1", 400),
    "d17_cache": ("SELECT 1 SETTINGS use_query_cache = 1", 400),
    "d17_log": ("SELECT 1 SETTINGS log_queries = 0", 400),
    "d17_rows": ("SELECT 1 SETTINGS max_result_rows = 0", 400),
    "d18_null": ("SELECT 1 FORMAT Null", 400),
    "d18_native": ("SELECT 1 FORMAT Native", 400),
    "d18_template": ("SELECT 1 FORMAT Template", 400),
    "d18_custom": ("SELECT 1 FORMAT CustomSeparated", 400),
    "d18_pretty": ("SELECT 1 FORMAT PrettyCompact", 400),
    "d18_parquet": ("SELECT 1 FORMAT Parquet", 400),
    "d18_inner": ("SELECT * FROM (SELECT 1 FORMAT JSON)", 400),
    "d18_outfile": ("SELECT * FROM events INTO OUTFILE '/tmp/pipit_tenant_outfile'", 400),
    "d19_two": ("SELECT 1; SELECT 2", 400),
    "d19_comment": ("SELECT 1; -- x\nDROP TABLE events", 400),
    "d19_parallel": ("SELECT 1 PARALLEL WITH SELECT 2", 400),
    "d20_set": ("SET readonly = 0", 400),
    "d20_use": ("USE pipit", 400),
    "d20_system": ("SYSTEM FLUSH LOGS", 400),
    "d20_kill": ("KILL QUERY WHERE 1", 400),
    "d20_create": ("CREATE TEMPORARY TABLE x (a Int8)", 400),
    "d20_insert": ("INSERT INTO events SELECT * FROM events", 400),
    "d20_explain": ("EXPLAIN SELECT * FROM events", 400),
    "d20_estimate": ("EXPLAIN ESTIMATE SELECT * FROM events", 400),
    "d20_describe": ("DESCRIBE TABLE events", 400),
    "d20_show": ("SHOW TABLES", 400),
    "d20_exists": ("EXISTS TABLE sec", 400),
    "d20_watch": ("WATCH events", 400),
    "d20_backup": ("BACKUP TABLE events TO Disk('x', 'y')", 400),
    "d20_drop": ("DROP TABLE d1_events", 400),
    "d21_system": ("SELECT * FROM system.tables", 400),
    "d21_parts": ("SELECT * FROM system.parts", 400),
    "d21_one": ("SELECT * FROM system.one", 400),
    "d21_numbers": ("SELECT * FROM system.numbers LIMIT 1", 400),
    "d21_schema": ("SELECT * FROM information_schema.tables", 400),
    "d21_schema_case": ("SELECT * FROM INFORMATION_SCHEMA.TABLES", 400),
    "d21_state": ("SELECT * FROM pipit.workspaces", 400),
    "d21_service": ("SELECT * FROM tinybird.pipe_stats_rt", 400),
    "d22_identifier": ("SELECT * FROM {t:Identifier}", 400),
    "d22_value": ("SELECT {t:String}", 400),
    "d25_parameterized_view": ("SELECT * FROM events(customer_id = 'b')", 400),
    "d31_udf": ("CREATE FUNCTION f AS (x) -> x", 400),
    "d31_executable": ("SELECT * FROM executable('x', 'TSV', 'a String')", 400),
    "d32_pipe": ("SELECT * FROM latest", 403),
    "pipeline": ("SELECT * FROM _", 403),
    "quarantine": ("SELECT * FROM events_quarantine", 403),
    "physical": ("SELECT * FROM d1_events", 403),
    "with_a_database": ("SELECT * FROM default.events", 400),
    "template": ("% SELECT {{String(x, 'a')}}", 400),
    "template_secret": ("% SELECT {{tb_secret('x')}}", 400),
    "e01_prewhere": ("SELECT count() FROM events PREWHERE intDiv(1, amount - 987654321) >= 0", 400),
    "e02_throw_if": ("SELECT throwIf(amount = 987654321) FROM events", 400),
    "e02_having": ("SELECT count() FROM events HAVING throwIf(max(amount) = 987654321) = 0", 400),
    "e05_part": ("SELECT _part, _part_offset FROM events", 400),
    "e05_quoted": ("SELECT `_part` FROM events", 400),
    "e05_alias": ("SELECT e._partition_id FROM events AS e", 400),
    "e05_sample": ("SELECT count() FROM events SAMPLE 1/2", 400),
    "e05_sample_factor": ("SELECT _sample_factor FROM events", 400),
    "e05_block_number": ("SELECT _block_number FROM events", 400),
    "e05_table": ("SELECT _table, _database FROM events", 400),
    "e05_byte_size": ("SELECT byteSize(action) FROM events", 400),
    "e05_blocks": ("SELECT blockNumber(), rowNumberInAllBlocks() FROM events", 400),
    "e05_final": ("SELECT * FROM events FINAL", 400),
    "state_of_bytes": ("SELECT finalizeAggregation(CAST(unhex('0505'), 'AggregateFunction(count)'))", 400),
    "state_of_bytes_built": (
        "SELECT countMerge(CAST(unhex('05'), concat('Aggregate', 'Function(count)')))",
        400,
    ),
    # Measured: these go on for minutes, whatever max_execution_time says.
    "d30_built_text": ("SELECT position(repeat(repeat('a',1000000),50), concat(repeat('a',500000),'b',repeat('a',400000)))", 400),
    "d30_built_arrays": ("SELECT arraySum(arrayMap(x -> countEqual(range(300000), x), range(300000)))", 400),
    "h10_quadratic": ("SELECT hasAny(range(1000000), range(1000000, 2000000))", 400),
    "h10_exact_test": ("SELECT kolmogorovSmirnovTest('two-sided', 'exact')(number, number % 2) FROM numbers(100000)", 400),
    "unguarded": ("SELECT * FROM bare", 403),
    "too_long": ("SELECT '" + "x" * 8192 + "'", 400),
    "no_such_column": ("SELECT no_such FROM events", 400),
    "syntax": ("SELECT FROM WHERE", 400),
    "sixteen_tables": ("SELECT count() FROM " + ", ".join(f"events AS e{n}" for n in range(17)), 400),
}


async def test_d01_to_d32_what_a_text_may_not_be(workspace: Workspace) -> None:
    await opened(workspace)
    for name, (sql, status) in REFUSED.items():
        reply = await ask(workspace, sql)
        assert reply.status == status, (name, reply.status, reply.text)
        assert is_refused(reply) or reply.json["code"] == "forbidden", (name, reply.text)


async def test_a_right_that_is_missing_is_named_and_existence_is_not(workspace: Workspace) -> None:
    """Of a table that there is and one that there is not: the same words, but for the name that was sent."""
    await opened(workspace)
    texts = set()
    for name in ("sec", "no_such", "latest", "events_quarantine", "d1_events", "bare2"):
        reply = await ask(workspace, f"SELECT * FROM {name}")
        assert reply.status == 403 and f"DATASOURCES:READ for '{name}'" in reply.json["error"]
        texts.add(reply.text.replace(name, "*"))
    assert len(texts) == 1
    reply = await ask(workspace, "SELECT * FROM events", jwt=token(workspace, *SCOPES, team="red"))
    assert reply.status == 403 and "customer_id" in reply.json["error"]
    reply = await ask(workspace, "SELECT 1", jwt=workspace.tenant("latest", customer_id="a"))
    assert reply.status == 403 and "DATASOURCES:READ" in reply.json["error"]
    reply = await ask(workspace, "SELECT * FROM gone", jwt=token(workspace, {"type": "DATASOURCES:READ", "resource": "gone"}))
    assert reply.status == 404
    reply = await ask(workspace, "SELECT 1", url="?pipeline=latest")
    assert reply.status == 403


async def test_a_scopes_filter_and_a_policy_both_hold(workspace: Workspace) -> None:
    await opened(workspace, {"datasources/daily.datasource": DAILY})
    filtered = {"type": "DATASOURCES:READ", "resource": "events", "filter": "amount > 1"}
    reply = await ask(workspace, "SELECT amount FROM events ORDER BY 1", jwt=token(workspace, filtered))
    assert reply.text == "2\n3\n"
    both = token(workspace, filtered, {"type": "DATASOURCES:READ", "resource": "events"})
    assert (await ask(workspace, "SELECT amount FROM events ORDER BY 1", jwt=both)).text == "2\n3\n"
    bare = {"type": "DATASOURCES:READ", "resource": "bare", "filter": "customer_id = 'a'"}
    assert (await ask(workspace, "SELECT count() FROM bare", jwt=token(workspace, bare))).text == "0\n"
    # (a): made from a policed table, and silent itself.
    daily = {"type": "DATASOURCES:READ", "resource": "daily"}
    reply = await ask(workspace, "SELECT count() FROM daily", jwt=token(workspace, daily))
    assert reply.status == 403 and "events" not in reply.text
    # A filter on a data source that is not there confines nothing.
    nothing = {"type": "DATASOURCES:READ", "resource": "EVENTS", "filter": "customer_id = 'a'"}
    reply = await ask(workspace, "SELECT count() FROM countries", jwt=token(workspace, *SCOPES, nothing))
    assert reply.status == 403


async def test_b_a_lost_filter_stops_a_tenants_text_too(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    await opened(workspace)
    monkeypatch.setattr("pipit.query.tenant_sql.filters_for", lambda *_: {})
    assert is_refused(await ask(workspace, "SELECT amount FROM events"))


async def test_c_the_engines_tree_decides_over_a_tenants_text(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of names made blind: a table that the composer did not put there is seen on the engine's tree."""
    await opened(workspace)
    monkeypatch.setattr("pipit.query.tenant_sql.find_tables", lambda _: ())
    for sql in (
        f"SELECT * FROM `{workspace.database}`.`d1_sec`",
        "SELECT * FROM d1_events",
        "SELECT count() FROM system.tables",
        f"SELECT 1 FROM numbers(1) WHERE ('a', 'b') IN `{workspace.database}`.d1_sec",
    ):
        assert is_refused(await ask(workspace, sql)), sql


async def test_d23_a_url_reaches_no_setting_of_the_engine(workspace: Workspace) -> None:
    await opened(workspace)
    url = (
        "?param_t=sec&query_id=x&session_id=y&role=r&user=u&database=pipit&readonly=0&additional_table_filters={}"
        "&max_execution_time=0&default_format=Native&t=sec&customer_id=b"
    )
    reply = await ask(workspace, "SELECT count() FROM events", url=quote(url, safe="?&="))
    assert (reply.status, reply.text) == (200, "3\n")
    assert is_refused(await ask(workspace, "SELECT count() FROM {t:Identifier}", url="?t=events&param_t=events"))


async def test_d30_costs_are_bounded(workspace: Workspace) -> None:
    """H10, H11 too. Whatever bound is met, the answer is the one."""
    await opened(workspace)
    for sql in (
        "SELECT count() FROM numbers(1000000000000)",
        "SELECT sum(a.number * b.number) FROM numbers(1000000) a, numbers(1000000) b",
        "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r) SELECT count() FROM r",
        "SELECT number FROM numbers(200000)",
        "SELECT groupArray(repeat('x', 1000)) FROM numbers(10000000)",
        "SELECT length(repeat('x', 1000000000))",
        "SELECT repeat('x', 1000000) FROM numbers(50)",
        "SELECT max(match(concat(repeat('a', 100000), toString(number)), '(a|b)*c')) FROM numbers(1000000)",
        "SELECT uniqExact(number) FROM numbers(100000000)",
        "SELECT count() FROM numbers(20000000) a JOIN numbers(20000000) b USING (number)",
        "SELECT range(500000000)",
        "SELECT " + "(" * 500 + "1" + ")" * 500,
    ):
        assert is_refused(await ask(workspace, sql)), sql


async def test_d30_memory_is_bounded_where_nothing_else_is_used_up(workspace: Workspace) -> None:
    """H10: few rows read, one row of one number as the result, and far less than a second."""
    await opened(workspace)
    lists = " + ".join(f"length(groupArray(number + {n}))" for n in range(6))
    few = await ask(workspace, f"SELECT {lists} AS n FROM numbers(10) FORMAT JSON")
    assert few.status == 200 and few.json["data"] == [{"n": 60}], few.text
    assert is_refused(await ask(workspace, f"SELECT {lists} AS n FROM numbers(5000000) FORMAT JSON"))


async def test_e04_e05_nothing_beside_the_rows(workspace: Workspace) -> None:
    await opened(workspace)
    for format in ("JSON", "JSONCompact", "CSVWithNames", "TSVWithNames", "JSONEachRow"):
        reply = await ask(workspace, f"SELECT amount FROM events ORDER BY 1 LIMIT 1 FORMAT {format}")
        assert reply.status == 200 and "statistics" not in reply.text and "rows_read" not in reply.text
        assert not [h for h in reply.headers if h.lower().startswith("x-clickhouse")]
        if format.startswith("JSON") and format != "JSONEachRow":
            assert reply.json["rows_before_limit_at_least"] == 3
    for sql in ("SELECT toInt64(action) FROM events", "SELECT CAST(action, 'UUID') FROM events", "SELECT nope FROM events"):
        assert is_refused(await ask(workspace, sql))


# --- D13: generated from the live engine, so that a new version's names are refused until somebody lists them


async def names(workspace: Workspace, sql: str) -> list[str]:
    return [str(row["name"]) for row in await workspace.server.engine.rows(sql)]


async def test_d13_every_table_function_of_the_engine(workspace: Workspace) -> None:
    await opened(workspace)
    every = await names(workspace, "SELECT name FROM system.table_functions")
    assert len(every) > 90
    for name in every:
        if name in TENANT_TABLE_FUNCTIONS:
            continue
        assert is_refused(await ask(workspace, f"SELECT * FROM {name}('x', 'y', 'z')")), name
    # Those that authors may use, called as they are meant.
    for call in ("numbers_mt(1)", "zeros_mt(1)", "null('a Int8')", "generateRandom('a Int8')"):
        assert is_refused(await ask(workspace, f"SELECT * FROM {call} LIMIT 1")), call
    assert {
        "numbers", "zeros", "values", "generateSeries", "generate_series", "SQLStandardValues",
    } == TENANT_TABLE_FUNCTIONS  # fmt: skip


async def test_d13_every_function_of_the_engine(workspace: Workspace) -> None:
    """The engine's RAW tree shows each of them by the name that was written, and the list decides."""
    every = await names(workspace, "SELECT name FROM system.functions WHERE origin = 'System'")
    assert len(every) > 1800
    refused = [name for name in every if function_verdict(name, tenant=True)]
    assert len(refused) > 350 and not set(refused) & {"sum", "count", "toDate", "if", "plus"}
    # Three are grammar of their own, allowed; and the engine's process refuses file(), read or not, before any of this.
    others = {"substring", "position", "CAST", "file"}
    text = "SELECT " + ", ".join(f"`{name}`(1)" for name in every if name not in others)
    tree = await workspace.server.engine.query(EXPLAIN_RAW + text, settings={"max_query_size": 10**7}, format="TSVRaw")
    shown = {name.lower() for name in parse_query_tree(tree.decode()).functions}
    # And the parser gives these their other names.
    others |= {"TRIM", "LTRIM", "RTRIM", "DATE_DIFF", "TIMESTAMPDIFF", "TIMESTAMP_DIFF"}
    assert {name.lower() for name in every} - shown <= {name.lower() for name in others}
    for name in (*refused, *(f"{name}If" for name in refused), "brandNewFunction", "brandNewIf"):
        line = f"QUERY id: 0\n  PROJECTION\n    LIST id: 1, nodes: 1\n      FUNCTION id: 2, function_name: {name}, "
        line += "function_type: ordinary, result_type: UInt8\n"
        with pytest.raises(SqlError):
            check_tenant_trees(line, line, {})


@pytest.mark.parametrize("call", ["{}()", "{}(1)", "{}('x', 1)"])
async def test_d13_refused_functions_do_not_run(workspace: Workspace, call: str) -> None:
    await opened(workspace)
    every = await names(workspace, "SELECT name FROM system.functions WHERE origin = 'System'")
    for name in [name for name in every if function_verdict(name, tenant=True)][:: 9]:
        reply = await ask(workspace, f"SELECT {call.format(name)} AS x")
        assert is_refused(reply), (name, reply.text)


async def test_d13_d17_every_setting_and_format_of_the_engine(workspace: Workspace) -> None:
    await opened(workspace)
    for name in await names(workspace, "SELECT name FROM system.settings"):
        for text in (f"SELECT 1 SETTINGS {name} = 1", f"SELECT * FROM (SELECT 1 SETTINGS {name} = 1)"):
            with pytest.raises(SqlError):
                check_tenant_text(text)
    for name in await names(workspace, "SELECT name FROM system.formats"):
        reply = await ask(workspace, f"SELECT 1 AS x FORMAT {name}")
        assert is_refused(reply) if name not in TENANT_FORMATS else reply.status in (200, 400), (name, reply.text)


# --- the same cases where the writer is the project's author or a workspace token


async def test_d26_views_with_rights_of_their_own_do_not_deploy(workspace: Workspace) -> None:
    """D26, D31: a project has no statement that could make a DEFINER view, a dictionary or a function."""
    for sql in ("CREATE VIEW v DEFINER = x SQL SECURITY DEFINER AS SELECT 1", "CREATE FUNCTION f AS (x) -> x"):
        pipe = f"NODE n\nSQL >\n    {sql}\nTYPE endpoint\n"
        with pytest.raises(PipitError):
            await workspace.deploy(TENANTS | {"endpoints/definer.pipe": pipe})


async def test_d32_q_is_for_workspace_tokens(workspace: Workspace) -> None:
    await opened(workspace)
    jwt = workspace.jwt(
        {"type": "PIPES:READ", "resource": "latest"}, *SCOPES, context={"customer_id": "a"}
    )
    reply = await workspace.get("/v0/pipes/latest.json?q=SELECT%20count()%20FROM%20_", token=jwt)
    assert reply.status == 403
    ingest = next(t.token for t in workspace.server.catalog.tokens(workspace.id) if t.name == "ingest")
    for sql in ("SELECT * FROM latest", "SELECT * FROM events", "SELECT * FROM sec"):
        assert (await workspace.post("/v0/sql", token=ingest, data=sql.encode())).status == 403


async def test_workspace_sql_is_as_before(workspace: Workspace) -> None:
    await opened(workspace)
    reply = await workspace.post("/v0/sql", data=b"SELECT count() FROM events SETTINGS max_threads = 1 FORMAT JSON")
    assert reply.status == 200 and "statistics" in reply.json


async def test_d27_final_would_merge_before_the_filter(workspace: Workspace) -> None:
    """A scope's filter on a column outside of the sorting key: B's newer row would take A's away."""
    table = "SCHEMA >\n    id Int64 `json:$.id`,\n    owner String `json:$.owner`,\n    v Int64 `json:$.v`\n\n"
    table += "ENGINE ReplacingMergeTree\nENGINE_SORTING_KEY id\nENGINE_VER v\n"
    await opened(workspace, {"datasources/merged.datasource": table})
    await workspace.send("merged", [{"id": 1, "owner": "a", "v": 1}])
    await workspace.send("merged", [{"id": 1, "owner": "b", "v": 2}])
    jwt = token(workspace, {"type": "DATASOURCES:READ", "resource": "merged", "filter": "owner = 'a'"})
    for sql in ("SELECT count() FROM merged FINAL", "SELECT count() FROM (SELECT * FROM merged AS m FINAL)"):
        assert is_refused(await ask(workspace, sql, jwt=jwt))
    by_key = token(workspace, {"type": "DATASOURCES:READ", "resource": "merged", "filter": "id = 2"})
    assert (await ask(workspace, "SELECT count() FROM merged FINAL", jwt=by_key)).text == "0\n"
