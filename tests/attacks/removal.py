"""How a defence is taken out of a source file: found by its function and what it uses there, not by its line.

The function (or the constant) is named, `file:qualified name`. In it, a check is found by a name that its condition
uses or by the reason that it raises, a call by what it calls, an entry of a dictionary by its key. So code may be
written anew around it, formatted, or moved within its file.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class EntryError(Exception):
    """The entry does not fit the code any more."""


class Way(Enum):
    """What is taken out of the function, or the constant, and how `old` names it.

    `new` is what stands there then. Where it may be left out, what stands there without it is said here.
    """

    CHECK = "check"  # the `if` whose condition uses these names, or that raises for this reason: its condition is False
    OPERAND = "operand"  # what uses each of these names in an `and`, an `or`, an `|` or a filtering `if`: gone
    LOOP = "loop"  # the `for` over what uses these names: over nothing
    STATEMENT = "statement"  # the one that uses these names, or the part of a `with`: gone
    CALL = "call"  # the call of this function (with these names): `new`; `_call` is the call, `_1` its first argument
    ENTRY = "entry"  # each entry of a dictionary, argument or element that has such a name: gone
    BODY = "body"  # all that the function does: `new`
    VALUE = "value"  # the constant's value: `new`
    EXPRESSION = "expression"  # this expression, however it is formatted: `new`
    TEXT = "text"  # this exact text, anywhere in the file: `new`


@dataclass(frozen=True, slots=True)
class Defence:
    """`old` in `platform/pipit/<file>`, in the function or constant `where`, becomes `new`: the defence is out.

    `tests`: paths or ids (`path::test_name`) of tests that should notice, few, to keep the run short.
    `together_with`: a defence of which another one catches the same attack names the other one here. Then a test
    counts as noticing only if it fails with all of them out, and passes with only the others out.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    together_with: tuple[str, ...] = ()
    where: str = ""
    way: Way = Way.TEXT


def taken_out(text: str, defence: Defence) -> str:
    """The file's text without the defence. Raises EntryError."""
    try:
        replaced, times, expected = _replaced(text, defence)
        ast.parse(replaced)
    except SyntaxError as error:
        raise EntryError(f"the replacement is no Python: {error}") from None
    if times != expected:
        where = f"{defence.file}:{defence.where}".rstrip(":")
        raise EntryError(f"'{defence.old}' is {times} times in {where}, not {expected}")
    return replaced


def _replaced(text: str, defence: Defence) -> tuple[str, int, int]:
    """The new text, how often what is named was found, and how often it should have been."""
    if defence.way is Way.TEXT:
        return text.replace(defence.old, defence.new), text.count(defence.old), 1
    found = _find(ast.parse(text), defence)
    times = _WAYS[defence.way](found, defence)
    expected = len(_names(defence)) if defence.way in (Way.OPERAND, Way.ENTRY) else 1
    return _with(text, found), times, expected


def _with(text: str, node: ast.stmt) -> str:
    """The text with this statement as its tree says now; the rest keeps its lines."""
    lines = text.splitlines(keepends=True)
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
    try:
        new = ast.unparse(ast.fix_missing_locations(node))
    except ValueError as error:
        raise EntryError(f"the replacement cannot be written: {error}") from None
    return "".join([*lines[: first - 1], textwrap.indent(new, " " * node.col_offset) + "\n", *lines[node.end_lineno :]])


def _find(tree: ast.Module, defence: Defence) -> ast.stmt:
    """The function, class or assigned constant of this qualified name."""
    found: Any = tree
    for name in defence.where.split("."):
        inside = [node for node in _scope(found) if _name_of(node) == name]
        if len(inside) != 1:
            raise EntryError(f"'{defence.where}' is {len(inside)} times in {defence.file}, not once")
        (found,) = inside
    return found  # type: ignore[no-any-return]


def _names(defence: Defence) -> list[str]:
    return defence.old.split(" ")


def _new(defence: Defence) -> ast.expr | None:
    return ast.parse(defence.new, mode="eval").body if defence.new else None


def _scope(node: ast.AST) -> Iterator[ast.AST]:
    """What is defined directly in it, in its branches too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign):
            yield child
        else:
            yield from _scope(child)


def _name_of(node: ast.AST) -> str:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    return getattr(node, "name", "")


def _uses(node: ast.AST, name: str) -> bool:
    """Whether the expression has a variable, function, attribute (`owner.name` too) or text of this name."""
    return any(
        name == (ast.unparse(part) if "." in name else part.attr)
        if isinstance(part, ast.Attribute)
        else name in (getattr(part, "id", None), getattr(part, "value", None))
        for part in ast.walk(node)
        if isinstance(part, ast.Name | ast.Attribute | ast.Constant)
    )


def _uses_all(node: ast.AST, names: Sequence[str]) -> bool:
    return all(_uses(node, name) for name in names)


def _uses_any(node: ast.AST, names: Sequence[str]) -> bool:
    return any(_uses(node, name) for name in names)


def _raises(body: Sequence[ast.stmt], reason: str) -> bool:
    return any(isinstance(one, ast.Raise) and one.exc is not None and _uses(one.exc, reason) for one in body)


def _check(function: ast.AST, defence: Defence) -> int:
    names = _names(defence)
    found = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.If | ast.While | ast.IfExp)
        and (_uses_all(node.test, names) or (isinstance(node, ast.If) and _raises(node.body, defence.old)))
    ]
    for node in found:
        node.test = _new(defence) or ast.Constant(False)
    return len(found)


def _operand(function: ast.AST, defence: Defence) -> int:
    names, new, times = _names(defence), _new(defence), 0

    def without(operands: list[ast.expr]) -> list[ast.expr]:
        nonlocal times
        left: list[ast.expr] = []
        for one in operands:
            inner = any(isinstance(part, ast.BoolOp) and _uses_any(part, names) for part in ast.walk(one))
            if inner or not _uses_any(one, names):
                left.append(one)
            else:
                times += sum(_uses(one, name) for name in names)
                left += [new] if new else []
        return left

    for node in list(ast.walk(function)):
        if isinstance(node, ast.BoolOp):
            node.values = without(node.values) or node.values
        elif isinstance(node, ast.comprehension):
            node.ifs = without(node.ifs)
    alternatives = _Alternatives(names)
    alternatives.visit(function)
    times += alternatives.times
    _Flat().visit(function)
    return times


class _Alternatives(ast.NodeTransformer):
    """`a | NAME` is `a`."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.times = names, 0

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.BitOr) and ast.unparse(node.right) in self.names:
            self.times += 1
            return node.left
        return node


class _Flat(ast.NodeTransformer):
    """An `and` of one is that one."""

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        return node.values[0] if len(node.values) == 1 else node


def _loop(function: ast.AST, defence: Defence) -> int:
    found = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.For | ast.comprehension) and _uses_all(node.iter, _names(defence))
    ]
    for node in found:
        node.iter = ast.Tuple([], ast.Load())
    return len(found)


def _statement(function: ast.AST, defence: Defence) -> int:
    names, times = _names(defence), 0
    for node in ast.walk(function):
        if isinstance(node, ast.With | ast.AsyncWith):
            kept = [item for item in node.items if not _uses_all(item.context_expr, names)]
            if kept:
                times += len(node.items) - len(kept)
                node.items = kept
        for body in _bodies(node):
            for index, one in enumerate(body):
                if isinstance(one, ast.Expr | ast.Assign | ast.AugAssign | ast.Raise) and _uses_all(one, names):
                    body[index] = ast.Pass()
                    times += 1
    return times


def _bodies(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for field in ("body", "orelse", "finalbody"):
        body = getattr(node, field, None)
        if isinstance(body, list):
            yield body


def _call(function: ast.AST, defence: Defence) -> int:
    replace = _ReplaceCalls(defence)
    replace.visit(function)
    return replace.times


class _ReplaceCalls(ast.NodeTransformer):
    def __init__(self, defence: Defence) -> None:
        self.defence, self.times = defence, 0

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        function, *names = _names(self.defence)
        called = ast.unparse(node.func)
        named = called == function or called.endswith("." + function)
        if not named or not all(any(_uses(argument, name) for argument in node.args) for name in names):
            return node
        self.times += 1
        known = {"_call": node} | {f"_{number}": argument for number, argument in enumerate(node.args, 1)}
        new = ast.parse(self.defence.new, mode="eval")
        return _Fill(known).visit(new).body  # type: ignore[no-any-return]


class _Fill(ast.NodeTransformer):
    def __init__(self, known: dict[str, ast.expr]) -> None:
        self.known = known

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self.known.get(node.id, node)


def _entry(owner: ast.AST, defence: Defence) -> int:
    names, new, times = _names(defence), _new(defence), 0
    for node in list(ast.walk(owner)):
        if isinstance(node, ast.Dict):
            pairs: list[tuple[ast.expr | None, ast.expr]] = []
            for key, value in zip(node.keys, node.values, strict=True):
                named = isinstance(key, ast.Constant) and key.value in names
                times += named
                if not named or new:
                    pairs.append((key, new if named and new else value))
            node.keys, node.values = [key for key, _ in pairs], [value for _, value in pairs]
        elif isinstance(node, ast.Call):
            times += sum(one.arg in names for one in node.keywords)
            node.keywords = [
                ast.keyword(one.arg, new) if one.arg in names and new else one
                for one in node.keywords
                if one.arg not in names or new
            ]
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            inner = any(part is not node and isinstance(part, ast.Tuple | ast.List) and _uses_any(part, names)
                        for part in ast.walk(node))
            if not inner:
                times += sum(_uses(one, name) for one in node.elts for name in names)
                kept = [one for one in node.elts if new or not _uses_any(one, names)]
                node.elts = [new if new and _uses_any(one, names) else one for one in kept]
    return times


def _body(function: ast.AST, defence: Defence) -> int:
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        raise EntryError(f"'{defence.where}' is no function")
    function.body = ast.parse(defence.new).body
    return 1


def _value(constant: ast.AST, defence: Defence) -> int:
    if not isinstance(constant, ast.Assign | ast.AnnAssign):
        raise EntryError(f"'{defence.where}' is no constant")
    constant.value = ast.parse(defence.new, mode="eval").body
    return 1


def _expression(owner: ast.AST, defence: Defence) -> int:
    replace = _Replace(ast.parse(defence.old, mode="eval").body, ast.parse(defence.new, mode="eval").body)
    replace.visit(owner)
    return replace.times


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new, self.times = ast.dump(old), new, 0

    def visit(self, node: ast.AST) -> ast.AST:
        if ast.dump(node) == self.old:
            self.times += 1
            return self.new
        return super().generic_visit(node)


_WAYS: dict[Way, Callable[[ast.AST, Defence], int]] = {
    Way.CHECK: _check,
    Way.OPERAND: _operand,
    Way.LOOP: _loop,
    Way.STATEMENT: _statement,
    Way.CALL: _call,
    Way.ENTRY: _entry,
    Way.BODY: _body,
    Way.VALUE: _value,
    Way.EXPRESSION: _expression,
}
