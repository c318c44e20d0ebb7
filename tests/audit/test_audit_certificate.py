"""The certificate, what makes one weaker than another, and the deploys that this refuses (attack J04)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import msgspec
import pytest

from pipit.audit.certificate import Certificate, certify, decode, weakenings
from pipit.catalog.build import build_snapshot
from pipit.catalog.snapshot import Workspace
from pipit.catalog.state import TableNames
from pipit.datafiles import parse_project
from pipit.errors import BadRequest
from projects import DAILY, DAILY_POLICY, EVENTS, TENANTS
from serving import Reply
from serving import Workspace as Served

POLICY = EVENTS[EVENTS.index("ROW_POLICY >") :]
OPEN = EVENTS.replace(POLICY, "")
PLANS = "SCHEMA >\n    plan String,\n    price UInt32\nENGINE MergeTree\nENGINE_SORTING_KEY plan\n"
READS = "NODE endpoint\nSQL >\n    SELECT action, count() AS n FROM events GROUP BY action\nTYPE endpoint\n"
READS_PLANS = "NODE endpoint\nSQL >\n    SELECT plan, count() AS n FROM plans, events GROUP BY plan\nTYPE endpoint\n"


def certificate(files: Mapping[str, str]) -> Certificate:
    project = parse_project(files)
    names = TableNames(
        datasources={n: f"d1_{n}" for n in project.datasources},
        quarantines={n: f"q1_{n}" for n in project.datasources},
    )
    return certify(build_snapshot(Workspace("w", "w", "pipit_w", ""), project, names))


def project(policy: str = POLICY, reads: str = READS, **more: str) -> dict[str, str]:
    return {
        "datasources/events.datasource": OPEN + policy,
        "datasources/plans.datasource": PLANS,
        "pipes/e.pipe": reads,
        **more,
    }


def weaker(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return [one.sentence for one in weakenings(certificate(before), certificate(after))]


ONE = "ROW_POLICY >\n    customer_id = {{String(context.customer_id)}}\n"
AND_MORE = "ROW_POLICY >\n    (team = 'red')   AND\n    customer_id={{ String(context.customer_id) }}\n"
OTHER = "ROW_POLICY >\n    customer_id != {{String(context.customer_id)}}\n"
OR = "ROW_POLICY >\n    customer_id = {{String(context.customer_id)}} OR team = 'all'\n"
NONE = "ROW_POLICY none REASON 'nobody minds'\n"


def test_the_same_project_gives_the_same_bytes_whatever_the_order_of_its_files() -> None:
    files = project()
    text = certificate(files).encode()
    assert text == certificate(dict(reversed(files.items()))).encode()
    assert decode(text) == certificate(files)
    assert b"/" not in text and b"pipit_w" not in text


def test_nothing_is_weaker_than_itself_or_than_itself_in_other_words() -> None:
    assert weaker(project(), project()) == []
    spaced = "ROW_POLICY >\n    (  customer_id={{String( context.customer_id )}} )\n"
    assert weaker(project(ONE), project(spaced)) == []


def test_a_condition_and_more_is_not_weaker_and_one_less_is() -> None:
    assert weaker(project(ONE), project(AND_MORE)) == []
    (sentence,) = weaker(project(AND_MORE), project(ONE))
    assert sentence == "The ROW_POLICY of 'events' no longer asks for `team = 'red'`"


@pytest.mark.parametrize("other", [OTHER, OR])
def test_another_condition_is_weaker_for_nobody_can_tell(other: str) -> None:
    (sentence,) = weaker(project(ONE), project(other))
    assert "no longer asks for `customer_id = {{String(context.customer_id)}}`" in sentence


def test_an_or_may_get_company_in_brackets() -> None:
    both = OR.replace("    customer_id", "    (customer_id").replace("'all'", "'all') AND amount > 0")
    assert weaker(project(OR), project(both)) == []
    loose = OR.replace("'all'", "'all' AND amount > 0")
    assert len(weaker(project(OR), project(loose))) == 1


def test_a_policy_that_is_gone_is_weaker() -> None:
    assert weaker(project(), project("")) == [
        "The ROW_POLICY of 'events' is removed: every tenant would see all of its rows"
    ]
    (sentence,) = weaker(project(), project(NONE))
    assert sentence.startswith("The ROW_POLICY of 'events' is now `none`, because 'nobody minds'")
    assert weaker(project(""), project()) == []
    assert weaker(project(""), project(NONE)) == []


def test_a_key_that_becomes_optional_is_weaker() -> None:
    asked = "ROW_POLICY >\n    customer_id = {{String(context.customer_id)}} AND team = {{String(context.team)}}\n"
    (sentence,) = weaker(project(asked), project(POLICY))
    assert sentence == (
        "The ROW_POLICY of 'events' asks for `team = {{String(context.team)}}` only of tokens with 'team', no longer of "
        "all"
    )
    assert weaker(project(POLICY), project(asked)) == []
    assert weaker(project(ONE), project(POLICY)) == []  # one more way to narrow
    (sentence,) = weaker(project(POLICY), project(ONE))
    assert "no longer confines tokens with 'team'" in sentence


def test_an_endpoint_that_reads_an_unfiltered_table_now_is_weaker() -> None:
    (sentence,) = weaker(project(), project(reads=READS_PLANS))
    assert sentence == "The endpoint 'e' reads 'plans' now, which no filter confines"
    said = project(reads=READS_PLANS) | {"datasources/plans.datasource": PLANS + NONE}
    assert weaker(project(), said) == []
    assert weaker(project(""), project("", READS_PLANS)) == []  # nothing confined it before


def test_fixed_params_that_are_gone_are_weaker() -> None:
    fixed = "FIXED_PARAMS customer_id\n" + READS
    assert weaker(project("", fixed), project("")) == [
        "The endpoint 'e' no longer has FIXED_PARAMS customer_id: a token need not fix it"
    ]
    assert weaker(project(""), project("", fixed)) == []


def test_a_table_that_was_closed_to_tenants_stays_closed() -> None:
    closed = TENANTS | {"datasources/daily.datasource": DAILY}
    assert certificate(closed).tables["daily"].filter == "refused"
    assert "was closed to tenants" in weaker(closed, TENANTS | {"datasources/daily.datasource": DAILY + NONE})[0]
    assert weaker(closed, TENANTS | {"datasources/daily.datasource": DAILY_POLICY}) == []


def test_a_policy_s_column_that_gets_its_values_elsewhere_is_weaker() -> None:
    for changed in (
        EVENTS.replace("`json:$.customer_id`", "`json:$.reseller_id`"),
        EVENTS.replace("`json:$.customer_id`", "`json:$.customer_id` DEFAULT 'acme'"),
        EVENTS.replace("`customer_id` String", "`customer_id` LowCardinality(String)"),
    ):
        (sentence,) = weaker(TENANTS, TENANTS | {"datasources/events.datasource": changed})
        assert "'customer_id', which the ROW_POLICY of 'events' compares" in sentence
    other = EVENTS.replace("`json:$.action`", "`json:$.verb`")
    assert weaker(TENANTS, TENANTS | {"datasources/events.datasource": other}) == []


CARRYING = [
    "SELECT toDate(timestamp) AS day, customer_id, countState() AS events FROM events GROUP BY day, customer_id",
    "SELECT toDate(timestamp) day, e.customer_id AS customer_id, countState() AS events FROM events e "
    "WHERE amount > 0 GROUP BY 1, 2",
    "SELECT countState() AS events, customer_id, toDate(timestamp) AS day FROM events GROUP BY ALL",
]
NOT_CARRYING = [
    "SELECT toDate(timestamp) AS day, lower(customer_id) AS customer_id, countState() AS events FROM events "
    "GROUP BY day, customer_id",
    "SELECT toDate(timestamp) AS day, team AS customer_id, countState() AS events FROM events GROUP BY day, customer_id",
    "SELECT toDate(timestamp) AS day, any(customer_id) AS customer_id, countState() AS events FROM events GROUP BY day",
    "SELECT toDate(timestamp) AS day, 'acme' AS customer_id, countState() AS events FROM events GROUP BY day",
    "SELECT toDate(timestamp) AS day, if(amount > 0, customer_id, 'acme') AS customer_id, countState() AS events "
    "FROM events GROUP BY day, customer_id",
    "SELECT toDate(timestamp) AS day, customer_id, countState() AS events FROM events GROUP BY day, customer_id "
    "UNION ALL SELECT toDate(timestamp) AS day, team AS customer_id, countState() AS events FROM events "
    "GROUP BY day, customer_id",
    "WITH 'acme' AS customer_id SELECT toDate(timestamp) AS day, customer_id, countState() AS events FROM events "
    "GROUP BY day, customer_id",
    "SELECT toDate(timestamp) AS day, customer_id, countState() AS events FROM "
    "(SELECT timestamp, team AS customer_id FROM events) GROUP BY day, customer_id",
    # An alias anywhere hides the column of that name.
    "SELECT toDate(timestamp) AS day, customer_id, countState() AS events FROM events WHERE (team AS customer_id) != '' "
    "GROUP BY day, customer_id",
    "SELECT toDate(timestamp) AS day, customer_id, countState() AS events FROM events "
    "GROUP BY day, team AS customer_id",
    "SELECT toDate(timestamp) AS day, customer_id, countState() AS events FROM events "
    "WHERE notEmpty(lower(team) customer_id) GROUP BY day, customer_id",
]


def filled(sql: str) -> dict[str, str]:
    view = f"NODE roll\nSQL >\n    {sql}\nTYPE materialized\nDATASOURCE daily\n"
    return TENANTS | {"materializations/daily_view.pipe": view}


@pytest.mark.parametrize("sql", CARRYING)
def test_a_view_that_hands_the_tenant_on_may_change(sql: str) -> None:
    assert certificate(filled(sql)).tables["daily"].filled_by == {"daily_view.roll": "carried"}
    assert weaker(TENANTS, filled(sql)) == []


@pytest.mark.parametrize("sql", NOT_CARRYING)
def test_a_view_that_may_mix_tenants_is_weaker(sql: str) -> None:
    (sentence,) = weaker(TENANTS, filled(sql))
    assert sentence.startswith("'daily_view.roll' fills 'daily' in another way than before")
    assert weaker(filled(sql), filled(sql.replace(" FROM events", "   FROM events /* the same */"))) == []
    assert weaker(filled(sql), TENANTS) == []
    assert len(weaker(filled(sql), filled(sql.replace("toDate(timestamp)", "toMonday(timestamp)")))) == 1


def test_what_is_no_certificate_is_refused() -> None:
    for text in (b"{", b"[]", b'{"version": 99}', b"{}"):
        with pytest.raises(BadRequest):
            decode(text)


# Deploys over HTTP.


async def deploy(workspace: Served, files: Mapping[str, str], **flags: str) -> Reply:
    form = aiohttp.FormData()
    for name, text in files.items():
        form.add_field("data_project://", text.encode(), filename=name, content_type="text/plain")
    query = "&".join(f"{key}={value}" for key, value in {"auto_promote": "true", **flags}.items())
    return await workspace.post(f"/v1/deploy?{query}", data=form)


@pytest.fixture
async def live(workspace: Served) -> AsyncIterator[Served]:
    assert (await deploy(workspace, project())).status == 200
    yield workspace


WEAKER: list[tuple[dict[str, str], str]] = [
    (project(""), "is removed"),
    (project(NONE), "is now `none`"),
    (project(OTHER), "no longer asks for"),
    (project(reads=READS_PLANS), "reads 'plans' now"),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("files", "sentence"), WEAKER)
async def test_a_weaker_project_is_deployed_only_where_that_is_said(
    live: Served, files: dict[str, str], sentence: str
) -> None:
    """J04: a deploy that removes a tenant filter is refused; `allow_destructive_operations` is not the word for it."""
    for flags in ({}, {"allow_destructive_operations": "true"}, {"check": "true"}):
        reply = await deploy(live, files, **flags)
        assert reply.status == 400, reply.text
        body: dict[str, Any] = reply.json
        assert body["code"] == "project_error"
        assert sentence in body["errors"][0]["message"]
        assert "--allow-weaker" in body["errors"][0]["hint"]
    assert live.server.catalog.snapshot(live.id).deployment == 1
    reply = await deploy(live, files, allow_weaker="true")
    assert reply.status == 200, reply.text
    assert live.server.catalog.snapshot(live.id).deployment == 2


@pytest.mark.anyio
async def test_a_stricter_project_is_deployed(live: Served) -> None:
    strict = POLICY.replace("customer_id = {{", "team != 'x' AND customer_id = {{")
    assert (await deploy(live, project(strict))).status == 200


def test_an_endpoint_that_turns_to_a_total_of_everybodys_rows_is_weaker() -> None:
    total = "SCHEMA >\n    action String,\n    n UInt64\nENGINE SummingMergeTree\nENGINE_SORTING_KEY action\n"
    view = "NODE v\nSQL >\n    SELECT action, count() AS n FROM events GROUP BY action\nTYPE materialized\nDATASOURCE total\n"
    files = {"datasources/total.datasource": total + "ROW_POLICY none REASON 'totals'\n", "pipes/to_total.pipe": view}
    before = project(**files)
    for reads in ("SELECT * FROM total", "SELECT action, 1 AS n FROM events UNION ALL SELECT * FROM total"):
        after = project(reads=f"NODE endpoint\nSQL >\n    {reads}\nTYPE endpoint\n", **files)
        (sentence,) = weaker(before, after)
        assert "'total'" in sentence and "'events'" in sentence
    plans = project(reads=READS_PLANS, **{"datasources/plans.datasource": PLANS + "ROW_POLICY none REASON 'prices'\n"})
    assert weaker(project(**{"datasources/plans.datasource": PLANS + "ROW_POLICY none REASON 'prices'\n"}), plans) == []


def test_a_confined_endpoint_that_turns_to_an_open_table_is_weaker() -> None:
    was = certificate(project(policy=""))
    was = msgspec.structs.replace(
        was, endpoints={n: msgspec.structs.replace(e, confined={"events": ("customer_id",)}) for n, e in was.endpoints.items()}
    )
    reads = READS.replace("FROM events", "FROM plans").replace("action,", "plan AS action,")
    found = [one.sentence for one in weakenings(was, certificate(project(policy="", reads=reads)))]
    assert any("'plans'" in sentence for sentence in found), found
