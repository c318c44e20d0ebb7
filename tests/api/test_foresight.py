"""What a new token will be refused is said when it is made, and is what it is refused then."""

from __future__ import annotations

import time
from typing import Any

import pytest

from serving import Workspace

pytestmark = pytest.mark.anyio

TABLE = "SCHEMA >\n    `tenant` String `json:$.tenant`,\n    `team` Int32 `json:$.team`\n\nENGINE MergeTree\nENGINE_SORTING_KEY tenant\n"
POLICY = "\nROW_POLICY >\n    tenant = {{String(context.tenant)}}\n"
FILES = {
    "datasources/sales.datasource": TABLE + POLICY,
    "datasources/copied.datasource": TABLE,
    "datasources/open.datasource": TABLE,
    "pipes/sales_of.pipe": "NODE n\nSQL >\n    SELECT count() AS n FROM sales\n\nTYPE endpoint\n",
    "pipes/by_column.pipe": "NODE n\nSQL >\n    %\n    SELECT {{column(by, 'team')}} AS c FROM open\n\nTYPE endpoint\n",
    "pipes/in_a_branch.pipe": "NODE n\nSQL >\n    %\n    SELECT count() AS n FROM {% if defined(all) %} sales {% else %} open {% end %}\n\n"
    "TYPE endpoint\n",
    "pipes/through.pipe": "NODE n\nSQL >\n    SELECT n FROM sales_of\n\nTYPE endpoint\n",
    "pipes/fixed.pipe": "FIXED_PARAMS tenant\n\nNODE n\nSQL >\n    %\n    SELECT count() AS n FROM open WHERE tenant = {{String(tenant)}}\n\n"
    "TYPE endpoint\n",
    "pipes/through_fixed.pipe": "NODE n\nSQL >\n    SELECT n FROM fixed\n\nTYPE endpoint\n",
    "pipes/copying.pipe": "NODE n\nSQL >\n    SELECT tenant, team FROM sales\n\nTYPE copy\nTARGET_DATASOURCE copied\n",
    "pipes/of_the_copy.pipe": "NODE n\nSQL >\n    SELECT count() AS n FROM copied\n\nTYPE endpoint\n",
    "pipes/plain.pipe": "NODE n\nSQL >\n    SELECT 1 AS n\n",
}  # fmt: skip
NO_KEY = "The token's context has no key 'tenant', which a row policy needs. Sign the token with context.tenant."


def pipe(name: str, **fixed: Any) -> dict[str, Any]:
    return {"type": "PIPES:READ", "resource": name} | ({"fixed_params": fixed} if fixed else {})


def source(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": f"DATASOURCES:{kind}", "resource": name, **more}


@pytest.mark.parametrize(
    ("scopes", "context", "told"),
    [
        ([pipe("sales_of")], {"tenant": "a"}, []),
        ([pipe("nope")], {}, ["There is no pipe 'nope'"]),
        ([pipe("sales_off")], {}, ["There is no pipe 'sales_off' (is 'sales_of' meant?)"]),
        ([pipe("plain")], {}, ["The pipe 'plain' is no endpoint"]),
        ([pipe("sales_of")], {}, [f"'sales_of' will be refused, as it reads 'sales': {NO_KEY}"]),
        ([pipe("sales_of")], {"tenant": 7}, ["'sales_of' will be refused, as it reads 'sales': "]),
        ([pipe("sales_of")], {"Tenant": "a"}, [f"'sales_of' will be refused, as it reads 'sales': {NO_KEY}"]),
        ([pipe("through")], {}, [f"'through' will be refused, as it reads 'sales': {NO_KEY}"]),
        ([pipe("in_a_branch")], {}, [f"'in_a_branch' will be refused, as it reads 'sales': {NO_KEY}"]),
        ([pipe("by_column")], {}, []),
        ([pipe("fixed", tenant="a"), pipe("through_fixed", tenant="a")], {}, []),
        ([pipe("fixed")], {}, ["'fixed' will be refused: The token 'new' does not fix the parameter 'tenant'"]),
        ([pipe("through_fixed")], {}, ["'through_fixed' will be refused: The token 'new' does not fix"]),
        ([pipe("fixed", tenant="")], {}, ["'fixed' will be refused: The token 'new' does not fix the parameter"]),
        ([pipe("fixed", tenant="a", tenent="b")], {}, ["'fixed' has no parameter 'tenent' (is 'tenant' meant?)"]),
        ([pipe("of_the_copy")], {"tenant": "a"}, ["'of_the_copy' will be refused, as it reads 'copied': 'copied' is made"]),
        ([source("READ", "sales")], {}, [f"'sales' will be refused: {NO_KEY}"]),
        ([source("READ", "sale")], {}, ["There is no data source 'sale' (is 'sales' meant?)"]),
        ([source("APPEND", "opens")], {}, ["There is no data source 'opens' (is 'open' meant?)"]),
        ([source("APPEND", "open", fixed_values={"tenent": "a"})], {}, ["'open' has no column 'tenent'"]),
        ([source("APPEND", "open", fixed_values={"tenant": "a"})], {}, []),
        ([source("APPEND", "sales", fixed_values={"tenant": "a"})], {}, []),
        ([source("APPEND", "sales")], {}, ["Events for 'sales' will be refused: A JWT that appends to 'sales' must set"]),
        ([source("APPEND", "sales", fixed_values={"team": 1})], {}, ["Events for 'sales' will be refused: "]),
    ],
)  # fmt: skip
async def test_a_jwt_is_told_what_it_will_not_open(
    workspace: Workspace, scopes: list[dict[str, Any]], context: dict[str, Any], told: list[str]
) -> None:
    await workspace.deploy(FILES)
    body = {"scopes": scopes} | ({"context": context} if context else {})
    path = f"/v0/tokens/?name=new&expiration_time={int(time.time()) + 600}"
    made = (await workspace.post(f"{path}&check=true", json=body)).json
    assert made["warnings"] == [next((w for w in made["warnings"] if w.startswith(t)), t) for t in told]
    assert "warnings" not in (await workspace.post(path, json=body)).json  # and nobody else waits for it
    refused = [w for w in made["warnings"] if "will be refused" in w or "opens nothing" in w]
    reads = [s["resource"] for s in scopes if s["type"] == "PIPES:READ"]
    for name in reads:
        asked = await workspace.get(f"/v0/pipes/{name}.json{'?all=1' if name == 'in_a_branch' else ''}", token=made["token"])
        assert (asked.status == 200) is not bool(refused), asked.text
        if asked.status == 403:
            assert any(asked.json["error"] in w for w in refused), (asked.json, refused)


async def test_an_environment_that_is_not_there(workspace: Workspace) -> None:
    await workspace.deploy(FILES)
    body = {"scopes": [pipe("sales_of")], "environment": "eu"}
    path = f"/v0/tokens/?name=new&expiration_time={int(time.time()) + 600}&check=true"
    made = await workspace.post(path, json=body)
    assert made.json["warnings"][0].startswith("The token names an environment that does not exist")


async def test_a_static_token_too(workspace: Workspace) -> None:
    await workspace.deploy(FILES)
    for scopes, told in (
        (["PIPES:READ:sales_of", "TOKENS", "DATASOURCES:APPEND:open"], []),
        (["PIPES:READ:nope", "DATASOURCES:READ:sale"], ["There is no pipe 'nope'", "There is no data source 'sale'"]),
    ):
        made = (await workspace.post("/v0/tokens?check=true", json={"name": f"t{len(told)}", "scopes": scopes})).json
        assert [w.startswith(t) for w, t in zip(made["warnings"], told, strict=True)] == [True] * len(told), made
