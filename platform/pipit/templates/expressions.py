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
from collections.abc import Callable, Collection, Set
from dataclasses import dataclass, field, replace
from functools import cache

from jinja2 import nodes

from pipit.errors import TemplateError
from pipit.suggest import did_you_mean
from pipit.templates import keywords, python
from pipit.templates.binder import Binder
from pipit.templates.failures import BadExpression, bad_expression, syntax_error
from pipit.templates.functions import DESCRIBING, FUNCTIONS, Function
from pipit.templates.parameters import Use, constant
from pipit.templates.state import Branch, RenderState
from pipit.templates.types import NEVER_MISSING, PARSERS

METHODS = {"split": (0, 2), "get": (1, 2), "join": (1, 1), "replace": (2, 3)}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "lteq", ast.Gt: "gt", ast.GtE: "gteq", ast.In: "in",
    ast.NotIn: "notin",
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], str] = {ast.Add: "plus", ast.Sub: "minus", ast.Mult: "times"}
_WIDE_ARITHMETIC: dict[type[ast.operator], str] = {
    **_ARITHMETIC, ast.Sub: "subtract", ast.Div: "divide", ast.FloorDiv: "floor", ast.Mod: "modulo", ast.Pow: "power",
}  # fmt: skip
_BITWISE: dict[type[ast.operator], str] = {ast.BitOr: "|", ast.BitAnd: "&", ast.BitXor: "^"}
# What `{% %}` takes and `{{ }}` does not.
_WIDE = frozenset(
    {ast.Set, ast.JoinedStr, ast.FormattedValue, ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp}
)
_WIDE_CALLS = frozenset({*python.FUNCTIONS, "isinstance", "map", "filter"})
_UNARY: dict[type[ast.unaryop], type[nodes.UnaryExpr]] = {
    ast.Not: nodes.Not, ast.USub: nodes.Neg, ast.UAdd: nodes.Pos,
}  # fmt: skip
_RESERVED = ("format", "q")
_SAID = frozenset({"cache_ttl", "max_threads", "backend_hint", "activate", "disable"})
_MAX_EXPRESSION = 20_000


@dataclass
class TemplateScope:
    """What the translation of one template knows and collects."""

    name: str
    locals: frozenset[str] = frozenset()  # names that the template sets anywhere
    assigned: set[str] = field(default_factory=set)  # those set so far, in the order of the text
    guards: list[str] = field(default_factory=list)  # the conditions around, outermost first
    guarded: list[Set[str]] = field(default_factory=list)  # the names that each of them asks defined() of
    uses: list[Use] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)  # those without a default
    texts: set[str] = field(default_factory=set)  # the author's string literals
    problems: list[BadExpression] = field(default_factory=list)  # in branches that a request may not take
    doubts: list[BadExpression] = field(default_factory=list)  # what runs, and is hardly what was meant
    macros: list[nodes.Macro] = field(default_factory=list)  # the comprehensions, to stand before everything else
    conditional: int = 0  # blocks around that a request may not come to
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


def parse(text: str, scope: TemplateScope, line: int, column: int) -> ast.expr:
    """Python's tree of an expression. Raises TemplateError with the place of its block."""
    tree = parse_statement(text, scope, line, column, head="(", tail="\n)")
    if not isinstance(tree, ast.Expr):
        raise syntax_error(f"Invalid expression: {text[:100]}", line, column)
    return tree.value


def parse_statement(
    text: str, scope: TemplateScope, line: int, column: int, *, head: str = "", tail: str = ""
) -> ast.stmt:
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
    scope.texts.update(
        part.value for part in ast.walk(body[0]) if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )
    return body[0]


def translate(text: str, scope: TemplateScope, line: int, column: int, *, wide: bool = False) -> Expression:
    tree = parse(text, scope, line, column)
    return translate_tree(tree, text, scope, line, column, wide=wide)


def translate_tree(
    tree: ast.expr, text: str, scope: TemplateScope, line: int, column: int, *, wide: bool = False
) -> Expression:
    """`wide`: in a directive, which takes more of Python than `{{ }}` does."""
    translator = _Translator(scope, line, column, wide=wide)
    try:
        node = translator.visit_lazily(tree) if scope.conditional else translator.visit(tree)
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


def set_names(tree: ast.AST) -> frozenset[str]:
    """The names that an expression sets: those of its comprehensions, and those that a method changes."""
    found: set[str] = set()
    for part in ast.walk(tree):
        if isinstance(part, ast.comprehension):
            found.update(name.id for name in ast.walk(part.target) if isinstance(name, ast.Name))
        elif isinstance(part, ast.Call) and (changed := _changed(part)):
            found.add(changed)
    return frozenset(keywords.show(name) for name in found)


def _changed(tree: ast.Call) -> str:
    """`x` of `x.append(...)`."""
    func = tree.func
    if isinstance(func, ast.Attribute) and func.attr in python.CHANGING and isinstance(func.value, ast.Name):
        return func.value.id
    return ""


class _Translator:
    def __init__(self, scope: TemplateScope, line: int, column: int, *, wide: bool = False) -> None:
        self.scope = scope
        self.line = line
        self.column = column
        self.wide = wide
        self.impure = False

    def fail(self, text: str, hint: str = "") -> TemplateError:
        """What the language does not have."""
        return bad_expression(text, self.line, self.column, hint=hint)

    def refuse(self, text: str, hint: str = "") -> TemplateError:
        """What no template may say, not even where no request comes."""
        return syntax_error(text, self.line, self.column, hint=hint)

    def visit_lazily(self, tree: ast.expr) -> nodes.Expr:
        """What a request may do without: if it is not of the language, it fails where it is come to."""
        try:
            return self.visit(tree)
        except BadExpression as error:
            self.scope.problems.append(error)
            self.impure = True
            return _bad(error)

    def visit(self, tree: ast.expr) -> nodes.Expr:
        method = getattr(self, f"visit_{type(tree).__name__}", None)
        if method is None or (type(tree) in _WIDE and not self.wide):
            raise self.fail(f"Invalid expression: {_said(tree)}")
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
            raise self.refuse(f'"{name}" can not be used as a variable name, line {self.line}')
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
            found = kind(found, self.visit_lazily(value))
        return found

    def visit_UnaryOp(self, tree: ast.UnaryOp) -> nodes.Expr:
        kind = _UNARY.get(type(tree.op))
        if kind is None:
            raise self.fail(f"Invalid UnaryOp: {ast.dump(tree.op)}")
        return kind(self.visit(tree.operand))

    def visit_BinOp(self, tree: ast.BinOp) -> nodes.Expr:
        kind = type(tree.op)
        if self.wide and kind in _BITWISE:
            return call("bitwise", nodes.Const(_BITWISE[kind]), self.visit(tree.left), self.visit(tree.right))
        function = (_WIDE_ARITHMETIC if self.wide else _ARITHMETIC).get(kind)
        if function is None:
            raise self.fail(f"Invalid BinOp: {ast.dump(tree.op)}")
        return call(function, self.visit(tree.left), self.visit(tree.right))

    def visit_Set(self, tree: ast.Set) -> nodes.Expr:
        return call("made_set", *map(self.visit, tree.elts))

    def visit_JoinedStr(self, tree: ast.JoinedStr) -> nodes.Expr:
        return call("joined", *map(self.visit, tree.values))

    def visit_FormattedValue(self, tree: ast.FormattedValue) -> nodes.Expr:
        spec = ast.Constant("") if tree.format_spec is None else tree.format_spec
        parts = spec.values if isinstance(spec, ast.JoinedStr) else [spec]
        if tree.conversion != -1 or not all(isinstance(part, ast.Constant) for part in parts):
            raise self.fail("Invalid expression: a conversion or a computed format in f'...'")
        text = "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
        return call("shaped", self.visit(tree.value), nodes.Const(text))

    def visit_ListComp(self, tree: ast.ListComp) -> nodes.Expr:
        return self.comprehension("list", tree.generators, tree.elt)

    def visit_GeneratorExp(self, tree: ast.GeneratorExp) -> nodes.Expr:
        return self.comprehension("list", tree.generators, tree.elt)

    def visit_SetComp(self, tree: ast.SetComp) -> nodes.Expr:
        return self.comprehension("set", tree.generators, tree.elt)

    def visit_DictComp(self, tree: ast.DictComp) -> nodes.Expr:
        return self.comprehension("dict", tree.generators, tree.key, tree.value)

    def comprehension(self, kind: str, generators: list[ast.comprehension], *values: ast.expr) -> nodes.Expr:
        """Jinja has none: its loops stand in a macro before the template, and the expression runs that."""
        number = len(self.scope.macros)
        before = set(self.scope.assigned)
        loops: list[tuple[nodes.Expr, list[str], ast.expr, list[nodes.Expr]]] = []
        names: list[str] = []
        self.scope.conditional += 1
        try:
            for index, generator in enumerate(generators):
                items = self.visit_lazily(generator.iter) if index else self.visit(generator.iter)
                targets = self.targets(generator.target)
                self.scope.assigned.update(targets)
                names += targets
                loops.append((items, targets, generator.target, [self.visit_lazily(one) for one in generator.ifs]))
            collected: list[nodes.Expr] = [self.visit_lazily(value) for value in values]
        finally:
            self.scope.conditional -= 1
            self.scope.assigned.clear()
            self.scope.assigned.update(before)
        self.impure = True
        body: list[nodes.Node] = [nodes.ExprStmt(call("collect", *collected))]
        for depth, (items, targets, target, conditions) in reversed(list(enumerate(loops))):
            for condition in reversed(conditions):
                body = [nodes.If(condition, body, [], [])]
            item = f"each{number}_{len(self.scope.macros)}_{depth}"
            body = [nodes.ExprStmt(assign(targets, target, nodes.Name(item, "load"))), *body]
            turns = call("iterate", items, nodes.Const(0))
            body = [nodes.For(nodes.Name(item, "store"), turns, body, [], None, False)]
        name = f"comprehension{len(self.scope.macros)}"
        self.scope.macros.append(nodes.Macro(name, [], [], body, lineno=self.line))
        return call(
            "comprehend", nodes.List([nodes.Const(one) for one in names]), nodes.Const(kind), nodes.Name(name, "load")
        )

    def targets(self, target: ast.expr) -> list[str]:
        items = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
        if not all(isinstance(item, ast.Name) for item in items):
            raise self.fail("Only names can be set")
        return [self.name(item) for item in items if isinstance(item, ast.Name)]

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
            return nodes.CondExpr(test, self.visit_lazily(tree.body), self.visit_lazily(tree.orelse))
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
            raise self.fail("Invalid expression: * or ** in a call")
        if isinstance(tree.func, ast.Attribute):
            return self.method(tree, tree.func)
        if not isinstance(tree.func, ast.Name):
            raise self.fail(f"Invalid expression: a call of {_said(tree.func)}")
        name = keywords.show(tree.func.id)
        function = FUNCTIONS.get(name)
        if function is not None:
            return self.function(tree, name, function)
        if self.wide and name in _WIDE_CALLS:
            return self.wide_function(tree, name)
        return self.unknown_function(name)

    def unknown_function(self, name: str) -> nodes.Expr:
        raise self.fail(f"Invalid function name: {name}", self.elsewhere(name, _WIDE_CALLS, f"{name}()"))

    def elsewhere(self, name: str, known: Collection[str], shown: str) -> str:
        """A hint for what `{% %}` has and `{{ }}` has not, or what may have been meant."""
        if name in known:
            return f"{{{{ }}}} does not take it, {{% %}} does: {{% set x = ...{shown} %}}, then {{{{x}}}}."
        return did_you_mean(name, {*known, *FUNCTIONS} if self.wide else FUNCTIONS)

    def wide_function(self, tree: ast.Call, name: str) -> nodes.Expr:
        if name == "isinstance":
            return self.isinstance(tree)
        if name in ("map", "filter"):
            first = tree.args[0] if len(tree.args) == 2 and not tree.keywords else None
            if name == "filter" and isinstance(first, ast.Constant) and first.value is None:
                return call("filtered", self.visit(tree.args[1]))
            if name == "map" and isinstance(first, ast.Name) and first.id in python.MAPPED:
                return call("mapped", nodes.Name(first.id, "load"), self.visit(tree.args[1]))
            known = f"one of {', '.join(sorted(python.MAPPED))}" if name == "map" else "None"
            raise self.fail(f"{name}() takes {known} and a list here", "Write [... for x in list].")
        try:
            _signature(name).bind(None, *tree.args, **{str(k.arg): None for k in tree.keywords})
        except TypeError as error:
            raise self.fail(f"Wrong arguments of {name}(): {error}") from error
        found = call(name, *map(self.visit, tree.args))
        found.kwargs = [nodes.Keyword(keywords.show(str(k.arg)), self.visit(k.value)) for k in tree.keywords]
        return found

    def isinstance(self, tree: ast.Call) -> nodes.Expr:
        if len(tree.args) != 2 or tree.keywords:
            raise self.fail("Wrong arguments of isinstance()")
        second = tree.args[1]
        kinds = [one.id if isinstance(one, ast.Name) else "" for one in getattr(second, "elts", [second])]
        if not set(kinds) <= {*python.KINDS, "list", "set"}:
            raise self.fail(f"isinstance() knows {', '.join(sorted({*python.KINDS, 'list', 'set'}))}")
        return call("is_kind", self.visit(tree.args[0]), *map(nodes.Const, kinds))

    def wide_method(self, tree: ast.Call, func: ast.Attribute) -> nodes.Expr:
        if func.attr not in python.METHODS:
            hint = did_you_mean(func.attr, python.METHODS)
            raise self.fail(f"Invalid method name: {func.attr}", hint)
        arguments = [self.visit(argument) for argument in tree.args]
        if func.attr in python.CHANGING:
            changed = _changed(tree)
            if not changed:
                raise self.fail(f"'{func.attr}' needs a name before it, that {{% set %}} made")
            name = self.name(ast.Name(changed))
            self.impure = True
            found = call("change", nodes.Const(name), nodes.Const(func.attr), *arguments)
        else:
            found = call("method_of", nodes.Const(func.attr), self.visit(func.value), *arguments)
        found.kwargs = [nodes.Keyword(keywords.show(str(k.arg)), self.visit(k.value)) for k in tree.keywords]
        return found

    def method(self, tree: ast.Call, func: ast.Attribute) -> nodes.Expr:
        if self.wide:
            return self.wide_method(tree, func)
        if func.attr not in METHODS:
            hint = self.elsewhere(func.attr, python.METHODS, f".{func.attr}()")
            raise self.fail(f"Invalid method name: {func.attr}", hint)
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
                hint = "A request cannot choose the secret."
                raise self.refuse(f"{name}() takes the name of a secret as a text", hint)
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
            function.call(RenderState({}, Binder(), {}, ()), *values)
        except TemplateError as error:
            raise self.refuse(error.problem, error.hint) from error

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
                self.doubt(parameter, element, has_default=default is not None)
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
                takes_list=function.takes_list,
                declares=name in PARSERS or name == "Array",
                needed=not has_default and not optional and not any(parameter in g for g in self.scope.guarded),
            )
        )

    def doubt(self, parameter: str, element: object, *, has_default: bool) -> None:
        """A default may be any text; one that is nearly the name of a type is a typing error."""
        if isinstance(element, str) and (meant := did_you_mean(element, PARSERS)):
            read = "the elements are read as String" if has_default else "it is read as the default, of String"
            text = f"Array({parameter}, '{element[:64]}'): '{element[:64]}' is no type of elements, so {read}"
            self.scope.doubts.append(bad_expression(text, self.line, self.column, hint=meant))

    def use(self, use: Use) -> None:
        if use.name in self.scope.assigned:
            return
        self.scope.uses.append(replace(use, guards=tuple(self.scope.guards), line=self.line, column=self.column))


def assign(names: list[str], target: ast.expr, value: nodes.Expr) -> nodes.Call:
    if isinstance(target, ast.Name):
        return call("assign", nodes.Const(names[0]), value)
    return call("assign_all", nodes.List([nodes.Const(name) for name in names]), value)


_WORDS: dict[type[ast.expr], str] = {
    ast.Call: "a call",
    ast.Constant: "a constant",
    ast.Dict: "{key: value}",
    ast.DictComp: "{key: value for ...}",
    ast.GeneratorExp: "(... for ...)",
    ast.JoinedStr: "f'...'",
    ast.Lambda: "lambda",
    ast.List: "[...]",
    ast.ListComp: "[... for ...]",
    ast.NamedExpr: ":=",
    ast.Set: "{...}",
    ast.SetComp: "{... for ...}",
    ast.Slice: "a slice",
    ast.Starred: "*",
    ast.Subscript: "x[...]",
    ast.Yield: "yield",
    ast.YieldFrom: "yield from",
}


def _said(tree: ast.expr) -> str:
    """What kind of expression it is, as it is written. Names only: who sends a request did not write the values."""
    if isinstance(tree, ast.Attribute):
        owner = tree.value
        before = _said(owner) if isinstance(owner, ast.Attribute) else ""
        if isinstance(owner, ast.Name):
            before = keywords.show(owner.id)
        return f"{before}.{keywords.show(tree.attr)}"
    return _WORDS.get(type(tree), type(tree).__name__)


def _bad(error: BadExpression) -> nodes.Expr:
    text = error.problem
    return call("bad", *map(nodes.Const, (text, error.hint, error.line, error.column)))


def _element(tree: ast.expr) -> ast.expr:
    """`Array(x, Int32)` is `Array(x, 'Int32')`."""
    return ast.Constant(tree.id) if isinstance(tree, ast.Name) and tree.id in PARSERS else tree


@cache
def _signature(name: str) -> inspect.Signature:
    return inspect.signature(FUNCTIONS[name].call if name in FUNCTIONS else python.FUNCTIONS[name])
