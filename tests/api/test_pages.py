"""Where a person begins, and where an error points to: pages that are there."""

from __future__ import annotations

import re

import pytest

from pipit.api.docs import error_classes
from serving import Workspace

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_the_first_page_leads_to_pages_that_are_there(workspace: Workspace, path: str) -> None:
    page = await workspace.get(path, token=None)
    assert page.status == 200 and page.headers["content-type"].startswith("text/html")
    links = re.findall(r'href="([^"]+)"', page.text)
    assert len(links) >= 4
    for link in links:
        assert (await workspace.get(link)).status == 200, link


async def test_every_documentation_of_an_error_is_there(workspace: Workspace) -> None:
    """The path and the place on it: of every class, and of each template error with a place of its own."""
    pipes = {
        "cols": "SELECT {{columns(c, 'a')}} FROM (SELECT 1 AS a)",
        "number": "SELECT {{Int32(n)}} AS n",
        "json": "SELECT {{JSON(j)}} AS j",
    }
    files = {f"pipes/{n}.pipe": f"NODE n\nSQL >\n    %\n    {sql}\nTYPE endpoint\n" for n, sql in pipes.items()}
    await workspace.deploy(files)
    told = [f"/docs/errors.html#{kind.code}" for kind in error_classes()]
    for path in ("/v0/pipes/number.json?n=x", "/v0/pipes/number.json", "/v0/pipes/json.json?j={", "/nowhere", "/v0/pipes/nope.json"):
        reply = await workspace.get(path)
        assert reply.status >= 400
        told.append(reply.json["documentation"])
    for documentation in told:
        path, _, place = documentation.partition("#")
        page = await workspace.get(path, token=None)
        assert page.status == 200, documentation
        assert not place or f'id="{place}"' in page.text, documentation


async def test_a_variable_keeps_the_time_at_which_it_was_made(workspace: Workspace) -> None:
    made = (await workspace.post("/v0/variables?name=k&value=a")).json
    changed = (await workspace.request("PUT", "/v0/variables/k?value=b")).json
    again = (await workspace.post("/v0/variables?name=k&value=c")).json
    assert made["created_at"] == changed["created_at"] == again["created_at"]
    assert made["updated_at"] < changed["updated_at"] < again["updated_at"]
    assert (await workspace.get("/v0/variables/k")).json["created_at"] == made["created_at"]
