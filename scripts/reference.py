"""Writes the part of docs/reference/cli.md that is made from the commands themselves: their help, arguments, options.

`make docs` runs it; a test fails while the page that is committed differs from what it makes. Everything above the
mark is written by hand and stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from pipit.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
SHARED = "Which server"  # the panel of the options that the page describes once
MARK = "<!-- From here on the page is made from the commands by scripts/reference.py (make docs). -->\n"
_MARKUP = re.compile(r"\[/?(?:bold|dim|cyan|italic)?\]")


def page(written: str) -> str:
    """The page with everything below the mark made anew."""
    above = written.partition(MARK)[0]
    return above + MARK + "".join(f"\n{part}\n" for part in _command(typer.main.get_command(app), "pipit"))


def commands(command: Any = None, path: str = "pipit") -> Iterator[tuple[str, Any]]:
    """Every command by its path, the groups left out."""
    command = typer.main.get_command(app) if command is None else command
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, child in command.commands.items():
        yield from commands(child, f"{path} {name}")


def _command(command: Any, path: str) -> Iterator[str]:
    if hasattr(command, "commands"):
        if path != "pipit":
            yield f"{_level(path)} {path}\n\n{_text(command.help)}"
        for name in command.commands:
            yield from _command(command.commands[name], f"{path} {name}")
        return
    yield f"{_level(path)} {path}\n\n```text\n{_usage(command, path)}\n```\n\n{_text(command.help)}"
    parameters = [p for p in command.params if not getattr(p, "hidden", False)]
    if rows := [_argument(p) for p in parameters if not p.opts[0].startswith("-")]:
        yield "| argument | |\n| --- | --- |\n" + "\n".join(rows)
    options = [p for p in parameters if p.opts[0].startswith("-")]
    own = [p for p in options if p.rich_help_panel != SHARED]
    if rows := [_option(p) for p in own]:
        yield "| option | default | |\n| --- | --- | --- |\n" + "\n".join(rows)
    if common := [f"`{p.opts[0]}`" for p in options if p not in own]:
        yield f"And {', '.join(common)} ([which server](#which-server))."
    if examples := _examples(command.epilog or ""):
        yield "```sh\n" + "\n".join(examples) + "\n```"


def _level(path: str) -> str:
    return "#" * (path.count(" ") + 1)


def _usage(command: Any, path: str) -> str:
    parts = [path, "[OPTIONS]"]
    for p in command.params:
        if not p.opts[0].startswith("-"):
            name = p.metavar or p.name.upper()
            parts.append((name if p.required else f"[{name}]") + ("..." if p.nargs == -1 else ""))
    return " ".join(parts)


def _argument(p: Any) -> str:
    return f"| `{p.metavar or p.name.upper()}` | {_cell(p.help)}{_default_of(p)} |"


def _default_of(p: Any) -> str:
    default = _default(p)
    return f" Default: {default}." if default else ""


def _option(p: Any) -> str:
    names = ", ".join(f"`{name}`" for name in p.opts)
    value = f" `{p.metavar}`" if p.metavar else ""
    one_of = [f"`{choice.value}`" for choice in type(p.default)] if isinstance(p.default, Enum) else []
    help = _cell(p.help) + (f" One of {', '.join(one_of)}." if one_of else "")
    return f"| {names}{value} | {'needed' if p.required else _default(p)} | {help} |"


def _default(p: Any) -> str:
    default = p.default
    if p.required or default is None or default is False or default == "" or default == []:
        return ""
    return f"`{default.value if isinstance(default, Enum) else default}`"


def _cell(text: str | None) -> str:
    return " ".join(_text(text).split()).replace("|", "\\|")


def _text(text: str | None) -> str:
    """A command's help without the marks of the terminal."""
    plain = _MARKUP.sub("", (text or "").replace("\\[", "\0")).replace("\0", "[")
    paragraphs = [" ".join(part.split()) for part in plain.replace("\b", "").split("\n\n")]
    return "\n\n".join(part for part in paragraphs if part)


def _examples(epilog: str) -> list[str]:
    """As they stand, two spaces off: a line that goes on is indented further."""
    lines = [_MARKUP.sub("", line).rstrip() for line in epilog.partition("Examples")[2].splitlines()]
    return [line.removeprefix("  ").replace("\\\\", "\\") for line in lines if line.strip()]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
