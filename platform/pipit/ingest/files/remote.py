"""A file at a URL, for a server that must not be turned against its own network.

Only http and https, only hosts of the allow-list, only addresses of the public internet: a name is resolved once, each
of its addresses is judged, and the connection goes to these and to no other, so a name cannot come to mean something
else between the look and the call. The same for each redirect. Other forms of private addresses (IPv4 in IPv6, NAT64,
6to4, Teredo, numbers without dots) are judged by what they lead to. No proxy, no cookie, no credentials go along.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from pipit.errors import BadRequest, Reason

_REDIRECTS = 5
_ATTEMPTS = 5
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 30.0  # without a byte
_TOTAL_SECONDS = 6 * 3600.0
_BLOCK = 1 << 18
_UNICAST = ipaddress.ip_network("2000::/3")  # the only addresses of IPv6 that are given out
# Addresses for books, and those that relays from IPv4 to IPv6 had.
_NEVER = (ipaddress.ip_network("3fff::/20"), ipaddress.ip_network("192.88.99.0/24"))
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_HINT = "Fetch the file yourself and send it, or let the server's operator allow the host (PIPIT_URL_HOSTS)."

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """`hosts`: names, `*.name` or `*`, with or without a port. `private`: hosts that may be in a private network."""

    hosts: Sequence[str] = ("*",)
    private: Sequence[str] = ()

    def judge(self, url: yarl.URL) -> None:
        """Before anything is resolved. Raises BadRequest."""
        if url.scheme not in ("http", "https"):
            raise _refused("A file is fetched by http or https only")
        if url.user is not None or url.password is not None:
            raise _refused("The URL holds a user or a password")
        if not url.raw_host:
            raise _refused("The URL names no host")
        if not (_matches(url, self.hosts) or _matches(url, self.private)):
            raise _refused(f"The host '{url.raw_host[:100]}' is not one that files are fetched from", hint=_HINT)
        literal = _literal(url.raw_host)
        if literal is not None and not self.may_be_private(url):
            judge_address(literal)

    def may_be_private(self, url: yarl.URL) -> bool:
        return _matches(url, self.private)


def _matches(url: yarl.URL, patterns: Sequence[str]) -> bool:
    host = (url.raw_host or "").lower().rstrip(".")
    return any(fnmatchcase(name, p.lower()) for p in patterns for name in (host, f"{host}:{url.port}"))


def judge_address(address: Address) -> None:
    """Raises BadRequest for one that is not of the public internet, in whatever form."""
    if not all(map(_is_public, _meant(address))):
        raise _refused("The address is not one of the public internet", hint=_HINT)


def _is_public(address: Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if any(address in network for network in _NEVER if network.version == address.version):
        return False
    # Python counts what is set aside, such as fec0::/10, as global: what may be asked is named instead.
    return address.version == 4 or address in _UNICAST


def _meant(address: Address) -> list[Address]:
    """The address, and the IPv4 address that it leads to."""
    found: list[Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return [address.ipv4_mapped]
        if address.sixtofour:
            found.append(address.sixtofour)
        if address.teredo:
            found += address.teredo
        if any(address in network for network in _NAT64) or int(address) >> 32 == 0:
            found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


class _Judging(AbstractResolver):
    """Resolves a name, and hands on only addresses that were judged: all of them, or none."""

    def __init__(self, allowed: AllowedHosts, url: yarl.URL) -> None:
        self._private = allowed.may_be_private(url)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        results: list[ResolveResult] = []
        for kind, _, proto, _, place in found:
            address = ipaddress.ip_address(str(place[0]).partition("%")[0])
            if not self._private:
                judge_address(address)
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(place[0]),
                    port=port,
                    family=kind,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        return results

    async def close(self) -> None:
        """It holds nothing."""


def resolver(allowed: AllowedHosts, url: yarl.URL) -> AbstractResolver:
    """For a client of another protocol over HTTP, which connects to this URL's host: `allowed.judge` it before."""
    return _Judging(allowed, url)


async def fetched(url: str, allowed: AllowedHosts) -> AsyncIterator[bytes]:
    """The bytes at a URL, as they are. A connection that breaks is taken up again where it broke, if the server can.

    Raises BadRequest; its text names no address and nothing of an answer.
    """
    place = _parsed(url)
    taken, mark = 0, ""
    for attempt in range(_ATTEMPTS):
        try:
            async for block, found in _once(place, allowed, taken, mark):
                mark = found
                taken += len(block)
                yield block
            return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # What came is not sent again, so without a mark of the very same file there is no going on.
            if attempt == _ATTEMPTS - 1 or _is_final(error) or (taken and not mark):
                raise _unreachable(error) from None
        await asyncio.sleep(min(2.0**attempt / 2, 8))


def _is_final(error: Exception) -> bool:
    """No host is meant, or there is none of this name: that is so the next time, too."""
    no_name = isinstance(error, aiohttp.ClientConnectorDNSError) and error.os_error.errno == socket.EAI_NONAME
    return no_name or isinstance(error, aiohttp.InvalidURL)


async def _once(place: yarl.URL, allowed: AllowedHosts, start: int, mark: str) -> AsyncIterator[tuple[bytes, str]]:
    headers = {"Accept-Encoding": "identity", "User-Agent": "pipit"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": mark}
    for _ in range(_REDIRECTS + 1):
        allowed.judge(place)
        timeout = aiohttp.ClientTimeout(total=_TOTAL_SECONDS, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
        connector = aiohttp.TCPConnector(resolver=_Judging(allowed, place), use_dns_cache=False, force_close=True)
        async with (
            aiohttp.ClientSession(
                connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            ) as session,
            session.get(place, allow_redirects=False, headers=headers) as response,
        ):
            if response.status in (301, 302, 303, 307, 308):
                place = _next(place, response.headers.get("Location", ""))
                continue
            if response.status != (206 if start else 200) or not _continues(response, start):
                raise BadRequest(f"The URL answered {response.status}", reason=Reason.URL_UNREACHABLE)
            tag = response.headers.get("ETag", "")
            found = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
            async for block in response.content.iter_chunked(_BLOCK):
                yield block, found
            return
    raise BadRequest(f"The URL redirects more than {_REDIRECTS} times", reason=Reason.URL_UNREACHABLE)


def _continues(response: aiohttp.ClientResponse, start: int) -> bool:
    return not start or response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _next(place: yarl.URL, location: str) -> yarl.URL:
    try:
        found = place.join(yarl.URL(location))
    except ValueError:
        raise BadRequest("The URL redirects to something that is no URL", reason=Reason.URL_UNREACHABLE) from None
    if place.scheme == "https" and found.scheme != "https":
        raise _refused("The URL redirects from https to http")
    return found


def _parsed(url: str) -> yarl.URL:
    try:
        found = yarl.URL(url)
        _ = found.port  # what is wrong with it shows here
    except ValueError:
        raise BadRequest("The URL cannot be read", reason=Reason.PARAMETER_INVALID, subject="url") from None
    return found


def checked(url: str, allowed: AllowedHosts) -> str:
    """What may be shown of it: without its query, which may hold a signature. Raises BadRequest."""
    place = _parsed(url)
    allowed.judge(place)
    return str(place.with_query(None).with_fragment(None))


def _refused(message: str, *, hint: str = "") -> BadRequest:
    return BadRequest(message, hint=hint, reason=Reason.URL_REFUSED, subject="url")


def _unreachable(error: Any) -> BadRequest:
    return BadRequest(
        f"The URL cannot be fetched to its end ({type(error).__name__})",
        hint="See whether it can be fetched from where the server runs.",
        reason=Reason.URL_UNREACHABLE,
    )
