"""Parts of the command that need no process: pieces of a file, the lock, what a log blanks."""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from pipit.cli import event_rows, instance, logs, options, tokens, watch
from pipit.errors import BadRequest, EngineStartError, TooLarge


def whole(name: str, content: bytes) -> bytes:
    return b"".join(piece.body for piece in event_rows.pieces(name, io.BytesIO(content)))


def test_pieces_end_at_lines_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_rows, "_CHUNK_BYTES", 100)
    content = b"".join(b'{"n":%d}\n' % n for n in range(100))
    found = list(event_rows.pieces("x.ndjson", io.BytesIO(content)))
    assert len(found) > 5
    assert all(len(piece.body) <= 100 and piece.body.endswith(b"\n") for piece in found)
    assert b"".join(piece.body for piece in found) == content
    assert found[-1].position == len(content)
    with pytest.raises(TooLarge, match=r"x\.ndjson:2: the line is longer"):
        list(event_rows.pieces("x.ndjson", io.BytesIO(b"{}\n" + b"y" * 101 + b"\n")))


def test_forms_of_files() -> None:
    assert whole("x.ndjson", b'{"a":1}\n\n{"a":2}') == b'{"a":1}\n{"a":2}\n'
    assert whole("x.ndjson.gz", gzip.compress(b'{"a":1}\n')) == b'{"a":1}\n'
    assert whole("x.json", b'[{"a": 1.10},\n {"a": "x\\ny"}]') == b'{"a":1.10}\n{"a":"x\\ny"}\n'
    assert whole("x.json", b'{\n "a": 12345678901234567890123\n}') == b'{"a":12345678901234567890123}\n'
    assert whole("x.json", b'{"a":1}\n{"a":2}\n') == b'{"a":1}\n{"a":2}\n'
    assert whole("x.json.gz", gzip.compress(b"[]")) == b""
    for name, content in (("x.json", b"[1,"), ("x.ndjson.gz", gzip.compress(b"{}" * 99)[:-9])):
        with pytest.raises(BadRequest):
            whole(name, content)


def test_key_value_arguments() -> None:
    assert options.pairs(["a=1", "b=x=y", "c:=[1,2]", "d:=true", "e="], "--x") == {
        "a": "1", "b": "x=y", "c": [1, 2], "d": True, "e": "",
    }  # fmt: skip
    for wrong in ("a", "=1", ":=1", "a:=x"):
        with pytest.raises(typer.BadParameter):
            options.pairs([wrong], "--x")


def test_times() -> None:
    assert [tokens.seconds(text) for text in ("30s", "15m", "1h", "7d", "2W")] == [30, 900, 3600, 604_800, 1_209_600]
    for wrong in ("", "0s", "-1h", "1.5h", "1y", "h", "1 h"):
        with pytest.raises(typer.BadParameter):
            tokens.seconds(wrong)


def test_a_directory_has_one_holder_and_its_death_frees_it(tmp_path: Path) -> None:
    held = "import sys, pathlib; from pipit.cli.instance import *\nwith hold(pathlib.Path(sys.argv[1])):\n print(1, flush=True)\n input()"
    child = subprocess.Popen(
        [sys.executable, "-c", held, str(tmp_path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert child.stdout and child.stdin
    with child:
        child.stdout.readline()
        assert instance.is_held(tmp_path)
        command = rf"in use by another pipit command \(process {child.pid}\)"
        with pytest.raises(EngineStartError, match=command), instance.hold(tmp_path):
            pass
        server = instance.ServerFile("http://127.0.0.1:1", "127.0.0.1", 1, child.pid)
        instance.write_server(tmp_path, server)
        assert instance.find_server(tmp_path) == server
        assert stat.S_IMODE((tmp_path / "server.json").stat().st_mode) == 0o600
        serving = r"the server at http://127\.0\.0\.1:1 "
        with pytest.raises(EngineStartError, match=serving), instance.hold(tmp_path, patience=60):  # is not waited for
            pass
        (tmp_path / "server.json").write_text("{spoiled")
        spoiled = rf"\(process {child.pid}\), and its server\.json cannot be read"
        with pytest.raises(EngineStartError, match=spoiled), instance.hold(tmp_path, patience=60):
            pass
        child.kill()
    assert instance.find_server(tmp_path) is None
    with instance.hold(tmp_path):
        assert not (tmp_path / "server.json").exists()


def test_the_admin_token_is_made_once_or_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPIT_ADMIN_TOKEN", raising=False)
    assert instance.local_token(tmp_path) == ""
    made, source = instance.server_token(tmp_path)
    assert source == "admin_token" and made.startswith("p.eyJ") and len(made) > 32
    assert instance.server_token(tmp_path) == (made, "admin_token")
    assert instance.local_token(tmp_path) == made
    monkeypatch.setenv("PIPIT_ADMIN_TOKEN", "y" * 32)
    assert instance.server_token(tmp_path) == ("y" * 32, "PIPIT_ADMIN_TOKEN")
    monkeypatch.setenv("PIPIT_ADMIN_TOKEN", "short")
    with pytest.raises(BadRequest, match="shorter than 32 bytes"):
        instance.server_token(tmp_path)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_blanks_tokens_in_messages_and_traces(tmp_path: Path, form: str) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJ3b3Jrc3BhY2VfaWQiOiJ4In0.c2lnbmF0dXJl"
    try:
        logs.log_to(tmp_path, hide=["the-admin-secret"], to_terminal=logging.CRITICAL, lines_of_json=form == "json")
        log = logging.getLogger("pipit.test")
        log.warning("GET /v0/sql?q=1&token=abc123&x=1 by the-admin-secret with %s", jwt)
        log.warning("Authorization: Bearer p.eyJ1IjoiYSJ9.sig")
        try:
            raise ValueError(f"bad {jwt}")
        except ValueError:
            log.exception("failed")
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = before
        root.setLevel(level)
        for name in ("uvicorn.error", "watchfiles", "asyncio", "aiohttp", "clickhouse_connect"):
            logging.getLogger(name).setLevel(logging.NOTSET)
    text = (tmp_path / "pipit.log").read_text()
    assert "x=1 by ***" in text and "Traceback" in text
    if form == "json":
        lines = [json.loads(line) for line in text.splitlines()]
        assert [line["level"] for line in lines] == ["WARNING", "WARNING", "ERROR"]
        assert "Traceback" in lines[2]["exception"] and lines[0]["logger"] == "pipit.test"
    for secret in ("the-admin-secret", jwt, "abc123", "p.eyJ1IjoiYSJ9", "sig\n", "c2lnbmF0dXJl"):
        assert secret not in text
    assert stat.S_IMODE(os.stat(tmp_path / "pipit.log").st_mode) == 0o600


def test_watched_folders_are_those_that_files_are_read_from(tmp_path: Path) -> None:
    for name in ("pipes/deep/er", "pipes/deep/er/est", ".pipit/store", "node_modules/x", "fixtures", "env2"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "env2" / "pyvenv.cfg").touch()
    found = [path.relative_to(tmp_path).as_posix() for path in watch.folders(tmp_path)]
    assert found == [".", "pipes", "pipes/deep", "pipes/deep/er"]
