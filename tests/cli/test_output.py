"""What stands on the screen."""

from __future__ import annotations

import io

from rich.console import Console

from pipit.cli.output import show_warnings
from pipit.datafiles.resources import Warning, WarningKind


def test_warnings_of_one_kind_are_one_with_all_their_places() -> None:
    told = io.StringIO()
    found = [
        Warning("a.pipe", "'x' is a pattern of 2 parts", 3, 5, "Write {{String(x)}}.", WarningKind.LIKE_PATTERN),
        Warning("b.pipe", "deploys inert", 1, 1, kind=WarningKind.INERT_SINK),
        Warning("b.pipe", "'y' is a pattern of 1 parts", 4, 5, "Write {{String(x)}}.", WarningKind.LIKE_PATTERN),
        Warning("c.pipe", "'z' is a pattern of 9 parts", 4, 9, "Write {{String(x)}}.", WarningKind.LIKE_PATTERN),
    ]
    show_warnings(found, Console(file=told, width=200))
    assert told.getvalue().splitlines() == [
        "a.pipe:3:5: warning: 'x' is a pattern of 2 parts",
        "    2 more: b.pipe:4:5, c.pipe:4:9",
        "    hint: Write {{String(x)}}.",
        "b.pipe:1:1: warning: deploys inert",
    ]


def test_two_that_only_read_alike_are_two() -> None:
    """What is between quotes is not always a name: a kind is said by who warns."""
    told = io.StringIO()
    found = [
        Warning("a.pipe", "node 'a': cannot read 'x'", 1, 1),
        Warning("b.pipe", "node 'a': cannot read 'y'", 1, 1),
    ]
    show_warnings(found, Console(file=told, width=200))
    assert told.getvalue().splitlines() == [
        "a.pipe:1:1: warning: node 'a': cannot read 'x'",
        "b.pipe:1:1: warning: node 'a': cannot read 'y'",
    ]
