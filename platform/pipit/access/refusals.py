"""An error as the holder of a token may see it: the last thing that every refusal passes.

What the engine says of a statement or of rows may quote anybody's rows: a segment holds the events of many senders, a
view joins other tables. So such texts go to the log under the request's id, and to tokens that may read every row of
the workspace. All others get one fixed text and that id: a tenant's JWT whatever the statement was, and on a write a
static token that is no admin's too, since one that may only append stands in the page of every visitor.
"""

from __future__ import annotations

from pipit.access.context import SecurityContext
from pipit.errors import PipitError, SqlError


def shown_to(error: PipitError, security: SecurityContext | None, request_id: str) -> dict[str, object]:
    """The body of the response. `security` is None where nobody was authenticated."""
    if error.detail:
        return _without_detail(error, security, request_id)
    if hides(error, security):
        hint = f"Quote the request id {request_id} to the workspace's owner."
        return SqlError("The engine refused the statement", hint=hint).body()
    return error.body()


def hides(error: PipitError, security: SecurityContext | None) -> bool:
    """Whether the whole message is the engine's, and not for this reader."""
    return isinstance(error, SqlError) and error.is_engines and (security is None or security.is_tenant)


def _without_detail(error: PipitError, security: SecurityContext | None, request_id: str) -> dict[str, object]:
    if security is not None and security.is_admin:
        more = f"The engine said: {error.detail}"
    else:
        more = f"The workspace's owner finds the reason in the server's log, under {request_id}."
    return error.body() | {"hint": f"{error.hint} {more}".strip()}
