"""The requests that try an endpoint: without parameters, with all, with each alone, and each branch of its template.

A value comes from what the template says of the parameter: its example, default, enum, and the texts that it is
compared with. Where it says nothing, a value is made up from the type and the name; what the SQL then refuses is
"unsure", since a person might have known a better one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipit.catalog.snapshot import CompiledPipe, Snapshot
from pipit.templates import Parameter

_MOST = 24  # requests for one endpoint
_MOST_VALUES = 5  # of one parameter
_OWN_ERROR = re.compile(r"\b(?:custom_)?error\s*\(")
_TEXT = re.compile(r"'([^'\\\n]*)'|\"([^\"\\\n]*)\"")
_BY_TYPE = {
    "Date": "2024-01-02",
    "DateTime": "2024-01-02 03:04:05",
    "DateTime64": "2024-01-02 03:04:05.000",
    "UUID": "00000000-0000-0000-0000-000000000001",
    "JSON": "{}",
}
_BY_NAME = (
    (re.compile(r"time_?zone|^tz$"), "UTC"),
    (re.compile(r"date|^day|(^|_)(from|to|start|end|since|until)($|_)|start|time"), "2024-01-02 03:04:05"),
)


@dataclass(frozen=True)
class Call:
    values: Mapping[str, str]
    made_up: bool = False  # some text of it is a guess


@dataclass(frozen=True)
class Value:
    text: str
    made_up: bool = False


def calls(snapshot: Snapshot, pipe: CompiledPipe) -> Iterator[Call]:
    """The requests after the one without parameters; the first has all of them."""
    texts = dict(_texts(snapshot, pipe))
    parameters: dict[str, Parameter] = {}
    for name in texts:
        for parameter in snapshot.pipes[name].parameters:
            parameters.setdefault(parameter.name, parameter)
    if not parameters:
        return
    source = "\n".join(texts.values())
    values = {name: _values(parameter, source) for name, parameter in parameters.items()}
    needed = {name for name, parameter in parameters.items() if parameter.needed or parameter.required}
    asked = [_call({name: found[0] for name, found in values.items()})]
    first = {name: values[name][0] for name in needed}
    for name, found in values.items():
        asked += [_call({**first, name: value}) for value in found]
    yield from asked[:_MOST]


def is_own_error(snapshot: Snapshot, pipe: CompiledPipe, said: str) -> bool:
    """Whether the message is one that the author wrote, in `error('...')`."""
    for text in dict(_texts(snapshot, pipe)).values():
        for found in _OWN_ERROR.finditer(text):
            pieces = [a or b for a, b in _TEXT.findall(text[found.end() : found.end() + 400].split("%}")[0])]
            if any(len(piece) > 3 and piece in said for piece in pieces):
                return True
    return False


def _texts(snapshot: Snapshot, pipe: CompiledPipe) -> Iterator[tuple[str, str]]:
    """The pipe and what it reads, by name."""
    seen = {pipe.name}
    pending = [pipe]
    while pending:
        one = pending.pop()
        yield one.name, one.pipe.text
        words = set(re.findall(r"\w+", one.pipe.text))
        for name in sorted(words & snapshot.pipes.keys() - seen):
            seen.add(name)
            pending.append(snapshot.pipes[name])


def _call(values: Mapping[str, Value]) -> Call:
    return Call({name: value.text for name, value in values.items()}, any(value.made_up for value in values.values()))


def _values(parameter: Parameter, source: str) -> list[Value]:
    said = [parameter.example, parameter.default, *parameter.enum, *_compared(parameter.name, source)]
    inner = parameter.type.removeprefix("Array(").removesuffix(")") if parameter.type.startswith("Array(") else ""
    texts = [_text(value) for value in said if value is not None and not isinstance(value, dict)]
    found = [Value(text) for text in dict.fromkeys(text for text in texts if text)]
    if parameter.type == "Boolean":
        found = [Value("true"), Value("false")]
    if not found:
        guess = _guess(inner or parameter.type, parameter.name)
        found = [Value(guess, made_up=not _is_sure(inner or parameter.type))]
    return found[:_MOST_VALUES]


def _compared(name: str, source: str) -> Iterator[str]:
    """The texts that the parameter itself is compared with: not those of a function of it, as in `day_diff(a, b) == 0`."""
    bare = rf"(?<![.\w]){re.escape(name)}\b"
    itself = rf"(?:\b[A-Z]\w*\(\s*{bare}[^()=!<>{{}}%]{{0,60}}\)|{bare})(?:\.\w+\(\))*\s*"
    for found in re.finditer(rf"{itself}(?:==|!=)\s*(?:'([^'\n]*)'|\"([^\"\n]*)\"|(\d+))", source):
        yield next((group for group in found.groups() if group), "")
    for found in re.finditer(rf"{itself}\b(?:not\s+)?in\s*[\[(]([^\])\n]*)[\])]", source):
        yield from (a or b for a, b in _TEXT.findall(found[1]))


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(_text(item) for item in value)
    if isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def _guess(type: str, name: str) -> str:
    if type in _BY_TYPE:
        return _BY_TYPE[type]
    if type in ("", "String"):
        return next((text for pattern, text in _BY_NAME if pattern.search(name.lower())), "1")
    return "1"


def _is_sure(type: str) -> bool:
    return type in _BY_TYPE or bool(re.match(r"U?Int|Float|Decimal", type))
