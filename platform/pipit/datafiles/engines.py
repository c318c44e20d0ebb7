"""ENGINE and its options -> `TableEngine`, checked against the columns as far as no engine is needed for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pipit.datafiles import values
from pipit.datafiles.directives import Directive
from pipit.datafiles.resources import Column, Position, TableEngine, WarningKind
from pipit.datafiles.source import ParseReport
from pipit.datafiles.vocabulary import ENGINES
from pipit.errors import Reason
from pipit.suggest import closest, did_you_mean

# Those that make one row of several with the same sorting key, when they merge or with FINAL.
MERGING = frozenset(ENGINES) - {"MergeTree", "Null"}
_NEEDS_SORTING_KEY = ("ReplacingMergeTree", "CollapsingMergeTree", "VersionedCollapsingMergeTree")
_REQUIRED = {"CollapsingMergeTree": ("sign",), "VersionedCollapsingMergeTree": ("sign", "version")}
_COLUMN_OPTIONS = ("ver", "is_deleted", "sign", "version")
_OPTION_OF = {
    "ver": ("ReplacingMergeTree",),
    "is_deleted": ("ReplacingMergeTree",),
    "sign": ("CollapsingMergeTree", "VersionedCollapsingMergeTree"),
    "version": ("VersionedCollapsingMergeTree",),
    "columns": ("SummingMergeTree",),
}
_AGGREGATES = frozenset(
    {"any", "anyLast", "argMax", "argMin", "avg", "count", "groupArray", "groupUniqArray", "max", "median", "min"}
    | {"quantile", "quantileExact", "quantileTDigest", "quantiles", "stddevPop", "stddevSamp", "sum", "sumMap", "topK"}
    | {"uniq", "uniqCombined", "uniqCombined64", "uniqExact", "uniqHLL12", "uniqTheta", "varPop", "varSamp"}
)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CALL = re.compile(r"\b([A-Za-z_][A-Za-z0-9_]*)\s*\(")
_SETTING = re.compile(r"[a-z_][a-z0-9_]*")


def build_engine(
    report: ParseReport, given: Mapping[str, Directive], columns: Sequence[Column], *, implicit: bool
) -> TableEngine:
    """The engine of these directives. `implicit`: a connector adds columns that the schema need not list."""
    main = given.get("ENGINE")
    name, known = _name(report, main)
    if name == "ReplacingMergeTree" and "ENGINE_VERSION" in given and "ENGINE_VER" not in given:
        report.warn(
            "ENGINE_VERSION is of VersionedCollapsingMergeTree: it is taken as ENGINE_VER here",
            given["ENGINE_VERSION"].offset,
            "Write ENGINE_VER.",
            kind=WarningKind.TAKEN_AS_VER,
        )
        given = {("ENGINE_VER" if word == "ENGINE_VERSION" else word): one for word, one in given.items()}
    written = {name: values.expression(directive.text) for name, directive in given.items()}
    engine = TableEngine(
        name=name,
        sorting_key=written.get("ENGINE_SORTING_KEY", ""),
        partition_key=written.get("ENGINE_PARTITION_KEY", ""),
        primary_key=written.get("ENGINE_PRIMARY_KEY", ""),
        sampling_key=written.get("ENGINE_SAMPLING_KEY", ""),
        ttl=written.get("ENGINE_TTL", ""),
        ver=_bare(written.get("ENGINE_VER", "")),
        is_deleted=_bare(written.get("ENGINE_IS_DELETED", "")),
        sign=_bare(written.get("ENGINE_SIGN", "")),
        version=_bare(written.get("ENGINE_VERSION", "")),
        columns=written.get("ENGINE_COLUMNS", ""),
        settings=_settings(report, given.get("ENGINE_SETTINGS")),
        position=report.position(main.offset) if main else Position(),
    )
    if known:
        _check(report, engine, given, columns, implicit=implicit)
    return engine


def key_items(key: str) -> list[str]:
    """The expressions of a key: `a, b`, `(a, b)` and `tuple(a, b)` are the same; `tuple()` is none."""
    text = key.strip()
    inner = re.fullmatch(r"(?:tuple\s*)?\((.*)\)", text, re.DOTALL | re.IGNORECASE)
    if inner and _balanced(inner[1]):
        text = inner[1]
    return [item for item, _ in values.split_list(text)]


def _balanced(text: str) -> bool:
    """Whether the brackets of the text close only what it opened, so that `(a), (b)` is not taken for one list."""
    depth = 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if depth < 0:
            return False
    return depth == 0


def _name(report: ParseReport, directive: Directive | None) -> tuple[str, bool]:
    """The engine, and whether it is known which one is meant: else nothing can be said of its options."""
    if directive is None:
        return "MergeTree", True
    name = values.unquoted(directive.text) or ""
    known = {engine.lower(): engine for engine in ENGINES}
    if name.lower() in known:
        return known[name.lower()], True
    listed = ", ".join(ENGINES)
    if not name:
        report.error("ENGINE needs a name", directive.offset, f"One of {listed}.", reason=Reason.DIRECTIVE_MISSING)
    else:
        report.error(
            f"Engine {name} is not supported, supported engines include: {listed}",
            directive.first,
            _hint(name),
            reason=Reason.ENGINE_REFUSED,
            subject=name,
        )
    meant = closest(name, ENGINES)
    return meant or "MergeTree", bool(meant)


def _hint(name: str) -> str:
    """What to write instead."""
    if name.startswith("Replicated"):
        return f"Write {name.removeprefix('Replicated')}: replication is the server's business."
    if name == "Join":
        return (
            "A ReplacingMergeTree with its ENGINE_KEY_COLUMNS as ENGINE_SORTING_KEY holds the last row of each key: "
            "read it with LEFT ANY JOIN, instead of joinGet."
        )
    if "(" in name:
        return "Options of an engine have lines of their own, such as ENGINE_VER."
    return did_you_mean(name, ENGINES)


def _bare(name: str) -> str:
    """A column's name without the quotes that SQL would want."""
    text = name.strip()
    return text[1:-1] if len(text) > 2 and text[0] == text[-1] and text[0] in '`"' else text


def _settings(report: ParseReport, directive: Directive | None) -> dict[str, str]:
    """`name=value, name=value`; values stay as written."""
    found: dict[str, str] = {}
    if directive is None:
        return found
    for item, _ in values.split_list(values.expression(directive.text)):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not value or not _SETTING.fullmatch(name):
            report.error(f"'{item}' is not a setting", directive.first, "ENGINE_SETTINGS name=value, name=value")
        elif name in found:
            report.error(f"The setting '{name}' is given twice", directive.first, reason=Reason.NAME_TAKEN)
        else:
            found[name] = value
    return found


def _check(
    report: ParseReport,
    engine: TableEngine,
    given: Mapping[str, Directive],
    columns: Sequence[Column],
    *,
    implicit: bool,
) -> None:
    names = {column.name for column in columns}
    main = given.get("ENGINE")
    at = main.offset if main else None
    key = key_items(engine.sorting_key)
    if engine.name in _NEEDS_SORTING_KEY and not key:
        place = given["ENGINE_SORTING_KEY"].offset if "ENGINE_SORTING_KEY" in given else at
        report.error(
            "Missing required option 'sorting_key'",
            place,
            f"{engine.name} needs ENGINE_SORTING_KEY.",
            reason=Reason.DIRECTIVE_MISSING,
        )
    for option in _REQUIRED.get(engine.name, ()):
        if not getattr(engine, option):
            report.error(
                f"Missing required option '{option}'",
                at,
                f"{engine.name} needs ENGINE_{option.upper()}.",
                reason=Reason.DIRECTIVE_MISSING,
            )
    for option, engines in _OPTION_OF.items():
        directive = given.get(f"ENGINE_{option.upper()}")
        if directive is not None and getattr(engine, option) and engine.name not in engines:
            report.error(
                f"ENGINE_{option.upper()} is not an option of {engine.name}",
                directive.offset,
                f"It is one of {' and '.join(engines)}.",
            )
    for option in _COLUMN_OPTIONS:
        value = getattr(engine, option)
        if value and value not in names and not implicit:
            _invalid(report, given, option, value, f"'{value}' column is not present in schema")
    for item in key_items(engine.columns):
        if _bare(item) not in names and not implicit:
            _invalid(report, given, "columns", item, f"'{item}' column is not present in schema")
    if engine.ver and engine.ver in {_bare(item) for item in key}:
        _invalid(report, given, "ver", engine.ver, f"'{engine.ver}' column is in the sorting key")
    _check_key(report, given, key, columns, implicit=implicit)


def _check_key(
    report: ParseReport,
    given: Mapping[str, Directive],
    key: Sequence[str],
    columns: Sequence[Column],
    *,
    implicit: bool,
) -> None:
    by_name = {column.name: column for column in columns}
    for item in key:
        name = _bare(item)
        if call := next((m[1] for m in _CALL.finditer(item) if m[1] in _AGGREGATES), None):
            _invalid(report, given, "sorting_key", item, f"aggregate function '{call}' is not allowed in a key")
        elif name not in by_name:
            if _IDENTIFIER.fullmatch(name) and not implicit:
                _invalid(report, given, "sorting_key", name, f"'{name}' column is not present in schema")
        elif by_name[name].type.startswith("AggregateFunction("):
            _invalid(report, given, "sorting_key", name, f"'{name}' column is an AggregateFunction")
        elif by_name[name].nullable:
            # The dialect's documentation refuses it; projects that run have it, and ClickHouse can.
            report.warn(
                f"Column '{name}' of the sorting key is Nullable",
                given["ENGINE_SORTING_KEY"].first,
                "A key without Nullable columns is smaller and faster.",
                kind=WarningKind.NULLABLE_KEY,
            )


def _invalid(report: ParseReport, given: Mapping[str, Directive], option: str, value: str, reason: str) -> None:
    directive = given[f"ENGINE_{option.upper()}"]
    report.error(
        f"Invalid value '{value}' for parameter 'engine_{option}', reason: {reason}",
        directive.first,
        reason=Reason.DIRECTIVE_INVALID,
    )
