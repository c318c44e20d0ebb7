"""Each finding of `pipit audit` with a project that has it and one that does not; the demo project has none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pipit.audit.examination import AuditOptions, examine
from pipit.audit.findings import CODES
from pipit.audit.report import AuditReport, EndpointReport, Verdict
from pipit.datafiles import read_project
from pipit.engine import Engine
from pipit.errors import BadRequest
from projects import DAILY, DAILY_POLICY, DAILY_VIEW, EVENTS, TENANTS

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
POLICY = EVENTS[EVENTS.index("ROW_POLICY >") :]
OPEN = EVENTS.replace(POLICY, "")
PLANS = "SCHEMA >\n    plan String,\n    price UInt32\nENGINE MergeTree\nENGINE_SORTING_KEY plan\n"
NONE = "ROW_POLICY none REASON 'prices are public'\n"


def endpoint(sql: str, *, head: str = "") -> str:
    lines = "\n".join(f"    {line}" for line in sql.strip().splitlines())
    return f"{head}NODE n\nSQL >\n{lines}\nTYPE endpoint\n"


def policed(sql: str, **more: str) -> dict[str, str]:
    return {"datasources/events.datasource": EVENTS, "pipes/e.pipe": endpoint(sql), **more}


def unpoliced(sql: str, *, head: str = "", **more: str) -> dict[str, str]:
    return {"datasources/events.datasource": OPEN, "pipes/e.pipe": endpoint(sql, head=head), **more}


async def audited(engine: Engine, files: Mapping[str, str], *fixed: str, require: bool = False) -> AuditReport:
    return await examine(engine, files, AuditOptions(fixed, require))


def codes(report: AuditReport) -> dict[str, str]:
    return {finding.code: finding.severity.value for finding in report.findings}


def only(report: AuditReport) -> EndpointReport:
    (one,) = report.endpoints
    return one


GUARD = """
%
SELECT amount FROM events
WHERE 1 {% if defined(customer_id) %} AND customer_id = {{String(customer_id)}} {% end %}
"""
ALWAYS = """
%
SELECT amount FROM events
WHERE customer_id = {{String(customer_id)}} {% if defined(team) %} AND team = {{String(team)}} {% end %}
"""
SWITCH = """
%
SELECT amount FROM events
WHERE 1
{% if defined(everything) and everything == 'yes' %} AND amount > 0
{% else %} AND customer_id = {{String(customer_id)}} {% end %}
"""
DEFAULT = "%\nSELECT amount FROM events WHERE customer_id = {{String(customer_id, '')}}"
EMPTY = """
%
{% set who = String(customer_id) %}
SELECT amount FROM events WHERE 1 {% if who != '' %} AND customer_id = {{who}} {% end %}
"""
TWICE = """
%
SELECT amount FROM events WHERE 1
{% if String(a, '') != 'x' %} AND customer_id = {{String(customer_id)}} {% end %}
{% if String(b, '') != 'y' %} AND customer_id = {{String(customer_id)}} {% end %}
-- b
"""
PAIR = """
%
SELECT amount FROM events WHERE 1
{% if String(a, '') == 'x' and String(b, '') == 'y' %} AND 1
{% else %} AND customer_id = {{String(customer_id)}} {% end %}
"""
MIXED_VIEW = DAILY_VIEW.replace("customer_id, count", "CUSTOMER, count").replace("day, customer_id", "day")
OF_DAILY = "%\nSELECT countMerge(events) AS n FROM daily WHERE customer_id = {{String(customer_id)}}"
FILLED = {"datasources/daily.datasource": DAILY}
OF_DAYS = "%\nSELECT events AS n FROM days WHERE customer_id = {{String(customer_id)}}"
COPIED = {
    "datasources/days.datasource": (
        "SCHEMA >\n    customer_id String,\n    events UInt64\nENGINE MergeTree\nENGINE_SORTING_KEY customer_id\n"
    ),
    "copies/days_copy.pipe": (
        "NODE n\nSQL >\n    SELECT customer_id, countMerge(events) AS events FROM daily GROUP BY customer_id\n"
        "TYPE copy\nTARGET_DATASOURCE days\nCOPY_SCHEDULE @on-demand\n"
    ),
}
OTHER_COLUMN = """
%
SELECT a.amount FROM events AS a LEFT JOIN people AS p ON a.team = p.team
WHERE p.customer_id = {{String(customer_id)}}
"""
PEOPLE = "SCHEMA >\n    customer_id String,\n    team String\nENGINE MergeTree\nENGINE_SORTING_KEY team\n"
SUMS = DAILY.replace("customer_id, day", "day")

FOUND: dict[str, tuple[dict[str, str], dict[str, str], tuple[str, ...], str, str]] = {
    # name -> with it, without it, --fixed, code, severity
    "a view's target": (
        TENANTS | {"datasources/daily.datasource": DAILY},
        TENANTS,
        (),
        "policy_missing",
        "error",
    ),
    "a target that says so": (
        TENANTS | {"datasources/daily.datasource": DAILY},
        TENANTS | {"datasources/daily.datasource": DAILY + NONE},
        (),
        "policy_missing",
        "error",
    ),
    "a policy over a column that is not there": (
        policed("SELECT amount FROM events")
        | {"datasources/events.datasource": EVENTS.replace("customer_id = {{", "nobody = {{")},
        policed("SELECT amount FROM events"),
        (),
        "policy_fails",
        "error",
    ),
    "a policy that compares a number with a text": (
        policed("SELECT amount FROM events")
        | {"datasources/events.datasource": OPEN + "ROW_POLICY >\n    amount = {{String(context.amount)}}\n"},
        policed("SELECT amount FROM events")
        | {"datasources/events.datasource": OPEN + "ROW_POLICY >\n    amount = {{Int64(context.amount)}}\n"},
        (),
        "policy_fails",
        "error",
    ),
    "a key without the policy's column": (
        TENANTS | {"datasources/daily.datasource": DAILY_POLICY.replace("customer_id, day", "day")},
        TENANTS,
        (),
        "merges_tenants",
        "error",
    ),
    "merge()": (
        policed("SELECT amount FROM merge('x', 'events')"),
        policed("SELECT amount FROM events"),
        (),
        "goes_around",
        "error",
    ),
    "dictGet()": (
        policed("SELECT dictGet('d', 'v', amount) AS v FROM events"),
        policed("SELECT amount FROM events"),
        (),
        "goes_around",
        "error",
    ),
    "inner SETTINGS": (
        policed("SELECT amount FROM (SELECT amount FROM events SETTINGS additional_table_filters = {})"),
        policed("SELECT amount FROM (SELECT amount FROM events SETTINGS max_threads = 1)"),
        (),
        "goes_around",
        "error",
    ),
    "one branch with merge()": (
        policed("%\nSELECT amount FROM {% if defined(all) %} merge('x', 'events') {% else %} events {% end %}"),
        policed("%\nSELECT amount FROM {% if defined(all) %} events {% else %} events {% end %}"),
        (),
        "goes_around",
        "error",
    ),
    "throwIf under a policy": (
        policed("SELECT amount FROM events WHERE throwIf(amount > 5) = 0"),
        policed("SELECT amount FROM events WHERE amount <= 5"),
        (),
        "tells_of_others",
        "error",
    ),
    "a quarantine": (
        policed("SELECT count() AS n FROM events_quarantine"),
        policed("SELECT count() AS n FROM events"),
        (),
        "quarantine",
        "error",
    ),
    "a table that nothing is said of": (
        policed("SELECT price FROM plans, events", **{"datasources/plans.datasource": PLANS}),
        policed("SELECT price FROM plans, events", **{"datasources/plans.datasource": PLANS + NONE}),
        (),
        "open_table",
        "warning",
    ),
    "a guarded condition": (
        unpoliced(GUARD),
        unpoliced(ALWAYS),
        ("customer_id",),
        "guarded_filter",
        "error",
    ),
    "a guarded condition with FIXED_PARAMS": (
        unpoliced(GUARD, head="FIXED_PARAMS customer_id\n"),
        unpoliced(ALWAYS, head="FIXED_PARAMS customer_id\n"),
        (),
        "guarded_filter",
        "error",
    ),
    "an empty value": (unpoliced(EMPTY), unpoliced(ALWAYS), ("customer_id",), "guarded_filter", "error"),
    "a default": (unpoliced(DEFAULT), unpoliced(ALWAYS), ("customer_id",), "fixed_default", "error"),
    "another parameter": (unpoliced(SWITCH), unpoliced(ALWAYS), ("customer_id",), "switched_off", "error"),
    "another parameter in its place, in the same text": (
        unpoliced(ALWAYS.replace("String(customer_id)", "String(org, String(customer_id))")),
        unpoliced(ALWAYS),
        ("customer_id",),
        "switched_off",
        "error",
    ),
    "two conditions that each drop one copy": (
        unpoliced(TWICE),
        unpoliced(TWICE.replace("{% if String(b, '') != 'y' %}", "").replace("{% end %}\n-- b", "")),
        ("customer_id",),
        "switched_off",
        "error",
    ),
    "two values together": (
        unpoliced(PAIR),
        unpoliced(PAIR.replace("AND 1", "AND customer_id = {{String(customer_id)}}")),
        ("customer_id",),
        "switched_off",
        "error",
    ),
    "a view with a constant for the tenant": (
        TENANTS | {"materializations/daily_view.pipe": MIXED_VIEW.replace("CUSTOMER", "'acme' AS customer_id")},
        TENANTS,
        (),
        "mixes_tenants",
        "error",
    ),
    "a view with any tenant of a group": (
        TENANTS | {"materializations/daily_view.pipe": MIXED_VIEW.replace("CUSTOMER", "any(events.customer_id) AS customer_id")},
        TENANTS,
        (),
        "mixes_tenants",
        "error",
    ),
    "a view with any tenant of a group, and a fixed parameter": (
        unpoliced(OF_DAILY, **FILLED | {"m/v.pipe": MIXED_VIEW.replace("CUSTOMER", "any(events.customer_id) AS customer_id")}),
        unpoliced(OF_DAILY, **FILLED | {"m/v.pipe": DAILY_VIEW}),
        ("customer_id",),
        "mixes_tenants",
        "error",
    ),
    "a copy of a table that such a view fills": (
        unpoliced(
            OF_DAYS,
            **FILLED | COPIED | {"m/v.pipe": MIXED_VIEW.replace("CUSTOMER", "any(events.customer_id) AS customer_id")},
        ),
        unpoliced(OF_DAYS, **FILLED | COPIED | {"m/v.pipe": DAILY_VIEW}),
        ("customer_id",),
        "mixes_tenants",
        "error",
    ),
    "a view that changes the tenant": (
        TENANTS
        | {
            "materializations/daily_view.pipe": MIXED_VIEW.replace("CUSTOMER", "lower(customer_id) AS customer_id").replace(
                "GROUP BY day", "GROUP BY day, customer_id"
            )
        },
        TENANTS,
        (),
        "mixes_tenants",
        "warning",
    ),
    "the other table of a join": (
        unpoliced(OTHER_COLUMN, **{"datasources/people.datasource": PEOPLE}),
        unpoliced(OTHER_COLUMN.replace("WHERE", "WHERE a.customer_id = p.customer_id AND"))
        | {"datasources/people.datasource": PEOPLE},
        ("customer_id",),
        "not_confined",
        "error",
    ),
    "a rollup over all tenants": (
        unpoliced(ALWAYS)
        | {
            "datasources/total.datasource": "SCHEMA >\n    action String,\n    amount Int64\n"
            "ENGINE SummingMergeTree\nENGINE_SORTING_KEY action\n",
            "pipes/roll.pipe": "NODE r\nSQL >\n    SELECT action, sum(amount) AS amount FROM events GROUP BY action\n"
            "TYPE materialized\nDATASOURCE total\n",
            "pipes/e.pipe": endpoint(
                "%\nSELECT amount FROM events WHERE customer_id = {{String(customer_id)}} "
                "UNION ALL SELECT amount FROM total"
            ),
        },
        unpoliced(ALWAYS),
        ("customer_id",),
        "not_confined",
        "error",
    ),
    "a merging engine without the tenant in its key": (
        unpoliced(ALWAYS)
        | {
            "datasources/events.datasource": OPEN.replace("ENGINE MergeTree", "ENGINE ReplacingMergeTree").replace(
                "customer_id, timestamp", "timestamp"
            )
        },
        unpoliced(ALWAYS)
        | {"datasources/events.datasource": OPEN.replace("ENGINE MergeTree", "ENGINE ReplacingMergeTree")},
        ("customer_id",),
        "merges_tenants",
        "error",
    ),
    "a column that a request names": (
        policed("%\nSELECT {{column(by, 'team')}} AS c FROM events"),
        policed("%\nSELECT {{column(by, 'team', enum=['team', 'action'])}} AS c FROM events"),
        (),
        "open_identifier",
        "error",
    ),
    "a column that a request names, listed by a condition": (
        policed("%\nSELECT {{column(by, 'team')}} AS c FROM events"),
        policed(
            "%\n{% if defined(by) and by not in ['team', 'action'] %} {{error('no')}} {% end %}"
            "SELECT {{column(by, 'team')}} AS c FROM events"
        ),
        (),
        "open_identifier",
        "error",
    ),
    "a table that a request names, where nothing is policed": (
        unpoliced("%\nSELECT count() AS n FROM {{table(which, 'events')}}"),
        unpoliced("%\nSELECT count() AS n FROM {% if which == 'a' %} events {% else %} events {% end %}"),
        (),
        "open_identifier",
        "warning",
    ),
    "a branch that nothing reaches": (
        policed(
            "%\nSELECT amount FROM events {% if String(x, '') == 'a' and String(x, '') == 'b' %} WHERE 1 {% end %}"
        ),
        policed("%\nSELECT amount FROM events {% if String(x, '') == 'a' %} WHERE 1 {% end %}"),
        (),
        "unreached_branch",
        "warning",
    ),
    "SQL SECURITY": (
        policed("CREATE VIEW v SQL SECURITY DEFINER AS SELECT amount FROM events"),
        policed("SELECT amount FROM events"),
        (),
        "definer",
        "error",
    ),
    "a file that does not parse": (
        unpoliced("SELECT amount FROM events", **{"datasources/bad.datasource": "SCHEMA >\n    a Strnig\n"}),
        unpoliced("SELECT amount FROM events"),
        (),
        "not_deployable",
        "warning",
    ),
}


@pytest.mark.parametrize("name", FOUND)
async def test_found_where_it_is(engine: Engine, name: str) -> None:
    bad, _, fixed, code, severity = FOUND[name]
    report = await audited(engine, bad, *fixed)
    assert codes(report).get(code) == severity, report.findings
    for finding in report.findings:
        assert finding.file in {*bad, "the project"}
        assert finding.line and finding.column and finding.message
        assert finding.code in CODES


@pytest.mark.parametrize("name", FOUND)
async def test_not_found_where_it_is_not(engine: Engine, name: str) -> None:
    _, good, fixed, code, _ = FOUND[name]
    report = await audited(engine, good, *fixed)
    assert code not in codes(report), report.findings


BY_NAME: dict[str, tuple[str, str]] = {
    # what a message quotes, in the words of an older rule -> (a node's SQL, the code)
    "a setting": ("SELECT nope FROM user_settings", "refused"),
    "a setting that is not there": ("SELECT amount FROM user_setting", "refused"),
    "a dictionary": ("SELECT nope FROM dictionary_of_words", "refused"),
    "a table function": ("SELECT `Table function` FROM user_settings", "refused"),
    "not allowed here": ("SELECT `not allowed here` FROM user_settings", "refused"),
    "a column of an engine": ("SELECT `Engine Merge` FROM user_settings", "refused"),
    "a function with a setting's name": ("SELECT getSetting('max_threads') AS a FROM user_settings", "refused"),
}


@pytest.mark.parametrize("name", BY_NAME)
async def test_a_name_that_reads_like_a_message_decides_nothing(engine: Engine, name: str) -> None:
    """A typo beside a table named `user_settings` is a typo, and no way around row filters."""
    sql, code = BY_NAME[name]
    files = policed(sql, **{f"datasources/{n}.datasource": EVENTS for n in ("user_settings", "dictionary_of_words")})
    report = await audited(engine, files)
    found = codes(report)
    assert code in found and "goes_around" not in found, report.findings


OF_FILES: dict[str, str] = {
    "a column whose type there is not": "SCHEMA >\n    `table function setting` Strin\n",
    "a default that is no value": "SCHEMA >\n    user_settings UInt8 DEFAULT 'dictionary'\n",
    "a setting that is written wrongly": "SCHEMA >\n    a UInt8\nENGINE MergeTree\nENGINE_SORTING_KEY a\nENGINE_SETTINGS x\n",
    "an engine that there is not": "SCHEMA >\n    a UInt8\nENGINE MergeJoin\nENGINE_SORTING_KEY a\n",
    "a policy in a description": "DESCRIPTION ROW_POLICY\nSCHEMA >\n    `ROW_POLICY` Strin\n",
    "a column that chooses a table": "SCHEMA >\n    `chooses a table` Strin\n",
    "rows that would merge": "SCHEMA >\n    `would merge rows of different tenants` Strin\n",
}


@pytest.mark.parametrize("name", OF_FILES)
async def test_nor_does_one_in_a_file(engine: Engine, name: str) -> None:
    report = await audited(engine, {"datasources/user_settings.datasource": OF_FILES[name]})
    assert set(codes(report)) == {"not_deployable"}, report.findings


async def test_places_are_those_of_the_file(engine: Engine) -> None:
    report = await audited(engine, unpoliced(GUARD), "customer_id")
    (finding,) = report.errors
    text = unpoliced(GUARD)["pipes/e.pipe"].splitlines()
    assert text[finding.line - 1][finding.column - 1 :].startswith("{% if defined(customer_id) %}")


async def test_the_demo_project_is_clean(engine: Engine) -> None:
    report = await audited(engine, read_project(ROOT))
    assert report.findings == ()
    assert len(report.endpoints) == 9
    assert all(read.filter == "policy" for one in report.endpoints for read in one.tables)
    billing = next(one for one in report.endpoints if one.name == "usage_for_billing")
    assert [(read.table, read.keys, read.optional) for read in billing.tables] == [
        ("contracts", ("customer_id",), ()),
        ("usage_hourly", ("customer_id",), ("team",)),
    ]


async def test_policies_can_be_required(engine: Engine) -> None:
    files = policed("SELECT price FROM plans, events", **{"datasources/plans.datasource": PLANS})
    assert codes(await audited(engine, files, require=True))["policy_required"] == "error"
    said = files | {"datasources/plans.datasource": PLANS + NONE}
    assert codes(await audited(engine, said, require=True)) == {}


async def test_what_a_fixed_parameter_confines_is_in_the_certificate(engine: Engine) -> None:
    report = await audited(engine, unpoliced(ALWAYS), "customer_id")
    assert report.findings == ()
    assert only(report).verdict is Verdict.CONFINED
    assert report.certificate.endpoints["e"].confined == {"events": ("customer_id",)}
    assert report.certificate.fixed == ("customer_id",)
    guarded = await audited(engine, unpoliced(GUARD), "customer_id")
    assert only(guarded).verdict is Verdict.SWITCHABLE


async def test_every_branch_is_seen_and_what_decides_is_named(engine: Engine) -> None:
    sql = """
%
{% if defined(a) %}
    {% if a == 'deep' %} SELECT price FROM plans {% else %} SELECT amount FROM events {% end %}
{% else %} SELECT 1 AS one {% end %}
"""
    report = await audited(engine, policed(sql, **{"datasources/plans.datasource": PLANS + NONE}))
    one = only(report)
    assert [read.table for read in one.tables] == ["events", "plans"]
    assert one.renderings == 3 and one.complete and not one.unreached
    assert [(d.name, d.branch) for d in one.deciders] == [("a", True)]


async def test_a_parameter_that_no_pipe_takes_is_a_mistake(engine: Engine) -> None:
    with pytest.raises(BadRequest, match="nobody_id"):
        await audited(engine, unpoliced(ALWAYS), "nobody_id")


async def test_numbers_and_lists_can_be_fixed(engine: Engine) -> None:
    for sql in (
        "%\nSELECT team FROM events WHERE amount = {{Int64(tenant)}}",
        "%\nSELECT team FROM events WHERE customer_id IN {{Array(tenant, 'String')}}",
        "%\nSELECT team FROM events WHERE toString(amount) = {{String(tenant)}}",
        "%\nSELECT team FROM events WHERE toDate(timestamp) > {{Date(day)}} AND team = {{String(tenant)}}",
    ):
        report = await audited(engine, unpoliced(sql), "tenant")
        assert only(report).verdict is Verdict.CONFINED, report.findings


async def test_a_classic_target_without_a_file_and_a_shared_data_source_are_audited_like_others(engine: Engine) -> None:
    view = DAILY_VIEW + "ENGINE AggregatingMergeTree\nENGINE_SORTING_KEY customer_id, day\n"
    report = await audited(
        engine,
        {
            "vendor/shop/events.datasource": EVENTS,
            "materializations/daily_view.pipe": view.replace("FROM events", "FROM shop.events"),
            "pipes/totals.pipe": endpoint("SELECT count() AS n FROM daily"),
            "pipes/latest.pipe": endpoint("%\nSELECT amount FROM shop.events WHERE amount > {{Int32(least, 0)}}"),
        },
    )
    reads = {one.name: [(r.table, r.filter, r.from_tables) for r in one.tables] for one in report.endpoints}
    assert reads == {"latest": [("shop.events", "policy", ())], "totals": [("daily", "refused", ("shop.events",))]}
    broken = view.replace("FROM events", "FROM nowhere")
    report = await audited(engine, policed("SELECT 1 AS one", **{"materializations/daily_view.pipe": broken}))
    assert [(f.file, f.line) for f in report.findings if "cannot be made" in f.message] == [
        ("materializations/daily_view.pipe", 9)
    ]


LANDING = "SCHEMA >\n    tenant String,\n    amount UInt32\nENGINE MergeTree\nENGINE_SORTING_KEY tenant\n"
SUMS = (
    "SCHEMA >\n    customer_id String,\n    amount UInt64\nENGINE MergeTree\nENGINE_SORTING_KEY customer_id\n"
    "ROW_POLICY >\n    customer_id = {{String(context.customer_id)}}\n"
)


def flowing(sql: str, *, landing: str = LANDING, sums: str = SUMS) -> dict[str, str]:
    return {
        "datasources/landing.datasource": landing,
        "datasources/sums.datasource": sums,
        "pipes/flow.pipe": f"NODE mv\nSQL >\n    {sql}\nTYPE materialized\nDATASOURCE sums\n",
        "pipes/e.pipe": endpoint("SELECT amount FROM sums"),
    }


async def test_appends_that_reach_a_policed_table(engine: Engine) -> None:
    """Named by lineage alone: which columns JWTs have to fix, or that none may append; static tokens by name."""
    sql = "SELECT tenant AS customer_id, amount FROM landing"
    report = await audited(engine, flowing(sql, landing="TOKEN collector APPEND\n\n" + LANDING))
    (found,) = [finding for finding in report.findings if finding.code == "appends_through"]
    assert (found.severity, found.file, found.line) == ("warning", "pipes/flow.pipe", 3)
    assert "'flow.mv' makes 'tenant' of 'landing' into 'customer_id' of 'sums'" in found.message
    assert "must fix 'tenant', or is refused" in found.message
    assert "DATASOURCES:APPEND:landing" in found.hint and "'collector'" in found.hint and "unfixed_appends" in found.hint
    open_ = await examine(engine, flowing(sql), AuditOptions(unfixed_appends=True))
    (found,) = [finding for finding in open_.findings if finding.code == "appends_through"]
    assert found.severity == "error" and "writes in any tenant's name" in found.message
    assert open_.certificate.unfixed_appends
    unfixable = await audited(engine, flowing("SELECT 'b' AS customer_id, amount FROM landing"))
    (found,) = [finding for finding in unfixable.findings if finding.code == "appends_through"]
    assert "No JWT may append to it" in found.message and "it is a constant" in found.message
    # Nothing where the data source's own policy asks for it already, nor where nothing is policed.
    policy = "ROW_POLICY >\n    tenant = {{String(context.tenant)}}\n"
    for files in (flowing(sql, landing=LANDING + policy), flowing(sql, sums=SUMS.split("ROW_POLICY")[0])):
        assert "appends_through" not in codes(await audited(engine, files))
