"""The engine process: opens the data directory, serves ClickHouse's HTTP protocol, dies with its parent.

The parent sends `StartOptions` as one JSON line on standard input. The child answers with `StartReport`, one JSON line
on the descriptor that the options name: `{"port": N}` if it serves, `{"error": "..."}` if it cannot. The password is
never in arguments or in the environment. The end of standard input means that the parent is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import logging.handlers
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from pipit.engine.embedded.dedup_repair import repair
from pipit.engine.embedded.handshake import StartOptions, StartReport
from pipit.engine.embedded.memory import memory_bytes, query_limit, server_limit

log = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 65_536
_LOG_BYTES = 5 << 20
_QUERY_BYTES = str(16 << 20)
_LOCK_SECONDS = 2.0  # a process that was just killed needs a moment to be gone
_LOG_FILES = 4


def main() -> None:
    os.umask(0o077)  # the engine makes its folders open to everybody
    options = msgspec.json.decode(sys.stdin.buffer.readline(), type=StartOptions)
    _raise_file_limit()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's to handle
    _die_with(options.parent)
    data = Path(options.data)
    _log_to(data / "logs")
    try:
        lock = _lock(data)
        uvloop.run(_serve(options, data))
        lock.close()
    except StartError as error:
        _report(options, StartReport(error=str(error)))
        os._exit(2)
    except Exception as error:
        log.exception("the engine process failed")
        _report(options, StartReport(error=f"the engine did not start: {error}; see {data / 'logs' / 'engine.log'}"))
        os._exit(1)
    # Worker threads may hang in the engine: nothing is left to wait for.
    os._exit(0)


class StartError(Exception):
    """One clear sentence for the person who starts Pipit."""


def _report(options: StartOptions, report: StartReport) -> None:
    try:
        os.write(options.report_fd, msgspec.json.encode(report) + b"\n")
        os.close(options.report_fd)
    except OSError:
        log.warning("nobody reads the start report of the engine process")


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(3)


def _log_to(folder: Path) -> None:
    logging.raiseExceptions = False  # a line that a full disk does not take is no reason for another one
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(folder / "engine.log", maxBytes=_LOG_BYTES, backupCount=_LOG_FILES)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _raise_file_limit() -> None:
    """A table of many parts needs more open files than a shell grants; the system's own limit stays."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _lock(data: Path) -> Any:
    """The lock of the data directory, held until the process ends; the file tells who holds it."""
    file = open(os.open(data / "engine.lock", os.O_RDWR | os.O_CREAT, 0o600), "r+")  # noqa: SIM115 - it must stay open
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
        file.seek(0)
        holder = file.read().strip() or "unknown"
        raise StartError(
            f"another Pipit process (engine process {holder}) uses the data directory {data}: stop it, or choose "
            "another one with --data"
        )
    told = str(os.getpid()).encode()
    with contextlib.suppress(OSError):  # on a full disk: who holds it is then not told, and it is held all the same
        os.pwrite(file.fileno(), told, 0)
        os.ftruncate(file.fileno(), len(told))
    return file


def _write_config(path: Path, text: str) -> None:
    """Whole or not at all: on a full disk the engine starts with what is there."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    made = path.with_suffix(".new")
    try:
        made.write_text(text, encoding="utf-8")
        made.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            made.unlink(missing_ok=True)
        if not path.exists():
            raise StartError(f"{path} cannot be written: {error.strerror}") from None
        log.warning("%s stays as it was: %s", path, error.strerror)


async def _serve(options: StartOptions, data: Path) -> None:
    from pipit.engine.embedded.connections import Connections, connect
    from pipit.engine.embedded.guard import Guard
    from pipit.engine.embedded.server import EngineServer, Identity
    from pipit.engine.embedded.spool import Spool

    folder = data / "engine"
    folder.mkdir(exist_ok=True)
    total = options.memory or server_limit(memory_bytes())
    config = data / "engine.xml"
    _write_config(config, f"<clickhouse><max_server_memory_usage>{total}</max_server_memory_usage></clickhouse>\n")
    path = str(folder)
    repair(folder)
    try:
        # Kept open: the engine lives as long as a connection does.
        keeper = connect(f"{path}?config-file={config}")
    except RuntimeError as error:
        raise StartError(f"the engine cannot open {folder}: {error or 'another process has it open'}") from None
    version, timezone = keeper.query("SELECT version(), timezone()", "TSV").bytes().decode().strip().split("\t")
    rows = keeper.query("SELECT name, if(changed, NULL, value) FROM system.settings", "JSONCompactEachRow").bytes()
    known = dict(msgspec.json.decode(line, type=tuple[str, str | None]) for line in rows.splitlines())
    spool = Spool(data / "spool")
    guard = Guard([*map(Path, options.file_roots), spool.folder], folder)
    # A request's filters may be one SET, which has to be read before any setting of the request holds.
    base = options.settings | {
        "max_memory_usage": str(query_limit(total)),
        "max_query_size": _QUERY_BYTES,
        # Its threads cost a small answer 0.25 ms, a quarter of the whole; a large one is not dearer without them.
        "output_format_parallel_formatting": "0",
    }
    connections = Connections(path, base, known)
    identity = Identity(options.user, options.password, version, timezone)
    server = EngineServer(connections, identity, guard, spool, options.grace)
    port = await server.start()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_reader(sys.stdin.fileno(), stopping.set)
    log.info("serving %s on port %d, %d MiB of memory", folder, port, total >> 20)
    _report(options, StartReport(port=port))
    await stopping.wait()
    log.info("stopping")
    await server.stop()
    keeper.close()
