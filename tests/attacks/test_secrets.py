"""K43: a secret is in no error, whoever asks, and in no log; K44: what the data directory holds is its owner's alone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipit.access.tokens import make_token
from pipit.cli.instance import TOKEN_FILE, hold, server_token
from pipit.engine import open_engine
from pipit.errors import BadRequest
from processes import Served, served
from serving import Workspace

pytestmark = pytest.mark.anyio

SECRET = "zqsecret-zyxwv"
FAILS = {
    "a cast": "SELECT toUInt8({{tb_secret('k')}}) AS n",
    "a cast of rows": "SELECT toUInt8(concat({{tb_secret('k')}}, toString(number))) AS n FROM numbers(3)",
    "a date": "SELECT toDate({{tb_secret('k')}}) AS d",
    "another form of it": "SELECT toUInt8(upper({{tb_secret('k')}})) AS n",
    "a name": "SELECT toTypeName(CAST(1, {{tb_secret('k')}})) AS n",
    "a part of it": "SELECT toFloat64(substring({{tb_secret('k')}}, 3)) AS n",
}


@pytest.mark.parametrize("kind", FAILS)
async def test_an_error_does_not_quote_a_secret(
    workspace: Workspace, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """K43: with a static token that may read the endpoint, with the workspace's own, and with a tenant's."""
    assert (await workspace.post(f"/v0/variables?name=k&value={SECRET}")).status == 200
    good = "NODE n\nSQL >\n    %\n    {% if defined(go) %}" + FAILS[kind] + "{% else %}SELECT 1 AS n{% end %}\nTYPE endpoint\n"
    await workspace.deploy({"pipes/fails.pipe": good})
    made = await workspace.post("/v0/tokens?name=reads&scope=PIPES:READ:fails")
    scope = {"type": "PIPES:READ", "resource": "fails"}
    for token in (made.json["token"], workspace.admin_token, workspace.jwt(scope)):
        reply = await workspace.get("/v0/pipes/fails.json?go=1", token=token)
        assert reply.status == 400, reply.text
        assert not any(part in reply.text.lower() for part in ("zqsecret", "zyxwv", "secret-"))
    assert not any(part in caplog.text.lower() for part in ("zqsecret", "zyxwv"))


@pytest.mark.parametrize("kind", FAILS)
async def test_a_jobs_error_does_not_quote_a_secret(
    workspace: Workspace, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """K43: who may see jobs, and who reads the audit log, need not be who may read secrets."""
    assert (await workspace.post(f"/v0/variables?name=k&value={SECRET}")).status == 200
    table = "SCHEMA >\n    n Int64\n\nENGINE MergeTree\nENGINE_SORTING_KEY n\n"
    select = "{% if defined(go) %}" + FAILS[kind] + "{% else %}SELECT 1 AS n{% end %}"
    copy = f"NODE c\nSQL >\n    %\n    {select}\nTYPE copy\nTARGET_DATASOURCE t\n"
    await workspace.deploy({"datasources/t.datasource": table, "copies/fails.pipe": copy})
    reply = await workspace.post("/v0/pipes/fails/copy?go=1")
    told = reply.text
    if reply.status == 200:
        id = reply.json["job"]["job_id"]
        await workspace.server.jobs.ended(id)
        job = await workspace.get(f"/v0/jobs/{id}")
        assert job.json["status"] == "error"
        told += job.text
    assert not any(part in told.lower() for part in ("zqsecret", "4711", "secret-"))
    assert not any(part in caplog.text.lower() for part in ("zqsecret", "4711"))


async def test_an_error_without_a_secret_says_what_is_wrong(workspace: Workspace) -> None:
    await workspace.deploy(
        {"pipes/fails.pipe": "NODE n\nSQL >\n    %\n    SELECT toUInt8({{String(go, '1')}}) AS n\nTYPE endpoint\n"}
    )
    reply = await workspace.get("/v0/pipes/fails.json?go=abc")
    assert reply.status == 400 and "abc" in reply.json["error"]


def test_a_data_directory_that_is_open_is_closed(tmp_path: Path) -> None:
    """K44: nothing that either process makes can be read by another user, whatever the umask was."""
    before = os.umask(0o022)
    try:
        (tmp_path / "data").mkdir(mode=0o755)
        with served(tmp_path) as server:
            assert server.send(range(3), wait=True) == 200
            found = _open_to_others(server)
    finally:
        os.umask(before)
    assert found == []


async def test_the_engine_closes_its_files_itself(tmp_path: Path) -> None:
    """K44: whoever starts it."""
    before = os.umask(0o022)
    try:
        async with open_engine(tmp_path) as engine:
            await engine.command("CREATE TABLE t (x UInt8) ENGINE = MergeTree ORDER BY x")
            await engine.insert("t", [{"x": 1}])
            found = _open_below(tmp_path / "engine") + _open_below(tmp_path / "spool")
    finally:
        os.umask(before)
    assert found == []


def _open_to_others(server: Served) -> list[str]:
    return _open_below(server.data)


def _open_below(folder: Path) -> list[str]:
    paths = [folder, *folder.rglob("*")]
    return [str(path) for path in paths if path.exists() and not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077]


@pytest.mark.parametrize("kept", [0, 1, 40, 80, -30, -1])
def test_a_part_of_an_admin_token_is_no_token(tmp_path: Path, kept: int) -> None:
    """K45: a file that lost its end would sign every JWT from now on."""
    token = make_token(owner="default")
    (tmp_path / TOKEN_FILE).write_text(token[:kept])
    with pytest.raises(BadRequest, match=r"damaged|shorter"):
        server_token(tmp_path)
    assert (tmp_path / TOKEN_FILE).read_text() == token[:kept]


def test_whole_admin_tokens_are_taken(tmp_path: Path) -> None:
    for token in (make_token(owner="default"), "x" * 64):
        (tmp_path / TOKEN_FILE).write_text(token + "\n")
        assert server_token(tmp_path) == (token, TOKEN_FILE)
    (tmp_path / TOKEN_FILE).unlink()
    made, _ = server_token(tmp_path)
    assert server_token(tmp_path) == (made, TOKEN_FILE)


def test_a_folder_is_closed_when_it_is_held(tmp_path: Path) -> None:
    """K44"""
    before = os.umask(0o022)
    try:
        tmp_path.chmod(0o755)
        with hold(tmp_path):
            assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
            assert stat.S_IMODE((tmp_path / "pipit.lock").stat().st_mode) == 0o600
    finally:
        os.umask(before)


KEY = "the key of the tests"
KINDS = {"secret": "zqsecret-4711", "other": "zqother-4712", "old": "zqold-4713"}


def _start(server: Served, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPIT_SECRETS_KEY", key)
    server.start()


def _refused(server: Served, key: str, monkeypatch: pytest.MonkeyPatch, *command: str) -> str:
    """What a command says that does not start."""
    monkeypatch.setenv("PIPIT_SECRETS_KEY", key)
    program = str(Path(sys.executable).with_name("pipit"))
    asked = command or ("serve", "--project", str(server.folder / "project"), "--port", str(server.port))
    done = subprocess.run([program, *asked, "--data", str(server.data)], capture_output=True, text=True, timeout=180)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr and "fault of pipit" not in done.stderr
    return done.stderr


def _holding(folder: Path, *texts: str) -> list[str]:
    """The files in which one of the texts stands. What is compressed (LZ4) has a text as it is where it stands first."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            found += [f"{text} in {path}" for text in texts if text.encode() in held]
    return found


def _set(server: Served, name: str, value: str) -> None:
    status, reply = server.request(f"/v0/variables?name={name}&value={value}", b"")
    assert status == 200, reply


def _read(server: Served) -> tuple[int, str]:
    status, reply = server.get("/v0/pipes/shows.json")
    return status, reply["data"][0]["s"] if status == 200 else reply["error"]


SHOWS = "NODE n\nSQL >\n    %\n    SELECT lower({{tb_secret('secret', 'none')}}) AS s, count() AS n FROM events\nTYPE endpoint\n"


def test_secrets_are_encrypted_at_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """K47: who reads the disk, or a copy of it, reads no secret and no token, if the key is kept elsewhere."""
    (tmp_path / "project/pipes").mkdir(parents=True)
    (tmp_path / "project/pipes/shows.pipe").write_text(SHOWS)
    monkeypatch.setenv("PIPIT_SECRETS_KEY", KEY)
    with served(tmp_path) as server:
        for name, value in KINDS.items():
            _set(server, name, value)
        _set(server, "old", "zqnewer-4714")
        tokens = [server.request("/v0/tokens?name=t&scope=PIPES:READ:shows", b"")[1]["token"]]
        tokens.append(server.request("/v1/workspaces?name=second", b"")[1]["token"])
        assert _read(server) == (200, KINDS["secret"])
        assert server.send(range(3), wait=True) == 200
        assert server.request("/v0/sql?q=SELECT+throwIf(1)")[0] == 400
        assert server.request("/v0/workspace/environments?name=acme", b"")[0] == 200
        children = server.children()
        environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in children]
        assert children and not any(KEY.encode() in environment for environment in environments)
        server.stop()
        assert _holding(server.data, *KINDS.values(), "zqnewer-4714", *tokens, KEY) == []

        # No key and another one: said at the start, and nothing is changed.
        assert "PIPIT_SECRETS_KEY is not set" in _refused(server, "", monkeypatch)
        assert "another key" in _refused(server, "another key that is long enough", monkeypatch)
        assert "too short" in _refused(server, "short", monkeypatch)
        assert "PIPIT_SECRETS_KEY is not set" in _refused(server, "", monkeypatch, "secret", "ls")

        # A new key in front of the old one: from then on the old one opens nothing.
        newer = "a newer key of the tests"
        _start(server, f"{newer},{KEY}", monkeypatch)
        assert _read(server) == (200, KINDS["secret"])
        server.stop()
        assert "another key" in _refused(server, KEY, monkeypatch)
        _start(server, newer, monkeypatch)
        assert _read(server) == (200, KINDS["secret"])
        assert server.request("/v0/tokens/t")[1]["token"] == tokens[0]
        server.stop()
        assert _holding(server.data, *KINDS.values(), "zqnewer-4714", *tokens, KEY, newer) == []


def test_what_was_kept_plainly_is_encrypted_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """K47: a key that is set later is for all that was written before it, too."""
    (tmp_path / "project/pipes").mkdir(parents=True)
    (tmp_path / "project/pipes/shows.pipe").write_text(SHOWS)
    monkeypatch.delenv("PIPIT_SECRETS_KEY", raising=False)
    with served(tmp_path) as server:
        _set(server, "secret", KINDS["old"])
        _set(server, "secret", KINDS["secret"])
        _set(server, "other", KINDS["other"])
        updated = server.get("/v0/variables/other")[1]["updated_at"]
        token = server.request("/v0/tokens?name=t&scope=PIPES:READ:shows", b"")[1]["token"]
        server.stop()
        assert _holding(server.data, KINDS["other"])
        _start(server, KEY, monkeypatch)
        assert _read(server) == (200, KINDS["secret"])
        assert server.get("/v0/variables/other")[1]["updated_at"] == updated
        assert server.request("/v0/tokens/t")[1]["token"] == token
        server.stop()
        assert _holding(server.data, *KINDS.values(), token) == []
        assert "PIPIT_SECRETS_KEY is not set" in _refused(server, "", monkeypatch)
