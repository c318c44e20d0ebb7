"""Directives and text into Jinja's nodes: if, for, while, try, set, break, continue. Tornado's rules.

Variables have one scope, the rendering: what is set in a loop or a branch is there afterwards, as in the dialect.
Jinja's own variables are not used for them; its loops and conditions are.
"""

from __future__ import annotations

import ast
import re

from jinja2 import nodes

from pipit.errors import TemplateError
from pipit.templates import keywords
from pipit.templates.expressions import Scope, call, defined_names, parse_statement, translate, translate_tree
from pipit.templates.failures import syntax_error
from pipit.templates.parts import Part, PartKind
from pipit.templates.state import Branch

_FORBIDDEN = ("import", "from", "extends", "include", "autoescape", "raw", "module", "apply", "block")
_OPENING = ("if", "for", "while", "try")
_BETWEEN = {"elif": ("if",), "else": ("if",), "except": ("try",), "finally": ("try",)}
_MAX_DEPTH = 18  # Python compiles at most 20 nested blocks
_EXCEPT = re.compile(r"(Exception)?\Z")


def assigned_names(parts: list[Part], scope: Scope) -> frozenset[str]:
    """The names that any directive of the template sets."""
    found: set[str] = set()
    for part in parts:
        if part.kind is PartKind.DIRECTIVE:
            operator, rest = _operator(part)
            if operator == "set":
                found.update(_names(_assignment(rest, scope, part).targets[0], part))
            elif operator == "for":
                found.update(_names(_for(rest, scope, part).target, part))
    return frozenset(found)


def build(parts: list[Part], scope: Scope) -> list[nodes.Node]:
    builder = _Builder(parts, scope)
    body, end = builder.body(None)
    if end is not None:
        operator, _ = _operator(end)
        what = "Extra {% end %} block" if operator == "end" else f"{operator} outside of its block"
        raise syntax_error(f"{what} at {scope.name}:{end.line}", end.line, end.column)
    return body


def _operator(part: Part) -> tuple[str, str]:
    match = re.match(r"[A-Za-z_]+", part.text)
    operator = match[0] if match else part.text.split()[0]
    return operator, part.text[len(operator) :].strip()


def _assignment(rest: str, scope: Scope, part: Part) -> ast.Assign:
    """`a = expr`, `a, b = expr`, `a += expr`; the last becomes the first."""
    statement = parse_statement(" ".join(rest.splitlines()), scope, part.line, part.column)
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
        value = ast.BinOp(ast.Name(statement.target.id, ast.Load()), statement.op, statement.value)
        return ast.Assign([statement.target], value)
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        raise syntax_error(f"Invalid set: {rest[:100]}", part.line, part.column, hint="Write {% set name = value %}.")
    return statement


def _for(rest: str, scope: Scope, part: Part) -> ast.For:
    statement = parse_statement(
        " ".join(rest.splitlines()), scope, part.line, part.column, head="for ", tail=":\n pass"
    )
    if not isinstance(statement, ast.For):
        raise syntax_error(f"Invalid for: {rest[:100]}", part.line, part.column)
    return statement


def _names(target: ast.expr, part: Part) -> list[str]:
    items = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
    found = []
    for item in items:
        if not isinstance(item, ast.Name):
            raise syntax_error("Only names can be set", part.line, part.column)
        name = keywords.show(item.id)
        if name in ("format", "q"):
            raise syntax_error(f'"{name}" can not be used as a variable name, line {part.line}', part.line, part.column)
        found.append(name)
    return found


class _Builder:
    def __init__(self, parts: list[Part], scope: Scope) -> None:
        self.parts = parts
        self.scope = scope
        self.position = 0
        self.depth = 0
        self.loops = 0
        self.counter = 0

    def body(self, block: Part | None) -> tuple[list[nodes.Node], Part | None]:
        """Nodes until a directive that ends or divides the block; that directive, or None at the end of the source."""
        found: list[nodes.Node] = []
        while self.position < len(self.parts):
            part = self.parts[self.position]
            self.position += 1
            if part.kind is PartKind.TEXT:
                found.append(_at(nodes.Output([nodes.TemplateData(part.text)]), part))
            elif part.kind is PartKind.EXPRESSION:
                found.append(_at(self.output(part), part))
            else:
                operator, rest = _operator(part)
                if operator == "end" or operator in _BETWEEN:
                    return found, part
                found.extend(_at(node, part) for node in self.directive(operator, rest, part))
        if block is not None:
            operator, _ = _operator(block)
            raise syntax_error(
                f"Missing {{% end %}} block for {operator} at line {block.line}", block.line, block.column
            )
        return found, None

    def output(self, part: Part) -> nodes.Node:
        expression = translate(part.text, self.scope, part.line, part.column)
        if expression.calls == "JSON":
            raise self.fail(part, "An object cannot stand in SQL", "Take a part of it: JSON(name).get('key').")
        shown = nodes.Const(expression.source[:200])
        return nodes.Output([call("emit", expression.node, shown, nodes.Const(expression.key))])

    def fail(self, part: Part, text: str, hint: str = "") -> TemplateError:
        return syntax_error(text, part.line, part.column, hint=hint)

    def directive(self, operator: str, rest: str, part: Part) -> list[nodes.Node]:
        if operator in _FORBIDDEN:
            raise self.fail(part, f"{operator} is forbidden at {self.scope.name}:{part.line}")
        if operator in ("break", "continue"):
            if not self.loops:
                raise self.fail(part, f"{operator} outside of a loop at {self.scope.name}:{part.line}")
            return [nodes.Break() if operator == "break" else nodes.Continue()]
        if operator == "set":
            return self.set(rest, part)
        if operator not in _OPENING:
            raise self.fail(part, f"unknown operator: {operator!r} at {self.scope.name}:{part.line}")
        if self.depth >= _MAX_DEPTH:
            raise self.fail(part, "Blocks are nested too deeply")
        self.depth += 1
        try:
            return self.if_(rest, part) if operator == "if" else getattr(self, f"{operator}_")(rest, part)
        finally:
            self.depth -= 1

    def divided(self, part: Part, allowed: tuple[str, ...]) -> tuple[list[nodes.Node], str, str, Part]:
        """A body and what ended it: `end`, or one of the allowed dividers."""
        body, end = self.body(part)
        assert end is not None
        operator, rest = _operator(end)
        if operator != "end" and operator not in allowed:
            opener, _ = _operator(part)
            raise self.fail(end, f"{operator} cannot stand in a {opener} block at {self.scope.name}:{end.line}")
        return body, operator, rest, end

    def if_(self, rest: str, part: Part) -> list[nodes.Node]:
        test, tree = self.condition(rest, part, "if")
        branches: list[tuple[nodes.Expr, list[nodes.Node], Part]] = []
        otherwise: list[nodes.Node] = []
        conditions = [rest]
        names = [defined_names(tree)]
        here = part
        while True:
            self.scope.guards.append(conditions[-1])
            self.scope.guarded.append(frozenset().union(*names))
            body, operator, following, end = self.divided(part, ("elif", "else"))
            self.scope.guards.pop()
            self.scope.guarded.pop()
            branches.append((test, [*self.visit("elif" if branches else "if", here), *body], here))
            if operator == "elif":
                test, tree = self.condition(following, end, "elif")
                conditions.append(following)
                names.append(defined_names(tree))
                here = end
                continue
            break
        if operator == "else":
            self.scope.guards.append(f"not ({' or '.join(conditions)})")
            self.scope.guarded.append(frozenset().union(*names))
            otherwise, _, _, _ = self.divided(part, ())
            otherwise = [*self.visit("else", end), *otherwise]
            self.scope.guards.pop()
            self.scope.guarded.pop()
        else:
            otherwise = self.visit("if skipped", part)
        first, *more = [_at(nodes.If(condition, body, [], []), place) for condition, body, place in branches]
        assert isinstance(first, nodes.If)
        first.elif_ = [node for node in more if isinstance(node, nodes.If)]
        first.else_ = otherwise
        return [first]

    def condition(self, rest: str, part: Part, operator: str) -> tuple[nodes.Expr, ast.expr]:
        if not rest:
            raise self.fail(part, f"{operator} needs a condition at {self.scope.name}:{part.line}")
        expression = translate(rest, self.scope, part.line, part.column)
        return expression.node, expression.tree

    def set(self, rest: str, part: Part) -> list[nodes.Node]:
        statement = _assignment(rest, self.scope, part)
        value = translate_tree(statement.value, rest, self.scope, part.line, part.column).node
        return self.assign(_names(statement.targets[0], part), statement.targets[0], value)

    def assign(self, names: list[str], target: ast.expr, value: nodes.Expr) -> list[nodes.Node]:
        self.scope.assigned.update(names)
        if isinstance(target, ast.Name):
            return [nodes.ExprStmt(call("assign", nodes.Const(names[0]), value))]
        return [nodes.ExprStmt(call("assign_all", nodes.List([nodes.Const(name) for name in names]), value))]

    def for_(self, rest: str, part: Part) -> list[nodes.Node]:
        statement = _for(rest, self.scope, part)
        items = translate_tree(statement.iter, rest, self.scope, part.line, part.column).node
        names = _names(statement.target, part)
        self.counter += 1
        item = f"item{self.counter}"
        head = self.assign(names, statement.target, nodes.Name(item, "load"))
        body = [*self.visit("for", part), *self.loop(part)]
        size = nodes.Const(_text_size(body))
        turns = call("iterate", items, size)
        none = self.visit("for skipped", part)
        return [nodes.For(nodes.Name(item, "store"), turns, [*head, *body], none, None, False)]

    def while_(self, rest: str, part: Part) -> list[nodes.Node]:
        condition, _ = self.condition(rest, part, "while")
        leave = nodes.If(nodes.Not(condition), [nodes.Break()], [], [])
        self.counter += 1
        body = [*self.visit("while", part), *self.loop(part)]
        turns = call("endless", nodes.Const(_text_size(body)))
        return [nodes.For(nodes.Name(f"item{self.counter}", "store"), turns, [leave, *body], [], None, False)]

    def visit(self, kind: str, part: Part) -> list[nodes.Node]:
        """Tells the rendering that it came here, where that is asked for."""
        if self.scope.branches is None:
            return []
        branch = Branch(self.scope.name, kind, part.line, part.column)
        self.scope.branches.append(branch)
        return [_at(nodes.ExprStmt(call("visit", *(nodes.Const(value) for value in branch))), part)]

    def loop(self, part: Part) -> list[nodes.Node]:
        self.loops += 1
        try:
            body, _, _, _ = self.divided(part, ())
        finally:
            self.loops -= 1
        return body

    def try_(self, rest: str, part: Part) -> list[nodes.Node]:
        """Each block becomes a macro, whose text is taken or left as a whole."""
        outer, self.loops = self.loops, 0  # a macro cannot break out of the loop around it
        blocks: dict[str, list[nodes.Node]] = {}
        operator, here = "try", part
        while operator != "end":
            if operator in blocks or (operator == "except" and not _EXCEPT.match(rest)):
                raise self.fail(here, f"{operator} {rest}".strip() + " is not supported here")
            current = operator
            opened = here
            body, operator, rest, here = self.divided(part, ("except", "finally"))
            blocks[current] = [*body, *self.visit(current, opened)]  # last: what fails half-way does not count
        self.loops = outer
        self.counter += 1
        found: list[nodes.Node] = []
        names: list[nodes.Expr] = []
        for kind in ("try", "except", "finally"):
            if kind not in blocks:
                names.append(nodes.Const(None))
                continue
            name = f"{kind}{self.counter}"
            found.append(nodes.Macro(name, [], [], blocks[kind]))
            names.append(nodes.Name(name, "load"))
        return [*found, nodes.Output([call("attempt", *names)])]


def _text_size(body: list[nodes.Node]) -> int:
    return sum(len(data.data) for node in body for data in node.find_all(nodes.TemplateData))


def _at(node: nodes.Node, part: Part) -> nodes.Node:
    return node.set_lineno(part.line)
