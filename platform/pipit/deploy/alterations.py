"""What of a data source's table can be altered in place, and the statements that do it. Pure.

In place is what the live and the new deployment both read alike: a type that holds every value that is there and prints
it the same, and what no reader sees (defaults, codecs, indexes, a TTL, settings). What can lose a value, or reads
otherwise, is another table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipit.catalog.snapshot import Table
from pipit.datafiles.resources import Column, Index
from pipit.ingest.types import Type, parse, strip
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string
from pipit.tables.ddl import column_definition, index_definition

_SIGNED, _UNSIGNED = re.compile(r"Int(\d+)"), re.compile(r"UInt(\d+)")
_DECIMALS = {"Decimal32": 9, "Decimal64": 18, "Decimal128": 38, "Decimal256": 76}
_ENUM = frozenset({"Enum", "Enum8", "Enum16"})
_ENCODED = re.compile(r"\bLowCardinality\(")


@dataclass(frozen=True, slots=True)
class AddColumn:
    """To a live table and its quarantine. `after` is the column before it; "": it is the first.

    `unset`: rows that are there would have no value. `found`: it was removed, and is still in the table. `replaces`:
    the type of a removed one of its name, which is still in the table and cannot be altered to it; its values go.
    """

    table: Table
    column: Column
    after: str
    unset: bool = False
    found: bool = False
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class ModifyColumn:
    """`misfit`: SQL, true for a value that is there and that the new type cannot hold; none may be there.

    `late`: only once the deployment is live. A column that is encoded by words (LowCardinality) needs a barrier that
    only a deployment which knows of it puts up.
    """

    table: Table
    before: Column
    after: Column
    misfit: str = ""

    @property
    def late(self) -> bool:
        return len(_ENCODED.findall(self.after.type)) > len(_ENCODED.findall(self.before.type))


@dataclass(frozen=True, slots=True)
class AddIndex:
    table: Table
    index: Index


@dataclass(frozen=True, slots=True)
class DropIndex:
    table: Table
    index: Index


@dataclass(frozen=True, slots=True)
class ModifyTtl:
    """Once the deployment is live: what it deletes does not come back. `expired`: the rows that are older now."""

    table: Table
    before: str
    after: str
    expired: int = 0

    @property
    def late(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class ModifySettings:
    """From `before` to `after`: each setting that differs, None where it has the engine's own value."""

    table: Table
    before: Mapping[str, str | None] = field(default_factory=dict)
    after: Mapping[str, str | None] = field(default_factory=dict)


Alteration = AddColumn | ModifyColumn | AddIndex | DropIndex | ModifyTtl | ModifySettings


def is_late(alteration: Alteration) -> bool:
    return isinstance(alteration, ModifyColumn | ModifyTtl) and alteration.late


def statements(alteration: Alteration, where: str) -> list[str]:
    """The statements for the table, whose quoted name is `where`. Each can be repeated."""
    alter = f"ALTER TABLE {where}"
    match alteration:
        case AddColumn(_, column, after):
            place = f"AFTER {quote(after)}" if after else "FIRST"
            return [f"{alter} ADD COLUMN {column_definition(column)} {place}"]
        case ModifyColumn(_, before, after):
            return [f"{alter} {clause}" for clause in _modify(before, after)]
        case AddIndex(_, index):
            added = f"{alter} ADD {index_definition(index)}"
            return [f"{alter} DROP INDEX IF EXISTS {quote(index.name)}", added]
        case DropIndex(_, index):
            return [f"{alter} DROP INDEX IF EXISTS {quote(index.name)}"]
        case ModifyTtl(_, _, after):
            return [f"{alter} MODIFY TTL {after}" if after else f"{alter} REMOVE TTL"]
        case ModifySettings(_, _, settings):
            given = ", ".join(f"{name} = {value}" for name, value in settings.items() if value is not None)
            reset = ", ".join(name for name, value in settings.items() if value is None)
            clauses = [f"MODIFY SETTING {given}"] if given else []
            return [f"{alter} {clause}" for clause in (*clauses, *([f"RESET SETTING {reset}"] if reset else []))]


def reverse(alteration: ModifyColumn | AddIndex | DropIndex | ModifyTtl | ModifySettings) -> Alteration:
    """What takes it back: nothing that was there before is lost by it."""
    match alteration:
        case ModifyColumn(table, before, after):
            return ModifyColumn(table, after, before)
        case AddIndex(table, index):
            return DropIndex(table, index)
        case DropIndex(table, index):
            return AddIndex(table, index)
        case ModifyTtl(table, before, after):
            return ModifyTtl(table, after, before)
        case ModifySettings(table, before, after):
            return ModifySettings(table, after, before)


def _modify(before: Column, after: Column) -> list[str]:
    name = quote(after.name)
    written = column_definition(after)
    clauses: list[str] = []
    if _is_nullable(before.type) and not _is_nullable(after.type) and after.default is None:
        # The engine asks for a value in the place of NULL, though none is there.
        clauses.append(f"MODIFY COLUMN {name} {after.type} DEFAULT defaultValueOfTypeName({quote_string(after.type)})")
        clauses.append(f"MODIFY COLUMN {name} REMOVE DEFAULT")
        if after.codec:
            clauses.append(f"MODIFY COLUMN {written}")
    else:
        clauses.append(f"MODIFY COLUMN {written}")
        if before.default is not None and after.default is None:
            clauses.append(f"MODIFY COLUMN {name} REMOVE DEFAULT")
    if before.codec and not after.codec:
        clauses.append(f"MODIFY COLUMN {name} REMOVE CODEC")
    return clauses


def _is_nullable(type: str) -> bool:
    return strip(parse(type))[1] if type else False


# ---- types


@dataclass(frozen=True, slots=True)
class InPlace:
    """`misfit`: as that of a `ModifyColumn`."""

    misfit: str = ""


def in_place(name: str, before: str, after: str) -> InPlace | None:
    """Whether a column's type can be altered where it is. Types as the engine writes them."""
    try:
        old, new = parse(before), parse(after)
        if reads_alike(old, new):
            return InPlace()
        column = quote(name)
        (bare_old, was), (bare_new, now) = strip(old), strip(new)
        if {"SimpleAggregateFunction"} & {old.name, new.name}:
            return None
        misfits = [f"isNull({column})"] if was and not now else []
        if not reads_alike(bare_old, bare_new):
            if not _narrows(bare_old, bare_new):
                return None
            misfits.append(_misfit(bare_old, bare_new, column))
        return InPlace(" OR ".join(misfits))
    except ValueError:  # a type that is not read here
        return None


def reads_alike(old: Type, new: Type) -> bool:
    """Whether every value of the one is a value of the other, and prints the same."""
    if old.text == new.text:
        return True
    if "SimpleAggregateFunction" in (old.name, new.name):
        same = old.name == new.name and old.arguments[0] == new.arguments[0]
        return same and reads_alike(old.inner, new.inner)
    if "AggregateFunction" in (old.name, new.name):
        return False
    (bare_old, was), (bare_new, now) = strip(old), strip(new)
    if was and not now:
        return False
    if (bare_old.text, bare_new.text) != (old.text, new.text):
        return reads_alike(bare_old, bare_new)
    if old.name in ("Array", "Map") and old.name == new.name:
        return all(reads_alike(parse(a), parse(b)) for a, b in zip(old.arguments, new.arguments, strict=True))
    if old.name == new.name == "Tuple":
        mine, theirs = old.elements(), new.elements()
        return [n for n, _ in mine] == [n for n, _ in theirs] and all(
            reads_alike(a, b) for (_, a), (_, b) in zip(mine, theirs, strict=True)
        )
    return _widens(old, new)


def _widens(old: Type, new: Type) -> bool:
    mine, theirs = _integer(old), _integer(new)
    if mine is not None and theirs is not None:
        return theirs[0] <= mine[0] and mine[1] <= theirs[1]
    if old.name in _ENUM and new.name in _ENUM:
        return _names(old).items() <= _names(new).items()
    if "Decimal" in old.name and "Decimal" in new.name:
        (precision, scale), (wider, same) = _digits(old), _digits(new)
        return scale == same and precision <= wider
    return (old.name, new.name) == ("Date", "Date32")


def _narrows(old: Type, new: Type) -> bool:
    """Whether some values of the one are values of the other, and it can be told which."""
    both_integers = _integer(old) is not None and _integer(new) is not None
    return both_integers or (old.name in _ENUM and new.name in _ENUM and _names(new).items() <= _names(old).items())


def _misfit(old: Type, new: Type, column: str) -> str:
    if new.name in _ENUM:
        known = ", ".join(quote_string(name) for name in _names(new))
        return f"ifNull(toString({column}) NOT IN ({known}), 0)"
    return f"isNotNull({column}) AND isNull(accurateCastOrNull({column}, {quote_string(new.text)}))"


def exact_misfit(before: Column, after: Column) -> str:
    """SQL, true for a value of the column that another type would not give back as it is."""
    x = quote(after.name)
    to, back = quote_string(_bare(after.type)), quote_string(_bare(before.type))
    lost = f"ifNull(accurateCastOrNull(accurateCastOrNull({x}, {to}), {back}) != {x}, 1)"
    return f"isNotNull({x}) AND {lost}" if _is_nullable(after.type) else f"isNull({x}) OR {lost}"


def _bare(type: str) -> str:
    return strip(parse(type))[0].text


def _integer(type: Type) -> tuple[int, int] | None:
    """The least and the greatest."""
    if found := _UNSIGNED.fullmatch(type.name):
        return 0, 2 ** int(found[1]) - 1
    if found := _SIGNED.fullmatch(type.name):
        return -(2 ** (int(found[1]) - 1)), 2 ** (int(found[1]) - 1) - 1
    return None


def _names(type: Type) -> dict[str, str]:
    """Name -> number, as the engine writes them."""
    found: dict[str, str] = {}
    for argument in type.arguments:
        name, _, number = argument.rpartition("=")
        if not number.strip().lstrip("-").isdigit() or not name:
            raise ValueError(f"an enum without numbers: {type.text}")
        found[parse_name(name)] = number.strip()
    return found


def parse_name(text: str) -> str:
    return text.strip()[1:-1].replace("\\'", "'").replace("''", "'")


def _digits(type: Type) -> tuple[int, int]:
    if type.name in _DECIMALS:
        return _DECIMALS[type.name], int(type.arguments[0])
    if type.name != "Decimal" or len(type.arguments) != 2:
        raise ValueError(f"a decimal without digits: {type.text}")
    return int(type.arguments[0]), int(type.arguments[1])
