"""Directives and text into Jinja's nodes: if, for, while, try, set, break, continue. Tornado's rules, so Python's.

Variables have one scope, the rendering: what is set in a loop or a branch is there afterwards, as in the dialect.
Jinja's own variables are not used for them; its loops and conditions are. It has no `try`: each block of one becomes a
macro, whose output goes to the rendering's state and so is kept when the block fails half-way.
"""

from __future__ import annotations

import ast
import re

from jinja2 import nodes

from pipit.errors import TemplateError
from pipit.templates import keywords
from pipit.templates.expressions import (
    TemplateScope,
    assign,
    call,
    defined_names,
    parse,
    parse_statement,
    set_names,
    translate,
    translate_tree,
)
from pipit.templates.failures import syntax_error
from pipit.templates.parts import PartKind, TemplatePart
from pipit.templates.runtime import CATCHABLE
from pipit.templates.state import Branch

_FORBIDDEN = ("import", "from", "extends", "include", "autoescape", "raw", "module", "apply", "block")
_OPENING = ("if", "for", "while", "try")
_BETWEEN = ("elif", "else", "except", "finally")
_AS = re.compile(r"\s+as\s+")
_MAX_DEPTH = 18  # Python compiles at most 20 nested blocks
_AFTER = {  # what may follow each block of a `try`
    "try": ("except", "finally"), "except": ("except", "else", "finally"), "else": ("finally",), "finally": (),
}  # fmt: skip


def assigned_names(parts: list[TemplatePart], scope: TemplateScope) -> frozenset[str]:
    """The names that any directive of the template sets."""
    found: set[str] = set()
    for part in parts:
        if part.kind is PartKind.DIRECTIVE:
            operator, rest = _operator(part)
            if operator == "set":
                found.update(_names(_assignment(rest, scope, part).targets[0], part))
            elif operator == "for":
                found.update(_names(_for(rest, scope, part).target, part))
            elif operator == "except":
                found.update(filter(None, [_caught(rest, scope, part)[1]]))
            found |= _set_inside(operator, rest, scope, part)
    return frozenset(found)


def _set_inside(operator: str, rest: str, scope: TemplateScope, part: TemplatePart) -> frozenset[str]:
    """What the expression of a directive sets by itself."""
    match operator:
        case "set":
            return set_names(_assignment(rest, scope, part).value)
        case "for":
            return set_names(_for(rest, scope, part).iter)
        case "if" | "elif" | "while" if rest:
            return set_names(parse(rest, scope, part.line, part.column))
    return frozenset()


def build(parts: list[TemplatePart], scope: TemplateScope) -> list[nodes.Node]:
    builder = _Builder(parts, scope)
    body, end = builder.body(None)
    body = [*scope.macros, *body]
    if end is not None:
        operator, _ = _operator(end)
        what = "Extra {% end %} block" if operator == "end" else f"{operator} outside of its block"
        raise syntax_error(f"{what} at {scope.name}:{end.line}", end.line, end.column)
    return body


def _operator(part: TemplatePart) -> tuple[str, str]:
    match = re.match(r"[A-Za-z_]+", part.text)
    operator = match[0] if match else part.text.split()[0]
    return operator, part.text[len(operator) :].strip()


def _assignment(rest: str, scope: TemplateScope, part: TemplatePart) -> ast.Assign:
    """`a = expr`, `a, b = expr`, `a += expr`; the last becomes the first."""
    statement = parse_statement(" ".join(rest.splitlines()), scope, part.line, part.column)
    if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
        value = ast.BinOp(ast.Name(statement.target.id, ast.Load()), statement.op, statement.value)
        return ast.Assign([statement.target], value)
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        raise syntax_error(f"Invalid set: {rest[:100]}", part.line, part.column, hint="Write {% set name = value %}.")
    return statement


def _for(rest: str, scope: TemplateScope, part: TemplatePart) -> ast.For:
    statement = parse_statement(
        " ".join(rest.splitlines()), scope, part.line, part.column, head="for ", tail=":\n pass"
    )
    if not isinstance(statement, ast.For):
        raise syntax_error(f"Invalid for: {rest[:100]}", part.line, part.column)
    return statement


def _caught(rest: str, scope: TemplateScope, part: TemplatePart) -> tuple[tuple[str, ...], str]:
    """`except (KeyError, TypeError) as e`: the names of the errors (none: every error) and that of the variable."""
    match = _AS.search(rest)
    types, variable = (rest[: match.start()], rest[match.end() :]) if match else (rest, "")
    tree = parse(types, scope, part.line, part.column) if types else None
    listed = tree.elts if isinstance(tree, ast.Tuple) else [tree] if tree else []
    names = []
    for item in listed:
        name = item.id if isinstance(item, ast.Name) else ""
        if name not in CATCHABLE:
            raise syntax_error(
                f"'except {rest[:100]}' names no error that a template can raise",
                part.line,
                part.column,
                hint=f"Name one of {', '.join(CATCHABLE)}, or none of them for all.",
            )
        names.append(name)
    if variable:
        caught = _names(parse(variable, scope, part.line, part.column), part)
        if len(caught) != 1:
            raise syntax_error(f"Invalid except: {rest[:100]}", part.line, part.column)
        variable = caught[0]
    return tuple(names), variable


def _names(target: ast.expr, part: TemplatePart) -> list[str]:
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
    def __init__(self, parts: list[TemplatePart], scope: TemplateScope) -> None:
        self.parts = parts
        self.scope = scope
        self.position = 0
        self.depth = 0
        self.loops: list[int] = []  # those open in the same macro, each with its number
        self.outer = False  # there is one outside of the macro
        self.leaving: set[str] = set()  # what the `try` that is open does to a loop outside of it
        self.inside = 0  # `try` blocks around
        self.wrote = False  # the outermost of them may have written something already
        self.points: set[Branch] = set()
        self.counter = 0

    def body(self, block: TemplatePart | None) -> tuple[list[nodes.Node], TemplatePart | None]:
        """Nodes until a directive that ends or divides the block; that directive, or None at the end of the source."""
        found: list[nodes.Node] = []
        while self.position < len(self.parts):
            part = self.parts[self.position]
            self.position += 1
            if part.kind is PartKind.TEXT:
                found.append(_at(self.written(nodes.TemplateData(part.text)), part))
                self.wrote = self.wrote or not part.text.isspace()
            elif part.kind is PartKind.EXPRESSION:
                found += [*self.point(part), _at(self.output(part), part)]
                self.wrote = True
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

    def output(self, part: TemplatePart) -> nodes.Node:
        expression = translate(part.text, self.scope, part.line, part.column)
        shown = nodes.Const(expression.source[:200])
        return self.written(call("emit", expression.node, shown, nodes.Const(expression.key)))

    def written(self, text: nodes.Expr) -> nodes.Node:
        return nodes.ExprStmt(call("write", text)) if self.inside else nodes.Output([text])

    def fail(self, part: TemplatePart, text: str, hint: str = "") -> TemplateError:
        return syntax_error(text, part.line, part.column, hint=hint)

    def directive(self, operator: str, rest: str, part: TemplatePart) -> list[nodes.Node]:
        if operator in _FORBIDDEN:
            raise self.fail(part, f"{operator} is forbidden at {self.scope.name}:{part.line}")
        if operator in ("break", "continue"):
            if not self.loops and not self.outer:
                raise self.fail(part, f"{operator} outside of a loop at {self.scope.name}:{part.line}")
            return self.leave(operator)
        if operator == "try" and not self.inside:
            self.wrote = False
        before = self.point(part)
        if operator == "set":
            return [*before, *self.set(rest, part)]
        if operator not in _OPENING:
            raise self.fail(part, f"unknown operator: {operator!r} at {self.scope.name}:{part.line}")
        if self.depth >= _MAX_DEPTH:
            raise self.fail(part, "Blocks are nested too deeply")
        self.depth += 1
        try:
            found = self.if_(rest, part) if operator == "if" else getattr(self, f"{operator}_")(rest, part)
            return [*before, *found]
        finally:
            self.depth -= 1

    def divided(self, part: TemplatePart, allowed: tuple[str, ...]) -> tuple[list[nodes.Node], str, str, TemplatePart]:
        """A body and what ended it: `end`, or one of the allowed dividers."""
        self.scope.conditional += 1
        body, end = self.body(part)
        self.scope.conditional -= 1
        assert end is not None
        operator, rest = _operator(end)
        if operator != "end" and operator not in allowed:
            opener, _ = _operator(part)
            raise self.fail(end, f"{operator} cannot stand in a {opener} block at {self.scope.name}:{end.line}")
        return body, operator, rest, end

    def if_(self, rest: str, part: TemplatePart) -> list[nodes.Node]:
        test, tree = self.condition(rest, part, "if")
        branches: list[tuple[nodes.Expr, list[nodes.Node], TemplatePart]] = []
        otherwise: list[nodes.Node] = []
        conditions = [rest]
        names = set(defined_names(tree))  # grows with each elif
        here = part
        while True:
            self.scope.guards.append(conditions[-1])
            self.scope.guarded.append(names)
            body, operator, following, end = self.divided(part, ("elif", "else"))
            self.scope.guards.pop()
            self.scope.guarded.pop()
            branches.append((test, [*self.visit("elif" if branches else "if", here), *body], here))
            if operator == "elif":
                self.scope.conditional += 1
                test, tree = self.condition(following, end, "elif")
                self.scope.conditional -= 1
                conditions.append(following)
                names |= defined_names(tree)
                here = end
                continue
            break
        if operator == "else":
            self.scope.guards.append(f"not ({' or '.join(conditions)})")
            self.scope.guarded.append(names)
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

    def condition(self, rest: str, part: TemplatePart, operator: str) -> tuple[nodes.Expr, ast.expr]:
        if not rest:
            raise self.fail(part, f"{operator} needs a condition at {self.scope.name}:{part.line}")
        expression = translate(rest, self.scope, part.line, part.column, wide=True)
        return expression.node, expression.tree

    def set(self, rest: str, part: TemplatePart) -> list[nodes.Node]:
        statement = _assignment(rest, self.scope, part)
        value = translate_tree(statement.value, rest, self.scope, part.line, part.column, wide=True).node
        return self.assign(_names(statement.targets[0], part), statement.targets[0], value)

    def assign(self, names: list[str], target: ast.expr, value: nodes.Expr) -> list[nodes.Node]:
        self.scope.assigned.update(names)
        return [nodes.ExprStmt(assign(names, target, value))]

    def for_(self, rest: str, part: TemplatePart) -> list[nodes.Node]:
        statement = _for(rest, self.scope, part)
        items = translate_tree(statement.iter, rest, self.scope, part.line, part.column, wide=True).node
        names = _names(statement.target, part)
        self.counter += 1
        item = f"item{self.counter}"
        head = self.assign(names, statement.target, nodes.Name(item, "load"))
        visit = self.visit("for", part)
        body, before, after = self.loop(part)
        body = [*visit, *body]
        turns = call("iterate", items, nodes.Const(_text_size(body)))
        none = self.visit("for skipped", part)
        return [*before, nodes.For(nodes.Name(item, "store"), turns, [*head, *body], none, None, False), *after]

    def while_(self, rest: str, part: TemplatePart) -> list[nodes.Node]:
        condition, _ = self.condition(rest, part, "while")
        stop = nodes.If(nodes.Not(condition), [nodes.Break()], [], [])
        self.counter += 1
        item = f"item{self.counter}"
        visit = self.visit("while", part)
        body, before, after = self.loop(part)
        body = [*visit, *body]
        check = self.point(part)
        turns = call("endless", nodes.Const(_text_size(body)))
        return [*before, nodes.For(nodes.Name(item, "store"), turns, [*check, stop, *body], [], None, False), *after]

    def loop(self, part: TemplatePart) -> tuple[list[nodes.Node], list[nodes.Node], list[nodes.Node]]:
        """A loop's body; what stands before and after the loop for an `else`, which a `break` skips."""
        number = self.counter
        self.loops.append(number)
        self.wrote = self.wrote or self.inside > 0  # by an earlier turn
        body, operator, _, end = self.divided(part, ("else",))
        self.loops.pop()
        if operator != "else":
            return body, [], []
        otherwise, _, _, _ = self.divided(part, ())
        unbroken = nodes.Not(call("was_broken", nodes.Const(number)))
        before = nodes.ExprStmt(call("unbroken", nodes.Const(number)))
        after = nodes.If(unbroken, [*self.visit("else", end), *otherwise], [], [])
        return body, [_at(before, part)], [_at(after, end)]

    def leave(self, how: str) -> list[nodes.Node]:
        """`break` or `continue`, which may have to leave a `try` first."""
        if not self.loops:
            self.leaving.add(how)
            return [nodes.ExprStmt(call("leave", nodes.Const(how)))]
        if how == "continue":
            return [nodes.Continue()]
        return [nodes.ExprStmt(call("broke", nodes.Const(self.loops[-1]))), nodes.Break()]

    def visit(self, kind: str, part: TemplatePart) -> list[nodes.Node]:
        """Tells the rendering that it came here, where that is asked for."""
        if self.scope.branches is None:
            return []
        branch = Branch(self.scope.name, kind, part.line, part.column)
        self.scope.branches.append(branch)
        return [_at(nodes.ExprStmt(call("visit", *(nodes.Const(value) for value in branch))), part)]

    def point(self, part: TemplatePart) -> list[nodes.Node]:
        """Before what may fail in a `try`: text that was written stays, so that each such place is a way of its own."""
        if self.scope.branches is None or not self.inside or not self.wrote:
            return []
        branch = Branch(self.scope.name, "try stopped", part.line, part.column)
        if branch not in self.points:
            self.points.add(branch)
            self.scope.branches.append(branch)
        return [_at(nodes.ExprStmt(call("point", *(nodes.Const(value) for value in branch))), part)]

    def try_(self, rest: str, part: TemplatePart) -> list[nodes.Node]:
        if rest:
            raise self.fail(part, f"Invalid try: {rest[:100]}")
        loops, outer, leaving = self.loops, self.outer, self.leaving
        self.loops, self.outer, self.leaving = [], outer or bool(loops), set()
        self.inside += 1
        self.counter += 1
        number = self.counter
        found: list[nodes.Node] = [] if self.scope.branches is None else [nodes.ExprStmt(call("no_point"))]
        none: nodes.Expr = nodes.Const(None)
        blocks = {"try": none, "else": none, "finally": none}
        handlers: list[nodes.Expr] = []
        operator, here = "try", part
        while operator != "end":
            name = f"{operator}{number}_{len(handlers)}"
            caught = _caught(rest, self.scope, here) if operator == "except" else ((), "")
            self.scope.assigned.update(filter(None, [caught[1]]))
            current, opened = operator, here
            body, operator, rest, here = self.divided(part, _AFTER[current])
            visited = self.visit(current, opened)  # last: what fails half-way does not count
            found.append(_at(nodes.Macro(name, [], [], [*body, *visited]), opened))
            if current != "except":
                blocks[current] = nodes.Name(name, "load")
                continue
            if operator == "except" and not caught[0]:
                raise self.fail(here, "An 'except' that catches every error must be the last")
            names = nodes.Tuple([nodes.Const(one) for one in caught[0]], "load")
            handlers.append(nodes.Tuple([names, nodes.Const(caught[1]), nodes.Name(name, "load")], "load"))
        if not handlers and blocks["finally"] is none:
            raise self.fail(part, f"A try needs an except or a finally at {self.scope.name}:{part.line}")
        left = self.leaving
        self.loops, self.outer, self.leaving = loops, outer, leaving
        self.inside -= 1
        tried = call("attempt", blocks["try"], nodes.List(handlers), blocks["else"], blocks["finally"])
        found.append(nodes.ExprStmt(tried) if self.inside else nodes.Output([tried]))
        for how in sorted(left):
            found.append(nodes.If(call("left", nodes.Const(how)), self.leave(how), [], []))
        return found


def _text_size(body: list[nodes.Node]) -> int:
    return sum(len(data.data) for node in body for data in node.find_all(nodes.TemplateData))


def _at(node: nodes.Node, part: TemplatePart) -> nodes.Node:
    """The node with the part's line, and what is in it and has none yet: each node is looked at once."""
    todo = [node]
    while todo:
        one = todo.pop()
        if one.lineno is None:
            one.lineno = part.line
            todo.extend(one.iter_child_nodes())
    return node
