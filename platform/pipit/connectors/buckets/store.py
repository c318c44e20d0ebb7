"""An object store, through its S3 API: lists keys in pages, reads and writes objects.

The client connects where files by URL may be fetched from, and nowhere else: the endpoint is judged as a URL is, and
each address that its name resolves to (`ingest/files/remote.py`). The client follows redirects, so each connection is
looked at (`_Guard`). It takes no credentials but those of the connection, and no proxy. What an error shows holds no
secret and nothing of an answer but its code.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

from pipit.connectors.buckets.place import Place
from pipit.errors import BadRequest, PipitError, Reason
from pipit.ingest.files.remote import AllowedHosts, resolver

PAGE = 1000
_CONNECT_SECONDS, _READ_SECONDS = 5.0, 20.0
_TRIES = 3
_CONNECTIONS = 32
_BLOCK = 1 << 18
_PART = 16 << 20  # of an object that is written; a part has 5 MB at least, and there are 10,000 at most
_AWAY_STATUS = 500
_DENIED = frozenset({400, 401, 403})


class StoreAway(Exception):
    """It does not answer, or answers that it cannot now. The text is for people."""


class StoreRefuses(Exception):
    """It answers that this is not allowed, or that there is no such bucket. The text is for people."""


class ObjectGone(Exception):
    """The object is not there any more, or is another version now."""


@dataclass(frozen=True, slots=True)
class Object:
    """`etag` as the store writes it, quotes included."""

    key: str
    etag: str
    size: int
    modified: datetime

    @property
    def version(self) -> str:
        """Another one where the content is: times have steps of a second, or change where nothing else did."""
        return f"{self.etag} {self.size}"


class Store:
    """Use `opened`."""

    def __init__(self, client: Any, place: Place) -> None:
        self._client = client
        self.place = place

    @classmethod
    @asynccontextmanager
    async def opened(cls, place: Place, allowed: AllowedHosts) -> AsyncIterator[Store]:
        """Connects to nothing yet. Raises BadRequest where the endpoint is not one that may be connected to."""
        allowed.judge(place.url)
        async with AsyncExitStack() as stack:
            made = await asyncio.to_thread(_made, place, allowed)
            yield cls(await stack.enter_async_context(made), place)

    async def buckets(self) -> list[str]:
        """Raises StoreAway, StoreRefuses, BadRequest."""
        found = await self._asked(self._client.list_buckets())
        return sorted(str(one["Name"]) for one in found.get("Buckets", ()))

    async def pages(self, bucket: str, prefix: str) -> AsyncIterator[list[Object]]:
        """All objects in the order of their keys. Raises StoreAway, StoreRefuses, BadRequest."""
        more: dict[str, str] = {}
        while True:
            found = await self._asked(
                self._client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=PAGE, **more)
            )
            yield [
                Object(
                    str(one["Key"]),
                    str(one.get("ETag", "")),
                    int(one["Size"]),
                    one.get("LastModified") or datetime.fromtimestamp(0, UTC),
                )
                for one in found.get("Contents", ())
            ]
            if not found.get("IsTruncated"):
                return
            more = {"ContinuationToken": found["NextContinuationToken"]}

    async def read(self, bucket: str, object: Object) -> AsyncIterator[bytes]:
        """Its bytes, of exactly this version. A connection that breaks is taken up where it broke.

        Raises ObjectGone, StoreAway, StoreRefuses, BadRequest.
        """
        taken = 0
        for attempt in range(_TRIES):
            more = {"Range": f"bytes={taken}-"} if taken else {}
            try:
                found = await self._asked(
                    self._client.get_object(Bucket=bucket, Key=object.key, IfMatch=object.etag, **more)
                )
                async with found["Body"] as body:
                    while block := await body.read(_BLOCK):
                        taken += len(block)
                        yield block
                if taken == object.size:
                    return
                raise StoreAway("the object ended before its end")
            except (ObjectGone, StoreRefuses, PipitError):
                raise
            except Exception as error:  # whatever the client raises while it reads
                if attempt == _TRIES - 1:
                    raise error if isinstance(error, StoreAway) else _away(error) from None
            await asyncio.sleep(0.2 * 2**attempt)

    async def answers(self, bucket: str) -> None:
        """Raises StoreAway, StoreRefuses where the bucket cannot be listed now."""
        await self._asked(self._client.list_objects_v2(Bucket=bucket, MaxKeys=1))

    async def upload(self, bucket: str, key: str, chunks: AsyncIterator[bytes]) -> int:
        """An object of these bytes, in one step for who reads the bucket. Its size.

        Raises StoreAway, StoreRefuses, and what the chunks raise: then nothing is changed.
        """
        held, size, upload = bytearray(), 0, ""
        parts: list[dict[str, Any]] = []
        where = {"Bucket": bucket, "Key": key}
        try:
            async for chunk in chunks:
                held += chunk
                size += len(chunk)
                while len(held) > _PART:
                    upload = upload or (await self._asked(self._client.create_multipart_upload(**where)))["UploadId"]
                    parts.append(await self._part(where, upload, len(parts) + 1, bytes(held[:_PART])))
                    del held[:_PART]
            if not upload:
                await self._asked(self._client.put_object(**where, Body=bytes(held)))
                return size
            parts.append(await self._part(where, upload, len(parts) + 1, bytes(held)))
            await self._asked(
                self._client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
            )
        except BaseException:
            if upload:
                with suppress(Exception):
                    await self._asked(self._client.abort_multipart_upload(**where, UploadId=upload))
            raise
        return size

    async def _part(self, where: Mapping[str, str], upload: str, number: int, body: bytes) -> dict[str, Any]:
        found = await self._asked(
            self._client.upload_part(**where, UploadId=upload, PartNumber=number, Body=body)
        )
        return {"PartNumber": number, "ETag": found["ETag"]}

    async def _asked(self, call: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return await call
        except ClientError as error:
            raise _meant(error.response) from None
        except BotoCoreError as error:
            inner = getattr(error, "kwargs", {}).get("error")
            if isinstance(inner, PipitError):
                raise inner from None
            raise _away(inner or error) from None
        except PipitError:
            raise
        except Exception as error:  # whatever the client makes of an answer that is none of S3's
            raise _away(error) from None


class _Guard(AbstractResolver):
    """Lets through connections to the endpoint's host and port alone, whatever an answer leads to."""

    def __init__(self, allowed: AllowedHosts, place: Place) -> None:
        self._judging = resolver(allowed, place.url)
        self._of_aws = not place.endpoint
        self._host, self._port = (place.url.raw_host or "").lower(), place.url.port
        self._known: set[str] = set()
        with suppress(ValueError):
            self._known.add(str(ipaddress.ip_address(self._host)))

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        name = host.lower().rstrip(".")
        mine = name == self._host or name.endswith(f".{self._host}")  # the bucket may stand before it
        if not mine and not (self._of_aws and name.endswith((".amazonaws.com", ".amazonaws.com.cn"))):
            raise _elsewhere()
        found = await self._judging.resolve(host, port, family)
        self._known.update(str(ipaddress.ip_address(one["host"].partition("%")[0])) for one in found)
        return found

    def socket(self, address: AddrInfoType) -> socket.socket:
        """For each connection, also to an address that no name was resolved for."""
        family, kind, proto, _, place = address
        if str(ipaddress.ip_address(str(place[0]).partition("%")[0])) not in self._known or place[1] != self._port:
            raise _elsewhere()
        return socket.socket(family, kind, proto)

    async def close(self) -> None:
        """It holds nothing."""


def _elsewhere() -> BadRequest:
    return BadRequest("The store leads to another host", reason=Reason.URL_REFUSED, subject="S3_ENDPOINT")


def _made(place: Place, allowed: AllowedHosts) -> Any:
    """The client, not opened yet. The library is large, and is loaded by who has a bucket only."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

    guard = _Guard(allowed, place)
    config = AioConfig(
        connector_args={"resolver": guard, "socket_factory": guard.socket, "use_dns_cache": False},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"total_max_attempts": _TRIES, "mode": "standard"},
        max_pool_connections=_CONNECTIONS,
        signature_version="s3v4",
        s3={"addressing_style": "path" if place.path_style else "auto"},
        # Stores that only resemble S3 refuse the newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        proxies={},
        user_agent="pipit",
    )
    return AioSession().create_client(
        "s3",
        region_name=place.region,
        endpoint_url=place.endpoint or None,
        aws_access_key_id=place.key,
        aws_secret_access_key=place.secret,
        config=config,
    )


def _meant(response: Any) -> Exception:
    error = response.get("Error", {})
    code = str(error.get("Code", ""))[:80]
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in ("NoSuchKey", "PreconditionFailed", "InvalidObjectState") or status == 412:
        return ObjectGone(code)
    if status >= _AWAY_STATUS or code in ("SlowDown", "RequestTimeout", "TooManyRequests") or status == 429:
        return StoreAway(f"the store answers {status} ({code})")
    if code in ("404", "NoSuchBucket"):
        return StoreRefuses(f"there is no such bucket ({code})")
    if status in _DENIED:
        return StoreRefuses(f"the store refuses the request: {code}")
    return StoreRefuses(f"the store answers {status} ({code})")


def _away(error: BaseException) -> Exception:
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, BadRequest):  # the address is one that nothing is connected to
            return found
        found = found.__cause__ or found.__context__
    return StoreAway(f"the store does not answer ({type(error).__name__})")
