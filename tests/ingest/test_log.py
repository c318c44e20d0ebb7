"""The log by itself: what it acknowledges is on the disk, and a restart finds it."""

from __future__ import annotations

import ast
import asyncio
import errno
import os
import re
from pathlib import Path

import pytest

import pipit
from pipit.errors import Unavailable
from pipit.ingest import disk, limits
from pipit.ingest.log import Log, Stream
from pipit.ingest.segment import Fixed, Segment

pytestmark = pytest.mark.anyio

EVENTS = Stream("pipit_default", "d1_events", meta={"columns": [["a", "UInt8"]]})
KEY = EVENTS.table_key


def rows_of(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines() if not line.startswith(b"\x1e")]


def segments(root: Path) -> list[Path]:
    return list(root.glob("*/*/*.segment"))


async def test_an_append_is_in_the_file_when_it_returns(tmp_path: Path) -> None:
    log = Log(tmp_path)
    assert log.open() == []
    receipt = await log.append(EVENTS, b'{"a":1}\n{"a":2}\n', 2)
    assert rows_of(receipt.segment.path) == [b'{"a":1}', b'{"a":2}']
    assert receipt.segment.path.parent == tmp_path / "pipit_default" / "d1_events"
    assert log.pending(KEY).rows == 2
    await log.close()


async def test_what_waits_together_is_synced_together(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.open()
    payloads = [b'{"a":%d}\n' % n for n in range(200)]
    receipts = await asyncio.gather(*(log.append(EVENTS, p, 1) for p in payloads))
    assert log.syncs < 20
    assert {r.segment.name for r in receipts} == {receipts[0].segment.name}
    assert sorted(r.index for r in receipts) == list(range(200))
    assert sorted(rows_of(receipts[0].segment.path)) == sorted(p.strip() for p in payloads)
    assert receipts[0].segment.starts == list(range(200))
    await log.close()


async def test_segments_are_sealed_by_size_rows_age_and_for_a_waiter(tmp_path: Path) -> None:
    log = Log(tmp_path, seal_bytes=1000, seal_rows=5, seal_seconds=3600)
    log.open()
    await log.append(EVENTS, b'{"a":1}\n', 1)
    assert log.take(KEY) is None  # nobody waits and it is young
    await log.append(EVENTS, b'{"a":1}\n' * 4, 4)
    by_rows = log.take(KEY)
    assert by_rows is not None
    assert by_rows.rows == 5
    await log.append(EVENTS, b'{"a":"%s"}\n' % (b"x" * 1000), 1)
    assert (by_size := log.take(KEY)) is not None
    assert by_size.name > by_rows.name
    await log.append(EVENTS, b'{"a":2}\n', 1, urgent=True)
    assert log.take(KEY) is not None
    log.hurry(KEY)  # somebody waits for what was there before: nothing is
    await log.append(EVENTS, b'{"a":3}\n', 1)
    assert log.take(KEY) is None
    log.hurry(KEY)
    assert log.take(KEY) is not None
    await log.close()
    aged = Log(tmp_path / "aged", seal_seconds=0.01)
    aged.open()
    await aged.append(EVENTS, b'{"a":1}\n', 1)
    while (taken := aged.take(KEY)) is None:
        await aged.wait(KEY)
    assert taken.rows == 1
    await aged.close()


async def test_where_inserts_take_little_an_open_segment_waits_less(tmp_path: Path) -> None:
    log = Log(tmp_path, seal_seconds=3600)
    log.open()
    log.pace(KEY, 0.001)
    await log.append(EVENTS, b'{"a":1}\n', 1)
    assert log.take(KEY) is None  # as young as that it is not
    while log.take(KEY) is None:
        await log.wait(KEY)
    log.pace(KEY, 10)
    assert log._table(KEY).pause == 10 * limits.SEAL_INSERTS
    log.pace(KEY, 10_000)
    assert log._table(KEY).pause == 3600
    await log.close()


async def test_a_large_segment_does_not_wait_for_its_age(tmp_path: Path) -> None:
    log = Log(tmp_path, seal_seconds=3600)
    log.open()
    line = b'{"a":"%s"}\n' % (b"x" * (limits.SEAL_AT_ONCE_BYTES // 2))
    await log.append(EVENTS, line, 1)
    assert log.take(KEY) is None
    waiting = asyncio.create_task(log.wait(KEY))
    await log.append(EVENTS, line, 1)
    await waiting
    taken = log.take(KEY)
    assert taken is not None and taken.rows == 2
    await log.close()


async def test_requests_that_fix_other_values_share_a_segment_and_each_line_has_its_own(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.open()
    body = b'{"a":1}\n{"a":2}\n'
    tenants = [Fixed({"t": f"t{n}"}, f'"t{n}"') for n in range(500)]
    receipts = await asyncio.gather(*(log.append(EVENTS, body, 2, fixed=tenant) for tenant in tenants))
    assert len({r.segment.name for r in receipts}) == 1
    held = receipts[0].segment
    size = held.path.stat().st_size
    assert (held.rows, held.size, log.pending(KEY).bytes) == (1000, size, size)
    wanted = [f'{held.value_mark}"t{n}"\x1f{{"a":{a}}}\n'.encode() for n in range(500) for a in (1, 2)]
    assert held.lines() == wanted
    await log.close()
    (found,) = Log(tmp_path).open()
    assert [frame.fixed for frame in found.frames] == [tenant.values for tenant in tenants]
    assert (found.lines(), found.token) == (wanted, held.token)


async def test_other_ways_to_read_rows_are_another_segment(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.open()
    other = Stream(EVENTS.database, EVENTS.table, "fixed")
    one, two = await asyncio.gather(log.append(EVENTS, b"{}\n", 1), log.append(other, b"{}\n", 1))
    assert one.segment.name != two.segment.name
    assert log.pending(KEY).segments == 2
    await log.close()


async def test_a_restart_finds_the_segments_in_order_with_the_same_tokens(tmp_path: Path) -> None:
    log = Log(tmp_path, seal_rows=1)
    log.open()
    receipts = [await log.append(EVENTS, b'{"a":%d}\n' % n, 1, key=f"k{n}", digest="d") for n in range(12)]
    tokens = [r.segment.token for r in receipts]
    await log.close()
    again = Log(tmp_path)
    found = again.open()
    assert [s.token for s in found] == tokens
    assert len(set(tokens)) == 12
    assert [f.key for s in found for f in s.frames] == [f"k{n}" for n in range(12)]
    assert found[0].header.meta == EVENTS.meta
    assert again.pending(KEY).rows == 12
    newer = await again.append(EVENTS, b'{"a":1}\n', 1)
    assert newer.segment.name > found[-1].name
    again.remove(found[0])
    assert not found[0].path.exists()
    await again.close()


@pytest.mark.parametrize("cut", [1, 9, 40, 70])
async def test_a_torn_tail_is_cut_off_and_the_rest_kept(tmp_path: Path, cut: int) -> None:
    log = Log(tmp_path)
    log.open()
    await log.append(EVENTS, b'{"a":1}\n{"a":2}\n', 2)
    receipt = await log.append(EVENTS, b'{"a":3}\n', 1)
    path, token = receipt.segment.path, receipt.segment.token
    await log.close()
    kept = path.read_bytes()
    torn = Log(tmp_path / "twin")
    torn.open()
    twin = await torn.append(EVENTS, b'{"a":9}\n', 1)
    await torn.close()
    tail = twin.segment.path.read_bytes()
    path.write_bytes(kept + tail[:cut])
    again = Log(tmp_path)
    found = next(s for s in again.open() if s.path == path)
    assert path.read_bytes() == kept
    assert found.token == token
    assert found.rows == 3
    await again.close()
    # Cut inside the last request: that one goes, the one before stays.
    path.write_bytes(kept[:-cut])
    (found,) = [s for s in Log(tmp_path).open() if s.path == path]
    assert rows_of(path) == [b'{"a":1}', b'{"a":2}']
    assert found.rows == 2


async def reopened(root: Path) -> list[Segment]:
    log = Log(root)
    found = log.open()
    await log.close()
    return found


async def three_requests(root: Path) -> Path:
    log = Log(root)
    log.open()
    for body in (b'{"a":1}\n', b'{"a":2}\n{"a":2}\n'):
        await log.append(EVENTS, body, body.count(b"\n"))
    receipt = await log.append(EVENTS, b'{"a":3}\n', 1)
    await log.close()
    return receipt.segment.path


async def test_damage_in_the_middle_loses_that_request_only_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = await three_requests(tmp_path)
    whole = path.read_bytes()
    marks = [m.start() for m in re.finditer(b"\x1e", whole)]
    first, end = marks[2], marks[3]
    for at in range(first, end):
        caplog.clear()
        damaged = whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]
        path.write_bytes(damaged)
        (found,) = await reopened(tmp_path)
        assert (found.rows, len(found.frames)) == (2, 2), at
        assert path.read_bytes() == whole[:first] + whole[end:], at
        assert rows_of(path) == [b'{"a":1}', b'{"a":3}']
        (kept,) = path.parent.glob("*.damaged")
        assert kept.read_bytes() == damaged
        kept.unlink()
        (told,) = [r for r in caplog.records if r.levelname == "CRITICAL"]
        assert f"{end - first} bytes at {first}" in told.getMessage()
        assert (await reopened(tmp_path))[0].token == found.token


async def test_a_last_request_that_was_changed_is_kept_aside_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = await three_requests(tmp_path)
    damaged = path.read_bytes().replace(b'{"a":3}', b'{"a":8}')
    path.write_bytes(damaged)
    (found,) = await reopened(tmp_path)
    assert found.rows == 3
    assert path.with_suffix(".damaged").read_bytes() == damaged
    assert any(r.levelname == "CRITICAL" for r in caplog.records)


async def test_a_damaged_header_is_told_and_the_file_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = await three_requests(tmp_path)
    damaged = path.read_bytes().replace(b'"d1_events"', b'"d1_evemts"', 1)
    path.write_bytes(damaged)
    assert await reopened(tmp_path) == []
    assert path.with_suffix(".damaged").read_bytes() == damaged
    assert any(r.levelname == "CRITICAL" and ".damaged" in r.getMessage() for r in caplog.records)


async def test_a_damaged_segment_that_may_be_half_stored_is_left_to_a_person(tmp_path: Path) -> None:
    """What is noted of it speaks of rows by number."""
    path = await three_requests(tmp_path)
    (found,) = await reopened(tmp_path)
    found.notes.refused = [(3, 4, "x")]
    found.save_notes()
    damaged = path.read_bytes().replace(b'{"a":2}\n{"a":2}', b'{"a":2}\n{"a":4}')
    path.write_bytes(damaged)
    assert await reopened(tmp_path) == []
    assert path.with_suffix(".damaged").read_bytes() == damaged


async def test_a_segment_that_cannot_be_mended_now_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = await three_requests(tmp_path)
    damaged = path.read_bytes().replace(b'{"a":2}\n{"a":2}', b'{"a":2}\n{"a":4}')
    path.write_bytes(damaged)

    def full(file: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "sync", full)
    assert await reopened(tmp_path) == []
    assert path.read_bytes() == damaged
    monkeypatch.undo()
    (found,) = await reopened(tmp_path)
    assert found.rows == 2


async def test_a_file_without_a_header_held_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    folder = tmp_path / "db" / "t"
    folder.mkdir(parents=True)
    (folder / "1-x.segment").write_bytes(b"\x1eabc")
    log = Log(tmp_path)
    assert log.open() == []
    assert [p.name for p in folder.iterdir()] == ["1-x.damaged"]
    await log.close()


async def test_a_row_cannot_pass_for_a_frame(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.open()
    first = await log.append(EVENTS, b'{"a":1}\n', 1)
    forged = first.segment.path.read_bytes()  # even with a mark that it could not know
    receipt = await log.append(EVENTS, forged, forged.count(b"\n"))
    token = receipt.segment.token
    await log.close()
    (found,) = Log(tmp_path).open()
    assert found.token == token
    assert [f.rows for f in found.frames] == [1, 3]


@pytest.mark.parametrize("call", ["pwritev", "fdatasync"])
async def test_a_full_disk_refuses_the_request_and_keeps_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The kernel's answer is given by hand here; `tests/faults` fill a real disk."""
    log = Log(tmp_path)
    log.open()
    before = await log.append(EVENTS, b'{"a":1}\n', 1)
    size = before.segment.path.stat().st_size

    def full(fd: int, *rest: object) -> int:
        if call == "pwritev":
            os.pwrite(fd, b"half a wri", size)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(Unavailable, match="disk") as refused:
        await log.append(EVENTS, b'{"a":2}\n', 1)
    assert refused.value.headers["Retry-After"] == "5"
    monkeypatch.undo()
    assert before.segment.path.stat().st_size == size
    after = await log.append(EVENTS, b'{"a":3}\n', 1)
    assert log.pending(KEY).rows == 2
    assert after.segment.path != before.segment.path  # a file whose sync failed is not trusted again
    await log.close()
    found = Log(tmp_path).open()
    assert [row for s in found for row in rows_of(s.path)] == [b'{"a":1}', b'{"a":3}']


async def test_a_first_write_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(tmp_path)
    log.open()

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(Unavailable):
        await log.append(EVENTS, b'{"a":2}\n', 1)
    monkeypatch.undo()
    assert segments(tmp_path) == []
    assert log.pending(KEY).bytes == 0
    await log.append(EVENTS, b'{"a":2}\n', 1)
    await log.close()


async def test_a_directory_that_cannot_be_written_refuses(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.open()
    os.close(os.open(tmp_path / "pipit_default", os.O_CREAT))  # a file is in the way
    with pytest.raises(Unavailable):
        await log.append(EVENTS, b'{"a":2}\n', 1)
    assert log.pending(KEY).bytes == 0
    await log.close()


async def test_more_than_may_wait_is_refused_until_some_is_removed(tmp_path: Path) -> None:
    log = Log(tmp_path, max_pending_bytes=2000, seal_rows=1)
    log.open()
    payload = b'{"a":"%s"}\n' % (b"x" * 1000)
    await log.append(EVENTS, payload, 1)
    with pytest.raises(Unavailable, match="wait to be stored") as refused:
        await log.append(EVENTS, payload, 1)
    assert refused.value.retry_after == 2
    taken = log.take(KEY)
    assert taken is not None
    log.remove(taken)
    await log.append(EVENTS, payload, 1)
    await log.close()


async def test_one_process_owns_a_directory(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.open()
    with pytest.raises(Unavailable, match="Another Pipit process"):
        Log(tmp_path).open()
    await log.close()
    Log(tmp_path).open()


def test_the_log_needs_no_engine() -> None:
    """It outlives the engine: neither it nor what it imports of this package reaches for one."""
    package = Path(pipit.__file__).parent
    seen: set[str] = set()
    todo = ["ingest.log", "tables.__init__"]
    while todo:
        name = todo.pop()
        seen.add(name)
        tree = ast.parse((package / f"{name.replace('.', '/')}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pipit."):
                inner = node.module.removeprefix("pipit.")
                assert inner.split(".")[0] in ("errors", "ingest", "tables")
                names = [f"ingest.{a.name}" for a in node.names] if inner == "ingest" else [inner]
                todo += [n for n in names if n not in seen and "." in n]
    tables = {f"tables.{name}" for name in ("__init__", "locks", "settings")}
    assert seen == {f"ingest.{n}" for n in ("log", "segment", "limits", "disk", "counts")} | tables
