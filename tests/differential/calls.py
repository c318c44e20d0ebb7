"""How a function is called: from its documentation in the engine, with each argument in turn replaced by columns.

An expression is kept if it is answered for A's rows alone: what fails there fails everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from differential.columns import NAMES
from pipit.sql.lexer import LexerKind, Token, significant, tokenize

_WORDS = frozenset({"INTERVAL", "SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "YEAR", "NULL", "TRUE", "FALSE"})
Check = Callable[[str], str]  # empty where an expression over `facts` is answered for A's rows, else the error's number

_EXAMPLES = 3  # calls taken from the documentation of a function
_POSITIONS = 3  # arguments that are replaced
_ENOUGH = 8  # calls of a function
_MOST = 400  # calls that are tried to find these
# One column of each kind of type, where more than one argument could be a column.
_FEW = ("s_word", "lc_word", "i64", "u8", "f64", "nn", "day", "dt", "a", "sa", "d", "data.num", "pt", "e")
_NEVER = frozenset({"42", "133", "134", "35"})  # as many arguments or parameters as no call takes
_KINDS = (
    ("json", re.compile(r"'\s*[{\[]")),
    ("uuid", re.compile(r"'[0-9a-fA-F]{8}-")),
    ("ip", re.compile(r"'(\d+\.){3}\d+|'[0-9a-f:]*::")),
    ("url", re.compile(r"'https?:|'www\.|'[\w.]+\.com")),
    ("time", re.compile(r"'\d{4}-\d\d-\d\d[ T]\d")),
    ("date", re.compile(r"'\d{4}-\d\d-\d\d'")),
    ("num", re.compile(r"'-?\d+(\.\d+)?'")),
    ("code", re.compile(r"'[A-Za-z0-9+/]{6,}=*'")),
)
# Calls of functions whose documentation has none that stands alone.
SPECIAL: dict[str, tuple[str, ...]] = {
    "sequenceMatch": ("sequenceMatch('(?1)(?2)')(dt, i64 = 1, i64 = 2)",),
    "sequenceCount": ("sequenceCount('(?1)(?2)')(dt, i64 = 1, i64 = 2)",),
    "sequenceMatchEvents": ("sequenceMatchEvents('(?1)(?2)')(dt, i64 = 1, i64 = 2)",),
    "sequenceNextNode": ("sequenceNextNode('forward', 'head')(dt, ns, s_word = 'ab', s_word = 'ab', s_word = 'b')",),
    "windowFunnel": ("windowFunnel(6000)(dt, i64 = 1, i64 = 2)", "windowFunnel(6000)(u64, s_word = 'ab', lc_word = 'b')"),
    "retention": ("retention(i64 = 1, i64 = 2)", "retention(s_word = 'ab', lc_word = 'b')"),
    "histogram": ("histogram(3)(i64)", "histogram(3)(f64)", "histogram(2)(u8)"),
    "uniqUpTo": ("uniqUpTo(3)(s_word)", "uniqUpTo(3)(lc_word)", "uniqUpTo(3)(i64)"),
    "sumMapFiltered": ("sumMapFiltered([1, 2])(a, a)",),
    "sumMapFilteredWithOverflow": ("sumMapFilteredWithOverflow([1, 2])(a, a)",),
    "caseWithExpression": ("CASE s_word WHEN 'ab' THEN 1 ELSE 2 END", "CASE lc_word WHEN 'ab' THEN 1 ELSE 2 END"),
    "extractKeyValuePairs": ("extractKeyValuePairs(s_word)", "extractKeyValuePairs(lc_word)"),
    "extractKeyValuePairsWithEscaping": ("extractKeyValuePairsWithEscaping(s_word)",),
    "hasTokenCaseInsensitive": ("hasTokenCaseInsensitive(s_word, 'ab')", "hasTokenCaseInsensitive(lc_word, 'ab')"),
    "hasTokenCaseInsensitiveOrNull": ("hasTokenCaseInsensitiveOrNull(lc_word, 'ab')",),
    "_CAST": ("CAST(lc_num AS UInt8)", "CAST(d AS Int64)", "CAST(v AS String)", "CAST(data AS JSON)"),
    "CAST": (
        *(f"CAST({c} AS {t})" for c in ("lc_num", "s_num", "d", "data.num", "nn") for t in ("Int8", "Float64", "String")),
        *(f"CAST({c} AS {t})" for c in ("lc_date", "s_date") for t in ("Date", "DateTime64(3)")),
        *(f"CAST(data.sub.x AS {t})" for t in ("UInt64", "Int256", "Bool", "Date", "DateTime", "Decimal(9, 2)", "Nullable(Int8)")),
        *(f"CAST({c} AS Array({t}))" for c in ("sa", "lca", "a", "data.list") for t in ("String", "Int64")),
        "CAST(e AS Int8)",
        "CAST(fs AS String)",
        "CAST(m AS Map(String, String))",
        "CAST(data AS String)",
        "CAST(data AS JSON(num Int64))",
        "CAST(v AS Nullable(UInt64))",
    ),
    "first_value": ("first_value(lc_word)", "first_value(d)", "first_value(data.num)"),
    **{
        f"distinct{what}": tuple(f"distinct{what}({c})" for c in columns)
        for what, columns in {"JSONPaths": ("data",), "JSONPathsAndTypes": ("data",), "DynamicTypes": ("d", "data.num")}.items()
    },
    "validateNestedArraySizes": (),
}
_WINDOW = {
    **dict.fromkeys(("row_number", "rank", "denseRank", "percentRank", "cume_dist"), "{}()"),
    **dict.fromkeys(("lagInFrame", "leadInFrame", "lag", "lead"), "{}({{c}})"),
    "nth_value": "{}({{c}}, 2)",
    "ntile": "{}(2)",
    "nonNegativeDerivative": "{}(i64, dt)",
}
_OVER = " OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
COMBINED = {
    "If": "{f}If{p}({a}, n > 1)",
    "Array": "{f}Array{p}({each})",
    "Distinct": "{f}Distinct{p}({a})",
    "OrNull": "{f}OrNull{p}({a})",
    "OrDefault": "{f}OrDefault{p}({a})",
    "State": "finalizeAggregation({f}State{p}({a}))",
    "Merge": "{f}Merge{p}(s)",  # over states: `aggregates`
    "Resample": "{f}Resample(0, 20, 5){p}({a}, toUInt8(n))",
    "ForEach": "{f}ForEach{p}({each})",
    "Map": "{f}Map{p}(map('k', {a}))",
    "SimpleState": "{f}SimpleState{p}({a})",
    "ArgMax": "{f}ArgMax{p}({a}, n)",
    "ArgMin": "{f}ArgMin{p}({a}, n)",
    "over": "{f}{p}({a}) OVER (ORDER BY n ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
}


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    aggregate: bool
    examples: str  # the engine's documentation
    alias_to: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """`parameters` in their brackets, or empty; `columns`: which of them stand in the arguments."""

    function: str
    parameters: str
    arguments: tuple[str, ...]
    columns: tuple[str, ...]

    def text(self) -> str:
        return f"{self.function}{self.parameters}({', '.join(self.arguments)})"


def calls_of(function: Function, check: Check) -> list[Call]:
    """Calls that are answered, each argument in turn a column of each type. Empty: none was found."""
    name = function.name
    if name in _WINDOW or name in SPECIAL:
        return []
    found: dict[str, Call] = {}
    tried = 0
    for parameters, arguments in (*_documented(function), *_plain(function.aggregate)):
        for call in _replaced(name, parameters, arguments):
            if call.text() in found:
                continue
            tried += 1
            error = check(call.text())
            if not error:
                found[call.text()] = call
            elif error in _NEVER:
                break
        if len(found) >= _ENOUGH or tried > _MOST:
            break
    return list(found.values())


def special_of(function: Function, check: Check) -> list[str]:
    """Expressions written by hand, and window functions."""
    name = function.name
    if name in _WINDOW:
        shape = _WINDOW[name].format(name) + _OVER
        texts = {shape.format(c=column) for column, _ in NAMES} if "{c}" in shape else {shape}
        return sorted(text for text in texts if not check(text))
    return [text for text in SPECIAL.get(name, ()) if not check(text)]


def combined(call: Call, combinator: str) -> str:
    each = ", ".join(f"[{argument}]" for argument in call.arguments)
    return COMBINED[combinator].format(f=call.function, p=call.parameters, a=", ".join(call.arguments), each=each)


def _documented(function: Function) -> Iterator[tuple[str, list[str]]]:
    found: set[str] = set()
    for block in re.findall(r"```sql[^\n]*\n(.*?)```", function.examples, re.DOTALL):
        tokens = significant(tokenize(block))
        for at, token in enumerate(tokens):
            if token.text != function.name or at + 1 >= len(tokens) or tokens[at + 1].text != "(":
                continue
            end = _closing(tokens, at + 1)
            if end is None:
                continue
            parameters = ""
            if end + 1 < len(tokens) and tokens[end + 1].text == "(" and function.aggregate:
                parameters = block[tokens[at + 1].start : tokens[end].end]
                start, end = end + 1, _closing(tokens, end + 1)
                if end is None:
                    continue
            else:
                start = at + 1
            arguments = _split(block, tokens[start + 1 : end], tokens[start].end)
            key = f"{parameters}{arguments}"
            if key not in found and len(arguments) <= 6 and len(key) < 1000:
                found.add(key)
                yield parameters, arguments
            if len(found) >= _EXAMPLES:
                return


def _plain(aggregate: bool) -> Iterator[tuple[str, list[str]]]:
    for parameters in ("", "(2)", "(0.5)") if aggregate else ("",):
        for arguments in (["?"], ["?", "?"], ["?", "2"], ["?", "'ab'"], ["?", "?", "?"], ["?", "1", "2"], ["?", "'a'", "'b'"]):
            yield parameters, list(arguments)
        if not aggregate:
            yield "", []
            yield "", ["?", "[1, 2]"]
            yield "", ["x -> x", "?"]
            yield "", ["x -> x = x", "?"]
            yield "", ["?", "?", "?", "?"]


def _replaced(name: str, parameters: str, arguments: Sequence[str]) -> Iterator[Call]:
    """Each of the first arguments in turn, and all that are no constants together, as a column of each type."""
    holes = [at for at, argument in enumerate(arguments) if argument == "?" or not _is_constant(argument)]
    if not arguments:
        yield Call(name, parameters, (), ())
    places = [holes] if len(holes) > 1 else []
    single = [at for at in range(min(len(arguments), _POSITIONS)) if "->" not in arguments[at]]
    places += [[at, *holes] if holes and at not in holes else [at] for at in single]
    for places_of_one in places:
        for column in _candidates(arguments[places_of_one[0]]) if places_of_one[0] == 0 else _FEW:
            given = list(arguments)
            for at in {*places_of_one, *holes}:
                given[at] = column
            yield Call(name, parameters, tuple(given), (column,))


def _candidates(argument: str) -> Iterable[str]:
    """One column of each type; of texts, of the kind that the documented argument is of, and words."""
    kind = next((kind for kind, pattern in _KINDS if pattern.match(argument)), "word")
    for name, _ in NAMES:
        if name.startswith(("s_", "lc_")) and name.partition("_")[2] not in (kind, "num"):
            continue
        yield name


def _is_constant(argument: str) -> bool:
    """Whether the text stands alone: literals, calls and lambdas, and no column of an example's table."""
    tokens = significant(tokenize(argument))
    if any(token.text == "->" for token in tokens):
        return True
    for at, token in enumerate(tokens):
        named = token.kind in (LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER)
        called = at + 1 < len(tokens) and tokens[at + 1].text == "("
        if named and not called and token.text.upper() not in _WORDS:
            return False
    return True


def _closing(tokens: Sequence[Token], start: int) -> int | None:
    depth = 0
    for at in range(start, len(tokens)):
        depth += (tokens[at].kind is LexerKind.OPEN) - (tokens[at].kind is LexerKind.CLOSE)
        if not depth:
            return at
    return None


def _split(text: str, tokens: Sequence[Token], start: int) -> list[str]:
    """The arguments between two brackets, as written."""
    found: list[str] = []
    depth = 0
    last = start
    for token in tokens:
        depth += (token.kind is LexerKind.OPEN) - (token.kind is LexerKind.CLOSE)
        if token.kind is LexerKind.COMMA and not depth:
            found.append(text[last : token.start].strip())
            last = token.end
    if tokens:
        found.append(text[last : tokens[-1].end].strip())
    return found
