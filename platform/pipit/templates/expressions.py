"""Expressions: parsed by Python's own parser, checked against an allow-list, turned into Jinja's nodes.

What is not listed here does not compile: no attribute is ever read, no function called that functions.py does not
offer. Names never become Python names; each read is a call with the name as a constant, so a parameter may be called
anything.
"""

from __future__ import annotations

import ast
import inspect
import math
import warnings
from collections.abc import Callable, Set
from dataclasses import dataclass, field, replace
from functools import cache

from jinja2 import nodes

from pipit.errors import TemplateError
from pipit.templates import keywords
from pipit.templates.binder import Binder
from pipit.templates.failures import PREFIX, syntax_error
from pipit.templates.functions import DESCRIBING, FUNCTIONS, Function
from pipit.templates.parameters import Use, constant
from pipit.templates.state import Branch, State
from pipit.templates.types import NEVER_MISSING, PARSERS

METHODS = {"split": (0, 2), "get": (1, 2), "join": (1, 1), "replace": (2, 3)}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "lteq", ast.Gt: "gt", ast.GtE: "gteq", ast.In: "in",
    ast.NotIn: "notin",
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], str] = {ast.Add: "plus", ast.Sub: "minus", ast.Mult: "times"}
_UNARY: dict[type[ast.unaryop], type[nodes.UnaryExpr]] = {
    ast.Not: nodes.Not, ast.USub: nodes.Neg, ast.UAdd: nodes.Pos,
}  # fmt: skip
_RESERVED = ("format", "q")
_SAID = frozenset({"cache_ttl", "max_threads", "backend_hint", "activate", "disable"})
_MAX_EXPRESSION = 20_000


@dataclass
class Scope:
    """What the translation of one template knows and collects."""

    name: str
    locals: frozenset[str] = frozenset()  # names that the template sets anywhere
    assigned: set[str] = field(default_factory=set)  # those set so far, in the order of the text
    guards: list[str] = field(default_factory=list)  # the conditions around, outermost first
    guarded: list[Set[str]] = field(default_factory=list)  # the names that each of them asks defined() of
    uses: list[Use] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)  # those without a default
    branches: list[Branch] | None = None  # a list: the compiled template tells which branches a rendering took


@dataclass(frozen=True, slots=True)
class Expression:
    node: nodes.Expr
    source: str
    key: str | None  # the same for the same pure expression; None when it depends on what the template sets
    tree: ast.expr

    @property
    def calls(self) -> str:
        """The function that the whole expression is a call of, or ''."""
        func = self.tree.func if isinstance(self.tree, ast.Call) else None
        return func.id if isinstance(func, ast.Name) else ""


def parse(text: str, scope: Scope, line: int, column: int) -> ast.expr:
    """Python's tree of an expression. Raises TemplateError with the place of its block."""
    tree = parse_statement(text, scope, line, column, head="(", tail="\n)")
    if not isinstance(tree, ast.Expr):
        raise syntax_error(f"Invalid expression: {text[:100]}", line, column)
    return tree.value


def parse_statement(text: str, scope: Scope, line: int, column: int, *, head: str = "", tail: str = "") -> ast.stmt:
    """One statement of Python: `head` and `tail` around the author's text."""
    if len(text) > _MAX_EXPRESSION:
        raise syntax_error("The expression is too long", line, column)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a '\d' in a text is the author's business
            body = ast.parse(head + keywords.hide(text) + tail).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise syntax_error(f"Invalid expression: {text[:100]}", line, column) from error
    if len(body) != 1:
        raise syntax_error(f"Invalid expression: {text[:100]}", line, column)
    return body[0]


def translate(text: str, scope: Scope, line: int, column: int) -> Expression:
    tree = parse(text, scope, line, column)
    return translate_tree(tree, text, scope, line, column)


def translate_tree(tree: ast.expr, text: str, scope: Scope, line: int, column: int) -> Expression:
    translator = _Translator(scope, line, column)
    try:
        node = translator.visit(tree)
        key = None if translator.impure else ast.unparse(_WithoutDescriptions().visit(tree))
    except RecursionError as error:
        raise syntax_error("The expression is nested too deeply", line, column) from error
    return Expression(node, text, key, tree)


def defined_names(tree: ast.expr) -> frozenset[str]:
    """The names that a condition asks `defined()` of, or tests by their truth."""
    found: set[str] = set()
    for part in ast.walk(tree):
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == "defined" and part.args:
            first = part.args[0]
            if isinstance(first, ast.Name):
                found.add(keywords.show(first.id))
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            found.add(keywords.show(part.id))
    return frozenset(found)


def call(function: str, *arguments: nodes.Expr) -> nodes.Call:
    """A call of one of ours: the rendering's state comes first."""
    return nodes.Call(nodes.Name(function, "load"), [nodes.Name("state", "load"), *arguments], [], None, None)


class _WithoutDescriptions(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        node.keywords = [k for k in node.keywords if k.arg not in DESCRIBING]
        return node


class _Translator:
    def __init__(self, scope: Scope, line: int, column: int) -> None:
        self.scope = scope
        self.line = line
        self.column = column
        self.impure = False

    def fail(self, text: str, hint: str = "") -> TemplateError:
        return syntax_error(text, self.line, self.column, hint=hint)

    def visit(self, tree: ast.expr) -> nodes.Expr:
        method = getattr(self, f"visit_{type(tree).__name__}", None)
        if method is None:
            raise self.fail(f"Invalid expression: {type(tree).__name__}")
        found: nodes.Expr = method(tree)
        return found

    def visit_Constant(self, tree: ast.Constant) -> nodes.Expr:
        if not (tree.value is None or isinstance(tree.value, (str, int, float, bool))):
            raise self.fail(f"Invalid expression: {type(tree.value).__name__}")
        if isinstance(tree.value, int) and tree.value.bit_length() > 256:
            raise self.fail("The number is longer than 256 bits")
        if isinstance(tree.value, float) and not math.isfinite(tree.value):
            return call("float", nodes.Const(str(tree.value)))  # 1e999: Jinja would write the name inf
        return nodes.Const(tree.value)

    def visit_Name(self, tree: ast.Name) -> nodes.Expr:
        name = self.name(tree)
        if name not in ("true", "false"):  # `Boolean(x, false)`: meant as a value, so no parameter of the endpoint
            self.use(Use(name))
        if name in self.scope.locals:
            self.impure = True
            return call("lookup_local", nodes.Const(name))
        return call("lookup", nodes.Const(name))

    def name(self, tree: ast.Name) -> str:
        name = keywords.show(tree.id)
        if name in _RESERVED:
            raise self.fail(f'"{name}" can not be used as a variable name, line {self.line}')
        return name

    def visit_List(self, tree: ast.List) -> nodes.Expr:
        return self.collection("make_list", tree.elts, nodes.List)

    def visit_Tuple(self, tree: ast.Tuple) -> nodes.Expr:
        return self.collection("make_tuple", tree.elts, lambda items: nodes.Tuple(items, "load"))

    def collection(
        self, maker: str, elements: list[ast.expr], constant: Callable[[list[nodes.Expr]], nodes.Expr]
    ) -> nodes.Expr:
        """Of constants it is as large as its source; of anything else its size is looked at when it is made."""
        items = [self.visit(item) for item in elements]
        return constant(items) if all(isinstance(item, nodes.Const) for item in items) else call(maker, *items)

    def visit_Dict(self, tree: ast.Dict) -> nodes.Expr:
        pairs: list[nodes.Expr] = []
        for key, value in zip(tree.keys, tree.values, strict=True):
            if key is None:
                raise self.fail("Invalid expression: **")
            pairs += [self.visit(key), self.visit(value)]
        return call("make_dict", *pairs)

    def visit_BoolOp(self, tree: ast.BoolOp) -> nodes.Expr:
        kind: type[nodes.BinExpr] = nodes.And if isinstance(tree.op, ast.And) else nodes.Or
        found = self.visit(tree.values[0])
        for value in tree.values[1:]:
            found = kind(found, self.visit(value))
        return found

    def visit_UnaryOp(self, tree: ast.UnaryOp) -> nodes.Expr:
        kind = _UNARY.get(type(tree.op))
        if kind is None:
            raise self.fail(f"Invalid UnaryOp: {ast.dump(tree.op)}")
        return kind(self.visit(tree.operand))

    def visit_BinOp(self, tree: ast.BinOp) -> nodes.Expr:
        function = _ARITHMETIC.get(type(tree.op))
        if function is None:
            raise self.fail(f"Invalid BinOp: {ast.dump(tree.op)}")
        return call(function, self.visit(tree.left), self.visit(tree.right))

    def visit_Compare(self, tree: ast.Compare) -> nodes.Expr:
        if isinstance(tree.ops[0], (ast.Is, ast.IsNot)):
            if len(tree.ops) > 1:
                raise self.fail("Invalid expression: a chain of comparisons with 'is'")
            same = call("same", self.visit(tree.left), self.visit(tree.comparators[0]))
            return same if isinstance(tree.ops[0], ast.Is) else nodes.Not(same)
        operands = []
        for operator, right in zip(tree.ops, tree.comparators, strict=True):
            if type(operator) not in _COMPARISONS:
                raise self.fail("Invalid expression: a chain of comparisons with 'is'")
            operands.append(nodes.Operand(_COMPARISONS[type(operator)], self.visit(right)))
        return nodes.Compare(self.visit(tree.left), operands)

    def visit_IfExp(self, tree: ast.IfExp) -> nodes.Expr:
        test = self.visit(tree.test)
        self.scope.guards.append(ast.unparse(tree.test))
        self.scope.guarded.append(defined_names(tree.test))
        try:
            return nodes.CondExpr(test, self.visit(tree.body), self.visit(tree.orelse))
        finally:
            self.scope.guards.pop()
            self.scope.guarded.pop()

    def visit_Subscript(self, tree: ast.Subscript) -> nodes.Expr:
        target = self.visit(tree.value)
        if isinstance(tree.slice, ast.Slice):
            bounds = (tree.slice.lower, tree.slice.upper, tree.slice.step)
            return call("cut", target, *(nodes.Const(None) if b is None else self.visit(b) for b in bounds))
        return call("index", target, self.visit(tree.slice))

    def visit_Call(self, tree: ast.Call) -> nodes.Expr:
        starred = any(isinstance(argument, ast.Starred) for argument in tree.args)
        if starred or any(k.arg is None for k in tree.keywords):
            raise self.fail("Invalid expression: Starred")
        if isinstance(tree.func, ast.Attribute):
            return self.method(tree, tree.func)
        if not isinstance(tree.func, ast.Name):
            raise self.fail(f"Invalid expression: a call of {type(tree.func).__name__}")
        name = keywords.show(tree.func.id)
        function = FUNCTIONS.get(name)
        if function is None:
            raise self.fail(f"Invalid function name: {name}")
        return self.function(tree, name, function)

    def method(self, tree: ast.Call, func: ast.Attribute) -> nodes.Expr:
        if func.attr not in METHODS:
            raise self.fail(f"Invalid method name: {func.attr}")
        least, most = METHODS[func.attr]
        if tree.keywords or not least <= len(tree.args) <= most:
            raise self.fail(f"Wrong number of arguments of {func.attr}()")
        arguments = [self.visit(argument) for argument in tree.args]
        return call("method", nodes.Const(func.attr), self.visit(func.value), *arguments)

    def function(self, tree: ast.Call, name: str, function: Function) -> nodes.Expr:
        said: dict[str | None, ast.expr] = {}
        if function.describes:
            said = {k.arg: k.value for k in tree.keywords if k.arg in DESCRIBING}
        keyword_arguments = [k for k in tree.keywords if k.arg not in said]
        positional = list(tree.args)
        most = {"Array": 3, "columns": 3, "split_to_array": 3}.get(name, 2)
        if function.describes and len(positional) > most:
            if "description" in said or len(positional) > most + 1:
                raise self.fail(f"Too many arguments of {name}()")
            said["description"] = positional.pop()
        self.check_arguments(name, function, positional, keyword_arguments)
        if name in ("tb_secret", "tb_var"):
            secret = getattr(positional[0], "value", None)
            if not isinstance(secret, str):
                raise self.fail(f"{name}() takes the name of a secret as a text", "A request cannot choose the secret.")
            if len(positional) == 1:
                self.scope.secrets.append(secret)
        if name in _SAID and all(isinstance(argument, ast.Constant) for argument in positional):
            self.said(function, [argument.value for argument in positional if isinstance(argument, ast.Constant)])
        arguments: list[nodes.Expr] = []
        if function.takes_name:
            arguments += self.named(positional.pop(0), tree, name, function, said)
        if name == "columns" and len(positional) == 2:
            keyword_arguments.append(ast.keyword("fn", positional.pop()))
        if name == "split_to_array" and len(positional) == 2:
            keyword_arguments.append(ast.keyword("separator", positional.pop()))
        if name == "Array" and positional:
            positional[0] = _element(positional[0])
        arguments += [self.visit(argument) for argument in positional]
        found = call(name, *arguments)
        found.kwargs = [nodes.Keyword(keywords.show(str(k.arg)), self.visit(k.value)) for k in keyword_arguments]
        return found

    def said(self, function: Function, values: list[object]) -> None:
        """What the author wrote down once for all requests is right or wrong now, not at the first of them."""
        try:
            function.call(State({}, Binder(), {}, ()), *values)
        except TemplateError as error:
            raise self.fail(error.message.removeprefix(PREFIX), error.hint) from error

    def check_arguments(
        self, name: str, function: Function, positional: list[ast.expr], others: list[ast.keyword]
    ) -> None:
        count = len(positional) + (1 if function.takes_name else 0)
        if function.takes_name and not positional:
            raise self.fail(f"{name}() needs an argument")
        if name in ("columns", "split_to_array") and len(positional) == 3:
            count -= 1
        try:
            _signature(name).bind(None, *[None] * count, **{keywords.show(str(k.arg)): None for k in others})
        except TypeError as error:
            raise self.fail(f"Wrong arguments of {name}(): {error}") from error

    def named(
        self, first: ast.expr, tree: ast.Call, name: str, function: Function, said: dict[str | None, ast.expr]
    ) -> list[nodes.Expr]:
        """The parameter's name and its value; None and the value when it is no bare name."""
        if not isinstance(first, ast.Name):
            return [nodes.Const(None), self.visit(first)]
        parameter = self.name(first)
        self.record(parameter, tree, name, function, said)
        if parameter in self.scope.locals:
            self.impure = True
        return [nodes.Const(parameter), call("argument", nodes.Const(parameter))]

    def record(
        self, parameter: str, tree: ast.Call, name: str, function: Function, said: dict[str | None, ast.expr]
    ) -> None:
        if name == "defined":
            self.use(Use(parameter, asks=True))
            return
        given = {str(k.arg): k.value for k in tree.keywords}
        place = 2 if name == "Array" else 1
        default = tree.args[place] if len(tree.args) > place else given.get("default")
        has_default = default is not None and not (isinstance(default, ast.Constant) and default.value is None)
        type = function.type
        shown: object = None if isinstance(default, ast.Name) else constant(default)
        if name == "Array":
            element = constant(_element(tree.args[1]) if len(tree.args) > 1 else given.get("element")) or "String"
            if element not in PARSERS:  # Array(x, "'a', 'b'"): the type is the default
                shown, has_default, element = (element if default is None else shown), True, "String"
            type = f"Array({element})"
        optional = constant(given.get("defined")) is False or type in NEVER_MISSING
        self.use(
            Use(
                parameter,
                type=type,
                default=shown,
                describing={str(key): constant(value) for key, value in said.items()},
                identifier=function.identifier,
                needed=not has_default and not optional and not any(parameter in g for g in self.scope.guarded),
            )
        )

    def use(self, use: Use) -> None:
        if use.name in self.scope.assigned:
            return
        self.scope.uses.append(replace(use, guards=tuple(self.scope.guards), line=self.line))


def _element(tree: ast.expr) -> ast.expr:
    """`Array(x, Int32)` is `Array(x, 'Int32')`."""
    return ast.Constant(tree.id) if isinstance(tree, ast.Name) and tree.id in PARSERS else tree


@cache
def _signature(name: str) -> inspect.Signature:
    return inspect.signature(FUNCTIONS[name].call)
