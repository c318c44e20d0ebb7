"""What one rendering carries: the values, the variables it set, and how much it may still do. Never shared."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from pipit.errors import Reason
from pipit.templates.failures import LimitReached, value_error
from pipit.templates.values import RequestValue

if TYPE_CHECKING:
    from pipit.templates.binder import Binder

MAX_SECONDS = 1.0
MAX_STEPS = 100_000
MAX_OUTPUT = 500_000
MAX_SIZE = 1_000_000  # of a text or a list that an expression makes, with all that is in it
MAX_DEPTH = 64  # of lists in lists
MAX_WORK = 32_000_000  # characters and items that the expressions of one rendering make, all together
MAX_REQUEST_SECONDS = 4.0  # of all renderings of one request


class Branch(NamedTuple):
    """One way that a rendering can take: the block of a directive, or past a block that was not taken (`skipped`), or
    out of a `try` block that failed after it had written something (`stopped`, at the place that failed).

    `line` and `column` are within the template's source.
    """

    template: str
    kind: str  # if, elif, else, for, while, try, except, finally; `if skipped`, `for skipped`, `try stopped`
    line: int
    column: int


class RenderState:
    __slots__ = (
        "binder", "broken", "collecting", "deadline", "left", "locals", "output", "placeholder", "point", "required",
        "secrets", "started", "steps", "values", "work", "written",
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
        self.started = time.monotonic()
        self.deadline = self.started + min(MAX_SECONDS, MAX_REQUEST_SECONDS - binder.seconds)
        self.steps = 0
        self.output = 0
        self.work = 0
        self.broken: set[int] = set()  # loops that a `break` ended, so that their `else` does not run
        self.collecting: list[list[object]] = []  # the comprehensions that are running, the innermost last
        self.written: list[str] | None = None  # the text of the outermost `try` that is running
        self.left = ""  # `break` or `continue` on its way out of a `try`
        self.point: Branch | None = None  # where a traced `try` stands, once it has written something

    def step(self) -> None:
        """One turn of a loop."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise LimitReached(f"The template runs more than {MAX_STEPS} loop steps")
        self.tick()

    def tick(self) -> None:
        """Each read of a name comes here: no operation works on more than MAX_SIZE without one."""
        if time.monotonic() > self.deadline:
            raise LimitReached(f"The template runs longer than {MAX_SECONDS:g} s")

    def wrote(self, characters: int) -> None:
        self.output += characters
        if self.output > MAX_OUTPUT:
            raise LimitReached(f"The template's output is longer than {MAX_OUTPUT} characters")
        self.tick()

    def made(self, size: int) -> None:
        """An expression is about to make, or has made, a value of this size."""
        limited(size)
        self.work += size
        if self.work > MAX_WORK:
            raise LimitReached(f"The template makes more than {MAX_WORK} characters of values")
        self.tick()

    def missing(self, name: str | None) -> Exception:
        """The dialect's error: it names every required parameter of the template, not only the missing one."""
        names = list(self.required)
        if name is not None and name not in names:
            names.append(name)
        return value_error(
            f"Required parameter is not defined. Check the parameters {_listed(names)}. "
            "Please provide a value or set a default value in the pipe code.",
            parameter=name or "",
            reason=Reason.PARAMETER_MISSING,
        )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def limited(size: int) -> None:
    if size > MAX_SIZE:
        raise LimitReached(f"The template makes a value larger than {MAX_SIZE}")
