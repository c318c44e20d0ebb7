"""What became of a deployment's one row when the answer to its insert was lost: yes or no, never a guess.

The row may be written, not written, or still on its way. If it is there, the deployment is live. If not, a newer
row gives the deployment up, so that one that is still on its way changes nothing when it lands. Nobody undoes or
finishes anything before one of the two is certain.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pipit.catalog.state import DeploymentRow, State
from pipit.errors import PipitError, Unavailable

log = logging.getLogger("pipit.deploy")

_AGAIN_SECONDS = 0.5


async def became_live(
    state: State, workspace_id: str, row: DeploymentRow, instead: DeploymentRow | None = None
) -> bool:
    """Waits for as long as the state cannot be asked. `instead`: what stays live if an earlier one's row is not there;
    that one is not given up, as it was live before."""
    warned = False
    while True:
        try:
            found = await state.deployment(workspace_id)
            if found is not None and found.id == row.id:
                return found.created_at == row.created_at  # else another server's, which must stay
            if instead is not None:
                await state.commit_deployment(workspace_id, instead)
            else:
                await state.give_up_deployment(workspace_id, row)
            return False
        except PipitError as error:
            if not warned:
                log.warning("cannot see yet whether deployment %d is live: %s", row.id, error)
                warned = True
            await asyncio.sleep(_AGAIN_SECONDS)


async def until_done(step: Callable[[], Awaitable[None]]) -> None:
    """Does a step that can be repeated, again and again while the engine is away."""
    while True:
        try:
            return await step()
        except Unavailable:
            await asyncio.sleep(_AGAIN_SECONDS)
        except PipitError as error:
            log.warning("a deploy left objects behind; they are dropped at the next start: %s", error)
            return None
