"""HTTP to a Pipit server, for commands. Its errors come back as the errors they were, places in files included."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pipit import jsontext
from pipit.errors import DatafileError, NotFound, PipitError, ProjectError, RateLimited, Reason, Unavailable

if TYPE_CHECKING:
    import aiohttp

_CONNECT_SECONDS = 5.0
# A deploy may fill a view from many rows; nothing else takes longer than the server's own limits.
_TOTAL_SECONDS = 3600.0
Json = dict[str, Any]


class Client:
    """One server, one token. Every method raises Unavailable when nobody answers, PipitError when it refuses."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str, *, hint: str = "") -> None:
        self._session = session
        self.url = url
        self._token = token
        self._hint = hint  # what to do about a token that the server does not know

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Json:
        return await self.ask("GET", path, params=params)

    async def post(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        return await self.ask("POST", path, params=params, json=json, data=data, headers=headers)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """The JSON object that is answered."""
        async with self.open(method, path, params=params, json=json, data=data, headers=headers) as response:
            return _object(await response.read())

    async def health(self) -> bool:
        """Whether the server's engine is there. Raises Unavailable, or PipitError where no Pipit answers."""
        import aiohttp

        try:
            async with self._session.get(f"{self.url}/v0/health", allow_redirects=False) as response:
                found = _parsed(await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise _nobody(self.url) from error
        if not isinstance(found, dict) or "engine" not in found:
            raise PipitError(f"What answers at {self.url} is not a Pipit server")
        return bool(found["engine"])

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        token: str = "",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response with status 2xx, its body still to be read. `token` instead of the usual one."""
        import aiohttp

        sent = {"Authorization": f"Bearer {token or self._token}"} | dict(headers or {})
        try:
            async with self._session.request(
                method, self.url + path, params=params, json=json, data=data, headers=sent, allow_redirects=False
            ) as response:
                if response.status >= 300:
                    raise self._refusal(response, await response.read())
                yield response
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError) as error:
            raise Unavailable(
                f"The server at {self.url} broke off its answer", reason=Reason.SERVER_UNREACHABLE
            ) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _nobody(self.url) from error

    def _refusal(self, response: aiohttp.ClientResponse, body: bytes) -> PipitError:
        found = _parsed(body)
        if not isinstance(found, dict) or "error" not in found:
            return _with_status(
                PipitError(f"{self.url} answered {response.status}, and not as a Pipit server would"), response.status
            )
        message, hint, reason = str(found["error"]), str(found.get("hint", "")), _reason(found)
        if isinstance(found.get("errors"), list):
            return ProjectError([_datafile_error(item) for item in found["errors"] if isinstance(item, dict)])
        if response.status == 429:
            return RateLimited(message, reason=reason, hint=hint, headers=dict(response.headers))
        if response.status == 503:
            after = response.headers.get("Retry-After", "")
            return Unavailable(message, reason=reason, hint=hint, retry_after=int(after) if after.isdigit() else 1)
        if response.status == 404:
            return NotFound(message, reason=reason, hint=hint)
        if reason is Reason.TOKEN_INVALID:
            hint = self._hint
        return _with_status(PipitError(message, reason=reason, hint=hint), response.status)


@asynccontextmanager
async def open_client(url: str, token: str, *, hint: str = "") -> AsyncIterator[Client]:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=_TOTAL_SECONDS, sock_connect=_CONNECT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=2**20) as session:
        yield Client(session, url, token, hint=hint)


def _reason(item: Mapping[str, Any]) -> Reason | None:
    """None where the server gives none, or one that this version does not know."""
    return next((reason for reason in Reason if reason.value == item.get("reason")), None)


def _datafile_error(item: Mapping[str, Any]) -> DatafileError:
    file = str(item.get("filename", ""))
    line, column = int(item.get("line", 0)), int(item.get("column", 0))
    return DatafileError(
        str(item.get("message", item.get("error", ""))),
        file=file,
        line=line,
        column=column,
        hint=str(item.get("hint", "")),
        excerpt=str(item.get("excerpt", "")),
        reason=_reason(item),
    )


def _nobody(url: str) -> Unavailable:
    return Unavailable(
        f"No server answers at {url}", hint="Is it running? `pipit serve` starts one.", reason=Reason.SERVER_UNREACHABLE
    )


def _parsed(body: bytes) -> Any:
    try:
        return jsontext.exact(body)
    except ValueError:
        return None


def _with_status(error: PipitError, status: int) -> PipitError:
    error.status = status
    return error


def _object(body: bytes) -> Json:
    found = _parsed(body) if body else {}
    if not isinstance(found, dict):
        raise PipitError("The server's answer is not a JSON object")
    return found
