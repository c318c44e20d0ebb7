"""The functions that a template may call, except for the date and type functions' own validation (types.py).

Each takes the rendering's `RenderState` first. Those marked `takes_name` then take the parameter's name (None when the
first argument is not a bare name) and its value, so that they can say which parameter is missing. What they return is a
value (bound later), or `Sql` made of checked parts. There is no other way from an expression into the statement.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipit.errors import CustomError, TemplateError
from pipit.sql.identifiers import quote
from pipit.templates.dates import day_diff, difference
from pipit.templates.failures import value_error
from pipit.templates.runtime import as_list, as_text, emit
from pipit.templates.sizes import weigh
from pipit.templates.state import RenderState
from pipit.templates.types import NEVER_MISSING, PARSERS, PLAIN, form_of, parse, parse_list, stand_in, written_list
from pipit.templates.values import NO_VALUE, Secret, Sql

# Arguments of the type functions that only describe. They are read at compile time and never evaluated.
DESCRIBING = ("description", "required", "format", "enum", "example")

_OPERATORS = {"in": "in", "not_in": "not in", "gt": ">", "lt": "<", "gte": ">=", "lte": "<="}
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?\Z")
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_NO_NAME = re.compile(r"[\x00-\x1f\x7f]|/\*|\*/")
_DIGITS = re.compile(r"[A-Za-z0-9+\-. \t\r\n]{0,1100}\Z")
_THREADS = re.compile(r"[0-9]{1,4}\Z", re.ASCII)
_CACHE_SECONDS = {"5s": 5, "1m": 60, "5m": 300, "30m": 1800, "1h": 3600}
_FEATURES = ("analyzer", "parallel_replicas", "optimize_aggregation_in_order")


@dataclass(frozen=True, slots=True)
class Function:
    call: Callable[..., Any]
    takes_name: bool = False  # the first argument may be a parameter's bare name
    type: str = ""  # of the parameter it takes, in listings
    identifier: bool = False  # the value becomes a name in the SQL
    describes: bool = False  # takes DESCRIBING arguments
    takes_list: bool = False  # a request may send several values of its parameter


def _or_default(state: RenderState, name: str | None, value: Any, default: Any, defined: Any, stand: Any) -> Any:
    if value is not None:
        return value
    if default is not None:
        return default
    if not defined:
        return None
    if state.placeholder:
        return stand
    raise state.missing(name)


def _typed(type: str) -> Callable[..., Any]:
    stand = stand_in(type)

    def call(state: RenderState, name: str | None, value: Any, default: Any = None, *, defined: Any = True) -> Any:
        if value is None and default is None and defined and type in NEVER_MISSING:
            default = NEVER_MISSING[type]
        found = _or_default(state, name, value, default, defined, stand)
        if type == "JSON" and isinstance(found, str):
            state.made(len(found))
        if found is None:
            return None
        parser = PLAIN.get(type) if name in state.binder.fixed else None
        try:
            return parse(type, found, parser)
        except TemplateError as error:
            takes = "true, yes, 1, false or 0 where a token fixes it" if parser else form_of(type)
            raise _named(error, name, takes, is_default=value is None) from error

    return call


def _named(error: TemplateError, name: str | None, takes: str, *, is_default: bool) -> TemplateError:
    """The error with the parameter's name beside the dialect's text, which has none."""
    if name is not None:
        error.parameter = name
        whose = f"The default of '{name}' must be" if is_default else f"'{name}' takes"
        error.hint = error.hint or f"{whose} {takes}."
    return error


def array(
    state: RenderState,
    name: str | None,
    value: Any,
    element: Any = "String",
    default: Any = None,
    *,
    defined: Any = True,
) -> Any:
    if not isinstance(element, str):
        raise value_error("The second argument of Array() is the type of its elements, as a text")
    known = element in PARSERS
    if default is None and not known:  # Array(x, "'a', 'b'"): a default in the place of the type
        default = [part.strip().strip("'\"") for part in element.split(",")]
    stand = ",".join([str(stand_in(element if known else "String"))] * 2)
    found = _or_default(state, name, value, default, defined, stand)
    if found is None:
        return None
    state.made(len(found) if isinstance(found, (str, list, tuple)) else 1)
    try:
        return parse_list(element, found)
    except TemplateError as error:
        one = form_of(element if known else "String")
        takes = f"a list (a,b,c, or [...] in a JSON body), each element {one}"
        raise _named(error, name, takes, is_default=value is None) from error


def split_to_array(
    state: RenderState, name: str | None, value: Any, default: Any = None, *, separator: Any = ",", defined: Any = True
) -> Any:
    found = _or_default(state, name, value, default, defined, NO_VALUE)
    if found is None:
        return None
    if not isinstance(separator, str) or not separator:
        raise value_error("The separator of split_to_array() is a text")
    listed = _written_texts(state, name, found, is_default=value is None)
    if listed is not None:
        return listed
    state.made(len(as_text(found)))
    return [part.strip() for part in as_text(found).split(separator)]


def _written_texts(state: RenderState, name: str | None, found: Any, *, is_default: bool) -> list[Any] | None:
    """The texts of a list that is one as it stands, by the rule of Array()."""
    if isinstance(found, str):
        state.made(len(found))
    listed = written_list(found)
    if listed is None:
        return None
    return list(array(state, name, None, default=listed) if is_default else array(state, name, listed))


def defined(state: RenderState, name: str | None, value: Any) -> bool:
    if state.placeholder and name is not None and name not in state.locals:
        return value is not None or state.binder.defined
    return value is not None


def column(state: RenderState, name: str | None, value: Any, default: Any = None) -> Sql:
    found = _or_default(state, name, value, default, True, None)
    return Sql("NULL") if found is None else _dotted(state, as_text(found))


def columns(state: RenderState, name: str | None, value: Any, default: Any = None, *, fn: Any = None) -> Sql:
    found = default if value is None else value
    if found is None and state.placeholder:
        return Sql("NULL")
    if found is None:
        raise value_error(
            "Missing columns() default value, use `columns(parameter, 'column_a,column_b')`", anchor="columns"
        )
    listed = _written_texts(state, name, found, is_default=value is None)
    names = [_dotted(state, part.strip()) for part in (as_text(found).split(",") if listed is None else listed)]
    if not names:
        raise value_error("columns() needs a column, and the list is empty")
    if fn is None:
        return Sql(",".join(names))
    if not isinstance(fn, str) or not _FUNCTION.match(fn):
        raise value_error("The 'fn' of columns() is the name of a function")
    return Sql(", ".join(f"{fn}({shown}) as {shown}" for shown in names))


def symbol(state: RenderState, name: str | None, value: Any, default: Any = None) -> Sql:
    found = _or_default(state, name, value, default, True, None)
    return Sql("NULL") if found is None else _name(state, as_text(found).replace('"', ""))


def table(state: RenderState, name: str | None, value: Any, default: Any = None) -> Sql:
    found = as_text(_or_default(state, name, value, default, True, None) or "")
    if not _TABLE.match(found):
        raise value_error("The 'table' function expects the name of a Data Source or Pipe")
    state.binder.identifiers.update(found.split("."))
    return Sql(found)


def _dotted(state: RenderState, text: str) -> Sql:
    return Sql(".".join(_name(state, part) for part in text.split(".")))


def _name(state: RenderState, text: str) -> Sql:
    """A name in backquotes. What could close a comment, or what no column is called, is refused."""
    if not text or _NO_NAME.search(text) or len(text) > 500:
        raise value_error("Not the name of a column")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise value_error("Not the name of a column") from error
    state.binder.identifiers.add(text)
    return Sql(quote(text))


def sql_and(state: RenderState, /, **operands: Any) -> Sql:
    conditions: list[str] = []
    for key, value in operands.items():
        name, _, operator = key.partition("__")
        if operator and operator not in _OPERATORS:
            raise value_error(f"operand {operator} not supported")
        if value is not None:
            shown = emit(state, value, key, None)
            conditions.append(f"{_condition_name(name)} {_OPERATORS.get(operator, '=')} {shown}")
    return Sql(" and ".join(conditions) or "1")


def _condition_name(name: str) -> str:
    return name if _FUNCTION.match(name) and name.lower() not in ("and", "or", "not", "in", "is") else quote(name)


def sql_unescape(state: RenderState, value: Any, what: Any = "") -> Any:
    """The dialect takes back its escaping of `what` here. Values are bound without any: there is none to take back."""
    return value


def error(state: RenderState, message: Any = "") -> Sql:
    if state.placeholder:
        return Sql("")
    raise CustomError(_shown(as_text(message)))


def custom_error(state: RenderState, content: Any, code: Any = 400) -> Sql:
    if state.placeholder:
        return Sql("")
    if isinstance(code, bool) or not isinstance(code, int) or not 400 <= code <= 599:
        raise value_error("The status of custom_error() is a number from 400 to 599")
    if isinstance(content, dict):
        state.made(weigh(content)[0])
        raise CustomError(_shown(content), int(code))
    raise CustomError(_shown(as_text(content)), int(code))


def _shown(value: Any) -> Any:
    """A value as the JSON of an answer has it. A secret is in no answer."""
    if isinstance(value, dict):
        return {_shown(str(key)): _shown(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half characters have no form in JSON's bytes
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    raise value_error("custom_error() takes texts, numbers, lists and objects")


def max_threads(state: RenderState, threads: Any) -> Sql:
    if state.binder.placeholder and threads in (0, None, NO_VALUE):  # stands for a parameter that is not there
        return Sql("-- max_threads\n")
    if isinstance(threads, str) and _THREADS.match(threads):  # `max_threads(n)`: the request's digits, within bounds
        threads = int(threads)
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise value_error("max_threads() takes a number from 1 to 1024")
    state.binder.settings["max_threads"] = str(int(threads))
    return Sql(f"-- max_threads {int(threads)}\n")


def cache_ttl(state: RenderState, ttl: Any) -> Sql:
    if not isinstance(ttl, str) or ttl not in _CACHE_SECONDS:
        raise value_error(f"Invalid TTL cache expression, valid expressions are {tuple(_CACHE_SECONDS)!r}")
    seconds = _CACHE_SECONDS[ttl]
    state.binder.cache_seconds = min(seconds, state.binder.cache_seconds or seconds)
    return Sql(f"-- cache_ttl {ttl}\n")


def backend_hint(state: RenderState, hint: Any) -> Sql:
    if not isinstance(hint, str) or not _FUNCTION.match(hint):
        raise value_error("backend_hint() takes a word")
    return Sql(f"-- backend_hint {hint}\n")


def _feature(verb: str) -> Callable[..., Sql]:
    def call(state: RenderState, feature: Any) -> Sql:
        """The analyzer cannot be turned off, whatever is said of it: filters are proven on its tree."""
        if feature not in _FEATURES:
            raise value_error(f"'{verb}' takes one of: {', '.join(_FEATURES)}")
        if feature == "optimize_aggregation_in_order":
            state.binder.settings[feature] = "1" if verb == "activate" else "0"
        return Sql(f"-- {verb} {feature}\n")

    return call


def secret(state: RenderState, name: Any, default: Any = None) -> Any:
    found = state.secrets.get(name) if isinstance(name, str) else None
    if found is not None:
        return Secret(found)
    if default is not None:
        return default
    if state.placeholder:
        return NO_VALUE
    raise value_error(
        f"Cannot access secret '{name}'. Check the secret exists in the Workspace",
        hint=f"Set it with `pipit secret set {name} ...`.",
    )


def enumerate_with_last(state: RenderState, items: Any) -> list[tuple[bool, Any]]:
    found = as_list(items)
    state.made(3 * len(found))
    return [(index == len(found) - 1, item) for index, item in enumerate(found)]


def integer(state: RenderState, value: Any = 0, base: Any = None, /) -> int:
    """Python's int(), of ASCII digits without `_`."""
    if isinstance(value, str) and not _DIGITS.match(value):
        raise ValueError(f"not a number: {value[:100]!r}")
    number = int(value) if base is None else int(value, base)
    if number.bit_length() > 256:
        raise value_error("The number is longer than 256 bits")
    return number


def floating(state: RenderState, value: Any = 0.0, /) -> float:
    """Python's float(), likewise."""
    if isinstance(value, str) and not _DIGITS.match(value):
        raise ValueError(f"not a number: {value[:100]!r}")
    return float(value)


def length(state: RenderState, items: Any, /) -> int:
    return len(as_list(items))


def listed(state: RenderState, items: Any = (), /) -> list[Any]:
    found = as_list(items)
    state.made(len(found))
    return found


def _extreme(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(state: RenderState, first: Any, /, *others: Any) -> Any:
        return function(first, *others) if others else function(as_list(first))

    return call


FUNCTIONS: dict[str, Function] = {
    **{name: Function(_typed(name), takes_name=True, type=name, describes=True) for name in PARSERS},
    "Array": Function(array, takes_name=True, type="Array", describes=True, takes_list=True),
    "split_to_array": Function(split_to_array, takes_name=True, type="String", describes=True, takes_list=True),
    "defined": Function(defined, takes_name=True, type=""),
    "column": Function(column, takes_name=True, type="String", identifier=True, describes=True),
    "columns": Function(
        columns, takes_name=True, type="String", identifier=True, describes=True, takes_list=True
    ),
    "symbol": Function(symbol, takes_name=True, type="String", identifier=True, describes=True),
    "table": Function(table, takes_name=True, type="String", identifier=True, describes=True),
    "TABLE": Function(table, takes_name=True, type="String", identifier=True, describes=True),
    "day_diff": Function(day_diff),
    **{
        f"date_diff_in_{unit}": Function(difference(unit, seconds))
        for unit, seconds in (("days", 86400), ("hours", 3600), ("minutes", 60), ("seconds", 1))
    },
    "enumerate_with_last": Function(enumerate_with_last),
    "sql_and": Function(sql_and),
    "sql_unescape": Function(sql_unescape),
    "error": Function(error),
    "custom_error": Function(custom_error),
    "cache_ttl": Function(cache_ttl),
    "max_threads": Function(max_threads),
    "backend_hint": Function(backend_hint),
    "activate": Function(_feature("activate")),
    "disable": Function(_feature("disable")),
    "tb_secret": Function(secret),
    "tb_var": Function(secret),
    "len": Function(length),
    "list": Function(listed),
    "int": Function(integer),
    "float": Function(floating),
    "min": Function(_extreme(min)),
    "max": Function(_extreme(max)),
}
