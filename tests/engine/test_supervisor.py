"""The engine process dies, hangs, meets a second one, loses its parent: what callers see, and that it comes
back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pipit.engine import open_engine
from pipit.engine.embedded.supervisor import Supervisor
from pipit.engine.http import HttpEngine
from pipit.engine.opening import EmbeddedSource
from pipit.errors import EngineStartError, QueryTimeout, Unavailable
from waiting import until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def own_engine(
    data: Path, beat_seconds: float = 2.0, **more: float
) -> AsyncIterator[tuple[HttpEngine, Supervisor]]:
    """An engine of the test's own, to be ill-treated."""
    timing = {"beat_seconds": beat_seconds, "beat_timeout": 10.0} | more
    supervisor = Supervisor(data, memory=1 << 30, **timing)
    source = EmbeddedSource(supervisor)
    await supervisor.start()
    try:
        yield HttpEngine(source), supervisor
    finally:
        await source.close()
        await supervisor.stop()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def read_proc(pid: int, part: str) -> bytes:
    return Path(f"/proc/{pid}/{part}").read_bytes()


def pid_of(supervisor: Supervisor) -> int:
    assert supervisor.endpoint is not None
    return supervisor.endpoint.pid


async def test_killed_under_load_it_is_unavailable_and_then_works_again_by_itself(tmp_path: Path) -> None:
    began = time.monotonic()
    async with own_engine(tmp_path) as (engine, supervisor):
        await engine.command("CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n")
        await engine.insert("t", [{"n": n} for n in range(100)])
        first_start = time.monotonic() - began
        outcomes: set[str] = set()
        stop = asyncio.Event()

        async def load() -> None:
            while not stop.is_set():
                began = time.monotonic()
                try:
                    assert await engine.query("SELECT sum(n) FROM t") == b"4950\n"
                    outcomes.add("answered")
                except Unavailable as error:
                    outcomes.add("unavailable")
                    assert error.status == 503 and "Retry-After" in error.headers
                    await asyncio.sleep(0.05)
                assert time.monotonic() - began < 20

        tasks = [asyncio.create_task(load()) for _ in range(4)]
        await until(lambda: "answered" in outcomes)
        first = pid_of(supervisor)
        os.kill(first, signal.SIGKILL)
        killed = time.monotonic()
        await until(lambda: "unavailable" in outcomes)
        await until(lambda: supervisor.endpoint is not None and supervisor.endpoint.pid != first)

        async def works() -> bool:
            with contextlib.suppress(Unavailable):
                return await engine.query("SELECT count() FROM t") == b"100\n"
            return False

        await until(works)
        assert time.monotonic() - killed < 5 + 3 * first_start  # on a quick machine and on a slow one
        stop.set()
        await asyncio.gather(*tasks)


async def test_while_it_is_away_every_call_raises_at_once(tmp_path: Path) -> None:
    async with own_engine(tmp_path) as (engine, supervisor):
        assert engine.available
        os.kill(pid_of(supervisor), signal.SIGKILL)
        await until(lambda: not engine.available)
        starts = supervisor.starts
        with pytest.raises(Unavailable):
            await engine.query("SELECT 1")
        with pytest.raises(Unavailable):
            async with engine.stream("SELECT 1"):
                pass
        assert supervisor.starts == starts and not engine.available  # neither waited for the next one
        await until(lambda: engine.available)
        assert await engine.query("SELECT 1") == b"1\n"


async def test_a_hung_child_is_replaced(tmp_path: Path) -> None:
    async with own_engine(tmp_path, beat_seconds=0.2, beat_timeout=1.0) as (engine, supervisor):
        first = pid_of(supervisor)
        os.kill(first, signal.SIGSTOP)
        with pytest.raises(Unavailable):
            await engine.query("SELECT 1")
        await until(lambda: engine.available)
        assert await engine.query("SELECT 1") == b"1\n"
        assert pid_of(supervisor) != first
        assert not is_running(first)


async def test_it_comes_back_again_and_again(tmp_path: Path) -> None:
    async with own_engine(tmp_path) as (engine, supervisor):
        for _ in range(3):
            os.kill(pid_of(supervisor), signal.SIGKILL)
            await until(lambda: not engine.available)
            await until(lambda: engine.available)
            assert await engine.query("SELECT 1") == b"1\n"
        assert supervisor.starts == 4


async def test_busy_is_not_hung(tmp_path: Path) -> None:
    async with own_engine(tmp_path, beat_seconds=0.1, beat_timeout=3.0) as (engine, supervisor):
        slow = "SELECT sleep(3), sleep(1)"  # longer than an answer may take
        await asyncio.gather(*(engine.query(slow) for _ in range(70)))
        assert supervisor.starts == 1


async def test_a_process_that_stood_still_itself_does_not_take_its_engine_for_hung(tmp_path: Path) -> None:
    """As after a machine's sleep: time has passed for everybody, and nobody is to blame."""
    async with own_engine(tmp_path, beat_seconds=0.0, beat_timeout=3.0) as (engine, supervisor):
        for _ in range(2):
            await asyncio.sleep(0.01)  # a question is under way
            time.sleep(3.2)  # noqa: ASYNC251  longer than an answer may take
            await asyncio.sleep(0.05)
        assert supervisor.starts == 1
        assert await engine.query("SELECT 1") == b"1\n"


async def test_a_second_one_on_the_same_directory_is_told_so(tmp_path: Path) -> None:
    async with own_engine(tmp_path):
        with pytest.raises(EngineStartError, match=r"another Pipit process .* uses the data directory"):
            async with open_engine(tmp_path):
                pass


async def test_a_lock_that_nobody_holds_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "engine.lock").write_text("999999")
    async with own_engine(tmp_path) as (engine, _):
        assert await engine.query("SELECT 1") == b"1\n"


async def test_what_was_written_is_there_after_a_clean_stop(tmp_path: Path) -> None:
    async with own_engine(tmp_path) as (engine, supervisor):
        pid = pid_of(supervisor)
        await engine.command("CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n")
        await engine.insert("t", [{"n": 7}])
    assert not is_running(pid)
    async with own_engine(tmp_path) as (engine, _):
        assert await engine.query("SELECT n FROM t") == b"7\n"


async def test_stopping_does_not_wait_for_queries(tmp_path: Path) -> None:
    async with own_engine(tmp_path) as (engine, _):
        task = asyncio.create_task(engine.query("SELECT sleep(3), sleep(3), sleep(3)"))
        await asyncio.sleep(0.3)
        began = time.monotonic()
    assert time.monotonic() - began < 12
    with pytest.raises(Unavailable):
        await task


async def test_a_directory_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineStartError):
        async with open_engine(tmp_path / "file"):
            pass


async def test_the_child_does_not_outlive_its_parent(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from pipit.engine.embedded.supervisor import Supervisor\n"
        "async def main():\n"
        "    endpoint = await Supervisor(Path(sys.argv[1]), memory=1 << 30).start()\n"
        "    print(endpoint.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    await parent.wait()
    async with own_engine(tmp_path) as (engine, _):  # at once, on the same directory
        assert not is_running(pid)
        assert await engine.query("SELECT 1") == b"1\n"


async def test_the_password_stands_in_no_argument_and_no_environment(tmp_path: Path) -> None:
    async with own_engine(tmp_path) as (_, supervisor):
        assert supervisor.endpoint is not None
        for part in ("cmdline", "environ"):
            content = read_proc(supervisor.endpoint.pid, part)
            assert supervisor.endpoint.password.encode() not in content


LONG = "repeat('ab', 32000)"
HUNG = {
    # Far longer than the test waits: on a quick machine, too.
    "a constant": "SELECT " + " + ".join(f"editDistance({LONG}, concat('{n}', {LONG}))" for n in range(30)),
    "one block": f"SELECT sum(editDistance(s, reverse(s))) FROM (SELECT {LONG} AS s FROM numbers(50))",
}


@pytest.mark.parametrize("text", HUNG.values(), ids=HUNG.keys())
async def test_a_statement_that_cannot_be_interrupted_does_not_outlive_its_limit_for_long(
    tmp_path: Path, text: str
) -> None:
    async with own_engine(tmp_path, beat_timeout=30.0, grace=3.0) as (engine, supervisor):
        await engine.command("CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n")
        await engine.insert("t", [{"n": 7}])
        started, first = time.monotonic(), pid_of(supervisor)
        with pytest.raises(QueryTimeout):
            await engine.query(text, settings={"max_execution_time": 1})
        assert time.monotonic() - started < 30  # the limit, and what is late; the statement alone takes minutes
        # It is ended, one way or the other: the engine knows of no such statement any more.
        await until(lambda: is_gone(engine, "editDistance"))
        assert (await engine.rows("SELECT n FROM t")) == [{"n": 7}]
        assert supervisor.starts == (1 if pid_of(supervisor) == first else 2)


async def test_a_statement_without_a_limit_is_left_alone(tmp_path: Path) -> None:
    async with own_engine(tmp_path, beat_timeout=30.0, grace=0.1) as (engine, supervisor):
        assert await engine.rows("SELECT sleepEachRow(0.5) AS x FROM numbers(5)", settings={"max_block_size": 5})
        assert supervisor.starts == 1


async def is_gone(engine: HttpEngine, function: str) -> bool:
    """Whether the engine answers, and runs no statement with this function."""
    others = "query LIKE {text:String} AND query NOT LIKE '%system.processes%'"
    try:
        (row,) = await engine.rows(
            f"SELECT count() AS n FROM system.processes WHERE {others}", {"text": f"%{function}%"}
        )
    except Unavailable:
        return False
    return int(row["n"]) == 0
