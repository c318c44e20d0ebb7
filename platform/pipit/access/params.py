"""What a request sent and what its token fixes become the values of one render. The token wins, silently.

Names are compared exactly: `Tenant_ID` and `tenant_id[]` are other names than `tenant_id`, which a template
that does not know them ignores. A tenant's request that says one thing twice is refused (two programs could
read it differently); a workspace's own token has the dialect's way: the last one counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pipit.access.context import Scalar, SecurityContext
from pipit.errors import BadRequest, TooLarge
from pipit.templates import RequestValue

MAX_PARAMETERS = 1_000
MAX_NAME_CHARACTERS = 1_024
MAX_VALUE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value as it was sent. `source` is query, form or json; `value` is text, or what JSON has."""

    source: str
    name: str
    value: object


@dataclass(frozen=True, slots=True)
class RequestParams:
    """All that a request sent, in order, repeated names kept."""

    sent: tuple[Parameter, ...] = ()


def merge(
    request: RequestParams, fixed: Mapping[str, Scalar], security: SecurityContext
) -> dict[str, RequestValue]:
    """Name -> the value that the template sees. Raises BadRequest, TooLarge."""
    if len(request.sent) > MAX_PARAMETERS:
        raise BadRequest(f"The request has more than {MAX_PARAMETERS} parameters")
    values: dict[str, RequestValue] = {}
    seen: set[str] = set()
    for parameter in request.sent:
        name = parameter.name
        if len(name) > MAX_NAME_CHARACTERS:
            raise BadRequest(f"The name of a parameter is longer than {MAX_NAME_CHARACTERS} characters")
        if name in fixed:
            continue
        if name in seen and security.is_tenant:
            raise BadRequest(
                f"The parameter '{_shown(name)}' is given more than once",
                hint="Send it once, in the URL or in the body. An array is one value: a,b,c.",
            )
        seen.add(name)
        value = _request_value(name, parameter.value)
        if value is None:
            values.pop(name, None)  # JSON's null is the dialect's absent
        else:
            values[name] = value
    values.update(fixed)
    return values


def _request_value(name: str, value: object) -> RequestValue | None:
    """The value as it was sent: what a list's elements or an object are to a type, `templates` says."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _check_text(name, value)
    if isinstance(value, list | dict):
        _check_text(name, json.dumps(value, ensure_ascii=False))
        return value
    raise BadRequest(f"The parameter '{_shown(name)}' has no value")


def _check_text(name: str, text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise BadRequest(
            f"The parameter '{_shown(name)}' is not valid text: it has half a character"
        ) from None
    if size > MAX_VALUE_BYTES:
        raise _too_large(name)
    return text


def _too_large(name: str) -> TooLarge:
    return TooLarge(f"The parameter '{_shown(name)}' is larger than {MAX_VALUE_BYTES} bytes")


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:100])
