"""Through one query's own tokens: SELECT items, aliases, IN operands, clauses, and where the query ends.

The state is one bit: `operand` says whether an operand is due (a name is then a name, whatever it spells), or
an operator, an alias or a clause. Brackets that hold no query are frames on a stack, so that depth costs
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipit.sql.lexer import LexerKind, identifier_name
from pipit.sql.outline import SelectItem, SelectOutline, TableItem
from pipit.sql.words import (
    BINDS_TIGHTER,
    CLAUSES,
    IN_FUNCTIONS,
    INFIX,
    JOIN_WORDS,
    OPERATOR_WORDS,
    PREFIX,
    SET_OPERATORS,
    TYPE_AFTER_AS,
    UNITS,
)

if TYPE_CHECKING:
    from pipit.sql.scanner import Scanner

WORD, QUOTED, STRING = LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER, LexerKind.STRING
NUMBER, PARAMETER = LexerKind.NUMBER, LexerKind.PARAMETER
OPERATOR, OPEN, CLOSE = LexerKind.OPERATOR, LexerKind.OPEN, LexerKind.CLOSE
COMMA, DOT, SEMICOLON = LexerKind.COMMA, LexerKind.DOT, LexerKind.SEMICOLON
STARTS_OPERAND = frozenset({WORD, QUOTED, STRING, NUMBER, PARAMETER, OPEN})


@dataclass(slots=True)
class OpenBracket:
    """An open bracket, and what was going on outside of it."""

    close: int
    function: str
    intervals: int = 0  # INTERVAL words whose unit is still to come
    cases: int = 0


class Walk:
    """One walk over a query's own tokens.

    `operand`: an operand is due; else an operator, an alias or a clause.
    """

    def __init__(self, scanner: Scanner, query: SelectOutline, end: int, clause: str) -> None:
        self.s = scanner
        self.query = query
        self.end = end
        self.clause = clause
        self.operand = clause != "on"
        self.frames: list[OpenBracket] = [OpenBracket(end, "")]
        self.item: SelectItem | None = None

    def run(self, index: int) -> int:
        s = self.s
        if self.clause == "select":
            index = self.start_items(index)
        while index < self.end:
            frame = self.frames[-1]
            if index == frame.close:
                self.frames.pop()
                self.operand = False
                index += 1
                continue
            kind = s.kinds[index]
            if kind is WORD:
                after = self.operand_word(index) if self.operand else self.operator_word(index)
                if after < 0:  # the query ends here
                    break
                index = after
            elif kind is OPEN:
                index = self.bracket(index, "")
            elif kind is COMMA:
                if len(self.frames) == 1:
                    if self.clause == "with":
                        return index + 1
                    if self.clause == "items":
                        self.end_item(index)
                        self.item = SelectItem(s.tokens[index].end, 0)
                    elif self.clause == "on":
                        index = s.tables(self.query, index + 1, self.end)
                        self.operand = False
                        continue
                self.operand = True
                index += 1
            elif kind is DOT:
                index += 1
                while index < frame.close and s.kinds[index] is OPERATOR and s.tokens[index].text != "*":
                    index += 1
                index += 1
                self.operand = False
            elif kind is OPERATOR:
                index = self.operator(index)
            elif kind is SEMICOLON and len(self.frames) == 1:
                break
            else:
                if kind is PARAMETER and self.item is not None:
                    self.item.parameters.append(s.tokens[index].start)
                if kind is QUOTED and not self.operand:
                    self.name_item(index)
                elif kind is QUOTED and s.is_round(index + 1):
                    index = self.call(index)
                    continue
                self.operand = False
                index += 1
        self.end_item(index)
        return index

    def start_items(self, index: int) -> int:
        s = self.s
        if s.word(index) == "SELECT":
            index += 1
        while index < self.end and s.words[index] in ("ALL", "DISTINCT", "TOP") and not s.is_round(index + 1):
            word = s.words[index]
            index += 1
            if word == "DISTINCT" and s.word(index) == "ON" and s.is_round(index + 1):
                close = s.closing[index + 1]
                s.clauses_of(self.query, index + 2, close, "arguments")
                index = close + 1
            elif word == "TOP":
                index += 1
                if s.word(index) == "WITH":
                    index += 2
        self.clause = "items"
        self.operand = True
        if index < self.end:
            self.item = SelectItem(s.tokens[index].start, 0)
        return index

    def end_item(self, index: int) -> None:
        if self.item is not None and index > 0:
            self.item.end = self.s.tokens[min(index, self.s.count) - 1].end
            if self.item.end > self.item.start:
                self.query.items.append(self.item)
        self.item = None

    def name_item(self, index: int) -> None:
        """The name at `index` is an alias."""
        self.query.aliases.add(identifier_name(self.s.tokens[index]))
        if self.item is not None and len(self.frames) == 1:
            self.item.aliased = True

    def operand_word(self, index: int) -> int:
        s = self.s
        word = s.words[index]
        top = len(self.frames) == 1
        following = s.kind(index + 1) if index + 1 < self.frames[-1].close else None
        next_word = s.word(index + 1) if following is WORD else ""
        if word in PREFIX and self.is_prefix(word, following, next_word):
            if word == "CASE":
                self.frames[-1].cases += 1
            return index + 1
        if word == "INTERVAL" and self.is_interval(index, following):
            if following is PARAMETER and s.word(index + 2) not in UNITS:
                self.query.intervals.append(s.tokens[index + 1].start)
                return index + 1
            literal = s.tokens[index + 1].text
            if not (following is STRING and " " in literal.strip("' ")):
                self.frames[-1].intervals += 1
            return index + 1
        if word in ("PARTITION", "ORDER", "GROUP") and next_word == "BY" and not top:
            return index + 2
        if word == "WHERE" and self.frames[-1].function == "FILTER":
            return index + 1
        if following is OPEN and s.is_round(index + 1):
            return self.call(index)
        if word in ("DATE", "TIMESTAMP") and following is STRING:
            self.operand = False
            return index + 2
        if word == "FROM" and top and self.clause == "items" and s.kind(index - 1) is COMMA:
            starts_table = following in (WORD, QUOTED, STRING, PARAMETER, OPEN)
            if starts_table and next_word != "FROM" and next_word not in OPERATOR_WORDS:
                return self.from_clause(index)
        if word == "SELECT" and top and self.clause in ("with", "pipe"):
            return self.operator_word(index)
        self.operand = False
        return index + 1

    def is_prefix(self, word: str, following: LexerKind | None, next_word: str) -> bool:
        if word in ("NOT", "DISTINCT"):
            return following is not None
        if word == "CASE":
            return following in STARTS_OPERAND and next_word not in OPERATOR_WORDS - {"WHEN"} | {"FROM", "AS"}
        return self.frames[-1].cases > 0

    def is_interval(self, index: int, following: LexerKind | None) -> bool:
        if following in (NUMBER, STRING, PARAMETER):
            return True
        if following is OPEN or (following is OPERATOR and self.s.tokens[index + 1].text in "-−"):
            return True
        return following in (WORD, QUOTED) and any(
            self.s.word(at) in UNITS for at in range(index + 2, min(index + 6, self.end))
        )

    def call(self, index: int) -> int:
        """A function call; `index` is at its name, the bracket follows."""
        s = self.s
        s.functions.append(s.tokens[index])
        name = identifier_name(s.tokens[index])
        if name in IN_FUNCTIONS:
            close = s.closing[index + 1]
            at = index + 2
            while at < close and s.kinds[at] is not COMMA:
                at = s.closing[at] + 1 if s.kinds[at] is OPEN else at + 1
            self.member(at + 1, close)
        return self.bracket(index + 1, name.upper())

    def bracket(self, index: int, function: str) -> int:
        s = self.s
        close = s.closing[index]
        if s.is_round(index) and s.is_subquery(index, close + 1):
            body, _ = s.union(index + 1, close)
            self.query.nested.append(body)
            self.operand = False
            return close + 1
        self.frames.append(OpenBracket(close, function))
        self.operand = True
        return index + 1

    def operator(self, index: int) -> int:
        s = self.s
        text = s.tokens[index].text
        if text == "*" and self.operand:
            self.operand = False
            return index + 1
        if text == "::":
            self.operand = False
            index += 2
            return s.closing[index] + 1 if index < self.end and s.is_round(index) else index
        if text == "->":
            self.lambda_names(index)
        if text == "|>" and len(self.frames) == 1:
            self.end_item(index)
            self.clause = "pipe"
            self.operand = False
            return index + 1
        self.operand = True
        return index + 1

    def lambda_names(self, index: int) -> None:
        """x -> ..., (x, y) -> ...: these names hide tables inside."""
        s = self.s
        if s.kinds[index - 1] in (WORD, QUOTED):
            self.query.aliases.add(identifier_name(s.tokens[index - 1]))
        elif s.kinds[index - 1] is CLOSE:
            at = index - 2
            while at >= 0 and s.kinds[at] in (WORD, QUOTED, COMMA):
                if s.kinds[at] is not COMMA:
                    self.query.aliases.add(identifier_name(s.tokens[at]))
                at -= 1

    def operator_word(self, index: int) -> int:
        s = self.s
        word = s.words[index]
        frame = self.frames[-1]
        next_word = s.word(index + 1) if index + 1 < frame.close else ""
        if word == "AS":
            return self.as_alias(index)
        if word == "IN":
            self.operand = True
            if frame.function != "POSITION":
                self.member(index + 1, frame.close)
            return index + 1
        if word == "IS":
            index += 2 if next_word == "NOT" else 1
            if s.word(index) == "DISTINCT" and s.word(index + 1) == "FROM":
                self.operand = True
                return index + 2
            return index + 1
        if word == "NOT" or (word == "GLOBAL" and next_word in ("IN", "NOT")):
            return index + 1
        if word in ("AND", "OR", "DIV", "MOD", "LIKE", "ILIKE", "REGEXP", "BETWEEN"):
            self.operand = True
            return index + 1
        if word == "END" and frame.cases:
            frame.cases -= 1
            return index + 1
        if word in ("WHEN", "THEN", "ELSE") and frame.cases:
            self.operand = True
            return index + 1
        if frame.intervals and word in UNITS:
            frame.intervals -= 1
            return index + 1
        if word in ("RESPECT", "IGNORE") and next_word == "NULLS":
            return index + 2
        if word in ("OVER", "FILTER") and s.kind(index - 1) is CLOSE and next_word != "FROM":
            return self.bracket(index + 1, word) if s.is_round(index + 1) else index + 2
        if word in ("REPLACE", "APPLY") and (s.is_round(index + 1) or next_word not in ("", "FROM")):
            return self.bracket(index + 1, word) if s.is_round(index + 1) else index + 2
        if word == "EXCEPT" and not self.is_set_operator(index):
            if next_word == "STRICT":
                index += 1
            if s.is_round(index + 1):
                return s.closing[index + 1] + 1
            return index + 2
        if len(self.frames) > 1:
            return self.inner_word(index, word, next_word)
        return self.clause_word(index, word, next_word)

    def inner_word(self, index: int, word: str, next_word: str) -> int:
        """Inside a bracket that is not a query: windows, EXTRACT(x FROM y), ORDER BY in an aggregate."""
        if word in ("PARTITION", "ORDER", "GROUP") and next_word == "BY":
            self.operand = True
            return index + 2
        if word in INFIX or word == "FROM" or word == "WHERE":
            self.operand = True
        return index + 1

    def is_set_operator(self, index: int) -> bool:
        following = self.s.word(index + 1)
        if following in ("SELECT", "WITH", "FROM", "ALL", "DISTINCT"):
            return True
        return self.s.is_round(index + 1) and self.s.is_subquery(index + 1, self.end)

    def as_alias(self, index: int) -> int:
        frame = self.frames[-1]
        if self.s.kind(index + 1) not in (WORD, QUOTED) or index + 1 >= frame.close:
            self.operand = True
            return index + 1
        if frame.function in TYPE_AFTER_AS:
            close = index + 2  # a type, not a name
            return self.s.closing[close] + 1 if self.s.is_round(close) else close
        self.name_item(index + 1)
        self.operand = False
        return index + 2

    def from_clause(self, index: int) -> int:
        self.end_item(index)
        index = self.s.tables(self.query, index + 1, self.end)
        self.clause = "on"
        self.operand = False
        return index

    def clause_word(self, index: int, word: str, next_word: str) -> int:
        """A word of the query itself, after an operand. Negative: the query ends here."""
        s = self.s
        if word == "SELECT":
            if self.clause == "with":
                self.end = index
                return index
            self.end_item(index)
            return self.start_items(index)
        if word == "FROM":
            if self.clause == "with":
                self.end = index
                return index
            if self.clause == "items":
                return self.from_clause(index)
            self.operand = True  # WITH FILL FROM
            return index + 1
        if word in SET_OPERATORS or (word == "PARALLEL" and next_word == "WITH"):
            return -1
        if (word == "SETTINGS" and next_word != "FROM") or word == "FORMAT" or (word == "INTO"):
            self.end_item(index)
            self.clause = "end"
            return s.output_clause(index, self.end)
        if word in ("GROUP", "ORDER") and next_word == "BY":
            return self.enter("group" if word == "GROUP" else "order", index + 2)
        if word in CLAUSES and self.clause != "with":
            self.query.prewhere |= word == "PREWHERE"
            return self.enter(CLAUSES[word], index + 1)
        if word == "WITH":
            return index + 2
        if word in JOIN_WORDS and self.clause in ("on", "using", "array", "pipe"):
            return self.join(index)
        if word == "USING" and self.clause == "on" and s.is_round(index + 1):
            return s.closing[index + 1] + 1
        if word in ("ON", "USING") and self.clause == "on":
            return self.enter(word.lower(), index + 1)
        if self.clause == "items":
            self.name_item(index)
            return index + 1
        if self.clause == "pipe":
            return self.enter("where", index + 1)
        if word in INFIX:
            self.operand = True
        return index + 1

    def enter(self, clause: str, index: int) -> int:
        self.end_item(index - 1)
        self.clause = clause
        self.operand = True
        return index

    def join(self, index: int) -> int:
        s = self.s
        while index < self.end and s.words[index] in JOIN_WORDS:
            if s.words[index] == "JOIN":
                index = s.tables(self.query, index + 1, self.end)
                self.clause = "on"
                self.operand = False
                return index
            if s.words[index] == "ARRAY" and s.word(index + 1) == "JOIN":
                return self.enter("array", index + 2)
            index += 1
        return index

    def member(self, index: int, end: int) -> None:
        """Records a bare name that stands after IN, in brackets or not: `x IN t`, `x IN (db.t)`."""
        s = self.s
        depth = 0
        while index < end and s.is_round(index) and not s.is_subquery(index, end):
            index += 1
            depth += 1
        if index >= end or s.kinds[index] not in (WORD, QUOTED) or s.words[index] in ("NULL", "TRUE", "FALSE"):
            return
        start = index
        parts = [identifier_name(s.tokens[index])]
        index += 1
        while index + 1 < end and s.kinds[index] is DOT and s.kinds[index + 1] in (WORD, QUOTED):
            parts.append(identifier_name(s.tokens[index + 1]))
            index += 2
        stop = index
        for _ in range(depth):
            if index >= end or s.kinds[index] is not CLOSE:
                return
            index += 1
        if index < end:
            token = s.tokens[index]
            if token.kind in (OPEN, DOT) or (token.kind is OPERATOR and token.text in BINDS_TIGHTER):
                return
            if s.words[index] in ("DIV", "MOD"):
                return
        if len(parts) <= 2:
            item = TableItem("in", tuple(parts), s.tokens[start].start, s.tokens[stop - 1].end)
            self.query.members.append(item)
