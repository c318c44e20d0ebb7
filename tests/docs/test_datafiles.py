"""docs/reference/datafiles.md against the parser: every word is there, no word is made up, and its files deploy."""

from __future__ import annotations

import re

import pytest

from pages import DOCS, code, datafiles, same, section, tables
from pipit.datafiles import columns, common, connection, connectors, indexes, layout, parse_project, vocabulary
from pipit.datafiles.connection import read_connection
from pipit.datafiles.datasource import read_datasource
from pipit.datafiles.pipe import read_pipe
from pipit.datafiles.resources import NodeType
from pipit.datafiles.source import ParseReport
from pipit.datafiles.vocabulary import ENGINES
from pipit.sql.identifiers import RESERVED_NAMES
from serving import Workspace

PAGE = DOCS / "reference" / "datafiles.md"
KINDS = {kind: f"## `.{kind}` files" for kind in vocabulary.OPTIONS}


def directives(heading: str) -> dict[str, tuple[str, ...]]:
    """The rows of the directives' tables of a section, by the directive."""
    listed = [table for table in tables(PAGE, heading) if table.header[0] == "directive"]
    return {word: row[1:] for table in listed for row in table.rows for word in code(row[0])}


@pytest.mark.parametrize("kind", KINDS)
def test_every_directive_is_there(kind: vocabulary.Kind) -> None:
    same(directives(KINDS[kind]), vocabulary.OPTIONS[kind], PAGE)


@pytest.mark.parametrize("type", vocabulary.CONNECTION_SETTINGS)
def test_every_setting_of_a_connection_is_there(type: str) -> None:
    listed = directives(f"### {type}")
    same(listed, vocabulary.CONNECTION_SETTINGS[type], PAGE)
    alone = {group[0] for group in connection._REQUIRED[type] if len(group) == 1}
    assert {word for word, row in listed.items() if "needed" in row[-1]} == alone


def test_blocks_are_told_from_lines() -> None:
    must, may = section(PAGE, "### Blocks").strip().split("\n\n")
    assert set(code(must)) == vocabulary.ONLY_BLOCKS
    assert set(code(may)) == vocabulary.BLOCKS - vocabulary.ONLY_BLOCKS


def test_words_that_may_stand_once_are_told() -> None:
    (listed,) = re.findall(r"change what runs \((.+?)\)", section(PAGE, "## How a file is read"), re.DOTALL)
    assert set(code(listed)) == common._ONCE


SOURCE = "SCHEMA >\n    `a` String\n"
NODE = "NODE n\nSQL >\n    SELECT a FROM d\nTYPE "
KAFKA = f"{SOURCE}KAFKA_CONNECTION_NAME c\nKAFKA_TOPIC t\nKAFKA_GROUP_ID g\n"
IMPORT = f"{SOURCE}IMPORT_CONNECTION_NAME c\nIMPORT_BUCKET_URI s3://bucket\nIMPORT_SCHEDULE @once\n"
SINK = f"{NODE}sink\nEXPORT_CONNECTION_NAME c\nEXPORT_SCHEDULE @once\nEXPORT_KAFKA_TOPIC t\n"
STORE = "TYPE s3\nS3_REGION eu\nS3_ACCESS_KEY k\nS3_SECRET s\n"
BROKER = "TYPE kafka\nKAFKA_BOOTSTRAP_SERVERS h:1\nKAFKA_KEY k\nKAFKA_SECRET s\n"
CHECKED = {  # what has to stand beside a directive whose values are listed
    "KAFKA_AUTO_OFFSET_RESET": ("datasource", KAFKA),
    "KAFKA_STORE_RAW_VALUE": ("datasource", KAFKA),
    "KAFKA_STORE_HEADERS": ("datasource", KAFKA),
    "KAFKA_STORE_BINARY_HEADERS": ("datasource", KAFKA),
    "KAFKA_VALUE_FORMAT": ("datasource", KAFKA),
    "KAFKA_KEY_FORMAT": ("datasource", KAFKA),
    "IMPORT_FORMAT": ("datasource", IMPORT),
    "EXPORT_FORMAT": ("pipe", SINK),
    "EXPORT_STRATEGY": ("pipe", SINK),
    "EXPORT_WRITE_STRATEGY": ("pipe", SINK),
    "KAFKA_SECURITY_PROTOCOL": ("connection", BROKER),
    "KAFKA_SASL_MECHANISM": ("connection", BROKER),
    "S3_PATH_STYLE": ("connection", STORE),
}


@pytest.mark.parametrize("word", CHECKED)
def test_values_that_are_checked_are_there(word: str) -> None:
    """The page lists what the parser names when it meets another value, and the parser takes all of them."""
    kind, beside = CHECKED[word]
    documented = code(directives(f"### {word.partition('_')[0].lower()}" if kind == "connection" else KINDS[kind])[word][0])
    (hint,) = _told(kind, f"{beside}{word} no_such_value\n")
    assert hint.startswith("One of ") and set(hint.removeprefix("One of ").rstrip(".").split(", ")) == set(documented)
    for value in documented:
        assert _told(kind, f"{beside}{word} {value}\n") == []


def _told(kind: str, text: str) -> list[str]:
    """The hints of errors and warnings of a file, but for those that every such file has."""
    report = ParseReport(f"x.{kind}", text)
    {"datasource": read_datasource, "pipe": read_pipe, "connection": read_connection}[kind](report, "x")
    return [one.hint for one in (*report.errors, *report.warnings) if "inert" not in one.message]


def test_types_and_schedules_are_there() -> None:
    words = directives(KINDS["datasource"]) | directives(KINDS["pipe"])
    assert set(code(words["IMPORT_SCHEDULE"][0])) == set(connectors.SCHEDULES)
    assert set(code(words["TYPE"][0])) == {str(type) for type in NodeType}
    assert set(code(directives(KINDS["connection"])["TYPE"][0])) == set(vocabulary.CONNECTION_SETTINGS)


def test_engines_indexes_and_refused_columns_are_there() -> None:
    (engines,) = tables(PAGE, "### Engines")
    assert engines.names()[0] and sorted(code(row[0])[0] for row in engines.rows) == sorted(ENGINES)
    (types,) = re.findall(r"Types are (.+?), with", section(PAGE, "### Indexes"), re.DOTALL)
    same(code(types), indexes.SUPPORTED, PAGE)
    refused = next(table for table in tables(PAGE, "### Columns") if table.header[0] == "written")
    same(refused.names(), columns._REFUSED, PAGE)


def test_where_files_are_found_is_told() -> None:
    text = section(PAGE, "## Where files are found")
    assert {*layout.FOLDERS, *layout.SKIPPED} <= set(code(text))
    assert f"{layout.MAX_FILES:,} files" in text and "three deep" in text and layout.MAX_DEPTH == 3
    (kept,) = re.findall(r"keeps for itself \((.+?)\)", text, re.DOTALL)
    assert set(code(kept)) <= RESERVED_NAMES


def test_words_that_are_nowhere_allowed_are_told() -> None:
    told = set(code(section(PAGE, "## Words that no file may have")))
    known = {word for words in vocabulary.OPTIONS.values() for word in words} | {vocabulary.INCLUDE}
    assert vocabulary.KNOWN - known <= told and vocabulary.INCLUDE in code(section(PAGE, "### Including"))[0]


@pytest.mark.anyio
async def test_the_files_deploy(workspace: Workspace) -> None:
    files = datafiles(PAGE)
    assert len(files) > 6
    (shown,) = re.findall(r"^```schema\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    indented = "".join(f"    {line}\n" for line in shown.splitlines())
    outcome = await workspace.deploy(files | {"datasources/columns.datasource": f"SCHEMA >\n{indented}"})
    assert outcome.result == "success"
    sent = [{"id": "6f2c1a3e-0000-4000-8000-000000000001", "at": "2026-03-09 10:00:00", "items": [{"name": "x"}]}]
    reply = await workspace.send("columns", sent)
    assert reply.json == {"successful_rows": 1, "quarantined_rows": 0}, reply.text
    rows = await workspace.rows("/v0/sql?q=SELECT+day,first_item,items,dotted+FROM+columns+FORMAT+JSON")
    assert rows == [{"day": "2026-03-09", "first_item": "x", "items": ["x"], "dotted": ""}]


def test_what_deploys_inert_is_what_the_parser_warns_of() -> None:
    """A file for each kind of thing: what warns is what the page calls inert, and nothing else is."""
    inert = {word for kind in KINDS.values() for word, row in directives(kind).items() if "*Inert*" in row[-1]}
    warned = {
        "PG_CONNECTION_NAME": f"{SOURCE}PG_CONNECTION_NAME c\nPG_TABLE t\n",
        "SHARED_WITH": f"{SOURCE}SHARED_WITH other\n",
    }
    files = {f"datasources/{word}.datasource": text for word, text in warned.items()}
    files |= {
        "datasources/d.datasource": SOURCE,
        "copies/copied.pipe": f"{NODE}copy\nTARGET_DATASOURCE d\nCOPY_SCHEDULE 0 * * * *\n",
        "sinks/EXPORT_KAFKA_TOPIC.pipe": SINK,
        "sinks/works.pipe": SINK.replace("EXPORT_KAFKA_TOPIC t", "EXPORT_BUCKET_URI s3://bucket\nEXPORT_FILE_TEMPLATE f"),
        "datasources/imported.datasource": IMPORT,
        "connections/c.connection": STORE,
        "connections/pg.connection": "TYPE postgres\nPG_HOST h\nPG_DATABASE d\nPG_USER u\nPG_PASSWORD p\n",
    }
    told = {warning.file for warning in parse_project(files).warnings if "inert" in warning.message}
    works = ("/d.", "copied", "imported", "/c.", "/works.")
    assert told == {file for file in files if not any(one in file for one in works)}
    assert inert == {*warned, "EXPORT_KAFKA_TOPIC"}
