"""Who may ask the demo's own routes at all, before any token is looked at.

They hand out tokens for sample data, or show what runs for another viewer, on somebody's own machine. So no other web
site may use the visitor's browser to reach them:

- a name in `Host` that is not this machine's is a web site that points its own name here (DNS rebinding): to the
  browser it is then one site with this page, and only `Host` tells them apart;
- `Origin` and `Sec-Fetch-Site` tell what the browser knows of who asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from starlette.requests import Request

from pipit.errors import Forbidden

# What a browser or a command on this machine sends. A proxy adds headers of its own (Forwarded, CF-Connecting-IP,
# True-Client-IP, ...), and nobody knows all of them: whatever is not here came from one.
_STRAIGHT = frozenset(
    {"accept", "accept-encoding", "accept-language", "authorization", "cache-control", "connection", "content-length"}
    | {"content-type", "cookie", "dnt", "host", "origin", "pragma", "priority", "referer", "te", "transfer-encoding"}
    | {"upgrade-insecure-requests", "user-agent"}
)


def check_site(request: Request, *, name: str = "") -> None:
    """The page itself or no page at all asks, under an address or a name of this machine (`name`: one more).

    Raises Forbidden.
    """
    host = _host_name(request)
    if not (host and (host in ("localhost", name) or _is_address(host))):
        raise Forbidden("The demo does not answer to this name", hint="Open it as http://localhost:PORT/demo.")
    origins = request.headers.getlist("origin")
    own = f"{request.url.scheme}://{request.headers['host']}"
    if any(origin != own for origin in origins) or not _is_same_site(request.headers.getlist("sec-fetch-site")):
        raise Forbidden("The demo is for its own page")


def check_local(request: Request) -> None:
    """A client on this machine asks, straight and not through a proxy, under a loopback name. Raises Forbidden."""
    check_site(request)
    host = _host_name(request)
    local = request.client is not None and _is_loopback(request.client.host)
    straight = all(name in _STRAIGHT or name.startswith("sec-") for name in request.headers)
    if not local or not (host == "localhost" or _is_loopback(host)) or not straight:
        raise Forbidden("This part of the demo is for this machine only")


def _host_name(request: Request) -> str:
    """The name or address in the one Host header, without port and brackets; empty where there is not one."""
    hosts = request.headers.getlist("host")
    if len(hosts) != 1:
        return ""
    name, _, port = hosts[0].rpartition(":") if not hosts[0].endswith("]") else (hosts[0], "", "")
    host = name if name and port.isdecimal() else hosts[0]
    return host.removeprefix("[").removesuffix("]").lower()


def _is_same_site(sites: Iterable[str]) -> bool:
    return all(site in ("same-origin", "none") for site in sites)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return _is_address(host) and ip_address(host).is_loopback
