"""Cuts a SELECT text into its outline: queries, WITH, FROM and joins, output clauses. `walk` goes through
expressions.

Not a parser of expressions: it follows ClickHouse's grammar as far as needed to know, at each token, whether
an operand or an operator is due, because that alone tells `FROM` the clause from `from` the column, `IN` from
`in`, and an alias from a keyword. Contract: see `outline`.
"""

from __future__ import annotations

from functools import lru_cache

from pipit.errors import Reason, SqlError
from pipit.sql.lexer import LexerKind, Token, identifier_name, significant, tokenize
from pipit.sql.outline import Clause, Cte, Outline, SelectOutline, Setting, TableItem, Union
from pipit.sql.walk import Walk
from pipit.sql.words import NOT_TABLE_ALIAS, OPERATOR_WORDS, PREFIX, SET_OPERATORS

MAX_SUBQUERY_DEPTH = 60
MAX_BRACKET_DEPTH = 900  # the engine's own max_parser_depth is 1000

WORD, QUOTED, STRING = LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER, LexerKind.STRING
NUMBER, PARAMETER = LexerKind.NUMBER, LexerKind.PARAMETER
OPERATOR, OPEN, CLOSE = LexerKind.OPERATOR, LexerKind.OPEN, LexerKind.CLOSE
COMMA, DOT, SEMICOLON = LexerKind.COMMA, LexerKind.DOT, LexerKind.SEMICOLON


@lru_cache(maxsize=64)  # one text is looked at by several functions in a row; nobody changes an outline
def outline(sql: str) -> Outline:
    """Raises SqlError when the text cannot be cut into tokens, or its brackets do not match."""
    return Scanner(sql).run()


class Scanner:
    def __init__(self, sql: str) -> None:
        tokens = significant(tokenize(sql))
        for token in tokens:
            if token.kind is LexerKind.ERROR:
                raise SqlError(
                    f"The SQL text is broken at character {token.start + 1}: {_shown(token.text)}",
                    reason=Reason.SQL_INVALID,
                )
        self.sql = sql
        self.tokens = tokens
        self.count = len(tokens)
        self.kinds = [token.kind for token in tokens]
        self.words = [token.text.upper() if token.kind is WORD else "" for token in tokens]
        self.closing = self._match_brackets()
        self.clauses: list[Clause] = []
        self.functions: list[Token] = []
        self.depth = 0
        self.parallel = False

    def run(self) -> Outline:
        union, _ = self.union(0, self.count)
        return Outline(union, self.clauses, self.functions, self.tokens, self.parallel)

    def _match_brackets(self) -> dict[int, int]:
        pairs = {"(": ")", "[": "]", "{": "}"}
        stack: list[int] = []
        closing: dict[int, int] = {}
        for index, token in enumerate(self.tokens):
            if token.kind is OPEN:
                stack.append(index)
                if len(stack) > MAX_BRACKET_DEPTH:
                    raise SqlError("The SQL text is nested too deeply.", reason=Reason.SQL_INVALID)
            elif token.kind is CLOSE:
                if not stack or pairs[self.tokens[stack[-1]].text] != token.text:
                    raise SqlError(
                        f"A bracket does not match at character {token.start + 1}: {token.text}",
                        reason=Reason.SQL_INVALID,
                    )
                closing[stack.pop()] = index
        if stack:
            token = self.tokens[stack[-1]]
            raise SqlError(
                f"A bracket is not closed, from character {token.start + 1}: {token.text}", reason=Reason.SQL_INVALID
            )
        return closing

    def word(self, index: int) -> str:
        return self.words[index] if 0 <= index < self.count else ""

    def kind(self, index: int) -> LexerKind | None:
        return self.kinds[index] if 0 <= index < self.count else None

    def is_round(self, index: int) -> bool:
        return self.kind(index) is OPEN and self.tokens[index].text == "("

    def is_subquery(self, index: int, end: int) -> bool:
        """Whether the round bracket at `index` holds a query."""
        at = index + 1
        while at < end and self.is_round(at):
            at += 1
        word, following = self.word(at), self.kind(at + 1)
        if word == "SELECT":
            return following is not CLOSE and following is not COMMA
        if word == "WITH":
            return following in (WORD, QUOTED, OPEN, NUMBER, STRING, PARAMETER) and (
                self.word(at + 1) not in OPERATOR_WORDS
            )
        if word == "FROM":
            return (
                following in (WORD, QUOTED, STRING, OPEN, PARAMETER)
                and self.word(at + 1) not in OPERATOR_WORDS
                and not (self.word(at - 1) and self.word(at - 1) in PREFIX)
            )
        return word in ("EXPLAIN", "SHOW", "DESCRIBE", "VALUES") and following is WORD

    def union(self, index: int, end: int) -> tuple[Union, int]:
        """Queries and set operators up to `end`, or to what cannot belong to them."""
        self.deeper()
        union = Union()
        while index < end:
            before = index
            if self.is_round(index) and self.is_subquery(index, end):
                close = self.closing[index]
                inner, _ = self.union(index + 1, close)
                union.parts.append(inner.parts[0] if len(inner.parts) == 1 else inner)
                index = self.trailing(close + 1, end)
            else:
                query, index = self.query(index, end)
                union.parts.append(query)
            while index < end and self.words[index] in SET_OPERATORS | {"ALL", "DISTINCT"}:
                index += 1
            if index < end and self.words[index] == "PARALLEL" and self.word(index + 1) == "WITH":
                self.parallel = True
                index += 2
            elif index < end and self.kinds[index] is SEMICOLON:
                index += 1
            index = max(index, before + 1)
        self.depth -= 1
        return union, index

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_SUBQUERY_DEPTH:
            raise SqlError("The SQL text holds subqueries nested too deeply.", reason=Reason.SQL_INVALID)

    def query(self, index: int, end: int) -> tuple[SelectOutline, int]:
        query = SelectOutline(start=self.tokens[index].start)
        while index < end and self.words[index] == "EXPLAIN":
            index += 1
            while index < end and self.words[index] not in ("SELECT", "WITH", "FROM"):
                index += 1
        if self.word(index) == "WITH":
            index += 1
            if self.word(index) == "RECURSIVE":
                query.recursive = True
                index += 1
            query.with_start = self.tokens[index].start if index < end else len(self.sql)
            index = self.ctes(query, index, end)
        clause = "select"
        if index < end and self.words[index] == "FROM":
            index = self.tables(query, index + 1, end)
            clause = "on"
        return query, self.clauses_of(query, index, end, clause)

    def ctes(self, query: SelectOutline, index: int, end: int) -> int:
        """The elements of WITH, up to SELECT or FROM."""
        while index < end and self.words[index] != "SELECT":
            at = index
            if self.kinds[at] in (WORD, QUOTED):
                at += 1
                if at < end and self.is_round(at) and self.word(self.closing[at] + 1) == "AS":
                    at = self.closing[at] + 1
                if self.word(at) == "AS" and at < end:
                    at += 1
                    if self.word(at) == "MATERIALIZED":
                        at += 1
                        if self.word(at) == "ENGINE":
                            while at < end and not (self.is_round(at) and self.is_subquery(at, end)):
                                at += 1
                    if at < end and self.is_round(at) and self.is_subquery(at, end):
                        body, _ = self.union(at + 1, self.closing[at])
                        query.ctes.append(Cte(identifier_name(self.tokens[index]), body))
                        index = self.closing[at] + 1
                        if self.kind(index) is COMMA and index < end:
                            index += 1
                            continue
                        return index
            index = self.clauses_of(query, index, end, "with")
            if self.kind(index - 1) is COMMA:
                continue
            return index
        return index

    def trailing(self, index: int, end: int) -> int:
        """SETTINGS, FORMAT and INTO OUTFILE after a bracketed query."""
        while index < end and self.words[index] in ("SETTINGS", "FORMAT", "INTO"):
            index = self.output_clause(index, end)
        return index

    def output_clause(self, index: int, end: int) -> int:
        start, word, first = self.tokens[index].start, self.words[index], index
        settings: list[Setting] = []
        index += 1
        if word == "SETTINGS":
            while index < end:
                at = index + 1
                while at < end and self.tokens[at].text != "=" and self.kinds[at] in (DOT, WORD, QUOTED):
                    at += 1
                if at >= end or self.tokens[at].text != "=":
                    break
                name = "".join(identifier_name(t) if t.kind is not DOT else "." for t in self.tokens[index:at])
                value_start = at + 1
                stop = self.setting_value(value_start, end)
                if stop == value_start:
                    break
                value = self.sql[self.tokens[value_start].start : self.tokens[stop - 1].end]
                settings.append(Setting(name, value, self.tokens[index].start, self.tokens[stop - 1].end))
                index = stop
                if index < end and self.kinds[index] is COMMA:
                    index += 1
                else:
                    break
        elif word == "FORMAT":
            index += 1
        else:  # INTO OUTFILE 'x' [AND STDOUT] [APPEND|TRUNCATE] [COMPRESSION 'x' [LEVEL n]]
            while index < end and self.words[index] not in SET_OPERATORS | {"SETTINGS", "FORMAT", "INTO"}:
                if self.kinds[index] in (SEMICOLON, CLOSE):
                    break
                index += 1
        stop = self.tokens[min(index, end) - 1].end
        value = self.sql[self.tokens[first + 1].start : stop] if first + 1 < min(index, end) else ""
        self.clauses.append(Clause(word.lower(), start, stop, self.depth - 1, value, tuple(settings)))
        return index

    def setting_value(self, index: int, end: int) -> int:
        """Past one value: a literal, a word, a parameter, a function call, a bracket."""
        if index < end and self.tokens[index].text in ("-", "+"):
            index += 1
        if index < end and self.kinds[index] is OPEN:
            return self.closing[index] + 1
        if index < end and self.kinds[index] in (WORD, QUOTED, STRING, NUMBER, PARAMETER):
            index += 1
            while index + 1 < end and self.kinds[index] is DOT:
                index += 2
            if index < end and self.is_round(index):
                return self.closing[index] + 1
        return index

    def tables(self, query: SelectOutline, index: int, end: int) -> int:
        """One table expression and what hangs on it; index is after FROM, JOIN or a comma."""
        if index >= end:
            return index
        item = TableItem("from", start=self.tokens[index].start)
        if self.is_round(index):
            close = self.closing[index]
            if self.is_subquery(index, end):
                item.kind = "subquery"
                item.body, _ = self.union(index + 1, close)
            else:  # a list of joined tables: (t JOIN u USING a); it is a SELECT * of its own
                item.kind = "subquery"
                inner = SelectOutline(start=self.tokens[index].start, joined=True)
                self.deeper()
                at = self.tables(inner, index + 1, close)
                self.clauses_of(inner, at, close, "on")
                self.depth -= 1
                item.body = Union([inner])
            item.end = self.tokens[close].end
            index = close + 1
        elif self.kinds[index] in (WORD, QUOTED, STRING, PARAMETER):
            index = self.table_name(query, item, index, end)
        else:
            return index
        index = self.alias_of(item, index, end)
        query.tables.append(item)
        first = index
        while index < end and self.words[index] in ("FINAL", "SAMPLE", "STREAM", "UUID"):
            word = self.words[index]
            index += 1
            if word == "UUID":
                index += 1
            elif word == "SAMPLE":
                index = self.sample(query, index, end)
                if self.word(index) == "OFFSET" and index < end:
                    index = self.sample(query, index + 1, end)
        if index > first:
            item.modifiers = self.tokens[first].start, self.tokens[index - 1].end
        return index

    def table_name(self, query: SelectOutline, item: TableItem, index: int, end: int) -> int:
        first = index
        parts = [self.name_at(index)]
        index += 1
        while index + 1 < end and self.kinds[index] is DOT and self.kinds[index + 1] in (WORD, QUOTED, NUMBER):
            parts.append(self.name_at(index + 1))
            index += 2
        item.parts = tuple(parts)
        item.end = self.tokens[index - 1].end
        if index < end and self.is_round(index):
            item.kind = "function"
            self.functions.append(self.tokens[first])
            close = self.closing[index]
            if self.is_subquery(index, close + 1):
                body, _ = self.union(index + 1, close)
                query.nested.append(body)
            else:
                self.clauses_of(query, index + 1, close, "arguments")
            item.end = self.tokens[close].end
            index = close + 1
        return index

    def name_at(self, index: int) -> str:
        token = self.tokens[index]
        if token.kind in (WORD, QUOTED):
            return identifier_name(token)
        if token.kind is STRING and token.text[0] == "'":
            return identifier_name(Token(QUOTED, token.text, token.start, token.end))
        return token.text

    def alias_of(self, item: TableItem, index: int, end: int) -> int:
        if index < end and self.words[index] == "AS" and self.kind(index + 1) in (WORD, QUOTED):
            item.alias = identifier_name(self.tokens[index + 1])
            index += 2
        elif index < end and (
            self.kinds[index] is QUOTED or (self.kinds[index] is WORD and self.words[index] not in NOT_TABLE_ALIAS)
        ):
            item.alias = identifier_name(self.tokens[index])
            index += 1
        else:
            return index
        if index < end and self.is_round(index):  # names for the columns: AS t (a, b)
            index = self.closing[index] + 1
        return index

    def sample(self, query: SelectOutline, index: int, end: int) -> int:
        while index < end and (self.kinds[index] in (NUMBER, PARAMETER) or self.tokens[index].text == "/"):
            if self.kinds[index] is PARAMETER:
                query.samples.append(self.tokens[index].start)
            index += 1
        return index

    def clauses_of(self, query: SelectOutline, index: int, end: int, clause: str) -> int:
        """Walks from `index` to what ends the query (or, in "with", the element); returns where that is.

        `clause` is where we are: "select" before the word SELECT, "items" after it, "on" behind a table,
        "using", "array" (ARRAY JOIN), "with", "where" and the like, "pipe" after |>, "arguments" inside a
        bracket.
        """
        return Walk(self, query, end, clause).run(index)


def _shown(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "..."
