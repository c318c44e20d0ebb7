"""What a request sent and what its token fixes become the values of one render. The token wins, silently.

Names are compared exactly: `Tenant_ID` and `tenant_id[]` are other names than `tenant_id`, which a template
that does not know them ignores. A list may be sent as one value or as several of one name, in order: `ids=a&ids=b`.
Anything else that a request says twice is refused, whatever the token: two programs could read it differently.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from pipit import jsontext
from pipit.access.context import Scalar
from pipit.errors import BadRequest, Reason, TooLarge
from pipit.templates import RequestValue
from pipit.templates.parameters import is_reserved

MAX_PARAMETERS = 1_000
MAX_NAME_CHARACTERS = 1_024
MAX_VALUE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SentParameter:
    """One value as it was sent. `source` is query, form or json; `value` is text, or what JSON has."""

    source: str
    name: str
    value: object


@dataclass(frozen=True, slots=True)
class RequestParams:
    """All that a request sent, in order, repeated names kept."""

    sent: tuple[SentParameter, ...] = ()


def merge(request: RequestParams, fixed: Mapping[str, Scalar], lists: Container[str] = ()) -> dict[str, RequestValue]:
    """Name -> the value that the template sees; `lists` names the parameters that take several. Raises BadRequest,
    TooLarge."""
    if len(request.sent) > MAX_PARAMETERS:
        raise BadRequest(f"The request has more than {MAX_PARAMETERS} parameters", reason=Reason.TOO_MANY_PARAMETERS)
    sent: dict[str, list[RequestValue | None]] = {}
    for parameter in request.sent:
        name = parameter.name
        if len(name) > MAX_NAME_CHARACTERS:
            raise BadRequest(
                f"The name of a parameter is longer than {MAX_NAME_CHARACTERS} characters",
                reason=Reason.PARAMETER_INVALID,
            )
        if name in fixed:
            continue
        if name in sent and name not in lists and not is_reserved(name):
            raise BadRequest(
                f"The parameter '{_shown(name)}' is given more than once",
                hint="Send it once, in the URL or in the body. "
                "Only a list (Array, split_to_array, columns) takes several values.",
                reason=Reason.PARAMETER_REPEATED,
                subject=name,
            )
        sent.setdefault(name, []).append(_request_value(name, parameter.value))
    values: dict[str, RequestValue] = {}
    for name, found in sent.items():
        value = found[0] if len(found) == 1 else _joined(name, found) if name in lists else found[-1]
        if value is not None:  # JSON's null is the dialect's absent
            values[name] = value
    values.update(fixed)
    return values


def _joined(name: str, values: Sequence[RequestValue | None]) -> RequestValue:
    """Several values of one list: each a single element, also if a comma is in it; a list of JSON adds its elements."""
    whole: list[RequestValue] = []
    for value in values:
        whole += value if isinstance(value, list) else [] if value is None else [value]
    if len(jsontext.encode(whole)) > MAX_VALUE_BYTES:
        raise _too_large(name)
    return whole


def _request_value(name: str, value: object) -> RequestValue | None:
    """The value as it was sent: what a list's elements or an object are to a type, `templates` says."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _check_text(name, value)
    if isinstance(value, list | dict):
        _check_text(name, jsontext.text(value))
        return value
    raise BadRequest(f"The parameter '{_shown(name)}' has no value", reason=Reason.PARAMETER_INVALID, subject=name)


def _check_text(name: str, text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise BadRequest(
            f"The parameter '{_shown(name)}' is not valid text: it has half a character",
            reason=Reason.PARAMETER_INVALID,
            subject=name,
        ) from None
    if size > MAX_VALUE_BYTES:
        raise _too_large(name)
    return text


def _too_large(name: str) -> TooLarge:
    return TooLarge(
        f"The parameter '{_shown(name)}' is larger than {MAX_VALUE_BYTES} bytes",
        reason=Reason.PARAMETER_TOO_LARGE,
        subject=name,
    )


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:100])
