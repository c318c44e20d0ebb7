"""What is wrong with a line that is no JSON object, as an SQL expression: asked of refused lines only.

The engine's parser says only yes or no. So each fault is taken out of the line in turn, and the one without which the
rest is valid JSON is the one that is told.
"""

from __future__ import annotations

from pipit.sql.literals import quote_string

INVALID_JSON = "invalid JSON"  # what the reason of a line begins with that could not be taken apart

_CONTROL = r"[\x00-\x1f]"
_SURROGATE = r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
_NUMBER = r"([:,\[][ \t]*)[-+]?(?i:nan|inf|infinity)\b"
_ESCAPE = r"\\."
_STRING = r'"[^"]*"'
_LOOKED_AT = 100_000  # bytes of a line in which the end of its object is looked for

_TEXTS = {
    "utf8": "it is not valid UTF-8",
    "list": "it is a list; send its items, one object a line, or the whole with format=json",
    "value": "it is a single value",
    "control": "a raw tab or another control character stands in a text; write it as \\t or \\u0009",
    "surrogate": "half of a surrogate pair, such as \\ud800, stands in a text",
    "number": "NaN and Infinity are no JSON; send null",
    "string": "it ends before a text is closed",
    "end": "it ends before an object or a list is closed",
    "more": "more follows behind the object; send one object a line",
    "other": "it cannot be read",
}


def of_line(line: str) -> str:
    """A sentence, for a line that is not valid JSON or no object."""
    strings = _without(_without(line, _ESCAPE, "_"), _STRING, '""')
    start = f"substring({strings}, 1, {_LOOKED_AT})"
    depth = "multiIf(_pipit_b IN ('{', '['), 1, _pipit_b IN ('}', ']'), -1, 0)"
    depths = f"arrayCumSum(arrayMap(_pipit_b -> {depth}, ngrams({start}, 1)))"
    first = f"substring({start}, 1, arrayFirstIndex(_pipit_d -> _pipit_d = 0, {depths}))"
    cases = [
        (f"NOT isValidUTF8({line})", "utf8"),
        (f"isValidJSON({line}) AND JSONType({line}) = 'Array'", "list"),
        (f"isValidJSON({line})", "value"),
        (f"isValidJSON({_without(line, _CONTROL, ' ')})", "control"),
        (f"isValidJSON({_without(line, _SURROGATE, '?')})", "surrogate"),
        (f"isValidJSON({_without(line, _NUMBER, _GROUP + 'null')})", "number"),
        (f"countSubstrings({strings}, '\"') % 2 = 1", "string"),
        (f"countMatches({strings}, '[{{\\\\[]') > countMatches({strings}, '[}}\\\\]]')", "end"),
        (f"startsWith({start}, '{{') AND isValidJSON({first})", "more"),
    ]
    listed = ", ".join(f"{condition}, {quote_string(_TEXTS[name])}" for condition, name in cases)
    return f"multiIf({listed}, {quote_string(_TEXTS['other'])})"


_GROUP = "\\1"


def _without(text: str, pattern: str, instead: str) -> str:
    return f"replaceRegexpAll({text}, {quote_string(pattern)}, {quote_string(instead)})"
