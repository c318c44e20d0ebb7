"""What the child reads off a statement's text."""

from __future__ import annotations

import pytest

from pipit.engine.embedded.statement import first_word, insert_head, output_format


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("SELECT 1", "select"),
        ("  (select 1)", "select"),
        ("/* x */ -- y\n WITH a AS (SELECT 1) SELECT 2", "with"),
        ("#! comment\ninsert into t", "insert"),
        ("", ""),
    ],
)
def test_first_word(text: str, word: str) -> None:
    assert first_word(text.encode()) == word.encode()


@pytest.mark.parametrize(
    ("text", "statement", "format", "data"),
    [
        ("INSERT INTO t FORMAT CSV\n1,2", "INSERT INTO t ", "CSV", "1,2"),
        ("INSERT INTO t FORMAT CSV 1,2", "INSERT INTO t ", "CSV", "1,2"),
        ("INSERT INTO t FORMAT CSV\r\n1,2", "INSERT INTO t ", "CSV", "1,2"),
        ("INSERT INTO t FORMAT CSV;\n\n1,2", "INSERT INTO t ", "CSV", "\n1,2"),
        ("INSERT INTO t (format, `values`) FORMAT Native\n\x00", "INSERT INTO t (format, `values`) ", "Native", "\x00"),
        ("INSERT INTO format FORMAT CSV\n1", "INSERT INTO format ", "CSV", "1"),
        ("INSERT INTO db.format FORMAT CSV\n1", "INSERT INTO db.format ", "CSV", "1"),
        ("INSERT INTO TABLE values FORMAT CSV\n1", "INSERT INTO TABLE values ", "CSV", "1"),
        ("INSERT INTO t /* FORMAT TSV */ FORMAT CSV\n1", "INSERT INTO t /* FORMAT TSV */ ", "CSV", "1"),
    ],
)
def test_the_head_of_an_insert(text: str, statement: str, format: str, data: str) -> None:
    head = insert_head(text.encode())
    assert head is not None and not head.selects
    assert (head.statement, head.format, text.encode()[head.data :].decode()) == (statement, format, data)


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t VALUES (1, 'FORMAT CSV')",
        "INSERT INTO t SELECT 1",
        "INSERT INTO t FORMAT Values (1)",
        "INSERT INTO t",
    ],
)
def test_inserts_without_data_of_their_own(text: str) -> None:
    assert insert_head(text.encode()) is None


def test_an_insert_from_a_select_with_a_format() -> None:
    head = insert_head(b"INSERT INTO t SELECT a FROM input('a Int8') FORMAT CSV\n1")
    assert head is not None and head.selects


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("SELECT 1", "TSV"),
        ("SELECT 1 FORMAT JSON", "JSON"),
        ("SELECT 1 format\n JSON SETTINGS max_threads = 1", "JSON"),
        ("SELECT format('{}', 1)", "TSV"),
        ("SELECT 'FORMAT JSON'", "TSV"),
        ("SELECT 1 -- FORMAT JSON", "TSV"),
        ("SELECT 1 /* FORMAT CSV */ FORMAT JSON", "JSON"),
        ("SELECT (SELECT 1 FORMAT JSON)", "TSV"),
        ("SELECT $$ FORMAT CSV $$ FORMAT JSON;", "JSON"),
        ("SELECT `a FORMAT CSV`", "TSV"),
    ],
)
def test_output_format(text: str, format: str) -> None:
    assert output_format(text.encode(), "TSV") == format
