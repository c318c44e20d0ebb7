"""How commands look from outside: their help, and what is said of a command that is not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from pipit.suggest import closest

# Words that other tools have for one thing. Whichever of a line is a command here is meant by the others.
_MEANINGS = (
    {"init", "new", "create", "start-project"},
    {"create", "add", "set", "new", "make"},
    {"ls", "list", "show", "all"},
    {"rm", "remove", "delete", "del", "drop"},
    {"serve", "start", "run", "up", "dev", "server", "local"},
    {"deploy", "push", "publish", "release"},
    {"check", "validate", "lint", "build"},
    {"fmt", "format"},
    {"query", "call"},
    {"append", "insert", "load", "import", "ingest"},
    {"job", "jobs", "tasks"},
    {"secret", "secrets", "variable", "env"},
)


class Command(TyperCommand):
    """A flag's help says nothing of its type: it takes no value."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _shown(super().get_params(ctx))


class Group(TyperGroup):
    """As `Command`; and a command that is not there is answered with the one that is meant, or with none."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _shown(super().get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            meant = suggestion(args[0], self.commands)
            said = f"There is no command '{ctx.command_path} {args[0]}'."
            ctx.fail(f"{said} Did you mean '{ctx.command_path} {meant}'?" if meant else said)
        return super().resolve_command(ctx, args)


class Commands(typer.Typer):
    """Commands that look as above, a group's own too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=Group, no_args_is_help=True, **options)

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        return super().command(name, cls=Command, **options)


def suggestion(word: str, known: Iterable[str]) -> str:
    """The known command that somebody means: one that is written like it, or that other tools call so. '' else."""
    names = sorted(known)
    near = closest(word, names)
    if near:
        return near
    lines = [line for line in _MEANINGS if word.lower() in line]
    return next((name for line in lines for name in names if name in line), "")


def _shown(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params
