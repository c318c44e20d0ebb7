"""Whether a piece of SQL text is what it claims to be: an expression, a row filter, a type, a codec, a setting.

A data source's definition is printed into CREATE TABLE and ALTER TABLE as its author wrote it, and a row filter stands
in a setting that takes no parameters and that the engine's tree of a query does not show: so they are judged here
first, on the lexer's tokens, by allow-list. A piece that passes has matched brackets, no comment, no second statement,
no parameter, no subquery and no name of a table, and calls only reviewed functions: it can neither end the place that
it stands in nor read anything but the row's own columns. Whether the engine understands it is the engine's to say: a
query without its filter never runs.

Judges text only; the engine's own parse of the whole statement is judged by `deploy/ddl_check.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

from pipit.reasons import Reason
from pipit.sql.allowed import (
    AGGREGATE_FUNCTIONS,
    ALLOWED_MERGE_TREE_SETTINGS,
    TYPES,
    function_verdict,
    is_function,
    read_reviewed,
    refused_function,
)
from pipit.sql.lexer import LexerKind, Token, identifier_name, significant, tokenize
from pipit.suggest import did_you_mean

MAX_CHARACTERS = 65_536
MAX_FILTER_CHARACTERS = 16_384
MAX_DEPTH = 100

CODECS = frozenset({"none", "lz4", "lz4hc", "zstd", "delta", "doubledelta", "gorilla", "gcd", "t64", "fpc", "alp"}) | {
    "default"
}
# What the `text` index takes as its tokenizer; other indexes take numbers.
TOKENIZERS = frozenset({"ngrams", "splitByNonAlpha", "splitByString", "array", "sparseGrams", "asciiCJK"})

NAMES = (LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER)
_LITERALS = (LexerKind.STRING, LexerKind.NUMBER)
_PAIRS = {"(": ")", "[": "]"}
# Words that a bracket may follow without a call.
_OPERATOR_WORDS = frozenset(
    {"AND", "OR", "NOT", "XOR", "LIKE", "ILIKE", "REGEXP", "BETWEEN", "IS", "DIV", "MOD", "CASE", "WHEN", "THEN"}
    | {"ELSE", "INTERVAL", "DISTINCT"}
)
_CONSTANTS = frozenset({"TRUE", "FALSE", "NULL"})
# `in(x, t)` and its kin read the table t, as `x IN t` does.
IN_CALLS = frozenset(
    f"{scope}{negated}{kind}in{ignoring}"
    for scope in ("", "global")
    for negated in ("", "not")
    for kind in ("", "null")
    for ignoring in ("", "ignoreset")
)
# Words that begin or join a query, or end an expression for a clause: in a filter, not even as a column's name.
_NOT_IN_FILTERS = frozenset({"SELECT", "WITH", "UNION", "INTERSECT", "EXCEPT", "EXISTS", "EXPLAIN", "SETTINGS"})
# What begins another clause of a definition. Only a TTL stands there without brackets around it.
_CLAUSES = frozenset(
    {"GROUP", "SET", "TO", "RECOMPRESS", "SETTINGS", "COMMENT", "ORDER", "PARTITION", "PRIMARY", "SAMPLE", "TTL"}
    | {"ENGINE", "UNION", "INTERSECT", "EXCEPT", "FORMAT", "INTO", "EMPTY", "CLONE", "LIMIT", "HAVING", "ALTER", "ADD"}
    | {"MODIFY", "DROP", "UPDATE", "FIRST", "AFTER"}
)
_BEFORE_OPERANDS = frozenset({"AND", "OR", "WHERE", "LIKE", "ILIKE", "BETWEEN", "DIV", "MOD", "TTL"})


class Kind(StrEnum):
    """What an expression is for; the texts are for messages."""

    KEY = "a key"
    DEFAULT = "a DEFAULT"
    INDEX = "an index"
    INDEX_TYPE = "an index type"
    TTL = "a TTL"
    FILTER = "a filter"


class ExpressionError(ValueError):
    """Why a text is refused, and what may have been meant. `offset` is where, in characters. `reason` and `subject`:
    where it is a function or a setting that is not allowed."""

    def __init__(
        self,
        message: str,
        offset: int = 0,
        *,
        hint: str = "",
        reason: Reason = Reason.DATAFILE_INVALID,
        subject: str = "",
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.reason = reason
        self.subject = subject
        self.message = message
        self.offset = offset


def check_expression(text: str, *, kind: Kind) -> list[Token]:
    """The tokens that mean something. Raises ExpressionError.

    Keys, index types and TTLs may be lists; DEFAULT, index and filter are one expression.
    """
    tokens = _tokens(text, MAX_FILTER_CHARACTERS if kind is Kind.FILTER else MAX_CHARACTERS)
    _check_brackets(tokens, lists=kind not in (Kind.DEFAULT, Kind.INDEX, Kind.FILTER))
    for index, token in enumerate(tokens):
        if token.kind in NAMES:
            _check_name(tokens, index, kind)
    if kind is Kind.TTL:
        _check_ttl(tokens)
    return tokens


def check_condition(text: str) -> list[Token]:
    """One boolean expression that may become a row filter."""
    return check_expression(text, kind=Kind.FILTER)


def top_level(tokens: Sequence[Token]) -> list[Token]:
    """The tokens outside of all brackets. The brackets must match."""
    depth = 0
    found: list[Token] = []
    for token in tokens:
        depth -= token.kind is LexerKind.CLOSE
        if depth == 0:
            found.append(token)
        depth += token.kind is LexerKind.OPEN
    return found


def columns_in(tokens: Sequence[Token], columns: frozenset[str]) -> frozenset[str]:
    """The columns that any of the names may mean: `a.b` is a column, a part of `a`, or `b` of the table `a`."""
    found: set[str] = set()
    for start, token in enumerate(tokens):
        if token.text == "*" and start and tokens[start - 1].kind in (LexerKind.OPEN, LexerKind.COMMA, LexerKind.DOT):
            return columns
        path = ""
        for at in range(start, len(tokens), 2):
            if tokens[at].kind not in NAMES or _opens(tokens, at):
                break
            path = f"{path}.{identifier_name(tokens[at])}" if path else identifier_name(tokens[at])
            found.add(path)
            if at + 1 == len(tokens) or tokens[at + 1].kind is not LexerKind.DOT:
                break
    return frozenset(found & columns)


def check_column_name(name: str) -> None:
    """A name that will stand in quotes: any, but for control characters (they could forge lines of a tree)."""
    if not name or not name.isprintable():
        raise ExpressionError("a name holds a character that cannot be printed")


def _no_type(name: str, offset: int) -> ExpressionError:
    return ExpressionError(f"'{name[:80]}' is not a type", offset, hint=did_you_mean(name, read_reviewed("types")))


def check_type(text: str) -> None:
    """One data type: `Name` or `Name(arguments)`, every name with arguments a known type or an aggregate function."""
    tokens = _tokens(text)
    _check_brackets(tokens, lists=False)
    if tokens[0].kind is not LexerKind.WORD or tokens[0].text.lower() not in TYPES:
        raise _no_type(tokens[0].text, tokens[0].start)
    _check_one_call(tokens, "a type")
    for index, token in enumerate(tokens):
        allowed = token.kind in (*NAMES, *_LITERALS, LexerKind.COMMA, LexerKind.DOT)
        if not allowed and token.text not in ("(", ")", "=", "-"):
            raise ExpressionError(f"'{token.text[:80]}' cannot stand in a type", token.start)
        if token.kind in NAMES and _opens(tokens, index):
            name = identifier_name(token)
            aggregate = _of_aggregate(tokens, index) and not function_verdict(name)
            if name.lower() not in TYPES and not aggregate:
                raise _no_type(name, token.start)
        elif token.kind in NAMES and _of_aggregate(tokens, index) and _is_first_name(tokens, index):
            if function_verdict(identifier_name(token)):
                raise ExpressionError(f"'{token.text[:80]}' is not a function that may aggregate", token.start)
        elif token.text == "(" and tokens[index - 1].kind not in NAMES:
            raise ExpressionError("a bracket in a type belongs to a name", token.start)


def check_codec(text: str) -> None:
    """`CODEC(name, name(number))`, of the codecs that only compress."""
    tokens = _tokens(text)
    _check_brackets(tokens, lists=False)
    if tokens[0].text.upper() != "CODEC" or len(tokens) < 4:
        raise ExpressionError("a codec is written as CODEC(ZSTD(1))", tokens[0].start)
    _check_one_call(tokens, "a codec")
    for token in tokens[1:]:
        if token.kind in NAMES and identifier_name(token).lower() not in CODECS:
            raise ExpressionError(f"the codec '{token.text[:80]}' is not supported", token.start)
        if token.kind not in (*NAMES, *_LITERALS, LexerKind.COMMA) and token.text not in ("(", ")"):
            raise ExpressionError(f"'{token.text[:80]}' cannot stand in a codec", token.start)


def check_setting(name: str, value: str) -> None:
    """A setting that a project may give its tables, and one literal for its value."""
    if name not in ALLOWED_MERGE_TREE_SETTINGS:
        raise ExpressionError(
            f"the setting '{name[:80]}' is not one that a project may set",
            reason=Reason.SETTING_REFUSED,
            subject=name,
        )
    tokens = _tokens(value)
    if len(tokens) != 1 or tokens[0].kind not in (*_LITERALS, LexerKind.WORD):
        raise ExpressionError(f"the value of the setting '{name}' is not one number, string or word")


def is_one_group(text: str) -> bool:
    """Whether one pair of parentheses encloses all of the text."""
    tokens = significant(tokenize(text))
    if len(tokens) < 2 or tokens[0].text != "(":
        return False
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.kind is LexerKind.OPEN) - (token.kind is LexerKind.CLOSE)
        if depth == 0:
            return index == len(tokens) - 1
    return False


def _tokens(text: str, longest: int = MAX_CHARACTERS) -> list[Token]:
    if len(text) > longest:
        raise ExpressionError(f"it is longer than {longest} characters")
    everything = tokenize(text)
    for token in everything:
        if token.kind is LexerKind.COMMENT:
            raise ExpressionError("it has a comment", token.start)
        if token.kind is LexerKind.ERROR:
            raise ExpressionError("it has a character or a quote that SQL does not know", token.start)
        if token.kind is LexerKind.SEMICOLON:
            raise ExpressionError("it has a ';'", token.start)
        if token.kind is LexerKind.PARAMETER or token.text in ("{", "}"):
            raise ExpressionError("it has a '{': query parameters have no meaning here", token.start)
        if token.kind is LexerKind.OPERATOR and token.text in ("@@", "@", "|>", "\\G", "$"):
            raise ExpressionError(f"it has '{token.text}'", token.start)
        if token.kind is LexerKind.QUOTED_IDENTIFIER:
            check_column_name(identifier_name(token))
    tokens = significant(everything)
    if not tokens:
        raise ExpressionError("it is empty")
    return tokens


def _check_brackets(tokens: Sequence[Token], *, lists: bool) -> None:
    waiting: list[str] = []
    for token in tokens:
        if token.kind is LexerKind.OPEN:
            waiting.append(_PAIRS[token.text])
            if len(waiting) > MAX_DEPTH:
                raise ExpressionError("its brackets are nested too deeply", token.start)
        elif token.kind is LexerKind.CLOSE:
            if not waiting or waiting.pop() != token.text:
                raise ExpressionError(f"its '{token.text}' closes nothing", token.start)
        elif token.kind is LexerKind.COMMA and not waiting and not lists:
            raise ExpressionError("it has a ',' outside of brackets: it must be one expression", token.start)
    if waiting:
        raise ExpressionError(f"a '{waiting[-1]}' is missing", tokens[-1].end)


def _check_one_call(tokens: Sequence[Token], what: str) -> None:
    """`Name` or `Name( ... )` and nothing after it; the brackets are known to match."""
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.kind is LexerKind.OPEN) - (token.kind is LexerKind.CLOSE)
        if index and depth == 0 and index < len(tokens) - 1:
            raise ExpressionError(f"'{tokens[index + 1].text[:80]}' stands after {what}", tokens[index + 1].start)
    if len(tokens) > 1 and tokens[1].text != "(":
        raise ExpressionError(f"'{tokens[1].text[:80]}' stands after {what}", tokens[1].start)


def _check_name(tokens: Sequence[Token], index: int, kind: Kind) -> None:
    token = tokens[index]
    word = token.text.upper() if token.kind is LexerKind.WORD else ""
    opened = index > 0 and tokens[index - 1].kind is LexerKind.OPEN
    queries = opened and word in ("FROM", "WITH", "EXPLAIN") and not _ends(tokens, index)
    filtering = kind is Kind.FILTER
    queries = queries or (filtering and word in _NOT_IN_FILTERS)
    named = _is_due(tokens, index, words=kind is Kind.TTL)  # the name of a column then, whatever it spells
    # Only a TTL stands there without brackets around it, which make a query of what follows SELECT.
    bare = kind is Kind.TTL and _depth(tokens, index) == 0
    select = word == "SELECT" and not (named and (bare or _ends(tokens, index)))
    if select or queries or (word == "EXISTS" and _opens(tokens, index)):
        raise ExpressionError(f"it has {word}: it may only use columns of its own row, no query", token.start)
    if word == "AS" and not named and not _in_cast(tokens, index):
        raise ExpressionError("it has AS: nothing can be named here", token.start)
    if word == "IN" and not (named and not _opens(tokens, index)):
        _check_in(tokens, index)
    elif _opens(tokens, index):
        if word in _OPERATOR_WORDS or (word in ("DELETE", "WHERE") and kind is Kind.TTL):
            return
        name = identifier_name(token)
        if kind is Kind.INDEX_TYPE and (index == 0 or name in TOKENIZERS):
            return
        why = "it reads a table by its name" if name.lower() in IN_CALLS else function_verdict(name)
        if filtering and (name in AGGREGATE_FUNCTIONS or name.lower() == "arrayjoin"):
            why = "it looks at more than its own row"
        if why and (name.lower() not in TYPES or is_function(name)):  # a type stands in a cast: `x::Array(String)`
            raise ExpressionError(
                f"the function '{name[:80]}' is not allowed in {kind}: {why}",
                token.start,
                reason=refused_function(name),
                subject=name,
            )


def _check_in(tokens: Sequence[Token], index: int) -> None:
    """After IN: a list of values. A bare name there could be a table, in brackets too."""
    first = tokens[index + 1] if index + 1 < len(tokens) else None
    if first is not None and first.kind is LexerKind.STRING:
        return
    if first is None or first.kind is not LexerKind.OPEN:
        raise ExpressionError("IN needs a list of values: IN ('a', 'b')", tokens[index].start)
    calls: list[bool] = []  # of each open bracket: whether it holds the arguments of a call
    for at in range(index + 1, len(tokens)):
        before, token = tokens[at - 1], tokens[at]
        if token.kind is LexerKind.OPEN:
            calls.append(len(calls) > 0 and before.kind in NAMES)
        elif token.kind is LexerKind.CLOSE:
            calls.pop()
            if not calls:
                return
        elif token.kind in NAMES and not any(calls):
            if token.text.upper() in _CONSTANTS or _opens(tokens, at):
                continue
            raise ExpressionError("the list of an IN may hold values only, no names", token.start)


def clause_words(tokens: Sequence[Token], *, operand: bool = False) -> Iterator[tuple[int, str]]:
    """The words outside of all brackets that stand where no operand is due, with their places, in capitals: only there
    a word can begin a clause. A column may be called `ttl`, `group` or `settings`. `operand`: one is due at once.
    """
    depth, due = 0, operand
    for index, token in enumerate(tokens):
        depth += (token.kind is LexerKind.OPEN) - (token.kind is LexerKind.CLOSE)
        if depth:
            continue
        if token.kind is LexerKind.OPERATOR:
            # `*` may itself be the operand, and a type follows `::`.
            due = token.text != "::" and not (token.text == "*" and due)
        elif token.kind is not LexerKind.WORD:
            due = token.kind in (LexerKind.COMMA, LexerKind.DOT)
        elif due:
            due = False
        else:
            word = token.text.upper()
            yield index, word
            due = word in _BEFORE_OPERANDS


def _check_ttl(tokens: Sequence[Token]) -> None:
    """`expression [DELETE [WHERE condition]]`, several with commas."""
    words = dict(clause_words(tokens, operand=True))
    depth, after_delete = 0, False
    for index, token in enumerate(tokens):
        depth += (token.kind is LexerKind.OPEN) - (token.kind is LexerKind.CLOSE)
        after_delete = after_delete and (depth > 0 or token.kind is not LexerKind.COMMA)
        word = words.get(index, "")
        if word in _CLAUSES:
            raise ExpressionError(
                f"it has {word}: a TTL can only delete rows: `column + INTERVAL 1 DAY [DELETE WHERE condition]`",
                token.start,
            )
        after_delete = after_delete or word == "DELETE"
        if word == "WHERE" and not after_delete:
            raise ExpressionError("it has WHERE without DELETE", token.start)


def _is_due(tokens: Sequence[Token], index: int, *, words: bool) -> bool:
    """Whether an operand is due, as what stands before it tells for certain. `words`: AND and WHERE tell, too."""
    asking = 0
    while words and index > asking and _asks(tokens[index - asking - 1]):
        asking += 1
    before = tokens[index - asking - 1] if index > asking else None
    if before is None or before.kind in (LexerKind.OPEN, LexerKind.COMMA):
        due = True
    else:
        due = before.kind is LexerKind.OPERATOR and before.text not in ("*", "::")
    return due == (asking % 2 == 0)  # where one is due, such a word is the operand itself


def _asks(token: Token) -> bool:
    return token.kind is LexerKind.WORD and token.text.upper() in _BEFORE_OPERANDS


def _opens(tokens: Sequence[Token], index: int) -> bool:
    """Whether a parenthesis follows."""
    return index + 1 < len(tokens) and tokens[index + 1].text == "(" and tokens[index + 1].kind is LexerKind.OPEN


def _ends(tokens: Sequence[Token], index: int) -> bool:
    """Whether the word is a whole item of its list: then it is the name of a column."""
    return index + 1 == len(tokens) or tokens[index + 1].kind in (LexerKind.COMMA, LexerKind.CLOSE)


def _in_cast(tokens: Sequence[Token], index: int) -> bool:
    """`AS` inside of `CAST( ... )`, at its own level."""
    before = _opener(tokens, index)
    return before is not None and before.text.upper() == "CAST"


def _of_aggregate(tokens: Sequence[Token], index: int) -> bool:
    before = _opener(tokens, index)
    return before is not None and before.text in ("AggregateFunction", "SimpleAggregateFunction")


def _is_first_name(tokens: Sequence[Token], index: int) -> bool:
    """Whether it stands first in its brackets, or after a version: `AggregateFunction(1, sumMap, ...)`."""
    before = tokens[index - 1]
    return before.text == "(" or (before.kind is LexerKind.COMMA and tokens[index - 2].kind is LexerKind.NUMBER)


def _depth(tokens: Sequence[Token], index: int) -> int:
    """In how many brackets it stands."""
    return sum((t.kind is LexerKind.OPEN) - (t.kind is LexerKind.CLOSE) for t in tokens[:index])


def _opener(tokens: Sequence[Token], index: int) -> Token | None:
    """The token before the bracket that is open at `index`."""
    depth = 0
    for at in range(index - 1, 0, -1):
        if tokens[at].kind is LexerKind.CLOSE:
            depth += 1
        elif tokens[at].kind is LexerKind.OPEN:
            if depth == 0:
                return tokens[at - 1]
            depth -= 1
    return None
