"""`pipit token` against a real server: static tokens, keys of others, and the admin token's refresh over a restart."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pages import ROOT, blocks, run_blocks
from pipit.cli.keys import read_keys
from pipit.errors import BadRequest
from signing import jwks, pair

from .conftest import PROJECT, Serving, Shell, write

ROWS = [{"at": "2026-01-01 00:00:00", "tenant": t, "amount": 5} for t in ("a", "b")]
READ = "/v0/pipes/totals.json"


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


def test_a_static_token_from_made_to_removed(shop: Shell, served: Serving) -> None:
    first = shop.ok("token", "create", "static", "office", "--scope", "PIPES:READ:totals", "--description", "d").strip()
    assert served.get(READ, first)[0] == 200
    assert "office" in shop.ok("token", "ls")
    assert first not in shop.ok("token", "ls")
    second = shop.ok("token", "refresh", "office", "--yes").strip()
    assert [served.get(READ, token)[0] for token in (first, second)] == [403, 200]
    shop.ok("token", "rm", "office")
    assert served.get(READ, second)[0] == 403
    missing = shop("token", "rm", "office")
    assert missing.returncode == 1
    assert "not enough permissions" in missing.stderr
    asked = shop("token", "refresh", "workspace admin token", input=b"n\n")
    assert asked.returncode == 1


def test_who_gets_a_token_that_makes_tokens_is_warned_that_it_reads_all_rows(shop: Shell, served: Serving) -> None:
    made = shop("token", "create", "static", "keeper", "--scope", "TOKENS")
    assert made.returncode == 0 and "WORKSPACE:READ_ALL, which reads all rows" in made.stderr
    keeper = made.stdout.strip()
    assert served.get(READ, keeper)[0] == 403
    greater = shop("token", "create", "static", "all", "--scope", "WORKSPACE:READ_ALL", "--token", keeper)
    assert greater.returncode == 0 and "reads all rows" not in greater.stderr
    assert served.get(READ, greater.stdout.strip())[0] == 200
    (row,) = [line for line in (ROOT / "docs/tokens.md").read_text().splitlines() if line.startswith("| `TOKENS` |")]
    assert "WORKSPACE:READ_ALL" in row and "give it only to who may read all rows" in row


def test_a_jwt_with_a_filter_and_an_environment(shop: Shell, served: Serving) -> None:
    made = shop.ok(
        *("token", "create", "jwt", "acme", "--ttl", "1h", "--datasource", "sales", "--filter", "amount > 1"),
        *("--environment", "acme_eu", "--pipe", "totals", "--context", "tenant=a"),
    )
    import jwt

    claims = jwt.decode(made.strip(), options={"verify_signature": False})
    assert claims["environment"] == "acme_eu"
    assert {"type": "DATASOURCES:READ", "resource": "sales", "filter": "amount > 1"} in claims["scopes"]
    status, found = served.get(READ, made.strip())
    assert (status, "environment" in found["error"]) == (403, True)
    assert shop("token", "create", "jwt", "x", "--ttl", "1h", "--filter", "1", "--pipe", "totals").returncode == 2


def test_a_backends_own_key(shop: Shell, served: Serving) -> None:
    key = pair("ES256", "backend-1")
    (shop.folder / "public.pem").write_bytes(key.pem())
    said = shop("token", "keys", "add", "backend", "--jwks", "public.pem", "--kid", "backend-1")
    assert (said.returncode, "1 public key" in said.stderr) == (0, True), said.stderr
    assert "ES256 backend-1" in shop.ok("token", "keys", "ls")
    workspace = served.get("/v0/workspace", (served.data / "admin_token").read_text().strip())[1]["id"]
    token = key.sign(
        {
            "workspace_id": workspace,
            "name": "acme",
            "exp": int(time.time()) + 60,
            "scopes": [{"type": "PIPES:READ", "resource": "totals"}],
            "context": {"tenant": "a"},
        }
    )
    assert served.get(READ, token)[1]["data"] == [{"tenant": "a", "total": 5}]
    shop.ok("token", "keys", "rm", "backend")
    assert served.get(READ, token)[0] == 403


def test_an_identity_providers_key(shop: Shell, served: Serving) -> None:
    key = pair("RS256", "login")
    (shop.folder / "jwks.json").write_text(json.dumps(jwks(key)))
    shop.ok(
        *("token", "keys", "add", "login", "--jwks", "jwks.json", "--issuer", "https://login", "--audience", "api"),
        *("--pipe", "totals", "--context", 'tenant:=["app", "org"]', "--name-claim", "email"),
    )
    claims = {"iss": "https://login", "aud": ["api"], "email": "x@a", "exp": int(time.time()) + 60}
    assert served.get(READ, key.sign(claims | {"app": {"org": "b"}}))[1]["data"] == [{"tenant": "b", "total": 5}]
    status, found = served.get(READ, key.sign(claims | {"app": {}}))
    assert (status, "app.org" in found["error"]) == (403, True)
    shop.ok("token", "keys", "rm", "login")


def test_a_private_key_never_leaves_the_machine(tmp_path: Path) -> None:
    private = pair("ES256").private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name, content in (("private.pem", private), ("both.pem", pair("ES256").pem() + private)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadRequest, match="private key"):
            read_keys(tmp_path / name, "")
    for name, text in (("x.pem", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"), ("x.json", "[1]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(BadRequest):
            read_keys(tmp_path / name, "")
    (tmp_path / "jwk.json").write_text(json.dumps(pair("EdDSA").jwk(kid=None)))
    assert read_keys(tmp_path / "jwk.json", "k")["keys"][0]["kid"] == "k"


def test_the_admin_tokens_refresh_outlives_the_server(shell: Shell) -> None:
    write(shell.folder, PROJECT)
    with shell.serving() as serving:
        old = (serving.data / "admin_token").read_text().strip()
        jwt = shell.ok(
            "token", "create", "jwt", "a", "--ttl", "1h", "--pipe", "totals", "--context", "tenant=a"
        ).strip()
        assert serving.get(READ, jwt)[0] == 200
        new = shell.ok("token", "refresh", "workspace admin token", "--yes").strip()
        assert (serving.data / "admin_token").read_text().strip() == new != old
        assert (serving.data / "admin_token").stat().st_mode & 0o777 == 0o600
        assert [serving.get(READ, token)[0] for token in (jwt, old, new)] == [403, 403, 200]
        shell.ok("token", "ls")
        serving.process.kill()
        serving.process.wait(60)
        serving.file.unlink()  # a killed server leaves it; the next one is up when it writes its own
    with shell.serving() as serving:
        assert [serving.get(READ, token)[0] for token in (jwt, old, new)] == [403, 403, 200]
        serving.stop()
    shell.environment["PIPIT_ADMIN_TOKEN"] = "given-from-outside-0123456789abcdef0123456789"
    with shell.serving() as serving:
        refused = shell("token", "refresh", "workspace admin token", "--yes")
        assert refused.returncode == 1
        assert "PIPIT_ADMIN_TOKEN" in refused.stderr


def test_the_pages_example(tmp_path: Path) -> None:
    """docs/tokens.md as it stands: its `sh` blocks in an empty folder on a free port, then its Python."""
    page = ROOT / "docs" / "tokens.md"
    (code,) = blocks(page, "python")
    (tmp_path / "backend.py").write_text(code)
    own = (
        f"export WORKSPACE\nOWN=$('{sys.executable}' ../backend.py)\n"
        'curl --silent --fail-with-body -H "Authorization: Bearer $OWN" http://localhost:7181/v0/pipes/top_features.csv\n'
    )
    _, office, acme, _keys, mine = run_blocks([*blocks(page, "sh"), own], tmp_path)
    assert '"feature"' in office and "Invalid token" in office
    assert '"feature"' in acme
    assert mine.strip().splitlines() == [line for line in acme.splitlines() if line.startswith('"')]


def test_a_token_that_opens_nothing_is_made_and_warned_of(shop: Shell, served: Serving) -> None:
    done = shop("token", "create", "jwt", "x", "--ttl", "1h", "--pipe", "total", "--pipe", "totals")
    assert done.returncode == 0 and done.stdout.count(".") == 2
    first, second = done.stderr.splitlines()
    assert first.startswith("Warning: There is no pipe 'total' (is 'totals' meant?)")
    assert second.startswith("Warning: 'totals' will be refused, as it reads 'sales': The token's context has no key 'tenant'")
    quiet = shop("token", "create", "jwt", "x", "--ttl", "1h", "--pipe", "totals", "--context", "tenant=a")
    assert quiet.returncode == 0 and quiet.stderr == ""
    static = shop("token", "create", "static", "y", "--scope", "PIPES:READ:total")
    assert static.returncode == 0 and static.stderr.startswith("Warning: There is no pipe 'total'")
