"""Causes that a reader handles differently have reasons of their own."""

from __future__ import annotations

import pytest

from pipit.datafiles import parse_project
from pipit.errors import ProjectError, Reason

SCHEMA = "SCHEMA >\n    `a` String `json:$.a`\n"
PIPE = "NODE n\nSQL >\n    SELECT 1\n"


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("x.datasource", "DESCRIPTION >\n    no columns\n", Reason.DIRECTIVE_MISSING),
        ("x.datasource", SCHEMA + "ENGINE MergeTree\nENGINE_SORTING_KEY a\nENGINE_VER_ING b\n", Reason.DIRECTIVE_UNKNOWN),
        ("x.datasource", "SCHEMA >\n    `a` String,\n    `a` UInt8\n", Reason.NAME_TAKEN),
        ("x.datasource", "SCHEMA >\n    `a` Boolean\n", Reason.TYPE_UNSUPPORTED),
        ("x.datasource", "SCHEMA >\n    `a` DateTime64\n", Reason.TYPE_UNSUPPORTED),
        ("x.datasource", "SCHEMA >\n    `a` String `json:$.a[`\n", Reason.JSONPATH_INVALID),
        ("x.datasource", "SCHEMA >\n    `a` String `json:$.a[:]`\n", Reason.JSONPATH_INVALID),
        ("x.datasource", f"TOKEN t WRITE\n{SCHEMA}", Reason.DIRECTIVE_INVALID),
        ("x.datasource", SCHEMA + "\0", Reason.FILE_UNREADABLE),
        ("x.datasource", f'INCLUDE "nowhere.incl"\n{SCHEMA}', Reason.INCLUDE_INVALID),
        ("x.pipe", "DESCRIPTION >\n    no node\n", Reason.DIRECTIVE_MISSING),
        ("x.pipe", PIPE + PIPE, Reason.NAME_TAKEN),
        ("x.pipe", PIPE + "TYPE table\n", Reason.DIRECTIVE_INVALID),
        ("x.pipe", PIPE + "TYPE copy\nTARGET_DATASOURCE t\nCOPY_SCHEDULE sometimes\n", Reason.SCHEDULE_INVALID),
        ("x.connection", "KAFKA_KEY k\n", Reason.DIRECTIVE_MISSING),
    ],
)
def test_of_a_file(file: str, text: str, reason: Reason) -> None:
    with pytest.raises(ProjectError) as caught:
        parse_project({file: text})
    assert reason in [error.reason for error in caught.value.errors]
