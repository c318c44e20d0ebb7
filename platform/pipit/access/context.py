"""Who is asking, decided once per request and never changed: the immutable `SecurityContext`.

It decides, `query/` applies. Nothing that a request carries besides its token reaches this object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Scalar = str | int | float | bool
FixedValue = Scalar | tuple[Scalar, ...]  # what a column is set to


class TokenKind(StrEnum):
    ADMIN = "admin"  # the workspace's own admin token
    STATIC = "static"  # named in datafiles or made over HTTP; the workspace's own
    JWT = "jwt"  # a tenant's


@dataclass(frozen=True, slots=True)
class Scope:
    """`TYPE[:resource]`: PIPES:READ may fix params, DATASOURCES:READ filter, ...:APPEND fix columns."""

    type: str
    resource: str = ""
    filter: str = ""
    fixed_params: Mapping[str, Scalar] = field(default_factory=dict)
    fixed_values: Mapping[str, FixedValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SecurityContext:
    workspace_id: str
    kind: TokenKind
    name: str  # token name; rate limits and logs use it
    scopes: tuple[Scope, ...] = ()
    context: Mapping[str, Scalar | tuple[Scalar, ...]] = field(default_factory=dict)
    rps: int = 0  # 0: no limit
    environment: str = ""  # which database of the workspace the token opens; empty: the workspace's own
    staging: bool = False  # a JWT that says so may read the deployment that waits to be live

    @property
    def is_admin(self) -> bool:
        """All data of its workspace, or of its environment if it names one. A JWT never is, whatever its scopes say."""
        if self.kind is TokenKind.STATIC:
            return any(s.type in ("ADMIN", "ADMIN_USER") for s in self.scopes)
        return self.kind is TokenKind.ADMIN

    @property
    def may_read_staging(self) -> bool:
        """What waits to be live: the workspace's own tokens, and a tenant's whose issuer says so."""
        return not self.is_tenant or self.staging

    @property
    def manages_workspace(self) -> bool:
        """Also the workspace itself: deployments, tokens, secrets, settings, environments. They are no environment's:
        who could make a token could make one for any environment."""
        return self.is_admin and not self.environment

    @property
    def is_tenant(self) -> bool:
        """A JWT is a tenant's: policies apply, and the design's strict rules hold."""
        return self.kind is TokenKind.JWT

    def scopes_for(self, type: str, resource: str) -> tuple[Scope, ...]:
        """The scopes of this type that name this resource (exact name, case-sensitive)."""
        return tuple(s for s in self.scopes if s.type == type and s.resource == resource)
