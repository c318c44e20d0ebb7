"""INCLUDE: the text of a project's `.incl` file in the place of the line, and every place still where it was written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipit.datafiles import includes as limits
from pipit.datafiles import parse_pipe, parse_project, with_secrets
from pipit.datafiles.includes import Includes
from pipit.datafiles.resources import Position, Project
from pipit.errors import DatafileError, ProjectError

SCHEMA = "SCHEMA >\n    a String\n"
KAFKA = "KAFKA_CONNECTION_NAME broker\nKAFKA_TOPIC $topic\nKAFKA_GROUP_ID ${topic}_group\n"
BROKER = "TYPE kafka\nKAFKA_BOOTSTRAP_SERVERS localhost:9092\n"
NODE = "NODE $name\nSQL >\n    SELECT a FROM events WHERE a = '$value'\n"
LAST = "\nNODE last\nSQL >\n    SELECT a FROM first\nTYPE endpoint\n"


def project(**files: str) -> Project:
    return parse_project({name.replace("__", "/").replace("_incl", ".incl"): text for name, text in files.items()})


def errors(files: dict[str, str]) -> list[DatafileError]:
    with pytest.raises(ProjectError) as caught:
        parse_project(files)
    return list(caught.value.errors)


def one_error(files: dict[str, str]) -> DatafileError:
    (error,) = errors(files)
    return error


def test_a_connector_and_a_node_come_from_included_files() -> None:
    files = {
        "events.datasource": SCHEMA + 'INCLUDE "includes/kafka.incl" topic=clicks\nENGINE_SORTING_KEY a\n',
        "broker.connection": BROKER,
        "pipes/p.pipe": 'INCLUDE "../includes/node.incl" "name=first" value="a b"  # both forms\n' + LAST,
        "includes/kafka.incl": KAFKA,
        "includes/node.incl": NODE,
    }
    found = parse_project(files)
    events, pipe = found.datasources["events"], found.pipes["p"]
    assert events.kafka == {
        "KAFKA_CONNECTION_NAME": "broker",
        "KAFKA_TOPIC": "clicks",
        "KAFKA_GROUP_ID": "clicks_group",
    }
    assert events.engine.sorting_key == "a"
    assert [node.name for node in pipe.nodes] == ["first", "last"]
    assert pipe.nodes[0].sql == "SELECT a FROM events WHERE a = 'a b'"
    assert pipe.nodes[0].position == Position(1, 1, "includes/node.incl")
    assert pipe.nodes[0].sql_position == Position(3, 5, "includes/node.incl")
    assert pipe.nodes[1].position == Position(3, 1)
    assert pipe.files == {"pipes/p.pipe", "includes/node.incl"}
    assert found.files == files
    assert "SELECT a FROM events" in pipe.text


@pytest.mark.parametrize(
    ("including", "path", "included"),
    [
        ("datasources/e.datasource", "connections/k.incl", "datasources/connections/k.incl"),
        ("datasources/e.datasource", "../includes/k.incl", "includes/k.incl"),
        ("datasources/e.datasource", "./includes/k.incl", "includes/k.incl"),
        ("datasources/e.datasource", "includes/k.incl", "includes/k.incl"),
        ("datasources/e.datasource", "k.incl", "includes/k.incl"),
        ("datasources/sub/e.datasource", "../includes/k.incl", "includes/k.incl"),
        ("e.datasource", "../includes/k.incl", "includes/k.incl"),
        ("e.datasource", "a/../k.incl", "k.incl"),
        ("e.datasource", "shared/k.incl", "includes/shared/k.incl"),
    ],
)
def test_where_a_path_is_looked_for(including: str, path: str, included: str) -> None:
    found = parse_project({including: f"{SCHEMA}INCLUDE '{path}'\n", included: "DESCRIPTION found\n"})
    assert found.datasources["e"].description == "found"


def test_the_nearest_file_counts() -> None:
    files = {
        "datasources/e.datasource": SCHEMA + "INCLUDE k.incl\n",
        "datasources/k.incl": "DESCRIPTION near\n",
        "includes/k.incl": "DESCRIPTION far\n",
        "k.incl": "DESCRIPTION farther\n",
    }
    assert parse_project(files).datasources["e"].description == "near"


def test_included_files_include_others_from_where_they_stand_and_values_go_down() -> None:
    files = {
        "p.pipe": "INCLUDE a/one.incl X=1 Y=2\n",
        "a/one.incl": "INCLUDE two.incl X=${X}0\n",
        "a/two.incl": "NODE n\nSQL >\n    SELECT $X, $Y, ${Z}, '$', $$X$$, $Xy\n",
    }
    assert parse_project(files).pipes["p"].nodes[0].sql == "SELECT 10, 2, ${Z}, '$', $$X$$, $Xy"


def test_the_text_of_an_included_file_may_go_on_with_the_block_above() -> None:
    files = {
        "p.pipe": "NODE n\nSQL >\n    SELECT a FROM events\nINCLUDE 'filters.incl' who=me\nTYPE endpoint\n",
        "filters.incl": "    WHERE a = '$who'\n      AND 1",
    }
    assert parse_project(files).pipes["p"].nodes[0].sql == "SELECT a FROM events\nWHERE a = 'me'\n  AND 1"


def test_a_column_may_be_called_include() -> None:
    found = parse_project({"e.datasource": "SCHEMA >\ninclude String,\nb String\ninclude 'x.incl'\n", "x.incl": ""})
    assert [column.name for column in found.datasources["e"].columns] == ["include", "b"]


def test_line_ends_and_byte_order_marks_of_other_systems() -> None:
    found = parse_project({"e.datasource": SCHEMA + "INCLUDE x.incl\r\n", "x.incl": "\ufeffENGINE_TTL a\r\nTAGS b\r\n"})
    source = found.datasources["e"]
    assert (source.engine.ttl, source.tags) == ("a", ("b",))


@pytest.mark.parametrize(
    ("line", "message", "column"),
    [
        ("INCLUDE", "INCLUDE needs a file", 1),
        ("INCLUDE 'x.incl", "The quote is not closed", 1),
        ("INCLUDE x.incl b", "'b' is not KEY=value", 16),
        ("INCLUDE x.incl a=1 a=2", "'a' is given twice", 20),
        ("INCLUDE y.incl", "The file 'y.incl' does not exist in the project", 9),
        ('INCLUDE "secret.txt"', "'secret.txt' is no .incl file", 9),
        ("INCLUDE /etc/x.incl", "'/etc/x.incl' is outside of the project", 9),
        (r"INCLUDE ..\x.incl", r"'..\x.incl' is outside of the project", 9),
        ("INCLUDE ../../y.incl", "The file '../../y.incl' does not exist in the project", 9),
        (" INCLUDE x.incl", "INCLUDE must start its line, and name a file", 2),
    ],
)
def test_what_cannot_be_included(line: str, message: str, column: int) -> None:
    error = one_error({"d/e.datasource": f"{line}\n{SCHEMA}", "x.incl": "", "d/secret.txt": "TAGS a"})
    assert (error.file, error.line, error.column, error.message) == ("d/e.datasource", 1, column, message)
    assert error.hint


def test_what_is_missing_is_the_only_error_and_names_where_it_was_looked_for() -> None:
    files = {"pipes/p.pipe": "INCLUDE ../includes/n.incl\n", "q.pipe": "NODE n\nSQL >\n    SELECT 1 FROM p\n"}
    error = one_error(files)
    assert str(error) == "pipes/p.pipe:1:9: The file '../includes/n.incl' does not exist in the project"
    assert error.hint == "It was looked for at includes/n.incl."


def test_an_include_of_a_single_file_is_not_found() -> None:
    with pytest.raises(ProjectError, match="does not exist"):
        parse_pipe("INCLUDE n.incl\n", file="p.pipe")


def test_connections_include_nothing() -> None:
    error = one_error({"c.connection": BROKER + "INCLUDE x.incl\n", "x.incl": ""})
    assert (error.line, error.message) == (3, "INCLUDE is not a valid option in connection files.")


def test_circles() -> None:
    files = {
        "p.pipe": "\nINCLUDE a.incl\n",
        "a.incl": "INCLUDE b.incl\n",
        "b.incl": "NODE n\nSQL >\n    SELECT 1\nINCLUDE a.incl\n",
    }
    error = one_error(files)
    assert str(error) == "b.incl:4:9: INCLUDE goes in a circle: a.incl -> b.incl -> a.incl"
    assert "INCLUDE a.incl" in error.excerpt


def test_errors_name_the_included_file_its_line_and_the_place_before_values_took_theirs() -> None:
    files = {
        "p.pipe": "INCLUDE n.incl name=a_much_longer_name\n",
        "n.incl": "# a comment\nNODE $name\nSQL >\n    SELECT 1\nTYPE $name\n",
    }
    error = one_error(files)
    assert (error.file, error.line, error.column) == ("n.incl", 5, 6)
    assert "5 | TYPE $name\n  |      ^" in error.excerpt
    files["p.pipe"] += "TYPE nothing\nTAGS 'a\nNODE\n"
    assert next((e.file, e.line) for e in errors(files)) == ("p.pipe", 2)  # its own first


def test_an_error_in_an_included_file_is_told_once() -> None:
    files = {f"{name}.datasource": SCHEMA + "INCLUDE e.incl\n" for name in "abc"} | {"e.incl": "ENGINE Log\n"}
    assert (one_error(files).file, one_error(files).line) == ("e.incl", 1)


def test_duplicates_say_where_the_first_stands() -> None:
    files = {
        "p.pipe": "INCLUDE n.incl name=first value=1\nNODE first\nSQL >\n    SELECT 1\n",
        "n.incl": NODE,
        "e.datasource": SCHEMA + "INCLUDE k.incl\nKAFKA_CONNECTION_NAME mine\nKAFKA_TOPIC t\nKAFKA_GROUP_ID g\n",
        "k.incl": "KAFKA_CONNECTION_NAME\n",
    }
    error = one_error(files)
    assert str(error) == "p.pipe:2:1: Duplicate node 'first', first in line 1 of n.incl"
    del files["p.pipe"]
    found = parse_project(files)
    assert found.datasources["e"].kafka["KAFKA_CONNECTION_NAME"] == "mine"
    assert any("first in line 1 of k.incl; this one counts" in w.message for w in found.warnings)


def test_a_value_that_is_not_used_is_a_warning() -> None:
    found = parse_project({"e.datasource": SCHEMA + "INCLUDE x.incl TAG=a tags=b\n", "x.incl": "TAGS $tags\n"})
    assert [w.message for w in found.warnings] == ["'TAG' is given, and x.incl has no $TAG"]


def test_classic_settings_of_the_broker_are_read_and_ignored() -> None:
    incl = "KAFKA_CONNECTION_NAME c\nKAFKA_BOOTSTRAP_SERVERS s:9092\nKAFKA_KEY k\nKAFKA_SECRET s\n"
    text = SCHEMA + "INCLUDE k.incl\nKAFKA_TOPIC t\nKAFKA_GROUP_ID g\n"
    found = parse_project({"e.datasource": text, "k.incl": incl})
    assert set(found.datasources["e"].kafka) == {"KAFKA_CONNECTION_NAME", "KAFKA_TOPIC", "KAFKA_GROUP_ID"}
    ignored = [(w.file, w.line) for w in found.warnings if "Classic and ignored" in w.message]
    assert ignored == [("k.incl", 2), ("k.incl", 3), ("k.incl", 4)]


def test_a_secret_that_is_missing_has_its_place_in_the_included_file() -> None:
    text = "\nENGINE_TTL \"toDate('{{ tb_secret('day') }}')\"\n"
    found = parse_project({"e.datasource": "INCLUDE x.incl\n" + SCHEMA, "x.incl": text})
    assert with_secrets(found, {"day": "2030-01-01"}).datasources["e"].engine.ttl == "toDate('2030-01-01')"
    with pytest.raises(ProjectError) as caught:
        with_secrets(found, {})
    assert [(e.file, e.line, e.column) for e in caught.value.errors] == [("x.incl", 2, 21)]


def test_depth_and_number_are_limited() -> None:
    deep = {f"i{n}.incl": f"INCLUDE i{n + 1}.incl\n" for n in range(limits.MAX_DEPTH + 1)}
    error = one_error(deep | {"p.pipe": "INCLUDE i0.incl\n"})
    assert (error.file, error.message) == (f"i{limits.MAX_DEPTH - 1}.incl", "INCLUDE brings in deeper than 10 files")
    wide = {f"i{n}.incl": f"INCLUDE i{n + 1}.incl\n" * 2 for n in range(9)} | {"i9.incl": "TAGS a\n"}
    assert "more than 100 files" in errors(wide | {"p.pipe": "INCLUDE i0.incl\n"})[0].message


def test_values_that_grow_and_many_files_do_not_fill_the_memory() -> None:
    started = time.thread_time()
    bomb = {f"i{n}.incl": f"INCLUDE i{n + 1}.incl V=$V$V$V$V$V$V$V$V$V$V\n" for n in range(9)}
    files = bomb | {"i9.incl": "DESCRIPTION $V\n" * 3, "p.pipe": f"INCLUDE i0.incl V={'x' * 100}\n"}
    assert any("makes the text too large" in e.message for e in errors(files))
    big = "# " + "x" * 998_000 + "\n"
    many = {f"e{n}.datasource": SCHEMA + "INCLUDE big.incl\n" for n in range(40)} | {"big.incl": big}
    found = errors(many)
    assert {e.message for e in found} == {"INCLUDE makes the text too large"}
    assert len(found) == 40 - limits.MAX_INCLUDED_CHARACTERS // len(big)
    assert time.thread_time() - started < 20


@given(
    st.lists(st.sampled_from(["TAGS a", "INCLUDE x.incl v=12", "INCLUDE y.incl v=$v", "${v}$v", "# $v", "", "a $v b"])),
    st.lists(st.sampled_from(["TAGS $v", "$v$v x", "INCLUDE y.incl", "", "$v", "\u00e9 $v \u00e9"])),
    st.lists(st.sampled_from(["SQL >", "  $v $v", "", "end"])),
)
def test_every_place_of_a_text_is_a_place_of_a_file(own: list[str], x: list[str], y: list[str]) -> None:
    files = {"p.pipe": "\n".join(own), "x.incl": "\n".join(x), "y.incl": "\n".join(y)}
    report = Includes(files).report("p.pipe", files["p.pipe"])
    for offset, char in enumerate(report.text):
        place = report.position(offset)
        line = files[place.file or "p.pipe"].split("\n")[place.line - 1] + "\n"
        written = line[place.column - 1]
        assert written in (char, "$") or char == "\n"
        if written == char and char not in "12$\n":  # a place has one text, but for values
            assert report.text[report.offset(place)] == char
