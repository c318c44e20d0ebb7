"""Which texts could show a column that no statement may see."""

from __future__ import annotations

import pytest

from pipit.sql.hidden import may_see, without

HIDDEN = {"note", "nested.a"}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM t",
        "FROM t SELECT *",
        "SELECT DISTINCT * FROM t",
        "SELECT DISTINCT ON (a) * FROM t",
        "SELECT TOP 5 * FROM t",
        "SELECT a, * FROM t",
        "SELECT *, a FROM t",
        "SELECT x.* FROM t AS x",
        "SELECT * EXCEPT (a) FROM t",
        "SELECT * REPLACE (1 AS a) FROM t",
        "SELECT 1 WHERE (1, 'a') IN (SELECT * FROM t)",
        "SELECT tuple(*) FROM t",
        "SELECT formatRow('CSV', *) FROM t",
        "SELECT count(DISTINCT *) FROM t",
        "SELECT COLUMNS('.*') FROM t",
        "SELECT note FROM t",
        "SELECT `note` FROM t",
        'SELECT t."note" FROM t',
        "SELECT a AS note FROM t",
        "SELECT nested.a FROM t",
        "SELECT 1 FROM t PREWHERE note = ''",
    ],
)
def test_it_may(sql: str) -> None:
    assert may_see(sql, HIDDEN)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a FROM t",
        "SELECT count(*) FROM t",
        "SELECT a * b, 2 * (a + 1), a*b FROM t",
        "SELECT sum(a) * 2 FROM t GROUP BY b * 2",
        "SELECT 'note *' FROM t -- note *",
        "SELECT * FROM t PREWHERE a = 1",
        "SELECT *, _part FROM t",
    ],
)
def test_it_may_not(sql: str) -> None:
    assert not may_see(sql, HIDDEN)


def test_the_table_without_them() -> None:
    assert without("`d`.`t`", HIDDEN) == ("(SELECT * EXCEPT (`nested.a`, `note`) FROM `d`.`t`", ")")
