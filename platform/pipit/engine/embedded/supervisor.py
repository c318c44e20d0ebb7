"""Keeps one engine process running: starts it, watches it from outside, starts it again after a crash or a
hang.

Promises: at most one child; `endpoint` is None while none serves, so callers can refuse at once; the first
start raises EngineStartError with a sentence for the person at the terminal, later ones are tried again with
growing pauses; `stop` leaves no child behind. It never looks into the engine's data.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import aiohttp
import msgspec

from pipit.engine.defaults import DEFAULTS
from pipit.engine.embedded.handshake import GRACE_SECONDS, StartOptions, StartReport
from pipit.errors import EngineStartError

log = logging.getLogger(__name__)

_USER = "pipit"
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_BEAT_SECONDS = 2.0
_BEAT_TIMEOUT = 10.0
_SECOND_LOOK = 2.0  # seconds
_FIRST_PAUSE = 0.1
_WORDS_BYTES = 1 << 20
_LONGEST_PAUSE = 5.0
_HEALTHY_SECONDS = 10.0  # a child that served this long is no cause for pauses


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """Where the child serves."""

    port: int
    user: str
    password: str
    pid: int


class Supervisor:
    def __init__(
        self,
        data: Path,
        *,
        file_roots: Sequence[Path] = (),
        memory: int = 0,
        grace: float = GRACE_SECONDS,
        beat_seconds: float = _BEAT_SECONDS,
        beat_timeout: float = _BEAT_TIMEOUT,
    ) -> None:
        self._data = data.resolve()
        self._file_roots = [str(root.resolve()) for root in file_roots]
        self._memory = memory
        self._grace = grace
        self._beat_seconds = beat_seconds
        self._beat_timeout = beat_timeout
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._endpoint: EngineAddress | None = None
        self.starts = 0

    @property
    def endpoint(self) -> EngineAddress | None:
        """None while no child serves."""
        return self._endpoint

    async def start(self) -> EngineAddress:
        """Starts the first child. Raises EngineStartError."""
        endpoint = await self._start_child()
        self._watcher = asyncio.create_task(self._watch(), name="engine supervisor")
        return endpoint

    async def stop(self) -> None:
        """Sends SIGTERM, and SIGKILL if the child does not end."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
            self._watcher = None
        self._endpoint = None
        await self._end_child(signal.SIGTERM)

    async def _watch(self) -> None:
        """Until cancelled: sends heartbeats to the child, and starts a new one when it ended."""
        loop = asyncio.get_running_loop()
        early = 0  # deaths since it was last healthy; the first is answered at once
        while True:
            began = loop.time()
            reason = await self._until_dead()
            self._endpoint = None
            await self._end_child(signal.SIGKILL)
            early = 0 if loop.time() - began > _HEALTHY_SECONDS else early + 1
            log.error("the engine process %s; starting another", reason)
            while True:
                if early > 1:
                    await asyncio.sleep(min(_FIRST_PAUSE * 2 ** (early - 2), _LONGEST_PAUSE))
                try:
                    await self._start_child()
                    break
                except Exception as error:  # whatever it is: nobody else will try
                    early += 1
                    log.error("the engine process did not start: %s; trying again", error)

    async def _until_dead(self) -> str:
        process, endpoint = self._process, self._endpoint
        assert process is not None and endpoint is not None
        ended = asyncio.ensure_future(process.wait())
        headers = {"X-ClickHouse-User": endpoint.user, "X-ClickHouse-Key": endpoint.password}
        try:
            async with aiohttp.ClientSession(headers=headers) as session:
                while True:
                    done, _ = await asyncio.wait({ended}, timeout=self._beat_seconds)
                    if done:
                        return f"ended with status {process.returncode}"
                    beat = asyncio.ensure_future(self._answers(session, endpoint.port))
                    try:
                        await asyncio.wait({ended, beat}, return_when=asyncio.FIRST_COMPLETED)
                        if not ended.done() and not beat.result():
                            return f"did not answer for {self._beat_timeout:.0f} s"
                    finally:
                        beat.cancel()
        finally:
            ended.cancel()

    async def _answers(self, session: aiohttp.ClientSession, port: int) -> bool:
        """Whether the child answers. It is asked twice: after the machine slept, the first answer may come too late."""
        return await self._beat(session, port, self._beat_timeout) or await self._beat(
            session, port, min(self._beat_timeout, _SECOND_LOOK)
        )

    async def _beat(self, session: aiohttp.ClientSession, port: int, seconds: float) -> bool:
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with session.get(f"http://127.0.0.1:{port}/heartbeat", timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _start_child(self) -> EngineAddress:
        try:
            (self._data / "logs").mkdir(parents=True, exist_ok=True)
            # The engine's own last words at a crash; the child's log proper is engine.log.
            output = _words_file(self._data / "logs" / "engine.err")
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise EngineStartError(f"the data directory {self._data} cannot be used: {error.strerror}") from None
            output = _words_file(Path(os.devnull))
        read_fd, write_fd = os.pipe()
        password = secrets.token_urlsafe(32)
        options = StartOptions(
            data=str(self._data),
            user=_USER,
            password=password,
            report_fd=write_fd,
            parent=os.getpid(),
            file_roots=self._file_roots,
            settings=DEFAULTS,
            memory=self._memory,
            grace=self._grace,
        )
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "pipit.engine.embedded",
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(write_fd,),
                env={name: value for name, value in os.environ.items() if not name.startswith("PIPIT_")},
                start_new_session=True,
            )
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
            output.close()
        self.starts += 1
        assert process.stdin is not None
        try:
            report = await self._hear(process, read_fd, options)
        except BaseException:
            await self._end_child(signal.SIGKILL)
            raise
        if report.error or not report.port:
            await self._end_child(signal.SIGKILL)
            raise EngineStartError(report.error or f"the engine process ended at once; see {self._data / 'logs'}")
        self._endpoint = EngineAddress(report.port, _USER, password, process.pid)
        log.info("engine process %d serves on port %d", process.pid, report.port)
        return self._endpoint

    async def _hear(self, process: asyncio.subprocess.Process, read_fd: int, options: StartOptions) -> StartReport:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_fd, "rb", buffering=0)
        )
        try:
            assert process.stdin is not None
            process.stdin.write(msgspec.json.encode(options) + b"\n")
            async with asyncio.timeout(_START_SECONDS):
                line = await reader.readline()
        except TimeoutError:
            raise EngineStartError(f"the engine process did not answer within {_START_SECONDS:.0f} s") from None
        finally:
            transport.close()
        return msgspec.json.decode(line, type=StartReport) if line else StartReport()

    async def _end_child(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        finally:
            if process.stdin is not None:
                process.stdin.close()


def _words_file(path: Path) -> BinaryIO:
    """Opens the log for appending. A large one is renamed to `.1` first."""
    if path.exists() and path.stat().st_size > _WORDS_BYTES:
        path.replace(path.with_suffix(".err.1"))
    return path.open("ab")
