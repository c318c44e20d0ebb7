"""How far a deployment is that is being made: as lines, and as a bar while `pipit deploy` waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from pipit.cli.client import Client
from pipit.cli.output import err, note, printable
from pipit.errors import PipitError

_LOOK_SECONDS = 0.5


def progress_lines(found: Mapping[str, Any]) -> list[str]:
    """Of each table that is being filled, and how long it still takes."""
    told = found.get("progress")
    if not told:
        return []
    lines = [f"{one['datasource']}: {one['rows']:,} of {one['of']:,} rows" for one in told["tables"]]
    left = told["seconds_left"]
    return [*lines, f"about {_time(left)} left"] if left is not None else lines


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@asynccontextmanager
async def shown(client: Client, text: str) -> AsyncIterator[None]:
    """A bar while a deploy is under way, where somebody looks. Who leaves is told what becomes of it."""
    number: list[str] = []
    looking = asyncio.create_task(_look(client, text, number))
    try:
        yield
    except asyncio.CancelledError:
        if number:
            note(
                f"Deployment {number[0]} is still being made: the server goes on with it or, where none runs, the next "
                f"command. `pipit deployment show {number[0]}` says how far it is, and `pipit deployment discard "
                f"{number[0]}` ends it."
            )
        else:
            note("The server may go on with it: `pipit deployment ls` shows what is being made.")
        raise
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


async def _look(client: Client, text: str, number: list[str]) -> None:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn())
    bar = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
    with bar:
        task = bar.add_task(text, total=None)
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            with suppress(PipitError):  # the deploy itself says what is wrong
                listed = (await client.get("/v1/deployments", {"kept": "true"}))["deployments"]
                found = next((one for one in listed if one.get("progress")), None)
                if found is None:
                    continue
                number[:] = [printable(str(found["id"]))]
                told = found["progress"]
                left = told["seconds_left"]
                more = f", about {_time(left)} left" if left is not None else ""
                shown = f"{text} {told['rows']:,} of {told['of']:,} rows{more}"
                bar.update(task, description=shown, completed=told["rows"], total=told["of"] or None)
