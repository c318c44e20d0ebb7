"""`pipit fmt`: datafiles in one form, in place. What a file means never changes (`datafiles.format`)."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from pipit.cli.options import examples
from pipit.cli.output import count, line, note, out, printable, show_errors
from pipit.errors import BadRequest, DatafileError, PipitError, ProjectError


def add_to(app: typer.Typer) -> None:
    app.command(
        "fmt",
        rich_help_panel="Project",
        epilog=examples("pipit fmt", "pipit fmt pipes/top_products.pipe", "pipit fmt --check --diff"),
    )(fmt)


def fmt(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Files, or folders of projects. Default: the current one.", metavar="PATHS"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 if a file would change, with a list.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Write nothing, and show what would change.")] = False,
) -> None:
    """Formats .datasource, .pipe and .connection files: the same layout everywhere, nothing else changed.

    Comments stay, and SQL is only indented. A file that cannot be read is left as it is; exit code 1.
    """
    changed = unchanged = 0
    errors: list[DatafileError] = []
    for path in _files(paths or [Path()]):
        try:
            before, after = _formatted(path)
        except ProjectError as error:
            errors += error.errors
            continue
        if before == after:
            unchanged += 1
            continue
        changed += 1
        if diff:
            _show_diff(path, before.decode(), after.decode())
        else:
            line(out, str(path))
        if not (check or diff):
            _write(path, after)
    show_errors(errors)
    if not changed and not unchanged and not errors:
        raise BadRequest("No .datasource, .pipe or .connection files here", hint="Name files, or a project's folder.")
    done = "would change" if check or diff else "formatted"
    parts = [f"{count(changed, 'file')} {done}", f"{unchanged:,} unchanged"]
    note(", ".join(parts + ([f"{count(len(errors), 'error')}"] if errors else [])) + ".")
    if errors or (check and changed):
        raise typer.Exit(1)


def _files(paths: list[Path]) -> Iterator[Path]:
    """Each file once, in the order of the paths."""
    from pipit.datafiles.format import KINDS
    from pipit.datafiles.layout import read_project

    *most, last = KINDS

    seen: set[Path] = set()
    for path in paths:
        if path.is_dir():
            found = [file for name in read_project(path) if (file := path / name).suffix in KINDS]
        elif path.is_file() and path.suffix in KINDS:
            found = [path]
        else:
            problem = f"is not a {', '.join(most)} or {last} file" if path.exists() else "is not there"
            raise typer.BadParameter(f"{path} {problem}", param_hint="PATHS")
        for one in found:
            if (real := one.resolve()) not in seen:
                seen.add(real)
                yield one


def _formatted(path: Path) -> tuple[bytes, bytes]:
    """The file's bytes, and those that it should have. Raises ProjectError."""
    from pipit.datafiles.format import format_text
    from pipit.datafiles.layout import read_file

    try:
        text = read_file(path)
    except ValueError as error:
        raise ProjectError([DatafileError(str(error), file=str(path))]) from None
    return text.encode(), format_text(text, file=str(path)).encode()


def _write(path: Path, content: bytes) -> None:
    """In one step: a file is never half-written, and keeps its mode; a link stays one."""
    real = path.resolve()
    try:
        with tempfile.NamedTemporaryFile(dir=real.parent, prefix=f".{real.name}.", delete=False) as scratch:
            try:
                scratch.write(content)
                scratch.flush()
                os.chmod(scratch.name, real.stat().st_mode & 0o7777)
                os.replace(scratch.name, real)
            except BaseException:
                os.unlink(scratch.name)
                raise
    except OSError as error:
        raise PipitError(f"{path} cannot be written: {error.strerror}", hint="It was left as it is.") from None


def _show_diff(path: Path, before: str, after: str) -> None:
    styles = {"+": "green", "-": "red", "@": "cyan"}
    rows = difflib.unified_diff(before.splitlines(True), after.splitlines(True), str(path), f"{path} (formatted)")
    for row in rows:
        line(out, (printable(row.removesuffix("\n")), styles.get(row[:1], "")))
        if not row.endswith("\n"):
            line(out, "\\ No newline at end of file")
