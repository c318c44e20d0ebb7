"""Where a project's files are found: its folder, and the folders in it down to depth 3.

Not looked into: hidden folders, `node_modules`, virtual environments, `tests/` and `fixtures/` (what is there is data),
and links that go in circles or leave the project. A link out of the project that bears the name of a datafile or of one
of the project's folders is an error, and nothing outside the folder is ever read. All errors are told at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from pipit.errors import DatafileError, ProjectError, Reason

MAX_DEPTH = 3  # folders below the project's own
MAX_FOLDERS = 20_000  # looked into; a project has some, a disk has more
MAX_FILES = 5_000
MAX_FILE_BYTES = 1_000_000
MAX_PROJECT_BYTES = 64_000_000
INCLUDED = ".incl"
SUFFIXES = (".datasource", ".pipe", ".connection", INCLUDED)
FOLDERS = frozenset(
    {"datasources", "pipes", "endpoints", "materializations", "copies", "sinks", "connections", "connectors", "vendor"}
    | {"includes"}
)
SKIPPED = frozenset({"node_modules", "venv", "env", "__pycache__", "site-packages", "tests", "fixtures"})


def read_project(folder: Path) -> dict[str, str]:
    """The datafiles of the project in this folder: path relative to it, with `/` -> text. `.incl` files are a project's
    only where there are others; alone they are somebody else's.

    Raises ProjectError with every file that is no text, too large or a link to elsewhere, and if there is no folder.
    """
    if not folder.is_dir():
        raise ProjectError(
            [
                DatafileError(
                    "There is no such folder",
                    file=str(folder),
                    hint="pipit init makes a project.",
                    reason=Reason.FILE_UNREADABLE,
                )
            ]
        )
    root = folder.resolve()
    files: dict[str, str] = {}
    errors: list[DatafileError] = []
    total = 0
    for path in _datafiles(root, root, 0, [0]):
        name = path.relative_to(root).as_posix()
        if len(files) + len(errors) >= MAX_FILES:
            errors.append(
                DatafileError(
                    f"The project has more than {MAX_FILES:,} files", file=name, reason=Reason.FILE_UNREADABLE
                )
            )
            break
        try:
            text = _read(root, path)
        except ValueError as problem:
            errors.append(DatafileError(str(problem), file=name))
            continue
        total += len(text)
        if total > MAX_PROJECT_BYTES:
            errors.append(
                DatafileError(
                    f"The project is larger than {MAX_PROJECT_BYTES:,} bytes", file=name, reason=Reason.FILE_UNREADABLE
                )
            )
            break
        files[name] = text
    if errors:
        raise ProjectError(errors)
    return {} if all(name.endswith(INCLUDED) for name in files) else files


def project_roots(files: Iterable[str]) -> list[str]:
    """The folders that have folders as a project has them: `shop`, if `shop/pipes/top.pipe` is there. `.` is the folder
    itself, also if a datafile stands in it. What is below another one of them is that one's."""
    found: set[tuple[str, ...]] = set()
    for file in files:
        folders = PurePosixPath(file).parts[:-1]
        own = next((index for index, name in enumerate(folders) if name in FOLDERS), None)
        if own is not None or not folders:
            found.add(folders[:own])
    own_only = {one for one in found if not any(one[:end] in found for end in range(len(one)))}
    return sorted("/".join(one) or "." for one in own_only)


def holds_project(folder: Path) -> bool:
    """Whether this folder, or just one below it, is a project. False where there is too much to look at."""
    try:
        root = folder.resolve()
        found = [path.relative_to(root).as_posix() for path in islice(_datafiles(root, root, 0, [0]), MAX_FILES)]
    except (OSError, ProjectError):
        return False
    kept = [name for name in found if not name.endswith(INCLUDED)]
    return bool(kept) and len(project_roots(kept)) < 2


def _datafiles(root: Path, folder: Path, depth: int, looked: list[int]) -> Iterator[Path]:
    """Datafiles of a folder and those below it, in the order of their names. `looked` counts the folders.

    Raises ProjectError where there are too many."""
    looked[0] += 1
    if looked[0] > MAX_FOLDERS:
        message = f"There are more than {MAX_FOLDERS:,} folders below this one: it is no project"
        raise ProjectError([DatafileError(message, file=str(root), hint="Name the project's folder.")])
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = Path(entry.path)
        if entry.name.endswith(SUFFIXES) and not entry.is_dir(follow_symlinks=False):
            yield path
        elif depth < MAX_DEPTH and entry.is_dir() and entry.name not in SKIPPED:
            if entry.is_symlink() and not _inside(root, path):
                if entry.name in FOLDERS:
                    yield path  # refused where it is read
                continue
            if not (path / "pyvenv.cfg").exists():
                yield from _datafiles(root, path, depth + 1, looked)


def _inside(root: Path, link: Path) -> bool:
    """Whether a linked folder is in the project and holds no way back to where the link stands."""
    real = link.resolve()
    return real.is_relative_to(root) and not link.parent.resolve().is_relative_to(real)


def _read(root: Path, path: Path) -> str:
    """The file's text. ValueError, for the reader: it leaves the project, or as `read_file`."""
    try:
        outside = not path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):
        outside = False  # `read_file` says what it is
    if outside:
        raise ValueError("This link leaves the project's folder, and is not followed")
    return read_file(path)


def read_file(path: Path) -> str:
    """The file's text. ValueError, for the reader: it is not a file, too large, or no UTF-8."""
    try:
        real = path.resolve(strict=True)
        if not real.is_file():
            raise ValueError("This is not a file")
        with real.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, RuntimeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else None
        raise ValueError(f"The file cannot be read: {reason or 'a circle of links'}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"The file is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise ValueError(
            f"The file is not UTF-8 text: line {line} holds the byte 0x{content[problem.start]:02x}"
        ) from None
