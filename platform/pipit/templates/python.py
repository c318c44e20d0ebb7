"""What Python has inside of `{% %}` beyond the expressions of `{{ }}`: functions, methods of texts, lists and objects.

No attribute is ever read: a method's name is looked up in the tables here, the target's type decides which of them, and
every result is bounded before it is made. Nothing here makes `Sql`: what comes of a value is a value. Lists are never
changed in place, since another list may hold them: `x.append(y)` sets `x` to a new list.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable
from typing import Any

from pipit.templates.arithmetic import MAX_COMPUTED_BITS, plus
from pipit.templates.failures import LimitReached, value_error
from pipit.templates.runtime import as_list, lookup_local, method
from pipit.templates.sizes import Weighed, weigh
from pipit.templates.state import RenderState, limited
from pipit.templates.types import text_of
from pipit.templates.values import NO_VALUE, Sql

_PAIRS = 2
_MAX_WIDTH = 999
_MAX_DIGITS = 999  # that round() may be asked for
_HASHED = 60  # bits of a whole number that is its own hash
_FEW = 5_000
_TEXT: dict[str, Callable[..., Any]] = {
    name: getattr(str, name)
    for name in (
        *("startswith", "endswith", "lower", "upper", "strip", "lstrip", "rstrip", "find", "rfind", "index", "rindex"),
        *("count", "isdigit", "isalpha", "isalnum", "isnumeric", "isdecimal", "isspace", "islower", "isupper"),
        *("istitle", "isascii", "isidentifier", "title", "capitalize", "casefold", "swapcase", "split", "rsplit"),
        *("splitlines", "partition", "rpartition", "removeprefix", "removesuffix"),
        *("zfill", "ljust", "rjust", "center"),
    )
}
_WIDENING = frozenset({"zfill", "ljust", "rjust", "center"})
_OWN_TEXT = frozenset({"join", "replace", "format"})
_LIST = frozenset({"count", "index", "copy"})
_DICT = frozenset({"get", "keys", "values", "items", "copy"})
# Those that change what they belong to, and so set the name before them.
CHANGING = frozenset(
    {"append", "extend", "insert", "remove", "pop", "sort", "reverse", "clear"}
    | {"update", "setdefault", "add", "discard"}
)
METHODS = frozenset({*_TEXT, *_OWN_TEXT, *_LIST, *_DICT, *CHANGING})

KINDS: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "tuple": tuple, "dict": dict}
MAPPED = frozenset({"int", "float", "str", "bool", "len", "abs", "list", "tuple"})  # what `map` may be given

_FIELD = re.compile(r"(?:\d{0,3}|[A-Za-z_]\w{0,99})\Z", re.ASCII)
_SPEC = re.compile(r"(?:[^{}]?[<>^])?[-+ ]?0?\d{0,3},?(?:\.\d{1,3})?[sdfgxX%]?\Z", re.ASCII)
_PERCENT = re.compile(r"%(?:%|(?:\((\w{1,100})\))?[-+ 0]{0,3}\d{0,3}(?:\.\d{1,3})?([sdifgxX]))", re.ASCII)


class Distinct(Weighed):
    """A set: a list of items of which no two are equal, in the order in which they came, so that a rendering is the
    same in every process."""

    __slots__ = ()


def weighed(state: RenderState, items: Iterable[Any]) -> Weighed:
    """A list whose items are all there already."""
    found = list(items)
    weight, depth = weigh(found)
    state.made(len(found))
    return Weighed(found, weight, depth)


def distinct(state: RenderState, items: Iterable[Any] = ()) -> Distinct:
    listed = list(items)
    state.made(len(listed))
    found = list(_keys(listed))
    return Distinct(found, *weigh(found))


def _keys(items: Iterable[Any]) -> dict[Any, None]:
    """The items, each once. Those whose hashes a request can make equal, which makes this slow, may only be few."""
    listed = list(items)
    if sum(isinstance(one, tuple) or (isinstance(one, int) and one.bit_length() > _HASHED) for one in listed) > _FEW:
        raise LimitReached(f"The template makes a set or an object with more than {_FEW} large numbers or tuples")
    return dict.fromkeys(listed)


def made_set(state: RenderState, *items: Any) -> Distinct:
    """`{a, b}`."""
    return distinct(state, items)


# --- functions


def range_(state: RenderState, first: Any, last: Any = None, step: Any = 1, /) -> list[int]:
    if state.placeholder and (first is None or isinstance(first, str)):
        return []
    numbers = (first, last, step) if last is not None else (0, first, step)
    if not all(isinstance(n, int) and n.bit_length() <= 64 for n in numbers):
        raise value_error("range() takes whole numbers")
    found = range(*(int(n) for n in numbers))
    state.made(len(found))
    return list(found)


def enumerate_(state: RenderState, items: Any, /, start: Any = 0) -> Weighed:
    if not isinstance(start, int):
        raise value_error("enumerate() begins with a whole number")
    return weighed(state, enumerate(_items(state, items), int(start)))


def zip_(state: RenderState, /, *lists: Any) -> Weighed:
    return weighed(state, zip(*(_items(state, items) for items in lists), strict=False))


def reversed_(state: RenderState, items: Any, /) -> Weighed:
    return weighed(state, reversed(_items(state, items)))


def sorted_(state: RenderState, items: Any, /, *, reverse: Any = False) -> Weighed:
    listed = _items(state, items)
    state.made(weigh(listed)[0])  # each comparison may look at as much as there is
    return weighed(state, sorted(listed, reverse=bool(reverse)))


def tuple_(state: RenderState, items: Any = (), /) -> tuple[Any, ...]:
    return tuple(weighed(state, _items(state, items)))


def set_(state: RenderState, items: Any = (), /) -> Distinct:
    return distinct(state, _items(state, items))


def dict_(state: RenderState, items: Any = (), /, **more: Any) -> dict[Any, Any]:
    pairs = list(items.items()) if isinstance(items, dict) else [_pair(one) for one in _items(state, items)]
    _keys(key for key, _ in pairs)
    found = dict([*pairs, *more.items()])
    state.made(weigh(found)[0])
    return found


def _pair(value: Any) -> tuple[Any, Any]:
    both = as_list(value)
    if len(both) != _PAIRS:
        raise value_error("dict() takes pairs")
    return both[0], both[1]


def str_(state: RenderState, value: Any = "", /) -> str:
    if value is None or isinstance(value, (list, tuple, dict)):
        raise value_error("str() takes a text, a number, true or false")
    return _plain_text(value)


def bool_(state: RenderState, value: Any = False, /) -> bool:
    return bool(value)


def round_(state: RenderState, value: Any, ndigits: Any = None) -> Any:
    if ndigits is not None and not (isinstance(ndigits, int) and abs(ndigits) < _MAX_DIGITS):
        raise value_error("round() takes a small whole number of digits")
    return _number(round(_numeric(state, value), ndigits))


def abs_(state: RenderState, value: Any, /) -> Any:
    return abs(_numeric(state, value))


def sum_(state: RenderState, items: Any, start: Any = 0, /) -> Any:
    total = start
    for item in _items(state, items):
        if isinstance(item, str):
            raise value_error("sum() takes numbers")
        total = plus(state, total, item)
    return total


def any_(state: RenderState, items: Any, /) -> bool:
    return any(_items(state, items))


def all_(state: RenderState, items: Any, /) -> bool:
    return all(_items(state, items))


def divmod_(state: RenderState, left: Any, right: Any, /) -> tuple[Any, Any]:
    return floor(state, left, right), modulo(state, left, right)


def is_kind(state: RenderState, value: Any, /, *kinds: str) -> bool:
    """`isinstance(value, kinds)`."""
    for kind in kinds:
        if kind == "list" and isinstance(value, list) and not isinstance(value, Distinct):
            return True
        if kind == "set" and isinstance(value, Distinct):
            return True
        if kind in KINDS and isinstance(value, KINDS[kind]):
            return True
    return False


def mapped(state: RenderState, function: Callable[[RenderState, Any], Any], items: Any) -> Weighed:
    """`map(int, items)`: one of MAPPED, by the author's own word."""
    return weighed(state, [function(state, item) for item in _items(state, items)])


def filtered(state: RenderState, items: Any) -> Weighed:
    """`filter(None, items)`."""
    return weighed(state, filter(None, _items(state, items)))


def _items(state: RenderState, items: Any) -> list[Any]:
    if items is None and state.placeholder:
        return []
    return as_list(items)


# --- arithmetic


def divide(state: RenderState, left: Any, right: Any) -> Any:
    left, right = _numeric(state, left), _numeric(state, right)
    return 0.0 if state.placeholder and right == 0 else left / right


def floor(state: RenderState, left: Any, right: Any) -> Any:
    left, right = _numeric(state, left), _numeric(state, right)
    return 0 if state.placeholder and right == 0 else left // right


def modulo(state: RenderState, left: Any, right: Any) -> Any:
    if isinstance(left, str) and type(left) is not Sql:
        return _percent(state, left, right)
    left, right = _numeric(state, left), _numeric(state, right)
    return 0 if state.placeholder and right == 0 else left % right


def power(state: RenderState, left: Any, right: Any) -> Any:
    base, exponent = _numeric(state, left), _numeric(state, right)
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * max(exponent, 0) > MAX_COMPUTED_BITS:
        raise value_error("The number is too large")
    found = base**exponent
    if isinstance(found, complex):
        raise value_error("The operation does not fit these numbers")
    return _number(found)


def bitwise(state: RenderState, operator: str, left: Any, right: Any) -> Any:
    """`|`, `&` and `^` of sets and whole numbers."""
    if isinstance(left, Distinct) and isinstance(right, (Distinct, list)):
        return combined(state, operator, left, right)
    if isinstance(left, dict) and isinstance(right, dict) and operator == "|":
        return dict_(state, {**left, **right})
    if not all(isinstance(value, int) and value.bit_length() <= MAX_COMPUTED_BITS for value in (left, right)):
        raise value_error(f"'{operator}' works on sets and whole numbers")
    one, other = int(left), int(right)
    return one | other if operator == "|" else one & other if operator == "&" else one ^ other


def combined(state: RenderState, operator: str, left: list[Any], right: list[Any]) -> Distinct:
    """Sets, and `-` of them."""
    state.made(len(left) + len(right))
    here, there = _keys(left), _keys(right)
    match operator:
        case "|":
            return distinct(state, {**here, **there})
        case "&":
            return distinct(state, [item for item in here if item in there])
        case "-":
            return distinct(state, [item for item in here if item not in there])
        case _:
            only = [item for item in there if item not in here]
            return distinct(state, [*(item for item in here if item not in there), *only])


def subtract(state: RenderState, left: Any, right: Any) -> Any:
    if isinstance(left, Distinct) and isinstance(right, list):
        return combined(state, "-", left, right)
    return _numeric(state, left) - _numeric(state, right)


def _numeric(state: RenderState, value: Any) -> Any:
    """A number. Texts and everything else are none."""
    if value is None and state.placeholder:
        return 0
    if not isinstance(value, (int, float)):
        if state.placeholder and value == NO_VALUE:
            return 0
        raise value_error("A number is needed here")
    if isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, float) else int(value)


def _number(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MAX_COMPUTED_BITS:
        raise value_error("The number is too large")
    return value


# --- texts from values


def _plain_text(value: Any) -> str:
    """A scalar's text as Python writes it, without our subclasses."""
    if isinstance(value, bool):
        return str(value)
    try:
        return str(text_of(value))
    except ValueError as caught:
        raise value_error("A text is needed here, not a list or an object") from caught


def _scalar(value: Any) -> Any:
    """What a format may be given."""
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return _number(int(value))
    return float(value) if isinstance(value, float) else _plain_text(value)


def shaped(state: RenderState, value: Any, spec: str) -> str:
    """`format(value, spec)`, with the plain part of that little language."""
    if not _SPEC.match(spec):
        raise value_error(f"'{spec[:50]}' is no format of a value here")
    plain = _scalar(value)
    state.made(_MAX_WIDTH + (len(plain) if isinstance(plain, str) else 0))
    return format(plain, spec)


def joined(state: RenderState, *texts: str) -> str:
    """The parts of `f'...'`."""
    state.made(sum(map(len, texts)))
    return "".join(texts)


def _format(state: RenderState, text: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> str:
    """`'{} {name}'.format(...)`: fields are numbers and names; no attribute and no item is read through them."""
    pieces: list[str] = []
    size = number = 0
    for literal, field, spec, conversion in string.Formatter().parse(text):
        pieces.append(literal)
        if field is not None:
            if conversion or not _FIELD.match(field):
                raise value_error("A field of format() is a number or a name")
            if not field:
                field, number = str(number), number + 1
            value = arguments[int(field)] if field.isdigit() else named[field]
            pieces.append(shaped(state, value, spec or ""))
        size += sum(map(len, pieces[-2:]))
        limited(size)
    return "".join(pieces)


def _percent(state: RenderState, text: str, values: Any) -> str:
    """`'%s' % value`, with a width and a precision of three digits at most, and none from a value."""
    fields = list(_PERCENT.finditer(text))
    if "%" in _PERCENT.sub("", text):
        raise value_error("The format of a text has a % that is no field")
    given = values.values() if isinstance(values, dict) else values if isinstance(values, tuple) else (values,)
    plain = [_scalar(value) for value in given]
    longest = max((len(value) for value in plain if isinstance(value, str)), default=0)
    state.made(len(text) + len(fields) * (_MAX_WIDTH + longest))
    if isinstance(values, dict):
        return str(text) % dict(zip(map(str, values), plain, strict=True))
    return str(text) % tuple(plain)


# --- methods


def method_of(state: RenderState, name: str, target: Any, /, *arguments: Any, **named: Any) -> Any:
    """`target.name(...)`."""
    if target is None and state.placeholder:
        return None
    if named and name not in ("format", "split", "rsplit", "splitlines"):
        raise value_error(f"{name}() takes no named arguments")
    if isinstance(target, str) and type(target) is not Sql:
        if name in _TEXT or name in _OWN_TEXT:
            return _text_method(state, name, str(target), arguments, named)
    elif isinstance(target, dict) and name in _DICT:
        return _dict_method(state, name, target, arguments)
    elif isinstance(target, (list, tuple)) and name in _LIST:
        return _list_method(state, name, target, arguments)
    raise value_error(f"'{name}' does not belong to this value")


def _text_method(state: RenderState, name: str, text: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    if name == "format":
        return _format(state, text, arguments, named)
    if name in _OWN_TEXT:
        _count(name, arguments, *((1, 1) if name == "join" else (2, 3)))
        return method(state, name, text, *arguments)
    plain = tuple(_argument(value) for value in arguments)
    size = len(text)
    if name in _WIDENING and plain and isinstance(plain[0], int):
        size = max(size, plain[0])
    state.made(size)
    found = _TEXT[name](text, *plain, **{key: _argument(value) for key, value in named.items()})
    if isinstance(found, str):
        limited(len(found))
        return found
    return weighed(state, found) if isinstance(found, list) else found


def _argument(value: Any) -> Any:
    """Of a text's method: nothing, a number, a text, or some texts."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, (tuple, list)):
        return tuple(_argument(one) for one in value)
    if isinstance(value, str):
        return str(value)
    raise value_error("A text or a number is needed here")


def _list_method(state: RenderState, name: str, items: list[Any] | tuple[Any, ...], arguments: tuple[Any, ...]) -> Any:
    _count(name, arguments, *((0, 0) if name == "copy" else (1, 1)))
    state.made(weigh(items)[0])
    if name == "copy":
        return weighed(state, items)
    return items.count(arguments[0]) if name == "count" else items.index(arguments[0])


def _dict_method(state: RenderState, name: str, target: dict[Any, Any], arguments: tuple[Any, ...]) -> Any:
    if name == "get":
        _count(name, arguments, 1, 2)
        return target.get(*arguments)
    _count(name, arguments, 0, 0)
    if name == "copy":
        return dict_(state, target)
    found: dict[str, Iterable[Any]] = {"keys": target, "values": target.values(), "items": target.items()}
    return weighed(state, found[name])


def _count(name: str, arguments: tuple[Any, ...], least: int, most: int) -> None:
    if not least <= len(arguments) <= most:
        raise value_error(f"Wrong number of arguments of {name}()")


def change(state: RenderState, name: str, method: str, /, *arguments: Any, **named: Any) -> Any:
    """`name.append(x)` and its like: the name is set to another list or object, whoever else holds the old one."""
    target = lookup_local(state, name)
    if target is None and state.placeholder:
        return None
    after: list[Any] | dict[Any, Any]
    if isinstance(target, dict):
        after, found = _changed_dict(method, dict(target), arguments, named)
    elif isinstance(target, list):
        after, found = _changed_list(state, method, list(target), arguments, named)
        if method in ("add", "update") or isinstance(target, Distinct):
            after = distinct(state, after)
    else:
        raise value_error(f"'{method}' does not belong to this value")
    weight, depth = weigh(after)
    state.made(len(after))
    if isinstance(after, list) and not isinstance(after, Distinct):
        after = Weighed(after, weight, depth)
    state.locals[name] = after
    return found


def _changed_list(
    state: RenderState, method: str, items: list[Any], arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[list[Any], Any]:
    limits = {"append": (1, 1), "add": (1, 1), "extend": (1, 1), "update": (1, 1), "insert": (2, 2), "remove": (1, 1),
              "discard": (1, 1), "pop": (0, 1), "sort": (0, 0), "reverse": (0, 0), "clear": (0, 0)}  # fmt: skip
    if method not in limits or (named and (method != "sort" or set(named) != {"reverse"})):
        raise value_error(f"'{method}' does not belong to this value")
    _count(method, arguments, *limits[method])
    if method in ("remove", "discard", "sort"):
        state.made(weigh(items)[0])
    found = None
    match method:
        case "append" | "add":
            items.append(arguments[0])
        case "extend" | "update":
            items.extend(_items(state, arguments[0]))
        case "insert":
            items.insert(arguments[0], arguments[1])
        case "remove":
            items.remove(arguments[0])
        case "discard":
            items = [item for item in items if item != arguments[0]]
        case "pop":
            found = items.pop(*arguments)
        case "sort":
            items.sort(reverse=bool(named.get("reverse", False)))
        case "reverse":
            items.reverse()
        case _:
            items.clear()
    return items, found


def _changed_dict(
    method: str, found: dict[Any, Any], arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[dict[Any, Any], Any]:
    if method == "update" and len(arguments) <= 1 and all(isinstance(one, dict) for one in arguments):
        return {**found, **(arguments[0] if arguments else {}), **named}, None
    if named or method not in ("pop", "setdefault", "clear"):
        raise value_error(f"'{method}' does not belong to this value")
    _count(method, arguments, *((0, 0) if method == "clear" else (1, 2)))
    if method == "clear":
        return {}, None
    got = found.pop(*arguments) if method == "pop" else found.setdefault(*arguments)
    return found, got


# --- comprehensions


def comprehend(state: RenderState, names: list[str], kind: str, body: Callable[[], object]) -> Any:
    """`[... for x in ...]`: `body` collects its items. Its names mean what they meant before, afterwards."""
    before = {name: state.locals[name] for name in names if name in state.locals}
    collected: list[Any] = []
    state.collecting.append(collected)
    try:
        body()
    finally:
        state.collecting.pop()
        for name in names:
            state.locals.pop(name, None)
        state.locals.update(before)
    if kind == "dict":
        return dict_(state, collected)
    return distinct(state, collected) if kind == "set" else weighed(state, collected)


def collect(state: RenderState, *values: Any) -> None:
    """One item; of a dict comprehension its key and its value."""
    state.made(1)
    state.collecting[-1].append(values[0] if len(values) == 1 else values)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "range": range_, "enumerate": enumerate_, "zip": zip_, "reversed": reversed_, "sorted": sorted_, "tuple": tuple_,
    "set": set_, "frozenset": set_, "dict": dict_, "str": str_, "bool": bool_, "round": round_, "abs": abs_,
    "sum": sum_, "any": any_, "all": all_, "divmod": divmod_,
}  # fmt: skip

INTERNAL: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        *(divide, floor, modulo, power, bitwise, subtract, is_kind, mapped, filtered, made_set, shaped, joined),
        *(method_of, change, comprehend, collect),
    )
}
