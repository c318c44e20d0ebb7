"""`pipit datasource` with files: what goes in and out, what is said of it, and with which exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import EVENTS, Serving, Shell, write

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("shop")
    write(folder, {"datasources/sales.datasource": EVENTS})
    shell = Shell(folder)
    with shell.serving() as serving:
        assert isinstance(serving, Serving)
        yield shell


def put(shop: Shell, name: str, text: str) -> Path:
    path = shop.folder / name
    path.write_text(text)
    return path


def count(shop: Shell) -> int:
    found: int = json.loads(shop.ok("sql", "SELECT count() AS n FROM sales", "-f", "ndjson"))["n"]
    return found


def test_files_in_and_out(shop: Shell) -> None:
    put(shop, "a.csv", "at;tenant;amount\n2020-01-01 00:00:00;a;1\n2020-01-01 00:00:00;b;2\n2020-01-02 00:00:00;a;many\n")
    done = shop("datasource", "append", "sales", "a.csv")
    assert (done.returncode, done.stdout) == (0, "2 rows added to sales\n"), done.stderr
    assert "1 row did not fit and went to sales_quarantine" in done.stderr
    assert "'many'" in shop.ok("sql", "SELECT c__line, c__error FROM sales_quarantine")
    assert shop("datasource", "append", "sales", "a.csv", "--strict", "--delimiter", ";").returncode == 1
    put(shop, "bad.csv", "x,y,z\nno date,2,3\n")
    none = shop("datasource", "append", "sales", "bad.csv")
    assert (none.returncode, none.stdout) == (1, "0 rows added to sales\n")
    assert "Error: No row of bad.csv fits sales: 2 rows went to sales_quarantine" in none.stderr
    assert "sales" in shop.ok("datasource", "ls")
    assert shop.ok("datasource", "data", "sales", "--limit", "1").count("2020-01-01") == 1
    out = shop.ok("datasource", "export", "sales", "out.parquet", "--where", "tenant = 'a'")
    assert "written to out.parquet" in out
    replaced = shop.ok("datasource", "replace", "sales", "out.parquet")
    assert replaced == "2 rows now in sales\n" and count(shop) == 2
    put(shop, "b.csv", "at,tenant,amount\n2020-01-01 00:00:00,c,3\n")
    assert shop.ok("datasource", "replace", "sales", "b.csv", "--condition", "tenant = 'c'") == "1 row now in sales\n"
    assert count(shop) == 3
    assert shop("datasource", "append", "sales", "file.xyz").returncode == 1
    gone = shop("datasource", "append", "sale", "b.csv")
    assert gone.returncode == 1 and "Did you mean sales?" in gone.stderr
    refused = shop("datasource", "append", "sales", "http://127.0.0.1:1/x.csv")
    assert refused.returncode == 1 and "not one of the public internet" in refused.stderr


def test_rows_are_deleted_after_a_word(shop: Shell) -> None:
    put(shop, "d.csv", "at,tenant,amount\n" + "".join(f"2020-01-01 00:00:00,t{n},{n}\n" for n in range(10)))
    shop.ok("datasource", "replace", "sales", "d.csv")
    assert "3 rows of sales would be deleted" in shop.ok("datasource", "delete", "sales", "--condition", "amount >= 7", "--dry-run")
    asked = shop("datasource", "delete", "sales", "--condition", "amount >= 7")
    assert asked.returncode == 1 and "--yes" in asked.stderr and count(shop) == 10
    assert "3 rows of sales deleted" in shop.ok("datasource", "delete", "sales", "--condition", "amount >= 7", "--yes")
    assert count(shop) == 7
    assert shop("datasource", "delete", "sales", "--condition", "amount IN (SELECT 1)", "--yes").returncode == 1
    assert shop("datasource", "truncate", "sales").returncode == 1
    assert shop.ok("datasource", "truncate", "sales", "--yes") == "sales is empty\n"
    assert count(shop) == 0


def test_a_data_source_from_a_file(shop: Shell) -> None:
    put(shop, "new.ndjson", '{"id":1,"user":{"name":"x","tags":["a"]},"at":"2026-01-01 10:00:00"}\n{"id":2,"user":{"name":"y","tags":[]}}\n')
    table = shop.ok("datasource", "analyze", "new.ndjson")
    assert "user_name" in table and "$.user.tags[:]" in table and "50 %" in table
    said = shop.ok("datasource", "create", "visits", "--file", "new.ndjson")
    assert "datasources/visits.datasource written" in said
    assert shop("datasource", "create", "visits", "--file", "new.ndjson").returncode == 1
    shop.ok("deploy")
    assert shop.ok("datasource", "append", "visits", "new.ndjson") == "2 rows added to visits\n"
