"""Only one server may use a state: a second one on the same ClickHouse server is refused at its start.

A server holds its workspaces in memory and would not see what another one deploys; and at its start it drops what no
deployment names, which may be another's deploy under way. So a server says that it is there, in a row that it renews,
and goes on only if nobody else does. Times are the engine's: the servers' own clocks need not agree. The embedded
engine needs none of this: its data directory is locked.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from pipit.catalog.state import DATABASE
from pipit.engine.client import Engine
from pipit.errors import Conflict, PipitError, Reason

log = logging.getLogger("pipit.catalog")

_TABLE = f"`{DATABASE}`.`servers`"
_RENEW_SECONDS = 5.0
# A server that was killed is forgotten after this.
_HOLD_SECONDS = 30.0


@asynccontextmanager
async def only_server(
    engine: Engine, *, hold: float = _HOLD_SECONDS, renew: float = _RENEW_SECONDS
) -> AsyncIterator[None]:
    """While it is held, this process is the only server of the state. Raises Conflict if there is another one."""
    if engine.embedded:
        yield
        return
    lease = _Lease(engine, hold)
    await lease.take()
    renewing = asyncio.ensure_future(lease.keep(renew))
    try:
        yield
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing
        await lease.release()


class _Lease:
    """The row is written first and checked afterwards: of two servers that start at once, one sees the other."""

    def __init__(self, engine: Engine, hold: float) -> None:
        self._engine = engine
        self._hold = hold
        self._id = uuid.uuid4().hex
        self._name = f"{socket.gethostname()}, process {os.getpid()}"

    async def take(self) -> None:
        await self._engine.command(f"CREATE DATABASE IF NOT EXISTS `{DATABASE}`")
        await self._engine.command(
            f"CREATE TABLE IF NOT EXISTS {_TABLE} (id String, name String, at DateTime64(6, 'UTC'), "
            "until DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY id TTL toDateTime(at) + INTERVAL 1 DAY"
        )
        await self._write(self._hold)
        others = await self._engine.rows(
            "SELECT name, dateDiff('second', now64(6, 'UTC'), until) AS seconds "
            f"FROM (SELECT * FROM {_TABLE} ORDER BY at DESC LIMIT 1 BY id) "
            "WHERE id != {id:String} AND until > now64(6, 'UTC') ORDER BY until DESC LIMIT 1",
            {"id": self._id},
        )
        if others:
            await self.release()
            raise Conflict(
                f"Another Pipit server ({others[0]['name']}) uses this ClickHouse server",
                hint=f"Stop it first. If it was killed, its place is free in {others[0]['seconds'] + 1} seconds.",
                reason=Reason.SERVER_CONFLICT,
            )

    async def keep(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            try:
                await self._write(self._hold)
            except PipitError as error:
                log.warning("cannot say that this server is there: %s", error)

    async def release(self) -> None:
        """Deletes the row. If that fails, it expires a little later."""
        try:
            await self._write(0)
        except PipitError as error:
            log.warning("cannot say that this server leaves: %s", error)

    async def _write(self, hold: float) -> None:
        await self._engine.command(
            f"INSERT INTO {_TABLE} SELECT {{id:String}}, {{name:String}}, now64(6, 'UTC') AS at, "
            "at + toIntervalMillisecond({hold:UInt64})",
            {"id": self._id, "name": self._name, "hold": int(hold * 1000)},
        )
