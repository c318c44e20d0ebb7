"""Load over raw HTTP on loopback, from a process of its own: targets in turn (A B C B C A ...), medians of the rounds.

Shared by the benchmarks. A target is a port and requests that are sent in rotation on kept-open connections; it counts
only answers with status 200. Every request is sent once before the clock runs, and the first round is not reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """`requests`: whole HTTP/1.1 requests, each sent as often as there are connections if they are `shared`.

    `alike`: targets with the same word must give the same rows; one whose requests are `shared` to its first.
    """

    name: str
    port: int
    requests: list[str]
    alike: str = ""
    shared: bool = False


@dataclass(frozen=True)
class Round:
    rate: float  # requests a second
    p50: float  # ms
    cpu: float  # ms of processor time for one read, of the served processes; 0 where the system does not tell


@dataclass(frozen=True)
class Figures:
    """The rounds of each target, in turn: round number N of all targets was taken side by side."""

    rounds: dict[str, list[Round]]

    def rate(self, name: str) -> float:
        return statistics.median(r.rate for r in self.rounds[name])

    def p50(self, name: str) -> float:
        return statistics.median(r.p50 for r in self.rounds[name])

    def cpu(self, name: str) -> float:
        return statistics.median(r.cpu for r in self.rounds[name])

    def cpu_ratio(self, name: str, base: str) -> float:
        pairs = zip(self.rounds[name], self.rounds[base], strict=True)
        return statistics.median(one.cpu / other.cpu if other.cpu else 0 for one, other in pairs)

    def rate_ratio(self, name: str, base: str) -> float:
        pairs = zip(self.rounds[name], self.rounds[base], strict=True)
        return statistics.median(one.rate / other.rate for one, other in pairs)

    def p50_ratio(self, name: str, base: str) -> float:
        pairs = zip(self.rounds[name], self.rounds[base], strict=True)
        return statistics.median(one.p50 / other.p50 for one, other in pairs)

    def p50_above(self, name: str, base: str) -> float:
        pairs = zip(self.rounds[name], self.rounds[base], strict=True)
        return statistics.median(one.p50 - other.p50 for one, other in pairs)


def get(path: str, token: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"


async def measure(
    targets: Sequence[Target],
    pids: Sequence[int] | Mapping[str, Sequence[int]],
    connections: int,
    rounds: int,
    seconds: float,
) -> Figures:
    """Warms up with every request of every target once, compares the answers, then measures. Raises AssertionError.

    `pids`: the processes that answer, Pipit's and its engine's; by target's name where not all have the same. What they
    work says more than the clock where others use the machine, too.
    """
    expected: dict[str, tuple[str, Any]] = {}
    for target in targets:
        bodies = await _each_once(target)
        found = [json.loads(body)["data"] for body in bodies]
        assert all(found), f"{target.name} answers without rows"
        found = found[:1] if target.shared else found
        other, rows = expected.setdefault(target.alike or target.name, (target.name, found))
        assert rows == found, f"{target.name} and {other} do not answer the same"
    turns = {target.name: itertools.count() for target in targets}
    measured: dict[str, list[Round]] = {target.name: [] for target in targets}
    for number in range(rounds + 1):
        first = number % len(targets)  # another one each time: what one of them leaves behind hits all alike
        for target in (*targets[first:], *targets[:first]):
            own = pids[target.name] if isinstance(pids, Mapping) else pids
            round = await _load(target, turns[target.name], own, connections, seconds)
            if number:
                measured[target.name].append(round)
    return Figures(measured)


async def _load(target: Target, turns: Iterator[int], pids: Sequence[int], connections: int, seconds: float) -> Round:
    each = connections if target.shared else 1
    requests = [request.encode() for request in target.requests for _ in range(each)]
    times: list[float] = []
    worked = _processor_seconds(pids)
    started = time.perf_counter()
    sent = (_keep_sending(target.port, requests, turns, started + seconds, times) for _ in range(connections))
    await asyncio.gather(*sent)
    rate = len(times) / (time.perf_counter() - started)
    cpu = (_processor_seconds(pids) - worked) / len(times) * 1000
    return Round(rate, statistics.median(times) * 1000, cpu)


async def in_slices(targets: Sequence[Target], connections: int, seconds: float, slice: float) -> dict[str, float]:
    """p50 in ms of each target's first request. All clients turn to the next target after a slice of a second, on
    connections that stay open: what else uses the machine meets all targets alike, also where it changes all the time.
    """
    times: list[list[float]] = [[] for _ in targets]
    requests = [target.requests[0].encode() for target in targets]
    started = time.perf_counter()

    async def client() -> None:
        async with AsyncExitStack() as stack:
            open_ones = [await stack.enter_async_context(_connection(target.port)) for target in targets]
            while (now := time.perf_counter()) < started + seconds:
                turn = int((now - started) / slice) % len(targets)
                await _ask(*open_ones[turn], requests[turn])
                times[turn].append(time.perf_counter() - now)

    await asyncio.gather(*(client() for _ in range(connections)))
    return {target.name: statistics.median(found) * 1000 for target, found in zip(targets, times, strict=True)}


def _processor_seconds(pids: Sequence[int]) -> float:
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0
        ticks += int(fields[11]) + int(fields[12])  # in user mode and in the kernel
    return ticks / os.sysconf("SC_CLK_TCK")


async def _keep_sending(
    port: int, requests: Sequence[bytes], turns: Iterator[int], until: float, times: list[float]
) -> None:
    async with _connection(port) as (reader, writer):
        ended = 0.0
        while ended < until:  # once at least: the machine may be busy
            started = time.perf_counter()
            await _ask(reader, writer, requests[next(turns) % len(requests)])
            ended = time.perf_counter()
            times.append(ended - started)


async def _each_once(target: Target) -> list[bytes]:
    async with _connection(target.port) as (reader, writer):
        return [await _ask(reader, writer, request.encode()) for request in target.requests]


@asynccontextmanager
async def _connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head + await reader.read(2000)
    lower = head.lower()
    if b"transfer-encoding: chunked" not in lower:
        return await reader.readexactly(int(lower.split(b"content-length:")[1].split(b"\r\n")[0]))
    parts = []
    while size := int((await reader.readline()).strip(), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return b"".join(parts)


def offer(targets: Sequence[Target], **facts: Any) -> None:
    """In the serving process: says where the targets are. It serves until standard input closes (`until_closed`)."""
    print(json.dumps({"targets": [asdict(t) for t in targets], "facts": facts}), flush=True)


async def until_closed() -> None:
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@contextmanager
def serving(file: str, *arguments: str, python: str = sys.executable) -> Iterator[tuple[list[Target], dict[str, Any]]]:
    """The benchmark's own file, run with `--serve` in another process: its targets and facts. Ends it on leaving."""
    command = [python, file, "--serve", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout
        try:
            line = server.stdout.readline()
            assert line, "the server did not start"
            said = json.loads(line)
            yield [Target(**t) for t in said["targets"]], said["facts"]
        finally:
            server.stdin.close()
            server.wait(60)


def cores() -> str:
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"
