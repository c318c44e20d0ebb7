"""What a project's SQL compares with what: columns with constants, with parameters and with other columns.

Read from tokens, template and all, without rendering: every branch counts. It is a guess at meaning, good enough to
choose data that matches filters and joins, and to find the column that holds a tenant. It never decides who may read
what. A place in a JSON text or a JSON column is a chain of names, like a column behind its table's alias.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipit.catalog.snapshot import CompiledNode
from pipit.errors import PipitError
from pipit.sql.lexer import LexerKind, Token, identifier_name, significant, string_value, tokenize
from pipit.templates.parts import PartKind, split

Chain = tuple[str, ...]
Literal = str | int | float

_NAMES = (LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER)
_MARK = "pipit_value_"
_SYMBOLS = frozenset({"=", "==", "!=", "<>", "<", "<=", ">", ">=", "<=>"})
_OPERATOR_WORDS = frozenset({"IN", "LIKE", "ILIKE", "BETWEEN"})
_STOPS_TEXT = """
AND OR NOT WHERE PREWHERE HAVING ON USING SELECT DISTINCT CASE WHEN THEN ELSE END GROUP ORDER BY LIMIT OFFSET IS AS FROM
JOIN LEFT RIGHT INNER OUTER FULL CROSS ANY ALL ASOF SEMI ANTI GLOBAL UNION INTERSECT EXCEPT SETTINGS FORMAT WITH QUALIFY
WINDOW OVER PARTITION ARRAY FINAL SAMPLE ASC DESC
"""
_CALLS_TEXT = """
startswith endswith position positioncaseinsensitive like ilike notlike match has hasany hasall equals notequals less
greater lessorequals greaterorequals in notin indexof hastoken multisearchany positionutf8
"""
_STOPS = _OPERATOR_WORDS | frozenset(_STOPS_TEXT.split())
_CALLS = frozenset(_CALLS_TEXT.split())
_JSON = re.compile(r"(?:json(?:extract|_value|has|type|length)|simplejson|visitparam)\w*", re.IGNORECASE)
_CASTS = frozenset({"cast", "accuratecast", "accuratecastornull", "accuratecastordefault"})
_CONVERTS = re.compile(r"to(U?Int\d+|B?Float\d+|Decimal\d+|Date(?:Time)?(?:32|64)?|Bool|Interval\w+)(?:Or\w+)?")
_WORDS = re.compile(r"[A-Za-z_]\w*")
_TEXTS = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
_NUMBERS = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])")
_SET = re.compile(r"set\s+(\w+)\s*=")


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison."""

    names: tuple[Chain, ...] = ()
    literals: tuple[Literal, ...] = ()
    params: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SqlComparison:
    left: Side
    operator: str  # upper case; a function's name in lower case
    right: Side


@dataclass(slots=True)
class Mined:
    """What was found in one text, or in several."""

    comparisons: list[SqlComparison] = field(default_factory=list)
    aliases: dict[str, set[Chain]] = field(default_factory=lambda: defaultdict(set))
    json: dict[Chain, str] = field(default_factory=dict)  # place inside a JSON text -> the function that takes it out
    dotted: set[Chain] = field(default_factory=set)  # every `a.b.c`
    casts: dict[Chain, str] = field(default_factory=dict)  # a column, or a place in one -> the type it is turned into
    keys: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # column -> constants in its brackets
    tested: dict[str, set[Literal]] = field(default_factory=lambda: defaultdict(set))  # parameter -> the template's own

    def add(self, other: Mined) -> None:
        self.comparisons += other.comparisons
        for name, chains in other.aliases.items():
            self.aliases[name] |= chains
        self.json |= other.json
        self.dotted |= other.dotted
        self.casts |= other.casts
        for name, keys in other.keys.items():
            self.keys[name] |= keys
        for name, literals in other.tested.items():
            self.tested[name] |= literals

    def columns_of(self, parameter: str) -> set[tuple[Chain, str]]:
        """The places that a parameter is compared with, and how (`=`, `IN`, `>=`)."""
        found: set[tuple[Chain, str]] = set()
        for one in self.comparisons:
            for side, other in ((one.left, one.right), (one.right, one.left)):
                if parameter in side.params:
                    found |= {(chain, one.operator) for chain in other.names}
        return found


def mine_node(node: CompiledNode) -> Mined:
    """What a node's text compares."""
    parameters = frozenset(p.name for p in node.template.parameters) if node.template else frozenset()
    return mine(node.node.sql, parameters)


def mine(sql: str, parameters: frozenset[str] = frozenset()) -> Mined:
    found = Mined()
    text, marks = _without_template(sql, parameters, found)
    reader = _Reader(significant(tokenize(text)), marks, found)
    reader.read()
    reader.read_chains()
    return found


def _without_template(sql: str, parameters: frozenset[str], found: Mined) -> tuple[str, list[tuple[str, ...]]]:
    """The SQL with a name in the place of every expression; what each of them takes from the request."""
    start = len(sql) - len(sql.lstrip())
    if not sql.startswith("%", start):
        return sql, []
    try:
        parts = split(sql[:start] + " " + sql[start + 1 :], "")
    except PipitError:
        return "", []
    local: dict[str, tuple[str, ...]] = {}
    marks: list[tuple[str, ...]] = []
    texts: list[str] = []
    for part in parts:
        if part.kind is PartKind.TEXT:
            texts.append(part.text)
            continue
        outside = _TEXTS.sub(" ", part.text)
        names: dict[str, None] = {}
        for word in _WORDS.findall(outside):
            names |= dict.fromkeys(local.get(word, (word,) if word in parameters else ()))
        if part.kind is PartKind.EXPRESSION:
            texts.append(f" {_MARK}{len(marks)} ")
            marks.append(tuple(names))
            continue
        assigned = _SET.match(part.text)
        if assigned:
            local[assigned[1]] = tuple(names)
        elif part.text.startswith(("if ", "elif ", "if(", "elif(")):
            literals: set[Literal] = {a or b for a, b in _TEXTS.findall(part.text)}
            literals |= {_number(text) for text in _NUMBERS.findall(outside)}
            for name in names:
                found.tested[name] |= literals
    return "".join(texts), marks


class _Reader:
    def __init__(self, tokens: Sequence[Token], marks: Sequence[tuple[str, ...]], found: Mined) -> None:
        self.tokens = tokens
        self.marks = marks
        self.found = found

    def read(self) -> None:
        for at, token in enumerate(self.tokens):
            word = token.text.upper() if token.kind is LexerKind.WORD else ""
            if token.kind is LexerKind.OPERATOR and token.text in _SYMBOLS:
                self._compare(at, token.text)
            elif word in _OPERATOR_WORDS:
                self._compare(at, word)
            elif word == "AS" and at + 1 < len(self.tokens) and self.tokens[at + 1].kind in _NAMES:
                side = self._side(self._back(at))
                if len(side.names) == 1:
                    self.found.aliases[identifier_name(self.tokens[at + 1])].add(side.names[0])
            elif token.kind is LexerKind.WORD and self._text(at + 1) == "(":
                self._call(at, token.text)
                self._cast(at, token.text)
            elif token.kind in _NAMES and self._text(at + 1) == "[" and at + 2 < len(self.tokens):
                key = self.tokens[at + 2]
                if key.kind is LexerKind.STRING:
                    self.found.keys[identifier_name(token)].add(string_value(key.text))

    def read_chains(self) -> None:
        """`a.b.c`, and what `::`, `.:` and CAST make of a column or of a place in one."""
        at = 0
        while at < len(self.tokens):
            if self.tokens[at].kind not in _NAMES or self._text(at + 1) == "(":
                at += 1
                continue
            chain, after = self._chain(at, len(self.tokens))
            if len(chain) > 1:
                self.found.dotted.add(chain)
            type = after + 1 if self._text(after) == "::" else after + 2
            if self._text(after) == "::" or (self._text(after) == "." and self._text(after + 1) == ":"):
                text = self._text(type)
                self.found.casts[chain] = identifier_name(self.tokens[type]) if text.startswith("`") else text
            at = after

    def _cast(self, at: int, name: str) -> None:
        arguments = self._arguments(at + 1)
        if not arguments or self.tokens[arguments[0][0]].kind not in _NAMES:
            return
        chain, after = self._chain(*arguments[0])
        if name.lower() in _CASTS and len(arguments) == 2 and after == arguments[0][1]:
            self.found.casts[chain] = self._text(arguments[1][0]).strip("'")
        elif name.lower() == "cast" and self._text(after).upper() == "AS":
            self.found.casts[chain] = self._text(after + 1)
        elif (converts := _CONVERTS.fullmatch(name)) and after == arguments[0][1]:
            self.found.casts[chain] = converts[1]

    def _call(self, at: int, name: str) -> None:
        if name.lower() in _CALLS:
            arguments = self._arguments(at + 1)
            if len(arguments) >= 2:
                left, right = self._side(arguments[0]), self._side(arguments[1])
                self._note(left, name.lower(), right)
        elif _JSON.fullmatch(name):
            place = self._json(at)
            if len(place) > 1:
                self.found.json[place] = name

    def _compare(self, at: int, operator: str) -> None:
        end = at
        while end > 0 and self.tokens[end - 1].text.upper() in ("NOT", "GLOBAL"):
            end -= 1
        left = self._side(self._back(end))
        right_range = self._forward(at + 1)
        right = self._side(right_range)
        if operator == "BETWEEN" and self._text(right_range[1]).upper() == "AND":
            upper = self._side(self._forward(right_range[1] + 1))
            right = Side(right.names + upper.names, right.literals + upper.literals, right.params + upper.params)
        self._note(left, operator, right)

    def _note(self, left: Side, operator: str, right: Side) -> None:
        if left != Side() and right != Side():
            self.found.comparisons.append(SqlComparison(left, operator, right))

    def _text(self, at: int) -> str:
        return self.tokens[at].text if 0 <= at < len(self.tokens) else ""

    def _stops(self, at: int) -> bool:
        token = self.tokens[at]
        if token.kind in (LexerKind.COMMA, LexerKind.SEMICOLON):
            return True
        if token.kind is LexerKind.OPERATOR:
            return token.text in _SYMBOLS or token.text in ("?", "->")
        return token.kind is LexerKind.WORD and token.text.upper() in _STOPS

    def _back(self, end: int) -> tuple[int, int]:
        at, depth = end, 0
        while at > 0:
            token = self.tokens[at - 1]
            depth += (token.kind is LexerKind.CLOSE) - (token.kind is LexerKind.OPEN)
            if depth < 0 or (depth == 0 and self._stops(at - 1)):
                break
            at -= 1
        return at, end

    def _forward(self, start: int) -> tuple[int, int]:
        at, depth = start, 0
        while at < len(self.tokens):
            token = self.tokens[at]
            if depth == 0 and self._stops(at):
                break
            depth += (token.kind is LexerKind.OPEN) - (token.kind is LexerKind.CLOSE)
            if depth < 0:
                break
            at += 1
        return start, at

    def _arguments(self, opening: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        start, depth = opening + 1, 0
        for at in range(opening, len(self.tokens)):
            token = self.tokens[at]
            depth += (token.kind is LexerKind.OPEN) - (token.kind is LexerKind.CLOSE)
            if depth == 0 or (depth == 1 and token.kind is LexerKind.COMMA):
                found.append((start, at))
                start = at + 1
            if depth == 0:
                break
        return [(a, b) for a, b in found if b > a]

    def _side(self, span: tuple[int, int]) -> Side:
        start, end = span
        names: dict[Chain, None] = {}
        literals: list[Literal] = []
        params: list[str] = []
        arithmetic = False
        at = start
        while at < end:
            token = self.tokens[at]
            upper = token.text.upper()
            if token.kind is LexerKind.OPEN and self._text(at + 1).upper() in ("SELECT", "WITH"):
                chain = self._first_selected(at + 1, end)
                return Side((chain,) if chain else (), (), tuple(params))
            if token.kind is LexerKind.STRING:
                literals.append(string_value(token.text))
            elif token.kind is LexerKind.NUMBER:
                negative = at > start and self._text(at - 1) == "-" and (at - 1 == start or not names)
                number = _number(token.text)
                literals.append(-number if negative else number)
            elif token.kind is LexerKind.OPERATOR and token.text in ("+", "-", "*", "/", "%") and at > start:
                arithmetic = True
            elif token.kind is LexerKind.OPERATOR and token.text == "::":
                at = self._after_type(at + 1)
                continue
            elif token.kind in _NAMES:
                if token.text.startswith(_MARK):
                    params += self.marks[int(token.text[len(_MARK) :])]
                elif token.kind is LexerKind.WORD and upper in ("NULL", "TRUE", "FALSE", "INTERVAL"):
                    arithmetic |= upper == "INTERVAL"
                elif token.kind is LexerKind.WORD and self._text(at + 1) == "(":
                    if _JSON.fullmatch(token.text):
                        place = self._json(at)
                        if place:
                            names[place] = None
                            at = self._arguments(at + 1)[-1][1]
                            continue
                elif not (token.kind is LexerKind.WORD and upper in _STOPS):
                    chain, at = self._chain(at, end)
                    names[chain] = None
                    continue
            at += 1
        return Side(tuple(names), () if names or arithmetic else tuple(literals), tuple(dict.fromkeys(params)))

    def _chain(self, at: int, end: int) -> tuple[Chain, int]:
        """`a.b.c`, with `.:Type` left out."""
        names = [identifier_name(self.tokens[at])]
        at += 1
        while at + 1 < end and self.tokens[at].kind is LexerKind.DOT:
            if self.tokens[at + 1].kind not in _NAMES:
                break
            names.append(identifier_name(self.tokens[at + 1]))
            at += 2
        return tuple(names), at

    def _after_type(self, at: int) -> int:
        at += 1
        if self._text(at) == "(":
            depth = 0
            while at < len(self.tokens):
                depth += (self.tokens[at].kind is LexerKind.OPEN) - (self.tokens[at].kind is LexerKind.CLOSE)
                at += 1
                if depth == 0:
                    break
        return at

    def _json(self, at: int) -> Chain:
        """The place that a JSON function takes out, when its arguments are a column and constants."""
        arguments = self._arguments(at + 1)
        if not arguments or self.tokens[arguments[0][0]].kind not in _NAMES:
            return ()
        first, after = self._chain(*arguments[0])
        if after != arguments[0][1]:
            nested = self.tokens[arguments[0][0]]
            first = self._json(arguments[0][0]) if _JSON.fullmatch(nested.text) else ()
            if not first:
                return ()
        path: list[str] = []
        for start, end in arguments[1:]:
            token = self.tokens[start]
            if end - start != 1 or token.kind is not LexerKind.STRING:
                break
            path.append(string_value(token.text))
        if "VALUE" in self.tokens[at].text.upper() and path:
            path = [step for step in path[0].removeprefix("$").split(".") if step]
        elif self.tokens[at].text.lower() == "jsonextract" and len(path) > 1 and path[-1][:1].isupper():
            path.pop()  # the type
        return (first[-1], *path)

    def _first_selected(self, at: int, end: int) -> Chain:
        while at < end and self._text(at).upper() not in ("SELECT",):
            at += 1
        at += 1
        if self._text(at).upper() == "DISTINCT":
            at += 1
        if at < end and self.tokens[at].kind in _NAMES and self._text(at + 1) != "(":
            return self._chain(at, end)[0]
        return ()


def _number(text: str) -> int | float:
    try:
        return int(text, 0)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return 0


def places(chain: Chain, columns: Mapping[str, object] | Iterable[str]) -> list[Chain]:
    """The columns of a table that a chain may mean, each with the path inside of it."""
    known = set(columns)
    found = [chain] if chain[0] in known else []
    if len(chain) > 1 and chain[1] in known:
        found.append(chain[1:])
    return found
