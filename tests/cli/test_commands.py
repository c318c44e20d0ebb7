"""A newcomer's way, with the real command: init, check, serve, append, query, sql, token, secret, deploy."""

from __future__ import annotations

import gzip
import json
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipit.cli import app

from .conftest import PROJECT, TOTALS, Serving, Shell, write

ROWS = [
    {"at": "2026-01-01 00:00:00", "tenant": "a", "amount": 1},
    {"at": "2026-01-01 00:00:01", "tenant": "a", "amount": 10},
    {"at": "2026-01-01 00:00:02", "tenant": "b", "amount": 100},
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    folder = tmp_path_factory.mktemp("shop")
    write(folder, PROJECT)
    write(folder, {"sales.ndjson": "".join(json.dumps(row) + "\n" for row in ROWS)})
    return Shell(folder)


@pytest.fixture(scope="module")
def served(shop: Shell) -> Iterator[Serving]:
    with shop.serving() as serving:
        shop.ok("datasource", "append", "sales", "sales.ndjson")
        yield serving


def rows(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_serve_says_where_it_is_and_keeps_its_token_to_itself(shop: Shell, served: Serving) -> None:
    token = (served.data / "admin_token").read_text().strip()
    said = served.output.read_text()
    assert served.url in said
    assert str(Path(".pipit") / "admin_token") in said
    assert "default: 1 endpoint, 1 data source" in said
    assert token not in said
    for name in ("admin_token", "server.json", "logs/pipit.log"):
        assert stat.S_IMODE((served.data / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(served.data.stat().st_mode) == 0o700
    assert token not in (served.data / "server.json").read_text()


def test_query_prints_a_table(shop: Shell, served: Serving) -> None:
    done = shop("query", "totals")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines() if line.strip().startswith(("a", "b", "tenant"))] == [
        ["tenant", "total"],
        ["a", "11"],
        ["b", "100"],
    ]
    assert "2 rows in" in done.stderr


def test_query_takes_parameters_and_formats(shop: Shell, served: Serving) -> None:
    assert shop.ok("query", "totals", "-p", "least=50", "-f", "csv") == '"tenant","total"\n"b",100\n'
    assert rows(shop.ok("query", "totals", "--param", "tenant=a", "--format", "ndjson")) == [
        {"tenant": "a", "total": 11}
    ]
    assert json.loads(shop.ok("query", "totals", "--format", "json"))["rows"] == 2


def test_a_parameter_that_nothing_asks_for_is_warned_of(shop: Shell, served: Serving) -> None:
    for more in ([], ["--as", "tenant=b"], ["--show-sql"], ["--diff", "admin", "--as", "tenant=b"]):
        done = shop("query", "totals", "-p", "laest=50", *more)
        assert done.returncode == 0, done.stderr
        said = " ".join(done.stderr.split())
        assert "neither 'totals' nor what it reads has a parameter 'laest'. Did you mean least?" in said, said
    done = shop("query", "totals", "-p", "least=50", "-f", "ndjson")
    assert rows(done.stdout) == [{"tenant": "b", "total": 100}] and "parameter" not in done.stderr


def test_query_as_a_tenant_shows_that_tenants_rows_whatever_is_asked_for(shop: Shell, served: Serving) -> None:
    mine = shop.ok("query", "totals", "--as", "tenant=b", "--param", "tenant=a", "--format", "ndjson")
    assert rows(mine) == [{"tenant": "b", "total": 100}]


def test_show_sql_prints_what_runs_beside_the_rows(shop: Shell, served: Serving) -> None:
    done = shop("query", "totals", "--as", "tenant=b", "-p", "least=7", "--show-sql", "--format", "ndjson")
    assert done.returncode == 0, done.stderr
    assert rows(done.stdout) == [{"tenant": "b", "total": 100}]
    assert "`pipit_default`.`d1_sales`" in done.stderr
    assert re.search(r"pipit_default\.d1_sales = \(*tenant = +'b'\)", done.stderr)
    assert "readonly = 1" in done.stderr
    assert "= 7" in done.stderr
    as_admin = shop.ok("query", "totals", "--show-sql")
    assert "every row is visible" in as_admin


def test_two_tenants_side_by_side(shop: Shell, served: Serving) -> None:
    """Issue 4, item 9: the same statement, other values and filters, other rows."""
    done = shop("query", "totals", "--as", "tenant=a", "--diff", "tenant=b", "-p", "least=5")
    assert done.returncode == 0, done.stderr
    said = [" ".join(text.split()) for text in done.stdout.splitlines()]
    assert said[:2] == ["- tenant=a", "+ tenant=b"]
    assert "Statement: the same text for both" in said
    filters = said.index("Row filters")
    assert re.fullmatch(r"- sales = \(*tenant = 'a'\)*", said[filters + 1]), said
    assert said[filters + 2] == said[filters + 1].replace("'a'", "'b'").replace("-", "+", 1)
    assert any(re.fullmatch(r"- p\w+ = a", text) for text in said), said
    assert any(re.fullmatch(r"p\w+ = 5", text) for text in said), said
    assert {"- a 10", "+ b 100"} <= set(said), said
    assert re.search(r"Settings: the same \d+ for both", done.stdout)
    assert "1 row only for tenant=a, 1 only for tenant=b, 0 the same for both" in done.stderr


def test_a_tenant_beside_the_workspace_itself(shop: Shell, served: Serving) -> None:
    done = shop("query", "totals", "--as", "tenant=a", "--diff", "admin", "--show-sql")
    assert done.returncode == 0, done.stderr
    said = [" ".join(text.split()) for text in done.stdout.splitlines()]
    assert "+ admin (the workspace itself)" in said
    assert "Statement: the template gives them different texts" in said
    assert any(text.startswith("- AND tenant = {") for text in said), said
    assert "+ sales = (none)" in said
    assert {"a 11", "+ b 100"} <= set(said)
    assert "0 rows only for tenant=a, 1 only for admin, 1 the same for both" in done.stderr


def test_a_refused_tenant_is_an_answer_too(shop: Shell, served: Serving) -> None:
    done = shop("query", "totals", "--as", "other=a", "--diff", "tenant=b")
    assert done.returncode == 0 and "- other=a is refused: " in done.stdout and "(403)" in done.stdout
    assert re.search(r"\+ +b +100", done.stdout)
    assert shop("query", "nothing", "--diff", "tenant=b").returncode == 1


def test_machines_get_a_comparison_as_json_or_none(shop: Shell, served: Serving) -> None:
    found = json.loads(shop.ok("query", "totals", "--as", "tenant=a", "--diff", "tenant=b", "--format", "json"))
    assert found["same_statement"] is True and [v["as"] for v in found["viewers"]] == ["tenant=a", "tenant=b"]
    assert found["rows"] == {
        "first_only": [{"tenant": "a", "total": 11}],
        "second_only": [{"tenant": "b", "total": 100}],
        "both": [],
    }
    for format in ("csv", "ndjson", "parquet"):
        done = shop("query", "totals", "--diff", "tenant=b", "--format", format)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr


def test_a_tenant_without_the_key_is_refused(shop: Shell, served: Serving) -> None:
    done = shop("query", "totals", "--as", "other=b")
    assert (done.returncode, done.stdout) == (1, "")
    assert "tenant" in done.stderr and "Traceback" not in done.stderr


def test_a_pipe_that_does_not_exist_is_one_sentence(shop: Shell, served: Serving) -> None:
    done = shop("query", "nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ") and "nothing" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Hint:  There is totals. `pipit deploy`" in done.stderr
    for arguments in ([], ["--as", "tenant=a"], ["--diff", "admin"]):
        assert "Hint:  Did you mean totals?" in shop("query", "total", *arguments).stderr


def test_sql(shop: Shell, served: Serving) -> None:
    assert shop.ok("sql", "SELECT count() AS n FROM sales;", "-f", "ndjson") == '{"n":3}\n'
    assert shop.ok("sql", "-", "-f", "csv", input=b"SELECT max(amount) AS m FROM sales -- the largest") == '"m"\n100\n'
    assert shop.ok("sql", "SELECT 1 AS x FORMAT TSV") == "1\n"
    done = shop("sql", "SELECT nothing FROM sales")
    assert done.returncode == 1 and "nothing" in done.stderr and "d1_" not in done.stderr


def test_control_characters_of_a_row_do_not_reach_the_terminal(shop: Shell, served: Serving) -> None:
    assert "\x1b" not in shop.ok("sql", "SELECT '\\x1b[2Jgone' AS text")


def test_a_jwt_reads_what_it_says_and_nothing_else(shop: Shell, served: Serving) -> None:
    made = shop.ok(
        "token", "create", "jwt", "b-team", "--ttl", "5m", "--pipe", "totals", "--context", "tenant=b"
    )  # fmt: skip
    token = made.strip()
    assert made == token + "\n" and token.count(".") == 2
    status, found = served.get("/v0/pipes/totals.json?tenant=b", token)
    assert (status, found["data"]) == (200, [{"tenant": "b", "total": 100}])
    assert served.get("/v0/pipes/totals.json?tenant=a", token)[1]["data"] == []
    assert served.get("/v0/sql?q=SELECT+1", token)[0] == 403


def test_bad_token_requests_are_usage_errors() -> None:
    for arguments in (
        ("x", "--ttl", "5m"),
        ("x", "--ttl", "5 years", "--pipe", "totals"),
        ("x", "--ttl", "1h", "--pipe", "totals", "--context", "tenant"),
        ("x", "--ttl", "1h", "--pipe", "totals", "--context", "tenant:=nope"),
    ):
        done = CliRunner().invoke(app, ["token", "create", "jwt", *arguments])
        assert (done.exit_code, done.stdout) == (2, ""), arguments


def test_token_ls_shows_tokens_only_when_asked(shop: Shell, served: Serving) -> None:
    token = (served.data / "admin_token").read_text().strip()
    listed = shop.ok("token", "ls")
    assert "workspace admin token" in listed and "ADMIN" in listed
    assert token not in listed
    assert token in shop.ok("token", "ls", "--reveal")


def test_secrets_come_from_standard_input_and_are_never_shown(shop: Shell, served: Serving) -> None:
    shop.ok("secret", "set", "password", input=b"hunter2\n")
    shop.ok("secret", "set", "region", "eu-west-1")
    done = shop("secret", "ls")
    assert sorted(done.stdout.split()) == ["password", "region"]
    shop.ok("secret", "rm", "region")
    assert shop("secret", "rm", "region").returncode == 1
    for file in served.data.glob("logs/*"):
        assert b"hunter2" not in file.read_bytes()


def test_append_counts_and_explains_bad_rows(shop: Shell, served: Serving) -> None:
    good = {"at": "2020-01-01 00:00:00", "tenant": "c", "amount": -5}
    bad = {"at": "2020-01-01 00:00:00", "tenant": "c", "amount": "many"}
    body = "".join(json.dumps(row) + "\n" for row in [good, bad, good])
    (shop.folder / "mixed.ndjson.gz").write_bytes(gzip.compress(body.encode()))
    done = shop("datasource", "append", "sales", "mixed.ndjson.gz")
    assert (done.returncode, done.stdout) == (0, "2 rows added to sales\n")
    assert "1 row did not fit and went to sales_quarantine" in done.stderr
    assert shop("datasource", "append", "sales", "mixed.ndjson.gz", "--strict").returncode == 1
    (shop.folder / "one.json").write_text(json.dumps([bad], indent=2))
    none = shop("datasource", "append", "sales", "one.json")
    assert (none.returncode, none.stdout) == (1, "0 rows added to sales\n")
    assert "Error: No row of one.json fits sales: 1 row went to sales_quarantine" in none.stderr
    why = re.search(r'Why: pipit sql "(.+)"', none.stderr)
    assert why and "many" in shop.ok("sql", why[1])
    piped = shop.ok("datasource", "append", "sales", "-", input=json.dumps(good).encode())
    assert piped == "1 row added to sales\n"
    assert shop.ok("sql", "SELECT count() AS n FROM sales WHERE amount = -5", "-f", "ndjson") == '{"n":5}\n'


def test_append_to_nothing_and_from_nothing(shop: Shell, served: Serving) -> None:
    nothing = shop("datasource", "append", "nothing", "sales.ndjson")
    assert nothing.returncode == 1 and "Hint:  There is sales" in nothing.stderr
    assert "Hint:  Did you mean sales?" in shop("datasource", "append", "sale", "sales.ndjson").stderr
    missing = shop("datasource", "append", "sales", "missing.ndjson")
    assert missing.returncode == 1 and "missing.ndjson cannot be read" in missing.stderr
    (shop.folder / "not.ndjson.gz").write_text("plain text")
    broken = shop("datasource", "append", "sales", "not.ndjson.gz")
    assert broken.returncode == 1 and "Traceback" not in broken.stderr


def test_plan_deploy_and_what_is_refused(shop: Shell, served: Serving) -> None:
    pipe = shop.folder / "pipes" / "totals.pipe"
    write(
        shop.folder, {"pipes/count.pipe": "NODE endpoint\nSQL >\n    SELECT count() AS n FROM sales\n\nTYPE endpoint\n"}
    )
    changed = TOTALS.replace("sum(amount) AS total", "sum(amount) AS total, count() AS orders")
    pipe.write_text(changed)
    planned = shop("plan")
    assert planned.returncode == 0
    assert "+ count" in planned.stderr and "~ totals" in planned.stderr
    assert shop("query", "count").returncode == 1  # nothing was changed
    deployed = shop("deploy")
    assert deployed.returncode == 0, deployed.stderr
    assert "Deployment 2 is live: 2 pipes" in deployed.stderr
    assert rows(shop.ok("query", "totals", "-p", "tenant=b", "-f", "ndjson")) == [
        {"tenant": "b", "total": 100, "orders": 1}
    ]
    pipe.write_text(TOTALS.replace("sum(amount)", "sum(amonut)"))
    refused = shop("deploy")
    assert refused.returncode == 1
    assert refused.stderr.startswith("pipes/totals.pipe:4:24: ") and "amonut" in refused.stderr
    assert shop("query", "totals").returncode == 0  # what was live is live
    pipe.write_text(changed)
    assert "Nothing to change" in shop("plan").stderr


def test_deleting_rows_must_be_asked_for(shop: Shell, served: Serving) -> None:
    extra = shop.folder / "datasources" / "extra.datasource"
    extra.write_text("SCHEMA >\n    `x` Int32 `json:$.x`\n\nENGINE MergeTree\nENGINE_SORTING_KEY x\n")
    assert "+ extra" in shop("deploy").stderr
    extra.unlink()
    refused = shop("deploy")
    assert refused.returncode == 1
    assert "'extra' is deployed and is missing" in refused.stderr
    assert "--allow-destructive-operations" in refused.stderr
    planned = shop("deploy", "--check", "--allow-destructive-operations")
    assert "- extra" in planned.stderr and "Nothing was changed" in planned.stderr
    deployed = shop("deploy", "--allow-destructive-operations")
    assert deployed.returncode == 0 and "- extra" in deployed.stderr
    assert shop("sql", "SELECT * FROM extra").returncode == 1


def test_another_host_needs_its_own_token(shop: Shell, served: Serving) -> None:
    token = (served.data / "admin_token").read_text().strip()
    bare = shop("sql", "SELECT 1", "--host", served.url)
    assert bare.returncode == 1 and "PIPIT_TOKEN" in bare.stderr
    assert shop.ok("sql", "SELECT 1 AS x", "-f", "ndjson", PIPIT_HOST=served.url, PIPIT_TOKEN=token) == '{"x":1}\n'
    assert shop.ok("--host", served.url, "--token", token, "sql", "SELECT 1 AS x", "-f", "ndjson") == '{"x":1}\n'
    wrong = shop("sql", "SELECT 1", PIPIT_ADMIN_TOKEN="x" * 40)
    assert wrong.returncode == 1 and "unset PIPIT_ADMIN_TOKEN" in wrong.stderr


def test_tokens_are_in_no_log(shop: Shell, served: Serving) -> None:
    token = (served.data / "admin_token").read_text().strip()
    jwt = shop.ok("token", "create", "jwt", "x", "--ttl", "5m", "--pipe", "totals", "--context", "tenant=b").strip()
    for sent in (token, jwt, jwt[:-4] + "AAAA"):
        served.get(f"/v0/pipes/totals.json?token={sent}", "ignored")
        served.get("/v0/pipes/totals.json", sent)
    logs = b"".join(file.read_bytes() for file in served.data.glob("logs/*")) + served.output.read_bytes()
    assert b"pipe=totals" in logs
    for sent in (token, jwt, jwt.rpartition(".")[2]):
        assert sent.encode() not in logs


def test_urls_and_headers_without_end(served: Serving) -> None:
    port = int(served.url.rpartition(":")[2])

    def answer(head: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.settimeout(10)
            found = b""
            with suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(head)
                while part := client.recv(65536):
                    found += part
            return found

    tail = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for length in (10_000, 60_000, 64_500, 70_000):
        found = answer(b"GET /v0/health?x=" + b"y" * length + tail)
        assert found.startswith(b"HTTP/1.1 414 "), (length, found[:100])
        assert b'"code":"uri_too_long"' in found.replace(b" ", b"")
    assert answer(b"GET /v0/health" + tail).startswith(b"HTTP/1.1 200 ")
    assert answer(b"no http at all\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    endless = answer(b"GET /v0/health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"y" * 200_000)
    assert endless.startswith(b"HTTP/1.1 431 ") or endless == b""
