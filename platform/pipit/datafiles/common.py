"""What data sources, pipes and connections share: directives by name, tokens, tags, descriptions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipit.datafiles import values
from pipit.datafiles.directives import Directive
from pipit.datafiles.resources import TokenGrant, WarningKind
from pipit.datafiles.source import ParseReport
from pipit.errors import Reason

_ONCE = frozenset(
    {"SCHEMA", "SQL", "ENGINE", "TYPE", "ROW_POLICY", "ROW_POLICY_OPTIONAL", "FIXED_PARAMS", "DATASOURCE"}
)
_MANY = frozenset({"TOKEN", "NODE"})


def by_name(report: ParseReport, directives: Iterable[Directive], where: str = "this file") -> dict[str, Directive]:
    """The directives that may stand once, by name. Twice is an error where it would change what runs."""
    found: dict[str, Directive] = {}
    for directive in directives:
        if directive.name in _MANY:
            continue
        if directive.name in found:
            first = report.position(found[directive.name].offset)
            message = f"{directive.name} is given twice in {where}, first in {first}"
            if directive.name in _ONCE:
                report.error(message, directive.offset, "Keep one of them.")
                continue
            report.warn(
                f"{message}; this one counts", directive.offset, "Keep one of them.", kind=WarningKind.GIVEN_TWICE
            )
        found[directive.name] = directive
    return found


def plain(report: ParseReport, directive: Directive | None) -> str:
    """A plain value, its quotes taken off. Empty if the directive is not there or its quotes are not closed."""
    if directive is None:
        return ""
    if directive.block:
        return directive.text
    value = values.unquoted(directive.text)
    if value is None:
        report.error("The quote is not closed", directive.first, f'{directive.name} "value"')
        return ""
    return value


def description(directive: Directive | None) -> str:
    if directive is None:
        return ""
    return directive.text if directive.block else values.free_text(directive.text)


def names_list(report: ParseReport, directive: Directive | None, *, lines: bool = False) -> tuple[str, ...]:
    """A comma list of names, without quotes, empty items and repeats."""
    if directive is None:
        return ()
    text = directive.text if directive.block else values.expression(directive.text)
    items = [values.free_text(item).strip() for item, _ in values.split_list(text, lines=lines)]
    return tuple(dict.fromkeys(item for item in items if item))


def tokens(report: ParseReport, directives: Iterable[Directive], kind: str) -> tuple[TokenGrant, ...]:
    """`TOKEN name READ|APPEND`, in order, each grant once."""
    found: dict[TokenGrant, None] = {}
    for directive in directives:
        if directive.name != "TOKEN":
            continue
        parts = values.words(directive.text)
        if parts is None:
            report.error("The quote is not closed", directive.first, 'TOKEN "name" READ')
            continue
        if len(parts) < 2:
            form = "TOKEN name READ" if kind == "pipe" else "TOKEN name READ, or TOKEN name APPEND"
            report.error("TOKEN needs a name and a permission", directive.offset, form, reason=Reason.DIRECTIVE_INVALID)
            continue
        # A name of several words may stand unquoted; the permission is the last word.
        name = " ".join(word for word, _ in parts[:-1])
        permission, at = parts[-1]
        place = directive.first + at
        _check_name(report, directive, parts[:-1], permission)
        if permission.upper() == "CREATE":
            report.warn(
                "TOKEN ... CREATE is Classic and ignored",
                directive.offset,
                "Deployments create data sources.",
                kind=WarningKind.CLASSIC_IGNORED,
            )
        elif permission.upper() not in ("READ", "APPEND"):
            report.error(
                f"Invalid permission: {permission}. Only READ and APPEND are supported",
                place,
                reason=Reason.DIRECTIVE_INVALID,
            )
        elif kind == "pipe" and permission.upper() == "APPEND":
            report.error(
                f"Invalid permission APPEND for token {name}. Only READ is allowed for pipes",
                place,
                reason=Reason.DIRECTIVE_INVALID,
            )
        else:
            found[TokenGrant(name, permission.upper())] = None
    return tuple(found)


def _check_name(report: ParseReport, directive: Directive, words: Sequence[tuple[str, int]], permission: str) -> None:
    """A name of several bare words is taken, but a permission or `token` among them is hardly meant as a part of it."""
    if len(words) < 2:
        return
    name = " ".join(word for word, _ in words)
    for word, at in words[1:]:
        if word.upper() in ("READ", "APPEND", "CREATE", "TOKEN"):
            report.warn(
                f"'{word}' stands inside of the token's name, which is '{name}' here",
                directive.first + at,
                f'Take the word out, or write TOKEN "{name}" {permission.upper()} if that is the name.',
                kind=WarningKind.ODD_TOKEN_NAME,
            )
            return


def one_of(
    report: ParseReport, directive: Directive, value: str, allowed: Mapping[str, str], *, otherwise: str | None = None
) -> str:
    """The allowed value of another case, or an error that lists them. A secret's placeholder passes.

    `otherwise` is what counts, with a warning, where the dialect takes any value.
    """
    if is_secret(value) or not value:
        return value
    known = allowed.get(value.lower())
    if known is None:
        listed = ", ".join(dict.fromkeys(allowed.values()))
        if otherwise is not None:
            message = f"'{value}' is no value of {directive.name} that we know: it counts as {otherwise}"
            report.warn(message, directive.first, f"One of {listed}.", kind=WarningKind.UNKNOWN_VALUE)
            return otherwise
        report.error(
            f"Invalid value '{value}' for {directive.name}",
            directive.first,
            f"One of {listed}.",
            reason=Reason.DIRECTIVE_INVALID,
        )
        return value
    return known


def is_secret(value: str) -> bool:
    """Whether the value (or a part of it) is still a `{{ tb_secret(...) }}` to be filled in at deploy time."""
    return "{{" in value


def choices(*allowed: str) -> dict[str, str]:
    return {value.lower(): value for value in allowed}
