"""A plan is remembered for the very token, snapshot and values that it was made for, and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pipit.access.params import RequestParams, SentParameter
from pipit.query.formats import CSV, JSON
from pipit.query.plan import PlanMemory
from pipit.query.planner import Draft, Planner
from pipit.query.queries import PipeQuery, Read, ReadOrigin, SqlQuery
from projects import ROWS, TENANTS
from serving import Workspace

pytestmark = pytest.mark.anyio

TOLD = (
    "NODE e\nSQL >\n    %\n    SELECT customer_id, {{String(word, 'none')}} AS word, toTypeName({{String(word, 'none')}}) AS type, "
    "{% if defined(flag) %} {{Boolean(flag)}} {% else %} 2 {% end %} AS flag FROM events LIMIT 1\nTYPE endpoint\n"
)
PIPES = {"endpoints/told.pipe": TOLD}


@pytest.fixture
def drafted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Read]]:
    """The reads that were planned anew."""
    seen: list[Read] = []
    draft = Planner.draft

    def watched(self: Planner, read: Read, *more: Any) -> Draft:
        seen.append(read)
        return draft(self, read, *more)

    monkeypatch.setattr(Planner, "draft", watched)
    yield seen


@pytest.fixture
async def project(workspace: Workspace) -> Workspace:
    await workspace.deploy(TENANTS | PIPES)
    await workspace.send("events", ROWS)
    return workspace


def query(*sent: tuple[str, object], pipe: str = "told", **more: Any) -> PipeQuery:
    return PipeQuery(pipe, RequestParams(tuple(SentParameter("query", *one) for one in sent)), more.pop("format", JSON), **more)


def read_by(workspace: Workspace, token: str, asked: Any, **more: Any) -> Read:
    server = workspace.server
    security = server.authenticator.check(token, server.catalog.keyring)
    return Read(server.catalog.snapshot(workspace.id), security, asked, **more)


async def test_the_same_read_is_planned_once(project: Workspace, drafted: list[Read]) -> None:
    token, reader = project.tenant("told", customer_id="a"), project.server.reader
    first = await reader.prepare(read_by(project, token, query(("word", "x")), request_id="1", origin=ReadOrigin(url="/1")))
    again = await reader.prepare(read_by(project, token, query(("word", "x")), request_id="2", origin=ReadOrigin(url="/2")))
    assert len(drafted) == 1
    assert (again.read.request_id, again.read.origin.url) == ("2", "/2"), "what is logged is this request's own"
    assert (again.composed, again.params, again.filters, again.settings) == (
        first.composed,
        first.params,
        first.filters,
        first.settings,
    )


async def test_every_read_gets_what_it_asked_for(project: Workspace, drafted: list[Read]) -> None:
    """Also where two requests differ in their values, in a value's type, in the format or in a setting only."""
    token, reader = project.tenant("told", "latest", customer_id="a"), project.server.reader
    asked = [
        query(),
        query(("word", "x")),
        query(("word", "y")),
        query(("words", "x")),
        query(("word", "")),
        query(("flag", "1")),
        query(("flag", "0")),
        query(("word", "x"), ("flag", "1")),
        query(("word", "x"), format=CSV),
        query(("word", "x"), settings={"output_format_json_quote_64bit_integers": "1"}),
        query(pipe="latest"),
    ]
    plans = [await reader.prepare(read_by(project, token, one)) for one in asked]
    assert len(drafted) == len(asked)
    assert [await reader.prepare(read_by(project, token, one)) for one in asked] == plans
    assert len(drafted) == len(asked)


@pytest.mark.parametrize("values", [(1, True, 1.0), ("1", 1), (0, False), (["a"], ["b"])])
async def test_values_that_are_no_texts_are_not_remembered(
    project: Workspace, drafted: list[Read], values: tuple[object, ...]
) -> None:
    token, reader = project.tenant("told", customer_id="a"), project.server.reader
    once = [await reader.prepare(read_by(project, token, query(("other", value)))) for value in values]
    number = len(drafted)
    again = [await reader.prepare(read_by(project, token, query(("other", value)))) for value in values]
    assert [plan.params for plan in once] == [plan.params for plan in again]
    assert len(drafted) - number == sum(not isinstance(value, str) for value in values)


async def test_each_token_has_plans_of_its_own(project: Workspace, drafted: list[Read]) -> None:
    """Two tenants' tokens of one name, also where one has asked before."""
    reader = project.server.reader
    a, b = (project.tenant("told", customer_id=customer) for customer in ("a", "b"))
    for _ in range(2):
        plans = [await reader.prepare(read_by(project, token, query())) for token in (a, b)]
        for plan, customer in zip(plans, ("a", "b"), strict=True):
            assert [f"'{customer}'" in text for text in plan.filters.values()] == [True]
    assert len(drafted) == 2


async def test_who_may_not_read_is_refused_whoever_asked_before(project: Workspace) -> None:
    allowed, other = project.tenant("told", customer_id="a"), project.tenant("latest", customer_id="a")
    for _ in range(2):
        assert (await project.get("/v0/pipes/told.json", token=allowed)).status == 200
        assert (await project.get("/v0/pipes/told.json", token=other)).status == 403


async def test_a_deployment_is_planned_anew(project: Workspace, drafted: list[Read]) -> None:
    token = project.tenant("told", customer_id="a")
    assert (await project.get("/v0/pipes/told.json?word=x", token=token)).json["data"][0]["word"] == "x"
    await project.deploy(TENANTS | {"endpoints/told.pipe": TOLD.replace("'none')}} AS word", "'none')}} || '!' AS word")})
    assert (await project.get("/v0/pipes/told.json?word=x", token=token)).json["data"][0]["word"] == "x!"


async def test_a_secret_is_this_moments(project: Workspace) -> None:
    pipe = "NODE e\nSQL >\n    %\n    SELECT {{tb_secret('word')}} AS word\nTYPE endpoint\n"
    await project.server.catalog.put_secret(project.id, "word", "old")
    await project.deploy(TENANTS | {"endpoints/told.pipe": pipe})
    token = project.admin_token
    assert (await project.get("/v0/pipes/told.json", token=token)).json["data"] == [{"word": "old"}]
    await project.server.catalog.put_secret(project.id, "word", "new")
    assert (await project.get("/v0/pipes/told.json", token=token)).json["data"] == [{"word": "new"}]


async def test_a_tenants_own_text_is_never_remembered(project: Workspace) -> None:
    assert SqlQuery("SELECT 1", RequestParams(), JSON).key is None
    assert query(over="SELECT 1").key is None


async def test_what_is_remembered_is_bounded(project: Workspace) -> None:
    token, reader = project.tenant("told", customer_id="a"), project.server.reader
    memory = PlanMemory(25_000)
    reads = [read_by(project, token, query(("word", str(number)))) for number in range(30)]
    for read in reads:
        memory.keep(await reader.plan(read))
    found = [memory.find(read) is not None for read in reads]
    assert found[-1] and not found[0] and 1 < sum(found) < 10
    for name in ("word", "unknown"):  # also what no template reads
        large = read_by(project, token, query((name, "x" * 100_000)))
        memory.keep(await reader.plan(large))
        assert memory.find(large) is None


async def test_plans_of_an_old_snapshot_are_not_kept(project: Workspace) -> None:
    token, reader, memory = project.tenant("told", customer_id="a"), project.server.reader, PlanMemory()
    old = read_by(project, token, query())
    memory.keep(await reader.plan(old))
    await project.deploy(TENANTS | {"endpoints/told.pipe": TOLD.replace("none", "nothing")})
    new = read_by(project, token, query())
    assert memory.find(old) is not None and memory.find(new) is None
    memory.keep(await reader.plan(new))
    assert memory.find(old) is None and memory.find(new) is not None
