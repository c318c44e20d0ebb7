"""Pipes without TYPE: Classic projects' endpoints, and a warning everywhere else."""

from __future__ import annotations

import pytest

from pipit.datafiles import parse_project
from pipit.datafiles.resources import Project

TABLE = "SCHEMA >\n    id Int32\nENGINE MergeTree\nENGINE_SORTING_KEY id\n"
PLAIN = "NODE a\nSQL >\n    SELECT id FROM visits\nNODE b\nSQL >\n    SELECT 1 AS x FROM a\n"
NAMED = "NODE endpoint\nSQL >\n    SELECT id FROM visits\nNODE later\nSQL >\n    SELECT 1 AS x FROM endpoint\n"
CLASSIC = {
    "datasources/visits.datasource": "VERSION 2\n" + TABLE,
    "pipes/plain.pipe": PLAIN,
    "pipes/named.pipe": NAMED,
    "pipes/part.pipe": "NODE part\nSQL >\n    SELECT id FROM visits\n",
    "pipes/whole.pipe": "NODE w\nSQL >\n    SELECT count() AS c FROM part\n",
}


def endpoints(project: Project) -> dict[str, str]:
    return {name: pipe.endpoint.name for name, pipe in project.pipes.items() if pipe.endpoint}


def told(project: Project) -> list[str]:
    return [w.message for w in project.warnings if "TYPE" in w.message]


def test_a_classic_project_publishes_what_nothing_reads() -> None:
    project = parse_project(CLASSIC)
    assert endpoints(project) == {"plain": "b", "named": "endpoint", "whole": "w"}
    assert told(project) == ["Published as in Tinybird Classic, without TYPE: named, plain, whole"]


def test_so_does_a_project_without_a_word_of_either_that_has_no_endpoint_otherwise() -> None:
    project = parse_project({"datasources/visits.datasource": TABLE, "pipes/plain.pipe": PLAIN})
    assert endpoints(project) == {"plain": "b"}
    assert len(told(project)) == 1


@pytest.mark.parametrize(
    "newer",
    [
        {"pipes/new.pipe": "NODE n\nSQL >\n    SELECT 1 AS x\nTYPE endpoint\n"},
        {"endpoints/new.pipe": "NODE n\nSQL >\n    SELECT 1 AS x\n"},
        {"datasources/safe.datasource": TABLE + "ROW_POLICY none REASON 'public'\n"},
        {"connections/k.connection": "TYPE s3\nS3_REGION a\nS3_ARN b\n"},
        {"datasources/visits.datasource": TABLE, "pipes/named.pipe": PLAIN, "pipes/new.pipe": "TOKEN t READ\n" + PLAIN},
    ],
)
def test_any_other_project_keeps_private_what_was_and_says_so_once(newer: dict[str, str]) -> None:
    project = parse_project(CLASSIC | newer)
    assert set(endpoints(project)) <= {"new"}
    assert len(told(project)) == 1
    assert told(project)[0].startswith("No endpoint answers for these pipes without TYPE")
    assert all(name in told(project)[0] for name in ("plain", "named", "whole"))
    (hint,) = [w.hint for w in project.warnings if w.message == told(project)[0]]
    assert "git mv pipes/named.pipe pipes/plain.pipe pipes/whole.pipe endpoints/" in hint


def test_a_node_may_have_the_name_of_its_own_pipe_and_of_no_other() -> None:
    project = parse_project({"endpoints/top.pipe": "NODE top\nSQL >\n    SELECT 1 AS x\nTYPE endpoint\n"})
    assert endpoints(project) == {"top": "top"}
