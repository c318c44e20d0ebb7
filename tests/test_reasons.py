"""Errors carry reasons: every error has one, every reason is given somewhere, and no code decides by a message."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pages import ROOT
from pipit import errors
from pipit.access import grants
from pipit.access.context import SecurityContext, TokenKind
from pipit.access.refusals import shown_to
from pipit.api.docs import error_classes
from pipit.engine.failures import engine_error
from pipit.reasons import Reason

PLATFORM = ROOT / "platform" / "pipit"


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PLATFORM.rglob("*.py")):
        yield path, ast.parse(path.read_text())


def test_the_values_are_words_and_the_names_are_theirs() -> None:
    assert [reason.value for reason in Reason] == [reason.name.lower() for reason in Reason]
    assert all(reason.cause and reason.remedy and not reason.cause.endswith(".") for reason in Reason)


def test_every_reason_is_given_somewhere() -> None:
    given = {
        node.attr
        for path, tree in modules()
        if path.name != "reasons.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }
    assert given == {reason.name for reason in Reason}


def test_every_class_of_error_has_a_reason_of_its_own() -> None:
    assert all("reason" in vars(kind) for kind in error_classes())


@pytest.mark.parametrize(
    "error",
    [
        errors.NotFound("x", reason=Reason.PIPE_NOT_FOUND, subject="top"),
        errors.DatafileError("x", file="a.pipe", reason=Reason.POLICY_REQUIRED),
        errors.TemplateError("x", parameter="limit", reason=Reason.PARAMETER_MISSING),
        errors.SqlError("x", engine_code=62),
        errors.Unavailable("x"),
        errors.QueryRefused("id"),
    ],
)
def test_the_body_has_the_reason(error: errors.PipitError) -> None:
    assert error.body()["reason"] == error.reason.value


def test_all_errors_of_a_project_have_theirs() -> None:
    one = errors.DatafileError("x", file="a.pipe", reason=Reason.POLICY_REQUIRED)
    body = errors.ProjectError([one]).body()
    assert body["reason"] == "project_invalid"
    assert isinstance(body["errors"], list) and body["errors"][0]["reason"] == "policy_required"


TENANT = SecurityContext("workspace", TokenKind.JWT, "ada")


def test_a_tenant_cannot_tell_a_pipe_that_is_not_its_own_from_none() -> None:
    told = []
    for exists in (True, False):
        with pytest.raises(errors.Forbidden) as caught:
            grants.read_pipe(TENANT, "top", (), exists=exists)
        told.append(caught.value.body())
    assert told[0] == told[1] and told[0]["reason"] == "scope_missing"


@pytest.mark.parametrize("code", [6, 36, 46, 60, 62, 241, 252, 395, 1001])
def test_what_the_engine_refuses_is_one_reason_to_a_tenant(code: int) -> None:
    """Whichever it was: that could tell of rows of others."""
    error = engine_error(code, f"Code: {code}. DB::Exception: a row of somebody else")
    body = shown_to(error, TENANT, "id")
    assert (body["code"], body["reason"]) == ("sql_error", "statement_refused") and "row" not in str(body)


# --- no code decides by the words of a message

# Functions that change how a message reads, and decide nothing by it: (module, function) -> what it prints.
PRINTING: dict[tuple[str, str], str] = {
    ("access/issuers.py", "_check_provider"): "'The key' for 'The token', where a registration is refused",
    ("api/responses.py", "_ending"): "on one line",
    ("catalog/written.py", "_without_same"): "without a suggestion that repeats the name",
    ("catalog/written.py", "as_written"): "the project's names for those of tables",
    ("datafiles/format.py", "_read"): "what two readings of one text say, without places: equal, or the text stays",
    ("engine/embedded/failure.py", "of"): "what the engine raises has no other form: read once, on its way to the wire",
    ("engine/failures.py", "without_values"): "without what the engine quotes",
    ("engine/syntax_errors.py", "without_place"): "without the engine's place, which is in another text",
    ("ingest/probe.py", "_as_written"): "the project's names for those of tables that are tried",
    ("query/log.py", "_message"): "without what is hidden",
    ("templates/failures.py", "explain"): "Python's words without Python's names",
}

_DECIDING = frozenset(
    [
        "count",
        "endswith",
        "find",
        "findall",
        "finditer",
        "fullmatch",
        "index",
        "isdisjoint",
        "match",
        "partition",
        "removeprefix",
        "removesuffix",
        "replace",
        "rfind",
        "rindex",
        "rpartition",
        "rsplit",
        "search",
        "split",
        "splitlines",
        "startswith",
        "sub",
        "subn",
    ]
)


def _is_message(node: ast.expr, names: Names) -> bool:
    """`error.message`, `str(error)`, or a variable that holds one."""
    if isinstance(node, ast.Attribute):
        return node.attr == "message"
    if isinstance(node, ast.Name):
        return node.id in names.told
    if isinstance(node, ast.Tuple):
        return any(_is_message(item, names) for item in node.elts)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "str" and node.args:
        return isinstance(node.args[0], ast.Name) and node.args[0].id in names.errors
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute):
        of = node.value.value
        return node.value.attr == "args" and isinstance(of, ast.Name) and of.id in names.errors
    return False


@dataclass
class Names:
    """Of one function: the variables that hold errors, and those that hold a message."""

    errors: set[str]
    told: set[str]


def _names(function: ast.AST) -> Names:
    errors = {n.name for n in ast.walk(function) if isinstance(n, ast.ExceptHandler) and n.name}
    parameters = {n.arg for n in ast.walk(function) if isinstance(n, ast.arg)}
    names = Names(errors | {"error", "failure", "problem", "refusal", "warning"}, parameters & {"message"})
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and _is_message(node.value, names):
            names.told |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def _decisions(function: ast.AST) -> Iterator[ast.AST]:
    names = _names(function)
    for node in ast.walk(function):
        operands: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            if not isinstance(node.comparators[0], ast.Constant) or node.comparators[0].value is not None:
                operands = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _DECIDING:
            operands = [node.func.value, *node.args]
        elif isinstance(node, ast.If | ast.IfExp | ast.While):
            operands = [node.test]
        elif isinstance(node, ast.Dict | ast.DictComp):
            operands = [key for key in (node.keys if isinstance(node, ast.Dict) else [node.key]) if key is not None]
        elif isinstance(node, ast.Subscript):
            operands = [node.slice]
        elif isinstance(node, ast.Match):
            operands = [node.subject]
        if any(_is_message(operand, names) for operand in operands):
            yield node


def decisions() -> Iterator[tuple[str, str, int]]:
    for path, tree in modules():
        module = path.relative_to(PLATFORM).as_posix()
        for outer in tree.body:
            inner = outer.body if isinstance(outer, ast.ClassDef) else [outer]
            for function in inner:
                name = getattr(function, "name", "")
                for node in _decisions(function):
                    yield module, name, getattr(node, "lineno", 0)


def test_no_code_decides_by_a_message() -> None:
    """A name of a user's own may read like any message. What is decided by stands in typed fields: the class, the
    `reason`, the `subject`, the engine's code. Only the words that a reader sees may be put together from others."""
    found = {(module, name, line) for module, name, line in decisions()}
    assert {(m, n) for m, n, _ in found} == PRINTING.keys(), sorted(f for f in found if f[:2] not in PRINTING)


@pytest.mark.parametrize(
    "text",
    [
        "def f(error):\n    return 'x' in error.message",
        "def f(error):\n    if error.message == 'x': pass",
        "def f(error):\n    return P.findall(error.message)",
        "def f(error):\n    return error.message.startswith('x')",
        "def f(error):\n    said = error.message\n    return P.search(said)",
        "def f():\n    try: g()\n    except E as e:\n        text = str(e)\n        return 'x' in text",
        "def f(errors):\n    return {error.message: error for error in errors}",
        "def f(errors):\n    return {(e.message, e.line): e for e in errors}",
        "def f(message):\n    return P.search(message)",
        "def f():\n    try: g()\n    except E as e:\n        return 'x' in str(e)",
        "def f(error):\n    match error.message:\n        case 'x': pass",
    ],
)
def test_the_lint_sees_it(text: str) -> None:
    (function,) = ast.parse(text).body
    assert list(_decisions(function))
