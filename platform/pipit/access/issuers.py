"""Who else may sign a workspace's tokens: the team's own key pair, or its identity provider (OIDC).

A registration without `scopes` is the team's own key: its tokens are JWTs as ours are, `workspace_id`, `scopes` and
all. One with `scopes` is an identity provider's: its tokens say who somebody is, the registration says what that
opens and which claim becomes which value. What such a token says about scopes itself counts for nothing: people can
often edit claims of theirs.

A token finds its registration by `iss` and `aud`, exactly; by nothing in its header, and never more than one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pipit.access.claims import MAX_ENTRIES, MAX_NAME, read_rps, read_scopes
from pipit.access.jwks import KeySet, VerifyingKey, check_url, read_keys
from pipit.errors import BadRequest, Conflict, Forbidden, Reason

MAX_ISSUERS = 20  # of a workspace

# A claim's name, exactly as it stands (it may hold dots), or the names on the way to a nested one.
ClaimPath = str | list[str]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Issuer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A registration, as it is kept and as the API shows it. Public keys only, so nothing in it is secret."""

    name: str
    issuer: str = ""  # `iss`
    audience: str = ""  # in `aud`
    jwks: dict[str, Any] | None = None
    jwks_url: str = ""
    scopes: list[dict[str, Any]] = []
    context: dict[str, ClaimPath] = {}
    fixed_params: dict[str, ClaimPath] = {}  # in every PIPES:READ of `scopes`
    fixed_values: dict[str, ClaimPath] = {}  # in every DATASOURCES:APPEND of `scopes`
    optional: list[str] = []  # keys of `context` that a token may lack
    token_name: ClaimPath = "sub"
    environment: ClaimPath = ""  # the claim that names it
    rps: int = 0

    @property
    def is_provider(self) -> bool:
        return bool(self.scopes)


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """A registration with its keys as they are known now."""

    workspace_id: str
    issuer: Issuer
    keys: KeySet


def read_issuer(document: Mapping[str, Any], name: str) -> Issuer:
    """A registration that can be kept. Raises BadRequest, with the reason."""
    try:
        issuer = msgspec.convert({**document, "name": name}, Issuer)
    except msgspec.ValidationError as error:
        raise BadRequest(
            f"The key's registration cannot be read: {error}", hint="See docs/tokens.md.", reason=Reason.KEY_INVALID
        ) from None
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"'{name[:80]}' is not a valid name of a key",
            hint="Letters, digits, '_', '.' and '-'.",
            reason=Reason.NAME_INVALID,
        )
    if (issuer.jwks is None) == (not issuer.jwks_url):
        raise BadRequest("A key needs either 'jwks' or 'jwks_url'", reason=Reason.KEY_INVALID)
    if issuer.jwks is not None:
        read_keys(issuer.jwks)
    else:
        check_url(issuer.jwks_url)
    for text in (issuer.issuer, issuer.audience):
        if len(text) > 1024 or not text.isprintable():
            raise BadRequest(
                "'issuer' and 'audience' are printable texts of at most 1024 characters", reason=Reason.KEY_INVALID
            )
    if issuer.issuer == "pipit":
        raise BadRequest(
            "'issuer' cannot be 'pipit'",
            hint="It is the 'iss' of the tokens, exactly as they have it.",
            reason=Reason.KEY_INVALID,
        )
    if issuer.audience and not issuer.issuer:
        raise BadRequest("An 'audience' needs an 'issuer'", reason=Reason.KEY_INVALID)
    return _check_provider(issuer) if issuer.is_provider else _check_own(issuer)


def _check_own(issuer: Issuer) -> Issuer:
    if any((issuer.context, issuer.fixed_params, issuer.fixed_values, issuer.environment, issuer.optional, issuer.rps)):
        raise BadRequest(
            "A key without 'scopes' takes no 'context', 'fixed_params', 'fixed_values', 'environment' or 'rps'",
            hint="Its tokens say all that themselves. Name the 'scopes' that tokens of an identity provider open.",
            reason=Reason.KEY_INVALID,
        )
    return issuer


def _check_provider(issuer: Issuer) -> Issuer:
    if not issuer.issuer or not issuer.audience:
        raise BadRequest(
            "A key with 'scopes' needs 'issuer' and 'audience'",
            hint="A provider signs tokens for many programs with one key: 'audience' says which are meant for you.",
            reason=Reason.KEY_INVALID,
        )
    paths = [*issuer.context.values(), *issuer.fixed_params.values(), *issuer.fixed_values.values(), issuer.token_name]
    if issuer.environment:
        paths.append(issuer.environment)
    if any(not path or not all(path) or len(path) > MAX_NAME for path in paths):
        raise BadRequest(
            "A claim is named by its text, or by a list of names on the way to it", reason=Reason.KEY_INVALID
        )
    if max(len(issuer.context), len(issuer.fixed_params), len(issuer.fixed_values)) > MAX_ENTRIES:
        raise BadRequest(f"At most {MAX_ENTRIES} claims can be mapped", reason=Reason.KEY_INVALID)
    if not set(issuer.optional) <= issuer.context.keys():
        raise BadRequest("'optional' names keys of 'context'", reason=Reason.KEY_INVALID)
    if issuer.rps < 0:
        raise BadRequest("'rps' cannot be negative", reason=Reason.KEY_INVALID)
    types = set()
    try:
        for scope in read_scopes(issuer.scopes):
            types.add(scope.type)
            if scope.fixed_params.keys() & issuer.fixed_params.keys():
                raise BadRequest(
                    f"A parameter of '{scope.resource}' is fixed twice, by the scope and by a claim",
                    reason=Reason.KEY_INVALID,
                )
            if scope.fixed_values.keys() & issuer.fixed_values.keys():
                raise BadRequest(
                    f"A column of '{scope.resource}' is fixed twice, by the scope and by a claim",
                    reason=Reason.KEY_INVALID,
                )
        read_rps({"rps": issuer.rps})
    except Forbidden as error:
        raise BadRequest(
            error.message.replace("The token", "The key"), hint=error.hint, reason=Reason.KEY_INVALID
        ) from None
    for type, field, mapped in (
        ("PIPES:READ", "fixed_params", issuer.fixed_params),
        ("DATASOURCES:APPEND", "fixed_values", issuer.fixed_values),
    ):
        if mapped and type not in types:
            raise BadRequest(f"'{field}' needs a scope {type}", reason=Reason.KEY_INVALID)
    return issuer


def translated(issuer: Issuer, claims: Mapping[str, Any]) -> dict[str, Any]:
    """What an identity provider's claims mean, in the form of our own payload. Raises Forbidden on a missing one."""
    fixed = {
        "PIPES:READ": ("fixed_params", _mapped(claims, issuer.fixed_params)),
        "DATASOURCES:APPEND": ("fixed_values", _mapped(claims, issuer.fixed_values)),
    }
    scopes = []
    for scope in issuer.scopes:
        field, values = fixed.get(scope["type"], ("", {}))
        scopes.append(scope | {field: {**scope.get(field, {}), **values}} if values else scope)
    meaning: dict[str, Any] = {
        "name": _claim(claims, issuer.token_name),
        "scopes": scopes,
        "context": _mapped(claims, issuer.context, issuer.optional),
        "limits": {"rps": issuer.rps},
    }
    if issuer.environment:
        meaning["environment"] = _claim(claims, issuer.environment)
    return meaning


def _mapped(
    claims: Mapping[str, Any], paths: Mapping[str, ClaimPath], optional: Sequence[str] = ()
) -> dict[str, Any]:
    return {
        key: _claim(claims, path)
        for key, path in paths.items()
        if key not in optional or _look(claims, path) is not _ABSENT
    }


_ABSENT = object()


def _look(claims: Mapping[str, Any], path: ClaimPath) -> Any:
    value: Any = claims
    for step in [path] if isinstance(path, str) else path:
        if not isinstance(value, Mapping) or step not in value:
            return _ABSENT
        value = value[step]
    return value


def _claim(claims: Mapping[str, Any], path: ClaimPath) -> Any:
    """A claim that must be there. An empty one is no value either: it would end as "no filter" somewhere."""
    value = _look(claims, path)
    if value is _ABSENT or value is None or value == "" or value == [] or value == {}:
        shown = path if isinstance(path, str) else ".".join(path)
        raise Forbidden(
            f"The token has no '{shown[:MAX_NAME]}'",
            hint="The workspace's key needs this claim of every token.",
            reason=Reason.CLAIM_INVALID,
        )
    return value


def accepts_audience(issuer: Issuer, aud: object) -> bool:
    """Whether `aud`, a text or a list of texts, names this registration's audience."""
    if not issuer.audience:
        return True
    return issuer.audience in aud if isinstance(aud, list) else aud == issuer.audience


def check_unambiguous(issuers: Iterable[Issuer]) -> None:
    """No two registrations of a server, of whatever workspace, may take the same token. Raises Conflict."""
    seen: dict[str, set[str]] = {}
    for issuer in issuers:
        if not issuer.issuer:
            continue
        audiences = seen.setdefault(issuer.issuer, set())
        if audiences and (not issuer.audience or "" in audiences or issuer.audience in audiences):
            raise Conflict(
                f"Tokens of the issuer '{issuer.issuer}' with this audience are registered already",
                hint="Give each registration of one issuer an 'audience' of its own.", reason=Reason.KEY_CONFLICT,
            )
        audiences.add(issuer.audience)


def chosen_key(
    candidates: Sequence[TrustedIssuer], kid: str | None, algorithm: str
) -> tuple[TrustedIssuer, VerifyingKey] | None:
    """The one key that a token's header means; None if there is none, or more than one."""
    found = [(one, key) for one in candidates if (key := one.keys.find(kid, algorithm)) is not None]
    return found[0] if len(found) == 1 else None
