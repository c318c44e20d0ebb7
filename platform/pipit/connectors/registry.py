"""A schema registry that speaks Confluent's API: the schemas that values name by their ids, each asked for once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
import yarl

_SECONDS = 10.0
_MAX_REFERENCES = 200  # of one schema, all the way down


class RegistryAway(Exception):
    """It did not answer, or refused us: nothing is known of the schema. The text holds no address."""


class UnknownSchema(Exception):
    """The registry says that there is none, or one that cannot be used."""


@dataclass(frozen=True, slots=True)
class Schema:
    """`references` are the texts of other schemas that it names, those that others need first."""

    type: str  # AVRO, JSON, PROTOBUF
    text: str
    references: tuple[str, ...] = ()


@dataclass(slots=True)
class Registry:
    """`url` may hold a user and a password."""

    url: str = field(repr=False)
    _session: aiohttp.ClientSession | None = None

    async def schema(self, id: int) -> Schema:
        """Raises RegistryAway, UnknownSchema."""
        found = await self._get(f"schemas/ids/{id}")
        texts: dict[tuple[str, int], str] = {}
        await self._collect(found, texts)
        return Schema(str(found.get("schemaType") or "AVRO"), str(found["schema"]), tuple(texts.values()))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _collect(self, schema: dict[str, Any], texts: dict[tuple[str, int], str]) -> None:
        for reference in schema.get("references") or ():
            key = (str(reference["subject"]), int(reference["version"]))
            if key in texts:
                continue
            if len(texts) >= _MAX_REFERENCES:
                raise UnknownSchema("it refers to too many others")
            found = await self._get(f"subjects/{yarl.URL.build(path=key[0]).raw_path}/versions/{key[1]}")
            await self._collect(found, texts)
            texts[key] = str(found["schema"])

    async def _get(self, path: str) -> dict[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS))
        url = yarl.URL(f"{self.url.rstrip('/')}/{path}", encoded=True)
        try:
            async with self._session.get(url) as response:
                body = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise RegistryAway(f"the schema registry does not answer ({type(error).__name__})") from None
        if response.status == 404:
            raise UnknownSchema("the schema registry does not know it")
        if response.status != 200:
            raise RegistryAway(f"the schema registry answers with status {response.status}")
        try:
            found = msgspec.json.decode(body, type=dict[str, Any])
            found["schema"]
        except (msgspec.DecodeError, KeyError):
            raise RegistryAway("the schema registry's answer is not that of a registry") from None
        return found
