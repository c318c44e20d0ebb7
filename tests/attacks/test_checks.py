"""The design's three checks, always true for tenants. Each test sabotages what the check guards against."""

from __future__ import annotations

import json

import pytest

from pipit.access.params import RequestParams
from pipit.catalog.build import build_snapshot
from pipit.datafiles import parse_project
from pipit.errors import PipitError, ReadRefused
from pipit.query import secure
from pipit.query.compose import Prepared
from pipit.query.examine import Examined
from pipit.query.formats import JSON
from pipit.query.queries import PipeQuery, Read
from pipit.query.read import Reader
from pipit.sql.precheck import check_text
from pipit.sql.tree import Reads, check_reads
from projects import CANARY, DAILY, EVENTS, ROWS, TENANTS, column
from serving import Workspace

pytestmark = pytest.mark.anyio


async def deployed(workspace: Workspace, changes: dict[str, str] | None = None) -> Workspace:
    await workspace.deploy(TENANTS | (changes or {}))
    await workspace.send("events", ROWS)
    return workspace


# --- (a) what derives from a policed table needs a policy of its own


async def test_a_target_without_a_policy_is_refused(workspace: Workspace) -> None:
    await deployed(workspace, {"datasources/daily.datasource": DAILY})
    reply = await workspace.get("/v0/pipes/totals.json", token=workspace.tenant("totals", customer_id="a"))
    assert (reply.status, reply.json["code"]) == (403, "read_refused")
    assert "daily" in reply.json["error"] and "events" in reply.json["error"]
    # The workspace's own token reads it, as the dialect has it.
    assert column(await workspace.rows("/v0/pipes/totals.json"), "customer_id") == ["a", "b"]


async def test_a_target_with_a_policy_is_filtered(workspace: Workspace) -> None:
    await deployed(workspace)
    token = workspace.tenant("totals", customer_id="a")
    assert await workspace.rows("/v0/pipes/totals.json", token=token) == [{"customer_id": "a", "events": 3}]


async def test_a_holds_over_several_steps(workspace: Workspace) -> None:
    """events -> daily -> monthly: the second target derives from the first one's source."""
    monthly = DAILY.replace("day Date", "month Date").replace("customer_id, day", "customer_id, month")
    view = (
        "NODE roll\nSQL >\n    SELECT toStartOfMonth(day) AS month, customer_id, countMergeState(events) AS events\n"
        "    FROM daily GROUP BY month, customer_id\nTYPE materialized\nDATASOURCE monthly\n"
    )
    read = "NODE e\nSQL >\n    SELECT customer_id, countMerge(events) AS n FROM monthly GROUP BY customer_id\nTYPE endpoint\n"
    await deployed(
        workspace,
        {
            "datasources/monthly.datasource": monthly,
            "materializations/monthly_view.pipe": view,
            "endpoints/months.pipe": read,
        },
    )
    reply = await workspace.get("/v0/pipes/months.json", token=workspace.tenant("months", customer_id="a"))
    assert (reply.status, reply.json["code"]) == (403, "read_refused")


async def test_a_covers_copies_before_they_run(workspace: Workspace) -> None:
    """A copy's target derives from what the copy reads, also where its SQL is a template."""
    copy = (
        "NODE c\nSQL >\n    %\n    SELECT customer_id, toUInt64(sum(amount)) AS total FROM events\n"
        "    WHERE amount > {{Int64(least, 0)}} GROUP BY customer_id\n"
        "TYPE copy\nTARGET_DATASOURCE copied\n"
    )
    target = "SCHEMA >\n    customer_id String,\n    total UInt64\n\nENGINE MergeTree\nENGINE_SORTING_KEY customer_id\n"
    read = "NODE e\nSQL >\n    SELECT * FROM copied\nTYPE endpoint\n"
    await deployed(
        workspace,
        {"datasources/copied.datasource": target, "copies/c1.pipe": copy, "endpoints/read_copy.pipe": read},
    )
    reply = await workspace.get("/v0/pipes/read_copy.json", token=workspace.tenant("read_copy", customer_id="a"))
    assert (reply.status, reply.json["code"]) == (403, "read_refused")


async def test_a_quarantine_is_for_its_owner(workspace: Workspace) -> None:
    """G17."""
    read = "NODE e\nSQL >\n    SELECT * FROM events_quarantine\nTYPE endpoint\n"
    await deployed(workspace, {"endpoints/bad_rows.pipe": read})
    await workspace.send("events", [{"customer_id": "b", "amount": "canary_b_text"}])
    reply = await workspace.get("/v0/pipes/bad_rows.json", token=workspace.tenant("bad_rows", customer_id="a"))
    assert (reply.status, reply.json["code"]) == (403, "read_refused")
    assert len(await workspace.rows("/v0/pipes/bad_rows.json")) == 1


async def test_a_counts_filters_of_tokens_too(workspace: Workspace) -> None:
    """No ROW_POLICY anywhere: the token's own DATASOURCES:READ filter makes `events` policed for it."""
    bare = EVENTS.split("ROW_POLICY >")[0]
    await deployed(workspace, {"datasources/events.datasource": bare, "datasources/daily.datasource": DAILY})
    filtered = {"type": "DATASOURCES:READ", "resource": "events", "filter": "customer_id = 'a'"}
    latest = workspace.jwt({"type": "PIPES:READ", "resource": "latest"}, filtered)
    assert column(await workspace.rows("/v0/pipes/latest.json", token=latest), "customer_id") == ["a"] * 3
    totals = workspace.jwt({"type": "PIPES:READ", "resource": "totals"}, filtered)
    assert (await workspace.get("/v0/pipes/totals.json", token=totals)).status == 403


async def test_a_filter_of_the_token_only_narrows(workspace: Workspace) -> None:
    """A token's own filter and the policy both hold, whatever the filter says; one that is no condition is refused."""
    await deployed(workspace)
    for filter, amounts in {"1": [1, 2, 3], "1 OR 1": [1, 2, 3], "amount = 1 OR amount = 2": [1, 2], "0": []}.items():
        scope = {"type": "DATASOURCES:READ", "resource": "events", "filter": filter}
        token = workspace.jwt({"type": "PIPES:READ", "resource": "latest"}, scope, context={"customer_id": "a"})
        assert column(await workspace.rows("/v0/pipes/latest.json", token=token), "amount") == amounts, filter
    for filter in (
        "1) OR (1",
        "1 -- ",
        "1 /*",
        "customer_id IN pipit.workspaces",
        "1, 1",
        "1; SELECT 1",
        "(SELECT 1)",
        " ",
    ):
        scope = {"type": "DATASOURCES:READ", "resource": "events", "filter": filter}
        token = workspace.jwt({"type": "PIPES:READ", "resource": "latest"}, scope, context={"customer_id": "a"})
        reply = await workspace.get("/v0/pipes/latest.json", token=token)
        assert reply.status == 403 and str(CANARY) not in reply.text, filter


# --- (b) every policed table that the engine reads is in the filter map


async def test_b_a_lost_filter_stops_the_query(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    await deployed(workspace)
    token = workspace.tenant("latest", customer_id="a")
    monkeypatch.setattr("pipit.query.planner.filters_for", lambda *_: {})
    reply = await workspace.get("/v0/pipes/latest.json", token=token)
    assert str(CANARY) not in reply.text
    assert (reply.status, reply.json["code"]) == (403, "read_refused")


async def test_b_a_filter_on_another_table_is_no_filter(workspace: Workspace) -> None:
    await deployed(workspace)
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    security = workspace.server.authenticator.check(
        workspace.tenant("latest", customer_id="a"), workspace.server.catalog.keyring
    )
    events, daily = f"{workspace.database}.d1_events", f"{workspace.database}.d1_daily"
    with pytest.raises(ReadRefused):
        secure.check_filters(snapshot, security, {events, daily}, {daily: "customer_id = 'a'"})
    with pytest.raises(ReadRefused):
        secure.check_filters(snapshot, security, {events}, {"d1_events": "customer_id = 'a'"})
    secure.check_filters(snapshot, security, {events}, {events: "(customer_id = 'a')"})


# --- (c) a text runs only after it was examined on the engine's tree

HOSTILE = {
    "merge_function": "SELECT customer_id, amount FROM merge(currentDatabase(), 'd1_events')",
    "remote": "SELECT * FROM remote('127.0.0.1', currentDatabase(), 'd1_events')",
    "view": "SELECT * FROM view(SELECT * FROM d1_events)",
    "loop": "SELECT * FROM loop(d1_events)",
    "file": "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "url": "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
    "python": "SELECT * FROM Python(os)",
    "executable": "SELECT * FROM executable('x', 'TSV', 'a String')",
    "physical": "SELECT * FROM d1_events",
    "view_object": "SELECT * FROM m1_daily_view__roll",
    "quarantine_object": "SELECT * FROM q1_events",
    "state": "SELECT * FROM pipit.workspaces",
    "system": "SELECT * FROM system.tables",
    "system_case": "SELECT * FROM INFORMATION_SCHEMA.TABLES",
    "in_table": "SELECT count() FROM events WHERE customer_id IN pipit.workspaces",
    "in_tuple": "SELECT count() FROM events WHERE (customer_id, team) IN d1_events",
    "dict_get": "SELECT dictGet('x', 'y', toUInt64(1)) FROM events",
    "dict_in_folded_if": "SELECT if(1, 1, dictGet('x', 'y', toUInt64(1))) AS n FROM events",
    "join_get": "SELECT joinGet('d1_events', 'amount', 'a') FROM events",
    "has_column": "SELECT hasColumnInTable('pipit', 'workspaces', 'id') AS x FROM events",
    "get_setting": "SELECT getSetting('additional_table_filters') AS x FROM events",
    "file_function": "SELECT file('/etc/passwd') AS x FROM events",
    "sleep": "SELECT sleep(1) FROM events",
    "host": "SELECT hostName() AS x FROM events",
    "identifier": "SELECT * FROM {t:Identifier}",
    "inner_settings": "SELECT * FROM (SELECT * FROM events SETTINGS additional_table_filters = {})",
    "settings": "SELECT * FROM events SETTINGS additional_table_filters = {}",
    "outfile": "SELECT * FROM events INTO OUTFILE '/tmp/pipit_outfile_attack'",
    "format": "SELECT * FROM events FORMAT Native",
    "two_statements": "SELECT 1 FROM events; SELECT 2",
    "insert": "INSERT INTO events SELECT * FROM events",
    "drop": "DROP TABLE d1_events",
    "kill": "KILL QUERY WHERE 1",
    "explain": "EXPLAIN SELECT * FROM events",
    "show": "SHOW TABLES",
    "comment_split": "SELECT * FROM url/**/('http://127.0.0.1:1/', 'LineAsString')",
    "merge_tree_index": "SELECT * FROM mergeTreeIndex(currentDatabase(), 'd1_events')",
    "dictionary": "SELECT * FROM dictionary('x')",
    "cluster": "SELECT * FROM cluster('default', currentDatabase(), 'd1_events')",
}


@pytest.fixture(scope="module")
async def tenants(shared_workspace: Workspace) -> Workspace:
    """For tests of what is refused: it stays as it is."""
    await deployed(shared_workspace)
    return shared_workspace


@pytest.mark.parametrize("name", HOSTILE)
async def test_c_hostile_sql_does_not_deploy_and_does_not_run(tenants: Workspace, name: str) -> None:
    """Refused at deploy; and were it deployed all the same, refused when a tenant or the workspace reads it."""
    workspace = tenants
    pipe = f"NODE n\nSQL >\n    {HOSTILE[name]}\nTYPE endpoint\n"
    files = TENANTS | {"endpoints/hostile.pipe": pipe}
    live = workspace.server.catalog.snapshot(workspace.id)
    with pytest.raises(PipitError):
        await workspace.deploy(files)
    assert workspace.server.catalog.snapshot(workspace.id) is live
    planted = build_snapshot(live.workspace, parse_project(files), live.names, deployment=live.deployment + 1)
    for token in (workspace.tenant("hostile", customer_id="a"), workspace.admin_token):
        security = workspace.server.authenticator.check(token, workspace.server.catalog.keyring)
        query = PipeQuery("hostile", RequestParams(), JSON)
        with pytest.raises(PipitError) as caught:
            async with workspace.server.reader.open(Read(planted, security, query)) as answer:
                async for _ in answer.chunks:
                    pass
        assert caught.value.status in (400, 403), caught.value
        assert str(CANARY) not in caught.value.message


async def test_c_the_engines_tree_decides_not_our_reading_of_the_text(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The composer is made blind: it lets a name through that it should have replaced or refused."""
    await deployed(workspace)
    live = workspace.server.catalog.snapshot(workspace.id)
    events = f"`{workspace.database}`.`d1_events`"
    security = workspace.server.authenticator.check(
        workspace.tenant("latest", customer_id="a"), workspace.server.catalog.keyring
    )

    def blind(*_: object, **__: object) -> Prepared:
        return Prepared(f"SELECT customer_id, amount FROM {events}", frozenset(), ())

    monkeypatch.setattr("pipit.query.compose.prepare", blind)
    reader = Reader(workspace.server.engine)
    with pytest.raises(ReadRefused):
        await reader.plan(Read(live, security, PipeQuery("latest", RequestParams(), JSON)))


async def test_c_scalar_subqueries_of_the_examination_see_no_rows(workspace: Workspace) -> None:
    """The engine runs them while it makes the tree: over no row of any tenant, so nothing throws by value."""
    throwing = (
        "NODE n\nSQL >\n    SELECT customer_id, (SELECT intDiv(1, max(amount) - 987654322) FROM events) AS x FROM events\n"
        "TYPE endpoint\n"
    )
    await deployed(workspace, {"endpoints/oracle.pipe": throwing})
    token = workspace.tenant("oracle", customer_id="a")
    reply = await workspace.get("/v0/pipes/oracle.json", token=token)
    assert reply.status == 200, reply.text


async def test_a_token_of_another_workspace(workspace: Workspace) -> None:
    """A14, and the reader's own check when a route mixes them up."""
    await deployed(workspace)
    other = await workspace.server.catalog.create_workspace(workspace.name + "_other")
    security = workspace.server.authenticator.check(other.admin_token, workspace.server.catalog.keyring)
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    with pytest.raises(PipitError) as caught:
        await workspace.server.reader.plan(Read(snapshot, security, PipeQuery("latest", RequestParams(), JSON)))
    assert caught.value.status == 403
    reply = await workspace.get("/v0/pipes/latest.json", token=other.admin_token)
    assert reply.status == 404 and "latest" in reply.text


async def test_statistics_are_not_for_tenants(workspace: Workspace) -> None:
    """E05: they count other tenants' rows."""
    await deployed(workspace)
    tenant = await workspace.get("/v0/pipes/latest.json", token=workspace.tenant("latest", customer_id="a"))
    assert "statistics" not in tenant.json
    assert not [h for h in tenant.headers if h.lower().startswith("x-clickhouse")]
    assert "statistics" in (await workspace.get("/v0/pipes/latest.json")).json


# --- what stands behind the checks


async def test_readonly_holds_where_everything_before_it_failed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The composer blind, the examination gone: inner SETTINGS still do not undo the filter in the engine."""
    await deployed(workspace)
    live = workspace.server.catalog.snapshot(workspace.id)
    physical = f"{workspace.database}.d1_events"
    hostile = f"SELECT customer_id FROM (SELECT * FROM {physical} SETTINGS additional_table_filters = {{}})"
    security = workspace.server.authenticator.check(
        workspace.tenant("latest", customer_id="a"), workspace.server.catalog.keyring
    )

    async def passes(*_: object) -> Examined:
        return Examined(frozenset({physical}))

    monkeypatch.setattr("pipit.query.compose.prepare", lambda *_, **__: Prepared(hostile, frozenset({physical}), ()))
    monkeypatch.setattr("pipit.query.examine.Examiner.examine", passes)
    reader = Reader(workspace.server.engine)
    body = b""
    try:
        async with reader.open(Read(live, security, PipeQuery("latest", RequestParams(), JSON))) as answer:
            async for chunk in answer.chunks:
                body += chunk
    except PipitError:
        return
    assert column(json.loads(body)["data"], "customer_id") == ["a", "a", "a"]


async def test_a_tenant_gets_one_text_for_every_failure(workspace: Workspace) -> None:
    """E04: the engine's text quotes the row that it could not parse."""
    pipe = "NODE n\nSQL >\n    SELECT toInt64(action) AS x FROM events ORDER BY x\nTYPE endpoint\n"
    await deployed(workspace, {"endpoints/failing.pipe": pipe})
    tenant = await workspace.get("/v0/pipes/failing.json", token=workspace.tenant("failing", customer_id="a"))
    assert (tenant.status, tenant.json["error"]) == (400, "The query of this endpoint failed")
    assert tenant.headers["X-Request-Id"] in tenant.json["hint"]
    assert "click" not in tenant.text and "canary" not in tenant.text
    owner = await workspace.get("/v0/pipes/failing.json")
    assert owner.status == 400 and "Cannot parse" in owner.json["error"]


async def test_raising_functions_are_not_for_policed_tables(workspace: Workspace) -> None:
    """E02: authors may use throwIf; under a policy it would tell of hidden rows."""
    pipe = "NODE n\nSQL >\n    SELECT throwIf(amount > 900) AS x FROM events WHERE amount < 900\nTYPE endpoint\n"
    await deployed(workspace, {"endpoints/throwing.pipe": pipe})
    reply = await workspace.get("/v0/pipes/throwing.json", token=workspace.tenant("throwing", customer_id="a"))
    assert (reply.status, reply.json["code"]) == (403, "read_refused")
    assert (await workspace.get("/v0/pipes/throwing.json")).status == 200


# --- what other tenants' rows must not decide

ORACLES = {
    "where": "SELECT count() AS n FROM events WHERE intDiv(1000, amount - {{Int64(x)}}) >= 0",
    "subquery": "SELECT count() AS n FROM (SELECT * FROM events) WHERE intDiv(1000, amount - {{Int64(x)}}) >= 0",
    "having": "SELECT sum(c) AS n FROM (SELECT amount, count() AS c FROM events GROUP BY amount "
    "HAVING intDiv(1000, amount - {{Int64(x)}}) >= 0)",
    "key": "SELECT count() AS n FROM events WHERE intDiv(1000, length(customer_id) + amount - {{Int64(x)}} - 1) >= 0",
    "or": "SELECT countIf(ok) AS n FROM (SELECT amount < 1000000 AND intDiv(1000, amount - {{Int64(x)}}) >= 0 "
    "OR intDiv(1000, amount - {{Int64(x)}}) >= 0 AS ok FROM events)",
}


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("extension", ["json", "ndjson"])
async def test_no_status_asks_for_hidden_values(workspace: Workspace, name: str, extension: str) -> None:
    """E01: the engine may try the pipe's condition on a row that the filter hides; its error must not come through."""
    pipe = f"NODE n\nSQL >\n    %\n    {ORACLES[name]}\nTYPE endpoint\n"
    await deployed(workspace, {"endpoints/oracle.pipe": pipe})
    token = workspace.tenant("oracle", customer_id="a")
    answers = {}
    for guess in (CANARY - 1, CANARY, CANARY + 1, CANARY + 2):
        reply = await workspace.get(f"/v0/pipes/oracle.{extension}?x={guess}", token=token)
        answers[guess] = (reply.status, reply.body)
    assert len(set(answers.values())) == 1, answers
    assert answers[CANARY][0] == 200
    own = await workspace.get(f"/v0/pipes/oracle.{extension}?x=2", token=token)
    assert own.status == 400  # its own row divides by zero: that it may know


async def test_another_tenants_bad_row_breaks_nobody(workspace: Workspace) -> None:
    pipe = "NODE n\nSQL >\n    SELECT count() AS n FROM events WHERE toInt64(action) > 0\nTYPE endpoint\n"
    await workspace.deploy(TENANTS | {"endpoints/numbers.pipe": pipe})
    await workspace.send("events", [{**ROWS[0], "action": "7"}, ROWS[3]])
    token = workspace.tenant("numbers", customer_id="a")
    assert await workspace.rows("/v0/pipes/numbers.json", token=token) == [{"n": 1}]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT _part_offset AS x FROM events",
        "SELECT `_part` AS x FROM events",
        "SELECT _block_number AS x FROM events",
        "SELECT count() AS x FROM events PREWHERE intDiv(1, amount - 987654321) >= 0",
        "SELECT byteSize(action) AS x FROM events",
        "SELECT contingency(action, team) AS x FROM events",
        "SELECT cramersVIf(action, team, 1) AS x FROM events",
        "SELECT rowNumberInBlock() AS x FROM events",
        "SELECT rowNumberInAllBlocks() AS x FROM events",
        "SELECT runningDifference(amount) AS x FROM events",
        "SELECT neighbor(action, 1) AS x FROM events",
        "SELECT blockSize() AS x FROM events",
        "SELECT nowInBlock() AS x FROM events",
    ],
)
async def test_what_tells_of_other_rows(workspace: Workspace, sql: str) -> None:
    pipe = f"NODE n\nSQL >\n    {sql}\nTYPE endpoint\n"
    await deployed(workspace, {"endpoints/telling.pipe": pipe})
    reply = await workspace.get("/v0/pipes/telling.json", token=workspace.tenant("telling", customer_id="a"))
    assert (reply.status, reply.json["code"]) == (403, "read_refused")


@pytest.mark.parametrize("call", ["rowNumberInAllBlocks()", "runningDifference(amount)", "neighbor(amount, -1)"])
async def test_functions_of_blocks_are_for_those_who_read_all_rows(workspace: Workspace, call: str) -> None:
    """A condition on a fixed parameter hides rows as a filter does: where a block ends tells of them."""
    bare = EVENTS.split("ROW_POLICY >")[0]
    pipe = f"NODE n\nSQL >\n    %\n    SELECT {call} AS x FROM events WHERE team = {{{{String(team, 'red')}}}}\nTYPE endpoint\n"
    await deployed(workspace, {"datasources/events.datasource": bare, "endpoints/numbers.pipe": pipe})
    assert (await workspace.get("/v0/pipes/numbers.json")).status == 200
    fixed = {"type": "PIPES:READ", "resource": "numbers", "fixed_params": {"team": "red"}}
    reply = await workspace.get("/v0/pipes/numbers.json", token=workspace.jwt(fixed))
    assert (reply.status, reply.json["code"]) == (403, "read_refused")


@pytest.mark.parametrize(
    "resource", ["EVENTS", "events__v0", "events ", "events_quarantine", "latest", "t_" + "0" * 32]
)
async def test_a_filter_on_nothing_is_not_no_filter(workspace: Workspace, resource: str) -> None:
    bare = EVENTS.split("ROW_POLICY >")[0]
    await deployed(workspace, {"datasources/events.datasource": bare, "datasources/daily.datasource": DAILY})
    token = workspace.jwt(
        {"type": "PIPES:READ", "resource": "latest"},
        {"type": "DATASOURCES:READ", "resource": resource, "filter": "customer_id = 'a'"},
    )
    reply = await workspace.get("/v0/pipes/latest.json", token=token)
    assert (reply.status, reply.json["code"]) == (403, "read_refused")


async def test_rows_before_limit_counts_own_rows(workspace: Workspace) -> None:
    """Two parts, read in order: the count must be of a's rows, whatever b has."""
    pipe = "NODE n\nSQL >\n    SELECT amount FROM events ORDER BY customer_id, timestamp LIMIT 1\nTYPE endpoint\n"
    await deployed(workspace, {"endpoints/first.pipe": pipe})
    await workspace.send("events", ROWS[3:] * 50)
    reply = await workspace.get("/v0/pipes/first.json", token=workspace.tenant("first", customer_id="a"))
    assert reply.json["rows_before_limit_at_least"] == 3


async def test_rows_before_limit_of_many_rows(workspace: Workspace) -> None:
    """Not "at least": how much is read before the limit is met depends on where b's rows lie. In order, and not."""
    plain = "NODE n\nSQL >\n    SELECT amount FROM events LIMIT 1\nTYPE endpoint\n"
    ordered = plain.replace("LIMIT 1", "ORDER BY customer_id, timestamp LIMIT 1")
    await deployed(workspace, {"endpoints/some.pipe": plain, "endpoints/first.pipe": ordered})
    table = f"`{workspace.database}`.`d1_events`"
    await workspace.server.engine.command(
        f"INSERT INTO {table} SELECT '2026-11-01 10:00:00', 'a', 'red', 'click', number FROM numbers(300000)"
    )
    for pipe in ("some", "first"):
        reply = await workspace.get(f"/v0/pipes/{pipe}.json", token=workspace.tenant(pipe, customer_id="a"))
        assert reply.json["rows_before_limit_at_least"] == 300003, pipe


@pytest.mark.parametrize("function", ["dictGet", "dictHas", "joinGet"])
@pytest.mark.parametrize("name", ["{p1:String}", "'x' || 'y'", "x", "concat('x', 'y')", "materialize('x')"])
def test_an_object_is_named_literally(function: str, name: str) -> None:
    """D08: or another value would name another object in a text that was examined."""
    check_text(f"SELECT {function}('x', 'y', 1)")
    with pytest.raises(ReadRefused):
        check_text(f"SELECT {function}({name}, 'y', 1)")


@pytest.mark.parametrize("name", ["d1_events", "q12_events", "m1_daily_view__roll"])
def test_a_bare_name_after_in_is_no_table_of_ours(name: str) -> None:
    """D06: in the tree a column and a table look alike there."""
    check_reads(Reads(bare_members=frozenset({"customer_id"})), allowed_tables=frozenset())
    with pytest.raises(ReadRefused):
        check_reads(Reads(bare_members=frozenset({name})), allowed_tables=frozenset())


async def test_secrets_are_for_admins(workspace: Workspace) -> None:
    await deployed(workspace)
    await workspace.post("/v0/variables", data={"name": "sec", "value": "TOPSECRET"})
    ingest = next(t.token for t in workspace.server.catalog.tokens(workspace.id) if t.name == "ingest")
    reply = await workspace.post("/v0/sql", token=ingest, data=b"% SELECT {{tb_secret('sec')}} AS x")
    assert reply.status in (400, 403) and "TOPSECRET" not in reply.text
    assert "TOPSECRET" in (await workspace.post("/v0/sql", data=b"% SELECT {{tb_secret('sec')}} AS x")).text


# Where the engine looks at values before the filter: primary keys, partitions, skip indexes.
LAYOUTS = {
    "key": "ENGINE_SORTING_KEY customer_id, amount",
    "only_key": "ENGINE_SORTING_KEY amount",
    "partition": "ENGINE_PARTITION_KEY amount\nENGINE_SORTING_KEY customer_id",
    "skip_index": "ENGINE_SORTING_KEY customer_id\nINDEXES >\n    INDEX i amount TYPE set(100) GRANULARITY 1",
    "minmax": "ENGINE_SORTING_KEY customer_id\nINDEXES >\n    INDEX i amount TYPE minmax GRANULARITY 1",
}


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_no_layout_of_a_table_asks_for_hidden_values(workspace: Workspace, layout: str) -> None:
    """The primary-key oracle (attack E01) and its kin."""
    table = (
        "SCHEMA >\n    customer_id String `json:$.customer_id`,\n    amount Int64 `json:$.amount`\n\n"
        f"ENGINE MergeTree\n{LAYOUTS[layout]}\nROW_POLICY customer_id = {{{{String(context.customer_id)}}}}\n"
    )
    conditions = {
        "plain": "intDiv(1000, amount - {{Int64(x)}}) >= 0",
        "or": "amount = 1 AND intDiv(1000, amount - {{Int64(x)}}) >= 0 OR intDiv(1000, amount - {{Int64(x)}}) = 3",
    }
    files = {"datasources/rows.datasource": table} | {
        f"endpoints/{name}.pipe": f"NODE n\nSQL >\n    %\n    SELECT count() AS n FROM rows WHERE {text}\nTYPE endpoint\n"
        for name, text in conditions.items()
    }
    renamed = {
        k.replace("or.pipe", "either.pipe").replace("rows.data", "facts.data"): v.replace("FROM rows", "FROM facts")
        for k, v in files.items()
    }
    await workspace.deploy(renamed)
    rows = [{"customer_id": "a", "amount": n} for n in (1, 2)]
    rows += [{"customer_id": f"b{n % 7}", "amount": 5555 + n % 2 * 2222} for n in range(50)]
    assert (await workspace.send("facts", rows)).json["successful_rows"] == 52
    for pipe in ("plain", "either"):
        token = workspace.tenant(pipe, customer_id="a")
        answers = {}
        for guess in (5554, 5555, 5556, 7776, 7777, 7778):
            reply = await workspace.get(f"/v0/pipes/{pipe}.json?x={guess}", token=token)
            answers[guess] = (reply.status, reply.body)
        assert len({status for status, _ in answers.values()}) == 1, answers
        assert answers[5555][0] == 200


async def test_the_primary_key_tells_no_tenant(workspace: Workspace) -> None:
    """E01, the catalogue's (c): a condition on the tenant's own column meets every tenant's number in the index."""
    table = (
        "SCHEMA >\n    tenant Int64 `json:$.tenant`,\n    amount Int64 `json:$.amount`\n\nENGINE MergeTree\n"
        "ENGINE_SORTING_KEY tenant\nROW_POLICY tenant = {{Int64(context.tenant)}}\n"
    )
    pipe = "NODE n\nSQL >\n    %\n    SELECT count() AS n FROM facts WHERE intDiv(1, tenant - {{Int64(x)}}) >= -1\nTYPE endpoint\n"
    await workspace.deploy({"datasources/facts.datasource": table, "endpoints/asking.pipe": pipe})
    physical = f"`{workspace.database}`.`{workspace.server.catalog.snapshot(workspace.id).tables['facts'].physical}`"
    insert = f"INSERT INTO {physical} SELECT if(number < 20000, 6, 76), number FROM numbers(40000)"
    await workspace.server.engine.command(insert)
    token = workspace.tenant("asking", tenant=6)
    answers = {}
    for guess in (75, 76, 77):
        reply = await workspace.get(f"/v0/pipes/asking.json?x={guess}", token=token)
        answers[guess] = (reply.status, reply.body)
    assert len(set(answers.values())) == 1 and answers[76][0] == 200, answers
    assert (await workspace.get("/v0/pipes/asking.json?x=6", token=token)).status == 400
