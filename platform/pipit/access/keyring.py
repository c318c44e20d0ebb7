"""All secrets that a request's token is checked against, as one immutable picture.

The catalog builds a new one on every change; nobody changes one. A keyring never holds two tokens of the
same text, nor a workspace without a real secret, nor two issuers whose tokens cannot be told apart: each would let a
token mean more than one thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pipit.access.context import Scope, SecurityContext, TokenKind
from pipit.access.issuers import TrustedIssuer, accepts_audience, check_unambiguous
from pipit.access.tokens import check_admin_token, digest
from pipit.errors import BadRequest, Reason

ADMIN_NAME = "workspace admin token"


@dataclass(frozen=True, slots=True)
class WorkspaceKey:
    """A workspace and its secret: the text of its admin token, which is also the key of its JWTs."""

    id: str
    name: str
    admin_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StaticToken:
    workspace_id: str
    id: str
    name: str
    token: str = field(repr=False)
    scopes: tuple[Scope, ...] = ()
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Keyring:
    """A new one with every change: what was learned under another keyring, that very object, is worth nothing."""

    workspaces: Mapping[str, WorkspaceKey]
    _static: Mapping[bytes, SecurityContext] = field(default_factory=dict, repr=False)
    _issuers: Mapping[str, tuple[TrustedIssuer, ...]] = field(default_factory=dict)  # by `iss`
    _own: Mapping[str, tuple[TrustedIssuer, ...]] = field(default_factory=dict)  # by workspace, those without `iss`

    @classmethod
    def build(
        cls,
        workspaces: Iterable[WorkspaceKey],
        static: Iterable[StaticToken],
        issuers: Iterable[TrustedIssuer] = (),
    ) -> Keyring:
        """Raises BadRequest on a weak secret, and on a secret that stands for two tokens; Conflict on issuers
        that cannot be told apart."""
        keys: dict[str, WorkspaceKey] = {}
        found: dict[bytes, SecurityContext] = {}

        def add(text: str, security: SecurityContext) -> None:
            known = digest(text)
            if known in found:
                raise BadRequest(
                    f"The tokens '{found[known].name}' and '{security.name}' have the same text",
                    hint="Each token needs a secret of its own: refresh one of them.",
                    reason=Reason.TOKEN_SECRET_UNFIT,
                )
            found[known] = security

        for key in workspaces:
            check_admin_token(key.admin_token, of=f"{ADMIN_NAME} of {key.name}")
            if not key.id or key.id in keys:
                raise BadRequest(f"The workspace id '{key.id}' of '{key.name}' is empty or taken")
            keys[key.id] = key
            add(key.admin_token, SecurityContext(key.id, TokenKind.ADMIN, ADMIN_NAME))
        for token in static:
            if token.workspace_id not in keys:
                continue  # a token of a workspace that is gone opens nothing
            check_admin_token(token.token, of=token.name)
            security = SecurityContext(
                token.workspace_id, TokenKind.STATIC, token.name, token.scopes, environment=token.environment
            )
            add(token.token, security)
        trusted = [one for one in issuers if one.workspace_id in keys]
        check_unambiguous(one.issuer for one in trusted)
        by_iss: dict[str, tuple[TrustedIssuer, ...]] = {}
        own: dict[str, tuple[TrustedIssuer, ...]] = {}
        for one in trusted:
            if one.issuer.issuer:
                by_iss[one.issuer.issuer] = (*by_iss.get(one.issuer.issuer, ()), one)
            else:
                own[one.workspace_id] = (*own.get(one.workspace_id, ()), one)
        return cls(
            MappingProxyType(keys),
            MappingProxyType(found),
            MappingProxyType(by_iss),
            MappingProxyType(own),
        )

    def issuers_for(self, claims: Mapping[str, Any]) -> Sequence[TrustedIssuer]:
        """Whose keys may have signed a token that claims this: by `iss` and `aud`, else by `workspace_id`.

        A token that several registrations of its `iss` could take gets none of them.
        """
        workspace, iss = claims.get("workspace_id"), claims.get("iss")
        if "iss" in claims and iss not in ("pipit", workspace):
            found = self._issuers.get(iss, ()) if isinstance(iss, str) else ()
            found = tuple(one for one in found if accepts_audience(one.issuer, claims.get("aud")))
            return found if len(found) == 1 else ()
        return self._own.get(workspace, ()) if isinstance(workspace, str) else ()

    def find(self, text: str) -> SecurityContext | None:
        """The admin or static token of exactly this text.

        Compared by hash: whoever guesses cannot steer a hash, so the time of the look-up tells nothing of a
        secret.
        """
        return self.find_by(digest(text))

    def find_by(self, key: bytes) -> SecurityContext | None:
        """The same by the token's `digest`."""
        return self._static.get(key)
