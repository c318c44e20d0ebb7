"""The measure counts what is refused, left out or not reached: nothing that fails may leave the figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.run import examine
from pipit.testing.harness import open_harness

pytestmark = pytest.mark.anyio

VISITS = "SCHEMA >\n    day Date,\n    page String,\n    n Int32\nENGINE MergeTree\nENGINE_SORTING_KEY day\n"
ENDPOINT = "NODE endpoint\nSQL >\n    %\n    {sql}\nTYPE endpoint\n"


def _endpoint(sql: str) -> str:
    return ENDPOINT.replace("{sql}", sql)


PROJECT = {
    "datasources/visits.datasource": VISITS,
    "datasources/old.datasource": VISITS + "ENGINE_TTL nothing + INTERVAL 1 DAY\n",
    "endpoints/plain.pipe": _endpoint("SELECT count() AS c FROM visits"),
    "endpoints/refused.pipe": _endpoint("SELECT nothing FROM visits"),
    "endpoints/lines.pipe": "NODE a\nSQL >\n    SELECT 1\nTYPE endpoint\nTYPE endpoint\nNOPE\n",
    "endpoints/asks.pipe": _endpoint("SELECT count() AS c FROM visits WHERE n = {{Int32(n, required=True)}}"),
    "endpoints/never.pipe": _endpoint("SELECT toUInt8(throwIf(1, 'must be: provide n')) AS c, {{Int32(n, 1)}} AS n FROM numbers(1)"),
    "endpoints/own.pipe": _endpoint("{% if not defined(n) %} {{error('give me n')}} {% end %} SELECT {{Int32(n)}} AS n"),
    "endpoints/branch.pipe": _endpoint("SELECT count() AS c FROM visits WHERE 1 {% if mode == 'wide' %} AND nothing {% end %} -- {{String(mode, 'narrow')}}"),
    "pipes/alone.pipe": "NODE a\nSQL >\n    SELECT count() AS c FROM visits\n",
    "pipes/named.pipe": "NODE endpoint\nSQL >\n    SELECT count() AS c FROM visits\n",
    "pipes/part.pipe": "NODE a\nSQL >\n    SELECT * FROM visits\n",
    "pipes/whole.pipe": "NODE a\nSQL >\n    SELECT count() AS c FROM part, named\nTYPE endpoint\n",
}


async def test_what_fails_stays_in_the_figures(tmp_path: Path) -> None:
    for name, text in PROJECT.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    async with open_harness() as harness:
        found = await examine(harness, tmp_path, "small", 1)
    told = "\n".join(found.misses)
    assert found.files == (len(PROJECT) - 1, len(PROJECT))
    assert found.tables == (1, 2)  # a TTL that cannot be is found, tests or not
    # plain, branch and whole answer; asks and own answer when they get what they ask for.
    assert (found.endpoints.answered, found.endpoints.asked, found.endpoints.wanted) == (3, 2, 8)
    assert "endpoints/refused.pipe" in told and "endpoints/lines.pipe" in told
    assert "endpoint never: 400" in told
    # Nothing reads `alone`, and `named` says what it is for; `part` is there for others.
    assert found.untyped.wanted == 2
    assert found.calls[0] < found.calls[1] and "call branch?{'mode': 'wide'}" in told


async def test_values_come_from_what_the_template_says() -> None:
    from conformance.calls import _compared

    source = "{% if String(mode, 'a') == 'b' %} {% elif mode in ['c', 'd'] %} {% elif mode != \"e\" %} {% elif other == 'x' %}"
    assert sorted(_compared("mode", source)) == ["b", "c", "d", "e"]


async def test_what_a_function_of_a_parameter_is_compared_with_is_no_value_of_it() -> None:
    from conformance.calls import _compared

    source = (
        "{% if day_diff(start, Date(end)) == 0 %} {% elif len(String(mode)) == 3 %} {% elif other.mode == 'z' %}"
        " {% elif (mode == 'a') or String(mode, '').lower() == 'b' or mode not in ('c', 'd') %}"
    )
    assert sorted(_compared("mode", source)) == ["a", "b", "c", "d"]
    assert [*_compared("start", source), *_compared("end", source)] == []
