"""Deploys that make tables anew, rollbacks and discards, killed at any moment under load: what is live afterwards is
whole, and every event that was acknowledged is in it once."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from processes import FILES, Served, served
from waiting import wait_for

NARROW = {
    **FILES,
    "datasources/events.datasource": "SCHEMA >\n    id UInt32 `json:$.id`\n\nENGINE MergeTree\nENGINE_SORTING_KEY id\n",
}


def write(server: Served, files: dict[str, str]) -> None:
    """As the project's folder, which a start deploys."""
    for name, text in files.items():
        (server.folder / "project" / name).write_text(text)


def deploy(server: Served, files: dict[str, str]) -> int:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="data_project://"; filename="{name}"\r\n'
        f"Content-Type: text/plain\r\n\r\n{text}\r\n"
        for name, text in files.items()
    ]
    url = f"http://127.0.0.1:{server.port}/v1/deploy?auto_promote=true"
    request = urllib.request.Request(url, data=("".join(parts) + "--b--\r\n").encode())
    request.add_header("Authorization", f"Bearer {(server.data / 'admin_token').read_text().strip()}")
    request.add_header("Content-Type", "multipart/form-data; boundary=b")
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def send(server: Served, first: int) -> bool:
    """Ten events under their own key: sent again they count once. Whether they are acknowledged."""
    body = "".join(f'{{"id": {i}}}\n' for i in range(first, first + 10)).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/v0/events?name=events", data=body)
    request.add_header("Authorization", f"Bearer {(server.data / 'admin_token').read_text().strip()}")
    request.add_header("Idempotency-Key", str(first))
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status in (200, 202)
    except OSError:
        return False


FIRST = 1_000_000_000  # the number of the first of the rows that are there before


def preload(server: Served, rows: int) -> None:
    for first in range(FIRST, FIRST + rows, 500_000):
        assert server.send(range(first, min(first + 500_000, FIRST + rows)), wait=True) == 200


def killed(folder: Path, times: int, rows: int = 0) -> None:
    """`rows` are there before: with many a kill meets a fill."""
    draw = random.Random(7)
    with served(folder) as server:
        preload(server, rows)
        done: list[int] = []  # the first number of each ten that is acknowledged
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set() and send(server, 10 * len(done)):
                done.append(10 * len(done))

        for number in range(times):
            stop.clear()
            files = NARROW if number % 2 == 0 else FILES
            write(server, files)
            sender = threading.Thread(target=load)
            first = len(done)
            sender.start()
            wait_for(lambda first=first: len(done) > first + 5, what="events flow")
            act = threading.Thread(
                target=(lambda files=files: deploy(server, files))
                if number % 3
                else (lambda: (deploy(server, NARROW), server.request("/v1/deployments/rollback", b"")))
            )
            act.start()
            time.sleep(draw.uniform(0.05, 1.5))
            if number % 2:
                for engine in server.children():
                    os.kill(engine, signal.SIGKILL)
                act.join()
                stop.set()
                sender.join()
                wait_for(lambda: server.get("/v0/pipes/counts.json")[0] == 200, what="reads work again")
            else:
                stop.set()
                sender.join()
                server.kill_everything()
                act.join()
                assert server.process and server.process.stdout
                server.process.stdout.close()
                server.start()
            assert wait_for(lambda files=files: deploy(server, files) == 200, what="the same again") >= 0
            assert send(server, 10 * len(done))  # these may be there, or not
            done.append(10 * len(done))
            expected = rows + 10 * len(done)
            wait_for(lambda expected=expected: min(server.counts().values(), default=0) >= expected, what="all rows")
            assert server.counts() == {"rows": expected, "ids": expected, "rolled": expected}
            status, reply = server.request("/v1/deployments/rollback", b"")
            if status == 200:
                wait_for(lambda expected=expected: min(server.counts().values(), default=0) >= expected, what="all rows")
                assert server.counts() == {"rows": expected, "ids": expected, "rolled": expected}, reply
                assert server.request("/v1/deployments/rollback", b"")[0] == 200


def test_killed_while_tables_are_made_anew(tmp_path: Path) -> None:
    killed(tmp_path, 4)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_killed_forty_times(tmp_path: Path) -> None:
    killed(tmp_path, 40, rows=3_000_000)


MANY = 2_000_000
LOADED = {
    **FILES,
    "copies/many.pipe": (
        f"NODE n\nSQL >\n    SELECT toUInt64(1000000000 + number) AS id FROM numbers({MANY})\n"
        "TYPE copy\nTARGET_DATASOURCE events\n"
    ),
}


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_thirty_deploys_that_make_two_million_rows_anew_under_load(tmp_path: Path) -> None:
    """Events with and without `wait`, some under a key that is sent twice, and a reader: none is lost or counted twice,
    no answer is a server's error, and none has less than the one before."""
    with served(tmp_path, LOADED) as server:
        assert server.request("/v0/pipes/many/copy", b"")[0] == 200
        wait_for(lambda: server.counts().get("rolled", 0) == MANY, what="the rows are there", seconds=300)
        stop, wrong = threading.Event(), list[str]()
        sent, took = {"plain": 0, "waiting": 0, "keyed": 0}, list[float]()

        def load(kind: str, first: int) -> None:
            while not stop.is_set():
                n = sent[kind]
                started = time.monotonic()
                if kind == "keyed":
                    good = send(server, first + n) and send(server, first + n)
                    rows = 10
                else:
                    good = server.send(range(first + n, first + n + 5), wait=kind == "waiting") in (200, 202)
                    rows = 5
                if kind != "waiting":
                    took.append(time.monotonic() - started)
                if not good:
                    wrong.append(f"events of {kind} are refused")
                    return
                sent[kind] += rows

        def read() -> None:
            last = 0
            while not stop.is_set():
                status, reply = server.get("/v0/pipes/counts.json")
                found = {k: int(v) for k, v in reply["data"][0].items()} if status == 200 else {}
                if status != 200 or found["rows"] != found["ids"] or found["rolled"] > found["rows"] or found["rows"] < last:
                    wrong.append(f"{status} {found} after {last}")
                    return
                last = found["rows"]

        tasks = [threading.Thread(target=load, args=(kind, 10**7 * n)) for n, kind in enumerate(sent)]
        tasks.append(threading.Thread(target=read))
        for task in tasks:
            task.start()
        started = time.monotonic()
        for number in range(30):
            narrow = {**LOADED, "datasources/events.datasource": NARROW["datasources/events.datasource"]}
            assert deploy(server, narrow if number % 2 == 0 else LOADED) == 200
            assert not wrong, wrong
        seconds = time.monotonic() - started
        stop.set()
        for task in tasks:
            task.join()
        expected = MANY + sum(sent.values())
        for _ in range(2):
            wait_for(lambda: server.counts().get("rolled", 0) >= expected, what="all rows")
            assert server.counts() == {"rows": expected, "ids": expected, "rolled": expected}
            assert server.request("/v1/deployments/rollback", b"")[0] == 200
        took.sort()
        print(f"30 deploys in {seconds:.0f} s, {sum(sent.values()):,} events; acknowledged in {took[len(took) // 2] * 1000:.0f} ms, "
              f"p99 {took[len(took) * 99 // 100] * 1000:.0f} ms, at most {took[-1] * 1000:.0f} ms")
