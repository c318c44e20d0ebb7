"""The tests that a project's folder holds, read and placed; nothing is run here.

`tests/<pipe>.yaml`: cases of an endpoint, and data-quality tests of Classic projects (a query that must find nothing).
Its first item may be no test: `as` and `fixed` alone say who asks in all cases of the file.
`tests/<name>.test` with `<name>.test.result`: what a Classic command line prints. What is no test, or one that cannot
be run, is a `Skipped` with its reason: it is told, never dropped.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from pipit.suggest import closest

CASE_KEYS = ("name", "description", "parameters", "as", "fixed", "expected_result", "expected_http_status")
ADMIN = "admin"  # `as: admin`, in a file that says who asks in its other cases
_ASKING = {"as", "fixed"}
_MAX_BYTES = 16_000_000

class _Regression(ValueError):
    """A test of the dialect that has nothing to try here: it is left out, and nothing is wrong with it."""

    def __init__(self) -> None:
        super().__init__("it compares two releases of a pipe, and there is only one here")


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who asks, in place of the workspace: a JWT with this context, whose scope for the case's pipe fixes these
    parameters. The values are as the file has them; whether a token may carry them is for the server to say."""

    context: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Asking:
    """What an item says of who asks. None: nothing."""

    context: Mapping[str, Any] | None = None
    fixed: Mapping[str, Any] | None = None
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One request, and the answer that is expected: the text of the rows, or of the error where `status` is one.

    `tenant` is who asks; None: the workspace itself. `value` is where `expected_result` stands in the file, as offsets:
    what `--update` writes over. `warnings`: what the file says that means nothing.
    """

    file: str
    line: int
    pipe: str
    name: str
    parameters: str
    expected: str
    status: int = 200
    value: tuple[int, int] | None = None
    tenant: Tenant | None = None
    warnings: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.pipe}: {self.name}"


@dataclass(frozen=True, slots=True)
class Quality:
    """A query that must find no row. With a `pipe`, its SQL reads that pipe's answer to `params` by the pipe's name."""

    file: str
    line: int
    name: str
    sql: str
    pipe: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    max_bytes: int | None = None
    max_seconds: float | None = None

    @property
    def id(self) -> str:
        return f"{Path(self.file).stem}: {self.name}"


@dataclass(frozen=True, slots=True)
class ClassicCommand:
    """What a Classic command line asks for: a pipe's answer, or a query's."""

    pipe: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    sql: str = ""
    format: str = ""  # csv, json; empty: the table that the command prints


@dataclass(frozen=True, slots=True)
class Classic:
    """`<name>.test`: the commands, one after the other, and all that they print."""

    file: str
    line: int
    commands: tuple[ClassicCommand, ...]
    expected: str

    @property
    def id(self) -> str:
        return Path(self.file).name


@dataclass(frozen=True, slots=True)
class Skipped:
    """`broken`: somebody meant a test here, and it cannot be read: that is a failure, not something to pass over."""

    file: str
    line: int
    reason: str
    broken: bool = field(default=False, compare=False)

    @property
    def id(self) -> str:
        return f"{self.file}:{self.line}"


Test = Case | Quality | Classic | Skipped


def read_tests(project: Path) -> list[Test]:
    """All tests of the project in this folder, file by file in the order of their names."""
    folder = project / "tests"
    found: list[Test] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        file = f"tests/{path.name}"
        if path.suffix not in (".yaml", ".yml", ".test") or not path.is_file():
            continue
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise ValueError(f"the file is larger than {_MAX_BYTES:,} bytes")
            text = path.read_text(encoding="utf-8")
            found += _classic(path, file, text) if path.suffix == ".test" else _documents(file, path.stem, text)
        except (OSError, UnicodeDecodeError, ValueError) as problem:
            found.append(Skipped(file, 1, str(problem), broken=True))
    return found


def _documents(file: str, stem: str, text: str) -> Iterator[Test]:
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        yield Skipped(file, mark.line + 1 if mark else 1, f"it is no YAML: {error.problem}", broken=True)
        return
    except yaml.YAMLError as error:
        yield Skipped(file, 1, f"it is no YAML: {error}", broken=True)
        return
    if tree is None:
        return
    if not isinstance(tree, yaml.SequenceNode) or not isinstance(values, list):
        yield Skipped(file, 1, "a file of tests is a list: `- name: ...`", broken=True)
        return
    of_file = _Asking()
    for number, (node, value) in enumerate(zip(tree.value, values, strict=True)):
        line = node.start_mark.line + 1
        if isinstance(value, dict) and value.keys() & _ASKING and value.keys() <= _ASKING | {"description"}:
            try:
                of_file = _of_file(number, value)
            except ValueError as problem:  # and who asks in the cases below it is not known
                yield Skipped(file, line, f"{problem}; no case below it is run", broken=True)
                return
            continue
        try:
            test = _document(file, stem, line, node, value, of_file)
        except ValueError as problem:
            yield Skipped(file, line, str(problem), broken=not isinstance(problem, _Regression))
            continue
        yield test


def _document(file: str, stem: str, line: int, node: yaml.Node, value: Any, of_file: _Asking) -> Test:
    if not isinstance(node, yaml.MappingNode) or not isinstance(value, dict):
        raise ValueError("a test is a mapping: `- name: ...`")
    if "pipe" in value and "tests" in value:
        raise _Regression
    if "expected_result" in value or "parameters" in value or "name" in value:
        return _case(file, stem, line, node, value, of_file)
    if len(value) == 1:
        name, body = next(iter(value.items()))
        if isinstance(body, dict) and "sql" in body:
            return _quality(file, line, str(name), body)
    raise ValueError("it has neither `expected_result` nor `sql`")


def _case(
    file: str, stem: str, line: int, node: yaml.MappingNode, value: Mapping[str, Any], of_file: _Asking
) -> Case:
    name = value.get("name")
    if not isinstance(name, (str, int)):
        raise ValueError("the case has no `name`")
    expected = value.get("expected_result", "")
    if expected is not None and not isinstance(expected, str):
        raise ValueError(f"{name}: `expected_result` is no text: begin it with `|` on a line of its own")
    parameters = value.get("parameters") or ""
    if isinstance(parameters, dict):
        parameters = urlencode(parameters)
    status = value.get("expected_http_status", 200)
    if not isinstance(status, int):
        raise ValueError(f"{name}: `expected_http_status` is no number")
    span = next(
        ((v.start_mark.index, v.end_mark.index) for k, v in node.value if k.value == "expected_result"),
        None,
    )
    inside = span is not None and node.start_mark.index <= span[0] < node.end_mark.index
    if node.flow_style or not inside:  # `*alias`: its text is another case's
        span = None
    try:
        tenant = _tenant(_asking(value), of_file)
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from None
    warnings = tuple(_unknown(str(key)) for key in value if key not in CASE_KEYS)
    return Case(file, line, stem, str(name), str(parameters), expected or "", status, span, tenant, warnings)


def _of_file(number: int, value: Mapping[str, Any]) -> _Asking:
    if number:
        raise ValueError("`as` and `fixed` for all cases stand in the first item of the file, and a case has a `name`")
    return _asking(value)


def _asking(value: Mapping[str, Any]) -> _Asking:
    """`as` and `fixed` of an item. Raises ValueError."""
    admin = value.get("as") == ADMIN
    context = None if admin or "as" not in value else _values("as", value["as"], f"{{customer_id: acme}}, or {ADMIN}")
    fixed = _values("fixed", value["fixed"], "{customer_id: acme}") if "fixed" in value else None
    if admin and fixed is not None:
        raise ValueError(f"`as: {ADMIN}` asks as the workspace itself, whose token fixes nothing: remove `fixed`")
    return _Asking(context, fixed, admin)


def _values(key: str, value: Any, such_as: str) -> dict[str, Any]:
    """Names and values as JSON has them. A date is the text of it. Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError(f"`{key}` is a mapping, such as {such_as}")
    odd = next((name for name in value if not isinstance(name, str)), None)
    if odd is not None:
        raise ValueError(f"`{key}`: the name {odd!r} is no text: write it in quotes")
    try:
        found: dict[str, Any] = json.loads(json.dumps(value, default=str, allow_nan=False))
    except ValueError:
        raise ValueError(f"`{key}` has a value that JSON does not know") from None
    return found


def _tenant(own: _Asking, of_file: _Asking) -> Tenant | None:
    """Who asks in a case: its own `as` and `fixed`, each in place of the file's."""
    if own.admin or (of_file.admin and own.context is None and own.fixed is None):
        return None
    context = of_file.context if own.context is None else own.context
    fixed = of_file.fixed if own.fixed is None else own.fixed
    return None if context is None and fixed is None else Tenant(context or {}, fixed or {})


def _unknown(key: str) -> str:
    near = closest(key, CASE_KEYS)
    meant = f"is `{near}` meant?" if near else f"a case has {', '.join(CASE_KEYS)}"
    return f"`{key}` is no key of a case and does nothing: {meant}"


def _quality(file: str, line: int, name: str, body: Mapping[str, Any]) -> Quality:
    pipe = body.get("pipe") or {}
    if not isinstance(body["sql"], str) or not isinstance(pipe, dict):
        raise ValueError(f"{name}: `sql` is a text, `pipe` a mapping of `name` and `params`")
    params = pipe.get("params") or {}
    if not isinstance(params, dict):
        raise ValueError(f"{name}: `params` is a mapping")
    most, seconds = body.get("max_bytes_read"), body.get("max_time")
    return Quality(
        file,
        line,
        name,
        body["sql"],
        str(pipe.get("name") or ""),
        {str(k): str(v) for k, v in params.items()},
        int(most) if most is not None else None,
        float(seconds) if seconds is not None else None,
    )


def _classic(path: Path, file: str, text: str) -> Iterator[Test]:
    result = path.with_name(path.name + ".result")
    if not result.is_file():
        yield Skipped(file, 1, f"{result.name} is not there")
        return
    commands: list[ClassicCommand] = []
    for number, written in enumerate(text.replace("\\\n", " ").splitlines(), 1):
        if not written.strip() or written.lstrip().startswith("#"):
            continue
        try:
            commands.append(_command(shlex.split(written)))
        except ValueError as problem:
            yield Skipped(file, number, f"{problem}: {written.strip()[:120]}")
            return
    yield Classic(file, 1, tuple(commands), result.read_text(encoding="utf-8"))


def _command(words: list[str]) -> ClassicCommand:
    """`tb [--option value] pipe data NAME [--param value]...` and `tb [...] sql "..."`; else ValueError."""
    if not words or words[0] not in ("tb", "pipit"):
        raise ValueError("only tb's `pipe data` and `sql` can be run")
    rest = _without_options(words[1:])
    if rest[:2] in (["pipe", "data"], ["endpoint", "data"]) and len(rest) > 2:
        options = _options(rest[3:])
        format = options.pop("format", options.pop("format_", "json"))
        return ClassicCommand(pipe=rest[2], params=options, format=format.lower())
    if rest[:1] == ["sql"]:
        texts = [w for w in rest[1:] if not w.startswith("--")]
        options = _options([w for w in rest[1:] if w is not (texts[0] if texts else None)])
        if texts:
            return ClassicCommand(sql=texts[0], format=options.get("format", "").lower())
    raise ValueError("only tb's `pipe data` and `sql` can be run")


def _without_options(words: list[str]) -> list[str]:
    """Options before the command: `--semver $VERSION`, `--token=...`."""
    rest = list(words)
    while rest and rest[0].startswith("--"):
        option = rest.pop(0)
        if "=" not in option and rest and option not in ("--debug", "--cloud", "--local", "--staging"):
            rest.pop(0)
    return rest


def _options(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise ValueError(f"'{word}' is no option")
        name, equals, value = word[2:].partition("=")
        if not equals:
            if not rest:
                raise ValueError(f"--{name} has no value")
            value = rest.pop(0)
        found[name] = value
    return found
