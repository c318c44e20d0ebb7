"""What one rendering carries: the values, the variables it set, and how much it may still do. Never shared."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from pipit.templates.failures import LimitReached, value_error
from pipit.templates.values import RequestValue

if TYPE_CHECKING:
    from pipit.templates.binder import Binder

MAX_SECONDS = 1.0
MAX_STEPS = 100_000
MAX_OUTPUT = 1_000_000
MAX_SIZE = 1_000_000  # of a text or a list that an expression makes


class Branch(NamedTuple):
    """One way that a rendering can take: the block of a directive, or past a block that was not taken (`skipped`).

    `line` and `column` are within the template's source.
    """

    template: str
    kind: str  # if, elif, else, for, while, try, except, finally; `if skipped`, `for skipped`
    line: int
    column: int


class State:
    __slots__ = (
        "binder", "deadline", "locals", "output", "placeholder", "required", "secrets", "steps", "values",
    )  # fmt: skip

    def __init__(
        self,
        values: Mapping[str, RequestValue],
        binder: Binder,
        secrets: Mapping[str, str],
        required: tuple[str, ...],
    ) -> None:
        self.values = values
        self.binder = binder
        self.secrets = secrets
        self.required = required
        self.placeholder = binder.placeholder
        self.locals: dict[str, object] = {}
        self.deadline = time.monotonic() + MAX_SECONDS
        self.steps = 0
        self.output = 0

    def step(self) -> None:
        """One turn of a loop."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise LimitReached(f"The template runs more than {MAX_STEPS} loop steps")
        if self.steps % 64 == 0 and time.monotonic() > self.deadline:
            raise LimitReached(f"The template runs longer than {MAX_SECONDS:g} s")

    def wrote(self, characters: int) -> None:
        self.output += characters
        if self.output > MAX_OUTPUT:
            raise LimitReached(f"The template's output is longer than {MAX_OUTPUT} characters")
        if time.monotonic() > self.deadline:
            raise LimitReached(f"The template runs longer than {MAX_SECONDS:g} s")

    def missing(self, name: str | None) -> Exception:
        """The dialect's error: it names every required parameter of the template, not only the missing one."""
        names = list(self.required)
        if name is not None and name not in names:
            names.append(name)
        return value_error(
            f"Required parameter is not defined. Check the parameters {_listed(names)}. "
            "Please provide a value or set a default value in the pipe code."
        )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def limited(size: int) -> None:
    if size > MAX_SIZE:
        raise LimitReached(f"The template makes a value larger than {MAX_SIZE}")
