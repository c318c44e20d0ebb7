"""What IMPORT_BUCKET_URI means: a bucket, and which of its keys.

`*` is anything within a level, `**` anything at all, `?` one character, `[a-c]` one of some, `{a,b}` one of several
texts, `{1..20}` and `{01..20}` numbers. A key is matched in time that grows with its length and with the pattern's, and
not faster: neither who writes the pattern nor who names the objects can keep the server busy with one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

_SCHEMES = {"s3": "s3", "gs": "gcs", "gcs": "gcs"}
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]\Z")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})\Z")
_MOST = 1000  # patterns that braces may stand for
_MAX_LENGTH = 1024



class _Wild(Enum):
    ONE = "?"
    WITHIN = "*"
    ALL = "**"
    LEVELS = "**/"  # no level, or some
    IN_LEVELS = ""  # what a LEVELS goes on to with its first character


@dataclass(frozen=True, slots=True)
class _OneOf:
    """`[a-c]`, or with `negated` `[!a-c]`."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool

    def takes(self, character: str) -> bool:
        return character != "/" and any(a <= character <= b for a, b in self.ranges) is not self.negated


_Step = str | _Wild | _OneOf


class BadUri(ValueError):
    """The text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class _Glob:
    """A pattern without braces: what it begins and ends with, and the steps between."""

    head: str
    steps: tuple[_Step, ...]
    tail: str

    def matches(self, key: str) -> bool:
        if not (key.startswith(self.head) and key.endswith(self.tail)):
            return False
        end = len(key) - len(self.tail)
        if end < len(self.head):
            return False
        between = key[len(self.head) : end]
        if not self.steps:
            return not between
        if self.steps == (_Wild.ALL,):
            return True
        if self.steps == (_Wild.WITHIN,):
            return "/" not in between
        return _runs(self.steps, between)


def _runs(steps: tuple[_Step, ...], text: str) -> bool:
    """All places of the pattern at once, character by character."""
    places = _beyond(steps, {0})
    for character in text:
        reached: set[int] = set()
        for place in places:
            if place < len(steps):
                reached.update(_after(steps[place], place, character))
        if not reached:
            return False
        places = _beyond(steps, reached)
    return len(steps) in places


def _after(step: _Step, place: int, character: str) -> Iterator[int]:
    """Where the pattern stands when this step takes the character."""
    if isinstance(step, str):
        if step == character:
            yield place + 1
    elif isinstance(step, _OneOf):
        if step.takes(character):
            yield place + 1
    elif step is _Wild.ALL:
        yield place
    elif step is _Wild.LEVELS:
        yield place + 1
        if character == "/":
            yield place + 2
    elif step is _Wild.IN_LEVELS:
        yield place
        if character == "/":
            yield place + 1
    elif character != "/":
        yield place if step is _Wild.WITHIN else place + 1


def _beyond(steps: tuple[_Step, ...], places: set[int]) -> set[int]:
    """With what is reached without a character."""
    found, todo = set(places), list(places)
    while todo:
        place = todo.pop()
        step = steps[place] if place < len(steps) else None
        further = {_Wild.WITHIN: 1, _Wild.ALL: 1, _Wild.LEVELS: 2}.get(step, 0) if isinstance(step, _Wild) else 0
        if further and place + further not in found:
            found.add(place + further)
            todo.append(place + further)
    return found


@dataclass(frozen=True, slots=True)
class BucketUri:
    """`kind` is s3 or gcs. `prefix`: what all keys begin with that it can mean."""

    kind: str
    bucket: str
    prefix: str
    _globs: tuple[_Glob, ...]

    def matches(self, key: str) -> bool:
        return any(glob.matches(key) for glob in self._globs)


def split_uri(text: str) -> tuple[str, str, str]:
    """s3 or gcs, the bucket, and the path in it. Raises BadUri."""
    scheme, found, rest = text.partition("://")
    kind = _SCHEMES.get(scheme.lower())
    if not found or kind is None:
        raise BadUri("it begins with s3:// or gs://, then the bucket")
    bucket, _, path = rest.partition("/")
    if not _BUCKET.match(bucket):
        raise BadUri(f"'{bucket[:80]}' is not the name of a bucket")
    if len(path) > _MAX_LENGTH:
        raise BadUri(f"it is longer than {_MAX_LENGTH} characters")
    return kind, bucket, path


def parse_uri(text: str) -> BucketUri:
    """Raises BadUri. A URI without a path, or whose path ends with a slash, means everything below it."""
    kind, bucket, path = split_uri(text)
    if not path or path.endswith("/"):
        path += "**"
    patterns = list(_expanded(path))
    globs = tuple(_glob(pattern) for pattern in patterns)
    return BucketUri(kind, bucket, _common([glob.head for glob in globs]), globs)


def _common(heads: list[str]) -> str:
    first, last = min(heads), max(heads)
    length = next((n for n, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return first[:length]


def _expanded(path: str) -> Iterator[str]:
    """The pattern for each choice of its braces."""
    found = [""]
    place = 0
    while place < len(path):
        start = path.find("{", place)
        if start < 0:
            start = len(path)
        found = [one + path[place:start] for one in found]
        if start == len(path):
            break
        end = path.find("}", start)
        if end < 0:
            raise BadUri("a brace is not closed")
        choices = _choices(path[start + 1 : end])
        if len(found) * len(choices) > _MOST:
            raise BadUri(f"its braces stand for more than {_MOST} patterns")
        found = [one + choice for one in found for choice in choices]
        place = end + 1
    yield from dict.fromkeys(found)


def _choices(inside: str) -> list[str]:
    if "{" in inside:
        raise BadUri("braces stand inside of braces")
    numbers = _RANGE.match(inside)
    if numbers is None:
        return inside.split(",")
    first, last = int(numbers[1]), int(numbers[2])
    if not 0 <= last - first < _MOST:
        raise BadUri(f"'{{{inside}}}' is no range of at most {_MOST} numbers")
    width = len(numbers[1]) if numbers[1].startswith("0") else 0
    return [str(number).zfill(width) for number in range(first, last + 1)]


def _glob(pattern: str) -> _Glob:
    steps: list[_Step] = []
    place = 0
    while place < len(pattern):
        character = pattern[place]
        if character == "*":
            end = place + len(pattern[place:]) - len(pattern[place:].lstrip("*"))
            begins_level = place == 0 or pattern[place - 1] == "/"
            if end - place > 1 and begins_level and pattern[end : end + 1] == "/":
                steps += [_Wild.LEVELS, _Wild.IN_LEVELS]
                end += 1
            else:
                steps.append(_Wild.ALL if end - place > 1 else _Wild.WITHIN)
            place = end - 1
        elif character == "?":
            steps.append(_Wild.ONE)
        elif character == "[":
            end = pattern.find("]", place + 2)
            if end < 0:
                raise BadUri("a [ is not closed")
            steps.append(_one_of(pattern[place + 1 : end]))
            place = end
        else:
            steps.append(character)
        place += 1
    first = next((n for n, step in enumerate(steps) if not isinstance(step, str)), len(steps))
    last = next((n for n in range(len(steps), first, -1) if not isinstance(steps[n - 1], str)), first)
    return _Glob("".join(map(str, steps[:first])), tuple(steps[first:last]), "".join(map(str, steps[last:])))


def _one_of(inside: str) -> _OneOf:
    negated = inside[0] in "!^"
    text = inside[1:] if negated else inside
    ranges: list[tuple[str, str]] = []
    place = 0
    while place < len(text):
        if place + 2 < len(text) and text[place + 1] == "-":
            ranges.append((text[place], text[place + 2]))
            place += 3
        else:
            ranges.append((text[place], text[place]))
            place += 1
    return _OneOf(tuple(ranges), negated)


_PACKED = (".gz", ".gzip", ".zst", ".zstd")
_ENDINGS = {
    "csv": "csv",
    "tsv": "csv",
    "ndjson": "ndjson",
    "jsonl": "ndjson",
    "json": "ndjson",
    "parquet": "parquet",
}


def format_of(key: str) -> str:
    """By the ending of an object's name; empty where that does not say it."""
    name = key.lower()
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return _ENDINGS.get(name.rpartition(".")[2], "") if "." in name else ""
