"""The parameters of a template, read from its syntax tree without rendering it."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace

_LARGEST_SAFE = 2**53 - 1

# What requests mean something else by in the dialect: a template that uses such a name is warned of. `from` is on the
# dialect's list too, and real projects use it without harm.
_RESERVED = frozenset({
    *("__tb__csv_header", "__tb__semver", "__tb__deployment", "cli_version", "debug", "debug_source_tables"),
    *("explain", "finalize_aggregations", "pipeline", "playground", "query_id", "release_replacements", "tag"),
    *("template_parameters", "token"),
})  # fmt: skip


def is_reserved(name: str) -> bool:
    return name in _RESERVED or name.startswith("output_format_")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One request parameter. `type` is a type function's name, `Array(Int32)` for lists, `String` when it has none.

    `required`: as declared, else whether a request without it fails. `needed`: no default anywhere it is used, outside
    of a branch that asks `defined()` of it. `identifier`: its value becomes a name in the SQL (column, table).
    `guards`: the conditions of the branches that use it; empty when some use stands outside of every branch.
    """

    name: str
    type: str = "String"
    default: object = None
    description: str = ""
    required: bool = False
    format: str = ""
    enum: tuple[object, ...] = ()
    example: object = None
    identifier: bool = False
    needed: bool = False
    typed: bool = False
    guards: tuple[str, ...] = ()
    line: int = 0
    is_list: bool = False  # a request may send several values of it


@dataclass(frozen=True, slots=True)
class Use:
    """One appearance of a parameter in the source."""

    name: str
    type: str = ""  # "" when the appearance says nothing of the type: a bare name, defined()
    default: object = None
    describing: dict[str, object] | None = None
    identifier: bool = False
    needed: bool = False
    takes_list: bool = False
    asks: bool = False  # `defined(name)`: no use of the value
    declares: bool = False  # a type function: what it says of type and default is about the parameter itself
    guards: tuple[str, ...] = ()
    line: int = 0
    column: int = 0


def merge(uses: list[Use]) -> tuple[Parameter, ...]:
    """One Parameter for each name, in the order of first appearance. What is said first counts; needs add up."""
    found: dict[str, Parameter] = {}
    declared: dict[str, bool] = {}
    guards: dict[str, list[tuple[str, ...]]] = {}
    for use in uses:
        known = found.get(use.name)
        said = use.describing or {}
        if known is None:
            known = Parameter(use.name, line=use.line)
        if not use.asks:
            guards.setdefault(use.name, []).append(use.guards)
        if use.type and not known.typed:
            known = replace(known, type=use.type, typed=True)
        if "required" in said:
            declared.setdefault(use.name, bool(said["required"]))
        enum = said.get("enum")
        found[use.name] = replace(
            known,
            default=use.default if known.default is None else known.default,
            description=known.description or _text(said.get("description")),
            format=known.format or _text(said.get("format")),
            enum=known.enum or (tuple(enum) if isinstance(enum, (list, tuple)) else ()),
            example=said.get("example") if known.example is None else known.example,
            identifier=known.identifier or use.identifier,
            is_list=known.is_list or use.takes_list,
            needed=known.needed or use.needed,
        )
    return tuple(
        replace(p, required=declared.get(p.name, p.needed), guards=_together(guards.get(p.name, [])))
        for p in found.values()
    )


def _together(guards: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The conditions under which any use stands; none when one use stands under none."""
    return tuple(dict.fromkeys(g for use in guards for g in use)) if all(guards) else ()


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def constant(tree: ast.expr | None) -> object:
    """The value of a literal in the source, else None. Large integers come as text: JSON cannot hold them."""
    if tree is None:
        return None
    if isinstance(tree, ast.Name) and tree.id in ("true", "false"):
        return tree.id == "true"
    try:
        return _safe(ast.literal_eval(tree))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _safe(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_safe(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST_SAFE:
        return str(value)
    return value if isinstance(value, (str, int, float, bool)) else None
