"""The data directory as processes see it: who holds it, where its server answers, its admin token.

One process at a time: `hold` takes a lock that dies with the process, so nothing is ever stale for long.
`server.json` tells where the holder serves; it is believed only while the lock is held by the process that it names.
Both files and the token's are mode 0600. A token is never printed from here.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pipit.access.tokens import check_admin_token, is_made, make_token
from pipit.errors import BadRequest, EngineStartError, PipitError, Reason

if TYPE_CHECKING:
    from pipit.catalog.sealing import Seals
    from pipit.ingest.files.remote import AllowedHosts

log = logging.getLogger("pipit.cli")

SERVER_FILE = "server.json"
TOKEN_FILE = "admin_token"
_KEEP_PREVIOUS_HOURS = 72.0
_MOST_HOURS = 24.0 * 3650
_LOCK_FILE = "pipit.lock"
_POLL_SECONDS = 0.05
_GLANCE_SECONDS = 0.3  # somebody who only looks whether it is held (`is_held`) has it for an instant


class ServerFile(msgspec.Struct, frozen=True):
    """Where the server of a data directory answers."""

    url: str
    host: str
    port: int
    pid: int
    token_from: str = TOKEN_FILE  # or PIPIT_ADMIN_TOKEN
    started_at: str = ""


@contextmanager
def hold(data: Path, *, patience: float = 0.0) -> Iterator[None]:
    """The directory is this process's until the context ends.

    Raises EngineStartError when it is another's: at once if that one is a server, else after `patience` seconds,
    since a command without a server holds it for a moment only.
    """
    make_private(data)
    os.umask(0o077)  # whatever this process makes from here on is its owner's alone
    try:
        descriptor = os.open(data / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EngineStartError(
            f"The data directory {data} cannot be used: {error.strerror}", hint="Choose another one with --data."
        ) from None
    try:
        _lock(descriptor, data, patience)
        _say_holder(descriptor)
        remove_server(data)  # whoever wrote it is gone
        yield
    finally:
        os.close(descriptor)


def is_data_directory(folder: Path) -> bool:
    """Whether a server, or a command without one, has ever held this folder."""
    return (folder / _LOCK_FILE).is_file()


def is_held(data: Path) -> bool:
    """Whether some process holds the directory now. Looks by trying: the lock is not kept."""
    try:
        descriptor = os.open(data / _LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def find_server(data: Path) -> ServerFile | None:
    """The server that holds this directory, if one does. A file that a killed server left behind does not count."""
    found = read_server(data)
    return found if found is not None and is_held(data) and found.pid == _holder(data) else None


def write_server(data: Path, server: ServerFile) -> None:
    _write_private(data / SERVER_FILE, msgspec.json.encode(server) + b"\n")


def read_server(data: Path) -> ServerFile | None:
    try:
        return msgspec.json.decode((data / SERVER_FILE).read_bytes(), type=ServerFile)
    except (OSError, msgspec.MsgspecError):
        return None


def remove_server(data: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        (data / SERVER_FILE).unlink()


def server_token(data: Path) -> tuple[str, str]:
    """The admin token of this directory and where it is from; made when there is none. Raises BadRequest."""
    given = os.environ.get("PIPIT_ADMIN_TOKEN", "")
    if given:
        return check_admin_token(given), "PIPIT_ADMIN_TOKEN"
    path = data / TOKEN_FILE
    text = _read_token(path)
    if text or path.exists():
        _check_whole(path, text)
        return check_admin_token(text, of=str(path)), TOKEN_FILE
    token = make_token(owner="default")
    try:
        keep_token(data, token)
    except OSError as error:
        raise EngineStartError(
            f"{path} cannot be written: {error.strerror}", hint="Make room on the disk, or set PIPIT_ADMIN_TOKEN."
        ) from None
    return token, TOKEN_FILE


def keep_previous_hours() -> float:
    """How long the deployment before the live one is kept. Raises BadRequest."""
    text = os.environ.get("PIPIT_KEEP_PREVIOUS", "").strip()
    if not text:
        return _KEEP_PREVIOUS_HOURS
    try:
        hours = float(text)
    except ValueError:
        hours = -1.0
    if not 0 <= hours <= _MOST_HOURS:
        raise BadRequest(
            f"PIPIT_KEEP_PREVIOUS is '{text[:40]}', and not a number of hours",
            hint="Such as 72; 0: the deployment before is not kept.",
        )
    return hours


def given_seals() -> Seals:
    """The keys that the environment has for the secrets of the state. Raises BadRequest."""
    from pipit.catalog.sealing import VARIABLE, read_seals

    return read_seals(os.environ.get(VARIABLE, ""))


def given_writes_rps() -> int:
    """How many requests a second one token may append to one data source. Raises BadRequest."""
    text = os.environ.get("PIPIT_WRITES_RPS", "").strip()
    if text and not (text.isascii() and text.isdecimal() and len(text) < 8):
        raise BadRequest(f"PIPIT_WRITES_RPS is '{text[:40]}', and not a number", hint="Such as 100; 0: no limit.")
    return int(text or 0)


def given_metrics_token() -> str:
    """The token of the environment that opens /metrics alone. Raises BadRequest for one that may be guessed."""
    token = os.environ.get("PIPIT_METRICS_TOKEN", "")
    return check_admin_token(token, of="PIPIT_METRICS_TOKEN") if token else ""


def given_urls() -> AllowedHosts:
    """Where the environment says that files may be fetched from."""
    from pipit.ingest.files.remote import AllowedHosts

    hosts = os.environ.get("PIPIT_URL_HOSTS", "*")
    private = os.environ.get("PIPIT_PRIVATE_URL_HOSTS", "")
    return AllowedHosts(_listed(hosts), _listed(private))


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _check_whole(path: Path, text: str) -> None:
    """A file that lost its end is another token, which would sign JWTs from now on."""
    if not text or (text.startswith("p.") and not is_made(text)):
        raise BadRequest(
            f"{path} is damaged: it holds {'nothing' if not text else 'a part of a token'}",
            hint="Put the token back, from a copy or from where it is used. To have a new one made, remove the file: "
            "then all JWTs that were signed with the old one are void.",
        )


def keep_token(data: Path, token: str) -> None:
    """The directory's admin token from now on."""
    _write_private(data / TOKEN_FILE, token.encode() + b"\n")


def local_token(data: Path) -> str:
    """The admin token that a client of this directory's server sends; empty when this shell does not know it."""
    return os.environ.get("PIPIT_ADMIN_TOKEN", "") or _read_token(data / TOKEN_FILE)


def make_private(folder: Path) -> None:
    """Makes the folder, for its owner's eyes only; one that is there is closed to others.

    Where it is somebody else's, such as a volume that is mounted, what is ours in it is closed."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _close(folder):
            log.warning("%s is open to other users of this machine, and not ours to close", folder)
            for entry in folder.iterdir():
                _close(entry)
    except OSError as error:
        raise EngineStartError(
            f"The data directory {folder} cannot be made: {error.strerror}", hint="Choose another one with --data."
        ) from None


def _close(path: Path) -> bool:
    """Takes the rights of others away. False: it is not ours."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or not found.st_mode & 0o077:
        return True
    try:
        path.chmod(stat.S_IMODE(found.st_mode) & 0o700)
    except OSError:
        return False
    return True


def _lock(descriptor: int, data: Path, patience: float) -> None:
    deadline = time.monotonic() + max(patience, _GLANCE_SECONDS)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pid, server = _holder(data), read_server(data)
            serving = server is not None and server.pid == pid
            if server is None and (data / SERVER_FILE).exists() and time.monotonic() > deadline - patience:
                # Whoever takes the lock removes it, so the holder wrote it; something has spoiled it since.
                raise EngineStartError(
                    f"The data directory {data} is in use by a server (process {pid}), and its {SERVER_FILE} cannot "
                    "be read",
                    hint="Restart that server: it writes the file anew.",
                    reason=Reason.SERVER_CONFLICT,
                ) from None
            if time.monotonic() > deadline or (serving and time.monotonic() > deadline - patience):
                what = f"the server at {server.url}" if server and serving else "another pipit command"
                raise EngineStartError(
                    f"The data directory {data} is in use by {what}" + (f" (process {pid})" if pid else ""),
                    hint="Stop it, or choose another directory with --data.",
                    reason=Reason.SERVER_CONFLICT,
                ) from None
        time.sleep(_POLL_SECONDS)


def _read_token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PipitError(
            f"{path} cannot be read: {reason}", hint="Run this as the user that runs the server."
        ) from None


def _holder(data: Path) -> int:
    try:
        text = (data / _LOCK_FILE).read_text(encoding="utf-8")
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


def _say_holder(descriptor: int) -> None:
    """In place: what is there already takes no room of a full disk. Without it commands do not find the server."""
    text = str(os.getpid()).encode()
    try:
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))
    except OSError as error:
        log.warning("%s cannot be written: %s", _LOCK_FILE, error.strerror)


def _write_private(path: Path, content: bytes) -> None:
    """Whole or not at all, readable by its owner only from its first byte on."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
