"""Three services that answer the same endpoints from the same engine, each in two worlds: with b's rows and without.

`Filters`: what a careful engineer writes in an afternoon on ClickHouse's `additional_table_filters`. Every table with a
customer_id column gets the filter (found in system.columns, keyed by full name, the value escaped), whatever the SQL
says. One place for all endpoints.

`ByHand`: what a careful engineer writes with bound parameters. Every query says `customer_id = {customer_id:String}`
for every table that has that column, also inside subqueries and on both sides of joins.

Both: Starlette and aiohttp. JWTs by PyJWT (HS256 only, `exp` required), the tenant from the claim `customer_id`, which
must be a text that is not empty; parameters are bound, only those that the endpoint declares, from the query string
alone; `readonly=1`; a failing query answers 500 with one text; nothing of the engine's headers is passed on.

`Pipit`: the same SQL in a project with a row policy on each table with a customer_id column.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp
import jwt
import yarl
from stand import listening
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipit.catalog.snapshot import Workspace
from pipit.engine.embedded.supervisor import EngineAddress as Address
from pipit.errors import PipitError, ProjectError
from pipit.server import Server

A, B = "a", "b"
CANARY = 987654321  # in every row of b and nowhere else
_PARAMETER = re.compile(r"\{(\w+):(\w+)\}")


@dataclass(frozen=True)
class Endpoint:
    """`sql` has parameters as ClickHouse writes them; `by_hand`: with the tenant's condition written into it.

    `files`: more files of Pipit's project. `pipe`: Pipit's own text where the dialect says it otherwise. `cache`: for
    how many seconds Pipit caches a response; the peers know no such thing.
    """

    name: str
    sql: str
    by_hand: str
    files: Mapping[str, str] = field(default_factory=dict)
    pipe: str = ""
    cache: int = 0

    @property
    def template(self) -> str:
        return self.pipe or "%\n" + _PARAMETER.sub(r"{{\2(\1)}}", self.sql)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: str


class Service(Protocol):
    """One service in one world."""

    name: str

    async def publish(self, endpoint: Endpoint) -> str:
        """Makes an endpoint callable; or why the service does not take it."""
        ...

    def token(
        self,
        customer: Any = A,
        *,
        endpoints: Sequence[str] = ("latest",),
        seconds: float = 3600,
        key: str = "",
        algorithm: str = "HS256",
        **changed: Any,
    ) -> str:
        """The JWT that a backend makes for a tenant. `changed`: claims to set, or to leave out where they are None."""
        ...

    def path(self, endpoint: str) -> str: ...

    @property
    def database(self) -> str: ...

    async def ask(self, path: str, token: str | None, **options: Any) -> Reply: ...


@dataclass
class Client:
    session: aiohttp.ClientSession
    port: int

    async def ask(
        self,
        path: str,
        token: str | None,
        *,
        method: str = "GET",
        headers: Sequence[tuple[str, str]] = (),
        data: Any = None,
        json: Any = None,
    ) -> Reply:
        sent = [*headers, *([("Authorization", f"Bearer {token}")] if token is not None else [])]
        url = yarl.URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.session.request(method, url, headers=sent, data=data, json=json) as response:
            body = (await response.read()).decode("utf-8", "replace")
            return Reply(response.status, tuple(sorted(response.headers.items())), body)


def sign(claims: Mapping[str, Any], key: str, algorithm: str, changed: Mapping[str, Any]) -> str:
    said = {**claims, **changed}
    return jwt.encode({k: v for k, v in said.items() if v is not None}, key, algorithm=algorithm)


# ---- the peers


class Peer:
    """What the two have in common; `settings_for` and `sql_of` are where they differ."""

    def __init__(self, name: str, engine: Address, database: str, session: aiohttp.ClientSession) -> None:
        self.name = name
        self.database = database
        self._session = session
        self._url = f"http://127.0.0.1:{engine.port}/"
        basic = base64.b64encode(f"{engine.user}:{engine.password}".encode()).decode()
        self._auth = {"Authorization": f"Basic {basic}"}
        self._key = "peer-signing-key-of-32-bytes-or-more!"
        self._endpoints: dict[str, Endpoint] = {}
        self._client = Client(session, 0)
        self.app = Starlette(routes=[Route("/api/{name}", self._read, methods=["GET", "POST"])])

    async def publish(self, endpoint: Endpoint) -> str:
        self._endpoints[endpoint.name] = endpoint
        return ""

    def token(
        self,
        customer: Any = A,
        *,
        endpoints: Sequence[str] = ("latest",),
        seconds: float = 3600,
        key: str = "",
        algorithm: str = "HS256",
        **changed: Any,
    ) -> str:
        claims = {"customer_id": customer, "exp": int(time.time() + seconds)}
        return sign(claims, self._key if not key and algorithm != "none" else key, algorithm, changed)

    def path(self, endpoint: str) -> str:
        return f"/api/{endpoint}"

    async def ask(self, path: str, token: str | None, **options: Any) -> Reply:
        return await self._client.ask(path, token, **options)

    @property
    def port(self) -> int:
        return self._client.port

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        await self.prepare()
        async with listening(self.app) as port:
            self._client.port = port
            yield

    async def prepare(self) -> None: ...

    def settings_for(self, customer: str) -> dict[str, str]:
        return {}

    def sql_of(self, endpoint: Endpoint) -> str:
        raise NotImplementedError

    async def _read(self, request: Request) -> Response:
        try:
            said = jwt.decode(_bearer(request), self._key, algorithms=["HS256"], options={"require": ["exp"]})
        except jwt.PyJWTError:
            return JSONResponse({"error": "Invalid token"}, 401)
        customer = said.get("customer_id")
        if not isinstance(customer, str) or not customer:
            return JSONResponse({"error": "The token names no customer"}, 403)
        endpoint = self._endpoints.get(request.path_params["name"])
        if endpoint is None:
            return JSONResponse({"error": "Not found"}, 404)
        sql = self.sql_of(endpoint).replace("<database>", self.database)
        fields = {"database": self.database, "default_format": "JSON", "readonly": "1", "wait_end_of_query": "1"}
        fields |= self.settings_for(customer)
        for name, _ in _PARAMETER.findall(sql):
            value = customer if name == "customer_id" else request.query_params.get(name)
            if value is None:
                return JSONResponse({"error": f"The parameter {name} is missing"}, 400)
            fields[f"param_{name}"] = value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
        async with self._session.post(self._url, params=fields, data=sql.encode(), headers=self._auth) as answer:
            body = await answer.read()
            if answer.status != 200:
                return JSONResponse({"error": "The query failed"}, 500)
            return Response(body, media_type="application/json")


class Filters(Peer):
    _tables: tuple[str, ...] = ()

    async def prepare(self) -> None:
        """Every table that has the column. Again after each change of the schema."""
        sql = f"SELECT table FROM system.columns WHERE database = '{self.database}' AND name = 'customer_id' FORMAT TSV"
        async with self._session.post(self._url, data=sql.encode(), headers=self._auth) as answer:
            assert answer.status == 200, await answer.text()
            self._tables = tuple((await answer.text()).split())

    def settings_for(self, customer: str) -> dict[str, str]:
        condition = f"customer_id = {_literal(customer)}"
        entries = ", ".join(f"{_literal(f'{self.database}.{table}')}: {_literal(condition)}" for table in self._tables)
        return {"additional_table_filters": "{" + entries + "}"}

    def sql_of(self, endpoint: Endpoint) -> str:
        return endpoint.sql


class ByHand(Peer):
    def sql_of(self, endpoint: Endpoint) -> str:
        return endpoint.by_hand


def _bearer(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# ---- Pipit


class Pipit:
    name = "Pipit"

    def __init__(
        self, server: Server, workspace: Workspace, port: int, session: aiohttp.ClientSession, base: Mapping[str, str]
    ) -> None:
        self._server = server
        self._workspace = workspace
        self._base = base
        self.database = workspace.database
        self._client = Client(session, port)
        self.port = port

    @property
    def workspace(self) -> str:
        return self._workspace.id

    async def publish(self, *endpoints: Endpoint) -> str:
        files = dict(self._base)
        for endpoint in endpoints:
            text = endpoint.template.replace("<database>", self.database)
            pipe = "NODE endpoint\nSQL >\n" + "".join(f"    {line}\n" for line in text.splitlines())
            cache = f"CACHE {endpoint.cache}\n" if endpoint.cache else ""
            files |= {**endpoint.files, f"endpoints/{endpoint.name}.pipe": pipe + "TYPE endpoint\n" + cache}
        try:
            await self._server.deployer.deploy(self._workspace.id, files, allow_destructive=True, allow_weaker=True)
        except PipitError as error:
            return str(error.errors[0]) if isinstance(error, ProjectError) else error.message
        return ""

    def token(
        self,
        customer: Any = A,
        *,
        endpoints: Sequence[str] = ("latest",),
        seconds: float = 3600,
        key: str = "",
        algorithm: str = "HS256",
        **changed: Any,
    ) -> str:
        context = {} if customer is None else {"customer_id": customer}
        scopes = [{"type": "PIPES:READ", "resource": name} for name in endpoints]
        claims = {
            "workspace_id": self._workspace.id,
            "name": "tenant",
            "exp": int(time.time() + seconds),
            "scopes": scopes,
            "context": context,
        }
        signing = self._workspace.admin_token if not key and algorithm != "none" else key
        return sign(claims, signing, algorithm, changed)

    def path(self, endpoint: str) -> str:
        return f"/v0/pipes/{quote(endpoint)}.json"

    async def ask(self, path: str, token: str | None, **options: Any) -> Reply:
        return await self._client.ask(path, token, **options)
